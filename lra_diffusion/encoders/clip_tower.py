"""CLIP's image tower as f_p, with its weights from any of the files they are published in.

Radford et al., "Learning transferable visual models from natural language supervision", ICML 2021.
The tower is open_clip_torch's, an optional package. It reads OpenAI's files, open_clip's, Hugging
Face's (transformers) and timm's, of the whole model or of the tower alone, safetensors or
torch.save. No shape tells whether weights need QuickGELU (OpenAI's, MetaCLIP's) or GELU (LAION's,
DataComp's): the config.json beside them does, or the file's hash, or --CLIP_activation.
"""

import json
import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from lra_diffusion.encoders import weights as weight_files
from lra_diffusion.encoders.weights import OPENAI_SHA256, State
from lra_diffusion.method.images import Normalisation
from lra_diffusion.run.errors import UsageError

CLIP_NORMALISATION: Normalisation = (
    (0.48145466, 0.4578275, 0.40821073),
    (0.26862954, 0.26130258, 0.27577711),
)
OPENAI_CACHE = Path("~/.cache/clip")  # where OpenAI's package and open_clip keep their downloads
HUGGING_FACE_NAMES = (
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.bin",
    "model.safetensors",
    "pytorch_model.bin",
)
QUICK, EXACT = "quickgelu", "gelu"  # --CLIP_activation


class Shape(NamedTuple):
    """What tells one tower from another; image_side in pixels."""

    width: int
    layers: int
    patch: int
    image_side: int
    dim: int


TOWERS = {
    "ViT-B/32": Shape(768, 12, 32, 224, 512),
    "ViT-B/16": Shape(768, 12, 16, 224, 512),
    "ViT-L/14": Shape(1024, 24, 14, 224, 768),
}


def load(
    clip_type: str, weights: Path | None, data_path: Path | None, activation: str | None = None
) -> nn.Module:
    """The image tower of --CLIP_type with its published weights, float32. Raises UsageError.

    activation: --CLIP_activation; None: the one that the weights need.
    """
    open_clip = _open_clip()
    if clip_type not in TOWERS:
        raise UsageError(f"--CLIP_type {clip_type}: choose one of {', '.join(TOWERS)}")
    stem = clip_type.replace("/", "-")
    names = [f"{stem}{suffix}" for suffix in (".safetensors", ".pt", ".pth", ".bin")]
    names += HUGGING_FACE_NAMES if weights else ()
    found, tried = weight_files.find(names, weights, data_path)
    if found is None and weights is None:
        cached = OPENAI_CACHE.expanduser() / f"{stem}.pt"
        tried.append(cached)
        if cached.exists() and weight_files.sha256_of_file(cached) == OPENAI_SHA256[clip_type]:
            found = cached
    help_text = how_to_get(clip_type, tried)
    if found is None and weights is not None:
        raise UsageError(f"CLIP {clip_type}: no weights. {help_text}")
    known = None
    if found is None:
        download = partial(_download, open_clip, stem)
        found, known = weight_files.downloaded(download, f"CLIP {clip_type}", help_text), QUICK
    fix = f"Is it the file of another --CLIP_type than {clip_type}? {help_text}"
    state = tower_state(weight_files.read(found))
    shape = shape_of(state)
    if shape is not None and shape != TOWERS[clip_type]:
        raise UsageError(
            f"{found} does not fit: a tower of {shape}, not {TOWERS[clip_type]}. {fix}"
        )
    known = known or activation_beside(found)
    if known and activation not in (None, known):
        raise UsageError(
            f"--CLIP_activation {activation}: {found} is of a model with {known}; leave the flag "
            "out"
        )
    tower = build(TOWERS[clip_type], known or activation or _assumed(state, found))
    weight_files.load_into(tower, state, found, fix)
    return tower


def activation_beside(file: Path) -> str | None:
    """The activation that a file of weights needs, where its hash or a config beside it tells."""
    if file.suffix == ".pt" and weight_files.sha256_of_file(file) in OPENAI_SHA256.values():
        return QUICK
    if file.name not in HUGGING_FACE_NAMES:  # in a folder of several files a config is of any
        return None
    model, timm = (_settings(file.with_name(name)) for name in CONFIGS)
    if "model_cfg" in model:
        return QUICK if model["model_cfg"].get("quick_gelu") else EXACT
    vision = timm.get("vision_config")
    if isinstance(vision, dict):  # transformers' own default is quick_gelu, and left out
        return QUICK if vision.get("hidden_act", "quick_gelu") == "quick_gelu" else EXACT
    if "architecture" in timm:
        tag = (timm.get("pretrained_cfg") or {}).get("tag", "")
        return QUICK if needs_quickgelu(str(timm["architecture"]), str(tag)) else EXACT
    return None


CONFIGS = ("open_clip_config.json", "config.json")


def _settings(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def needs_quickgelu(architecture: str, tag: str) -> bool:
    """Of timm's names: are the weights of this tag those of a model with QuickGELU?

    timm offers OpenAI's and others under two architectures, and only one is what they were trained
    with: `vit_base_patch32_clip_224.openai`, the usual name, builds GELU.
    """
    if "_clip_quickgelu_" in architecture:
        return True
    import timm

    quick = architecture.replace("_clip_", "_clip_quickgelu_")
    same = f"{quick}.{tag}" in timm.list_pretrained(f"{quick}.*")
    return "_clip_" in architecture and bool(tag) and same


def _assumed(state: Mapping[str, Tensor], found: Path) -> str:
    """QuickGELU with a note for what may be OpenAI's, who trained in float16. Raises UsageError."""
    matrices = [value for name, value in state.items() if name.endswith("mlp.c_fc.weight")]
    if not all(torch.equal(value, value.half().float()) for value in matrices):
        raise UsageError(
            f"{found}: these are not OpenAI's weights, and nothing says which activation they "
            f"need: add --CLIP_activation {EXACT} (LAION's, DataComp's) or --CLIP_activation "
            f"{QUICK} (MetaCLIP's, DFN's), or keep them in a folder with their config.json"
        )
    print(
        f"note: {found} does not say its activation: QuickGELU is taken, as OpenAI's weights need "
        f"it; for others see --CLIP_activation"
    )
    return QUICK


def is_quick(tower: nn.Module) -> bool:
    """Does this tower compute QuickGELU?"""
    return any(type(module).__name__ == "QuickGELU" for module in tower.modules())


def _download(open_clip: Any, stem: str) -> Path:
    """open_clip's own download, or what it downloaded before; Hugging Face's, else OpenAI's."""
    config = open_clip.get_pretrained_cfg(f"{stem}-quickgelu", "openai")
    try:
        return Path(open_clip.download_pretrained(config))
    except Exception:  # whatever it is, the other server is asked
        return Path(open_clip.download_pretrained(config, prefer_hf_hub=False))


def build(shape: Shape, activation: str = QUICK) -> nn.Module:
    """An image tower as OpenAI's are, with random weights."""
    from open_clip.transformer import QuickGELU, VisionTransformer

    tower: nn.Module = VisionTransformer(
        image_size=shape.image_side,
        patch_size=shape.patch,
        width=shape.width,
        layers=shape.layers,
        heads=shape.width // 64,
        mlp_ratio=4.0,
        output_dim=shape.dim,
        act_layer=QuickGELU if activation == QUICK else nn.GELU,
    )
    return tower


def _open_clip() -> Any:
    try:
        import open_clip
    except ImportError as error:
        raise UsageError(
            "--fp_encoder CLIP needs the package open_clip_torch: pip install open_clip_torch "
            "(never the package called clip, which has nothing to do with it)"
        ) from error
    return open_clip


def how_to_get(clip_type: str, tried: list[Path]) -> str:
    """Which files hold the weights, where they are, and where they were looked for."""
    stem, sha256 = clip_type.replace("/", "-"), OPENAI_SHA256[clip_type]
    files = ", ".join(f"{name.replace('/', '-')}.pt" for name in OPENAI_SHA256)
    return (
        f"OpenAI's files are {files}; for --CLIP_type {clip_type} get "
        f"https://openaipublic.azureedge.net/clip/models/{sha256}/{stem}.pt (SHA-256 {sha256}), "
        f"or open_clip_model.safetensors of https://huggingface.co/{_hugging_face(clip_type)}, "
        f"and give it as --fp_weights FILE or save it as model/{stem}.pt or "
        f"model/{stem}.safetensors. Looked for: {', '.join(map(str, tried))}"
    )


def _hugging_face(clip_type: str) -> str:
    size, patch = clip_type.removeprefix("ViT-").split("/")
    return f"timm/vit_{ {'B': 'base', 'L': 'large'}[size] }_patch{patch}_clip_224.openai"


def shape_of(state: Mapping[str, Tensor]) -> Shape | None:
    """The shape of the tower that a tower's state dict is of; None if something is missing."""
    if not {"conv1.weight", "positional_embedding", "proj"} <= state.keys():
        return None
    width, patch = len(state["conv1.weight"]), state["conv1.weight"].shape[-1]
    side = round((len(state["positional_embedding"]) - 1) ** 0.5)
    layers = sum(name.endswith(".ln_1.weight") for name in state)
    return Shape(width, layers, patch, side * patch, state["proj"].shape[1])


HUGGING_FACE = (  # transformers' name -> open_clip's
    (r"^vision_model\.embeddings\.class_embedding$", "class_embedding"),
    (r"^vision_model\.embeddings\.patch_embedding\.", "conv1."),
    (r"^vision_model\.embeddings\.position_embedding\.weight$", "positional_embedding"),
    (r"^vision_model\.pre_layrnorm\.", "ln_pre."),  # the misspelling is theirs
    (r"^vision_model\.post_layernorm\.", "ln_post."),
    (r"^vision_model\.encoder\.layers\.", "transformer.resblocks."),
    (r"\.layer_norm([12])\.", r".ln_\1."),
    (r"\.self_attn\.", ".attn."),
    (r"\.mlp\.fc1\.", ".mlp.c_fc."),
    (r"\.mlp\.fc2\.", ".mlp.c_proj."),
)
TIMM = (
    (r"^patch_embed\.proj\.", "conv1."),
    (r"^cls_token$", "class_embedding"),
    (r"^pos_embed$", "positional_embedding"),
    (r"^norm_pre\.", "ln_pre."),
    (r"^norm\.", "ln_post."),
    (r"^blocks\.", "transformer.resblocks."),
    (r"\.norm([12])\.", r".ln_\1."),
    (r"\.attn\.qkv\.", ".attn.in_proj_"),
    (r"\.attn\.proj\.", ".attn.out_proj."),
    (r"\.mlp\.fc1\.", ".mlp.c_fc."),
    (r"\.mlp\.fc2\.", ".mlp.c_proj."),
)


def tower_state(state: State) -> State:
    """The image tower's part of a state dict of any layout, under open_clip's names, float32."""
    if "visual.proj" in state:  # OpenAI's and open_clip's whole model
        visual = {name: value for name, value in state.items() if name.startswith("visual.")}
        state = {name.removeprefix("visual."): value for name, value in visual.items()}
    elif "visual_projection.weight" in state:
        state = _from_hugging_face(state)
    elif "patch_embed.proj.weight" in state:
        state = _from_timm(state)
    return {name: value.float() for name, value in state.items()}


def _from_hugging_face(state: State) -> State:
    renamed = {
        _renamed(name, HUGGING_FACE): value
        for name, value in state.items()
        if name.startswith("vision_model.") and "position_ids" not in name
    }
    for name in [name for name in renamed if ".attn.q_proj." in name]:
        block, _, kind = name.partition(".q_proj.")
        parts = [renamed.pop(f"{block}.{part}_proj.{kind}", torch.empty(0)) for part in "qkv"]
        renamed[f"{block}.in_proj_{kind}"] = torch.cat(parts)
    return renamed | {"proj": state["visual_projection.weight"].T.contiguous()}


def _from_timm(state: State) -> State:
    kept = {name: value for name, value in state.items() if not name.startswith("head.")}
    renamed = {_renamed(name, TIMM): value for name, value in kept.items()}
    for name in ("class_embedding", "positional_embedding"):
        if name in renamed:
            renamed[name] = renamed[name].squeeze()
    if "head.bias" in state and state["head.bias"].any():
        raise UsageError(
            "a timm model whose projection has a bias is not one of CLIP's: "
            "take the weights with tag openai"
        )
    if "head.weight" in state:
        renamed["proj"] = state["head.weight"].T.contiguous()
    return renamed


def _renamed(name: str, rules: tuple[tuple[str, str], ...]) -> str:
    for pattern, new in rules:
        name = re.sub(pattern, new, name)
    return name

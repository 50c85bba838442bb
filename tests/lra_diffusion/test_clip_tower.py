"""CLIP's image tower against one written out slowly, and its weights in every layout they are
published in.
"""

import builtins
import json
import math
from collections import Counter

import pytest
import safetensors.torch
import timm
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from lra_diffusion.encoders import clip_tower, weights
from lra_diffusion.encoders import frozen as encoders
from lra_diffusion.encoders.clip_tower import Shape
from lra_diffusion.method.images import CIFAR_NORMALISATION
from lra_diffusion.run.errors import UsageError

TINY = Shape(width=128, layers=2, patch=8, image_side=32, dim=24)
COMMON = {
    "dataset": "cifar10",
    "normalisation": CIFAR_NORMALISATION,
    "image_side": 32,
    "device": "cpu",
}


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    """An empty working directory, no downloads, and --CLIP_type ViT-B/32 is tiny."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DATA_ROOT", str(tmp_path / "data"))
    monkeypatch.setattr(weights, "BESIDE_THE_SCRIPTS", tmp_path / "scripts" / "model")
    monkeypatch.setattr(clip_tower, "OPENAI_CACHE", tmp_path / "cache")
    monkeypatch.setitem(clip_tower.TOWERS, "ViT-B/32", TINY)
    monkeypatch.setattr("open_clip.pretrained.hf_hub_download", no_network)
    monkeypatch.setattr("open_clip.pretrained.urllib.request.urlopen", no_network)
    monkeypatch.setenv("HOME", str(tmp_path))


def no_network(*_args, **_keywords):
    raise OSError("no network")


@pytest.fixture(scope="module")
def state():
    """Weights of a tiny tower, large enough that every part of it matters."""
    torch.manual_seed(0)
    shapes = clip_tower.build(TINY).state_dict()
    found = {}
    for name, value in shapes.items():
        spread = (
            1.5 * math.sqrt(3 / value[0].numel())
            if value.ndim > 1 and "embedding" not in name
            else 0.3
        )
        found[name] = (2 * torch.rand(value.shape) - 1) * spread
        if ".ln_" in f".{name}" and name.endswith("weight"):
            found[name] += 1
    return {name: value.half().float() for name, value in found.items()}  # as OpenAI's are


def images(count=2):
    return torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(5))


def layer_norm(x, state, name):
    mean = sum(x) / len(x)
    var = sum((x - mean) ** 2) / len(x)
    return (x - mean) / math.sqrt(var + 1e-5) * state[f"{name}.weight"] + state[f"{name}.bias"]


def attention(tokens, state, name, heads):
    """Multi-head self-attention, query by query."""
    qkv = [
        state[f"{name}.in_proj_weight"] @ token + state[f"{name}.in_proj_bias"] for token in tokens
    ]
    width = len(tokens[0])
    part, out = width // heads, []
    for i in range(len(tokens)):
        mixed = []
        for head in range(heads):
            where = slice(head * part, (head + 1) * part)
            query = qkv[i][:width][where]
            keys = [other[width : 2 * width][where] for other in qkv]
            values = [other[2 * width :][where] for other in qkv]
            scores = torch.stack([query @ key / math.sqrt(part) for key in keys])
            shares = torch.exp(scores - scores.max())
            mixed.append(sum(share * value for share, value in zip(shares / shares.sum(), values)))
        out.append(
            state[f"{name}.out_proj.weight"] @ torch.cat(mixed) + state[f"{name}.out_proj.bias"]
        )
    return out


def slow_tower(image, state, shape):
    """One image (3, 32, 32) -> (dim,): OpenAI's vision transformer, token by token."""
    tokens = [state["class_embedding"]]
    for row in range(0, shape.image_side, shape.patch):
        for column in range(0, shape.image_side, shape.patch):
            patch = image[:, row : row + shape.patch, column : column + shape.patch]
            tokens.append(state["conv1.weight"].flatten(1) @ patch.flatten())
    tokens = [token + position for token, position in zip(tokens, state["positional_embedding"])]
    tokens = [layer_norm(token, state, "ln_pre") for token in tokens]
    for block in (f"transformer.resblocks.{i}" for i in range(shape.layers)):
        normed = [layer_norm(token, state, f"{block}.ln_1") for token in tokens]
        mixed = attention(normed, state, f"{block}.attn", shape.width // 64)
        tokens = [token + change for token, change in zip(tokens, mixed)]
        for i, token in enumerate(tokens):
            normed = layer_norm(token, state, f"{block}.ln_2")
            hidden = state[f"{block}.mlp.c_fc.weight"] @ normed + state[f"{block}.mlp.c_fc.bias"]
            hidden = hidden * 1 / (1 + torch.exp(-1.702 * hidden))
            tokens[i] = (
                token
                + state[f"{block}.mlp.c_proj.weight"] @ hidden
                + state[f"{block}.mlp.c_proj.bias"]
            )
    return layer_norm(tokens[0], state, "ln_post") @ state["proj"]


def test_the_tower_is_openais(state):
    tower = clip_tower.build(TINY).eval()
    weights.load_into(tower, state, "state", "")
    x = images()
    with torch.no_grad():
        expected = torch.stack([slow_tower(image, state, TINY) for image in x])
        torch.testing.assert_close(tower(x), expected, rtol=1e-4, atol=1e-4)


class _Calls(TorchDispatchMode):
    """Counts the kernels that are called."""

    def __init__(self):
        super().__init__()
        self.names = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names[func.__name__] += 1
        return func(*args, **(kwargs or {}))


def test_no_weight_is_copied_for_each_token(state, tmp_path):
    """A batched product of the tokens with one matrix does that, and took longer than the rest."""
    (tmp_path / "model").mkdir()
    safetensors.torch.save_file(state, tmp_path / "model" / "ViT-B-32.safetensors")
    encoder = encoders.build("CLIP", clip_type="ViT-B/32", **COMMON)
    for enabled in (False, True):
        with _Calls() as calls, torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            encoder(images())
        assert calls.names["addmm.default"] >= TINY.layers
        assert not calls.names["bmm.default"]


def test_the_encoder_undoes_the_datasets_normalisation_and_does_clips(state, tmp_path):
    (tmp_path / "model").mkdir()
    safetensors.torch.save_file(state, tmp_path / "model" / "ViT-B-32.safetensors")
    encoder = encoders.build("CLIP", clip_type="ViT-B/32", **COMMON)
    x = images()
    mean, std = (torch.tensor(values)[:, None, None] for values in CIFAR_NORMALISATION)
    own_mean = torch.tensor([0.48145466, 0.4578275, 0.40821073])[:, None, None]
    own_std = torch.tensor([0.26862954, 0.26130258, 0.27577711])[:, None, None]
    # 32 pixels is what the tiny tower sees, so nothing is resized.
    prepared = (x * std + mean - own_mean) / own_std
    with torch.no_grad():
        expected = torch.stack([slow_tower(image, state, TINY) for image in prepared])
    torch.testing.assert_close(encoder(x), expected, rtol=1e-4, atol=1e-4)
    assert (encoder.name, encoder.dim) == ("CLIP ViT-B/32", 24)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = encoder(x)
    assert rounded.dtype == torch.float32
    torch.testing.assert_close(rounded, expected, rtol=0.1, atol=0.1)


def hugging_face(state):
    """The names that transformers' CLIPModel has for the same tensors."""
    names = {
        "class_embedding": "embeddings.class_embedding",
        "conv1.weight": "embeddings.patch_embedding.weight",
        "positional_embedding": "embeddings.position_embedding.weight",
        "ln_pre.weight": "pre_layrnorm.weight",
        "ln_pre.bias": "pre_layrnorm.bias",
        "ln_post.weight": "post_layernorm.weight",
        "ln_post.bias": "post_layernorm.bias",
    }
    found = {f"vision_model.{new}": state[old] for old, new in names.items()}
    for i in range(TINY.layers):
        old, new = f"transformer.resblocks.{i}", f"vision_model.encoder.layers.{i}"
        for kind in ("weight", "bias"):
            for part, tensor in zip("qkv", state[f"{old}.attn.in_proj_{kind}"].chunk(3)):
                found[f"{new}.self_attn.{part}_proj.{kind}"] = tensor
            for ours, theirs in (
                ("attn.out_proj", "self_attn.out_proj"),
                ("ln_1", "layer_norm1"),
                ("ln_2", "layer_norm2"),
                ("mlp.c_fc", "mlp.fc1"),
                ("mlp.c_proj", "mlp.fc2"),
            ):
                found[f"{new}.{theirs}.{kind}"] = state[f"{old}.{ours}.{kind}"]
    found["vision_model.embeddings.position_ids"] = torch.arange(17)
    found["visual_projection.weight"] = state["proj"].T
    return found | {"text_projection.weight": torch.zeros(2, 2), "logit_scale": torch.zeros(())}


def timm_model():
    return timm.create_model(
        "vit_base_patch32_clip_quickgelu_224",
        img_size=32,
        patch_size=8,
        embed_dim=128,
        depth=2,
        num_heads=2,
        num_classes=24,
    ).eval()


def openai(state):
    text = {"text_projection": torch.zeros(2, 2), "token_embedding.weight": torch.zeros(2, 2)}
    return {f"visual.{name}": value for name, value in state.items()} | text


def test_every_layout_gives_the_same_encoder(state, tmp_path):
    layouts = {"bare": state, "openai": openai(state), "hugging_face": hugging_face(state)}
    layouts["wrapped"] = {
        "state_dict": {f"module.{name}": value for name, value in openai(state).items()}
    }
    built = []
    for name, layout in layouts.items():
        torch.save(layout, tmp_path / f"{name}.pt")
        built.append(
            encoders.build("CLIP", clip_type="ViT-B/32", weights=tmp_path / f"{name}.pt", **COMMON)
        )
    assert len({encoder.identity for encoder in built}) == 1
    folder = tmp_path / "snapshot"
    folder.mkdir()
    whole = {name: value.contiguous() for name, value in openai(state).items()}
    safetensors.torch.save_file(whole, folder / "open_clip_model.safetensors")
    assert (
        encoders.build("CLIP", clip_type="ViT-B/32", weights=folder, **COMMON).identity
        == built[0].identity
    )


def test_timms_layout_gives_what_timms_model_gives(tmp_path):
    torch.manual_seed(1)
    model = timm_model()
    nn.init.normal_(model.cls_token)
    nn.init.zeros_(model.head.bias)
    safetensors.torch.save_file(model.state_dict(), tmp_path / "model.safetensors")
    settings = {"architecture": "vit_base_patch32_clip_224", "pretrained_cfg": {"tag": "openai"}}
    (tmp_path / "config.json").write_text(json.dumps(settings))
    tower = clip_tower.load("ViT-B/32", tmp_path, None).eval()
    with torch.no_grad():
        torch.testing.assert_close(tower(images()), model(images()), rtol=1e-4, atol=1e-5)
        nn.init.ones_(model.head.bias)
    with pytest.raises(UsageError, match="has a bias"):
        clip_tower.tower_state(model.state_dict())


ACTIVATIONS = {  # of the config.json beside weights: what is computed with them
    "open_clip's": ("open_clip_config.json", {"model_cfg": {"quick_gelu": True}}, "quickgelu"),
    "LAION's": ("open_clip_config.json", {"model_cfg": {"embed_dim": 24}}, "gelu"),
    "transformers'": ("config.json", {"vision_config": {"hidden_act": "quick_gelu"}}, "quickgelu"),
    "LAION's by transformers": ("config.json", {"vision_config": {"hidden_act": "gelu"}}, "gelu"),
    "timm's": (
        "config.json",
        {"architecture": "vit_base_patch32_clip_224", "pretrained_cfg": {"tag": "laion2b_e16"}},
        "gelu",
    ),
}


@pytest.mark.parametrize("kind", ACTIVATIONS)
def test_the_config_beside_the_weights_decides_the_activation(kind, state, tmp_path):
    name, settings, expected = ACTIVATIONS[kind]
    torch.save(state, tmp_path / "pytorch_model.bin")
    (tmp_path / name).write_text(json.dumps(settings))
    tower = clip_tower.load("ViT-B/32", tmp_path, None).eval()
    assert clip_tower.is_quick(tower) == (expected == "quickgelu")
    other = clip_tower.build(TINY, "gelu" if expected == "quickgelu" else "quickgelu").eval()
    other.load_state_dict(tower.state_dict())
    with torch.no_grad():
        assert not torch.allclose(tower(images()), other(images()), atol=1e-4)
    wrong = "gelu" if expected == "quickgelu" else "quickgelu"
    with pytest.raises(UsageError, match="leave the flag out"):
        clip_tower.load("ViT-B/32", tmp_path, None, wrong)


def test_weights_that_say_nothing_are_openais_or_need_the_flag(state, tmp_path, capsys):
    torch.save(state, tmp_path / "some.pt")
    quick = encoders.build("CLIP", clip_type="ViT-B/32", weights=tmp_path / "some.pt", **COMMON)
    assert "does not say its activation: QuickGELU is taken" in capsys.readouterr().out
    exact = encoders.build(
        "CLIP",
        clip_type="ViT-B/32",
        weights=tmp_path / "some.pt",
        clip_activation="gelu",
        **COMMON,
    )
    # Else features in the cache would be those of the other activation.
    assert quick.identity.replace("ViT-B/32", "ViT-B/32 GELU") == exact.identity
    torch.save({name: value * 1.0001 for name, value in state.items()}, tmp_path / "laion.pt")
    assert "add --CLIP_activation gelu" in refusal(
        clip_type="ViT-B/32", weights=tmp_path / "laion.pt"
    )


def test_timms_usual_names_of_openais_weights_build_quickgelu(tmp_path, capsys):
    quick = {
        name: encoders._trained_as(name)
        for name in (
            "vit_base_patch32_clip_224.openai",
            "vit_large_patch14_clip_224.openai",
            "vit_base_patch32_clip_224.metaclip_400m",
        )
    }
    assert quick == {name: name.replace("_clip_", "_clip_quickgelu_") for name in quick}
    assert "these weights need QuickGELU" in capsys.readouterr().out
    for name in (
        "vit_base_patch32_clip_224.laion2b_e16",
        "vit_base_patch32_clip_224",
        "vit_base_patch32_clip_quickgelu_224.openai",
        "vit_base_patch16_clip_224.openai_ft_in1k",
        "resnet50.a1_in1k",
    ):
        assert encoders._trained_as(name) == name


@pytest.mark.training  # slow
def test_a_timm_name_of_the_other_activation_than_the_file_says_is_refused(tmp_path):
    torch.save({}, tmp_path / "pytorch_model.bin")
    settings = {"architecture": "vit_base_patch32_clip_224", "pretrained_cfg": {"tag": "openai"}}
    (tmp_path / "config.json").write_text(json.dumps(settings))
    with pytest.raises(UsageError, match="choose timm's name with _quickgelu"):
        encoders.build("vit_base_patch32_clip_224", weights=tmp_path, **COMMON)


class Program(nn.Module):
    """What OpenAI's files are: a scripted model whose state dict has the whole CLIP's names, in
    float16.
    """

    def __init__(self, tower):
        super().__init__()
        self.visual = tower

    def forward(self, x):
        return x


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_torchscript_is_opened_only_if_it_is_openais(state, tmp_path, monkeypatch, recwarn):
    tower = nn.Module()
    for name, value in state.items():
        parent = tower
        *path, last = name.split(".")
        for part in path:
            if not hasattr(parent, part):
                parent.add_module(part, nn.Module())
            parent = getattr(parent, part)
        parent.register_parameter(last, nn.Parameter(value.half()))
    path = tmp_path / "ViT-B-32.pt"
    torch.jit.trace(Program(tower), torch.zeros(1)).save(path)
    with pytest.raises(UsageError, match="a TorchScript archive, which can run code"):
        clip_tower.load("ViT-B/32", path, None)
    monkeypatch.setitem(weights.OPENAI_SHA256, "ViT-B/32", weights.sha256_of_file(path))
    recwarn.clear()
    loaded = clip_tower.load("ViT-B/32", path, None).state_dict()
    assert not [warning for warning in recwarn if "jit" in str(warning.message)]
    assert all(torch.equal(loaded[name], value.half().float()) for name, value in state.items())
    (tmp_path / "cache").mkdir()
    path.rename(tmp_path / "cache" / path.name)  # as OpenAI's package and open_clip leave it
    assert torch.equal(clip_tower.load("ViT-B/32", None, None).state_dict()["proj"], loaded["proj"])
    (tmp_path / "cache" / path.name).write_bytes(b"a download that broke off")
    with pytest.raises(UsageError, match="could not be downloaded"):
        clip_tower.load("ViT-B/32", None, None)


def refusal(**how):
    with pytest.raises(UsageError) as caught:
        encoders.build("CLIP", **{**COMMON, **how})
    return str(caught.value)


@pytest.mark.parametrize(
    ("clip_type", "stem"),
    [("ViT-B/32", "ViT-B-32"), ("ViT-B/16", "ViT-B-16"), ("ViT-L/14", "ViT-L-14")],
)
def test_missing_weights_name_the_file_its_address_its_hash_and_where_it_was_looked_for(
    clip_type, stem, tmp_path
):
    for how in ({}, {"weights": tmp_path}, {"weights": tmp_path / "nowhere.pt"}):
        message = refusal(clip_type=clip_type, **how)
        sha256 = weights.OPENAI_SHA256[clip_type]
        assert f"https://openaipublic.azureedge.net/clip/models/{sha256}/{stem}.pt" in message
        assert "ViT-B-32.pt, ViT-B-16.pt, ViT-L-14.pt" in message
        assert "https://huggingface.co/timm/vit_" in message
    assert "could not be downloaded (" in refusal(clip_type=clip_type)
    assert f"model/{stem}.safetensors" in refusal(clip_type=clip_type)


def test_a_file_of_another_clip_is_refused(state, tmp_path):
    torch.save(openai(state), tmp_path / "tiny.pt")
    message = refusal(clip_type="ViT-B/16", weights=tmp_path / "tiny.pt")
    assert "another --CLIP_type than ViT-B/16?" in message
    assert "width=128" in message
    torch.save({"visual.proj": state["proj"]}, tmp_path / "part.pt")
    assert "is missing" in refusal(clip_type="ViT-B/32", weights=tmp_path / "part.pt")
    assert "choose one of ViT-B/32, ViT-B/16, ViT-L/14" in refusal(clip_type="RN50")


def test_without_open_clip_there_is_one_message(monkeypatch):
    real = builtins.__import__

    def without(name, *args, **keywords):
        if name.split(".")[0] == "open_clip":
            raise ImportError(name)
        return real(name, *args, **keywords)

    monkeypatch.setattr(builtins, "__import__", without)
    assert "pip install open_clip_torch" in refusal(clip_type="ViT-B/32")

"""The frozen image encoders f_p, by name: what retrieves neighbours and conditions the diffusion.

    how = {"normalisation": CIFAR_NORMALISATION, "image_side": 32, "device": device}
    encoder = build("SimCLR", dataset="cifar10", **how)
    features = encoder(images)  # (B, 3, H, W) normalised by the dataset -> (B, D) float32

Names: SimCLR (published for CIFAR, else made by train_SimCLR.py), CLIP (--CLIP_type), CC
(Clothing1M's network), efficientnet_lite0 (weights of an optional package, no download), and any
classifier of torchvision or timm, e.g. resnet50 or vit_small_patch14_dinov2.lvd142m, with its last
linear layer taken off. SimCLR's features have unit length; the others are as the network gives
them.
"""

import difflib
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision import models

from lra_diffusion.encoders import clip_tower, lite0
from lra_diffusion.encoders import weights as weight_files
from lra_diffusion.encoders.networks import CCNet, Renormalised, simclr_net_of
from lra_diffusion.method.images import Normalisation
from lra_diffusion.run.errors import UsageError

AUTHORS_MODELS = "https://github.com/puar-playground/LRA-diffusion, folder model/"
# SimCLR's first stage works at full resolution: 49 times the memory at 224 pixels.
LARGEST_SIMCLR_SIDE = 64
SMALLEST_CC_SIDE = 128


@dataclass(frozen=True)
class Encoder:
    """A frozen network in eval mode.

    identity: name and SHA-256 of the weights, for cache keys and the run's identity.
    """

    name: str
    net: nn.Module
    dim: int
    identity: str
    largest_batch: int = 1000  # images at once; what sees 224 pixels needs more memory for each

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """images: (B, 3, H, W) float, normalised by the dataset's constants.

        Returns (B, D) float32.
        """
        features: Tensor = self.net(images)
        return features.float()


def build(
    name: str,
    *,
    dataset: str,
    normalisation: Normalisation,
    image_side: int,
    device: torch.device | str,
    clip_type: str = "ViT-L/14",
    clip_activation: str | None = None,
    weights: Path | None = None,
    data_path: Path | None = None,
) -> Encoder:
    """The encoder `name` for images of `image_side` pixels.

    weights: --fp_weights, a file or folder; data_path: --data_path; clip_activation:
    --CLIP_activation.

    Raises UsageError when weights are missing, do not fit or do not suit the images.
    """
    largest_batch = 1000 if image_side <= LARGEST_SIMCLR_SIDE else 256
    if name == "SimCLR":
        net, shown = _simclr(dataset, image_side, weights, data_path)
    elif name == "CC":
        net, shown = _cc(image_side, weights, data_path), "CC"
    else:
        largest_batch = 256
        if name == "CLIP":
            net = clip_tower.load(clip_type, weights, data_path, clip_activation)
            shown = f"CLIP {clip_type}" + ("" if clip_tower.is_quick(net) else " GELU")
            side, own = clip_tower.TOWERS[clip_type].image_side, clip_tower.CLIP_NORMALISATION
        elif name == lite0.NAME:
            net, shown = lite0.load(weights, data_path), "EfficientNet-Lite0"
            side, own = lite0.SIDE, lite0.NORMALISATION
        else:
            net, side, own, shown = _backbone(name, weights, data_path)
        net = Renormalised(net, side, normalisation, own)
    # What is no weight but changes the features, the activation, is part of `shown`.
    identity = weight_files.identity_of(shown, net)
    # Not requires_grad_(False): for weights that need no gradient torch's matmul, on a CPU in
    # bfloat16, copies CLIP's attention projection once per token, which takes longer than the rest.
    # __call__ makes no gradients.
    net = net.to(device).to(memory_format=torch.channels_last).eval()
    width = _width(net, image_side, torch.device(device))
    return Encoder(shown if name == "CLIP" else name, net, width, identity, largest_batch)


@torch.no_grad()
def _width(net: nn.Module, image_side: int, device: torch.device) -> int:
    """D, read off one black image."""
    try:
        features = net(torch.zeros(1, 3, image_side, image_side, device=device))
    except RuntimeError as error:
        raise UsageError(
            f"the encoder cannot take images of {image_side} pixels: {error}"
        ) from error
    if features.ndim != 2:
        raise UsageError(
            f"the encoder gives {tuple(features.shape[1:])} for an image, not a vector: "
            "choose another --fp_encoder"
        )
    return int(features.shape[1])


def _simclr(
    dataset: str, image_side: int, weights: Path | None, data_path: Path | None
) -> tuple[nn.Module, str]:
    if image_side > LARGEST_SIMCLR_SIDE:
        raise UsageError(
            f"--fp_encoder SimCLR is for images of 32 pixels, not {image_side}: "
            "choose CLIP or another"
        )
    names = [f"SimCLR_128_{dataset}{suffix}" for suffix in (".pt", ".pth", ".safetensors")]
    fix = f"`python train_SimCLR.py --dataset {dataset}` makes them"
    if dataset.startswith("cifar"):
        fix += f"; the authors' own, {names[0]}, are in {AUTHORS_MODELS}, to be saved in model/"
    found = _found("SimCLR", names, weights, data_path, fix)
    state = weight_files.read(found)
    net = simclr_net_of(state)
    if net is None:
        raise UsageError(
            f"{found} is not a SimCLR encoder (it has no f.0.weight and f.5.0.conv1.weight). {fix}"
        )
    weight_files.load_into(net, state, found, fix, optional="g.")
    # The head is for pre-training; a file without one gives the same encoder.
    net.g = nn.Identity()
    return net, f"SimCLR for {dataset}"


def _cc(image_side: int, weights: Path | None, data_path: Path | None) -> nn.Module:
    if image_side < SMALLEST_CC_SIDE:
        raise UsageError(
            f"--fp_encoder CC is Clothing1M's, for images of 224 pixels, not {image_side}: "
            "choose another one"
        )
    fix = f"Get CC_net.pt from the authors ({AUTHORS_MODELS}) and save it in model/"
    found = _found("CC", ["CC_net.pt", "CC_net.pth", "CC_net.safetensors"], weights, data_path, fix)
    net = CCNet()
    weight_files.load_into(net, weight_files.read(found), found, fix)
    return net


def _found(
    name: str, files: list[str], weights: Path | None, data_path: Path | None, fix: str
) -> Path:
    found, tried = weight_files.find(files, weights, data_path)
    if found is None:
        raise UsageError(
            f"--fp_encoder {name}: no weights. {fix}, or name the file with --fp_weights. "
            f"Looked for: {', '.join(map(str, tried))}"
        )
    return found


def _backbone(
    name: str, weights: Path | None, data_path: Path | None
) -> tuple[nn.Module, int, Normalisation, str]:
    """A torchvision or timm network without classifier, its side, normalisation and full name."""
    if name in models.list_models(module=models):
        make, shown = _torchvision, f"torchvision {name}"
    elif name.split(".")[0] in _timm_names():
        used = _trained_as(name)
        make, shown = partial(_timm, used=used), f"timm {name}"
        shown += "" if used == name else " QuickGELU"
    else:
        raise UsageError(
            f"--fp_encoder {name}: choose SimCLR, CLIP, CC, {lite0.NAME} or the name of a "
            f"torchvision or timm model{_similar(name)}"
        )
    patterns = [f"{name}{suffix}" for suffix in (".safetensors", ".pth", ".pt", ".bin")]
    patterns += [f"{name}-*.pth", *(("model.safetensors", "pytorch_model.bin") if weights else ())]
    found, tried = weight_files.find(patterns, weights, data_path)
    fix = (
        f"Give a state dict of {name} with --fp_weights FILE, or save it as model/{name}.pth or "
        f"model/{name}.safetensors. Looked for: {', '.join(map(str, tried))}"
    )
    if found is None and weights is not None:
        raise UsageError(f"--fp_encoder {name}: no weights. {fix}")
    return *make(name, found, fix), shown


def _similar(name: str) -> str:
    """Encoders whose name is close to a mistyped one, as the end of a message."""
    known = ["SimCLR", "CLIP", "CC", *models.list_models(module=models), *_timm_names()]
    near = difflib.get_close_matches(name, known) or difflib.get_close_matches(name.lower(), known)
    return f", for instance {', '.join(near)}" if near else ""


def _torchvision(name: str, found: Path | None, fix: str) -> tuple[nn.Module, int, Normalisation]:
    published = models.get_model_weights(name).DEFAULT
    get = partial(published.get_state_dict, check_hash=True, weights_only=True)
    if found:
        state = weight_files.read(found)
    else:
        state = weight_files.downloaded(get, f"--fp_encoder {name}", fix, weight_files.PYTORCH)
    # The weights of these two expect it, and drawing others first takes seconds.
    special = name in ("googlenet", "inception_v3")
    extra = {"transform_input": True, "init_weights": False} if special else {}
    net = models.get_model(name, weights=None, **extra)
    weight_files.load_into(net, state, found or name, fix)
    transform = published.transforms()
    _take_off_classifier(net, name)
    return net, transform.crop_size[0], (transform.mean, transform.std)


def _take_off_classifier(net: nn.Module, name: str) -> None:
    linear = [path for path, module in net.named_modules() if isinstance(module, nn.Linear)]
    if not linear:
        raise UsageError(
            f"--fp_encoder {name} has no linear layer at its end, whose input could be the "
            "feature: choose another network"
        )
    parent, _, last = linear[-1].rpartition(".")
    setattr(net.get_submodule(parent), last, nn.Identity())


def _timm_names() -> list[str]:
    """What timm offers; nothing where it is not installed, as torchvision's need no timm."""
    try:
        import timm
    except ImportError:
        return []
    names: list[str] = timm.list_models()
    return names


def _trained_as(name: str) -> str:
    """The name under which timm builds the activation that the weights were trained with."""
    import timm

    architecture, _, tag = name.partition(".")
    if "_clip_" not in name or "_clip_quickgelu_" in name:
        return name
    if not tag:
        default: Any = timm.get_pretrained_cfg(name)
        tag = str(getattr(default, "tag", ""))
    if not clip_tower.needs_quickgelu(architecture, tag):
        return name
    quick = f"{architecture.replace('_clip_', '_clip_quickgelu_')}.{tag}"
    print(f"note: --fp_encoder {name}: these weights need QuickGELU, so that {quick} is built")
    return quick


def _timm(
    name: str, found: Path | None, fix: str, *, used: str
) -> tuple[nn.Module, int, Normalisation]:
    """used: timm's name of the network to build."""
    import timm

    make: Any = partial(timm.create_model, used, num_classes=0)
    if found is None:
        net = weight_files.downloaded(partial(make, pretrained=True), f"--fp_encoder {name}", fix)
    else:
        try:
            net = make(pretrained=False)
        except (RuntimeError, ValueError) as error:
            raise UsageError(
                f"--fp_encoder {name}: timm does not know it ({str(error).splitlines()[0]})"
            ) from error
        known = clip_tower.activation_beside(found) if "_clip_" in name else None
        if known and known != (clip_tower.QUICK if "_quickgelu_" in used else clip_tower.EXACT):
            raise UsageError(
                f"--fp_encoder {name}: the weights in {found} were trained with {known}, as their "
                "config.json says: choose timm's name "
                f"{'with' if known == clip_tower.QUICK else 'without'} _quickgelu"
            )
        weight_files.load_into(net, weight_files.read(found), found, fix)
    data: Any = timm.data
    config = data.resolve_model_data_config(net)
    return net, config["input_size"][-1], (config["mean"], config["std"])

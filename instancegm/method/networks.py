"""The classifiers q(Y|X) of InstanceGM's four scripts: images in [0, 1] to logits.

PreAct ResNet-18 (He et al., ECCV 2016) in the variant of DivideMix for CIFAR and Red Mini-ImageNet
at 32 pixels; VGG19-BN (Simonyan & Zisserman, ICLR 2015) for Animal-10N at 64; ResNet-50 (He et al.,
CVPR 2016) for Clothing1M at 224. The latter two are torchvision's, under its parameter names.

Shapes: B images, H x W pixels, C classes.
"""

import math
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from shared.errors import UserError
from shared.files import check_archive

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
WHOLE = 16  # channels that a kernel of oneDNN works on at once


class Projection(nn.Conv2d):
    """A 1 x 1 convolution with a stride, without padding: that of nn.Conv2d but for rounding.

    It picks the pixels by itself. On fewer than WHOLE channels in channels_last and with several
    threads oneDNN's strided kernel writes outside its memory, and the process dies (oneDNN's issue
    6035).
    """

    def forward(self, images: Tensor) -> Tensor:
        step = self.stride[0]
        return F.conv2d(images[:, :, ::step, ::step], self.weight, self.bias)


def projection(in_channels: int, channels: int, stride: int) -> nn.Conv2d:
    """The shortcut of a block that changes the shape."""
    kind = Projection if in_channels < WHOLE else nn.Conv2d
    return kind(in_channels, channels, 1, stride, bias=False)


class PreActBlock(nn.Module):
    """a = relu(bn1(x)); returns conv2(relu(bn2(conv1(a)))) + shortcut(a)."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        projects = stride != 1 or in_channels != channels
        self.shortcut = nn.Sequential(
            *[projection(in_channels, channels, stride)] if projects else []
        )

    def forward(self, x: Tensor) -> Tensor:
        activated = F.relu(self.bn1(x))
        out: Tensor = self.conv2(F.relu(self.bn2(self.conv1(activated))))
        shortcut: Tensor = self.shortcut(activated)
        return out + shortcut


def _stage(in_channels: int, channels: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        PreActBlock(in_channels, channels, stride), PreActBlock(channels, channels, 1)
    )


class PreActResNet18(nn.Module):
    """Images (B, 3, 32, 32) to logits (B, C).

    Two peculiarities that the published numbers rest on: no BatchNorm or ReLU after the last block,
    and a block without a projection adds the ACTIVATED input, not the input itself. Parameter names
    are those of DivideMix's checkpoints; 11,171,274 parameters with 10 classes, 11,217,444 with
    100.

    `width` is the number of channels of the first stage (64 in the paper).
    """

    def __init__(self, num_classes: int, width: int = 64) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.layer1 = _stage(width, width, stride=1)
        self.layer2 = _stage(width, 2 * width, stride=2)
        self.layer3 = _stage(2 * width, 4 * width, stride=2)
        self.layer4 = _stage(4 * width, 8 * width, stride=2)
        self.linear = nn.Linear(8 * width, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(images)))
        out = self.layer4(self.layer3(self.layer2(self.layer1(out))))
        logits: Tensor = self.linear(F.avg_pool2d(out, 4).flatten(1))
        return logits


def vgg19_bn(num_classes: int, width: int = 64) -> nn.Module:
    """torchvision's VGG19-BN, initialised as there: images (B, 3, H, W), 32 pixels up, to (B, C).

    width: channels of the first stage (64 in the paper), with which all layers scale, the two
    hidden ones of the head too. 139,622,218 parameters with 10 classes at width 64.
    """
    from torchvision.models import vgg  # takes seconds, and CIFAR does without

    plan = [entry if entry == "M" else entry * width // 64 for entry in vgg.cfgs["E"]]
    hidden = 64 * width
    parts: OrderedDict[str, nn.Module] = OrderedDict()
    parts["features"] = vgg.make_layers(plan, batch_norm=True)
    parts["avgpool"] = nn.AdaptiveAvgPool2d((7, 7))
    parts["flatten"] = nn.Flatten()
    parts["classifier"] = nn.Sequential(
        *(nn.Linear(8 * width * 7 * 7, hidden), nn.ReLU(inplace=True), nn.Dropout(0.5)),
        *(nn.Linear(hidden, hidden), nn.ReLU(inplace=True), nn.Dropout(0.5)),
        nn.Linear(hidden, num_classes),
    )
    net = nn.Sequential(parts)
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.Linear):
            # torchvision's 0.01, and more where narrow layers would let the signal fade: at 0.01 a
            # network of width 8 is near chance after eight epochs of digits at Animal-10N's rate.
            nn.init.normal_(module.weight, 0, 0.01 * math.sqrt(64 / width))
        if isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)
    return net


def resnet50(num_classes: int, width: int = 64) -> nn.Module:
    """torchvision's ResNet-50: images (B, 3, H, W), 32 pixels up, to logits (B, C).

    width: channels of the 3 x 3 convolutions of the first stage (64 in the paper); those of the
    others scale with it, and what lies between the blocks keeps its width, as in a Wide ResNet-50.
    23,536,718 parameters with 14 classes.
    """
    from torchvision.models import resnet  # takes seconds, and CIFAR does without

    net: nn.Module = resnet.resnet50(num_classes=num_classes, width_per_group=width)
    return net


class _Network(NamedTuple):
    build: Callable[[int, int], nn.Module]  # from the number of classes and the width
    as_wide: str  # a convolution with as many output channels as the network is wide
    head: str  # the linear layer that gives the logits; no other network has one of this name


NETWORKS = {
    "preact_resnet18": _Network(PreActResNet18, as_wide="conv1", head="linear"),
    "vgg19_bn": _Network(vgg19_bn, as_wide="features.0", head="classifier.6"),
    "resnet50": _Network(resnet50, as_wide="layer1.0.conv1", head="fc"),
}


def build_classifier(
    name: str,
    num_classes: int,
    width: int = 64,
    weights: Path | None = None,
    *,
    normalise: bool = False,
) -> nn.Module:
    """A classifier by its name in NETWORKS: images (B, 3, H, W) in [0, 1] to logits (B, C).

    weights: a state dict of the same network with any number of classes, such as torchvision's for
    ImageNet, from which all but the head starts; None: random weights, from torch's global
    generator. normalise: see `normalised`. Raises UserError if the weights do not fit.
    """
    network = NETWORKS[name]
    net = network.build(num_classes, width)
    if weights is not None:
        new_head = {
            key: value
            for key, value in net.state_dict().items()
            if key.startswith(f"{network.head}.")
        }
        _load(net, {**_read(weights), **new_head}, f"{weights} does not fit {name} --width {width}")
    return normalised(net) if normalise else net


def load_classifier(
    state: Mapping[str, Tensor], num_classes: int, *, normalise: bool = False
) -> nn.Module:
    """The classifier whose state dict this is, as wide as it was, with its weights.

    Raises UserError if the state is of none of NETWORKS, damaged, or of other classes.
    """
    found = [name for name, network in NETWORKS.items() if f"{network.head}.weight" in state]
    if not found or f"{NETWORKS[found[0]].as_wide}.weight" not in state:
        raise UserError(f"the saved network is none of {', '.join(NETWORKS)}")
    network = NETWORKS[found[0]]
    classes = len(state[f"{network.head}.weight"])
    if classes != num_classes:
        raise UserError(
            f"the saved {found[0]} of {classes} classes does not fit {num_classes} classes; "
            "is it of another --dataset?"
        )
    net = network.build(num_classes, len(state[f"{network.as_wide}.weight"]))
    _load(net, state, f"the saved {found[0]} is damaged")
    return normalised(net) if normalise else net


def normalised(net: nn.Module) -> nn.Module:
    """The network itself, which from now on normalises its images by ImageNet's mean and deviation.

    For a classifier with ImageNet weights: the VAE needs pixels in [0, 1], and the published code
    gives the same to the pretrained ResNet-50. The state dict stays as it is.
    """
    for name, values in (("image_mean", IMAGENET_MEAN), ("image_std", IMAGENET_STD)):
        net.register_buffer(name, torch.tensor(values).view(3, 1, 1), persistent=False)
    net.register_forward_pre_hook(_normalise)
    return net


def _normalise(net: nn.Module, inputs: tuple[Tensor]) -> Tensor:
    (images,) = inputs
    return (images - net.get_buffer("image_mean")) / net.get_buffer("image_std")


def _read(path: Path) -> dict[str, Tensor]:
    """The state dict in a file; nothing in it is executed. Raises UserError, OSError."""
    try:
        check_archive(path)
        state: Any = torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # of pickle, of zip, of torch: whatever a foreign file provokes
        raise UserError(
            f"{path}: no weights that can be read safely ({type(error).__name__}). The file is "
            "damaged, or is no state dict saved by torch.save; get it again"
        ) from error
    if not isinstance(state, Mapping) or not all(isinstance(v, Tensor) for v in state.values()):
        raise UserError(
            f"{path} holds no state dict (names and tensors): save one by "
            "torch.save(net.state_dict(), path)"
        )
    return dict(state)


def _load(net: nn.Module, state: Mapping[str, Tensor], misfit: str) -> None:
    """Copies the state into the net, or raises UserError: the misfit, with the first cause."""
    own = net.state_dict()
    causes = [f"it lacks {key}" for key in own if key not in state and not _counts(key)]
    causes += [f"{key} is not of this network" for key in state if key not in own]
    causes += [
        f"{key} has shape {tuple(state[key].shape)}, not {tuple(own[key].shape)}"
        for key in own
        if key in state and state[key].shape != own[key].shape
    ]
    if causes:
        more = f", and {len(causes) - 1} more such" if len(causes) > 1 else ""
        raise UserError(f"{misfit}: {causes[0]}{more}")
    net.load_state_dict(state, strict=False)


def _counts(key: str) -> bool:
    """Batches that a BatchNorm has seen, which old files lack and nothing here uses."""
    return key.endswith("num_batches_tracked")

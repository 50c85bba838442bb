"""WRN-28-2 under the state-dict names of SLN's published checkpoints; ResNet-50 for 224 pixels.

Shapes: B batch, C classes. Initialisation is PyTorch's default.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from shared.errors import UserError
from shared.files import check_archive

# As published: running statistics follow the last batch, and part of MO's gain is to smooth them.
LAST_BN_MOMENTUM = 0.9


class Block(nn.Module):
    """BN-ReLU-conv, BN-ReLU-conv, plus the raw input.

    The stride is on the second convolution, unlike the usual WRN.
    """

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(channels_in)
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(channels_out)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, stride=stride, padding=1)
        self.shortcut = nn.Sequential()
        if stride != 1 or channels_in != channels_out:
            self.shortcut.append(nn.Conv2d(channels_in, channels_out, 1, stride=stride))

    def forward(self, x: Tensor) -> Tensor:
        out = self.conv1(F.relu(self.bn1(x), inplace=True))
        out = self.conv2(F.relu(self.bn2(out), inplace=True))
        total: Tensor = out + self.shortcut(x)
        return total


def _stage(channels_in: int, channels_out: int, blocks: int, stride: int) -> nn.Sequential:
    """Blocks of equal width; the first one widens and strides."""
    first = Block(channels_in, channels_out, stride)
    return nn.Sequential(first, *(Block(channels_out, channels_out, 1) for _ in range(blocks - 1)))


class WideResNet(nn.Module):
    """WRN-depth-width: images (B, 3, 32, 32) float -> logits (B, C).

    WRN-28-2 has 1,469,642 parameters at C = 10.
    """

    def __init__(self, num_classes: int, depth: int = 28, width: int = 2) -> None:
        super().__init__()
        blocks = (depth - 4) // 6
        channels = [16, 16 * width, 32 * width, 64 * width]
        self.conv1 = nn.Conv2d(3, channels[0], 3, padding=1)
        self.layer1, self.layer2, self.layer3 = (
            _stage(channels[k], channels[k + 1], blocks, stride)
            for k, stride in enumerate((1, 2, 2))
        )
        self.bn1 = nn.BatchNorm2d(channels[3], momentum=LAST_BN_MOMENTUM)
        self.linear = nn.Linear(channels[3], num_classes)

    def features(self, x: Tensor) -> Tensor:
        """What the classifier sees, (B, 64 width)."""
        out = self.layer3(self.layer2(self.layer1(self.conv1(x))))
        return F.relu(self.bn1(out), inplace=True).mean(dim=(2, 3))

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.linear(self.features(x))
        return logits


def resnet50(num_classes: int, weights: Path | None) -> nn.Module:
    """torchvision's ResNet-50 with a new head: images (B, 3, 224, 224) float -> logits (B, C).

    weights: a state dict on disk, with 1,000 classes as that of ImageNet; None: random ones. Raises
    UserError.
    """
    import torchvision  # takes a second, and only 224-pixel images need it

    net = torchvision.models.resnet50()
    if weights is not None:
        try:
            check_archive(weights)
            net.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
        except Exception as error:
            raise UserError(
                f"--pretrained {weights} holds no weights of a ResNet-50 with 1,000 classes "
                f"({' '.join(str(error).split())[:200]}): leave it out for torchvision's, or get "
                f"{torchvision.models.ResNet50_Weights.IMAGENET1K_V1.url}"
            ) from error
    net.fc = nn.Linear(net.fc.in_features, num_classes)
    result: nn.Module = net
    return result


def published_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict without the prefix that DataParallel gave the names of runs on several GPUs."""
    return {name.removeprefix("module."): value for name, value in state.items()}


def network_from(state: Mapping[str, Tensor]) -> nn.Module:
    """The network of either kind with these weights, which are ours or published.

    Raises UserError.
    """
    state = published_names(state)
    if "fc.weight" not in state:
        return wide_resnet_from(state)
    net = resnet50(len(state["fc.weight"]), None)
    try:
        net.load_state_dict(state)
    except RuntimeError as error:
        raise UserError(f"the weights are not those of a ResNet-50: {error}") from error
    return net


def features_of(net: nn.Module) -> Callable[[Tensor], Tensor]:
    """What the classifier of the network sees, from images; the network is used up."""
    if isinstance(net, WideResNet):
        return net.features
    net.fc = nn.Identity()
    return net


def wide_resnet_from(state: Mapping[str, Tensor]) -> WideResNet:
    """The network with these weights, which are ours or of a published `model.pth`.

    Raises UserError.
    """
    state = published_names(state)
    try:
        num_classes, last = state["linear.weight"].shape
        blocks = len({name.split(".")[1] for name in state if name.startswith("layer1.")})
        net = WideResNet(num_classes, depth=6 * blocks + 4, width=last // 64)
        net.load_state_dict(state)
    except (KeyError, ValueError, RuntimeError) as error:
        raise UserError(f"the weights are not those of a WRN of this project: {error}") from error
    return net

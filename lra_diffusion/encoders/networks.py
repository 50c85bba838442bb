"""Networks of the frozen encoders f_p, under the parameter names of the published checkpoints.

All take images (B, 3, H, W) float and return (B, D) float32.
Letters: B batch, D width of the feature, H W pixels.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import resnet as torchvision_resnet
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as TF

from lra_diffusion.method.images import Normalisation, channels
from lra_diffusion.method.networks import DEPTHS, projection, torchvision_block


class SimCLRNet(nn.Module):
    """ResNet for 32 x 32 images (3 x 3 stem, no max-pooling) and SimCLR's projection head.

    The feature is the pooled output, scaled to unit length; the head matters in pre-training only.
    width: channels of the first stage, 64 as published; hidden: of the head.
    """

    def __init__(
        self, name: str = "resnet50", width: int = 64, hidden: int = 512, projected: int = 128
    ) -> None:
        super().__init__()
        block = torchvision_block(name)
        stem = nn.Conv2d(3, width, 3, 1, 1, bias=False)
        layers: list[nn.Module] = [stem, nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
        dim = width
        for stage, depth in enumerate(DEPTHS[name]):
            blocks = []
            for i in range(depth):
                stride = 2 if stage and not i else 1
                blocks.append(_block(block, dim, width * 2**stage, stride))
                dim = width * 2**stage * block.expansion
            layers.append(nn.Sequential(*blocks))
        self.f = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1))
        first, last = nn.Linear(dim, hidden, bias=False), nn.Linear(hidden, projected)
        self.g: nn.Module = nn.Sequential(first, nn.BatchNorm1d(hidden), nn.ReLU(), last)
        self.dim = dim
        for module in self.f.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def pooled(self, images: Tensor) -> Tensor:
        features: Tensor = self.f(images).flatten(1)
        return features

    def project(self, images: Tensor) -> Tensor:
        """(B, projected): what the contrastive loss compares, not yet of unit length."""
        projections: Tensor = self.g(self.pooled(images))
        return projections

    def forward(self, images: Tensor) -> Tensor:
        return F.normalize(self.pooled(images).float(), dim=1)


def _block(kind: Any, in_channels: int, width: int, stride: int) -> nn.Module:
    shortcut, out = None, width * kind.expansion
    if stride != 1 or in_channels != out:
        shortcut = nn.Sequential(projection(in_channels, out, stride), nn.BatchNorm2d(out))
    block: nn.Module = kind(in_channels, width, stride, shortcut)
    return block


def simclr_net_of(state: Mapping[str, Tensor]) -> SimCLRNet | None:
    """A SimCLRNet of the architecture that a state dict has; None if it is not of one."""
    if not {"f.0.weight", "f.5.0.conv1.weight"} <= state.keys():
        return None
    bottleneck = "f.3.0.conv3.weight" in state
    deep = "f.5.5.conv1.weight" in state
    name = "resnet50" if bottleneck else "resnet34" if deep else "resnet18"
    head = ("g.0.weight", "g.3.weight")
    hidden, projected = (len(state[key]) if key in state else 128 for key in head)
    return SimCLRNet(name, len(state["f.0.weight"]), hidden, projected)


class _Classifier(nn.Module):
    """128 -> 64 -> 64 -> 14, one of CC's two; only here so that the published file fits."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Sequential(nn.Linear(128, 64), nn.BatchNorm1d(64))
        self.fc2 = nn.Sequential(nn.Linear(64, 64), nn.BatchNorm1d(64))
        self.fc3 = nn.Linear(64, 14)


class CCNet(nn.Module):
    """Clothing1M's network of "Centrality and Consistency" (Zhao et al., ECCV 2022).

    ResNet-50, then a linear layer to 128.
    """

    dim = 128

    def __init__(self) -> None:
        super().__init__()
        self.model_resnet = torchvision_resnet.resnet50(weights=None)
        pooled = self.model_resnet.fc.in_features
        self.model_resnet.fc = nn.Identity()
        self.classification_fc = nn.Linear(pooled, 14)
        self.dr = nn.Linear(pooled, self.dim)
        self.fc1, self.fc2 = _Classifier(), _Classifier()

    def forward(self, images: Tensor) -> Tensor:
        reduced: Tensor = self.dr(self.model_resnet(images))
        return reduced.float()


class Renormalised(nn.Module):
    """A network of its own input size and normalisation, fed a dataset's normalised images.

    The dataset's normalisation is undone, the shorter side resized to `side` (bicubic; what
    overshoots [0, 1] is kept), the centre cut out, the network's own normalisation done. Images
    that have that size already are not resized.
    """

    _mean: Tensor
    _std: Tensor
    _own_mean: Tensor
    _own_std: Tensor

    def __init__(
        self, net: nn.Module, side: int, images: Normalisation, own: Normalisation
    ) -> None:
        super().__init__()
        self.net, self.side = net, side
        # Constants of the data, no weights: so they are in no state dict.
        for name, constants in (("", images), ("_own", own)):
            mean, std = channels(constants)
            self.register_buffer(f"{name}_mean", mean, persistent=False)
            self.register_buffer(f"{name}_std", std, persistent=False)

    def prepared(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) normalised for the dataset to (B, 3, side, side) for the network."""
        pixels = images.float() * self._std + self._mean
        pixels = TF.resize(pixels, [self.side], InterpolationMode.BICUBIC, antialias=True)
        cut: Tensor = TF.center_crop(pixels, [self.side, self.side])
        return (cut - self._own_mean) / self._own_std

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.net(self.prepared(images))
        return features.float()

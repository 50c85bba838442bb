"""The networks of LRA-diffusion, under the parameter names of the published checkpoints.

Chen et al., "Label-Retrieval-Augmented Diffusion Models for Learning from Noisy Labels", NeurIPS
2023: the noise predictor, the diffusion encoders, and the exponential moving average of both.
Letters: B batch, C classes, D width of the retrieval feature f_p(x), F hidden width
(--feature_dim), T diffusion steps, H W pixels.
"""

import copy
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import resnet as torchvision_resnet

WHOLE = 16  # channels that a kernel of oneDNN works on at once
DEPTHS = {"resnet18": (2, 2, 2, 2), "resnet34": (3, 4, 6, 3), "resnet50": (3, 4, 6, 3)}


class TimeGatedLinear(nn.Module):
    """G(v, t) = Gamma[t] * (W v + b): a linear layer, scaled by a learned row of each time step."""

    def __init__(self, in_features: int, out_features: int, time_rows: int) -> None:
        super().__init__()
        self.lin = nn.Linear(in_features, out_features)
        self.embed = nn.Embedding(time_rows, out_features)
        nn.init.uniform_(self.embed.weight)

    def forward(self, values: Tensor, t: Tensor) -> Tensor:
        gated: Tensor = self.embed(t) * self.lin(values)
        return gated


class NoisePredictor(nn.Module):
    """The conditional model: predicts the noise in a diffused label, given the image.

    embedding: (B, F) output of the diffusion encoder; noisy_label: (B, C) y_t; feature: (B, D)
    f_p(x); t: (B,) int64 in [0, T]. Returns (B, C). All in float32: the read-out divides by
    sqrt(alpha_bar) = 0.15 at t = 901.
    """

    def __init__(
        self, num_classes: int, feature_dim: int, hidden: int, timesteps: int = 1000
    ) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(hidden)
        self.lin1 = TimeGatedLinear(num_classes + feature_dim, hidden, timesteps + 1)
        self.unetnorm1 = nn.BatchNorm1d(hidden)
        self.lin2 = TimeGatedLinear(hidden, hidden, timesteps + 1)
        self.unetnorm2 = nn.BatchNorm1d(hidden)
        self.lin3 = TimeGatedLinear(hidden, hidden, timesteps + 1)
        self.unetnorm3 = nn.BatchNorm1d(hidden)
        self.lin4 = nn.Linear(hidden, num_classes)

    @property
    def num_classes(self) -> int:
        return self.lin4.out_features

    @property
    def feature_dim(self) -> int:
        return self.lin1.lin.in_features - self.num_classes

    def forward(self, embedding: Tensor, noisy_label: Tensor, t: Tensor, feature: Tensor) -> Tensor:
        hidden = F.softplus(self.unetnorm1(self.lin1(torch.cat([noisy_label, feature], dim=1), t)))
        hidden = self.norm(embedding) * hidden
        hidden = F.softplus(self.unetnorm2(self.lin2(hidden, t)))
        hidden = F.softplus(self.unetnorm3(self.lin3(hidden, t)))
        predicted: Tensor = self.lin4(hidden)
        return predicted


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


class _Block(nn.Module):
    """Post-activation residual block: two 3 x 3 convolutions, or 1 x 1, 3 x 3 (stride), 1 x 1."""

    def __init__(self, in_channels: int, channels: int, stride: int, bottleneck: bool) -> None:
        super().__init__()
        out_channels = channels * (4 if bottleneck else 1)
        if bottleneck:
            self.conv1 = nn.Conv2d(in_channels, channels, 1, bias=False)
            self.bn1 = nn.BatchNorm2d(channels)
            self.conv2 = nn.Conv2d(channels, channels, 3, stride, 1, bias=False)
            self.bn2 = nn.BatchNorm2d(channels)
            self.conv3 = nn.Conv2d(channels, out_channels, 1, bias=False)
            self.bn3 = nn.BatchNorm2d(out_channels)
        else:
            self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, 1, bias=False)
            self.bn1 = nn.BatchNorm2d(channels)
            self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
            self.bn2 = nn.BatchNorm2d(channels)
        self.bottleneck = bottleneck
        self.shortcut = nn.Sequential()
        if stride != 1 or in_channels != out_channels:
            self.shortcut = nn.Sequential(
                projection(in_channels, out_channels, stride),
                nn.BatchNorm2d(out_channels),
            )

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if self.bottleneck:
            out = self.bn3(self.conv3(F.relu(out)))
        return F.relu(out + self.shortcut(x))


class SmallResNet(nn.Module):
    """ResNet for 32 x 32 images: 3 x 3 stem, no max-pooling, a linear layer on the pooled maps.

    images: (B, 3, 32, 32) float. Returns (B, out_features). As diffusion encoder out_features is F;
    as classifier, C. width: channels of the first stage (64).
    """

    layer1: nn.Module
    layer2: nn.Module
    layer3: nn.Module
    layer4: nn.Module

    def __init__(self, name: str, out_features: int, width: int = 64) -> None:
        super().__init__()
        bottleneck = name == "resnet50"
        self.conv1 = nn.Conv2d(3, width, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        in_channels = width
        for stage, depth in enumerate(DEPTHS[name]):
            channels = width * 2**stage
            blocks = []
            for block in range(depth):
                stride = 2 if stage and not block else 1
                blocks.append(_Block(in_channels, channels, stride, bottleneck))
                in_channels = channels * (4 if bottleneck else 1)
            setattr(self, f"layer{stage + 1}", nn.Sequential(*blocks))
        self.linear = nn.Linear(in_channels, out_features)

    def forward(self, images: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(images)))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        # What is compared or normalised next needs float32.
        with torch.autocast(x.device.type, enabled=False):
            outputs: Tensor = self.linear(F.adaptive_avg_pool2d(x, 1).flatten(1).float())
            return outputs


class LargeResNet(torchvision_resnet.ResNet):  # type: ignore[misc]  # torchvision has no types
    """torchvision's ResNet for 224 x 224 images with two linear layers in a row: 512, then F."""

    def __init__(self, name: str, out_features: int) -> None:
        super().__init__(torchvision_block(name), list(DEPTHS[name]))
        pooled = self.fc.in_features
        del self.fc
        self.myfc = nn.Linear(pooled, 512)
        self.myfc2 = nn.Linear(512, out_features)

    def _forward_impl(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        outputs: Tensor = self.myfc2(self.myfc(self.avgpool(x).flatten(1)))
        return outputs


def torchvision_block(name: str) -> Any:
    """torchvision's residual block of a network of DEPTHS."""
    return torchvision_resnet.Bottleneck if name == "resnet50" else torchvision_resnet.BasicBlock


# DEVIATION(lra_diffusion): the average of the weights covers every trained part and is tested; the
# original averages the predictor alone and never uses it.
class WeightAverage:
    """The EMA: theta' <- mu theta' + (1 - mu) theta after every step, without bias correction.

    theta' starts as theta. Every floating entry of the state is averaged, the running statistics of
    batch normalisation too; integer entries stay as they are. `nets` are the averaged copies, in
    the order of the originals.
    """

    def __init__(self, nets: Sequence[nn.Module], decay: float) -> None:
        self.nets = [copy.deepcopy(net).requires_grad_(False).eval() for net in nets]
        self._weight = 1.0 - decay
        pairs = [
            pair
            for average, net in zip(self.nets, nets)
            for pair in zip(average.state_dict().values(), net.state_dict().values())
            if pair[0].is_floating_point()
        ]
        self._average, self._current = zip(*pairs)

    @torch.no_grad()
    def update(self) -> None:
        torch._foreach_lerp_(self._average, self._current, self._weight)


class Model(NamedTuple):
    """What gives labels: noise predictor and diffusion encoder."""

    predictor: NoisePredictor
    encoder: nn.Module


def model_of(states: Sequence[Mapping[str, Tensor]]) -> Model:
    """The model of a published file's state dicts, its architecture recognised by their shapes.

    states: [predictor, diffusion encoder]; a third one, f_p, is not needed. Raises KeyError or
    RuntimeError for other ones.
    """
    # Without the prefix that DataParallel adds.
    first, second = (
        {name.removeprefix("module."): value for name, value in state.items()}
        for state in states[:2]
    )
    hidden, inputs = first["lin1.lin.weight"].shape
    classes, rows = len(first["lin4.bias"]), len(first["lin1.embed.weight"])
    model = Model(NoisePredictor(classes, inputs - classes, hidden, rows - 1), _encoder_of(second))
    model.predictor.load_state_dict(first)
    model.encoder.load_state_dict(second)
    return model


def _encoder_of(state: Mapping[str, Tensor]) -> nn.Module:
    name = "resnet34" if "layer1.2.conv1.weight" in state else "resnet18"
    if "layer1.0.conv3.weight" in state:
        name = "resnet50"
    if "myfc2.weight" in state:
        return LargeResNet(name, len(state["myfc2.bias"]))
    return SmallResNet(name, len(state["linear.bias"]), len(state["conv1.weight"]))

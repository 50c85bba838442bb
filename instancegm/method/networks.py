"""PreAct ResNet-18 (He et al., ECCV 2016) in the variant of DivideMix.

Two peculiarities that the published numbers rest on: no BatchNorm or ReLU after the last block, and
a block without a projection adds the ACTIVATED input, not the input itself. Parameter names are
those of DivideMix's checkpoints; 11,171,274 parameters with 10 classes, 11,217,444 with 100.
"""

from torch import Tensor, nn
from torch.nn import functional as F


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
            *[nn.Conv2d(in_channels, channels, 1, stride, bias=False)] if projects else []
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

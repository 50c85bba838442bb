"""What the parts of LRA-diffusion's benchmark share: how to time, encoders with random weights."""

import contextlib
import io
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lra_diffusion.encoders import clip_tower
from lra_diffusion.encoders.clip_tower import CLIP_NORMALISATION, TOWERS
from lra_diffusion.encoders.frozen import Encoder
from lra_diffusion.encoders.networks import Renormalised, SimCLRNet
from lra_diffusion.method.images import CIFAR_NORMALISATION, Autocast, DeviceImages
from lra_diffusion.run.config import parse
from lra_diffusion.run.device import autocast
from lra_diffusion.run.schema import TrainConfig

CLASSES, SIMCLR_DIM = 10, 2048
Report = dict[str, Any]


@dataclass(frozen=True)
class Bench:
    """Where and how often to time.

    sample, clip_sample, queries: what a CPU does of a figure, which is then scaled.
    """

    device: torch.device
    turns: int
    sample: int
    clip_sample: int
    queries: int

    @property
    def on_gpu(self) -> bool:
        return self.device.type != "cpu"

    def seconds(self, work: Callable[[], object]) -> float:
        start = time.perf_counter()
        with contextlib.redirect_stderr(io.StringIO()):  # no progress bars
            work()
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - start

    def take_turns(self, *works: Callable[[], object]) -> list[list[float]]:
        """Seconds of each work in each turn; the first turn is not counted."""
        times: list[list[float]] = [[] for _ in works]
        for turn in range(self.turns + 1):
            for work, row in zip(works, times):
                elapsed = self.seconds(work)
                if turn:
                    row.append(elapsed)
        return times

    def images(self, count: int) -> DeviceImages:
        pixels = np.random.default_rng(0).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
        return DeviceImages(pixels, CIFAR_NORMALISATION, self.device)

    def features(self, count: int, width: int) -> Tensor:
        generator = torch.Generator(self.device).manual_seed(0)
        return torch.randn(count, width, generator=generator, device=self.device)

    def ready(self, net: nn.Module) -> nn.Module:
        return net.to(device=self.device, memory_format=torch.channels_last).eval()

    def autocast(self, amp: str = "auto") -> Autocast:
        return autocast(amp, self.device)


def config_of(amp: str = "auto") -> TrainConfig:
    """That of CIFAR's default."""
    return parse("train_CIFAR", ["--amp", amp])


def noise(times: Sequence[float]) -> float:
    """Half the range of the turns, in percent of their median."""
    return 50 * (max(times) - min(times)) / median(times)


def ratio(times: Sequence[float], others: Sequence[float]) -> float:
    """Median over the turns of time / other time."""
    return median(a / b for a, b in zip(times, others))


def build_encoder(bench: Bench, name: str) -> Encoder:
    """f_p as encoders.frozen.build makes it, with random weights."""
    if name == "SimCLR":
        net: nn.Module = SimCLRNet()
        net.g = nn.Identity()
        return Encoder(name, bench.ready(net), SIMCLR_DIM, name, 1000)
    shape = TOWERS[name.removeprefix("CLIP ")]
    net = Renormalised(
        clip_tower.build(shape), shape.image_side, CIFAR_NORMALISATION, CLIP_NORMALISATION
    )
    return Encoder(name, bench.ready(net), shape.dim, name, 256)

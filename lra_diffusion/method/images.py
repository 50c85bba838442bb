"""Images of a training or test set, and their random augmentations, in batches on the device.

`Images` is what the training loop needs. `DeviceImages` keeps a whole set on the device as uint8,
padded with zeros, where a crop is one gather; run/image_files.py decodes files.
Letters: N images, B batch, H W pixels.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lra_diffusion.method.ranks import ALONE, Ranks

CROP_PADDING = 4
# Mean and standard deviation of the three channels, of values in [0, 1].
Normalisation = tuple[Sequence[float], Sequence[float]]
# CIFAR-100's too, as published.
CIFAR_NORMALISATION: Normalisation = ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))
IMAGENET_NORMALISATION: Normalisation = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CLOTHING1M_NORMALISATION: Normalisation = ((0.6959, 0.6537, 0.6371), (0.3113, 0.3192, 0.3214))

Autocast = Callable[[], AbstractContextManager[Any]]  # what forward passes of networks run in


class Images(Protocol):
    """N images, served normalised as float (B, 3, H, W) on the device."""

    device: torch.device
    normalisation: Normalisation
    evaluation_batch: int  # images at once where no gradient is needed; changes the speed only

    def __len__(self) -> int: ...

    def plain(self, batches: Sequence[Tensor]) -> Iterator[Tensor]:
        """The images as at test time, a batch for each index (B,) int64."""

    def views(self, batches: Sequence[Tensor], seed: int, ranks: Ranks = ALONE) -> Iterator[Tensor]:
        """One random augmentation of each image, a batch for each index (B,) int64.

        Of several ranks, each gets those of its rows, the same as one alone would.
        """


def channels(
    normalisation: Normalisation, device: torch.device | str = "cpu"
) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation as (3, 1, 1) float32, to be applied to images (B, 3, H, W)."""
    mean, std = (torch.tensor(values, device=device)[:, None, None] for values in normalisation)
    return mean, std


class DeviceImages:
    """Images (N, H, W, 3) uint8 on a device.

    An augmentation is RandomCrop(H, padding, black) and, if `flip`, a random mirror.
    """

    def __init__(
        self,
        images: NDArray[np.uint8],
        normalisation: Normalisation,
        device: torch.device,
        *,
        padding: int = CROP_PADDING,
        flip: bool = True,
    ) -> None:
        count, height, width, colours = images.shape
        side_h, side_w = height + 2 * padding, width + 2 * padding
        padded = torch.zeros(count, side_h, side_w, colours, dtype=torch.uint8, device=device)
        inside = padded[:, padding : padding + height, padding : padding + width]
        inside.copy_(torch.from_numpy(images))
        # (N, H, W, 3) for each of the offsets, 9 x 9 of them for a padding of 4, without a copy; an
        # indexed window is the crop
        self._windows = padded.unfold(1, height, 1).unfold(2, width, 1).permute(0, 1, 2, 4, 5, 3)
        mean, std = channels(normalisation, device)
        self._scale, self._shift = 1.0 / (255.0 * std), mean / std
        self._padding, self._flip = padding, flip
        self.device, self.normalisation = device, normalisation
        # On a CPU, larger activations leave the cache.
        self.evaluation_batch = 128 if device.type == "cpu" else 1000

    def __len__(self) -> int:
        return len(self._windows)

    def plain(self, batches: Sequence[Tensor]) -> Iterator[Tensor]:
        return (self._normalised(self._centre(index)) for index in batches)

    def views(self, batches: Sequence[Tensor], seed: int, ranks: Ranks = ALONE) -> Iterator[Tensor]:
        generator = torch.Generator(self.device).manual_seed(seed)
        return (self._normalised(self._view(index, generator, ranks)) for index in batches)

    def pixels(self, index: Tensor) -> Tensor:
        """(B, 3, H, W) float32 in [0, 1], not normalised."""
        return self._centre(index).permute(0, 3, 1, 2).float() / 255

    def _centre(self, index: Tensor) -> Tensor:
        return self._windows[index, self._padding, self._padding]

    def _view(self, index: Tensor, generator: torch.Generator, ranks: Ranks) -> Tensor:
        size, offsets = (2, len(index)), 2 * self._padding + 1
        top, left = torch.randint(0, offsets, size, device=self.device, generator=generator)
        rows = ranks.rows(len(index))
        crop = self._windows[index[rows], top[rows], left[rows]]
        if self._flip:
            flips = torch.rand(len(index), device=self.device, generator=generator)[rows] < 0.5
            crop = torch.where(flips[:, None, None, None], crop.flip(2), crop)
        return crop

    def _normalised(self, rows: Tensor) -> Tensor:
        """(B, H, W, 3) uint8 to (B, 3, H, W) float32, (x / 255 - mean) / std."""
        planes = rows.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.channels_last)
        return planes.mul_(self._scale).sub_(self._shift)

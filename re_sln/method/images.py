"""Images on the device, and their augmentation in batches.

The whole training set lives on the device as uint8, padded with zeros; an augmented batch is one
gather.

Shapes: N samples, B batch, H W pixels.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from re_sln.method.ranks import ALONE, Ranks
from shared.datasets.image_data import ImageData

CROP_PADDING = 4
SIDE = 32  # pixels; what the network is made for
# Of the clean training images; what re-sln recomputes at every start. For CIFAR-10 its std is
# the mean of the images' own standard deviations, not that of all pixels, and so are the constants
# of SLN's authors.
NORMALISATION: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "cifar10": ((0.49139968, 0.48215841, 0.44653091), (0.20220212, 0.19931542, 0.20086346)),
    "cifar100": ((0.50707516, 0.48654887, 0.44091784), (0.26733429, 0.25643846, 0.27615047)),
    "clothing1m": ((0.6959, 0.6537, 0.6371), (0.3113, 0.3192, 0.3214)),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}


class Images(Protocol):
    """N normalised images, batches of float (B, 3, H, W): DeviceImages, or DiskImages."""

    device: torch.device
    side: int  # pixels
    evaluation_batch: int  # images at once where no gradient is needed; changes the speed only

    def __len__(self) -> int: ...

    def plain(self, batches: Sequence[Tensor], ranks: Ranks = ALONE) -> Iterator[Tensor]:
        """The images themselves, a batch for each index (B,) int64, of which the rank's rows."""

    def views(self, batches: Sequence[Tensor], seed: int, ranks: Ranks = ALONE) -> Iterator[Tensor]:
        """One random augmentation of each image, the same one on every rank."""


class DeviceImages:
    """Images (N, H, W, 3) uint8 on a device, augmented by RandomCrop(H, padding, black).

    flip: and by a random mirror. normalisation: mean and standard deviation of the three channels,
    of pixels in [0, 1].
    """

    def __init__(
        self,
        images: NDArray[np.uint8],
        normalisation: tuple[Sequence[float], Sequence[float]],
        device: torch.device,
        *,
        padding: int = CROP_PADDING,
        flip: bool = True,
    ) -> None:
        count, height, width, channels = images.shape
        side_h, side_w = height + 2 * padding, width + 2 * padding
        padded = torch.zeros(count, side_h, side_w, channels, dtype=torch.uint8, device=device)
        inside = padded[:, padding : padding + height, padding : padding + width]
        inside.copy_(torch.from_numpy(images))
        # (N, H, W, 3) for each of the offsets, 9 x 9 of them for a padding of 4, without a copy; an
        # indexed window is the crop
        self._windows = padded.unfold(1, height, 1).unfold(2, width, 1).permute(0, 1, 2, 4, 5, 3)
        mean, std = (
            torch.tensor(values, device=device)[None, :, None, None] for values in normalisation
        )
        self._scale, self._shift = 1.0 / (255.0 * std), mean / std
        self._padding, self._flip = padding, flip
        self.device, self.side = device, height
        # On a CPU, larger activations leave the cache.
        self.evaluation_batch = 128 if device.type == "cpu" else 1000
        self.memory_format = torch.channels_last

    def __len__(self) -> int:
        return len(self._windows)

    def plain(self, batches: Sequence[Tensor], ranks: Ranks = ALONE) -> Iterator[Tensor]:
        return (
            self._normalised(self._windows[ranks.part(index), self._padding, self._padding])
            for index in batches
        )

    def views(self, batches: Sequence[Tensor], seed: int, ranks: Ranks = ALONE) -> Iterator[Tensor]:
        generator = torch.Generator(self.device).manual_seed(seed)
        return (self._normalised(self._view(index, generator, ranks)) for index in batches)

    def _view(self, index: Tensor, generator: torch.Generator, ranks: Ranks) -> Tensor:
        """The rank's rows; offsets are drawn for the whole batch."""
        size = (2, len(index))
        offsets = torch.randint(
            0, 2 * self._padding + 1, size, device=self.device, generator=generator
        )
        top, left = (ranks.part(offset) for offset in offsets)
        crop = self._windows[ranks.part(index), top, left]
        if self._flip:
            flips = torch.rand(len(index), device=self.device, generator=generator) < 0.5
            crop = torch.where(ranks.part(flips)[:, None, None, None], crop.flip(2), crop)
        return crop

    def _normalised(self, rows: Tensor) -> Tensor:
        """(B, H, W, 3) uint8 to (B, 3, H, W) float32, (x / 255 - mean) / std."""
        planes = rows.permute(0, 3, 1, 2).to(torch.float32, memory_format=self.memory_format)
        return planes.mul_(self._scale).sub_(self._shift)


def server_of(data: ImageData, device: torch.device) -> Callable[[NDArray[np.uint8]], DeviceImages]:
    """Puts images (N, H, W, 3) uint8 of this dataset onto the device, normalised, at 32 x 32.

    Animal-10N's 64 x 64 images are made smaller here (PIL, bilinear), after their mean and
    deviation were taken. digits are not augmented: a mirrored 2 is no digit, and a shift by half a
    stroke keeps even plain cross-entropy from memorising wrong labels of so small a set, which is
    what the method is about.
    """
    normalisation = normalisation_of(data)
    if data.name == "digits":
        return lambda pixels: DeviceImages(pixels, normalisation, device, padding=0, flip=False)
    return lambda pixels: DeviceImages(_at_32(pixels), normalisation, device)


def _at_32(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    if pixels.shape[1:3] == (SIDE, SIDE):
        return pixels
    smaller = (
        Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling.BILINEAR) for image in pixels
    )
    return np.stack([np.asarray(image) for image in smaller])


def normalisation_of(data: ImageData) -> tuple[Sequence[float], Sequence[float]]:
    """Mean and standard deviation of each channel in [0, 1], of the clean training images."""
    if data.name in NORMALISATION:
        return NORMALISATION[data.name]
    counts = np.zeros((3, 256), np.int64)  # exact, whatever the size of the set
    for start in range(0, len(data.train_images), 1000):
        chunk = data.train_images[start : start + 1000]
        counts += np.stack([np.bincount(chunk[..., c].ravel(), minlength=256) for c in range(3)])
    values = np.arange(256) / 255.0
    mean = counts @ values / counts.sum(axis=1)
    variance = counts @ values**2 / counts.sum(axis=1) - mean**2
    return mean.tolist(), np.sqrt(np.maximum(variance, 1e-12)).tolist()

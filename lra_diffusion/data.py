"""Images on the device, augmentation in batches, the split into training and validation, the random
numbers of an epoch.

The whole training set lives on the device as uint8, padded with zeros; a view is one gather. Every
random draw comes from a generator made from (seed, epoch, stream name), so an epoch can be repeated
without any state to restore.

Shapes: N samples, B batch, H W pixels.
"""

import zlib
from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from shared.datasets.image_data import ImageData

CROP_PADDING = 4
CIFAR_TRAIN_IMAGES = 45_000  # of 50,000, what PMD's label files cover; the rest is for validation
Normalisation = tuple[
    Sequence[float], Sequence[float]
]  # mean and standard deviation of the three channels, of [0, 1]
CIFAR_NORMALISATION: Normalisation = (
    (0.4914, 0.4822, 0.4465),
    (0.2023, 0.1994, 0.2010),
)  # CIFAR-100's too, as published
IMAGENET_NORMALISATION: Normalisation = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CLOTHING1M_NORMALISATION: Normalisation = ((0.6959, 0.6537, 0.6371), (0.3113, 0.3192, 0.3214))


# DEVIATION(lra_diffusion): every random number follows from --seed, epoch and purpose, so that a
# resumed run goes on bit for bit; the original seeds the global generators once.
def stream_seed(seed: int, epoch: int, stream: str) -> int:
    """A 32-bit seed that depends on all three arguments."""
    entropy = [seed, epoch, zlib.crc32(stream.encode())]
    return int(np.random.SeedSequence(entropy).generate_state(1)[0])


def torch_stream(device: torch.device | str, seed: int, epoch: int, stream: str) -> torch.Generator:
    """A generator on `device` for one stream of one epoch."""
    return torch.Generator(device).manual_seed(stream_seed(seed, epoch, stream))


class Images(Protocol):
    """N normalised images, float (B, 3, H, W) on the device: DeviceImages, or files on disk
    (disk_images.py).
    """

    device: torch.device
    normalisation: Normalisation
    evaluation_batch: int  # images at once where no gradient is needed; changes the speed only

    def __len__(self) -> int: ...

    def plain(self, batches: Sequence[Tensor]) -> Iterator[Tensor]:
        """The images as at test time, a batch for each index (B,) int64."""

    def views(self, batches: Sequence[Tensor], seed: int) -> Iterator[Tensor]:
        """One random augmentation of each image, a batch for each index (B,) int64."""


class DeviceImages:
    """Images (N, H, W, 3) uint8 on a device.

    A view is RandomCrop(H, padding, black) and, if `flip`, a random mirror.
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
        count, height, width, channels = images.shape
        side_h, side_w = height + 2 * padding, width + 2 * padding
        padded = torch.zeros(count, side_h, side_w, channels, dtype=torch.uint8, device=device)
        padded[:, padding : padding + height, padding : padding + width] = torch.from_numpy(
            images
        ).to(device)
        # (N, H, W, 3) for each of the offsets, 9 x 9 of them for a padding of 4, without a copy; an
        # indexed window is the crop
        self._windows = padded.unfold(1, height, 1).unfold(2, width, 1).permute(0, 1, 2, 4, 5, 3)
        mean, std = (
            torch.tensor(values, device=device)[None, :, None, None] for values in normalisation
        )
        self._scale, self._shift = 1.0 / (255.0 * std), mean / std
        self._padding, self._flip = padding, flip
        self.device, self.normalisation = device, normalisation
        self.evaluation_batch = (
            128 if device.type == "cpu" else 1000
        )  # on a CPU, larger activations leave the cache

    def __len__(self) -> int:
        return len(self._windows)

    def plain(self, batches: Sequence[Tensor]) -> Iterator[Tensor]:
        return (
            self._normalised(self._windows[index, self._padding, self._padding])
            for index in batches
        )

    def views(self, batches: Sequence[Tensor], seed: int) -> Iterator[Tensor]:
        generator = torch.Generator(self.device).manual_seed(seed)
        return (self._normalised(self._view(index, generator)) for index in batches)

    def pixels(self, index: Tensor) -> Tensor:
        """(B, 3, H, W) float32 in [0, 1], not normalised."""
        return self._windows[index, self._padding, self._padding].permute(0, 3, 1, 2).float() / 255

    def _view(self, index: Tensor, generator: torch.Generator) -> Tensor:
        size = (2, len(index))
        top, left = torch.randint(
            0, 2 * self._padding + 1, size, device=self.device, generator=generator
        )
        crop = self._windows[index, top, left]
        if self._flip:
            flips = torch.rand(len(index), device=self.device, generator=generator) < 0.5
            crop = torch.where(flips[:, None, None, None], crop.flip(2), crop)
        return crop

    def _normalised(self, rows: Tensor) -> Tensor:
        """(B, H, W, 3) uint8 to (B, 3, H, W) float32, (x / 255 - mean) / std."""
        planes = rows.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.channels_last)
        return planes.mul_(self._scale).sub_(self._shift)


def on_device(data: ImageData, pixels: NDArray[np.uint8], device: torch.device) -> DeviceImages:
    """Images (N, 32, 32, 3) uint8 of this dataset on the device.

    digits are neither moved nor mirrored.
    """
    # A mirrored 2 is no digit, and shifts keep even plain cross-entropy from memorising wrong
    # labels of so small a set.
    as_they_are = {"padding": 0, "flip": False} if data.name == "digits" else {}
    return DeviceImages(pixels, CIFAR_NORMALISATION, device, **as_they_are)


def split(
    data: ImageData, no_validation: bool = False
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows of the training set to train on and to validate on, both ascending.

    CIFAR: the first 45,000 and the last 5,000, as PMD's label files have it. Elsewhere every tenth
    image of each class validates. no_validation: all of them train.
    """
    validates = np.zeros(len(data.train_labels), dtype=bool)
    if no_validation:
        pass
    elif data.name.startswith("cifar"):
        validates[CIFAR_TRAIN_IMAGES:] = True
    else:
        for label in range(data.num_classes):
            validates[np.flatnonzero(data.train_labels == label)[9::10]] = True
    return np.flatnonzero(~validates), np.flatnonzero(validates)


def evenly(count: int, limit: int | None) -> NDArray[np.int64]:
    """Positions of `limit` samples spread evenly over `count`; image folders are sorted by class,
    so not the first ones.
    """
    if limit is None or limit >= count:
        return np.arange(count)
    return np.linspace(0, count - 1, limit).astype(np.int64)


def in_order(count: int, batch_size: int, device: torch.device) -> Sequence[Tensor]:
    """0 ... count - 1 in batches."""
    return torch.arange(count, device=device).split(batch_size)


def shuffled(
    samples: Tensor, batch_size: int, generator: torch.Generator, drop_last: bool = False
) -> Sequence[Tensor]:
    """The samples (M,) in random order, in batches; a smaller last one stays unless `drop_last`."""
    order = torch.randperm(len(samples), device=samples.device, generator=generator)
    batches = samples[order].split(batch_size)
    return (
        batches[:-1]
        if drop_last and len(batches) > 1 and len(batches[-1]) < batch_size
        else batches
    )

"""Images on the device, augmentation in batches, and the random numbers of an epoch.

The whole training set lives on the device as uint8, padded with zeros; a view is one gather. Every
random draw comes from a generator made from (seed, epoch, stream name), so an epoch can be repeated
without any state to restore.

Shapes: N samples, B batch, H W pixels.
"""

import zlib
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

CROP_PADDING = 4


# DEVIATION(instancegm): every random number follows from --seed; the original's CIFAR script never
# seeds, except that making noise seeds everything with 123 on the first run of a rate.
def stream_seed(seed: int, epoch: int, stream: str) -> int:
    """A 32-bit seed that depends on all three arguments; `epoch` -1 is the time before training."""
    entropy = [seed, epoch + 1, zlib.crc32(stream.encode())]
    return int(np.random.SeedSequence(entropy).generate_state(1)[0])


def torch_stream(device: torch.device, seed: int, epoch: int, stream: str) -> torch.Generator:
    """A generator on `device` for one stream of one epoch."""
    return torch.Generator(device).manual_seed(stream_seed(seed, epoch, stream))


class DeviceImages:
    """Images (N, H, W, 3) uint8 on a device, served as float (B, 3, H, W) in [0, 1].

    `view` is RandomCrop(H, padding=4, zeros) and, if `flip`, RandomHorizontalFlip, drawn per image;
    `plain` is the image.
    """

    def __init__(
        self, images: NDArray[np.uint8], device: torch.device, *, flip: bool = True
    ) -> None:
        count, height, width, channels = images.shape
        side_h, side_w = height + 2 * CROP_PADDING, width + 2 * CROP_PADDING
        self._padded = torch.zeros(
            count, side_h, side_w, channels, dtype=torch.uint8, device=device
        )
        self._padded[:, CROP_PADDING:-CROP_PADDING, CROP_PADDING:-CROP_PADDING] = torch.from_numpy(
            images
        ).to(device)
        # (N, H, W, 3) for each of the 9 x 9 offsets, without a copy; an indexed window is the crop
        self._windows = (
            self._padded.unfold(1, height, 1).unfold(2, width, 1).permute(0, 1, 2, 4, 5, 3)
        )
        self._flip = flip
        self.device = device
        self.memory_format = torch.channels_last

    def __len__(self) -> int:
        return len(self._padded)

    def plain(self, index: Tensor | slice) -> Tensor:
        """The images themselves. index: (B,) int64 or a slice."""
        return self._to_float(self._windows[index, CROP_PADDING, CROP_PADDING])

    def view(self, index: Tensor, generator: torch.Generator) -> Tensor:
        """One random augmentation of each image. index: (B,) int64."""
        size = (2, len(index))
        top, left = torch.randint(
            0, 2 * CROP_PADDING + 1, size, device=self.device, generator=generator
        )
        crop = self._windows[index, top, left]
        if self._flip:
            flips = torch.rand(len(index), device=self.device, generator=generator) < 0.5
            crop = torch.where(flips[:, None, None, None], crop.flip(2), crop)
        return self._to_float(crop)

    def _to_float(self, rows: Tensor) -> Tensor:
        image_planes = rows.permute(0, 3, 1, 2)
        return image_planes.to(torch.float32, memory_format=self.memory_format).div_(255.0)


def shuffled_batches(
    index: Tensor, batch_size: int, generator: torch.Generator
) -> Iterator[Tensor]:
    """The index (N,) in random order, in batches; the last one may be smaller."""
    order = torch.randperm(len(index), device=index.device, generator=generator)
    yield from index[order].split(batch_size)


def endless_batches(index: Tensor, batch_size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """`shuffled_batches`, started anew whenever it is exhausted."""
    while True:
        yield from shuffled_batches(index, batch_size, generator)

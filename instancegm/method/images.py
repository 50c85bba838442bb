"""Images in batches: plain, or augmented at random; and the random numbers of an epoch.

Every random draw comes from a generator made from (seed, epoch, stream name), so an epoch can be
repeated without any state to restore.

Shapes: N samples, B batch, H W pixels.
"""

import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from instancegm.method.ranks import ALONE, Ranks


# DEVIATION(instancegm): every random number follows from --seed; the original's CIFAR script never
# seeds, except that making noise seeds everything with 123 on the first run of a rate.
def stream_seed(seed: int, epoch: int, stream: str) -> int:
    """A 32-bit seed that depends on all three arguments; `epoch` -1 is the time before training."""
    entropy = [seed, epoch + 1, zlib.crc32(stream.encode())]
    return int(np.random.SeedSequence(entropy).generate_state(1)[0])


def torch_stream(device: torch.device, seed: int, epoch: int, stream: str) -> torch.Generator:
    """A generator on `device` for one stream of one epoch."""
    return torch.Generator(device).manual_seed(stream_seed(seed, epoch, stream))


@dataclass(frozen=True)
class Batch:
    """Some samples, and independent random augmentations of the images of a rank's rows."""

    index: Tensor  # (B,) int64, on the device: of all ranks together
    views: list[Tensor]  # each (b, 3, H, W) float32 in [0, 1]; alone b is B


class Images(Protocol):
    """N images, served as float (B, 3, H, W) in [0, 1] on a device.

    `DeviceImages` holds them all; `FileImages` (run/image_files.py) reads them from disk.
    """

    device: torch.device
    index_device: torch.device  # where the indices of batches are: that device, or the host
    evaluation_batch: int  # images at once where no gradient is needed; changes the speed only

    def __len__(self) -> int: ...

    def plain(self, indices: Sequence[Tensor]) -> Iterator[Tensor]:
        """The images themselves, a batch for each index (B,) int64."""

    def views(
        self,
        streams: Sequence[Iterable[Tensor]],
        counts: Sequence[int],
        seed: int,
        ranks: Ranks = ALONE,
    ) -> Iterator[tuple[Batch, ...]]:
        """A batch of every stream in each step, until one is exhausted.

        streams: indices (B,) int64, B may be 0; counts: how many augmentations of each image.
        Random numbers are drawn for all of it, so that the number of ranks changes none.
        """


class DeviceImages:
    """Images (N, H, W, 3) uint8 that live on the device, padded with zeros.

    A view is RandomCrop(H, padding=crop_padding, zeros) and, if `flip`, RandomHorizontalFlip, drawn
    per image; it is one gather.
    """

    def __init__(
        self,
        images: NDArray[np.uint8],
        device: torch.device,
        *,
        flip: bool = True,
        crop_padding: int = 4,
    ) -> None:
        height, width = images.shape[1:3]
        padded = F.pad(torch.from_numpy(images).to(device), (0, 0, *4 * [crop_padding]))
        # (N, offset, offset, H, W, 3), without a copy; an indexed window is the crop
        self._windows = padded.unfold(1, height, 1).unfold(2, width, 1).permute(0, 1, 2, 4, 5, 3)
        self._crop_padding = crop_padding
        self._flip = flip
        self.device = self.index_device = device
        # On a CPU, larger activations leave the cache: 128 was 1.3 times as fast as 512.
        self.evaluation_batch = 128 if device.type == "cpu" else 1024
        self.memory_format = torch.channels_last

    def __len__(self) -> int:
        return len(self._windows)

    def plain(self, indices: Sequence[Tensor]) -> Iterator[Tensor]:
        centre = self._crop_padding
        return (self._to_float(self._windows[index, centre, centre]) for index in indices)

    def views(
        self,
        streams: Sequence[Iterable[Tensor]],
        counts: Sequence[int],
        seed: int,
        ranks: Ranks = ALONE,
    ) -> Iterator[tuple[Batch, ...]]:
        generator = torch.Generator(self.device).manual_seed(seed)
        for indices in zip(*streams):
            yield tuple(
                Batch(index, [self._view(index, generator, ranks) for _ in range(count)])
                for index, count in zip(indices, counts)
            )

    def _view(self, index: Tensor, generator: torch.Generator, ranks: Ranks) -> Tensor:
        size, own = (2, len(index)), ranks.rows(len(index))
        offsets = 2 * self._crop_padding + 1
        top, left = torch.randint(0, offsets, size, device=self.device, generator=generator)
        crop = self._windows[index[own], top[own], left[own]]
        if self._flip:
            flips = torch.rand(len(index), device=self.device, generator=generator)[own] < 0.5
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
    yield from torch.split(index[order], batch_size)


def endless_batches(index: Tensor, batch_size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """`shuffled_batches`, restarted whenever it is exhausted; of an empty index, empty ones."""
    while True:
        yield from shuffled_batches(index, batch_size, generator)


def independent_batches(
    index: Tensor, batch_size: int, generator: torch.Generator
) -> Iterator[Tensor]:
    """Without end: batches of distinct samples of the index (N,), each drawn from all of it."""
    while True:
        order = torch.randperm(len(index), device=index.device, generator=generator)
        yield index[order[:batch_size]]

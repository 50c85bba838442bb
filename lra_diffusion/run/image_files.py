"""Images that stay on disk, decoded by worker processes at 224 pixels.

Those of Food-101N, Clothing1M, WebVision and ILSVRC2012, and own pictures. For training the shorter
side is resized to 256, and RandomCrop(224) and a random mirror follow; of test images the centre is
cut out.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from lra_diffusion.method.images import Normalisation, channels
from lra_diffusion.method.ranks import ALONE, Ranks
from lra_diffusion.run.errors import UsageError
from shared.datasets.decoding import open_rgb

SHORTER_SIDE, CROP = 256, 224
LONGEST = 16  # times the shorter side: what is longer would take gigabytes when it is resized


def resized(width: int, height: int, rounded: bool) -> tuple[int, int]:
    """Width and height with the shorter side at 256.

    rounded: the longer one is rounded half up, else down.

    The published code rounds where it resizes bicubically by itself (Food-101N, WebVision),
    torchvision's Resize does not.
    """
    shorter = min(width, height)
    if rounded:
        scaled = (int(side * SHORTER_SIDE / shorter + 0.5) for side in (width, height))
    else:
        scaled = (SHORTER_SIDE * side // shorter for side in (width, height))
    new_width, new_height = scaled
    return new_width, new_height


def without_ends(image: Image.Image) -> Image.Image:
    """The middle of a strip that is more than LONGEST times as long as wide, else the image."""
    longest = LONGEST * min(image.size)
    if max(image.size) <= longest:
        return image
    width, height = (min(side, longest) for side in image.size)
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))


class _Files(Dataset[tuple[Tensor, str]]):
    """Decoded crops, (3, 224, 224) uint8, and what is wrong with them: "" or, then black, why.

    An item is (position, seed); seed None: the centre, else a random augmentation.
    """

    def __init__(self, paths: Sequence[Path], bicubic: bool, own: bool) -> None:
        self._paths, self._bicubic, self._own = paths, bicubic, own

    def __getitem__(self, item: tuple[int, int | None]) -> tuple[Tensor, str]:
        position, seed = item
        try:
            image = open_rgb(self._paths[position]) if self._own else _as_is(self._paths[position])
        except Exception as error:  # whatever damage makes PIL's decoders stumble over
            cause = error.__cause__ or error  # `open_rgb` itself names the file, as others do
            reason = next(iter(str(cause).splitlines()), "") or type(cause).__name__
            return torch.zeros(3, CROP, CROP, dtype=torch.uint8), reason
        # DEVIATION(lra_diffusion): of strips more than 16 times as long as wide the middle counts;
        # the original resizes all of it, which takes gigabytes of memory.
        image = without_ends(image)
        width, height = resized(*image.size, rounded=self._bicubic)
        how = Image.Resampling.BICUBIC if self._bicubic else Image.Resampling.BILINEAR
        image = image.resize((width, height), how)
        left, top = round((width - CROP) / 2), round((height - CROP) / 2)
        mirrored = False
        if seed is not None:  # of epoch and sample, so that the number of workers changes nothing
            rng = np.random.default_rng([seed, position])
            left, top = int(rng.integers(width - CROP + 1)), int(rng.integers(height - CROP + 1))
            mirrored = rng.random() < 0.5
        pixels = np.asarray(image.crop((left, top, left + CROP, top + CROP)))
        pixels = (pixels[:, ::-1] if mirrored else pixels).copy()
        return torch.from_numpy(pixels).permute(2, 0, 1), ""


def _as_is(path: Path) -> Image.Image:
    with Image.open(path) as file:
        # DEVIATION(lra_diffusion): grey and CMYK pictures are converted to RGB; Food-101N's loader
        # fails on them.
        return file.convert("RGB")


class DiskImages:
    """`Images` (method/images.py) of N files, whose batches are decoded ahead.

    workers: by so many processes; 0: in this one. bicubic: resize as the published code does for
    Food-101N and WebVision, else bilinearly as torchvision's Resize. own: turned as their EXIF data
    say, and 16-bit grey scaled to 8 bits, which published code does not do.
    """

    evaluation_batch = 128

    def __init__(
        self,
        paths: Sequence[Path],
        normalisation: Normalisation,
        device: torch.device,
        workers: int,
        bicubic: bool,
        own: bool = False,
    ) -> None:
        self._files, self._workers, self.device = _Files(paths, bicubic, own), workers, device
        self._bicubic, self._own, self.paths = bicubic, own, paths
        self.on_broken: Callable[[int, str], None] = self._refuse
        self.normalisation = normalisation
        mean, std = channels(normalisation, device)
        self._scale, self._shift = 1.0 / (255.0 * std), mean / std
        self._count = len(paths)

    def __len__(self) -> int:
        return self._count

    def subset(self, rows: Sequence[int]) -> "DiskImages":
        """Some of the images."""
        paths = [self.paths[row] for row in rows]
        how = (self._workers, self._bicubic, self._own)
        return DiskImages(paths, self.normalisation, self.device, *how)

    def _refuse(self, position: int, reason: str) -> None:
        """What a broken file means unless `on_broken` is something else."""
        raise UsageError(f"{self.paths[position]} cannot be read ({reason}): get the file again")

    def plain(self, batches: Sequence[Tensor]) -> Iterator[Tensor]:
        return self._batches(batches, None)

    def views(self, batches: Sequence[Tensor], seed: int, ranks: Ranks = ALONE) -> Iterator[Tensor]:
        return self._batches([ranks.part(index) for index in batches], seed)

    def _batches(self, batches: Sequence[Tensor], seed: int | None) -> Iterator[Tensor]:
        """A broken file is told to `on_broken`, and if that returns, black."""
        items = [[(position, seed) for position in index.tolist()] for index in batches]
        pinned = self.device.type == "cuda"
        loader: DataLoader[tuple[Tensor, str]] = DataLoader(
            self._files, batch_sampler=items, num_workers=self._workers, pin_memory=pinned
        )
        try:
            for positions, (pixels, reasons) in zip(items, loader):
                for (position, _), reason in zip(positions, reasons):
                    if reason:
                        self.on_broken(position, reason)
                images = pixels.to(self.device, non_blocking=True)
                images = images.to(torch.float32, memory_format=torch.channels_last)
                yield images.mul_(self._scale).sub_(self._shift)
        except RuntimeError as error:  # of a worker that the system ended
            if "DataLoader worker" not in str(error):
                raise
            raise UsageError(
                f"a process that decodes images ended ({str(error).splitlines()[0]}): give fewer "
                "--num_workers, or in a container more shared memory (docker's --shm-size 8g)"
            ) from error

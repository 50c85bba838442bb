"""Images that stay on disk and are decoded by worker processes: Clothing1M, own pictures at 224.

As the code of SLN's authors shows Clothing1M. In training: shorter side to 256, RandomCrop(224),
random mirror; in tests: shorter side to 256, the centre 224 x 224.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from re_sln.method.progress import watched
from re_sln.method.ranks import ALONE, Ranks
from shared.datasets.image_data import DatasetError

SHORTER_SIDE, CROP = 256, 224
CHECKED_AT_ONCE = 100
PER_CLASS = 18_976  # images of each class in an epoch, drawn for every epoch
Opener = Callable[[Path], Image.Image]  # an RGB image, or any exception; must be picklable


def plain_rgb(path: Path) -> Image.Image:
    """The image as it is stored, which is how Clothing1M is read."""
    with Image.open(path) as file:
        return file.convert("RGB")


class _Files(Dataset[Tensor]):
    """Decoded crops, (3, 224, 224) uint8.

    An item is (position, seed); seed None: the centre, else a random crop.
    """

    def __init__(self, paths: Sequence[Path], opened: Opener) -> None:
        self._paths, self._opened = paths, opened

    def __getitem__(self, item: tuple[int, int | None]) -> Tensor:
        position, seed = item
        try:
            image = self._opened(self._paths[position])
        except Exception as error:  # Pillow's decoders raise whatever they like
            raise DatasetError(
                f"{self._paths[position]} cannot be read ({error.__cause__ or error}): get the "
                "file again, or add --skip_broken, which leaves out and names every image that "
                "cannot be read"
            ) from error
        width, height = (SHORTER_SIDE * side // min(image.size) for side in image.size)
        image = image.resize((width, height), Image.Resampling.BILINEAR)
        # As torchvision's CenterCrop, which rounds half to even.
        left, top = round((width - CROP) / 2), round((height - CROP) / 2)
        mirrored = False
        if seed is not None:  # of epoch and sample, so that the number of workers changes nothing
            rng = np.random.default_rng([seed, position])
            left, top = int(rng.integers(width - CROP + 1)), int(rng.integers(height - CROP + 1))
            mirrored = rng.random() < 0.5
        pixels = np.asarray(image.crop((left, top, left + CROP, top + CROP)))
        return torch.from_numpy((pixels[:, ::-1] if mirrored else pixels).copy()).permute(2, 0, 1)


class _Check(Dataset[bool]):
    """Whether a file can be decoded, one after the other."""

    def __init__(self, paths: Sequence[Path], opened: Opener) -> None:
        self._paths, self._opened = paths, opened

    def __getitem__(self, position: int) -> bool:
        try:
            self._opened(self._paths[position])
        except Exception:
            return False
        return True


def readable(paths: Sequence[Path], workers: int, opened: Opener) -> NDArray[np.bool_]:
    """Which of the N files can be decoded, (N,); `workers` processes read them."""
    batches = torch.split(torch.arange(len(paths)), CHECKED_AT_ONCE)
    loader = DataLoader(
        _Check(paths, opened),
        batch_sampler=[index.tolist() for index in batches],
        num_workers=workers,
    )
    shown = watched(loader, "reading all images", len(batches), len(paths))
    return torch.cat([found.bool() for found in shown]).numpy()


class DiskImages:
    """`Images` of N files; `workers` processes decode the batches ahead (0: this one does).

    normalisation: mean and standard deviation of the three channels, of pixels in [0, 1].
    """

    evaluation_batch = 128

    def __init__(
        self,
        paths: Sequence[Path],
        device: torch.device,
        workers: int,
        opened: Opener,
        normalisation: tuple[Sequence[float], Sequence[float]],
    ) -> None:
        self._files, self._workers, self.device = _Files(paths, opened), workers, device
        self.side = CROP
        mean, std = (
            torch.tensor(values, device=device)[None, :, None, None] for values in normalisation
        )
        self._scale, self._shift = 1.0 / (255.0 * std), mean / std
        self._count = len(paths)

    def __len__(self) -> int:
        return self._count

    def plain(self, batches: Sequence[Tensor], ranks: Ranks = ALONE) -> Iterator[Tensor]:
        return self._batches(batches, None, ranks)

    def views(self, batches: Sequence[Tensor], seed: int, ranks: Ranks = ALONE) -> Iterator[Tensor]:
        return self._batches(batches, seed, ranks)

    def _batches(
        self, batches: Sequence[Tensor], seed: int | None, ranks: Ranks
    ) -> Iterator[Tensor]:
        items = [[(position, seed) for position in ranks.part(index).tolist()] for index in batches]
        loader = DataLoader(
            self._files,
            batch_sampler=items,
            num_workers=self._workers,
            pin_memory=self.device.type == "cuda",
        )
        try:
            for pixels in loader:
                images = pixels.to(self.device, non_blocking=True).to(
                    torch.float32, memory_format=torch.channels_last
                )
                yield images.mul_(self._scale).sub_(self._shift)
        except DatasetError as error:  # a worker's arrives with its whole traceback
            raise DatasetError(str(error).rpartition("DatasetError: ")[2].strip()) from error

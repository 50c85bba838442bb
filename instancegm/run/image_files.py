"""Images that stay on disk: decoded by worker processes that live for the whole run.

In training the shorter side is resized to 256, RandomCrop(224) and a random mirror follow; else the
centre 224 x 224 is taken (torchvision's Resize, RandomCrop, RandomHorizontalFlip, CenterCrop). A
worker sends only the crops, as uint8. What it draws follows from the seed of the epoch and the
place of the image in it, so that the number of workers changes nothing.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, tee
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from instancegm.method.images import Batch
from instancegm.method.ranks import ALONE, Ranks
from instancegm.run.image_store import ImageStore
from shared.datasets.decoding import open_rgb
from shared.datasets.image_data import DatasetError

SHORTER_SIDE, CROP = 256, 224
SKIP = "add --skip_broken, which leaves out and names every image that cannot be read"
# A sample, how many views of it (0: the centre), and the seed of these
Item = tuple[int, int, tuple[int, ...]]


def read(path: Path, upright: bool) -> NDArray[np.uint8]:
    """The picture (H, W, 3) with its shorter side at 256.

    upright: as its EXIF data say. Raises DatasetError.
    """
    try:
        if upright:
            image = open_rgb(path)
        else:
            with Image.open(path) as file:
                image = file.convert("RGB")
    except DatasetError:
        raise
    except Exception as error:  # Pillow's decoders raise whatever they like
        raise DatasetError(
            f"{path} cannot be read ({error}): get the file again, or {SKIP}"
        ) from error
    width, height = (SHORTER_SIDE * side // min(image.size) for side in image.size)
    return np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))


class _Crops(Dataset[Tensor]):
    """Item -> its crops (V, 3, 224, 224) uint8; V is 1 for the centre."""

    def __init__(
        self, paths: Sequence[Path], upright: bool, flip: bool, store: ImageStore | None
    ) -> None:
        self._paths, self._upright, self._flip, self._store = paths, upright, flip, store

    def __getitem__(self, item: Item) -> Tensor:
        position, views, seed = item
        picture = (
            read(self._paths[position], self._upright)
            if self._store is None
            else self._store[position]
        )
        height, width = picture.shape[:2]
        if not views:
            # As torchvision's CenterCrop, which rounds half to even.
            crops = [_crop(picture, round((height - CROP) / 2), round((width - CROP) / 2))]
        else:
            random = np.random.default_rng(seed)
            crops = []
            for _ in range(views):
                top, left = random.integers((height - CROP + 1, width - CROP + 1))
                crop = _crop(picture, top, left)
                mirrored = random.random() < 0.5 and self._flip
                crops.append(crop[:, ::-1] if mirrored else crop)
        return torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2)


def _crop(picture: NDArray[np.uint8], top: int, left: int) -> NDArray[np.uint8]:
    return picture[top : top + CROP, left : left + CROP]


def _collate(crops: list[Tensor]) -> Tensor:
    """(B, V, 3, 224, 224); of an empty batch (0, 0, ...)."""
    return torch.stack(crops) if crops else torch.empty(0, 0, 3, CROP, CROP)


class _Plan(Sampler[list[Item]]):
    """The batches that the workers decode next; replaced before every pass."""

    items: Iterable[list[Item]] = ()

    def __iter__(self) -> Iterator[list[Item]]:
        return iter(self.items)


class FilePool:
    """The decoding processes of a run and all its files; one pass at a time.

    workers: how many processes (0: this one); upright: turn pictures as their EXIF data say; flip:
    mirror half of the crops for training.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        device: torch.device,
        workers: int,
        *,
        upright: bool,
        flip: bool = True,
        store: ImageStore | None = None,
    ) -> None:
        self.device = device
        self._plan = _Plan()
        self._loader = DataLoader(
            _Crops(paths, upright, flip, store),
            batch_sampler=self._plan,
            num_workers=workers,
            collate_fn=_collate,
            persistent_workers=workers > 0,
            pin_memory=device.type == "cuda",
            generator=torch.Generator(),  # not torch's global one, from which dropout draws
        )

    def decoded(self, batches: Iterable[list[Item]]) -> Iterator[Tensor]:
        """Crops (B, V, 3, 224, 224) uint8 of each batch on the device, decoded ahead."""
        self._plan.items = batches
        try:
            for crops in self._loader:
                yield crops.to(self.device, non_blocking=True)
        except DatasetError as error:  # a worker's arrives with its whole traceback
            raise DatasetError(str(error).rpartition("DatasetError: ")[2].strip()) from error


class FileImages:
    """`Images` (method/images.py): `count` files of the pool, from position `first` on."""

    evaluation_batch = 128

    def __init__(self, pool: FilePool, first: int, count: int) -> None:
        self._pool, self._first, self._count = pool, first, count
        self.device, self.index_device = pool.device, torch.device("cpu")

    def __len__(self) -> int:
        return self._count

    def plain(self, indices: Sequence[Tensor]) -> Iterator[Tensor]:
        items: Iterator[list[Item]] = (
            [(self._first + i, 0, ()) for i in index.tolist()] for index in indices
        )
        return (_to_float(crops[:, 0]) for crops in self._pool.decoded(items))

    def views(
        self,
        streams: Sequence[Iterable[Tensor]],
        counts: Sequence[int],
        seed: int,
        ranks: Ranks = ALONE,
    ) -> Iterator[tuple[Batch, ...]]:
        planned, served = tee(zip(*streams))

        def plan() -> Iterator[list[Item]]:
            for step, indices in enumerate(planned):
                for stream, (index, count) in enumerate(zip(indices, counts)):
                    rows = list(enumerate(index.tolist() if count else []))[ranks.rows(len(index))]
                    yield [(self._first + i, count, (seed, step, stream, row)) for row, i in rows]

        batches = (
            Batch(
                index.to(self.device, non_blocking=True),
                [_to_float(view) for view in crops.unbind(1)],
            )
            for crops, index in zip(self._pool.decoded(plan()), chain.from_iterable(served))
        )
        in_order: list[Iterator[Any]] = [batches] * len(streams)
        yield from zip(*in_order)


def _to_float(crops: Tensor) -> Tensor:
    """(B, 3, H, W) uint8 to float32 in [0, 1]."""
    return crops.to(torch.float32, memory_format=torch.channels_last).div_(255.0)


class _Pictures(Dataset[NDArray[np.uint8] | None]):
    """Whole pictures (H, W, 3) uint8; None for one that cannot be read."""

    def __init__(self, paths: Sequence[Path], upright: bool) -> None:
        self._paths, self._upright = paths, upright

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, position: int) -> NDArray[np.uint8] | None:
        try:
            return read(self._paths[position], self._upright)
        except DatasetError:
            return None


def pictures(
    paths: Sequence[Path], workers: int, upright: bool
) -> Iterator[NDArray[np.uint8] | None]:
    """Every file as `read` gives it, None where it is broken; decoded by so many processes."""
    loader: DataLoader[NDArray[np.uint8] | None] = DataLoader(
        _Pictures(paths, upright), batch_size=None, num_workers=workers, collate_fn=_as_it_is
    )
    yield from loader


def _as_it_is(picture: Any) -> Any:
    return picture  # torch would make a tensor of it

"""Your own pictures, of `--dataset folder`: in memory at 32 x 32 pixels, or as files.

    data = load("my_images", Wishes(side=224, labels=Path("labels.csv")))

`shared.datasets.image_folder` says what a folder can look like. There may be no test images; then
a part of the training images can be held out (`held_out`).
"""

import os
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shared import datasets
from shared.datasets import image_folder
from shared.datasets.decoding import NAMED, open_rgb
from shared.datasets.image_data import DatasetError, ImageData, ImageFiles
from shared.datasets.progress import watched
from shared.errors import printable
from shared.formats.alignment import hold_out

MEMORY_SIDE = 32  # pixels of a side, up to which all pictures are decoded at the start


@dataclass(frozen=True)
class Wishes:
    """What the flags say about your own pictures."""

    side: int = MEMORY_SIDE  # pixels that the network is made for
    labels: Path | None = None  # a CSV
    val_fraction: float | None = None  # of the training images, held out for testing
    skip_broken: bool = False  # leave out pictures that cannot be read
    cache_dir: Path | None = None  # where decoded pictures are kept

    def given(self) -> list[str]:
        """The flags that are for own pictures alone, as far as they are given."""
        known = {
            "--labels": self.labels,
            "--val_fraction": self.val_fraction,
            "--skip_broken": self.skip_broken or None,
            "--cache_dir": self.cache_dir,
        }
        return [flag for flag, value in known.items() if value is not None]


NO_WISHES = Wishes()


def load(path: str | Path | None, wishes: Wishes) -> ImageData | ImageFiles:
    """The pictures at `path` (None: $DATA_ROOT or data/), in memory or as files by `wishes.side`.

    Raises DatasetError.
    """
    data: ImageData | ImageFiles
    if wishes.side > MEMORY_SIDE:
        data = _files(datasets.data_root(path), wishes)
    else:
        data = datasets.load(
            "folder",
            path,
            labels=wishes.labels,
            skip_broken=wishes.skip_broken,
            cache_dir=wishes.cache_dir,
        )
        better = "--network_name=resnet50 (resnet50v1 with --pretrained=imagenet) trains at 224"
        if note := image_folder.note_on_size(data, better):
            print(f"note: {note}")
    if wishes.val_fraction is not None and len(data.test_labels):
        raise DatasetError(
            f"{datasets.data_root(path)} has test images: leave out --val_fraction, which holds "
            "out training images to test on"
        )
    return data


def held_out(
    clean: NDArray[np.int64], fraction: float, seed: int, made_here: bool
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Positions that train and positions that test, of labels (M,), with a note about the latter.

    made_here: the noise comes on top of these labels, which pass for clean. Raises NoiseFileError
    for a fraction that cannot be.
    """
    kept, out = hold_out(clean, fraction, seed)
    how = (
        "as they are in the folder, without the noise"
        if made_here
        else "the given ones, which nobody has checked here: an accuracy is how often they agree"
    )
    print(f"note: {len(out):,} of {len(clean):,} images are held out to test on; labels: {how}")
    return kept, out


def _files(root: Path, wishes: Wishes) -> ImageFiles:
    if root.is_file():
        raise DatasetError(
            f"{root} is a file of arrays, and this network takes crops of pictures of any size: "
            "give a folder of them, or choose a network for small images, such as "
            "--network_name=wrn28-2"
        )
    data = image_folder.load_files(root, labels=wishes.labels)
    if not wishes.skip_broken:
        return data
    train, test = (_readable(root, files) for files in (data.train_files, data.test_files))
    if not len(train):
        raise DatasetError(f"no training picture of {root} can be read: is its disk there?")
    return replace(
        data,
        train_files=[data.train_files[row] for row in train],
        train_labels=data.train_labels[train],
        test_files=[data.test_files[row] for row in test],
        test_labels=data.test_labels[test],
    )


def _readable(root: Path, files: Sequence[str]) -> NDArray[np.int64]:
    """Ascending positions of the pictures that can be decoded; the others are named and counted."""
    broken: dict[int, str] = {}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        faults = pool.map(lambda name: _fault(root / name), files)
        for row, fault in enumerate(watched(faults, len(files), f"reading {root}")):
            if fault:
                broken[row] = fault
    if broken:
        lines = [f"\n  {fault}" for fault in list(broken.values())[:NAMED]]
        more = f"\n  and {len(broken) - NAMED:,} more" if len(broken) > NAMED else ""
        text = f"{len(broken):,} of {len(files):,} pictures of {root} cannot be read and are left"
        print(printable(f"{text} out:{''.join(lines)}{more}"), file=sys.stderr)
    return np.array([row for row in range(len(files)) if row not in broken], np.int64)


def _fault(file: Path) -> str:
    try:
        open_rgb(file)
    except DatasetError as error:
        return f"{file} ({error.__cause__})"
    return ""

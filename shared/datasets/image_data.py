"""What every reader of a classification dataset returns, and the one error they raise."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shared.errors import UserError


class DatasetError(UserError):
    """A dataset is missing, damaged or laid out wrongly; says what, where it was, and the fix."""


@dataclass(frozen=True)
class ImageData:
    """A dataset in memory.

    N training and M test images (M may be 0: no test set), H x W pixels, C classes; the order of
    samples is fixed.
    """

    name: str
    train_images: NDArray[np.uint8]  # (N, H, W, 3)
    train_labels: NDArray[np.int64]  # (N,) in [0, C)
    test_images: NDArray[np.uint8]  # (M, H, W, 3)
    test_labels: NDArray[np.int64]  # (M,) in [0, C)
    class_names: tuple[str, ...]
    location: Path | None  # folder (or file) the data was read from; None for embedded data
    train_names: tuple[str, ...] = ()  # (N,) file names, below the folder of training images

    @property
    def num_classes(self) -> int:
        return len(self.class_names)


@dataclass(frozen=True)
class ImageFiles:
    """A dataset too large for memory: files and labels.

    N training, V validation and M test images, of which V and M may be 0, C classes.
    """

    name: str
    root: Path  # the folder that all file names are relative to
    train_files: list[str]  # N names, with / between folders
    train_labels: NDArray[np.int64]  # (N,) in [0, C)
    val_files: list[str]
    val_labels: NDArray[np.int64]  # (V,) in [0, C)
    test_files: list[str]
    test_labels: NDArray[np.int64]  # (M,) in [0, C)
    class_names: tuple[str, ...]

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @property
    def train_names(self) -> tuple[str, ...]:
        """train_files, under the name that ImageData has for them."""
        return tuple(self.train_files)

"""Every classification dataset by name: where it lives, how it is fetched, how it is read into arrays.

    data = datasets.load("cifar10")          # uint8 images (N, H, W, 3), int64 labels; never downloads
    datasets.fetch("cifar10")                # find it, or download and unpack it (`make data-cifar10`)

Names: `cifar10`, `cifar100`; `digits`, 1,797 real handwritten digits that come with scikit-learn; `folder`, your own
images (an image folder or an `.npz` file, see `shared.image_folder`).
"""

import os
from pathlib import Path

import numpy as np

from shared import cifar
from shared.cifar import CIFAR10, CIFAR100, CifarFiles
from shared.image_data import DatasetError, ImageData

__all__ = ["NAMES", "DatasetError", "ImageData", "data_root", "fetch", "load"]

CIFAR: dict[str, CifarFiles] = {"cifar10": CIFAR10, "cifar100": CIFAR100}
NAMES: tuple[str, ...] = ("cifar10", "cifar100", "digits", "folder")
_REPOSITORY = Path(__file__).resolve().parents[1]


def data_root(path: str | Path | None = None) -> Path:
    """The folder that holds datasets: `path` if given, else $DATA_ROOT, else `data` under the repository root."""
    if path is not None:
        return Path(path).expanduser()
    return Path(os.environ.get("DATA_ROOT") or _REPOSITORY / "data").expanduser()


def load(name: str, path: str | Path | None = None, *, image_size: int = 32) -> ImageData:
    """The dataset `name` from `path` (default: data_root()); what is missing is an error, never a download.

    image_size: pixels per side of a `folder` dataset, whose images are resized to it; the others are always 32.
    Raises DatasetError.
    """
    _check_name(name)
    if image_size != 32 and name != "folder":
        raise DatasetError(f"{name} has 32 x 32 images, not {image_size}; image_size is for the dataset `folder`")
    if name == "digits":
        return load_digits()
    if name == "folder":
        raise DatasetError("not yet")
    return _load_cifar(CIFAR[name], data_root(path))


def fetch(name: str, path: str | Path | None = None) -> Path:
    """Where the dataset is, after getting it if need be. Embedded data and users' own folders need nothing."""
    _check_name(name)
    root = data_root(path)
    if name not in CIFAR:
        return root
    return load(name, path).location or root


def _check_name(name: str) -> None:
    if name not in NAMES:
        raise DatasetError(f"unknown dataset {name!r}; choose one of {', '.join(NAMES)}")


def _load_cifar(spec: CifarFiles, root: Path) -> ImageData:
    wrong: list[str] = []
    for folder in cifar.folders_with_files(spec, root):
        try:
            return cifar.read_folder(spec, folder)
        except cifar.WrongFileError as error:
            wrong.append(str(error))
    raise DatasetError(_missing_message(spec, root, wrong))


def _missing_message(spec: CifarFiles, root: Path, wrong: list[str]) -> str:
    found = "".join(f"\n  found, but refused: {problem}" for problem in wrong)
    place = root.absolute()
    exists = "" if root.exists() else " (which does not exist)"
    return f"""{spec.title} is missing: {", ".join(spec.files)} in one folder, or {spec.archive_name}.
Looked in {place}{exists} and its sub-folders, {cifar.SEARCH_DEPTH} levels down.{found}
Get it in one of three ways:
  1. make data-{spec.name}    (downloads {spec.megabytes} MB from {spec.url})
  2. put {spec.archive_name} into {place}    (it is checked and unpacked there)
  3. DATA_MIRROR=FOLDER_OR_URL make data-{spec.name}    (takes {spec.archive_name} from there)
Data in another place: pass its path (--data_path), or set DATA_ROOT."""


def load_digits() -> ImageData:
    """The 1,797 digits of scikit-learn as 32 x 32 RGB; of every class, every fifth sample is a test sample."""
    from sklearn.datasets import load_digits as sklearn_digits  # slow to import, and most runs do not need it

    digits = sklearn_digits()
    grey = (digits.images.astype(np.int64) * 255 // 16).astype(np.uint8)  # (1797, 8, 8), 0..16 in the original
    images = np.repeat(grey.repeat(4, axis=1).repeat(4, axis=2)[..., None], 3, axis=3)
    labels = digits.target.astype(np.int64)
    is_test = np.zeros(len(labels), dtype=bool)
    for label in range(10):
        is_test[np.flatnonzero(labels == label)[4::5]] = True
    names = tuple(str(label) for label in range(10))
    return ImageData("digits", images[~is_test], labels[~is_test], images[is_test], labels[is_test], names, None)

"""Every classification dataset by name: where it lives, how it is fetched and read into arrays.

    data = datasets.load("cifar10")          # uint8 images (N, H, W, 3), int64 labels; never downloads
    datasets.fetch("cifar10")                # find it, or download and unpack it (`make data-cifar10`)

Names: `cifar10`, `cifar100`; `animal10n` (`shared.datasets.animal10n`); `digits`, 1,797 real
handwritten digits that come with scikit-learn; `folder`, your own images (an image folder or an
`.npz` file, see `shared.datasets.image_folder`). Those too large for memory are given as files and
labels by functions of their own, which FILE_READERS names. `shapes` has instances instead of
labels: fetch() generates its files (`shared.datasets.shapes`).
"""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from shared.datasets import (
    animal10n,
    cifar,
    clothing1m,
    download,
    food101n,
    image_folder,
    shapes,
    webvision,
)
from shared.datasets.cifar import CIFAR10, CIFAR100, CifarFiles
from shared.datasets.image_data import DatasetError, ImageData

__all__ = ["FILE_NAMES", "NAMES", "DatasetError", "ImageData", "data_root", "fetch", "load"]

CIFAR: dict[str, CifarFiles] = {"cifar10": CIFAR10, "cifar100": CIFAR100}
NAMES: tuple[str, ...] = ("cifar10", "cifar100", "animal10n", "digits", "folder")
FILE_READERS: dict[str, str] = {  # too large for memory: what gives their files and labels
    "clothing1m": "shared.datasets.clothing1m.load",
    "food101n": "shared.datasets.food101n.load",
    "webvision": "shared.datasets.webvision.load",
    "ilsvrc2012": "shared.datasets.webvision.load_ilsvrc2012",
}
FILE_NAMES: tuple[str, ...] = (
    *FILE_READERS,
    "shapes",
)  # to be found by fetch(), but not to be loaded into arrays
_FINDERS: dict[str, Callable[[Path], Path]] = {  # of what is not downloaded
    "animal10n": animal10n.find,
    "clothing1m": clothing1m.find,
    "food101n": food101n.find,
    "webvision": webvision.find,
    "ilsvrc2012": webvision.find_ilsvrc2012,
    "shapes": lambda root: shapes.write(root / "shapes"),
}
_ANY_SIZE = ("animal10n", "folder")  # image files, resized when read
_REPOSITORY = Path(__file__).resolve().parents[2]


def data_root(path: str | Path | None = None) -> Path:
    """The folder of datasets: `path` if given, else $DATA_ROOT, else `data` of the repository."""
    if path is not None:
        return Path(path).expanduser()
    return Path(os.environ.get("DATA_ROOT") or _REPOSITORY / "data").expanduser()


def load(name: str, path: str | Path | None = None, *, image_size: int = 32) -> ImageData:
    """The dataset `name` from `path` (default: data_root()); never downloads.

    image_size: pixels per side of `animal10n` and `folder`, whose images are resized to it; the
    others are always 32. Raises DatasetError.
    """
    _check_name(name, NAMES)
    if image_size != 32 and name not in _ANY_SIZE:
        raise DatasetError(
            f"{name} has 32 x 32 images, not {image_size}; image_size is for "
            f"{' and '.join(_ANY_SIZE)}"
        )
    if name == "digits":
        return load_digits()
    if name == "folder":
        return image_folder.load(data_root(path), image_size)
    if name == "animal10n":
        return animal10n.load(data_root(path), image_size)
    return _load_cifar(CIFAR[name], data_root(path))


def fetch(name: str, path: str | Path | None = None) -> Path:
    """Where the dataset is below `path` (default: data_root()), after fetching it if need be.

    Raises DownloadError when it could not be downloaded, DatasetError when what is there is
    damaged, or nothing is there and only a form or a letter gets it. Embedded data and users' own
    folders need no fetching: their root is returned.
    """
    _check_name(name, NAMES + FILE_NAMES)
    root = data_root(path)
    if name in _FINDERS:
        return _FINDERS[name](root)
    if name not in CIFAR:
        return root
    spec = CIFAR[name]
    if folder := _checked_folder(spec, root):
        return folder
    good = (
        archive for archive in cifar.archives(spec, root) if not _archive_problem(spec, archive)
    )
    archive = next(good, None) or download.fetch(
        spec.url, root / spec.archive_name, md5=spec.archive_md5
    )
    if not os.access(archive.parent, os.W_OK):  # load() reads it without unpacking
        return archive.parent
    folder = _unpack(spec, archive)
    cifar.check_folder(spec, folder)
    return folder


def _check_name(name: str, allowed: tuple[str, ...]) -> None:
    if name not in allowed:
        if name == "shapes":
            raise DatasetError(
                "shapes has instances, not one label per image: it is for noisy_instseg, as "
                "COCO-format files"
            )
        if name in FILE_NAMES:
            raise DatasetError(
                f"{name} is too large for memory: {FILE_READERS[name]} gives its files and labels"
            )
        raise DatasetError(f"unknown dataset {name!r}; choose one of {', '.join(allowed)}")


# ---- CIFAR


def _load_cifar(spec: CifarFiles, root: Path) -> ImageData:
    problems: list[str] = []
    for folder in cifar.folders_with_files(spec, root):
        try:
            return cifar.read_folder(spec, folder)
        except cifar.WrongFileError as error:
            problems.append(str(error))
    for archive in cifar.archives(spec, root):
        try:
            return _load_archive(spec, archive)
        except (cifar.WrongFileError, download.DownloadError) as error:
            problems.append(str(error))
    raise DatasetError(_missing_message(spec, root, problems))


def _load_archive(spec: CifarFiles, archive: Path) -> ImageData:
    if problem := _archive_problem(spec, archive):
        raise cifar.WrongFileError(
            f"{archive} is not the publisher's: {problem}. Delete it and get it again."
        )
    if not os.access(archive.parent, os.W_OK):
        return cifar.read_archive(spec, archive)
    return cifar.read_folder(spec, _unpack(spec, archive))


def _archive_problem(spec: CifarFiles, archive: Path) -> str | None:
    return download.Expected(md5=spec.archive_md5).problem(archive)


def _checked_folder(spec: CifarFiles, root: Path) -> Path | None:
    """The nearest folder with the publisher's files, checked; None where none has such names."""
    problem: cifar.WrongFileError | None = None
    for folder in cifar.folders_with_files(spec, root):
        try:
            cifar.check_folder(spec, folder)
            return folder
        except cifar.WrongFileError as error:
            problem = problem or error
    if problem:
        raise problem
    return None


def _unpack(spec: CifarFiles, archive: Path) -> Path:
    """Unpack `archive` beside itself; the folder that now holds the files."""
    failure: Exception = cifar.WrongFileError(f"{archive} does not hold {', '.join(spec.files)}")
    try:
        download.unpack(archive, archive.parent)
    except download.DownloadError as error:
        failure = error  # unless another process was faster and the files are there now
    for folder in cifar.folders_with_files(spec, archive.parent):
        return folder
    raise failure


def _missing_message(spec: CifarFiles, root: Path, problems: list[str]) -> str:
    refused = "".join(f"\n  found, but refused: {problem}" for problem in dict.fromkeys(problems))
    place = root.absolute()
    exists = "" if root.exists() else " (which does not exist)"
    return f"""{spec.title} is missing: {", ".join(spec.files)} in one folder, or {spec.archive_name}.
Looked in {place}{exists} and its sub-folders, {cifar.SEARCH_DEPTH} levels down.{refused}
Get it in one of three ways:
  1. make data-{spec.name}    (downloads {spec.megabytes} MB from {spec.url})
  2. put {spec.archive_name} into {place}    (it is checked and unpacked there)
  3. DATA_MIRROR=FOLDER_OR_URL make data-{spec.name}    (takes {spec.archive_name} from there)
Data in another place: pass its path (--data_path; of ieg_fsr --dataset_dir), or set DATA_ROOT."""


# ---- digits


def load_digits() -> ImageData:
    """scikit-learn's 1,797 digits as 32 x 32 RGB; of every class, every fifth is a test sample."""
    from sklearn.datasets import (
        load_digits as sklearn_digits,  # slow to import, and most runs do not need it
    )

    digits = sklearn_digits()
    grey = (digits.images.astype(np.int64) * 255 // 16).astype(
        np.uint8
    )  # (1797, 8, 8), 0..16 in the original
    images = np.repeat(grey.repeat(4, axis=1).repeat(4, axis=2)[..., None], 3, axis=3)
    labels = digits.target.astype(np.int64)
    is_test = np.zeros(len(labels), dtype=bool)
    for label in range(10):
        is_test[np.flatnonzero(labels == label)[4::5]] = True
    names = tuple(str(label) for label in range(10))
    return ImageData(
        "digits", images[~is_test], labels[~is_test], images[is_test], labels[is_test], names, None
    )

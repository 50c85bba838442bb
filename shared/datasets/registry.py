"""Every classification dataset by name: where it lives, how it is fetched and read into arrays.

    data = datasets.load("cifar10")      # uint8 images (N, H, W, 3), int64 labels; never downloads
    datasets.fetch("cifar10")            # find it, or download and unpack it (`make data-cifar10`)

Names: `cifar10`, `cifar100`; `animal10n` (`shared.datasets.animal10n`); `digits`, 1,797 real
handwritten digits that come with scikit-learn; `folder`, your own images (an image folder or an
`.npz` file, see `shared.datasets.image_folder`). `red_mini_imagenet` has a training set for each
noise rate, those too large for memory are given as files and labels: they have functions of their
own, which OWN_READERS names. `shapes` has instances instead of labels: fetch() generates its files
(`shared.datasets.shapes`).
"""

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from shared.datasets import (
    animal10n,
    cifar,
    clothing1m,
    download,
    folders,
    food101n,
    image_folder,
    red_mini_imagenet,
    shapes,
    webvision,
)
from shared.datasets.cifar import CIFAR10, CIFAR100, CifarFiles
from shared.datasets.image_data import DatasetError, ImageData, ImageFiles

__all__ = ["FILE_NAMES", "NAMES", "DatasetError", "ImageData", "data_root", "fetch", "load"]

CIFAR: dict[str, CifarFiles] = {"cifar10": CIFAR10, "cifar100": CIFAR100}
NAMES: tuple[str, ...] = ("cifar10", "cifar100", "animal10n", "digits", "folder")
# Too large for memory, with training labels: what gives their files and labels
LISTS: dict[str, Callable[[Path], ImageFiles]] = {
    "clothing1m": clothing1m.load,
    "food101n": food101n.load,
    "webvision": webvision.load,
}
# What load() does not read, and what does, for a message
OWN_READERS: dict[str, str] = {
    "red_mini_imagenet": "shared.datasets.red_mini_imagenet.load",
    "clothing1m": "shared.datasets.clothing1m.load",
    "food101n": "shared.datasets.food101n.load",
    "webvision": "shared.datasets.webvision.load",
    "ilsvrc2012": "shared.datasets.webvision.load_ilsvrc2012",
}
# To be found by fetch(), but not to be loaded into arrays
FILE_NAMES: tuple[str, ...] = (*OWN_READERS, "shapes")
# Of what is not downloaded
_FINDERS: dict[str, Callable[[Path], Path]] = {
    "animal10n": animal10n.find,
    "red_mini_imagenet": red_mini_imagenet.find,
    "clothing1m": clothing1m.find,
    "food101n": food101n.find,
    "webvision": webvision.find,
    "ilsvrc2012": webvision.find_ilsvrc2012,
    "shapes": lambda root: shapes.write(root / "shapes"),
}
_ANY_SIZE = ("animal10n", "folder")  # image files, resized when read


def data_root(path: str | Path | None = None) -> Path:
    """The folder of datasets: `path` if given, else $DATA_ROOT, else `data` of the repository."""
    if path is not None:
        return Path(path).expanduser()
    return Path(os.environ.get("DATA_ROOT") or folders.REPOSITORY / "data").expanduser()


def load(
    name: str,
    path: str | Path | None = None,
    *,
    image_size: int = 32,
    labels: Path | None = None,
    skip_broken: bool = False,
    cache_dir: Path | None = None,
) -> ImageData:
    """The dataset `name` from `path` (default: data_root()); never downloads.

    image_size: pixels per side of `animal10n` and `folder`, whose images are resized to it; the
    others are always 32. labels: of `folder`, a CSV `filename,label`. skip_broken, cache_dir: of
    picture files, see `decoding.read_images`; the others have none. Raises DatasetError.
    """
    _check_name(name, NAMES)
    if image_size != 32 and name not in _ANY_SIZE:
        raise DatasetError(
            f"{name} has 32 x 32 images, not {image_size}; image_size is for "
            f"{' and '.join(_ANY_SIZE)}"
        )
    _check_labels(name, labels)
    if name == "digits":
        return load_digits()
    if name == "folder":
        return image_folder.load(
            data_root(path),
            image_size,
            labels=labels,
            skip_broken=skip_broken,
            cache_dir=cache_dir,
        )
    if name == "animal10n":
        return animal10n.load(
            data_root(path), image_size, skip_broken=skip_broken, cache_dir=cache_dir
        )
    return _load_cifar(CIFAR[name], data_root(path))


def load_labels(
    name: str,
    path: str | Path | None = None,
    *,
    labels: Path | None = None,
    skip_broken: bool = False,
) -> ImageData | ImageFiles:
    """The dataset, for its labels; pictures of `folder` are opened only to skip broken ones.

    labels, skip_broken: see `load`.
    """
    _check_labels(name, labels)
    root = data_root(path)
    if name in LISTS:
        return LISTS[name](root)
    if name == "folder" and not root.is_file() and not skip_broken:
        return image_folder.load_files(root, labels=labels)
    return load(name, path, labels=labels, skip_broken=skip_broken)


def _check_labels(name: str, labels: Path | None) -> None:
    if labels is not None and name != "folder":
        raise DatasetError(
            f"--labels is for pictures of your own (--dataset folder): leave it out for {name}"
        )


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
    for archive in cifar.archives(spec, root):
        with contextlib.suppress(cifar.WrongFileError):
            return _use_archive(spec, archive).location or root
    archive = download.fetch(
        spec.url,
        root / spec.archive_name,
        md5=spec.archive_md5,
        sha256=spec.archive_sha256,
        size=spec.archive_bytes,
    )
    return _use_archive(spec, archive).location or root


def _check_name(name: str, allowed: tuple[str, ...]) -> None:
    if name not in allowed:
        if name == "shapes":
            raise DatasetError(
                "shapes has instances, not one label per image: it is for noisy_instseg, as "
                "COCO-format files"
            )
        if name in FILE_NAMES:
            why = (
                "has a training set for each rate"
                if name == red_mini_imagenet.NAME
                else ("is too large for memory")
            )
            raise DatasetError(f"{name} {why}: {OWN_READERS[name]} gives it")
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
            return _use_archive(spec, archive)
        except (cifar.WrongFileError, download.DownloadError) as error:
            problems.append(str(error))
    raise DatasetError(_missing_message(spec, root, problems))


def _use_archive(spec: CifarFiles, archive: Path) -> ImageData:
    """The dataset in an archive, which is unpacked beside itself if it is the publisher's."""
    if problem := download.Expected(md5=spec.archive_md5).problem(archive):
        try:
            return cifar.read_archive(spec, archive)  # somebody else's may hold the same data
        except cifar.WrongFileError as error:
            raise cifar.WrongFileError(
                f"{archive} is not the publisher's: {problem}; nor does it hold the same data: "
                f"{error}"
            ) from error
    if not os.access(archive.parent, os.W_OK):
        return cifar.read_archive(spec, archive)
    return cifar.read_folder(spec, _unpack(spec, archive))


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
    files, archive = ", ".join(spec.files), spec.archive_name
    command = folders.to_get(spec.name)
    refused = (f"but refused: {problem}" for problem in problems)
    ways = f"""Get it in one of three ways:
  1. {command}    (downloads {spec.megabytes} MB from {spec.url})
  2. put {archive} into {root.absolute()}    (it is checked and unpacked there)
  3. DATA_MIRROR=FOLDER_OR_URL {command}    (takes {archive} from there)"""
    wanted = f"{files} in one folder, or {archive}"
    return folders.missing(spec.title, wanted, root, cifar.SEARCH_DEPTH, refused, ways)


# ---- digits


def load_digits() -> ImageData:
    """scikit-learn's 1,797 digits as 32 x 32 RGB; of every class, every fifth is a test sample."""
    from sklearn import datasets  # slow to import, and most runs do not need it

    digits = datasets.load_digits()
    # (1797, 8, 8), 0..16 in the original
    grey = (digits.images.astype(np.int64) * 255 // 16).astype(np.uint8)
    images = np.repeat(grey.repeat(4, axis=1).repeat(4, axis=2)[..., None], 3, axis=3)
    labels = digits.target.astype(np.int64)
    is_test = np.zeros(len(labels), dtype=bool)
    for label in range(10):
        is_test[np.flatnonzero(labels == label)[4::5]] = True
    names = tuple(str(label) for label in range(10))
    return ImageData(
        "digits", images[~is_test], labels[~is_test], images[is_test], labels[is_test], names, None
    )

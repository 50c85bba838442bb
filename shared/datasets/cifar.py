"""CIFAR-10 and CIFAR-100 (Krizhevsky, "Learning Multiple Layers of Features", 2009): find and read.

The publisher's "python version": pickles of (n, 3072) uint8 rows, three 32 x 32 planes each.
Samples come in the order of torchvision (data_batch_1 .. data_batch_5), on which noise files
depend. A file is parsed only after its md5 matched the publisher's, and then by
`shared.formats.safe_pickle`.
"""

import hashlib
import os
import tarfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shared.datasets.image_data import DatasetError, ImageData
from shared.formats import safe_pickle

SEARCH_DEPTH = 4  # levels of sub-folders under the data folder that are looked into
_CHUNK = 1 << 20


@dataclass(frozen=True)
class CifarFiles:
    """What the publisher ships, and how to know it."""

    name: str  # as given to load()
    title: str
    url: str
    archive_md5: str
    megabytes: int  # of the archive
    train_files: tuple[str, ...]  # in torchvision's order
    test_files: tuple[str, ...]
    md5: dict[str, str]  # file name -> md5
    label_key: str
    class_names: tuple[str, ...]
    licence: str = "none stated by the publisher; cite Krizhevsky 2009"

    @property
    def archive_name(self) -> str:
        return self.url.rsplit("/", 1)[-1]

    @property
    def files(self) -> tuple[str, ...]:
        return self.train_files + self.test_files


class WrongFileError(DatasetError):
    """A file has the right name and the wrong content."""


def folders_with_files(spec: CifarFiles, root: Path) -> Iterator[Path]:
    """Folders at or below `root` that hold every file of the dataset by name, nearest first."""
    return (
        folder for folder in walk(root) if all((folder / name).is_file() for name in spec.files)
    )


def archives(spec: CifarFiles, root: Path) -> Iterator[Path]:
    """Copies of the publisher's archive at or below `root` (or `root` itself), nearest first."""
    if root.is_file() and root.name == spec.archive_name:
        yield root
    yield from (
        folder / spec.archive_name
        for folder in walk(root)
        if (folder / spec.archive_name).is_file()
    )


def walk(root: Path, depth: int = SEARCH_DEPTH) -> Iterator[Path]:
    """`root` and its sub-folders but hidden ones, breadth first, `depth` levels deep."""
    level = [root] if root.is_dir() else []
    for remaining in range(depth, -1, -1):
        yield from level
        if remaining:
            level = [child for folder in level for child in _sub_folders(folder)]


def _sub_folders(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            names = [
                e.name
                for e in entries
                if e.is_dir(follow_symlinks=False) and not e.name.startswith(".")
            ]
    except OSError:  # a folder we may not list cannot hold the data
        return []
    return [folder / name for name in sorted(names)]


def check_folder(spec: CifarFiles, folder: Path) -> None:
    """Raise WrongFileError, naming the first file of `folder` whose md5 is not the publisher's."""
    for name in spec.files:
        digest = hashlib.md5()
        with (folder / name).open("rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
        _check_md5(spec, folder / name, digest.hexdigest())


def read_folder(spec: CifarFiles, folder: Path) -> ImageData:
    """All images and labels from the unpacked files in `folder`."""
    return _read(spec, folder, lambda name: (folder / name).read_bytes())


def read_archive(spec: CifarFiles, archive: Path) -> ImageData:
    """The same without unpacking, for an archive on a read-only place."""
    contents: dict[str, bytes] = {}
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                name = Path(member.name).name
                if member.isfile() and name in spec.files and (file := tar.extractfile(member)):
                    contents[name] = file.read()
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        raise WrongFileError(
            f"{archive} is damaged ({error}): delete it and download it again"
        ) from error
    if missing := [name for name in spec.files if name not in contents]:
        raise WrongFileError(
            f"{archive} lacks {', '.join(missing)}: delete it and download it again"
        )
    return _read(spec, archive.parent, contents.__getitem__)


def _read(spec: CifarFiles, location: Path, content: Callable[[str], bytes]) -> ImageData:
    def split(names: tuple[str, ...]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        images, labels = zip(*(_read_batch(spec, location / name, content(name)) for name in names))
        return np.concatenate(images), np.concatenate(labels)

    train_images, train_labels = split(spec.train_files)
    test_images, test_labels = split(spec.test_files)
    return ImageData(
        spec.name, train_images, train_labels, test_images, test_labels, spec.class_names, location
    )


def _read_batch(
    spec: CifarFiles, path: Path, data: bytes
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """One batch file -> images (n, 32, 32, 3) uint8, labels (n,) int64.

    data: the content of `path`.
    """
    _check_md5(spec, path, hashlib.md5(data).hexdigest())
    batch = safe_pickle.loads(data)
    if not isinstance(batch, dict):
        raise WrongFileError(
            f"{path} holds a {type(batch).__name__}, not the dictionary of a {spec.title} batch"
        )
    rows, labels = batch.get("data"), np.asarray(batch.get(spec.label_key))
    if (
        not isinstance(rows, np.ndarray)
        or rows.dtype != np.uint8
        or rows.shape != (len(rows), 3072)
    ):
        raise WrongFileError(f"{path} has no (n, 3072) uint8 array named 'data'")
    if labels.shape != (len(rows),) or labels.dtype.kind != "i":
        raise WrongFileError(f"{path} has no list of {len(rows)} integers named '{spec.label_key}'")
    if labels.size and (labels.min() < 0 or labels.max() >= len(spec.class_names)):
        raise WrongFileError(f"{path} has labels outside 0..{len(spec.class_names) - 1}")
    images = rows.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(images), labels.astype(np.int64)


def _check_md5(spec: CifarFiles, path: Path, found: str) -> None:
    expected = spec.md5[path.name]
    if found != expected:
        raise WrongFileError(
            f"{path} is not the publisher's file: md5 {found}, expected {expected}. It is damaged "
            f"or edited; delete it and run `make data-{spec.name}`, or unpack {spec.archive_name} "
            "again."
        )


CIFAR10 = CifarFiles(
    name="cifar10",
    title="CIFAR-10",
    url="https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
    archive_md5="c58f30108f718f92721af3b95e74349a",
    megabytes=163,
    train_files=tuple(f"data_batch_{number}" for number in range(1, 6)),
    test_files=("test_batch",),
    md5={
        "data_batch_1": "c99cafc152244af753f735de768cd75f",
        "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
        "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
        "data_batch_4": "634d18415352ddfa80567beed471001a",
        "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
        "test_batch": "40351d587109b95175f43aff81a1287e",
    },
    label_key="labels",
    class_names=(
        "airplane",
        "automobile",
        "bird",
        "cat",
        "deer",
        "dog",
        "frog",
        "horse",
        "ship",
        "truck",
    ),
)

_CIFAR100_NAMES = """
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can castle
caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin elephant flatfish
forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree motorcycle
mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine
possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake spider squirrel streetcar
sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip turtle wardrobe whale
willow_tree wolf woman worm
"""  # alphabetical, as in the publisher's meta file

CIFAR100 = CifarFiles(
    name="cifar100",
    title="CIFAR-100",
    url="https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",
    archive_md5="eb9058c3a382ffc7106e4002c42a8d85",
    megabytes=161,
    train_files=("train",),
    test_files=("test",),
    md5={"train": "16019d7e3df5f24257cddd939b257f8d", "test": "f0ef6b0ae62326f3e7ffdfab6717acfc"},
    label_key="fine_labels",
    class_names=tuple(_CIFAR100_NAMES.split()),
)

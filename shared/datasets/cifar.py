"""CIFAR-10 and CIFAR-100 (Krizhevsky, "Learning Multiple Layers of Features", 2009): find and read.

The publisher's "python version": pickles of (n, 3072) uint8 rows, three 32 x 32 planes each.
Samples come in the order of torchvision (data_batch_1 .. data_batch_5), on which noise files
depend. A file whose md5 is not the publisher's is taken where images and labels of the whole
dataset are equal to the publisher's, or, of CIFAR-100, whose images have no known hash, the
training labels are, with a note; every file is parsed by `shared.formats.safe_pickle`.
"""

import hashlib
import lzma
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shared.datasets import folders
from shared.datasets.image_data import DatasetError, ImageData
from shared.errors import printable
from shared.files import array_hash
from shared.formats import safe_pickle
from shared.formats.noise_file import label_hash

SEARCH_DEPTH = 4  # levels of sub-folders under the data folder that are looked into
ARCHIVE_ENDINGS = (".tar.gz", ".tgz", ".tar", ".tar.bz2", ".tar.xz", ".zip")
MAX_BATCH_BYTES = 256 * 2**20
# CIFAR-100 repeats a few images, less than 2 %; a set with a part of it twice repeats far more.
LEAST_DISTINCT = 0.95


@dataclass(frozen=True)
class CifarFiles:
    """What the publisher ships, and how to know it."""

    name: str  # as given to load()
    title: str
    url: str
    archive_md5: str
    archive_sha256: str
    archive_bytes: int
    train_files: tuple[str, ...]  # in torchvision's order
    test_files: tuple[str, ...]
    md5: dict[str, str]  # file name -> md5
    label_key: str
    class_names: tuple[str, ...]
    # array_hash of training images and labels, test images and labels; None: not known
    content_sha256: str | None = None
    # label_hash of the training labels, for where nobody knows the content; None: not known
    train_labels_sha256: str | None = None
    test_images: int = 10_000  # as many of each class
    licence: str = "none stated by the publisher; cite Krizhevsky 2009"

    @property
    def archive_name(self) -> str:
        return self.url.rsplit("/", 1)[-1]

    @property
    def megabytes(self) -> int:
        return round(self.archive_bytes / 2**20)

    @property
    def archive_names(self) -> tuple[str, ...]:
        """What the archive, or one that somebody else packed, may be called."""
        stem = self.archive_name.removesuffix(".tar.gz")
        return tuple(stem + ending for ending in ARCHIVE_ENDINGS)

    @property
    def files(self) -> tuple[str, ...]:
        return self.train_files + self.test_files


# What tarfile and zipfile raise; RuntimeError is an encrypted member's.
_BROKEN_ARCHIVE = (
    tarfile.TarError,
    zipfile.BadZipFile,
    EOFError,
    zlib.error,
    lzma.LZMAError,
    OSError,
    RuntimeError,
)


class WrongFileError(DatasetError):
    """A file has the right name and the wrong content."""


def folders_with_files(spec: CifarFiles, root: Path) -> Iterator[Path]:
    """Folders at or below `root` that hold every file of the dataset by name, nearest first."""
    return (
        folder
        for folder in folders.walk(root, SEARCH_DEPTH)
        if all((folder / name).is_file() for name in spec.files)
    )


def archives(spec: CifarFiles, root: Path) -> Iterator[Path]:
    """Archives of the dataset at or below `root` (or `root` itself), nearest first."""
    if root.is_file() and root.name in spec.archive_names:
        yield root
    for folder in folders.walk(root, SEARCH_DEPTH):
        for name in spec.archive_names:
            if (folder / name).is_file():
                yield folder / name


def check_folder(spec: CifarFiles, folder: Path) -> None:
    """Raise WrongFileError unless the files are the publisher's, or hold the same data."""
    for name in spec.files:
        with (folder / name).open("rb") as file:
            digest = hashlib.file_digest(file, "md5").hexdigest()
        if digest != spec.md5[name]:
            read_folder(spec, folder)  # equal content will do
            return


def read_folder(spec: CifarFiles, folder: Path) -> ImageData:
    """All images and labels from the unpacked files in `folder`."""
    return _read(spec, folder, lambda name: (folder / name).read_bytes())


def read_archive(spec: CifarFiles, archive: Path) -> ImageData:
    """The same without unpacking, for an archive on a read-only place or packed by others."""
    try:
        contents = _contents(spec, archive)
    except _BROKEN_ARCHIVE as error:
        raise WrongFileError(
            f"{archive} is damaged ({error}): delete it and download it again"
        ) from error
    if missing := [name for name in spec.files if name not in contents]:
        raise WrongFileError(
            f"{archive} lacks {', '.join(missing)}: delete it and download it again"
        )
    return _read(spec, archive.parent, contents.__getitem__)


def _contents(spec: CifarFiles, archive: Path) -> dict[str, bytes]:
    """The dataset's files in a tar or zip archive, by name."""
    contents: dict[str, bytes] = {}
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as zipped:
            for info in zipped.infolist():
                name = Path(info.filename).name
                if name in spec.files and info.file_size <= MAX_BATCH_BYTES:
                    contents[name] = zipped.read(info)
        return contents
    with tarfile.open(archive) as tar:
        for member in tar:
            name = Path(member.name).name
            if name in spec.files and member.isfile() and member.size <= MAX_BATCH_BYTES:
                file = tar.extractfile(member)
                contents[name] = file.read() if file else b""
    return contents


def _read(spec: CifarFiles, location: Path, content: Callable[[str], bytes]) -> ImageData:
    wrong: list[WrongFileError] = []

    def batch(name: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        data, path = content(name), location / name
        digest = hashlib.md5(data).hexdigest()
        if digest == spec.md5[name]:
            return _read_batch(spec, path, data)
        error = _wrong(spec, path, digest)
        if spec.content_sha256 is None and spec.train_labels_sha256 is None:
            raise error  # nothing could make it good
        wrong.append(error)
        try:
            return _read_batch(spec, path, data)
        except (ValueError, TypeError):  # another layout, or damage
            raise error from None

    def split(names: tuple[str, ...]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        images, labels = zip(*map(batch, names))
        return np.concatenate(images), np.concatenate(labels)

    data = ImageData(
        spec.name, *split(spec.train_files), *split(spec.test_files), spec.class_names, location
    )
    if wrong:
        _check_content(spec, data, wrong[0])
    return data


def _check_content(spec: CifarFiles, data: ImageData, wrong: WrongFileError) -> None:
    """Raises `wrong` unless the data are the publisher's, as far as anybody can tell."""
    train, test = data.train_labels, data.test_labels
    if spec.content_sha256 is not None:
        if array_hash(data.train_images, train, data.test_images, test) != spec.content_sha256:
            raise wrong
        return
    if label_hash(train) != spec.train_labels_sha256:
        raise WrongFileError(f"{wrong} Its training labels are not {spec.title}'s, in its order.")
    of_each = np.bincount(test, minlength=len(spec.class_names))
    if len(test) != spec.test_images or len(np.unique(of_each)) > 1:
        raise WrongFileError(
            f"{wrong} {len(test):,} test labels, {of_each.min()} to {of_each.max()} of a class, "
            f"are not {spec.title}'s {spec.test_images:,}, as many of each."
        )
    images = (*data.train_images, *data.test_images)
    distinct = len({hash(image.tobytes()) for image in images})
    if distinct < LEAST_DISTINCT * len(images):
        raise WrongFileError(f"{wrong} Only {distinct:,} of its {len(images):,} images differ.")
    note = (
        f"note: the files in {data.location} are not the publisher's, but have {spec.title}'s "
        "training labels in its order. Nothing here could check the images and the test labels: "
        f"`{folders.to_get(spec.name)}` gets the publisher's"
    )
    print(printable(note), file=sys.stderr)


def _read_batch(
    spec: CifarFiles, path: Path, data: bytes
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """One batch file -> images (n, 32, 32, 3) uint8, labels (n,) int64.

    data: the content of `path`.
    """
    batch = safe_pickle.loads(data)
    if not isinstance(batch, dict):
        raise WrongFileError(
            f"{path} holds a {type(batch).__name__}, not the dictionary of a {spec.title} batch"
        )
    # Who repacked it may have kept Python 2's strings as bytes.
    batch = {key.decode() if isinstance(key, bytes) else key: batch[key] for key in batch}
    rows, labels = batch.get("data"), np.asarray(batch.get(spec.label_key))
    if not isinstance(rows, np.ndarray) or rows.dtype != np.uint8 or rows.shape[1:] != (3072,):
        raise WrongFileError(f"{path} has no (n, 3072) uint8 array named 'data'")
    if labels.shape != (len(rows),) or labels.dtype.kind != "i":
        raise WrongFileError(f"{path} has no list of {len(rows)} integers named '{spec.label_key}'")
    if labels.size and (labels.min() < 0 or labels.max() >= len(spec.class_names)):
        raise WrongFileError(f"{path} has labels outside 0..{len(spec.class_names) - 1}")
    images = rows.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(images), labels.astype(np.int64)


def _wrong(spec: CifarFiles, path: Path, found: str) -> WrongFileError:
    return WrongFileError(
        f"{path} is not the publisher's file: md5 {found}, expected {spec.md5[path.name]}. It is "
        f"damaged or edited; delete it and run `{folders.to_get(spec.name)}`, or unpack "
        f"{spec.archive_name} again."
    )


_CIFAR10_NAMES = "airplane automobile bird cat deer dog frog horse ship truck"

CIFAR10 = CifarFiles(
    name="cifar10",
    title="CIFAR-10",
    url="https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
    archive_md5="c58f30108f718f92721af3b95e74349a",
    archive_sha256="6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
    archive_bytes=170_498_071,
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
    content_sha256="d10443c4a155b0b27a03caf32dbc3b65aec9f40a127a1fbc496a9559187006aa",
    label_key="labels",
    class_names=tuple(_CIFAR10_NAMES.split()),
)

# Alphabetical, as in the publisher's meta file
_CIFAR100_NAMES = """
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly
camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup
dinosaur dolphin elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower
leopard lion lizard lobster man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid
otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine possum rabbit raccoon ray
road rocket rose sea seal shark shrew skunk skyscraper snail snake spider squirrel streetcar
sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip turtle
wardrobe whale willow_tree wolf woman worm
"""

CIFAR100 = CifarFiles(
    name="cifar100",
    title="CIFAR-100",
    url="https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",
    archive_md5="eb9058c3a382ffc7106e4002c42a8d85",
    archive_sha256="85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7",
    archive_bytes=169_001_437,
    train_files=("train",),
    test_files=("test",),
    md5={"train": "16019d7e3df5f24257cddd939b257f8d", "test": "f0ef6b0ae62326f3e7ffdfab6717acfc"},
    # The clean labels that re-sln's noise files and CIFAR-100N publish, which agree
    train_labels_sha256="8bf4935e7c77a3096270043c6f3b221b6ecb9c63d1a08608e9af66cff17e977a",
    label_key="fine_labels",
    class_names=tuple(_CIFAR100_NAMES.split()),
)

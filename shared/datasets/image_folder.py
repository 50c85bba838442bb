"""Users' own images: a folder of pictures, or an `.npz` of arrays (`shared.datasets.image_arrays`).

    data = image_folder.load(Path("pictures"), image_size=32)          # ImageData
    files = image_folder.load_files(Path("pictures"))                  # ImageFiles, nothing decoded

| in the folder | read as |
|---|---|
| `train/<class>/*.png`, `test/<class>/*.png` | training and test images |
| `train/<class>/*.png` alone | training images; the test part is empty |
| `<class>/*.png` | the same |
| any, with a CSV `filename,label` (`folder_labels`) | training images: those listed |

With a CSV and `test/<class>/` there are test images, too. Classes are the sorted names of the
folders, or of the CSV's labels; pictures come in sorted order, so that noise files stay valid, and
are named by their path below the folder of training images. Links are followed, folders below a
class folder belong to the class. Pictures are turned as their EXIF data say; 16-bit grey is scaled
to 8 bits. Of another size than the one asked for, the short side is resized to it (bilinear) and
the middle is cut out: a warning says how many pictures lose their edges.
"""

import statistics
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from shared.datasets import folder_labels, image_arrays
from shared.datasets.decoding import SUFFIXES, is_image, opened, read_images
from shared.datasets.folders import walk
from shared.datasets.image_data import DatasetError, ImageData, ImageFiles
from shared.errors import printable
from shared.labels import Labels

LARGE = 3  # times the size asked for: then most of a picture is lost
_OTHER_NAMES = ("val", "valid", "validation", "testing")  # that people give a test set
_PARTS = {"train", "training", "test", *_OTHER_NAMES, "eval", "dev"}
_NAMED = 3  # of the classes without a picture
_LOOKED_AT = 50  # pictures, by which the size of all is judged
_LAYOUT = (
    "expected train/<class>/*.png (and test/<class>/*.png), or <class>/*.png in the folder, or an "
    ".npz file of arrays; or list the labels of pictures in a CSV filename,label (--labels)"
)


@dataclass(frozen=True)
class _Part:
    """The pictures of a split; N of them."""

    folder: Path  # that the names are below
    files: list[Path]
    labels: Labels  # (N,) in [0, C)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(file.relative_to(self.folder).as_posix() for file in self.files)


def load(
    path: Path,
    image_size: int,
    *,
    labels: Path | None = None,
    skip_broken: bool = False,
    cache_dir: Path | None = None,
) -> ImageData:
    """The dataset of a folder or `.npz` file; images are (N, image_size, image_size, 3) uint8.

    labels: a CSV of labels. skip_broken, cache_dir: see `decoding.read_images`. Raises
    DatasetError.
    """
    if image_size < 1:
        raise DatasetError(f"image_size is {image_size}; it must be at least 1")
    if path.is_file():
        if labels is not None:
            raise DatasetError(f"{path} has its own labels: leave --labels out, or give a folder")
        return image_arrays.load(path, image_size)
    train, test, classes = _found(path, labels)
    arrays = []
    for part in (train, test):
        found = read_images(
            part.files, image_size, place=part.folder, skip_broken=skip_broken, cache_dir=cache_dir
        )
        all_names = part.names
        names = tuple(all_names[row] for row in found.rows)
        arrays.append((found.images, part.labels[found.rows], names))
    (train_images, train_labels, names), (test_images, test_labels, _) = arrays
    return ImageData(
        "folder", train_images, train_labels, test_images, test_labels, classes, path, names
    )


def load_files(path: Path, *, labels: Path | None = None) -> ImageFiles:
    """Files and labels of a folder of pictures, for those who decode them; none is opened.

    The validation part is empty, and the test part where there are no test images. labels: a CSV
    of labels. Raises DatasetError.
    """
    if path.is_file():
        raise DatasetError(
            f"{path} is a file, and here the pictures are read one by one: give a folder of them"
        )
    train, test, classes = _found(path, labels)
    train_files, test_files = (
        [file.relative_to(path).as_posix() for file in part.files] for part in (train, test)
    )
    none: Labels = np.zeros(0, np.int64)
    return ImageFiles(
        "folder", path, train_files, train.labels, [], none, test_files, test.labels, classes
    )


def large_pictures(files: Sequence[Path], image_size: int) -> int | None:
    """The median short side in pixels, if it is at least LARGE times image_size; else None.

    Only the headers of a few files are read, spread evenly; what cannot be read is passed over.
    """
    sides = []
    for position in np.linspace(0, len(files) - 1, min(len(files), _LOOKED_AT)).astype(int):
        try:
            with warnings.catch_warnings(action="ignore"), opened(files[position]) as picture:
                sides.append(min(picture.size))
        except Exception:  # Pillow's decoders raise whatever they like
            continue
    median = round(statistics.median(sides)) if sides else 0
    return median if sides and median >= LARGE * image_size else None


def note_on_size(data: ImageData, better: str) -> str | None:
    """A line for a run whose images are much smaller than the pictures of its folder, else None.

    better: what trains at their size, such as "train_real.py trains at 224".
    """
    place = data.location
    if place is None or not data.train_names:
        return None
    below = place / "train" if (place / "train" / data.train_names[0]).is_file() else place
    size = data.train_images.shape[1]
    side = large_pictures([below / name for name in data.train_names], size)
    return f"pictures of about {side} pixels are reduced to {size}: {better}" if side else None


# ---- what is where


def _found(path: Path, labels: Path | None) -> tuple[_Part, _Part, tuple[str, ...]]:
    """Training and test pictures and the names of the classes."""
    if not path.is_dir():
        raise DatasetError(
            f"{path.absolute()} does not exist: {_LAYOUT}; pass its path (--data_path)"
        )
    if labels is not None:
        return _listed(path, labels)
    if _folders(path / "train"):
        classes = tuple(_folders(path / "train"))
        _check_several(path / "train", classes)
        train = _labelled_files(path / "train", classes)
        return train, _test(path, classes, str(path / "train")), classes
    classes = tuple(_folders(path))
    _check_classes(path, classes)
    _check_several(path, classes)
    return _labelled_files(path, classes), _Part(path, [], np.zeros(0, np.int64)), classes


def _check_classes(path: Path, names: Sequence[str]) -> None:
    """Refuse folders at the root that are no classes; one that is called train may be vehicles."""
    if not names:
        raise DatasetError(f"{path.absolute()} has no class folders: {_LAYOUT}")
    parts = [name for name in names if name.lower() in _PARTS]
    if parts and (len(parts) == len(names) or any(_folders(path / name) for name in parts)):
        raise DatasetError(
            f"{path.absolute()} has {', '.join(parts)}, which looks like a part of a dataset, not "
            f"like a class: {_LAYOUT}"
        )


def _check_several(path: Path, names: Sequence[str]) -> None:
    """Refuse a single class, mostly the class folders one level too high."""
    if len(names) == 1:
        raise DatasetError(
            f"{path.absolute()} has one class, {names[0]}, so that there is nothing to learn: "
            + (
                f"if its folders are the classes, give {path.absolute() / names[0]} (--data_path)"
                if _folders(path / names[0])
                else "make a folder for each class, or list the labels of all pictures (--labels)"
            )
        )


def _test(path: Path, classes: Sequence[str], source: str) -> _Part:
    """The test pictures; none where there is no folder test. source: what names the classes."""
    folder = path / "test"
    if not _folders(folder):
        notes = [
            f"note: {path / name} is not read; to test on it, call or link it test"
            for name in _OTHER_NAMES
            if (path / name).is_dir()
        ]
        if folder.is_dir():
            notes = [f"note: {folder} has no class folders, so there is no test set"]
        for note in notes:
            print(printable(note), file=sys.stderr)
        return _Part(path, [], np.zeros(0, np.int64))
    if unknown := [name for name in _folders(folder) if name not in classes]:
        raise DatasetError(
            f"{folder} has classes that {source} lacks: {', '.join(unknown)}; the names must be "
            f"equal ({source} has {', '.join(classes)})"
        )
    return _labelled_files(folder, classes)


def _folders(path: Path) -> list[str]:
    """The sorted names of the folders in a folder, hidden ones left out; none without it."""
    inside = path.iterdir() if path.is_dir() else ()
    return sorted(child.name for child in inside if child.is_dir() and child.name[0] != ".")


def _labelled_files(folder: Path, classes: Sequence[str]) -> _Part:
    """Image files below `folder`, class by class."""
    files: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        if not (folder / name).is_dir():  # a class without test images
            continue
        found = _pictures(folder / name)
        if not found:
            raise DatasetError(
                f"{folder / name} has no images ({', '.join(sorted(SUFFIXES))}): add some or "
                "delete the folder"
            )
        files += found
        labels += [label] * len(found)
    return _Part(folder, files, np.array(labels, dtype=np.int64))


def _pictures(folder: Path) -> list[Path]:
    """All pictures at or below a folder, links followed, in sorted order."""
    found = sorted(path for place in walk(folder) for path in place.iterdir() if is_image(path))
    for path in found:
        try:
            str(path.relative_to(folder.parent)).encode()
        except UnicodeEncodeError as error:
            raise DatasetError(
                f"the name of {path} is not UTF-8, as from an old archive: rename it (convmv does "
                "that for a whole folder), since no table of results could hold it"
            ) from error
    return found


def _listed(path: Path, labels: Path) -> tuple[_Part, _Part, tuple[str, ...]]:
    """The pictures that a CSV labels, and those in class folders of test."""
    tested = path / "test"
    has_test = bool(_folders(tested))
    files = [file for file in _pictures(path) if not (has_test and tested in file.parents)]
    names = [file.relative_to(path).as_posix() for file in files]
    trained = path / "train"
    classes = _folders(trained) if trained.is_dir() else _folders(path)
    if has_test and not trained.is_dir():
        classes.remove("test")
    found = folder_labels.read(labels, names, classes)
    if unused := sorted(set(range(len(found.class_names))) - set(found.labels.tolist())):
        some = ", ".join(found.class_names[label] for label in unused[:_NAMED])
        more = f" and {len(unused) - _NAMED:,} more" if len(unused) > _NAMED else ""
        print(
            printable(
                f"note: no picture is labelled {some}{more} in {labels}, and still that counts as "
                "a class: numbers begin at 0"
            ),
            file=sys.stderr,
        )
    chosen = [files[row] for row in found.rows]
    if len(chosen) < len(files):
        print(
            printable(
                f"{len(files) - len(chosen):,} of {len(files):,} pictures of {path} are not "
                f"in {labels} and are left out"
            ),
            file=sys.stderr,
        )
    folder = trained if all(trained in file.parents for file in chosen) else path
    train = _Part(folder, chosen, found.labels)
    if not has_test:
        return train, _Part(path, [], np.zeros(0, np.int64)), found.class_names
    return train, _test(path, found.class_names, str(labels)), found.class_names

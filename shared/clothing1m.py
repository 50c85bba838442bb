"""Clothing1M (Xiao et al., CVPR 2015): a million pictures of clothes with labels from their surrounding texts.

    data = clothing1m.load("data")          # ImageFiles: file names and labels, no image is opened

Training labels are noisy (about 38 % wrong), those of the validation and test images were given by people. The lists of
the publisher are read (`<split>_key_list.txt`, one file name a line, and `noisy_label_kv.txt`, `clean_label_kv.txt`,
lines of file name and label), in `annotations` or beside it, or those of SLN's authors (`annotations/<split>.txt`, lines
of file name and label). File names are relative to the dataset's folder, or to `images` in it. The order is the lists'.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from shared.cifar import walk
from shared.image_data import DatasetError, ImageFiles
from shared.labels import Labels

ADDRESS = "https://github.com/Cysu/noisy_label"
CLASS_NAMES = (
    "T-Shirt", "Shirt", "Knitwear", "Chiffon", "Sweater", "Hoodie", "Windbreaker", "Jacket", "Downcoat", "Suit", "Shawl",
    "Dress", "Vest", "Underwear",
)  # fmt: skip
SEARCH_DEPTH = 2  # levels of sub-folders: deeper down there are thousands of folders of images
_SPLITS = {"noisy_train": "noisy_label_kv.txt", "clean_val": "clean_label_kv.txt", "clean_test": "clean_label_kv.txt"}
_KEY_LISTS = tuple(f"{split}_key_list.txt" for split in _SPLITS)
_PLAIN_LISTS = tuple(f"{split}.txt" for split in _SPLITS)
_OFFICIAL = (*_KEY_LISTS, *dict.fromkeys(_SPLITS.values()))

Samples = tuple[list[str], Labels]  # n file names, (n,) labels


def load(path: str | Path) -> ImageFiles:
    """Files and labels of the dataset at or below `path`; the first and the last file of each split must be there.

    Raises DatasetError, naming the list and the line that is wrong, or how to get the dataset.
    """
    folder = find(Path(path).expanduser())
    lists = next(place for place in _places(folder) if _is_complete(place))
    official = all((lists / name).is_file() for name in _OFFICIAL)
    splits = _official_lists(lists) if official else [_labelled(lists / name) for name in _PLAIN_LISTS]
    root = _image_root(folder, splits[0][0][0], lists)
    for files, _ in splits:
        for name in (files[0], files[-1]):
            if not (root / name).is_file():
                raise DatasetError(
                    f"{root / name} is missing, but a list in {lists} names it: unpack all image archives"
                )
    (train, train_labels), (val, val_labels), (test, test_labels) = splits
    return ImageFiles("clothing1m", root, train, train_labels, val, val_labels, test, test_labels, CLASS_NAMES)


def find(root: Path) -> Path:
    """The folder at or below `root` with complete lists, in it or in its `annotations`. Raises DatasetError."""
    partial: list[str] = []
    for folder in walk(root, SEARCH_DEPTH):
        for place in _places(folder):
            if _is_complete(place):
                return folder
            partial += _partly(place)
    raise DatasetError(_missing_message(root, partial))


def _places(folder: Path) -> tuple[Path, Path]:
    return folder / "annotations", folder


def _is_complete(place: Path) -> bool:
    return any(all((place / name).is_file() for name in names) for names in (_OFFICIAL, _PLAIN_LISTS))


def _partly(place: Path) -> list[str]:
    """What is missing of a set of lists of which something is there."""
    for names in (_OFFICIAL, _PLAIN_LISTS):
        missing = [name for name in names if not (place / name).is_file()]
        if len(missing) < len(names):
            return [f"\n  found {place}, but it lacks {', '.join(missing)}"]
    return []


def _missing_message(root: Path, partial: list[str]) -> str:
    place = root.absolute()
    exists = "" if root.exists() else " (which does not exist)"
    return f"""Clothing1M is missing: a folder with images/ and annotations/ in it.
Looked in {place}{exists} and its sub-folders, {SEARCH_DEPTH} levels down.{"".join(dict.fromkeys(partial))}
Its authors send the address on request, so nothing can download it:
  1. ask them by e-mail, see {ADDRESS}
  2. unpack it into {place / "clothing1m"}, so that there are
       clothing1m/images/0/00/*.jpg ...       (unpack 0.tar to 9.tar in images/)
       clothing1m/annotations/                with {", ".join(_OFFICIAL)}
     (or {", ".join(_PLAIN_LISTS)} of lines `file label`)
Data in another place: pass its path (--data_path), or set DATA_ROOT."""


def _image_root(folder: Path, first: str, lists: Path) -> Path:
    for root in (folder, folder / "images"):
        if (root / first).is_file():
            return root
    raise DatasetError(
        f"the images of Clothing1M are missing: {first}, the first in {lists}, is neither in {folder} nor in "
        f"{folder / 'images'}: unpack the image archives there"
    )


# ---- lists


def _official_lists(lists: Path) -> list[Samples]:
    """The publisher's: file names of each split, and the labels of all files."""
    labels = {name: dict(zip(*_labelled(lists / name))) for name in dict.fromkeys(_SPLITS.values())}
    return [_with_labels(lists / f"{split}_key_list.txt", labels[name], name) for split, name in _SPLITS.items()]


def _with_labels(path: Path, labels: dict[str, np.int64], source: str) -> Samples:
    files = []
    for number, line in _lines(path):
        if line not in labels:
            raise DatasetError(f"{path}, line {number}: {line} has no label in {source}: get both files again")
        files.append(line)
    return _checked(path, files), np.array([labels[name] for name in files], np.int64)


def _labelled(path: Path) -> Samples:
    """A list of lines `file label`."""
    files, labels = [], []
    for number, line in _lines(path):
        name, _, label = line.rpartition(" ")
        if not name or not (label.isascii() and label.isdigit()):
            raise DatasetError(f"{path}, line {number}: {line[:80]!r}, expected a file name and a label: get it again")
        if len(label) > 2 or int(label) >= len(CLASS_NAMES):
            raise DatasetError(
                f"{path}, line {number}: label {label[:20]}, expected 0 to {len(CLASS_NAMES) - 1}: get the list again"
            )
        files.append(name.rstrip())
        labels.append(int(label))
    return _checked(path, files), np.array(labels, np.int64)


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Number and text of each line that is not empty."""
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                if text := line.strip():
                    yield number, text
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path} is not a readable list ({error}): get it again") from error


def _checked(path: Path, files: list[str]) -> list[str]:
    if not files:
        raise DatasetError(f"{path} is empty, expected a file name a line: get it again")
    for name in files:
        if name.startswith("/") or (".." in name and ".." in name.split("/")):
            raise DatasetError(f"{path} names {name[:80]}, outside of the dataset: get it again")
    return files

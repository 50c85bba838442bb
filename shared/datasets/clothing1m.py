"""Clothing1M (Xiao et al., CVPR 2015): a million pictures of clothes, labels from the texts around.

    data = clothing1m.load("data")          # ImageFiles: file names and labels, no image is opened

Training labels are noisy (about 38 % wrong), those of the validation and test images were given by
people. The lists of the publisher are read (`<split>_key_list.txt`, one file name a line, and
`noisy_label_kv.txt`, `clean_label_kv.txt`, lines of file name and label), in `annotations` or
beside it, or those of SLN's authors (`annotations/<split>.txt`, lines of file name and label). File
names are relative to the dataset's folder, or to `images` in it; or `images/` is a part of the name
and the files lie in the dataset's folder, as InstanceGM has them. The order is the lists'.
"""

from pathlib import Path

import numpy as np

from shared.datasets import file_lists, folders
from shared.datasets.file_lists import Samples
from shared.datasets.folders import nearest
from shared.datasets.image_data import DatasetError, ImageFiles

ADDRESS = "https://github.com/Cysu/noisy_label"
CLASS_NAMES = (
    "T-Shirt",
    "Shirt",
    "Knitwear",
    "Chiffon",
    "Sweater",
    "Hoodie",
    "Windbreaker",
    "Jacket",
    "Downcoat",
    "Suit",
    "Shawl",
    "Dress",
    "Vest",
    "Underwear",
)
SEARCH_DEPTH = 2  # levels of sub-folders: deeper down there are thousands of folders of images
SELECTIONS = ("noisy_train", "clean_train", "cc")  # which images to train on
PREFIX = "images/"
CC_LISTS = ("cc_select_img.txt", "cc_select_label.txt")
CC_ADDRESS = "https://github.com/puar-playground/LRA-diffusion"


def load(path: str | Path, selection: str = "noisy_train") -> ImageFiles:
    """Files and labels of the dataset at or below `path`.

    The first and the last file of each split must be there.

    selection: one of SELECTIONS, the images to train on. "clean_train": the 47,570 that people
    labelled. "cc": the 738,160 that LRA-diffusion trains on, by `cc_select_img.txt` and
    `cc_select_label.txt` beside the other lists; the list of noisy ones is not needed then. Raises
    DatasetError, naming the list and the line that is wrong, or how to get what is missing.
    """
    folder = find(Path(path).expanduser(), selection)
    lists = next(place for place in _places(folder) if _is_complete(place, selection))
    names = _splits(selection)
    official = all((lists / name).is_file() for name in _official(names))
    splits = (
        _official_lists(lists, names)
        if official
        else [_labelled(lists / name) for name in _plain(names)]
    )
    if selection == "cc":
        splits = [_cc_lists(lists), *splits]
    root = _image_root(folder, splits[0][0][0], lists)
    if root is None:  # InstanceGM's layout: the lists say images/0/00/..., which lie in 0/00
        root = folder
        splits = [([name.removeprefix(PREFIX) for name in names], each) for names, each in splits]
    for files, _ in splits:
        file_lists.check_ends(root, files, f"a list in {lists} names it: unpack all image archives")
    (train, train_labels), (val, val_labels), (test, test_labels) = splits
    return ImageFiles(
        "clothing1m", root, train, train_labels, val, val_labels, test, test_labels, CLASS_NAMES
    )


def find(root: Path, selection: str = "noisy_train") -> Path:
    """The folder at or below `root` with complete lists, in it or in its `annotations`.

    Raises DatasetError.
    """
    if selection not in SELECTIONS:
        raise DatasetError(
            f"unknown selection {selection!r} of Clothing1M: choose one of {', '.join(SELECTIONS)}"
        )
    partial: list[str] = []
    for folder in folders.walk(root, SEARCH_DEPTH):
        for place in _places(folder):
            if _is_complete(place, selection):
                return folder
            partial += _partly(place, selection)
    partial += folders.packed(root, SEARCH_DEPTH, ("annotation", "clothing"))
    splits = _splits(selection)
    ways = f"""Its authors send the address on request, so nothing can download it:
  1. ask them by e-mail, see {ADDRESS}
  2. unpack it into {root.absolute() / "clothing1m"}, so that there are
       clothing1m/images/0/00/*.jpg ...       (unpack 0.tar to 9.tar in images/)
       clothing1m/annotations/                with {", ".join(_official(splits))}
     (or {", ".join(_plain(splits))} of lines `file label`)"""
    wanted = "a folder with images/ and annotations/ in it"
    raise DatasetError(folders.missing("Clothing1M", wanted, root, SEARCH_DEPTH, partial, ways))


def _splits(selection: str) -> list[str]:
    """The splits that the publisher's lists give; those of cc come from elsewhere."""
    return [*([] if selection == "cc" else [selection]), "clean_val", "clean_test"]


def _official(splits: list[str]) -> list[str]:
    return [*(f"{split}_key_list.txt" for split in splits), *dict.fromkeys(map(_labels_of, splits))]


def _plain(splits: list[str]) -> list[str]:
    return [f"{split}.txt" for split in splits]


def _labels_of(split: str) -> str:
    return f"{split.partition('_')[0]}_label_kv.txt"


def _places(folder: Path) -> tuple[Path, Path]:
    return folder / "annotations", folder


def _is_complete(place: Path, selection: str) -> bool:
    splits = _splits(selection)
    return any(
        all((place / name).is_file() for name in names)
        for names in (_official(splits), _plain(splits))
    )


def _partly(place: Path, selection: str) -> list[str]:
    """What is missing of a set of lists of which something is there."""
    splits = _splits(selection)
    for names in (_official(splits), _plain(splits)):
        missing = [name for name in names if not (place / name).is_file()]
        if len(missing) < len(names):
            return [f"{place}, but it lacks {', '.join(missing)}"]
    return []


def _image_root(folder: Path, first: str, lists: Path) -> Path | None:
    """What the names in the lists are relative to; None: to `folder`, but for PREFIX."""
    for root in (folder, folder / "images"):
        if (root / first).is_file():
            return root
    if (folder / first.removeprefix(PREFIX)).is_file():
        return None
    raise DatasetError(
        f"the images of Clothing1M are missing: {first}, the first in {lists}, is neither in "
        f"{folder} nor in {folder / 'images'} ({nearest(folder / 'images' / first)}): unpack the "
        "image archives, 0.tar to 9.tar, there"
    )


# ---- lists


def _official_lists(lists: Path, splits: list[str]) -> list[Samples]:
    """The publisher's: file names of each split, and the labels of all files."""
    labels = {
        name: dict(zip(*_labelled(lists / name))) for name in dict.fromkeys(map(_labels_of, splits))
    }
    return [
        _with_labels(lists / f"{split}_key_list.txt", labels[_labels_of(split)], _labels_of(split))
        for split in splits
    ]


def _with_labels(path: Path, labels: dict[str, np.int64], source: str) -> Samples:
    files = []
    for number, line in file_lists.lines(path):
        if line not in labels:
            raise DatasetError(
                f"{path}, line {number}: {line} has no label in {source}: get both files again"
            )
        files.append(line)
    return file_lists.checked(path, files), np.array([labels[name] for name in files], np.int64)


def _labelled(path: Path) -> Samples:
    return file_lists.labelled(path, len(CLASS_NAMES))


def _cc_lists(lists: Path) -> Samples:
    """The selection: two parallel lists, of file names and labels, or one of `file label`."""
    names, numbers = (lists / name for name in CC_LISTS)
    if not names.is_file():
        raise DatasetError(
            f"""the selection "cc" of Clothing1M is missing: {" and ".join(CC_LISTS)}.
Looked in {lists}.
They are 738,160 of the training images, chosen by "Centrality and Consistency", and come with
LRA-diffusion:
  copy them from Clothing1M/annotations of {CC_ADDRESS} into {lists}"""
        )
    if not numbers.is_file():
        return _labelled(names)
    files = file_lists.checked(names, [line for _, line in file_lists.lines(names)])
    labels = [
        file_lists.label(numbers, number, line, len(CLASS_NAMES))
        for number, line in file_lists.lines(numbers)
    ]
    if len(labels) != len(files):
        raise DatasetError(
            f"{names} has {len(files):,} lines, {numbers} {len(labels):,}: get both files again"
        )
    return files, np.array(labels, np.int64)

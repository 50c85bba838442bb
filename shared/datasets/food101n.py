"""Food-101N (Lee et al., CVPR 2018): 310,009 pictures of 101 dishes, about 20 % labelled wrongly.

The labels are those of a web search.

    data = food101n.load("data")          # ImageFiles: file names and labels, no image is opened

Test images are the 25,250 of Food-101 (Bossard et al., ECCV 2014), whose labels are clean.
Validation images are those of Food-101N that people found to be what their label says
(`verified_val.tsv`); every image of that list, right or wrong, is left out of training. Without
that file there are none. Orders are the lists'. One folder (Food101N, Food101N_data, or any other
name) holds both datasets as they are unpacked; file names are relative to it.
"""

from pathlib import Path

import numpy as np

from shared.datasets import file_lists, folders
from shared.datasets.file_lists import Samples
from shared.datasets.image_data import DatasetError, ImageFiles

ADDRESS = "https://kuanghuei.github.io/Food-101N/"
TEST_ADDRESS = "https://data.vision.ee.ethz.ch/cvl/datasets_extra/food-101/"
NUM_CLASSES = 101
SEARCH_DEPTH = 2  # levels of sub-folders: deeper down are the images
IMAGES, TEST_IMAGES = "Food-101N_release/images", "food-101/images"
CLASSES, IMAGE_LIST = "Food-101N_release/meta/classes.txt", "Food-101N_release/meta/imagelist.tsv"
VERIFIED_LIST = "Food-101N_release/meta/verified_val.tsv"
TEST_LIST = "food-101/meta/test.txt"
_NEEDED = (CLASSES, IMAGE_LIST, TEST_LIST)


def load(path: str | Path) -> ImageFiles:
    """Files and labels of the dataset at or below `path`.

    The first and the last file of each split must be there.

    Raises DatasetError, naming the list and the line that is wrong, or how to get what is missing.
    """
    root = find(Path(path).expanduser())
    class_names = _class_names(root / CLASSES)
    numbers = {name: number for number, name in enumerate(class_names)}
    verified = _verified(root / VERIFIED_LIST)
    listed = [line for line in _body(root / IMAGE_LIST) if line[1] not in verified]
    train = _samples(root / IMAGE_LIST, listed, numbers, IMAGES)
    right = [(number, name) for name, (number, label) in verified.items() if label]
    val = (
        _samples(root / VERIFIED_LIST, right, numbers, IMAGES)
        if right
        else ([], np.zeros(0, np.int64))
    )
    names = [(number, f"{name}.jpg") for number, name in file_lists.lines(root / TEST_LIST)]
    test = _samples(root / TEST_LIST, names, numbers, TEST_IMAGES)
    for files, _ in (train, val, test):
        file_lists.check_ends(root, files, "a list of the dataset names it: unpack all images")
    return ImageFiles("food101n", root, *train, *val, *test, class_names)


def find(root: Path) -> Path:
    """The folder at or below `root` that holds Food-101N_release and food-101 with their lists.

    Raises DatasetError.
    """
    partial: list[str] = []
    for folder in folders.walk(root, SEARCH_DEPTH):
        missing = [name for name in _NEEDED if not (folder / name).is_file()]
        if not missing:
            return folder
        if len(missing) < len(_NEEDED):
            partial.append(f"{folder}, but it lacks {', '.join(missing)}")
    partial += folders.packed(root, SEARCH_DEPTH, ("food",))
    ways = f"""It is in two parts:
  1. get Food-101N (training) from {ADDRESS}
  2. get Food-101 (test) from {TEST_ADDRESS}
  3. unpack both into {root.absolute() / "Food101N"}, so that there are
       Food101N/{CLASSES}
       Food101N/{IMAGE_LIST}
       Food101N/{VERIFIED_LIST}    (for validation)
       Food101N/{IMAGES}/<class>/*.jpg
       Food101N/{TEST_LIST}
       Food101N/{TEST_IMAGES}/<class>/*.jpg"""
    wanted = "a folder with Food-101N_release/ and food-101/ in it"
    raise DatasetError(folders.missing("Food-101N", wanted, root, SEARCH_DEPTH, partial, ways))


# ---- lists


def _body(path: Path) -> list[tuple[int, str]]:
    """Number and text of each line after the header."""
    return list(file_lists.lines(path))[1:]


def _class_names(path: Path) -> tuple[str, ...]:
    names = tuple(name for _, name in _body(path))
    if len(names) != NUM_CLASSES or len(set(names)) != NUM_CLASSES:
        raise DatasetError(
            f"{path} names {len(set(names))} classes in {len(names)} lines after its header, "
            f"expected {NUM_CLASSES} different ones: get it again"
        )
    return names


def _verified(path: Path) -> dict[str, tuple[int, bool]]:
    """Of each image of the list: the number of its line, and whether its label is right.

    Empty without the list.
    """
    found: dict[str, tuple[int, bool]] = {}
    for number, line in _body(path) if path.exists() else ():
        name, _, label = line.rpartition("\t")
        if not name or label not in ("0", "1"):
            raise DatasetError(
                f"{path}, line {number}: {line[:80]!r}, expected class/file, a tab and 0 or 1: "
                "get it again"
            )
        found[name.strip()] = number, label == "1"
    return found


def _samples(
    path: Path, listed: list[tuple[int, str]], numbers: dict[str, int], folder: str
) -> Samples:
    """Files below `folder` and labels for lines `class/file` of a list.

    numbers: class name -> label.
    """
    files, labels = [], []
    for number, name in listed:
        class_name, _, file = name.partition("/")
        if class_name not in numbers or not file:
            raise DatasetError(
                f"{path}, line {number}: {name[:80]!r}, expected <class>/<file> with a class of "
                f"{CLASSES}: get it again"
            )
        files.append(name)
        labels.append(numbers[class_name])
    return [f"{folder}/{name}" for name in file_lists.checked(path, files)], np.array(
        labels, np.int64
    )

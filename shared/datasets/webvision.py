"""Mini-WebVision (Li et al., "WebVision Database", 2017): web pictures of 50 classes of ImageNet.

    data = webvision.load("data")          # ImageFiles: file names and labels, no image is opened

Training images are those found by Google (about 66,000 of the first 50 classes; their labels are
noisy), validation images WebVision's own, labelled by people (2,500). Test images are those of
ILSVRC2012's validation set of the same classes (2,500) where a folder ILSVRC2012 stands beside
WebVision, else there are none. Papers report accuracies on both, and none has a further set to
select a model by. Orders are the lists'. File names are relative to the folder that holds
WebVision.
"""

from pathlib import Path

import numpy as np

from shared.datasets import file_lists, folders
from shared.datasets.file_lists import Samples
from shared.datasets.image_data import DatasetError, ImageFiles
from shared.labels import Labels

ADDRESS = "https://data.vision.ee.ethz.ch/cvl/webvision/dataset2017.html"
ILSVRC2012_ADDRESS = "https://image-net.org/challenges/LSVRC/2012/"
ALL_CLASSES = 1000
MINI_CLASSES = 50
SEARCH_DEPTH = 2  # levels of sub-folders: deeper down there are thousands of folders of images
VAL_IMAGES = "val_images_256"
_TRAIN_LIST, _VAL_LIST = "train_filelist_google.txt", "val_filelist.txt"
_ILSVRC2012_IMAGES, _ILSVRC2012_LIST = "ILSVRC2012_img_val", "ILSVRC2012_val_label.txt"


def load(path: str | Path, num_classes: int = MINI_CLASSES) -> ImageFiles:
    """Files and labels of the first C = num_classes classes of the dataset at or below `path`.

    The first and the last file of each split must be there. Raises DatasetError, naming the list
    and the line that is wrong, or how to get what is missing.
    """
    _check_number(num_classes)
    folder = find(Path(path).expanduser())
    root, reason = folder.absolute().parent, "a list of the dataset names it: unpack all images"
    train_list, val_list = (_list_path(folder, name) for name in (_TRAIN_LIST, _VAL_LIST))
    train = file_lists.first_classes(
        file_lists.labelled(train_list, ALL_CLASSES), num_classes, train_list
    )
    val_files, val_labels = file_lists.first_classes(
        file_lists.labelled(val_list, ALL_CLASSES), num_classes, val_list
    )
    val = (
        [
            name if name.startswith(f"{VAL_IMAGES}/") else f"{VAL_IMAGES}/{name}"
            for name in val_files
        ],
        val_labels,
    )
    train, val = _below(folder.absolute().name, train), _below(folder.absolute().name, val)
    test: Samples = [], np.zeros(0, np.int64)
    if (root / "ILSVRC2012" / _ILSVRC2012_IMAGES).is_dir():
        beside, files, labels = load_ilsvrc2012(root / "ILSVRC2012", num_classes)
        test = _below(beside.relative_to(root).as_posix(), (files, labels))
    for files, _ in (train, val):
        file_lists.check_ends(root, files, reason)
    return ImageFiles(
        "webvision", root, *train, *val, *test, tuple(f"class {i}" for i in range(num_classes))
    )


def load_ilsvrc2012(
    path: str | Path, num_classes: int = MINI_CLASSES
) -> tuple[Path, list[str], Labels]:
    """Root, n file names below it and labels (n,) of ILSVRC2012's validation set, first classes.

    Classes are numbered by their sorted synsets, as WebVision's. path: the folder, or one above.
    Raises DatasetError.
    """
    _check_number(num_classes)
    root = find_ilsvrc2012(Path(path).expanduser())
    source = root / _ILSVRC2012_LIST
    files, labels = [], []
    for number, line in file_lists.lines(source):
        cells = line.split()
        if len(cells) != 3:
            raise DatasetError(
                f"{source}, line {number}: {line[:80]!r}, expected a file name, a label and a "
                "synset: get it again"
            )
        files.append(cells[0])
        labels.append(file_lists.label(source, number, cells[1], ALL_CLASSES))
    samples = file_lists.checked(source, files), np.array(labels, np.int64)
    files, chosen = _below(
        _ILSVRC2012_IMAGES, file_lists.first_classes(samples, num_classes, source)
    )
    file_lists.check_ends(
        root, files, f"{source.name} names it: unpack all images of ILSVRC2012_img_val.tar"
    )
    return root, files, chosen


def _check_number(num_classes: int) -> None:
    if not 1 <= num_classes <= ALL_CLASSES:
        raise DatasetError(
            f"num_classes is {num_classes}: choose 1 to {ALL_CLASSES}; mini-WebVision has "
            f"{MINI_CLASSES}"
        )


def _below(folder: str, samples: Samples) -> Samples:
    return [f"{folder}/{name}" for name in samples[0]], samples[1]


# ---- where it is


def find(root: Path) -> Path:
    """The folder at or below `root` that holds info/train_filelist_google.txt and the other list.

    Raises DatasetError.
    """
    partial: list[str] = []
    for folder in folders.walk(root, SEARCH_DEPTH):
        missing = [
            f"info/{name}"
            for name in (_TRAIN_LIST, _VAL_LIST)
            if not _list_path(folder, name).is_file()
        ]
        if not missing and folder.name != "info":  # whose lists belong to the folder above
            return folder
        if len(missing) == 1 and folder.name != "info":
            partial.append(f"{folder}, but it lacks {missing[0]}")
    partial += folders.packed(root, SEARCH_DEPTH, ("webvision", "google", "val_images", "info"))
    place = root.absolute()
    ways = f"""It is large, so nothing downloads it:
  1. get version 1.0 from {ADDRESS}
     (resized images found by Google, validation images, information)
  2. unpack it into {place / "WebVision"}, so that there are
       WebVision/info/{_TRAIN_LIST} and {_VAL_LIST}
       WebVision/google/q0001/*.jpg ...
       WebVision/{VAL_IMAGES}/*.jpg
  3. for testing, put ILSVRC2012 beside it ({place / "ILSVRC2012"})"""
    wanted = "a folder WebVision with info/ and images in it"
    raise DatasetError(folders.missing("WebVision", wanted, root, SEARCH_DEPTH, partial, ways))


def _list_path(folder: Path, name: str) -> Path:
    """The list in `info`, or one level higher, where LRA-diffusion's repository has one of them."""
    return folder / name if (folder / name).is_file() else folder / "info" / name


def find_ilsvrc2012(root: Path) -> Path:
    """The folder at or below `root` that holds ILSVRC2012's validation images and their labels.

    Raises DatasetError.
    """
    partial: list[str] = []
    for folder in folders.walk(root, SEARCH_DEPTH):
        missing = [
            name for name in (_ILSVRC2012_IMAGES, _ILSVRC2012_LIST) if not (folder / name).exists()
        ]
        if not missing:
            return folder
        if len(missing) == 1:
            partial.append(f"{folder}, but it lacks {missing[0]}")
    partial += folders.packed(root, SEARCH_DEPTH, ("ilsvrc2012",))
    place = root.absolute() / "ILSVRC2012" / _ILSVRC2012_IMAGES
    ways = f"""Its publisher asks for a registration, so nothing can download it:
  1. register and get ILSVRC2012_img_val.tar at {ILSVRC2012_ADDRESS}
  2. unpack it into {place}
  3. put {_ILSVRC2012_LIST} beside that folder: a line `file label synset` for each image,
     label = position of the synset in their sorted list (ILSVRC2012/ of
     https://github.com/puar-playground/LRA-diffusion has it)"""
    wanted = f"{_ILSVRC2012_IMAGES}/ and {_ILSVRC2012_LIST} in one folder"
    title = "ILSVRC2012's validation set"
    raise DatasetError(folders.missing(title, wanted, root, SEARCH_DEPTH, partial, ways))

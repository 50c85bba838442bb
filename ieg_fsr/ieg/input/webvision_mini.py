"""WebVision mini as IEG's authors give it out: folders of 50 classes, a probe of ImageNet images.

    sets = load("data", probe_per_class=10, seed=12345)

These are file names and labels; images are decoded when they are needed. Layout:
`webvisionmini-google/{train,val}/<class>/<image>`, the probe in
`webvisionmini-google/probe_500/`. Labels are the positions of the class folders, numbers in their
order, other names sorted. C classes, N images.
"""

import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from ieg.input.image_sources import FileSource
from shared import datasets
from shared.datasets import webvision
from shared.datasets.folders import walk
from shared.datasets.image_data import DatasetError
from shared.formats.alignment import evenly

ZIP = "https://storage.googleapis.com/gresearch/ieg/webvisionmini2.zip"
FOLDER = "webvisionmini-google"
PROBE_FILE = "imagenet2012-probe.tfrecord-1-of-1"
SUFFIXES = {".jpg", ".jpeg", ".png"}
SEARCH_DEPTH = 2  # levels of sub-folders; below FOLDER there are thousands of images
CLASSES = 50
RECORD = {
    "image/encoded": tf.io.FixedLenFeature([], tf.string),
    "image/label": tf.io.FixedLenFeature([], tf.int64),
}

Files = tuple[list[str], NDArray[np.int64]]  # N paths and labels (N,)


@dataclass(frozen=True)
class WebVision:
    """The sets of a run; labels of train are the web's, those of the others true."""

    train: FileSource
    rows: NDArray[np.int64]  # (N,) positions of the training images in the sorted list of all
    probe: FileSource | None
    validation: FileSource
    imagenet: FileSource | None  # ImageNet's validation images of the same classes
    class_names: tuple[str, ...]
    folder: Path
    files: tuple[str, ...]  # (N,) the training images' names below folder/train


def load(
    data_dir: str | Path | None,
    *,
    probe_per_class: int,
    seed: int,
    limit_train: int | None = None,
    limit_test: int | None = None,
    imagenet: bool = False,
) -> WebVision:
    """What is in `<data_dir>/tensorflow_datasets`, in data_dir or below it.

    Raises DatasetError with the way to get what is missing. probe_per_class: 0 for no probe.
    Without the probe file that many training images of each class are held out by `seed`, with a
    note: their labels are the web's. imagenet: ILSVRC2012's validation images are needed too.
    """
    root = datasets.data_root(data_dir)
    folder = find(root)
    classes = _class_folders(folder / "train")
    train, val = _files(folder / "train", classes), _files(folder / "val", classes)
    if len(classes) != CLASSES:
        print(f"note: {folder / 'train'} has {len(classes)} classes, WebVision mini has {CLASSES}")
    second = _limited(_imagenet(root, len(classes)), limit_test) if imagenet else None
    rows = np.arange(len(train[0]))
    probe = None
    if probe_per_class:
        probe_file = folder / f"probe_{probe_per_class * len(classes)}" / PROBE_FILE
        if probe_file.is_file():
            probe = FileSource(*read_probe(probe_file, len(classes)), encoded=True)
        else:
            print(
                f"note: no {probe_file}; the probe is {probe_per_class} training images of each "
                "class instead, whose labels are the web's and not checked by anybody"
            )
            held_out = hold_out(train[1], len(classes), probe_per_class, seed)
            rows = np.setdiff1d(rows, held_out)
            probe = FileSource(*_chosen(train, held_out))
    rows = rows[evenly(len(rows), limit_train)]
    return WebVision(
        FileSource(*_chosen(train, rows)),
        rows,
        probe,
        FileSource(*_limited(val, limit_test)),
        None if second is None else FileSource(*second),
        tuple(classes),
        folder,
        tuple(Path(train[0][row]).relative_to(folder / "train").as_posix() for row in rows),
    )


def hold_out(
    labels: NDArray[np.int64], num_classes: int, per_class: int, seed: int
) -> NDArray[np.int64]:
    """Rows (C * per_class,) int64 to hold out, classes in turn: 0, 1, ..., C-1, 0, 1, ...

    labels: (N,) int64.
    """
    smallest = int(np.bincount(labels, minlength=num_classes).min())
    if per_class >= smallest:
        raise DatasetError(
            f"{per_class} probe images of each class leave nothing of the smallest, which has "
            f"{smallest}: choose webvisionmini_{max(smallest - 1, 1)} or a smaller number"
        )
    rng = np.random.default_rng([seed, zlib.crc32(b"webvision probe")])
    chosen = [
        rng.choice(np.flatnonzero(labels == label), per_class, replace=False)
        for label in range(num_classes)
    ]
    return np.stack(chosen, axis=1).ravel()


def read_probe(path: Path, num_classes: int) -> tuple[list[bytes], NDArray[np.int64]]:
    """Encoded images and labels (P,) int64 in [0, C) of the authors' probe file, in its order."""
    images, labels = [], []
    try:
        for batch in tf.data.TFRecordDataset(str(path)).batch(100):
            records = tf.io.parse_example(batch, RECORD)
            images += records["image/encoded"].numpy().tolist()
            labels += records["image/label"].numpy().tolist()
    except (tf.errors.DataLossError, tf.errors.InvalidArgumentError) as error:
        raise DatasetError(
            f"{path} is damaged, or holds no `image/encoded` and `image/label`: unpack it again"
        ) from error
    if not labels or min(labels) < 0 or max(labels) >= num_classes:
        found = f"labels from {min(labels)} to {max(labels)}" if labels else "no records"
        raise DatasetError(
            f"{path} has {found}, expected labels from 0 to {num_classes - 1}: unpack it again"
        )
    return images, np.array(labels, np.int64)


# ---- folders


def find(root: Path) -> Path:
    """The folder FOLDER with its train and val, at or below `root`. Raises DatasetError."""
    partial = []
    for place in (root / "tensorflow_datasets", *walk(root, SEARCH_DEPTH)):
        for folder in (place / FOLDER, place):
            if folder.name == FOLDER and folder.is_dir():
                missing = [name for name in ("train", "val") if not (folder / name).is_dir()]
                if not missing:
                    return folder
                partial.append(f"\n  found {folder}, but it lacks {' and '.join(missing)}")
    place = root.absolute()
    exists = "" if root.exists() else " (which does not exist)"
    found = "".join(dict.fromkeys(partial))
    target = place / "tensorflow_datasets" / FOLDER
    raise DatasetError(
        f"WebVision mini is missing: a folder {FOLDER} with train/<class>/<image> and "
        f"val/<class>/<image>.\nLooked in {place}{exists}, its tensorflow_datasets and its "
        f"sub-folders, {SEARCH_DEPTH} levels down.{found}\n"
        "It is large, so nothing downloads it:\n"
        f"  1. get {ZIP} (the original's README unzips a file of another name)\n"
        "  2. unpack it, so that there are\n"
        f"       {target}/train/<class>/<image> and val/<class>/<image>\n"
        f"       {FOLDER}/probe_500/{PROBE_FILE} (without it the probe is held out of train)\n"
        "Data in another place: pass its path (--dataset_dir), or set DATA_ROOT."
    )


def _class_folders(folder: Path) -> list[str]:
    names = [
        path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")
    ]
    if not names:
        raise DatasetError(f"{folder} has no class folders: unpack {ZIP.rpartition('/')[2]} again")
    numbers = all(name.isascii() and name.isdigit() for name in names)
    return sorted(names, key=(lambda name: (int(name), name)) if numbers else None)


def _files(folder: Path, classes: list[str]) -> Files:
    unknown = sorted(set(_class_folders(folder)) - set(classes))
    if unknown:
        raise DatasetError(
            f"{folder} has classes that train lacks ({', '.join(unknown[:5])}): the names must be "
            "equal"
        )
    paths, labels = [], []
    for label, name in enumerate(classes):
        place = folder / name
        inside = place.iterdir() if place.is_dir() else ()
        found = sorted(path for path in inside if path.suffix.lower() in SUFFIXES)
        if not found:
            raise DatasetError(
                f"{place} has no images ({', '.join(sorted(SUFFIXES))}): unpack the dataset again"
            )
        paths += [str(path) for path in found]
        labels += [label] * len(found)
    return paths, np.array(labels, np.int64)


def _chosen(files: Files, rows: NDArray[np.int64]) -> Files:
    return [files[0][row] for row in rows], files[1][rows]


def _limited(files: Files, limit: int | None) -> Files:
    return _chosen(files, evenly(len(files[0]), limit))


def _imagenet(root: Path, num_classes: int) -> Files:
    try:
        folder, names, labels = webvision.load_ilsvrc2012(root, num_classes)
    except DatasetError as error:
        raise DatasetError(
            "--use_imagenet_as_eval needs ImageNet's validation images as their publisher gives "
            f"them out; folders of tensorflow_datasets (imagenet2012) are not read.\n{error}"
        ) from error
    return [str(folder / name) for name in names], labels

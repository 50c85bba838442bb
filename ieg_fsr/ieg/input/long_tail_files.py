"""Long-tailed CIFAR: the published files where they are, else our own subset of the same sizes.

The files are those of Cui et al., "Class-Balanced Loss Based on Effective Number of Samples" (CVPR
2019): `<dataset_dir>/imbalance/cifar-10-data-im-0.02/train.tfrecords`, made by an unseeded shuffle,
so nothing can make them again. A record holds `image`, 3,072 bytes in the order (3, 32, 32), and
`label`. Shapes: N images, C classes.
"""

from pathlib import Path

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from shared import datasets
from shared.datasets.image_data import DatasetError, ImageData
from shared.noise import long_tail

RECORD = {
    "image": tf.io.FixedLenFeature([], tf.string),
    "label": tf.io.FixedLenFeature([], tf.int64),
}
BYTES = 3 * 32 * 32


def load(
    dataset: str, factor: float, data_dir: str | Path | None, seed: int
) -> tuple[ImageData, NDArray[np.int64]]:
    """CIFAR and the rows (N,) int64 of its training images that form the long tail.

    dataset: "cifar10" or "cifar100"; factor: smallest class over largest. Read from the published
    files, the dataset is called after them and holds the long tail alone, since which of CIFAR's
    images it took nobody knows.
    """
    root = datasets.data_root(data_dir)
    folder = root / "imbalance" / folder_name(dataset, factor)
    if (folder / "train.tfrecords").is_file():
        data = _from_files(dataset, factor, folder, root)
        return data, np.arange(len(data.train_labels))
    data = datasets.load(dataset, root)
    rows = long_tail.subset(data.train_labels, factor, seed)
    print(
        f"note: no {folder / 'train.tfrecords'}; {len(rows):,} images of {dataset} chosen by seed "
        f"{seed} instead, as many of each class as in the published files"
    )
    return data, rows


def folder_name(dataset: str, factor: float) -> str:
    """The folder of the published files; the one without a tail has no factor in its name."""
    name = dataset.replace("cifar", "cifar-") + "-data"
    return name if factor == 1 else f"{name}-im-{factor:g}"


def _from_files(dataset: str, factor: float, folder: Path, root: Path) -> ImageData:
    spec = datasets.CIFAR[dataset]
    classes = len(spec.class_names)
    train_images, train_labels = read(folder / "train.tfrecords", classes)
    # The authors' generator writes no test set beside a tail: it is CIFAR's, which the folder
    # without a tail holds.
    beside = (folder, folder.with_name(folder_name(dataset, 1.0)))
    places = [place / "eval.tfrecords" for place in beside]
    found = next((place for place in places if place.is_file()), None)
    if found:
        test_images, test_labels = read(found, classes)
    else:
        try:
            data = datasets.load(dataset, root)
        except DatasetError as error:
            tried = " and ".join(map(str, places))
            raise DatasetError(
                f"no test images for {folder}: {tried} are missing, and so is CIFAR itself.\n"
                f"{error}"
            ) from error
        test_images, test_labels = data.test_images, data.test_labels
    name = f"{dataset}_imbal_{factor:g}"
    return ImageData(
        name, train_images, train_labels, test_images, test_labels, spec.class_names, folder
    )


def read(path: Path, num_classes: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Images (N, 32, 32, 3) uint8 and labels (N,) int64 in [0, C) of a file of records."""
    images, labels = [], []
    try:
        for batch in tf.data.TFRecordDataset(str(path)).batch(1000):
            records = tf.io.parse_example(batch, RECORD)
            images += records["image"].numpy().tolist()
            labels += records["label"].numpy().tolist()
    except (tf.errors.DataLossError, tf.errors.InvalidArgumentError) as error:
        raise DatasetError(
            f"{path} is not a file of `image` and `label` records ({_first_line(error)}): get it "
            "again"
        ) from error
    if not images:
        raise DatasetError(f"{path} has no records: get it again")
    if wrong := [number for number, image in enumerate(images) if len(image) != BYTES]:
        raise DatasetError(
            f"{path}, record {wrong[0]}: an image of {len(images[wrong[0]])} bytes, expected "
            f"{BYTES}: get it again"
        )
    if min(labels) < 0 or max(labels) >= num_classes:
        raise DatasetError(
            f"{path} has labels from {min(labels)} to {max(labels)}, expected 0 to "
            f"{num_classes - 1}: it belongs to another dataset"
        )
    planes = np.frombuffer(b"".join(images), np.uint8).reshape(-1, 3, 32, 32)
    return np.ascontiguousarray(planes.transpose(0, 2, 3, 1)), np.array(labels, np.int64)


def _first_line(error: tf.errors.OpError) -> str:
    return str(error.message).splitlines()[0][:200] if error.message else type(error).__name__

"""Users' own images as an `.npz` of arrays.

`train_images` (N, H, W, 3) or grey (N, H, W) uint8, `train_labels` (N,) integers in [0, C), the
same for `test_` where there are test images, and optionally `class_names` (C,).
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from shared.datasets.decoding import resized, warn_of_cropping
from shared.datasets.image_data import DatasetError, ImageData
from shared.labels import MOST_CLASSES

_TRAIN, _TEST = ("train_images", "train_labels"), ("test_images", "test_labels")


def load(path: Path, image_size: int) -> ImageData:
    """The dataset of the file; images are (N, image_size, image_size, 3) uint8.

    Without test arrays the test part is empty. Raises DatasetError.
    """
    arrays = _read_arrays(path)
    splits = ("train", "test") if np.size(arrays.get("test_labels", ())) else ("train",)
    labels = {split: _labels(path, arrays, split) for split in splits}
    names = _class_names(path, arrays, labels["train"])
    source = "class_names" if "class_names" in arrays else "train_labels"
    for split, values in labels.items():
        if values.min() < 0 or values.max() >= len(names):
            raise DatasetError(
                f"{path}: {split}_labels range from {values.min()} to {values.max()}, expected 0 "
                f"to {len(names) - 1} ({len(names)} classes, by {source}): renumber them"
            )
    images = {split: _images(path, arrays, split, image_size) for split in splits}
    none = np.zeros((0, image_size, image_size, 3), np.uint8), np.zeros(0, np.int64)
    test = (images["test"], labels["test"]) if "test" in splits else none
    return ImageData("folder", images["train"], labels["train"], *test, names, path)


def _read_arrays(path: Path) -> dict[str, NDArray[np.generic]]:
    wanted = (*_TRAIN, *_TEST, "class_names")
    try:
        names: list[str] = []
        arrays: dict[str, NDArray[np.generic]] = {}
        with path.open("rb") as stream:
            file = np.load(stream, allow_pickle=False)
            if isinstance(file, np.lib.npyio.NpzFile):
                names = file.files
                arrays = {name: np.asarray(file[name]) for name in wanted if name in names}
    # numpy, zipfile and zlib have a dozen errors for damaged files between them.
    except Exception as error:
        raise DatasetError(
            f"{path} is not a readable .npz of plain arrays ({error}): write it with numpy.savez; "
            "lists of objects are not read, class_names must be an array of text"
        ) from error
    needed = _TRAIN + (_TEST if set(_TEST) & set(arrays) else ())
    if missing := [name for name in needed if name not in arrays]:
        found = ", ".join(sorted(names)) or "no named arrays"
        raise DatasetError(
            f"{path} lacks {', '.join(missing)} (it has {found}): write it with numpy.savez"
        )
    return arrays


def _images(
    path: Path, arrays: dict[str, NDArray[np.generic]], split: str, image_size: int
) -> NDArray[np.uint8]:
    images, count = arrays[f"{split}_images"], len(arrays[f"{split}_labels"])
    what = f"{path}: {split}_images have shape {images.shape} and type {images.dtype}"
    if images.dtype != np.uint8:
        example = "images" if images.dtype.kind in "iu" else "(images * 255)"
        raise DatasetError(
            f"{what}, expected uint8 in 0..255: convert them, such as by "
            f"{example}.astype(numpy.uint8)"
        )
    if images.ndim == 3:
        images = np.repeat(images[..., None], 3, axis=3)
    if images.ndim != 4 or images.shape[3] != 3 or 0 in images.shape:
        fix = "images.squeeze(3)" if images.shape[3:] == (1,) else "transpose them"
        raise DatasetError(f"{what}, expected (N, H, W, 3), or (N, H, W) for grey: {fix}")
    if len(images) != count:
        raise DatasetError(
            f"{path}: {len(images)} {split}_images but {count} {split}_labels; one label for "
            "each image"
        )
    if images.shape[1:3] == (image_size, image_size):
        return images.astype(np.uint8, copy=False)
    if images.shape[1] != images.shape[2]:
        warn_of_cropping(path, count, count, image_size)
    small = np.empty((count, image_size, image_size, 3), np.uint8)
    for target, image in zip(small, images):
        target[:] = resized(Image.fromarray(image), image_size)
    return small


def _labels(path: Path, arrays: dict[str, NDArray[np.generic]], split: str) -> NDArray[np.int64]:
    labels = arrays[f"{split}_labels"]
    if labels.ndim != 1 or labels.dtype.kind not in "iu" or not len(labels):
        raise DatasetError(
            f"{path}: {split}_labels have shape {labels.shape} and type {labels.dtype}, "
            "expected one integer in 0..C-1 for each image: labels.astype(numpy.int64).ravel()"
        )
    return labels.astype(np.int64)


def _class_names(
    path: Path, arrays: dict[str, NDArray[np.generic]], labels: NDArray[np.int64]
) -> tuple[str, ...]:
    if "class_names" not in arrays:
        if (count := int(labels.max()) + 1) > MOST_CLASSES:
            raise DatasetError(
                f"{path}: train_labels go up to {count - 1:,}, more than {MOST_CLASSES:,} classes: "
                "number the classes from 0, and leave out images without a label"
            )
        return tuple(str(label) for label in range(count))
    names = arrays["class_names"]
    if names.ndim != 1 or names.dtype.kind != "U" or not len(names):
        raise DatasetError(
            f"{path}: class_names have shape {names.shape} and type {names.dtype}, expected "
            "(C,) text"
        )
    return tuple(str(name) for name in names)

"""Users' own images: a folder `train/<class>/*.png`, `test/<class>/*.png`, or an `.npz` of arrays.

Classes are the sorted names of the folders in `train`; files come in sorted order, so that noise
files stay valid. An `.npz` holds `train_images` (N, H, W, 3) or grey (N, H, W) uint8,
`train_labels` (N,) integers in [0, C), the same for `test_`, and optionally `class_names` (C,).
Other image sizes than the one asked for are resized (bilinear).
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from shared.datasets.image_data import DatasetError, ImageData

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".webp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"}
_LAYOUT = (
    "expected train/<class>/*.png and test/<class>/*.png in the folder, or an .npz file of arrays"
)


def load(path: Path, image_size: int) -> ImageData:
    """The dataset of a folder or `.npz` file; images are (N, image_size, image_size, 3) uint8."""
    if image_size < 1:
        raise DatasetError(f"image_size is {image_size}; it must be at least 1")
    if path.is_dir():
        return _load_folder(path, image_size)
    if path.is_file():
        return _load_npz(path, image_size)
    raise DatasetError(f"{path.absolute()} does not exist: {_LAYOUT}; pass its path (--data_path)")


# ---- image folders


def _load_folder(path: Path, image_size: int) -> ImageData:
    classes = tuple(_class_folders(path / "train"))
    if unknown := [name for name in _class_folders(path / "test") if name not in classes]:
        raise DatasetError(
            f"{path / 'test'} has classes that {path / 'train'} lacks: {', '.join(unknown)}; "
            f"the names must be equal (train has {', '.join(classes)})"
        )
    train_files, train_labels = _labelled_files(path / "train", classes)
    test_files, test_labels = _labelled_files(path / "test", classes)
    train_images, test_images = (
        read_images(train_files, image_size),
        read_images(test_files, image_size),
    )
    return ImageData("folder", train_images, train_labels, test_images, test_labels, classes, path)


def _class_folders(folder: Path) -> list[str]:
    names = (
        sorted(p.name for p in folder.iterdir() if _is_class_folder(p)) if folder.is_dir() else []
    )
    if not names:
        raise DatasetError(f"{folder.absolute()} has no class folders: {_LAYOUT}")
    return names


def _is_class_folder(path: Path) -> bool:
    return path.is_dir() and not path.name.startswith(".")


def _labelled_files(folder: Path, classes: Sequence[str]) -> tuple[list[Path], NDArray[np.int64]]:
    """Image files below `folder`, class by class, and their labels (N,) int64."""
    files: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        if not (folder / name).is_dir():  # a class without test images
            continue
        found = sorted(
            p
            for p in (folder / name).iterdir()
            if p.suffix.lower() in SUFFIXES and p.name[0] != "."
        )
        if not found:
            raise DatasetError(
                f"{folder / name} has no images ({', '.join(sorted(SUFFIXES))}): add some or "
                "delete the folder"
            )
        files += found
        labels += [label] * len(found)
    return files, np.array(labels, dtype=np.int64)


def read_images(files: Sequence[Path], image_size: int) -> NDArray[np.uint8]:
    """(N, image_size, image_size, 3) uint8; read in threads, which Pillow lets run in parallel."""
    images = np.empty((len(files), image_size, image_size, 3), dtype=np.uint8)

    def read_into(index: int) -> None:
        images[index] = _read_image(files[index], image_size)

    with ThreadPoolExecutor() as pool:
        for _ in pool.map(read_into, range(len(files))):
            pass
    return images


def _read_image(file: Path, image_size: int) -> NDArray[np.uint8]:
    try:
        with Image.open(file) as image:
            return _resized(image.convert("RGB"), image_size)
    except Exception as error:  # Pillow's decoders raise whatever they like (OSError, SyntaxError, struct.error, ...)
        raise DatasetError(
            f"{file} is not a readable image ({error}): repair or delete it"
        ) from error


def _resized(image: Image.Image, image_size: int) -> NDArray[np.uint8]:
    if image.size != (image_size, image_size):
        image = image.resize((image_size, image_size), Image.Resampling.BILINEAR)
    return np.asarray(image, dtype=np.uint8)


# ---- npz files


def _load_npz(path: Path, image_size: int) -> ImageData:
    arrays = _read_arrays(path)
    train_labels, test_labels = _labels(path, arrays, "train"), _labels(path, arrays, "test")
    names = _class_names(path, arrays, train_labels)
    source = "class_names" if "class_names" in arrays else "train_labels"
    for split, labels in (("train", train_labels), ("test", test_labels)):
        if labels.min() < 0 or labels.max() >= len(names):
            raise DatasetError(
                f"{path}: {split}_labels range from {labels.min()} to {labels.max()}, expected 0 "
                f"to {len(names) - 1} ({len(names)} classes, by {source}): renumber them"
            )
    train_images, test_images = (
        _images(path, arrays, "train", image_size),
        _images(path, arrays, "test", image_size),
    )
    return ImageData("folder", train_images, train_labels, test_images, test_labels, names, path)


def _read_arrays(path: Path) -> dict[str, NDArray[np.generic]]:
    needed = ("train_images", "train_labels", "test_images", "test_labels")
    try:
        names: list[str] = []
        arrays: dict[str, NDArray[np.generic]] = {}
        with path.open("rb") as stream:
            file = np.load(stream, allow_pickle=False)
            if isinstance(file, np.lib.npyio.NpzFile):
                names = file.files
                arrays = {name: file[name] for name in (*needed, "class_names") if name in names}
    except (
        Exception
    ) as error:  # numpy, zipfile and zlib have a dozen errors for damaged files between them
        raise DatasetError(
            f"{path} is not a readable .npz of plain arrays ({error}): write it with numpy.savez; "
            "lists of objects are not read, class_names must be an array of text"
        ) from error
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
        raise DatasetError(
            f"{what}, expected uint8 in 0..255: convert them, e.g. (images * "
            "255).astype(numpy.uint8)"
        )
    if images.ndim == 3:
        images = np.repeat(images[..., None], 3, axis=3)
    if images.ndim != 4 or images.shape[3] != 3 or 0 in images.shape:
        raise DatasetError(f"{what}, expected (N, H, W, 3), or (N, H, W) for grey: transpose them")
    if len(images) != count:
        raise DatasetError(
            f"{path}: {len(images)} {split}_images but {count} {split}_labels; one label for "
            "each image"
        )
    if images.shape[1:3] == (image_size, image_size):
        return images.astype(np.uint8, copy=False)
    return np.stack([_resized(Image.fromarray(image), image_size) for image in images])


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
        return tuple(str(label) for label in range(int(labels.max()) + 1))
    names = arrays["class_names"]
    if names.ndim != 1 or names.dtype.kind != "U" or not len(names):
        raise DatasetError(
            f"{path}: class_names have shape {names.shape} and type {names.dtype}, expected "
            "(C,) text"
        )
    return tuple(str(name) for name in names)

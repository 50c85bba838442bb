"""Users' own images: a folder `train/<class>/*.png`, `test/<class>/*.png`, or an `.npz` of arrays.

Classes are the sorted names of the folders in `train`; files come in sorted order, so that noise
files stay valid. An `.npz` holds `train_images` (N, H, W, 3) or grey (N, H, W) uint8,
`train_labels` (N,) integers in [0, C), the same for `test_`, and optionally `class_names` (C,).
Pictures are turned as their EXIF data say; 16-bit grey is scaled from its range to 8 bits. Of
another size than the one asked for, the short side is resized to it (bilinear) and the middle is
cut out: a warning says how many pictures lose their edges.
"""

import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

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
        read_images(files, image_size) for files in (train_files, test_files)
    )
    names = tuple(file.relative_to(path / "train").as_posix() for file in train_files)
    return ImageData(
        "folder", train_images, train_labels, test_images, test_labels, classes, path, names
    )


def _class_folders(folder: Path) -> list[str]:
    names = (
        sorted(p.name for p in folder.iterdir() if _is_class_folder(p)) if folder.is_dir() else []
    )
    if not names:
        raise DatasetError(f"{folder.absolute()} has no class folders: {_LAYOUT}")
    return names


def _is_class_folder(path: Path) -> bool:
    return path.is_dir() and not path.name.startswith(".")


def is_image(path: Path) -> bool:
    """Whether the name is that of an image file; hidden ones are left out."""
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def _labelled_files(folder: Path, classes: Sequence[str]) -> tuple[list[Path], NDArray[np.int64]]:
    """Image files below `folder`, class by class, and their labels (N,) int64."""
    files: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        if not (folder / name).is_dir():  # a class without test images
            continue
        found = sorted(path for path in (folder / name).iterdir() if is_image(path))
        if not found:
            raise DatasetError(
                f"{folder / name} has no images ({', '.join(sorted(SUFFIXES))}): add some or "
                "delete the folder"
            )
        files += found
        labels += [label] * len(found)
    return files, np.array(labels, dtype=np.int64)


def read_images(files: Sequence[Path], image_size: int, *, crop: bool = True) -> NDArray[np.uint8]:
    """(N, image_size, image_size, 3) uint8; read in threads, which Pillow lets run in parallel.

    crop: cut out the middle of a picture that is not square, instead of squashing it.
    """
    images = np.empty((len(files), image_size, image_size, 3), dtype=np.uint8)

    def read_into(index: int) -> bool:
        images[index], is_square = _read_image(files[index], image_size, crop)
        return is_square

    with ThreadPoolExecutor() as pool:
        cropped = sum(not is_square for is_square in pool.map(read_into, range(len(files))))
    if crop and cropped:
        _warn_of_cropping(files[0].parent.parent, cropped, len(files), image_size)
    return images


def _warn_of_cropping(place: Path, cropped: int, count: int, image_size: int) -> None:
    warnings.warn(
        f"{cropped:,} of {count:,} pictures of {place} are not square: their short side is resized "
        f"to {image_size} pixels, and the middle is cut out",
        stacklevel=2,
    )


def _read_image(file: Path, image_size: int, crop: bool) -> tuple[NDArray[np.uint8], bool]:
    """The pixels, (image_size, image_size, 3), and whether the picture is square."""
    try:
        with Image.open(file) as opened:
            image = _eight_bits(ImageOps.exif_transpose(opened))
            return _resized(image, image_size, crop), image.width == image.height
    # Pillow's decoders raise whatever they like: OSError, SyntaxError, struct.error, ...
    except Exception as error:
        raise DatasetError(
            f"{file} is not a readable image ({error}): repair or delete it"
        ) from error


def _eight_bits(image: Image.Image) -> Image.Image:
    """The image as RGB; greys of more than 8 bits are scaled from their range, 0 to 65,535."""
    if image.mode not in ("I", "F") and not image.mode.startswith("I;16"):
        return image.convert("RGB")
    grey = np.asarray(image).astype(np.float64)
    white = next((white for white in (255.0, 65_535.0) if grey.max() <= white), grey.max())
    if image.mode.startswith("I"):
        white = max(white, 65_535.0)
    elif grey.max() <= 1:
        white = 1.0
    scaled = np.clip(grey * (255 / white), 0, 255).round().astype(np.uint8)
    return Image.fromarray(scaled).convert("RGB")


def _resized(image: Image.Image, image_size: int, crop: bool = True) -> NDArray[np.uint8]:
    if image.size != (image_size, image_size):
        scale = image_size / min(image.size)
        width, height = (round(side * scale) if crop else image_size for side in image.size)
        image = image.resize((width, height), Image.Resampling.BILINEAR)
        left, top = (width - image_size) // 2, (height - image_size) // 2
        image = image.crop((left, top, left + image_size, top + image_size))
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
        _images(path, arrays, split, image_size) for split in ("train", "test")
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
    # numpy, zipfile and zlib have a dozen errors for damaged files between them.
    except Exception as error:
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
            f"{what}, expected uint8 in 0..255: convert them, such as by "
            "(images * 255).astype(numpy.uint8)"
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
    if images.shape[1] != images.shape[2]:
        _warn_of_cropping(path, count, count, image_size)
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

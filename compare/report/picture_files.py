"""Picture files, named by tables that somebody else may have written."""

import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from shared.errors import UserError


def below(folder: Path, name: str) -> Path:
    """The file of this name in the folder. Raises UserError for a name that leads out of it."""
    path = Path(name)
    if path.is_absolute() or ".." in path.parts:
        raise UserError("its name leads out of the folder of pictures")
    return folder / path


def is_in(folder: Path, name: str) -> bool:
    """Whether the folder has a file of this name; a name that leads out of it is in none."""
    try:
        return below(folder, name).is_file()
    except UserError:
        return False


def opened(path: Path, side: int) -> Image.Image:
    """The picture, turned as its EXIF data say, RGB; large JPEGs are decoded at a smaller size."""
    with warnings.catch_warnings(action="ignore"), Image.open(path) as picture:
        picture.draft("RGB", (2 * side, 2 * side))
        return _rgb(ImageOps.exif_transpose(picture))


def as_annotated(path: Path) -> Image.Image:
    """The picture as its boxes are meant, RGB: whole, and not turned by its EXIF data."""
    with warnings.catch_warnings(action="ignore"), Image.open(path) as picture:
        return _rgb(picture)


def _rgb(picture: Image.Image) -> Image.Image:
    if picture.mode.startswith("I"):  # 16-bit grey, which convert() would cut off at 255
        values = np.asarray(picture, np.float64)
        values = 255 * (values - values.min()) / max(float(np.ptp(values)), 1.0)
        picture = Image.fromarray(values.astype(np.uint8))
    return picture.convert("RGB")

"""Writes picture files as people have them, the awkward ones among them."""

from pathlib import Path

import numpy as np
from PIL import Image


def save(path: Path, grey: int, size: tuple[int, int] = (84, 84), mode: str = "RGB") -> Path:
    """A picture of one grey."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (grey, grey, grey)).convert(mode).save(path)
    return path


def save_turned(path: Path) -> np.ndarray:
    """A picture that a camera stored sideways; returns its pixels as they should be seen."""
    upright = np.zeros((84, 84, 3), np.uint8)
    upright[:42] = 255
    exif = Image.Exif()
    exif[0x0112] = 6
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.rot90(upright)).save(path, exif=exif, quality=100, subsampling=0)
    return upright


def truncate(path: Path) -> Path:
    """Cut a picture file off in its middle."""
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    return path


def greys(images: np.ndarray) -> list[int]:
    """The grey in the middle of each picture."""
    return images[:, images.shape[1] // 2, images.shape[2] // 2, 0].tolist()

"""The image operations of AutoAugment's CIFAR policy (Cubuk et al., CVPR 2019), on Pillow images.

An image in [-1, 1] becomes 8-bit RGBA by truncation (`to_rgba`), passes through operations, and
comes back (`from_rgba`). Alpha is a mark: a geometric operation leaves alpha 0 where no source
pixel falls, and those pixels return as 0, which is mid grey. Operations that work on RGB only
(AutoContrast, Equalize, ...) lose the mark, so what was uncovered before them stays black; that is
part of the policy as published.

Every operation is `operation(image, level, negative) -> image`: RGBA in and out, level 0-10;
`negative` turns Rotate, Shear and Translate round, the others ignore it. Sampling is nearest.
Shapes: H W pixels.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageOps

Operation = Callable[[Image.Image, int, bool], Image.Image]
MAX_LEVEL = 10
GREY = np.float32(0)  # what an uncovered pixel becomes, in [-1, 1]
# CIFAR's mean colour, which an operation sees that forgets alpha, such as Equalize.
HIDDEN = (125, 122, 113, 0)
FROM_BYTE = ((np.arange(256) / 255 - 0.5) / 0.5).astype(np.float32)  # byte -> [-1, 1]


def to_rgba(images: NDArray[np.floating]) -> NDArray[np.uint8]:
    """[-1, 1] -> bytes by truncation, with alpha 255.

    images: (..., H, W, 3) float; returns (..., H, W, 4).

    Truncation makes some bytes one darker than they were (x/2 + 0.5 is not exact); the original
    does so too.
    """
    rgba = np.full((*images.shape[:-1], 4), 255, np.uint8)
    rgba[..., :3] = ((images / 2 + 0.5) * 255).astype(np.uint8)
    return rgba


def from_rgba(rgba: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Bytes -> [-1, 1]; pixels with alpha 0 become GREY.

    rgba: (..., H, W, 4); returns (..., H, W, 3).
    """
    images = FROM_BYTE[rgba[..., :3]]
    images[rgba[..., 3] == 0] = GREY
    return images


def _amount(level: int, most: float) -> float:
    """The share level/10 of `most`, multiplied first as AutoAugment does: 7 levels of 0.3, 0.21."""
    return level * most / MAX_LEVEL


def _signed(value: float, negative: bool) -> float:
    return -value if negative else value


def _affine(image: Image.Image, *matrix: float) -> Image.Image:
    """Output pixel (x, y) shows input pixel (ax + by + c, dx + ey + f); outside, alpha is 0."""
    return image.transform(image.size, Image.Transform.AFFINE, matrix, Image.Resampling.NEAREST)


def shear_x(image: Image.Image, level: int, negative: bool) -> Image.Image:
    return _affine(image, 1, _signed(_amount(level, 0.3), negative), 0, 0, 1, 0)


def shear_y(image: Image.Image, level: int, negative: bool) -> Image.Image:
    return _affine(image, 1, 0, 0, _signed(_amount(level, 0.3), negative), 1, 0)


def translate_x(image: Image.Image, level: int, negative: bool) -> Image.Image:
    return _affine(image, 1, 0, _signed(int(_amount(level, 10)), negative), 0, 1, 0)


def translate_y(image: Image.Image, level: int, negative: bool) -> Image.Image:
    return _affine(image, 1, 0, 0, 0, 1, _signed(int(_amount(level, 10)), negative))


def rotate(image: Image.Image, level: int, negative: bool) -> Image.Image:
    """Counter-clockwise by int(3 level) degrees."""
    return image.rotate(_signed(int(_amount(level, 30)), negative), Image.Resampling.NEAREST)


def _on_rgb(operation: Callable[[Image.Image], Image.Image], image: Image.Image) -> Image.Image:
    """Pillow's point operations refuse alpha; going through RGB also forgets what was uncovered."""
    return operation(image.convert("RGB")).convert("RGBA")


def auto_contrast(image: Image.Image, level: int, negative: bool) -> Image.Image:
    return _on_rgb(ImageOps.autocontrast, image)


def equalize(image: Image.Image, level: int, negative: bool) -> Image.Image:
    return _on_rgb(ImageOps.equalize, image)


def invert(image: Image.Image, level: int, negative: bool) -> Image.Image:
    return _on_rgb(ImageOps.invert, image)


def posterize(image: Image.Image, level: int, negative: bool) -> Image.Image:
    """Keeps the 4 - int(0.4 level) highest bits; Pillow refuses level 10, which no policy has."""
    return _on_rgb(lambda rgb: ImageOps.posterize(rgb, 4 - int(_amount(level, 4))), image)


def solarize(image: Image.Image, level: int, negative: bool) -> Image.Image:
    """Inverts the values from 256 - int(25.6 level) on."""
    return _on_rgb(lambda rgb: ImageOps.solarize(rgb, 256 - int(_amount(level, 256))), image)


def _enhance(enhancer: Callable[[Image.Image], Any]) -> Operation:
    """Blend with a degenerate image by 0.18 level + 0.1: below 1 towards it, above away from it."""
    return lambda image, level, negative: enhancer(image).enhance(_amount(level, 1.8) + 0.1)


def identity(image: Image.Image, level: int, negative: bool) -> Image.Image:
    return image


# But for Cutout, which also takes a place.
OPERATIONS: dict[str, Operation] = {
    "Identity": identity,
    "AutoContrast": auto_contrast,
    "Equalize": equalize,
    "Invert": invert,
    "Rotate": rotate,
    "ShearX": shear_x,
    "ShearY": shear_y,
    "TranslateX": translate_x,
    "TranslateY": translate_y,
    "Posterize": posterize,
    "Solarize": solarize,
    "Color": _enhance(ImageEnhance.Color),
    "Contrast": _enhance(ImageEnhance.Contrast),
    "Brightness": _enhance(ImageEnhance.Brightness),
    "Sharpness": _enhance(ImageEnhance.Sharpness),
}


def cutout_side(level: int) -> int:
    """The side of the square that Cutout hides, int(2 level) pixels."""
    return int(_amount(level, 20))


def cutout(image: Image.Image, level: int, row: int, column: int) -> Image.Image:
    """Hides a square around a pixel, as far as it is inside: alpha 0, so mid grey in the end."""
    half = cutout_side(level) // 2
    if half == 0:
        return image
    width, height = image.size
    left, top = max(0, column - half), max(0, row - half)
    box = (left, top, min(width, column + half), min(height, row + half))
    hidden = image.copy()  # paste works in place
    hidden.paste(HIDDEN, box)
    return hidden


def apply(
    name: str, image: NDArray[np.floating], level: int, negative: bool = False
) -> NDArray[np.float32]:
    """One operation on one image in [-1, 1], there and back. image: (H, W, 3)."""
    rgba = Image.fromarray(to_rgba(image))
    return from_rgba(np.asarray(OPERATIONS[name](rgba, level, negative)))

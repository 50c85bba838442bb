"""Masks of COCO-format annotations: polygons, and run lengths, plain or as a text.

The formats are those of the COCO API (Lin et al., "Microsoft COCO: Common Objects in Context", ECCV
2014; cocodataset.org/#format-data). Letters: H W pixels of the picture.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from shared.errors import UserError

Size = tuple[int, int]  # width, height
Window = tuple[int, int, int, int]  # left, top, right, bottom


def within(shape: Any, picture: Size, window: Window, size: Size) -> Image.Image:
    """A window of a mask, as a grey picture of `size`: 255 is the object.

    shape: an annotation's `segmentation`. Raises UserError where it is none of the formats.
    """
    if isinstance(shape, dict):
        mask = Image.fromarray(255 * decoded(shape, picture).astype(np.uint8))
        smooth = mask.crop(window).resize(size, Image.Resampling.BILINEAR)
        return smooth.point(lambda value: 255 * (value > 127))  # with a sharp edge
    mask = Image.new("L", size)
    canvas = ImageDraw.Draw(mask)
    left, top, right, bottom = window
    across, down = size[0] / (right - left), size[1] / (bottom - top)
    try:
        for part in shape:
            pairs = zip(part[::2], part[1::2], strict=True)
            points = [((x - left) * across, (y - top) * down) for x, y in pairs]
            if len(points) > 2:
                canvas.polygon(points, fill=255)
    except (TypeError, ValueError) as error:
        raise UserError("its mask is no list of polygons x1 y1 x2 y2 ...") from error
    return mask


def decoded(run_lengths: dict[str, Any], picture: Size) -> NDArray[np.bool_]:
    """(H, W) the mask of {"size": [H, W], "counts": ...}. Raises UserError.

    The counts are lengths of runs in turns outside and inside, down the columns.
    """
    width, height = picture
    size, counts = run_lengths.get("size"), run_lengths.get("counts")
    if size != [height, width]:  # before as many pixels as somebody says are made
        raise UserError(f"its mask is of size {size}, the image of [{height}, {width}]")
    lengths = _lengths(counts) if isinstance(counts, str) else counts
    if (
        not isinstance(lengths, list)
        or not all(type(length) is int and length >= 0 for length in lengths)
        or sum(lengths) != height * width
    ):
        raise UserError("the run lengths of its mask do not fill the image")
    inside = np.arange(len(lengths)) % 2 == 1
    return np.repeat(inside, lengths).reshape(width, height).T


def _lengths(text: str) -> list[int]:
    """The run lengths in a text of the COCO API.

    A number takes characters of six bits from "0" on: five of the number, the lowest first, and
    whether more follow. The highest bit is the sign; from the fourth number on, each is the
    difference to the length two before.
    """
    lengths: list[int] = []
    value = place = 0
    for digit in (ord(character) - ord("0") for character in text):
        value += (digit & 31) << place
        place += 5
        if place > 60:
            raise UserError("the run lengths of its mask are no numbers")
        if not digit & 32:
            value -= (digit & 16) << (place - 4)  # the sign
            lengths.append(value + lengths[-2] if len(lengths) > 2 else value)
            value = place = 0
    return lengths

"""The PIL operations against slow literal references: Pillow's written rules, no Pillow."""

import math

import numpy as np
import pytest
from PIL import Image

from ieg.augment import pil_ops

SIDE = 20


@pytest.fixture(scope="module")
def image():
    """(SIDE, SIDE, 4) uint8: noise on a ramp, so that neither values nor places repeat.

    No channel reaches 0 or 255.
    """
    rng = np.random.default_rng(0)
    ramp = np.linspace(20, 200, SIDE)[:, None, None] + rng.integers(0, 40, (SIDE, SIDE, 3))
    return np.concatenate([ramp.astype(np.uint8), np.full((SIDE, SIDE, 1), 255, np.uint8)], axis=2)


def result(name, image, level, negative=False):
    return np.asarray(pil_ops.OPERATIONS[name](Image.fromarray(image), level, negative))


def sampled(image, a, b, c, d, e, f):
    """Output pixel (x, y) shows the input pixel that holds (aX + bY + c, dX + eY + f).

    X = x + 1/2, Y = y + 1/2; outside, all is 0.
    """
    height, width, _ = image.shape
    a, b, c, d, e, f = (
        math.floor(v * 65536 + 0.5) for v in (a, b, c + (a + b) / 2, d, e, f + (d + e) / 2)
    )
    out = np.zeros_like(image)
    for y in range(height):
        for x in range(width):
            column, row = (a * x + b * y + c) // 65536, (d * x + e * y + f) // 65536
            if 0 <= column < width and 0 <= row < height:
                out[y, x] = image[row, column]
    return out


@pytest.mark.parametrize("negative", [False, True])
@pytest.mark.parametrize("level", range(10))
def test_affine_operations_follow_the_pixels(image, level, negative):
    sign = -1 if negative else 1
    shear, shift, angle = sign * 0.03 * level, sign * level, math.radians(sign * 3 * level)
    cos, sin, middle = math.cos(angle), math.sin(angle), SIDE / 2
    matrices = {
        "ShearX": (1, shear, 0, 0, 1, 0),
        "ShearY": (1, 0, 0, shear, 1, 0),
        "TranslateX": (1, 0, shift, 0, 1, 0),
        "TranslateY": (1, 0, 0, 0, 1, shift),
        # counter-clockwise around the middle; y points down
        "Rotate": (
            cos,
            -sin,
            middle - cos * middle + sin * middle,
            sin,
            cos,
            middle - sin * middle - cos * middle,
        ),
    }
    for name, matrix in matrices.items():
        np.testing.assert_array_equal(
            result(name, image, level, negative), sampled(image, *matrix), name
        )


def by_channel(image, rule):
    """A table of 256 values per channel, made by rule(channel), as the operation."""
    out = image.copy()
    for channel in range(3):
        table = rule([int(value) for value in image[..., channel].flat])
        out[..., channel] = [[table[value] for value in row] for row in image[..., channel]]
    return out


def stretched(values):
    low, high = min(values), max(values)
    return [
        min(255, max(0, int(v * (255 / (high - low)) - low * (255 / (high - low)))))
        for v in range(256)
    ]


def equalized(values):
    step = (len(values) - values.count(max(values))) // 255
    return [
        min(255, (step // 2 + sum(u < v for u in values)) // step) if step else v
        for v in range(256)
    ]


@pytest.mark.parametrize("level", range(10))
def test_point_operations_follow_their_formulas(image, level):
    bits, threshold = 4 - int(0.4 * level), 256 - int(25.6 * level)
    rules = {
        "Identity": lambda values: list(range(256)),
        "Invert": lambda values: [255 - v for v in range(256)],
        "Posterize": lambda values: [v // 2 ** (8 - bits) * 2 ** (8 - bits) for v in range(256)],
        "Solarize": lambda values: [v if v < threshold else 255 - v for v in range(256)],
        "AutoContrast": stretched,
        "Equalize": equalized,
    }
    for name, rule in rules.items():
        np.testing.assert_array_equal(result(name, image, level), by_channel(image, rule), name)


def test_equalize_where_every_value_moves():
    image = np.full((32, 32, 4), 255, np.uint8)
    image[..., :3] = np.random.default_rng(1).integers(40, 90, (32, 32, 3))
    expected = by_channel(image, equalized)
    assert (expected[..., :3] != image[..., :3]).mean() > 0.9
    np.testing.assert_array_equal(result("Equalize", image, 3), expected)


def test_one_colour_survives_contrast_and_equalization():
    flat = np.full((4, 4, 4), 255, np.uint8)
    flat[..., :3] = (10, 100, 200)
    for name in ("AutoContrast", "Equalize"):
        np.testing.assert_array_equal(result(name, flat, 0), flat)


def luminance(pixel):
    red, green, blue = (int(value) for value in pixel[:3])
    return (19595 * red + 38470 * green + 7471 * blue + 32768) // 65536


def smoothed(image):
    out = image.copy()
    for y in range(1, SIDE - 1):
        for x in range(1, SIDE - 1):
            for channel in range(3):
                block = image[y - 1 : y + 2, x - 1 : x + 2, channel].astype(int)
                out[y, x, channel] = int((block.sum() + 4 * block[1, 1]) / 13 + 0.5)
    return out


def blended(degenerate, image, factor):
    out = image.copy()
    for place in np.ndindex(SIDE, SIDE, 3):
        start, end = float(degenerate[place]), float(image[place])
        out[place] = int(min(255.0, max(0.0, start + factor * (end - start))))
    return out


@pytest.mark.parametrize("level", [0, 2, 5, 9])
def test_enhancements_blend_with_a_degenerate_image(image, level):
    grey = np.array([[[luminance(pixel)] * 3 for pixel in row] for row in image])
    mean = np.full_like(grey, int(grey[..., 0].mean() + 0.5))
    degenerate = {
        "Color": grey,
        "Contrast": mean,
        "Brightness": np.zeros_like(grey),
        "Sharpness": smoothed(image),
    }
    for name, other in degenerate.items():
        expected = blended(other, image, level * 1.8 / 10 + 0.1).astype(int)
        # products that end on an integer may fall to either side of it
        difference = np.abs(result(name, image, level) - expected)
        assert difference.max() <= 1, name
        assert (difference > 0).mean() < 0.01, name


@pytest.mark.parametrize(
    ("row", "column", "rows", "columns"),
    [(10, 7, (6, 14), (3, 11)), (0, 19, (0, 4), (15, 20)), (19, 0, (15, 20), (0, 4))],
)
def test_cutout_hides_a_square_clipped_at_the_borders(image, row, column, rows, columns):
    expected = image.copy()
    expected[rows[0] : rows[1], columns[0] : columns[1]] = pil_ops.HIDDEN
    source = Image.fromarray(image)
    np.testing.assert_array_equal(pil_ops.cutout(source, 4, row, column), expected)
    np.testing.assert_array_equal(source, image)
    assert [pil_ops.cutout_side(level) for level in (0, 3, 4, 10)] == [0, 6, 8, 20]
    np.testing.assert_array_equal(pil_ops.cutout(source, 0, row, column), image)


def test_bytes_are_truncated_and_what_is_uncovered_is_mid_grey():
    values = np.array([-1, -0.001, 0, 0.999, 1], np.float32).reshape(1, 5, 1) * np.ones(
        3, np.float32
    )
    rgba = pil_ops.to_rgba(values)
    assert rgba[0, :, 0].tolist() == [0, 127, 127, 254, 255]  # 127.37, 127.5 and 254.87 before
    assert (rgba[..., 3] == 255).all()
    rgba[0, 4] = (9, 9, 9, 0)
    back = pil_ops.from_rgba(rgba)
    assert back.dtype == np.float32
    np.testing.assert_allclose(
        back[0, :, 1], [-1, 127 / 127.5 - 1, 127 / 127.5 - 1, 254 / 127.5 - 1, 0], atol=1e-7
    )


def test_apply_goes_there_and_back_and_loses_at_most_one_level():
    image = np.random.default_rng(2).uniform(-1, 1, (8, 8, 3)).astype(np.float32)
    assert (np.abs(pil_ops.apply("Identity", image, 0) - image) <= 1 / 127.5).all()
    moved = pil_ops.apply("TranslateX", image, 3)
    assert (moved[:, 5:] == 0).all()
    assert (pil_ops.apply("TranslateX", image, 3, negative=True)[:, :3] == 0).all()
    np.testing.assert_array_equal(moved[:, :5], pil_ops.apply("Identity", image, 0)[:, 3:])


def test_operations_on_rgb_forget_what_was_uncovered(image):
    moved = pil_ops.OPERATIONS["TranslateY"](Image.fromarray(image), 5, False)
    for name, fill in (("Invert", 255), ("Solarize", 0), ("Posterize", 0)):
        assert (
            np.asarray(pil_ops.OPERATIONS[name](moved, 3, False))[-5:] == (fill, fill, fill, 255)
        ).all()
    for name in ("Color", "Contrast", "Brightness", "Sharpness"):
        assert (np.asarray(pil_ops.OPERATIONS[name](moved, 3, False))[-5:, :, 3] == 0).all()

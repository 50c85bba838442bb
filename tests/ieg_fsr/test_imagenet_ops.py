"""The TensorFlow operations of the ImageNet policy against slow literal references."""

import math
from collections import Counter

import numpy as np
import pytest
import tensorflow as tf

from ieg.augment import imagenet_ops
from ieg.augment.imagenet_ops import OPERATIONS
from ieg.augment.policies import IMAGENET, Step

HEIGHT, WIDTH = 18, 24


@pytest.fixture(scope="module")
def image():
    """(HEIGHT, WIDTH, 3) uint8: noise on a ramp; no channel reaches 0 or 255."""
    rng = np.random.default_rng(0)
    ramp = np.linspace(10, 200, WIDTH)[None, :, None] + rng.integers(0, 50, (HEIGHT, WIDTH, 3))
    return ramp.astype(np.uint8)


def result(name, image, level, negative=False, **options):
    return OPERATIONS[name](tf.constant(image), level, negative, **options).numpy()


def sampled(image, a, b, c, d, e, f):
    """Output pixel (x, y) shows input pixel round(ax + by + c, dx + ey + f), 128 outside.

    And where a rounding is close.
    """
    out, close = np.full_like(image, 128), np.zeros(image.shape[:2], bool)
    for y, x in np.ndindex(HEIGHT, WIDTH):
        places = a * x + b * y + c, d * x + e * y + f
        column, row = (math.floor(place + 0.5) for place in places)
        close[y, x] = any(abs(place % 1 - 0.5) < 1e-4 for place in places)
        if 0 <= column < WIDTH and 0 <= row < HEIGHT:
            out[y, x] = image[row, column]
    return out, close


@pytest.mark.parametrize("negative", [False, True])
@pytest.mark.parametrize("level", [0, 3, 4, 6, 8, 9])
def test_geometric_operations_follow_the_pixels(image, level, negative):
    sign = -1 if negative else 1
    angle = math.radians(sign * 3 * level)
    cos, sin, x, y = math.cos(angle), math.sin(angle), (WIDTH - 1) / 2, (HEIGHT - 1) / 2
    matrices = {
        "ShearX": (1, sign * 0.03 * level, 0, 0, 1, 0),
        "ShearY": (1, 0, 0, sign * 0.03 * level, 1, 0),
        "TranslateX": (1, 0, sign * 25 * level, 0, 1, 0),
        "TranslateY": (1, 0, 0, 0, 1, sign * 25 * level),
        "Rotate": (cos, -sin, x - cos * x + sin * y, sin, cos, y - sin * x - cos * y),
    }
    for name, matrix in matrices.items():
        expected, close = sampled(image, *matrix)
        shown = result(name, image, level, negative)
        np.testing.assert_array_equal(shown[~close], expected[~close], name)
        assert close.mean() < 0.1


def test_a_small_translation_moves_and_fills_with_grey(image, monkeypatch):
    monkeypatch.setattr(imagenet_ops, "TRANSLATE", 10)
    moved = result("TranslateX", image, 4)
    np.testing.assert_array_equal(moved[:, :-4], image[:, 4:])
    assert (moved[:, -4:] == 128).all()
    np.testing.assert_array_equal(result("TranslateY", image, 4, negative=True)[4:], image[:-4])


def by_channel(image, rule):
    """A table of 256 values per channel, made by rule(channel), as the operation."""
    tables = [rule([int(value) for value in image[..., channel].flat]) for channel in range(3)]
    return np.array(
        [[[tables[c][value] for c, value in enumerate(pixel)] for pixel in row] for row in image]
    )


def stretched(values):
    low, high = min(values), max(values)
    return [min(255.0, max(0.0, (v - low) * 255 / (high - low))) for v in range(256)]


def equalized(values):
    step = (len(values) - values.count(max(values))) // 255
    return [
        min(255, (step // 2 + sum(u < v for u in values)) // step) if step else v
        for v in range(256)
    ]


@pytest.mark.parametrize("level", range(10))
def test_point_operations_follow_their_formulas(image, level):
    bits = max(1, int(0.4 * level))
    rules = {
        "Invert": lambda values: [255 - v for v in range(256)],
        "Posterize": lambda values: [v // 2 ** (8 - bits) * 2 ** (8 - bits) for v in range(256)],
        "Solarize": lambda values: [v if v < int(25.6 * level) else 255 - v for v in range(256)],
        "SolarizeAdd": lambda values: [
            min(255, v + 11 * level) if v < 128 else v for v in range(256)
        ],
        "Equalize": equalized,
    }
    for name, rule in rules.items():
        np.testing.assert_array_equal(result(name, image, level), by_channel(image, rule), name)


def test_autocontrast_stretches_each_channel_and_truncates(image):
    shown, expected = result("AutoContrast", image, 5), by_channel(image, stretched)
    assert (np.abs(shown - expected) < 1 + 1e-3).all()
    assert (shown <= expected + 1e-3).all()
    assert shown.min(axis=(0, 1)).tolist() == [0, 0, 0]
    assert shown.max(axis=(0, 1)).min() >= 254


def test_one_colour_survives():
    flat = np.full((20, 20, 3), (10, 100, 200), np.uint8)
    for name in ("AutoContrast", "Equalize"):
        np.testing.assert_array_equal(result(name, flat, 0), flat)


def test_equalize_where_every_value_moves():
    image = np.random.default_rng(1).integers(40, 90, (40, 40, 3), dtype=np.uint8)
    expected = by_channel(image, equalized)
    assert (expected != image).mean() > 0.9
    np.testing.assert_array_equal(result("Equalize", image, 0), expected)


def test_solarize_at_level_10_inverts_all_as_a_comparison_of_bytes_with_256_does(image):
    assert not (tf.constant(image) < 256).numpy().any()
    np.testing.assert_array_equal(result("Solarize", image, 10), 255 - image)


def smoothed(image):
    out = image.copy()
    for y in range(1, HEIGHT - 1):
        for x in range(1, WIDTH - 1):
            for channel in range(3):
                block = image[y - 1 : y + 2, x - 1 : x + 2, channel].astype(int)
                out[y, x, channel] = int((block.sum() + 4 * block[1, 1]) / 13)
    return out


@pytest.mark.parametrize("level", [0, 2, 5, 9])
def test_enhancements_blend_with_a_degenerate_image(image, level):
    grey = np.round(image @ np.array([0.2989, 0.5870, 0.1140]))[..., None]
    degenerate = {
        "Color": grey,
        "Contrast": np.full_like(grey, HEIGHT * WIDTH // 256),
        "Brightness": np.zeros_like(grey),
        "Sharpness": smoothed(image).astype(float),
    }
    factor = 0.18 * level + 0.1
    for name, other in degenerate.items():
        expected = np.clip(other + factor * (image - other), 0, 255).astype(int)
        # 0.18 * 5 + 0.1 is just below 1 here.
        allowed = 0 if name in ("Contrast", "Brightness") and level != 5 else 1
        assert np.abs(result(name, image, level) - expected).max() <= allowed, name


def test_contrast_ignores_the_image():
    dark, bright = np.full((64, 64, 3), 20, np.uint8), np.full((64, 64, 3), 220, np.uint8)
    for image in (dark, bright):  # 64 * 64 / 256 = 16
        expected = int(np.float32(16 + 0.28 * (float(image[0, 0, 0]) - 16)))
        assert (result("Contrast", image, 1) == expected).all()
    assert (
        result("Contrast", np.full((400, 400, 3), 200, np.uint8), 0) == int(255 + 0.1 * (200 - 255))
    ).all()


@pytest.mark.parametrize(
    ("row", "column", "rows", "columns"),
    [(0, 23, (0, 8), (15, 24)), (9, 12, (1, 17), (4, 20)), (17, 0, (9, 18), (0, 8))],
)
def test_cutout_is_a_square_clipped_at_the_borders(image, row, column, rows, columns):
    expected = image.copy()
    expected[rows[0] : rows[1], columns[0] : columns[1]] = 0
    np.testing.assert_array_equal(imagenet_ops.cutout(tf.constant(image), row, column), expected)


@pytest.mark.training  # compiles for seconds
def test_sub_policies_and_cutouts_are_drawn_as_they_should():
    """Solarize at three levels tells the sub-policies apart; the key -1 is the image itself."""
    image = tf.constant(np.arange(256, dtype=np.uint8).repeat(4 * 3).reshape(32, 32, 3))
    policy = tuple((Step("Solarize", 0.75, level), Step("Invert", 0.0, 0)) for level in (2, 5, 8))
    wholes = {level: result("Solarize", image, level) for level in (2, 5, 8)} | {-1: image.numpy()}
    draw = tf.function(lambda seed: imagenet_ops.imagenet_policy(image, seed, policy))
    seen, heights, widths = Counter(), set(), set()
    for number in range(400):
        view = draw(tf.constant([number, 1])).numpy()
        (level,) = [
            level for level, whole in wholes.items() if ((view == whole) | (view == 0)).all()
        ]
        seen[level] += 1
        hidden = ((view == 0) & (wholes[level] != 0)).all(axis=2)
        heights.add(int(hidden.any(axis=1).sum()))
        widths.add(int(hidden.any(axis=0).sum()))
    for level in wholes:  # 3/4 of a third each, and the fourth quarter of all
        assert abs(seen[level] / 400 - 0.25) < 5 * math.sqrt(0.25 * 0.75 / 400)
    assert widths == set(range(8, 17))
    assert max(heights) == 16


@pytest.mark.training  # compiles 25 sub-policies
def test_the_strong_view_follows_from_its_seed_in_a_pipeline():
    y, x = np.mgrid[0:50, 0:70]
    picture = np.stack([3 * x, 5 * y, 255 - 3 * x], 2).astype(np.uint8)
    encoded = tf.io.encode_png(picture)
    data = tf.data.Dataset.range(60).map(
        lambda i: imagenet_ops.strong_view(encoded, [tf.cast(i % 30, tf.int32), 1], 32)
    )
    assert data.element_spec == tf.TensorSpec((32, 32, 3), tf.float32)
    views = np.array(list(data.as_numpy_iterator()))
    np.testing.assert_array_equal(views[:30], views[30:])
    assert len({view.tobytes() for view in views}) == 30
    assert views.min() == 0
    assert views.max() <= 255
    np.testing.assert_array_equal(views, np.round(views))
    # A cutout has a corner at least.
    assert all((view == 0).all(axis=2).sum() >= 64 for view in views)


@pytest.mark.training  # compiles for seconds
def test_the_operations_of_the_policy_take_a_drawn_sign(image):
    drawn = tf.function(
        lambda name, level, negative: OPERATIONS[name](tf.constant(image), level, negative)
    )
    for name in {step.operation for pair in IMAGENET for step in pair}:
        for negative in (False, True):
            view = drawn(name, 4, tf.constant(negative))
            np.testing.assert_array_equal(view, result(name, image, 4, negative), name)

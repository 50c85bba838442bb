"""Policies as tables, what is drawn how often, and what shift, mirror and cutout do."""

from collections import Counter

import numpy as np
import pytest
import tensorflow as tf

from ieg.augment import imagenet_ops, pil_ops, policies
from ieg.augment.policies import CIFAR, IMAGENET, Step

SEED = tf.constant([3, -7])


def weak_views(count=6, side=32):
    pixels = np.random.default_rng(0).integers(0, 256, (count, side, side, 3))
    return ((pixels / 255 - 0.5) * 2).astype(np.float32)


def test_the_policies_have_their_95_and_25_sub_policies():
    assert (len(CIFAR), len(IMAGENET)) == (95, 25)
    assert CIFAR[0] == (Step("Invert", 0.1, 7), Step("Contrast", 0.2, 6))
    assert CIFAR[10] == (Step("Solarize", 0.4, 5), Step("AutoContrast", 0.0, 2))
    assert CIFAR[61] == (Step("Cutout", 0.2, 4), Step("Equalize", 0.1, 1))
    assert CIFAR[94] == (Step("Equalize", 0.6, 9), Step("Equalize", 0.4, 4))
    assert IMAGENET[8] == (Step("Color", 0.6, 1), Step("Equalize", 1.0, 2))
    assert IMAGENET[22] == (Step("Posterize", 0.8, 2), Step("Solarize", 0.6, 10))
    assert IMAGENET[24] == (Step("Color", 0.8, 6), Step("Rotate", 0.4, 5))


def test_every_step_has_an_operation():
    assert {step.operation for pair in CIFAR for step in pair} <= {*pil_ops.OPERATIONS, "Cutout"}
    assert {step.operation for pair in IMAGENET for step in pair} <= set(imagenet_ops.OPERATIONS)
    assert (
        len(policies.RANDAUG_OPERATIONS)
        == len(set(policies.RANDAUG_OPERATIONS) & set(pil_ops.OPERATIONS))
        == 14
    )
    steps = [step for policy in (CIFAR, IMAGENET) for pair in policy for step in pair]
    assert all(0 <= step.probability <= 1 and 0 <= step.level <= 10 for step in steps)


@pytest.mark.parametrize(
    "text", ["Foo.1/2+Inv.1/2", "Inv.1+Inv.1/2", "Inv2/3+Inv.1/2", "Inv.1/11+Inv.1/2"]
)
def test_a_mistyped_policy_is_refused(text):
    with pytest.raises(ValueError, match="write it like"):
        policies.parse(text)


def test_sub_policies_are_drawn_evenly_and_steps_with_their_probability():
    count = 19_000
    draws = policies.draw(count, 32, 32, np.random.default_rng(0), "autoaug")
    seen = Counter(draws.steps)
    for pair, times in Counter(CIFAR).items():
        assert abs(seen[pair] / count - times / 95) < 5 * np.sqrt(times / 95 / count)
    probability = np.array([[step.probability for step in pair] for pair in draws.steps])
    for value in np.unique(probability):
        applied = draws.applied[probability == value]
        assert abs(applied.mean() - value) <= 5 * np.sqrt(value * (1 - value) / len(applied))
    for half in (draws.negative, draws.mirrored):
        assert abs(half.mean() - 0.5) < 0.02


def test_offsets_never_reach_8_and_centres_are_anywhere_in_the_image():
    draws = policies.draw(5000, 20, 30, np.random.default_rng(0), "autoaug")
    assert [set(column) for column in draws.crop.T.tolist()] == [set(range(8))] * 2
    for centres in (draws.cutout, draws.hidden[:, 0], draws.hidden[:, 1]):
        assert [set(column) for column in centres.T.tolist()] == [set(range(20)), set(range(30))]


def test_randaug_draws_two_operations_per_batch():
    seen, levels = set(), set()
    for seed in range(200):
        draws = policies.draw(40, 32, 32, np.random.default_rng(seed), "randaug")
        assert len(set(draws.steps)) == 1
        for step in draws.steps[0]:
            assert step.probability == 0.5
            seen.add(step.operation)
            levels.add(step.level)
        assert 0 < draws.applied.sum() < 80
    assert seen == set(policies.RANDAUG_OPERATIONS)
    assert levels == set(range(1, 10))


@pytest.mark.parametrize("aug_type", policies.AUG_TYPES)
def test_digits_are_never_mirrored_nor_inverted_and_keep_most_of_their_pixels(aug_type):
    draws = [
        policies.draw(100, 32, 32, np.random.default_rng(seed), aug_type, "digits")
        for seed in range(30)
    ]
    assert not any(part.mirrored.any() for part in draws)
    drawn = {step.operation for part in draws for pair in part.steps for step in pair}
    assert not drawn & {"Invert", "Solarize", "Equalize", "Posterize", "Cutout", "TranslateY"}
    assert drawn <= set(pil_ops.OPERATIONS)
    hidden = policies.strong_arrays(np.ones((100, 32, 32, 3), np.float32), draws[0]) == 0
    assert hidden.mean() < 0.4


def test_the_shift_is_a_window_of_the_padded_image():
    images = weak_views(3)
    corners = np.array([[0, 7], [4, 4], [7, 2]])
    for image, (top, left), moved in zip(images, corners, policies.shifted(images, corners)):
        for row, column in np.ndindex(32, 32):
            y, x = row + top - 4, column + left - 4
            inside = 0 <= y < 32 and 0 <= x < 32
            np.testing.assert_array_equal(moved[row, column], image[y, x] if inside else [0, 0, 0])


@pytest.mark.parametrize(
    ("centre", "rows", "columns"),
    [((5, 30), (0, 13), (22, 32)), ((16, 16), (8, 24), (8, 24)), ((31, 0), (23, 32), (0, 8))],
)
def test_the_cutout_is_a_square_clipped_at_the_borders(centre, rows, columns):
    expected = np.zeros((32, 32), bool)
    expected[rows[0] : rows[1], columns[0] : columns[1]] = True
    np.testing.assert_array_equal(policies.square_mask(np.array([centre]), 32, 32)[0], expected)


def literal_view(image, draws, index):
    """One image, step by step."""
    rgba = pil_ops.Image.fromarray(pil_ops.to_rgba(image))
    for place, step in enumerate(draws.steps[index]):
        if draws.applied[index, place] and step.operation == "Cutout":
            rgba = pil_ops.cutout(rgba, step.level, *draws.hidden[index, place].tolist())
        elif draws.applied[index, place]:
            rgba = pil_ops.OPERATIONS[step.operation](
                rgba, step.level, draws.negative[index, place]
            )
    padded = np.pad(pil_ops.from_rgba(np.array(rgba)), ((4, 4), (4, 4), (0, 0)))
    top, left = draws.crop[index]
    view = padded[top : top + 32, left : left + 32].copy()
    view = view[:, ::-1] if draws.mirrored[index] else view
    row, column = draws.cutout[index]
    view[max(0, row - 8) : row + 8, max(0, column - 8) : column + 8] = 0
    return view


@pytest.mark.parametrize("aug_type", policies.AUG_TYPES)
def test_a_batch_is_its_images_one_by_one(aug_type):
    images = weak_views(200)
    draws = policies.draw(200, 32, 32, np.random.default_rng(1), aug_type)
    before = images.copy()
    views = policies.strong_arrays(images, draws)
    np.testing.assert_array_equal(images, before)
    np.testing.assert_array_equal(
        views, [literal_view(image, draws, i) for i, image in enumerate(images)]
    )
    assert np.abs(views).max() <= 1
    assert np.abs(views).mean() > 0.2


def test_cutout_of_the_policy_is_drawn_and_hides():
    pair = (Step("Cutout", 1.0, 3), Step("Identity", 0.0, 0))
    images = np.ones((50, 32, 32, 3), np.float32)
    draws = policies.draw(50, 32, 32, np.random.default_rng(2), "autoaug")
    draws = draws._replace(steps=[pair] * 50, applied=np.array([[True, False]] * 50))
    rgba = pil_ops.to_rgba(images)
    policies.apply_steps(rgba, draws)
    for index, (row, column) in enumerate(draws.hidden[:, 0]):
        hidden = np.zeros((32, 32), bool)
        hidden[max(0, row - 3) : row + 3, max(0, column - 3) : column + 3] = True
        np.testing.assert_array_equal(rgba[index, ..., 3] == 0, hidden)


@pytest.mark.parametrize("aug_type", policies.AUG_TYPES)
def test_the_strong_view_follows_from_its_seed_in_a_pipeline(aug_type):
    images = weak_views()
    data = tf.data.Dataset.from_tensors(images).map(
        lambda rows: policies.strong(rows, SEED, aug_type)
    )
    assert data.element_spec == tf.TensorSpec((6, 32, 32, 3), tf.float32)
    (first,), (second,) = data, data
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(first, policies.strong(tf.constant(images), SEED, aug_type))
    assert (
        first.numpy() != policies.strong(tf.constant(images), SEED + 1, aug_type).numpy()
    ).mean() > 0.2


def test_an_unknown_kind_is_refused_at_once():
    with pytest.raises(ValueError, match="second weak augmentation"):
        policies.strong(tf.zeros((1, 32, 32, 3)), SEED, "default")

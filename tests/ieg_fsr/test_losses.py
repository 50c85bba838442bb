"""Losses and label rules against the papers' sums, written slowly in plain Python."""

import math

import numpy as np
import pytest
import tensorflow as tf

from ieg.method import losses

SHAPES = [(1, 2), (5, 3), (8, 10)]


def rows(shape, seed=0, spread=2.0):
    return (spread * np.random.default_rng(seed).normal(size=shape)).astype(np.float32)


def softmax(row):
    powers = [math.exp(value - max(row)) for value in row]
    return [power / sum(powers) for power in powers]


def distributions(shape, seed=1):
    return np.array([softmax(row) for row in rows(shape, seed).tolist()], np.float32)


def normalised(logits):
    """Every element over the root mean square of all of them."""
    values = [value for row in logits for value in row]
    rms = math.sqrt(sum(value**2 for value in values) / len(values) + 1e-8)
    return [[value / rms for value in row] for row in logits]


@pytest.mark.parametrize("shape", SHAPES)
def test_cross_entropy_of_each_sample(shape):
    targets, logits = distributions(shape), rows(shape)
    expected = [
        -sum(t * math.log(p) for t, p in zip(target, softmax(row)))
        for target, row in zip(targets.tolist(), logits.tolist())
    ]
    np.testing.assert_allclose(losses.cross_entropy(targets, logits), expected, rtol=1e-5)


def test_cross_entropy_of_bfloat16_logits_is_computed_in_float32():
    logits = tf.cast(rows((4, 3)), tf.bfloat16)
    found = losses.cross_entropy(distributions((4, 3)), logits)
    assert found.dtype == tf.float32
    np.testing.assert_array_equal(
        found, losses.cross_entropy(distributions((4, 3)), tf.cast(logits, tf.float32))
    )


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
def test_smoothing_gives_a_share_to_every_class_and_rows_still_sum_to_1(smoothing):
    found = losses.smooth(tf.one_hot([0, 2], 4), smoothing).numpy()
    for row, label in zip(found.tolist(), (0, 2)):
        expected = [(1 - smoothing) * (c == label) + smoothing / 4 for c in range(4)]
        assert row == pytest.approx(expected, rel=1e-6)
        assert sum(row) == pytest.approx(1.0)


@pytest.mark.parametrize("shape", SHAPES)
def test_logit_norm_is_one_scalar_of_the_whole_batch(shape):
    logits = rows(shape)
    np.testing.assert_allclose(losses.logit_norm(logits), normalised(logits.tolist()), rtol=1e-5)


def test_logit_norm_of_zeros_is_zero():
    np.testing.assert_array_equal(losses.logit_norm(tf.zeros((2, 3))), 0)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_label_estimate_is_the_squared_mean_prediction(shape):
    weak, strong = rows(shape, 1), rows(shape, 2)
    expected = []
    for a, b in zip(normalised(weak.tolist()), normalised(strong.tolist())):
        mean = [(p + q) / 2 for p, q in zip(softmax(a), softmax(b))]
        expected.append([p**2 / sum(q**2 for q in mean) for p in mean])
    np.testing.assert_allclose(losses.guess_label(weak, strong), expected, rtol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_consistency_is_the_mean_divergence_and_moves_the_strong_view_alone(shape):
    weak, strong = tf.constant(rows(shape, 1)), tf.constant(rows(shape, 2))
    expected = 0.0
    for a, b in zip(weak.numpy().tolist(), strong.numpy().tolist()):
        expected += sum(p * math.log(p / q) for p, q in zip(softmax(a), softmax(b))) / shape[0]
    with tf.GradientTape() as tape:
        tape.watch([weak, strong])
        found = losses.consistency(weak, strong)
    of_weak, of_strong = tape.gradient(found, [weak, strong])
    assert float(found) == pytest.approx(expected, rel=1e-5)
    assert of_weak is None
    slope = [
        [(q - p) / shape[0] for p, q in zip(softmax(a), softmax(b))]
        for a, b in zip(weak.numpy().tolist(), strong.numpy().tolist())
    ]
    np.testing.assert_allclose(of_strong, slope, rtol=1e-4, atol=1e-7)


def test_mixup_shares_lie_between_a_half_and_1_with_mean_five_sixths():
    uniform = np.linspace(0, 1, 20_001, dtype=np.float32)
    found = losses.mixup_lambda(uniform).numpy()
    np.testing.assert_allclose(
        found, [max(u**2 / 2, 1 - u**2 / 2) for u in uniform.tolist()], rtol=1e-6
    )
    assert (found.min(), found.max()) == (0.5, 1.0)
    assert found.mean() == pytest.approx(5 / 6, abs=1e-4)


def test_mixup_mixes_each_row_with_the_row_that_its_order_names():
    images, targets = rows((4, 2, 2, 3)), distributions((4, 3))
    uniform, order = np.array([0.1, 0.9, 0.0, 0.5], np.float32), [2, 0, 3, 1]
    mixed, mixed_targets = losses.mixup(tf.constant(images), tf.constant(targets), uniform, order)
    for i, (u, other) in enumerate(zip(uniform.tolist(), order)):
        share = 1 - u**2 / 2
        np.testing.assert_allclose(
            mixed[i], share * images[i] + (1 - share) * images[other], rtol=1e-5, atol=1e-6
        )
        np.testing.assert_allclose(
            mixed_targets[i], share * targets[i] + (1 - share) * targets[other], rtol=1e-5
        )
    np.testing.assert_array_equal(mixed[2], images[2])  # u = 0 mixes nothing in


@pytest.mark.parametrize("gradients", [[0.3, -0.1, -0.4, 0.0], [0.1, 0.2], [-1e-6, -2e-6], [-5.0]])
def test_only_samples_that_help_get_weight(gradients):
    helpful = [max(-g, 0.0) for g in gradients]
    expected = [h / (sum(helpful) + 1e-5) for h in helpful]
    found = losses.positive_part(tf.constant(gradients)).numpy()
    assert found.tolist() == pytest.approx(expected, rel=1e-5, abs=1e-9)
    assert found.sum() < 1
    np.testing.assert_allclose(losses.fsr_weights(tf.constant(gradients), clip=True), found)


@pytest.mark.parametrize("gradients", [[0.3, -0.1, -0.4, 0.0], [0.1, 0.2], [0.0, 0.0, 0.0]])
def test_without_clipping_even_the_worst_sample_keeps_a_weight(gradients):
    size = len(gradients)
    stepped = [1 / size - g for g in gradients]
    raised = [v - min(stepped) + 1 / size for v in stepped]
    expected = [u / (sum(raised) + 1e-5) for u in raised]
    found = losses.fsr_weights(tf.constant(gradients), clip=False).numpy()
    assert found.tolist() == pytest.approx(expected, rel=1e-5)
    assert found.min() > 0


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_pseudo_targets_are_constants(temperature):
    logits = tf.constant(rows((3, 4)))
    with tf.GradientTape() as tape:
        tape.watch(logits)
        found = losses.pseudo_targets(logits, temperature)
    expected = [softmax([value / temperature for value in row]) for row in logits.numpy().tolist()]
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert tape.gradient(found, logits) is None


@pytest.mark.parametrize("k", [1, 2, 5])
def test_correct_is_among_the_k_largest(k):
    logits, labels = rows((40, 5)), np.random.default_rng(3).integers(0, 5, 40)
    expected = [
        float(sum(other > row[label] for other in row) < k)
        for row, label in zip(logits.tolist(), labels)
    ]
    found = losses.correct(tf.constant(labels, tf.int32), logits, k).numpy()
    assert found.tolist() == expected


def test_of_equal_logits_the_first_counts():
    assert losses.correct(tf.constant([0, 3, 9]), tf.zeros((3, 10)), 1).numpy().tolist() == [
        1,
        0,
        0,
    ]
    assert losses.correct(tf.constant([4, 5]), tf.zeros((2, 10)), 5).numpy().tolist() == [1, 0]

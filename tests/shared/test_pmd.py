"""PMD noise and independent noise on top against slow, literal references."""

import hashlib
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared import noise
from shared.noise import pmd


def posteriors(samples, num_classes, seed=0, sure=3.0, dtype=np.float32):
    """Softmax outputs of a teacher that is mostly right, and the labels it was taught."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, num_classes, samples)
    logits = rng.normal(size=(samples, num_classes))
    logits[np.arange(samples), labels] += sure
    exponentials = np.exp(logits)
    return (exponentials / exponentials.sum(axis=1, keepdims=True)).astype(dtype), labels


def literal_keep(eta_row, noise_type, factor):
    """The best class, the second-best and the best's probability, in Python's arithmetic."""
    values = [float(value) for value in eta_row]
    best = values.index(max(values))
    second = max((c for c in range(len(values)) if c != best), key=lambda c: (values[c], -c))
    delta = values[best] - values[second]
    f = {1: 1 / 2 - delta**2 / 2, 2: 1 - delta**3, 3: 1 - (delta**3 + delta**2 + delta) / 3}[
        noise_type
    ]
    keep = (max(1 - f, 1 / 2) if noise_type == 1 else 1 - f) / factor
    return best, second, min(max(keep, 0), 1)


@pytest.mark.parametrize("noise_type", pmd.TYPES)
@pytest.mark.parametrize(
    ("num_classes", "factor", "seed"), [(10, 1.43, 123), (3, 3.4, 7), (2, 1.0, 123), (5, 0.6, 1)]
)
def test_pmd_labels_equal_the_literal_loop(noise_type, num_classes, factor, seed):
    eta, _ = posteriors(300, num_classes, dtype=np.float64)
    rng = np.random.RandomState(seed)
    expected = []
    for row in eta:
        best, second, keep = literal_keep(row, noise_type, factor)
        expected.append(best if rng.binomial(1, keep, 1)[0] else second)
    noisy = pmd.pmd_labels(eta, noise_type, factor, seed)
    assert noisy.dtype == np.int64
    assert noisy.tolist() == expected


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", ">f4", "g"])
def test_an_array_of_probabilities_draws_as_a_loop_over_them(dtype):
    eta, _ = posteriors(2000, 4, dtype=dtype)
    best, second = pmd.best_two(eta)
    # Keep probabilities on both sides of 1/2, where binomial draws in another way
    for factor in (0.5, 1.0, 2.0):
        keep = pmd.keep_probability(pmd.margin(eta), 2, factor)
        rng = np.random.RandomState(123)
        expected = [u if rng.binomial(1, p, 1)[0] else s for u, s, p in zip(best, second, keep)]
        assert pmd.pmd_labels(eta, 2, factor).tolist() == expected


def test_labels_never_change():
    """Posteriors without exp(), whose last digit differs from machine to machine."""
    numbers = np.random.default_rng(0).integers(1, 1000, (500, 10)).astype(np.float32) ** 3
    eta = (numbers / numbers.sum(axis=1, keepdims=True)).astype(np.float32)
    digests = [
        hashlib.sha256(pmd.pmd_labels(eta, noise_type, 1.4).tobytes()).hexdigest()[:6]
        for noise_type in pmd.TYPES
    ]
    assert digests == ["27f088", "c68c40", "73953e"]


def test_ties_go_to_the_lower_class():
    best, second = pmd.best_two(
        np.array([[0.2, 0.4, 0.4], [0.25, 0.5, 0.25], [1 / 3, 1 / 3, 1 / 3]])
    )
    assert best.tolist() == [1, 1, 0]
    assert second.tolist() == [2, 0, 1]
    assert pmd.margin(np.array([[0.2, 0.4, 0.4]])).tolist() == [0]


@pytest.mark.parametrize(("noise_type", "at_zero", "at_one"), [(1, 0.5, 0), (2, 1, 0), (3, 1, 0)])
def test_the_flip_probability_diminishes_with_the_margin(noise_type, at_zero, at_one):
    delta = np.linspace(0, 1, 101)
    f = pmd.flip_probability(delta, noise_type)
    assert (np.diff(f) <= 0).all()
    assert (f[0], f[-1]) == pytest.approx((at_zero, at_one), abs=1e-12)


@given(st.sampled_from(pmd.TYPES), st.floats(1e-3, 1e3), st.floats(0, 1))
def test_the_keep_probability_is_clipped_to_a_probability(noise_type, factor, delta):
    (keep,) = pmd.keep_probability(np.array([delta]), noise_type, factor)
    expected = {1: 0.5 + 0.5 * delta**2, 2: delta**3, 3: (delta**3 + delta**2 + delta) / 3}[
        noise_type
    ] / factor
    assert 0 <= keep <= 1
    assert keep == pytest.approx(min(expected, 1), abs=1e-12 / factor)


def test_a_factor_below_one_makes_sure_samples_certain():
    eta = np.array([[0.9, 0.1], [0.6, 0.4]])
    np.testing.assert_allclose(pmd.keep_probability(pmd.margin(eta), 1, 0.6), [1, 0.52 / 0.6])
    assert set(pmd.pmd_labels(np.repeat(eta[:1], 200, axis=0), 1, 0.6).tolist()) == {0}
    assert set(pmd.pmd_labels(np.repeat(eta[1:], 200, axis=0), 1, 0.6).tolist()) == {0, 1}


# ---- a factor for a rate


@pytest.mark.parametrize("noise_type", pmd.TYPES)
@pytest.mark.parametrize(("rate", "seed"), [(0.3, 123), (0.35, 5), (0.7, 123)])
def test_the_factor_gives_the_rate_to_half_a_sample(noise_type, rate, seed):
    eta, labels = posteriors(3000, 10)
    factor = pmd.factor_for_rate(eta, noise_type, rate, labels, seed)
    measured = (pmd.pmd_labels(eta, noise_type, factor, seed) != labels).mean()
    assert abs(measured - rate) <= 0.5 / 3000 + 1e-12


def test_a_worse_teacher_needs_a_smaller_factor():
    factors = []
    for sure in (5.0, 3.0, 2.0):
        eta, labels = posteriors(3000, 10, sure=sure)
        factors.append(pmd.factor_for_rate(eta, 1, 0.5, labels))
    assert factors[0] > factors[1] > factors[2]


def test_rates_out_of_reach_are_refused_with_those_that_are_not():
    eta, labels = posteriors(1000, 10)
    best, second = pmd.best_two(eta)
    for rate in (0.01, 0.999):
        low, high = (best != labels).mean(), (second != labels).mean()
        with pytest.raises(
            ValueError,
            match=rf"rate {rate} is out of reach of type 1 .* allow {low:g} to {high:g}: ask",
        ):
            pmd.factor_for_rate(eta, 1, rate, labels)
    assert (pmd.pmd_labels(eta, 1, pmd.factor_for_rate(eta, 1, low, labels)) == best).all()


def test_a_teacher_that_is_wrong_is_searched_the_other_way():
    eta, _ = posteriors(1000, 5)
    labels = pmd.best_two(eta)[
        1
    ]  # the second-best class is always right: the rate falls with the factor
    factor = pmd.factor_for_rate(eta, 2, 0.25, labels)
    assert abs((pmd.pmd_labels(eta, 2, factor) != labels).mean() - 0.25) <= 0.0005 + 1e-12


def test_equal_posteriors_give_the_closest_rate():
    eta = np.tile(np.array([0.7, 0.3]), (10, 1))
    factor = pmd.factor_for_rate(eta, 1, 0.55, np.zeros(10, int))  # between two counts
    assert (pmd.pmd_labels(eta, 1, factor) != 0).sum() in (5, 6)


# ---- independent noise on top


def literal_on_top(labels, matrix, seed):
    rng = np.random.RandomState(seed)
    return [int(np.flatnonzero(rng.multinomial(1, matrix[label], 1)[0])[0]) for label in labels]


@pytest.mark.parametrize(
    ("rate", "num_classes", "seed"), [(0.3, 10, 77), (0.6, 100, 77), (1.0, 2, 0), (0.05, 3, 1)]
)
def test_uniform_on_top_equals_the_literal_loop(rate, num_classes, seed):
    labels = 7 * np.arange(400) % num_classes
    matrix = [
        [1 - rate if i == j else rate / (num_classes - 1) for j in range(num_classes)]
        for i in range(num_classes)
    ]
    noisy = pmd.uniform_on_top(labels, rate, num_classes, seed)
    assert noisy.dtype == np.int64
    assert noisy.tolist() == literal_on_top(labels, np.array(matrix), seed)


@pytest.mark.parametrize(
    ("name", "num_classes", "rate"),
    [("cifar10", 10, 0.3), ("cifar100_blocks_of_five", 100, 0.3), ("cifar10", 12, 1.0)],
)
def test_asymmetric_on_top_equals_the_literal_loop(name, num_classes, rate):
    labels = 7 * np.arange(400) % num_classes
    rules = noise.ASYMMETRIC_MAPS[name]
    matrix = np.zeros((num_classes, num_classes))
    for source in range(num_classes):
        matrix[source, source] = 1 - rate if source in rules else 1
        if source in rules:
            matrix[source, rules[source]] = rate
    noisy = pmd.asymmetric_on_top(labels, rate, rules, num_classes, 77)
    assert noisy.tolist() == literal_on_top(labels, matrix, 77)
    assert (
        noisy.tolist() == pmd.asymmetric_on_top(labels, rate, rules, num_classes).tolist()
    )  # 77 is the default
    for label, new in zip(labels.tolist(), noisy.tolist()):
        assert new in (label, rules.get(label, label))


def test_noise_on_top_has_its_rate():
    labels = np.arange(20_000) % 10
    matrix = noise.transition_matrix(labels, pmd.uniform_on_top(labels, 0.3, 10), 10)
    expected = np.full((10, 10), 0.3 / 9)
    np.fill_diagonal(expected, 0.7)
    np.testing.assert_allclose(matrix, expected, atol=0.03)


def test_noise_on_top_at_the_ends():
    labels = np.arange(12) % 3
    for noisy in (pmd.uniform_on_top(labels, 0, 3), pmd.asymmetric_on_top(labels, 0, {0: 1}, 3)):
        np.testing.assert_array_equal(noisy, labels)
        noisy[0] = 9  # a copy
        assert labels[0] == 0
    assert (pmd.uniform_on_top(labels, 1, 3) != labels).all()
    np.testing.assert_array_equal(pmd.asymmetric_on_top(labels, 1, {0: 1, 1: 1}, 3), [1, 1, 2] * 4)
    np.testing.assert_array_equal(pmd.uniform_on_top([0, 0], 0.0, 1), [0, 0])
    assert (
        pmd.uniform_on_top([], 0.5, 3).shape
        == pmd.asymmetric_on_top([], 0.5, {0: 1}, 3).shape
        == (0,)
    )


# ---- what is refused


@pytest.mark.parametrize(
    ("eta", "message"),
    [
        (np.ones(3) / 3, r"eta is float64 of shape \(3,\): give floats, \(N, C\)"),
        (np.eye(3, dtype=int), "eta is int64"),
        (np.ones((3, 1)), "fewer than two columns"),
        (np.ones((3, 2)), "not logits"),
        (np.array([[1.5, -0.5]]), "not logits"),
        (np.array([[np.nan, 0.5]]), "not logits"),
        (np.array([[np.inf, 0.5]]), "not logits"),
    ],
)
def test_what_are_no_posteriors_is_refused(eta, message):
    for call in (
        lambda: pmd.pmd_labels(eta, 1, 1.0),
        lambda: pmd.margin(eta),
        lambda: pmd.factor_for_rate(eta, 1, 0.4, [0]),
    ):
        with pytest.raises(ValueError, match=message):
            call()


@pytest.mark.parametrize("factor", [0, -1, math.nan, math.inf])
def test_factors_that_divide_nothing_are_refused(factor):
    with pytest.raises(ValueError, match=r"factor .* is no number above 0"):
        pmd.pmd_labels(np.array([[0.5, 0.5]]), 1, factor)


def test_other_wrong_arguments_are_refused():
    eta, labels = posteriors(4, 3)
    for call, message in (
        (lambda: pmd.pmd_labels(eta, 4, 1.0), "type 4 is unknown: choose one of 1, 2, 3"),
        (lambda: pmd.factor_for_rate(eta, 1, 1.5, labels), "rate 1.5 is outside"),
        (lambda: pmd.factor_for_rate(eta, 1, 0.5, labels[:-1]), "4 rows for 3 clean labels"),
        (lambda: pmd.factor_for_rate(eta, 1, 0.5, labels + 3), "clean_labels: "),
        (lambda: pmd.factor_for_rate(eta[:0], 1, 0.5, labels[:0]), "no rows"),
        (lambda: pmd.uniform_on_top([0, 3], 0.5, 3), "labels: 3 at sample 1"),
        (lambda: pmd.uniform_on_top([0, 1], -0.5, 3), "rate -0.5 is outside"),
        (lambda: pmd.uniform_on_top([0, 0], 0.5, 1), "no other class: use rate 0"),
        (
            lambda: pmd.asymmetric_on_top([0, 1], 0.5, {0: 3}, 3),
            "class_map has class 3, but there are 3",
        ),
        (lambda: pmd.asymmetric_on_top([0, 1], 0.5, {-1: 2}, 3), "class_map has class -1"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
    assert pmd.pmd_labels(eta[:0], 1, 1.0).shape == (0,)


def test_the_global_stream_is_neither_used_nor_moved():
    eta, labels = posteriors(50, 3)
    np.random.seed(5)  # noqa: NPY002 - the global stream is what this test watches
    before = np.random.get_state()[1].tolist()  # noqa: NPY002
    first = pmd.pmd_labels(eta, 1, 1.4)
    pmd.uniform_on_top(labels, 0.5, 3)
    assert np.random.get_state()[1].tolist() == before  # noqa: NPY002
    np.random.seed(6)  # noqa: NPY002
    np.testing.assert_array_equal(pmd.pmd_labels(eta, 1, 1.4), first)

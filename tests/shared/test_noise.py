"""The noise generators against slow, literal references."""

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import truncnorm

from shared.noise import generators as noise


def literal_part_dependent(images, labels, rate, num_classes, seed):
    """The procedure of the PDN code, one sample at a time, with scipy and `choice`."""
    rng = np.random.RandomState(seed)
    spread = 0.1
    flip_rates = truncnorm(-rate / spread, (1 - rate) / spread, loc=rate, scale=spread).rvs(
        len(labels), random_state=rng
    )
    features = images[0].size
    weights = rng.randn(num_classes, features, num_classes).astype(np.float32)
    rows = []
    for image, label, flip_rate in zip(images, labels, flip_rates):
        logits = image.reshape(1, -1).astype(np.float32) @ weights[label]
        logits[0, label] = -np.inf
        exponentials = np.exp(logits[0] - logits[0].max())
        row = np.float32(flip_rate) * (exponentials / exponentials.sum())
        row[label] += np.float32(1 - flip_rate)
        rows.append(row)
    noisy = [
        rng.choice(num_classes, p=row.astype(np.float64) / row.astype(np.float64).sum())
        for row in rows
    ]
    return np.array(noisy)


def random_set(samples, num_classes, side=4, seed=0):
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (samples, side, side, 3), dtype=np.uint8)
    return images, rng.integers(0, num_classes, samples)


@pytest.mark.parametrize(
    ("rate", "num_classes", "seed"), [(0.2, 2, 123), (0.5, 10, 123), (0.05, 7, 1), (1.0, 5, 9)]
)
def test_part_dependent_equals_the_literal_loop(rate, num_classes, seed):
    images, labels = random_set(120, num_classes)
    expected = literal_part_dependent(images, labels, rate, num_classes, seed)
    np.testing.assert_array_equal(
        noise.part_dependent(images, labels, rate, num_classes, seed), expected
    )


def test_part_dependent_equals_the_literal_loop_where_probabilities_are_not_one_hot():
    images, labels = random_set(200, 6)
    soft = (images / 2550).astype(np.float32)
    expected = literal_part_dependent(soft, labels, 0.3, 6, 5)
    np.testing.assert_array_equal(noise.part_dependent(soft, labels, 0.3, 6, 5), expected)


def test_part_dependent_does_not_depend_on_the_chunk_size(monkeypatch):
    images, labels = random_set(150, 3)
    expected = noise.part_dependent(images, labels, 0.4, 3)
    monkeypatch.setattr(noise, "PDN_CHUNK_BYTES", 4 * 48 * 7)  # seven images at a time
    np.testing.assert_array_equal(noise.part_dependent(images, labels, 0.4, 3), expected)


def test_part_dependent_probabilities_are_distributions_with_the_flip_rate_as_their_mean():
    images, labels = random_set(2000, 10)
    flip_rates, probs = noise.part_dependent_probabilities(
        images, labels, 0.4, 10, np.random.RandomState(3)
    )
    np.testing.assert_allclose(probs.sum(axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(probs[np.arange(2000), labels], 1 - flip_rates, atol=1e-6)
    assert flip_rates.mean() == pytest.approx(0.4, abs=0.01)
    assert flip_rates.min() >= 0
    assert flip_rates.max() <= 1


def test_part_dependent_reads_channels_last_order_whatever_the_memory_layout():
    images, labels = random_set(60, 4)
    stored_as_planes = np.ascontiguousarray(images.transpose(0, 3, 1, 2)).transpose(0, 2, 3, 1)
    np.testing.assert_array_equal(
        noise.part_dependent(stored_as_planes, labels, 0.5, 4),
        noise.part_dependent(images, labels, 0.5, 4),
    )


def test_part_dependent_degenerate_cases():
    images, labels = random_set(50, 3)
    np.testing.assert_array_equal(noise.part_dependent(images, labels, 0.0, 3), labels)
    assert noise.part_dependent(images[:0], labels[:0], 0.5, 3).shape == (0,)
    np.testing.assert_array_equal(noise.part_dependent(images, labels * 0, 0.0, 1), labels * 0)
    with pytest.raises(ValueError, match="use rate 0"):
        noise.part_dependent(images, labels * 0, 0.5, 1)
    with pytest.raises(ValueError, match="one image per label"):
        noise.part_dependent(images[:-1], labels, 0.5, 3)
    with pytest.raises(ValueError, match="raw pixel values"):
        noise.part_dependent(np.full((50, 4, 4, 3), np.nan), labels, 0.5, 3)


def test_the_global_stream_is_neither_used_nor_moved():
    images, labels = random_set(30, 3)
    np.random.seed(5)  # noqa: NPY002 - the global stream is what this test watches
    before = np.random.get_state()[1].tolist()  # noqa: NPY002
    first = noise.part_dependent(images, labels, 0.5, 3)
    np.random.seed(6)  # noqa: NPY002
    np.testing.assert_array_equal(noise.part_dependent(images, labels, 0.5, 3), first)
    np.random.seed(5)  # noqa: NPY002
    noise.part_dependent(images, labels, 0.5, 3)
    noise.symmetric(labels, 0.5, 3, np.random.default_rng(0), include_true_class=True)
    assert np.random.get_state()[1].tolist() == before  # noqa: NPY002


@pytest.mark.parametrize("rate", [0.0, 0.29, 0.5, 1.0])
def test_symmetric_without_the_true_class_changes_exactly_int_rate_n(rate):
    labels = np.arange(1000) % 10
    noisy = noise.symmetric(labels, rate, 10, np.random.default_rng(1), include_true_class=False)
    assert (noisy != labels).sum() == int(rate * 1000)
    assert noisy.dtype == np.int64


@pytest.mark.parametrize(("include", "expected_rate"), [(True, 0.8 * 0.75), (False, 0.8)])
def test_symmetric_draws_its_targets_uniformly(include, expected_rate):
    labels = np.repeat(np.arange(4), 5000)
    noisy = noise.symmetric(labels, 0.8, 4, np.random.default_rng(1), include_true_class=include)
    expected = np.full((4, 4), expected_rate / 3)
    np.fill_diagonal(expected, 1 - expected_rate)
    np.testing.assert_allclose(noise.transition_matrix(labels, noisy, 4), expected, atol=0.02)


def test_symmetric_with_one_class():
    labels = np.zeros(10, int)
    rng = np.random.default_rng(0)
    np.testing.assert_array_equal(
        noise.symmetric(labels, 0.5, 1, rng, include_true_class=True), labels
    )
    np.testing.assert_array_equal(
        noise.symmetric(labels, 0.0, 1, rng, include_true_class=False), labels
    )
    with pytest.raises(ValueError, match="use rate 0"):
        noise.symmetric(labels, 0.5, 1, rng, include_true_class=False)


def test_asymmetric_applies_the_rules_to_the_chosen_samples_only():
    labels = np.arange(20_000) % 10
    noisy = noise.asymmetric(
        labels, 0.4, noise.ASYMMETRIC_MAPS["cifar10"], np.random.default_rng(2)
    )
    matrix = noise.transition_matrix(labels, noisy, 10)
    rules = {2: 0, 3: 5, 4: 7, 5: 3, 9: 1}
    for clean in range(10):
        target = rules.get(clean, clean)
        assert matrix[clean, target] == pytest.approx(0.4 if clean in rules else 1.0, abs=0.03)
        assert matrix[clean, clean] + (
            matrix[clean, target] if clean in rules else 0
        ) == pytest.approx(1.0)


def test_asymmetric_at_rate_one_maps_every_sample_once():
    labels = np.arange(10)
    noisy = noise.asymmetric(
        labels, 1.0, noise.ASYMMETRIC_MAPS["cifar10"], np.random.default_rng(2)
    )
    np.testing.assert_array_equal(
        noisy, [0, 1, 0, 5, 7, 3, 6, 7, 8, 1]
    )  # 3 and 5 swap: no rule is applied twice


def test_the_class_maps():
    maps = noise.ASYMMETRIC_MAPS
    assert set(maps["cifar10"]) - set(maps["cifar10_four_rules"]) == {4}
    assert all(maps["cifar100"][c] == (c + 1) % 100 for c in range(100))
    assert all(
        maps["cifar100_blocks_of_five"][c] == c // 5 * 5 + (c % 5 + 1) % 5 for c in range(100)
    )
    supers = {c: i for i, group in enumerate(noise.CIFAR100_SUPER_CLASSES) for c in group}
    shifted = maps["cifar100_super_classes"]
    assert sorted(shifted) == sorted(shifted.values()) == list(range(100))
    assert all(
        supers[source] == supers[target] and source != target for source, target in shifted.items()
    )


def test_pair_flip_goes_to_the_next_class():
    labels = np.arange(300) % 3
    noisy = noise.pair_flip(labels, 0.45, 3, np.random.default_rng(0))
    changed = noisy != labels
    assert changed.sum() == 135
    np.testing.assert_array_equal(noisy[changed], (labels[changed] + 1) % 3)
    np.testing.assert_array_equal(
        noise.pair_flip(np.zeros(4, int), 1.0, 1, np.random.default_rng(0)), np.zeros(4)
    )


INDEPENDENT = {
    "symmetric": lambda y, rate, rng, **more: noise.symmetric(
        y, rate, 10, rng, include_true_class=False, **more
    ),
    "asymmetric": lambda y, rate, rng, **more: noise.asymmetric(
        y, rate, noise.ASYMMETRIC_MAPS["cifar10"], rng, **more
    ),
    "pair_flip": lambda y, rate, rng, **more: noise.pair_flip(y, rate, 10, rng, **more),
}


@pytest.mark.parametrize(
    ("kind", "digest"),
    [("symmetric", "08c802"), ("asymmetric", "c1a343"), ("pair_flip", "826537")],
)
def test_exact_counts_keep_their_bytes(kind, digest):
    labels = np.random.default_rng(0).integers(0, 10, 500)
    made = [
        INDEPENDENT[kind](labels, 0.4, np.random.default_rng(123), **more)
        for more in ({}, {"independent": False})
    ]
    np.testing.assert_array_equal(*made)
    assert hashlib.sha256(made[0].tobytes()).hexdigest()[:6] == digest


@pytest.mark.parametrize("kind", INDEPENDENT)
def test_independent_draws_choose_each_sample_by_itself(kind):
    labels = np.arange(20_000) % 10
    with_rule = labels if kind != "asymmetric" else labels[np.isin(labels, [2, 3, 4, 5, 9])]
    rates = []
    for seed in range(40):
        noisy = INDEPENDENT[kind](labels, 0.4, np.random.default_rng(seed), independent=True)
        assert noisy.dtype == np.int64
        rates.append((noisy != labels).sum() / len(with_rule))
    assert np.mean(rates) == pytest.approx(0.4, abs=0.003)
    assert np.std(rates) == pytest.approx(
        (0.4 * 0.6 / len(with_rule)) ** 0.5, rel=0.4
    )  # of a binomial count
    by_class = (noisy != labels).reshape(-1, 10)[
        :, [3, 5]
    ]  # flips of one class say nothing about another's
    assert abs(np.corrcoef(by_class.T)[0, 1]) < 0.1
    exact = INDEPENDENT[kind](labels, 0.4, np.random.default_rng(0))
    first = INDEPENDENT[kind](labels, 0.4, np.random.default_rng(0), independent=True)
    assert (first != exact).any()


@pytest.mark.parametrize("kind", INDEPENDENT)
def test_independent_draws_at_the_ends_are_exact(kind):
    labels = np.arange(100) % 10
    for rate in (0.0, 1.0):
        independent = INDEPENDENT[kind](labels, rate, np.random.default_rng(1), independent=True)
        if kind != "symmetric" or rate == 0:
            np.testing.assert_array_equal(
                independent, INDEPENDENT[kind](labels, rate, np.random.default_rng(2))
            )
        else:
            assert (independent != labels).all()


def literal_confidence_dependent(labels, probs, rate):
    """One sample at a time: its likeliest wrong class; then the likeliest int(rate N) of all."""
    candidates = []
    for index, (label, row) in enumerate(zip(labels, probs)):
        wrong = max((c for c in range(len(row)) if c != label), key=lambda c: (row[c], -c))
        candidates.append((-row[wrong], index, wrong))
    noisy = list(labels)
    for _, index, wrong in sorted(candidates)[: int(rate * len(labels))]:
        noisy[index] = wrong
    return noisy


@given(
    st.integers(0, 40),
    st.integers(2, 6),
    st.floats(0, 1),
    st.integers(0, 5),
    st.sampled_from(["f4", "f8", ">f8"]),
)
def test_confidence_dependent_equals_the_literal_loop(samples, num_classes, rate, levels, dtype):
    rng = np.random.default_rng(samples)
    labels = rng.integers(0, num_classes, samples)
    probs = (rng.integers(0, levels + 1, (samples, num_classes)) / 8).astype(
        dtype
    )  # few values: many ties
    before = probs.copy()
    noisy = noise.confidence_dependent(labels, probs, rate)
    assert noisy.dtype == np.int64
    assert noisy.tolist() == literal_confidence_dependent(labels, probs, rate)
    assert (noisy != labels).sum() == int(rate * samples)
    np.testing.assert_array_equal(probs, before)


def test_confidence_dependent_flips_where_the_network_doubts_most():
    probs = np.array([[0.5, 0.4, 0.1], [0.9, 0.1, 0.0], [0.2, 0.2, 0.6], [0.3, 0.3, 0.4]])
    np.testing.assert_array_equal(
        noise.confidence_dependent([0, 0, 2, 0], probs, 0.5), [1, 0, 2, 2]
    )
    np.testing.assert_array_equal(
        noise.confidence_dependent([0, 0, 2, 0], probs, 1.0), [1, 1, 0, 2]
    )


@pytest.mark.parametrize(
    ("probs", "message"),
    [
        (np.ones(3), r"shape \(3,\): give floats, \(N, C\)"),
        (np.ones((3, 2), int), "int64"),
        (np.ones((2, 2)), "2 rows for 3 labels"),
        (np.array([[0.5, 0.5], [0.5, np.nan], [0, 1]]), "not logits"),
        (np.array([[0.5, 0.5], [0.5, np.inf], [0, 1]]), "not logits"),
        (np.array([[0.5, 0.5], [-0.5, 1.5], [0, 1]]), "not logits"),
        (np.ones((3, 1)), "labels: 1 at sample 1"),
    ],
)
def test_confidence_dependent_refuses_what_are_no_probabilities(probs, message):
    with pytest.raises(ValueError, match=message):
        noise.confidence_dependent([0, 1, 0], probs, 0.5)
    with pytest.raises(ValueError, match="no wrong class"):
        noise.confidence_dependent([0, 0, 0], np.ones((3, 1)), 0.5)
    np.testing.assert_array_equal(
        noise.confidence_dependent([0, 0, 0], np.ones((3, 1)), 0.3), [0, 0, 0]
    )


@pytest.mark.parametrize("rate", [0.0, 0.5, 1.0])
def test_no_samples_no_noise(rate):
    empty = np.zeros(0, int)
    rng = np.random.default_rng(0)
    assert noise.symmetric(empty, rate, 3, rng, include_true_class=False).shape == (0,)
    assert noise.asymmetric(empty, rate, {0: 1}, rng).shape == (0,)
    assert noise.pair_flip(empty, rate, 3, rng).shape == (0,)
    np.testing.assert_array_equal(noise.transition_matrix(empty, empty, 3), np.zeros((3, 3)))


def test_transition_matrix_equals_a_count_by_hand():
    clean, noisy = [0, 0, 0, 0, 2], [0, 1, 1, 2, 2]
    expected = [[0.25, 0.5, 0.25], [0, 0, 0], [0, 0, 1]]  # class 1 does not occur
    np.testing.assert_array_equal(noise.transition_matrix(clean, noisy, 3), expected)
    with pytest.raises(ValueError, match="same samples"):
        noise.transition_matrix(clean, noisy[:-1], 3)


@pytest.mark.parametrize("rate", [-0.1, 1.1, float("nan"), float("inf")])
def test_rates_outside_0_1_are_refused(rate):
    labels, rng = np.zeros(4, int), np.random.default_rng(0)
    for call in (
        lambda: noise.symmetric(labels, rate, 2, rng, include_true_class=True),
        lambda: noise.asymmetric(labels, rate, {0: 1}, rng),
        lambda: noise.pair_flip(labels, rate, 2, rng),
        lambda: noise.part_dependent(np.zeros((4, 2, 2, 3)), labels, rate, 2),
        lambda: noise.pair_flip(labels, rate, 2, rng, independent=True),
        lambda: noise.confidence_dependent(labels, np.ones((4, 2)), rate),
    ):
        with pytest.raises(ValueError, match="outside"):
            call()


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, 1, 5], "labels: 5 at sample 2"),
        ([0, -1, 2], "labels: -1 at sample 1"),
        ([0.0, 1.0], "give integers"),
        ([True, False], "give integers"),
        ([[0, 1]], "one integer per sample"),
        (3, "one integer per sample"),
        (["a"], "give integers"),
    ],
)
def test_bad_labels_are_refused(labels, message):
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match=message):
        noise.symmetric(labels, 0.5, 5, rng, include_true_class=True)
    with pytest.raises(ValueError, match=message):
        noise.transition_matrix(labels, labels, 5)


def test_num_classes_and_class_maps_are_checked():
    with pytest.raises(ValueError, match="at least 1"):
        noise.pair_flip([0], 0.5, 0, np.random.default_rng(0))
    with pytest.raises(ValueError, match="negative class"):
        noise.asymmetric([0], 0.5, {0: -1}, np.random.default_rng(0))

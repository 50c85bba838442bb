"""Long-tailed subsets: the papers' class sizes, and our draw of the images."""

import itertools

import numpy as np
import pytest

from shared.noise import long_tail

FACTORS = (0.1, 0.05, 0.02, 0.01, 0.005)
TOTALS = {10: (20431, 17023, 13996, 12406, 11203), 100: (19573, 15907, 12608, 10847, 9502)}


@pytest.mark.parametrize("num_classes", [10, 100])
def test_counts_add_up_to_the_published_totals(num_classes):
    largest = 50_000 // num_classes
    for factor, total in zip(FACTORS, TOTALS[num_classes]):
        counts = long_tail.counts(num_classes, largest, factor)
        assert counts.sum() == total
        assert counts.dtype == np.int64
        assert (counts[0], counts[-1]) == (largest, int(largest * factor))
        assert (np.diff(counts) <= 0).all()
    assert long_tail.counts(num_classes, largest, 1).tolist() == [largest] * num_classes


def test_one_class_keeps_all():
    assert long_tail.counts(1, 7, 0.1).tolist() == [7]


@pytest.mark.parametrize("factor", FACTORS)
def test_a_subset_has_the_counts_of_the_smallest_class(factor):
    labels = np.random.RandomState(0).permutation(np.repeat(np.arange(4), (300, 250, 210, 230)))
    rows = long_tail.subset(labels, factor)
    assert rows.dtype == np.int64
    assert (np.diff(rows) > 0).all()
    np.testing.assert_array_equal(np.bincount(labels[rows]), long_tail.counts(4, 210, factor))


def test_a_subset_is_one_choice_per_class_from_its_own_generator():
    labels = np.arange(60) % 3
    random = np.random.RandomState(9)
    expected = [
        random.choice(np.arange(c, 60, 3), size, replace=False) for c, size in enumerate((20, 6, 2))
    ]
    np.testing.assert_array_equal(
        long_tail.subset(labels, 0.1, 9), np.sort(np.concatenate(expected))
    )
    assert long_tail.subset(labels, 0.1, 10).tolist() != long_tail.subset(labels, 0.1, 9).tolist()
    assert long_tail.subset(labels, 1.0).tolist() == list(range(60))


def test_subsets_of_falling_factors_are_nested():
    labels = np.arange(5000) % 10
    subsets = [set(long_tail.subset(labels, factor).tolist()) for factor in (1.0, *FACTORS)]
    assert all(smaller < larger for larger, smaller in itertools.pairwise(subsets))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((10, 5000, 0), r"imbalance 0 is outside \(0, 1\]"),
        ((10, 5000, 50), "0.02 makes the last class a fiftieth of the first"),
        ((10, 5000, float("nan")), "imbalance nan"),
        ((0, 5000, 0.1), "give at least 1 of each"),
        ((10, 0, 0.1), "give at least 1 of each"),
        ((10, 50, 0.01), "leaves the last class nothing of 50 samples: give at least 0.02$"),
        ((10, 143, 0.005), r"give at least 0\.006994"),  # 1/143 to three places would be too little
    ],
)
def test_impossible_counts_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        long_tail.counts(*arguments)


@pytest.mark.parametrize(
    ("labels", "seed", "message"),
    [
        ([], 0, "no sample has class 0"),
        ([0, 0, 2], 0, "no sample has class 1"),
        ([1, 2], 0, "no sample has class 0"),
        ([0, 1], -1, "seed -1 is outside"),
        ([0.5, 1.0], 0, "give integers"),
    ],
)
def test_impossible_subsets_are_refused(labels, seed, message):
    with pytest.raises(ValueError, match=message):
        long_tail.subset(labels, 1.0, seed)

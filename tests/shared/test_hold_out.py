"""A part of the samples is held out, class by class."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.formats.alignment import hold_out
from shared.formats.noise_file import NoiseFileError


@given(
    sizes=st.lists(st.integers(0, 40), min_size=1, max_size=8),
    fraction=st.floats(0.01, 0.99),
    seed=st.integers(0, 2**32 - 1),
)
def test_every_split_keeps_the_promises(sizes, fraction, seed):
    labels = np.repeat(np.arange(len(sizes)), sizes)
    np.random.default_rng(seed).shuffle(labels)
    wanted, present = round(fraction * len(labels)), sum(size > 0 for size in sizes)
    if not 0 < wanted <= len(labels) - present:
        with pytest.raises(NoiseFileError, match="--val_fraction"):
            hold_out(labels, fraction, seed)
        return
    kept, out = hold_out(labels, fraction, seed)
    assert len(out) == wanted
    np.testing.assert_array_equal(np.sort(np.concatenate([kept, out])), np.arange(len(labels)))
    for rows in (kept, out):
        assert rows.dtype == np.int64
        assert (np.diff(rows) > 0).all()
    counts = np.bincount(labels[out], minlength=len(sizes))
    shares = np.array(sizes) * wanted / len(labels)
    assert (counts[np.array(sizes) > 0] < np.array(sizes)[np.array(sizes) > 0]).all()
    if all(share <= max(0, size - 1) for share, size in zip(shares, sizes)):  # none at its limit
        assert (np.abs(counts - shares) < 1).all()


@pytest.mark.parametrize(
    ("sizes", "fraction", "expected"),
    [
        ((10, 10), 0.2, (2, 2)),
        ((10, 5, 5), 0.1, (1, 1, 0)),
        ((100, 1), 0.5, (50, 0)),
        ((4, 2, 2), 0.625, (3, 1, 1)),
        ((6, 0, 3), 1 / 3, (2, 0, 1)),
    ],
)
def test_each_class_gives_its_share(sizes, fraction, expected):
    labels = np.repeat(np.arange(len(sizes)), sizes)
    _, out = hold_out(labels, fraction, 1)
    assert np.bincount(labels[out], minlength=len(sizes)).tolist() == list(expected)


def test_the_seed_decides():
    labels = np.arange(1000) % 10
    first, again, other = (hold_out(labels, 0.1, seed)[1] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, 1.5, float("nan")])
def test_other_numbers_are_refused(fraction):
    with pytest.raises(NoiseFileError, match=r"not between 0 and 1: 0\.1 means 10 %"):
        hold_out(np.zeros(10, np.int64), fraction, 1)


@pytest.mark.parametrize(
    ("count", "fraction", "message"),
    [
        (3, 0.1, r"3 samples in 1 classes would hold out 0 .*a larger one"),
        (4, 0.9, r"hold out 4 of them.*at most 0\.75"),
        (0, 0.5, r"0 samples"),
    ],
)
def test_what_cannot_be_is_told_with_the_fix(count, fraction, message):
    with pytest.raises(NoiseFileError, match=message):
        hold_out(np.zeros(count, np.int64), fraction, 1)

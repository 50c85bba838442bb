"""Means, deviations and times as the tables show them."""

import math

import pytest

from compare.spread import Spread, span, spread


def test_a_spread_is_the_mean_and_the_sample_deviation():
    assert spread([]) is None
    assert spread([2.0]) == Spread(2.0, None)
    found = spread([1.0, 2.0, 6.0])
    assert found.mean == pytest.approx(3.0)
    assert found.deviation == pytest.approx(math.sqrt((4 + 1 + 9) / 2))


def test_a_spread_as_text():
    assert Spread(87.136, None).text() == "87.14"
    assert Spread(0.98765, 0.0123).text(3) == "0.988 ± 0.012"


def test_spans_of_time():
    assert [span(seconds) for seconds in (0.2, 59.4, 61, 3599, 7500)] == [
        *("0 s", "59 s", "1 min 1 s", "59 min 59 s", "2 h 5 min")
    ]

"""The numbers of the report against sums written out, and scikit-learn's."""

from itertools import permutations

import numpy as np
import pytest
from sklearn import metrics

from compare.report import statistics

NAN = np.nan


def random_case(count, seed, levels=None):
    rng = np.random.default_rng(seed)
    quality = rng.random(count) if levels is None else rng.integers(0, levels, count) / levels
    wrong = rng.random(count) < 0.3
    wrong[:2] = True, False
    return quality, wrong


def test_ranks_are_shares_and_ties_share_one():
    found = statistics.ranks(np.array([0.2, NAN, 0.1, 0.2, 0.9]))
    np.testing.assert_allclose(found, [2.5 / 4, NAN, 1 / 4, 2.5 / 4, 1.0])
    assert np.isnan(statistics.ranks(np.array([NAN, NAN]))).all()


def test_a_mean_is_over_what_is_known():
    rows = np.array([[0.2, NAN, NAN], [0.4, 0.5, NAN]])
    np.testing.assert_allclose(statistics.mean_over(rows), [0.3, 0.5, NAN])


def test_a_vote_takes_the_most_frequent_label_and_of_equals_the_lowest():
    labels = np.array([[2, 0, -1, 2], [2, 1, -1, -1], [1, -1, -1, 0]])
    assert statistics.vote(labels, 3).tolist() == [2, 0, -1, 0]


def test_transitions_count_pairs_of_known_labels():
    before, after = np.array([0, 0, 1, -1, 2, 0]), np.array([0, 1, 1, 1, -1, 1])
    counts = statistics.transition(before, after, 3)
    expected = [
        [sum(b == i and a == j for b, a in zip(before, after)) for j in range(3)] for i in range(3)
    ]
    assert counts.tolist() == expected
    shares = statistics.row_shares(counts)
    np.testing.assert_allclose(shares[0], [1 / 3, 2 / 3, 0])
    assert np.isnan(shares[2]).all()  # a class that has no sample


@pytest.mark.parametrize(("count", "levels"), [(2, None), (50, None), (200, 4), (30, 1)])
def test_detection_is_the_roc_of_scikit_learn(count, levels):
    quality, wrong = random_case(count, count, levels)
    found = statistics.detection(quality, wrong)
    assert found.auc == pytest.approx(metrics.roc_auc_score(wrong, -quality))
    assert found.false_positive_rate[0] == found.true_positive_rate[0] == 0
    assert found.false_positive_rate[-1] == found.true_positive_rate[-1] == 1
    assert np.trapezoid(found.true_positive_rate, found.false_positive_rate) == pytest.approx(
        found.auc, abs=0.02
    )


def test_precision_is_the_share_of_wrong_ones_among_the_first():
    quality, wrong = random_case(40, 3)
    order = sorted(range(40), key=lambda row: quality[row])
    expected = [sum(wrong[row] for row in order[:k]) / k for k in range(1, 41)]
    np.testing.assert_allclose(statistics.expected_precision(quality, wrong), expected)
    found = statistics.detection(quality, wrong)
    assert found.precision_at_k == pytest.approx(expected[int(wrong.sum()) - 1])
    np.testing.assert_allclose(found.precision, [expected[k - 1] for k in found.first])


def test_precision_of_ties_is_the_mean_over_all_orders():
    quality, wrong = np.array([0.1, 0.5, 0.5, 0.5, 0.9]), np.array([0, 1, 0, 1, 1], bool)
    precisions = []
    for middle in permutations([1, 2, 3]):
        order = [0, *middle, 4]
        precisions.append([wrong[order[:k]].sum() / k for k in range(1, 6)])
    expected = np.mean(precisions, axis=0)
    np.testing.assert_allclose(statistics.expected_precision(quality, wrong), expected)


@pytest.mark.parametrize("wrong", [[True, True], [False, False]])
def test_nothing_is_detected_where_all_labels_are_alike(wrong):
    assert statistics.detection(np.array([0.1, 0.2]), np.array(wrong)) is None


def test_a_curve_of_many_samples_has_few_points():
    quality, wrong = random_case(5000, 1)
    found = statistics.detection(quality, wrong)
    for values in (found.false_positive_rate, found.first):
        assert 10 < len(values) <= statistics.CURVE_POINTS
    assert found.first[0] == 1
    assert found.first[-1] == 5000


def test_agreement_is_over_the_samples_that_both_judged():
    issues = [np.array([1, 1, 0, 0], bool), np.array([1, 0, 0, 1], bool)]
    judged = [np.array([1, 1, 1, 0], bool), np.ones(4, bool)]
    found = statistics.agreement(issues, judged)
    np.testing.assert_allclose(found, [[1, 2 / 3], [2 / 3, 1]])
    none = statistics.agreement(issues, [np.zeros(4, bool), np.ones(4, bool)])
    assert np.isnan(none[0, 1])


def test_rank_correlation_does_not_see_the_scale():
    rng = np.random.default_rng(0)
    quality = rng.random(30)
    found = statistics.rank_correlation([quality, quality**3, 1 - quality, np.full(30, 0.5)])
    np.testing.assert_allclose(found[0, :3], [1, 1, -1])
    assert np.isnan(found[0, 3])  # a constant has no order
    partly = quality.copy()
    partly[10:] = NAN
    assert statistics.rank_correlation([quality, partly])[0, 1] == pytest.approx(1)


def test_the_worst_of_every_ranking_are_chosen_in_the_order_of_the_last():
    first = np.array([0.2, 0.4, 0.6, 0.8, NAN])
    last = np.array([0.9, 0.3, 0.2, 0.5, 0.1])
    assert statistics.worst([first, last], 2).tolist() == [4, 2, 1, 0]
    assert statistics.worst([first], 99).tolist() == [0, 1, 2, 3]
    assert statistics.worst([np.full(3, NAN)], 2).tolist() == []

"""What the report counts: ranks, ROC and precision, agreement, transitions. Pure functions.

Letters: N samples, M methods, C classes, n samples of which something is known. A quality is in
[0, 1], low is suspicious, NaN where a method did not judge the sample; labels are -1 where unknown.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from sklearn import metrics

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]
Flags = NDArray[np.bool_]
CURVE_POINTS = 200  # that a curve is drawn by at most


@dataclass(frozen=True)
class Detection:
    """How well a quality finds wrong labels, of which there are K."""

    false_positive_rate: Floats  # (P,) of the ROC curve
    true_positive_rate: Floats  # (P,)
    auc: float
    first: Labels  # (Q,) numbers of samples looked at, from 1 on
    precision: Floats  # (Q,) share of wrong labels among the most suspicious `first` ones
    precision_at_k: float  # among the first K


def ranks(quality: Floats) -> Floats:
    """(N,) shares in (0, 1] of the judged samples that are as suspicious or more, NaN stays.

    The most suspicious of n samples has 1 / n; ties share their mean rank.
    """
    judged = ~np.isnan(quality)
    found = np.full(len(quality), np.nan)
    found[judged] = stats.rankdata(quality[judged]) / max(int(judged.sum()), 1)
    return found


def mean_over(rows: Floats) -> Floats:
    """(N,) means over the M rows of (M, N), of what is no NaN; NaN where all are."""
    known = ~np.isnan(rows)
    count = known.sum(axis=0)
    total = np.where(known, rows, 0.0).sum(axis=0)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def vote(labels: Labels, num_classes: int) -> Labels:
    """(N,) the most frequent label of each column of (M, N); of equals the lowest, -1: no vote."""
    votes = np.zeros((labels.shape[1], num_classes), np.int64)
    for row in labels:
        voters = np.flatnonzero(row >= 0)
        votes[voters, row[voters]] += 1
    return np.where(votes.any(axis=1), votes.argmax(axis=1), -1)


def transition(before: Labels, after: Labels, num_classes: int) -> NDArray[np.int64]:
    """(C, C) counts of samples by `before` (row) and `after` (column), both known."""
    both = (before >= 0) & (after >= 0)
    cells = before[both] * num_classes + after[both]
    return np.bincount(cells, minlength=num_classes**2).reshape(num_classes, num_classes)


def row_shares(counts: NDArray[np.int64]) -> Floats:
    """(C, C) each row divided by its sum; NaN in the rows of classes without a sample."""
    totals = counts.sum(axis=1, keepdims=True)
    return np.where(totals > 0, counts / np.maximum(totals, 1), np.nan)


def detection(quality: Floats, wrong: Flags) -> Detection | None:
    """Of n judged samples whose truth is known; None where all labels are right, or all wrong."""
    if wrong.all() or not wrong.any():
        return None
    false_positive, true_positive, _ = metrics.roc_curve(wrong, -quality)
    precision = expected_precision(quality, wrong)
    count = int(wrong.sum())
    # on a logarithmic axis the first ones are far apart
    first = np.unique(np.geomspace(1, len(wrong), CURVE_POINTS).round().astype(np.int64))
    shown = _thinned(len(false_positive))
    return Detection(
        false_positive_rate=false_positive[shown],
        true_positive_rate=true_positive[shown],
        auc=float(metrics.auc(false_positive, true_positive)),
        first=first,
        precision=precision[first - 1],
        precision_at_k=float(precision[count - 1]),
    )


def expected_precision(quality: Floats, wrong: Flags) -> Floats:
    """(n,) share of wrong labels among the most suspicious k = 1 ... n.

    Of samples with one quality the order is by chance, so each counts as their mean.
    """
    _, group = np.unique(quality, return_inverse=True)
    mean = np.bincount(group, wrong) / np.bincount(group)
    expected = mean[group][np.argsort(quality, kind="stable")]
    return np.cumsum(expected) / np.arange(1, len(wrong) + 1)


def _thinned(count: int) -> NDArray[np.int64]:
    return np.unique(np.linspace(0, count - 1, min(count, CURVE_POINTS)).round().astype(np.int64))


def agreement(issues: Sequence[Flags], judged: Sequence[Flags]) -> Floats:
    """(M, M) share of the samples both judged that both call an issue, or both do not."""

    def share(one: int, two: int) -> float:
        both = judged[one] & judged[two]
        return float((issues[one] == issues[two])[both].mean()) if both.any() else np.nan

    return _pairs(len(issues), share)


def rank_correlation(quality: Sequence[Floats]) -> Floats:
    """(M, M) Spearman's correlation over the samples both judged; NaN where one is constant."""

    def correlation(one: int, two: int) -> float:
        both = ~np.isnan(quality[one]) & ~np.isnan(quality[two])
        pair = quality[one][both], quality[two][both]
        if both.sum() < 2 or any(np.ptp(values) == 0 for values in pair):
            return np.nan
        return float(stats.spearmanr(*pair).statistic)

    return _pairs(len(quality), correlation)


def _pairs(count: int, measure: Any) -> Floats:
    return np.array(
        [[measure(one, two) for two in range(count)] for one in range(count)], np.float64
    ).reshape(count, count)


def worst(rankings: Sequence[Floats], first: int) -> NDArray[np.int64]:
    """Positions of the `first` lowest of each ranking (N,), sorted by the last; NaN is left out.

    The last ranking is the one over all.
    """
    chosen: set[int] = set()
    for ranking in rankings:
        judged = np.flatnonzero(~np.isnan(ranking))
        chosen |= set(judged[np.argsort(ranking[judged], kind="stable")][:first].tolist())
    found = np.array(sorted(chosen), np.int64)
    return found[np.argsort(rankings[-1][found], kind="stable")]

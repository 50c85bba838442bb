"""Noise by a transition matrix of one's own; a pure function, like those of `generators`.

    noisy_labels = by_transitions(labels, matrix, np.random.default_rng(123))

Letters: N samples, C classes.
"""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from shared.labels import Labels, checked_labels


def by_transitions(
    labels: ArrayLike,
    matrix: NDArray[np.floating[Any]],
    rng: np.random.Generator,
    *,
    independent: bool = False,
) -> Labels:
    """Class i becomes class j in the share matrix[i, j]; (N,) int64.

    labels: (N,) in [0, C). matrix: (C, C), rows sum to 1. Of each class, random samples go to each
    target, as many as the share says, rounded so that none is left over (largest remainders first,
    of equal ones the lower class). independent: each sample draws from its row on its own.
    """
    shares = checked_transitions(matrix, len(matrix))
    labels = checked_labels(labels, len(shares))
    noisy = labels.copy()
    for label, row in enumerate(shares):
        members = np.flatnonzero(labels == label)
        if independent:
            noisy[members] = rng.choice(len(row), len(members), p=row)
            continue
        exact = row * len(members)
        counts = np.floor(exact + 1e-6).astype(np.int64)
        left = len(members) - int(counts.sum())
        counts[np.argsort(-(exact - counts), kind="stable")[:left]] += 1
        noisy[rng.permutation(members)] = np.repeat(np.arange(len(row)), counts)
    return noisy


def checked_transitions(matrix: NDArray[np.floating[Any]], num_classes: int) -> NDArray[np.float64]:
    """The matrix (C, C) float64, its rows summing to exactly 1; ValueError for anything else."""
    shares = np.asarray(matrix)
    if shares.shape != (num_classes, num_classes) or shares.dtype.kind != "f":
        raise ValueError(
            f"the matrix is {shares.dtype} of shape {shares.shape}: give floats, "
            f"({num_classes}, {num_classes}), a row for each clean class"
        )
    shares = shares.astype(np.float64)
    sums = shares.sum(axis=1)
    if not (np.isfinite(shares).all() and (shares >= 0).all()):
        raise ValueError("the matrix has negative, infinite or missing shares: give 0 to 1")
    if (wrong := np.flatnonzero(np.abs(sums - 1) > 1e-3)).size:
        raise ValueError(
            f"row {wrong[0]} of the matrix sums to {sums[wrong[0]]:g}: every row must sum to 1"
        )
    normalised: NDArray[np.float64] = shares / sums[:, None]
    return normalised

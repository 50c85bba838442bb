"""Clean probability of every training sample: a two-component Gaussian mixture on its loss
(DivideMix, section 3.1).

Shapes: N training samples. Everything here is numpy on the host; it runs twice an epoch and takes a
fraction of a second.
"""

import warnings
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

FloatArray = NDArray[np.floating]


class CleanFit(NamedTuple):
    """clean_prob: (N,) in [0, 1]; losses: (N,) in [0, 1], what the mixture saw; mixture: None if
    all losses are equal.
    """

    clean_prob: FloatArray
    losses: FloatArray
    mixture: GaussianMixture | None


def normalise(losses: FloatArray) -> FloatArray:
    """Min-max normalisation to [0, 1] over the set; equal losses become 0. losses: (N,), finite."""
    low, high = losses.min(), losses.max()
    return (losses - low) / (high - low) if high > low else np.zeros_like(losses)


def fit_clean_prob(losses: FloatArray, seed: int) -> CleanFit:
    """Posterior of the component with the smaller mean, given normalised losses (N,).

    The early stop (10 iterations, tolerance 1e-2) belongs to the method: full convergence moves
    posteriors by 0.15. Equal losses carry no evidence against any label: every sample then counts
    as clean.
    """
    column = losses.astype(np.float64).reshape(-1, 1)
    # DEVIATION(instancegm): equal losses count as clean; the original divides by their spread,
    # which is 0.
    if np.ptp(column) == 0:
        return CleanFit(np.ones(len(losses)), losses, None)
    mixture = GaussianMixture(
        n_components=2, max_iter=10, tol=1e-2, reg_covar=5e-4, random_state=seed
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        posterior = mixture.fit(column).predict_proba(column)
    return CleanFit(posterior[:, mixture.means_.argmin()], losses, mixture)


class Split(NamedTuple):
    """What one network learns from: positions in the training set, and the clean probability of the
    labelled ones.
    """

    labelled: NDArray[np.int64]
    unlabelled: NDArray[np.int64]
    clean_prob: FloatArray


def split_by_clean_prob(clean_prob: FloatArray, threshold: float, at_least: int) -> Split:
    """Samples above the threshold are labelled, the others unlabelled. clean_prob: (N,).

    If nothing passes, the `at_least` most probable samples are labelled, so that an epoch still has
    a supervised signal. An empty unlabelled part is fine.
    """
    # DEVIATION(instancegm): an empty split does not stop the run; the original's data loader raises
    # an error.
    chosen = clean_prob > threshold
    if not chosen.any():
        chosen[np.argsort(-clean_prob, kind="stable")[:at_least]] = True
    return Split(np.flatnonzero(chosen), np.flatnonzero(~chosen), clean_prob[chosen])

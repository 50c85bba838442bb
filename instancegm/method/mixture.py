"""Clean probability of every training sample: a Gaussian mixture on its loss (DivideMix, 3.1).

Shapes: N training samples, P networks. Everything here is numpy on the host; it runs twice an epoch
and takes a fraction of a second. scikit-learn, which takes two seconds to import, waits until the
networks are warm.
"""

import warnings
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from sklearn.mixture import GaussianMixture

FloatArray = NDArray[np.floating[Any]]


class CleanFit(NamedTuple):
    """The mixture's opinion of every training sample, by the losses of one network."""

    clean_prob: FloatArray  # (N,) in [0, 1]
    losses: FloatArray  # (N,) in [0, 1], what the mixture saw
    mixture: "GaussianMixture | None"  # None if all losses are equal


def normalise(losses: FloatArray) -> FloatArray:
    """Min-max normalisation to [0, 1] over the set; equal losses become 0. losses: (N,), finite."""
    low, high = losses.min(), losses.max()
    normalised: FloatArray = (losses - low) / (high - low) if high > low else np.zeros_like(losses)
    return normalised


def fit_clean_prob(losses: FloatArray, seed: int) -> CleanFit:
    """Posterior of the component with the smaller mean, given normalised losses (N,).

    The early stop (10 iterations, tolerance 1e-2) belongs to the method: full convergence moves
    posteriors by 0.15. Equal losses carry no evidence against any label: every sample then counts
    as clean.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

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


class LossHistory:
    """The normalised losses of each network in the last `keep` epochs."""

    def __init__(self, num_networks: int, keep: int = 1) -> None:
        self.losses: list[list[FloatArray]] = [[] for _ in range(num_networks)]  # newest last
        self._keep = keep

    def fit(self, losses: Iterable[FloatArray], seeds: Sequence[int]) -> list[CleanFit]:
        """Adds an epoch and fits a mixture to the mean of those kept, for each network.

        losses: P arrays (N,), finite.
        """
        for past, values in zip(self.losses, losses):
            past.append(normalise(values))
            del past[: -self._keep]
        means = [np.mean(past, axis=0) for past in self.losses]
        return [fit_clean_prob(mean, seed) for mean, seed in zip(means, seeds)]


class Split(NamedTuple):
    """What one network learns from."""

    labelled: NDArray[np.int64]  # positions in the training set
    unlabelled: NDArray[np.int64]
    clean_prob: FloatArray  # of the labelled samples


def split_by_clean_prob(
    clean_prob: FloatArray,
    threshold: float,
    at_least: int,
    index: NDArray[np.int64] | None = None,
) -> Split:
    """Samples above the threshold are labelled, the others unlabelled.

    clean_prob: (M,); index: (M,) whose they are, None: those of the whole training set. If nothing
    passes, the `at_least` most probable samples are labelled, so that an epoch still has a
    supervised signal. An empty unlabelled part is fine.
    """
    # DEVIATION(instancegm): an empty split does not stop the run; the original's data loader raises
    # an error.
    chosen = clean_prob > threshold
    if not chosen.any():
        chosen[np.argsort(-clean_prob, kind="stable")[:at_least]] = True
    index = np.arange(len(clean_prob)) if index is None else index
    return Split(index[chosen], index[~chosen], clean_prob[chosen])


def detection_auc(
    is_clean: NDArray[np.bool_] | None,
    clean_prob: FloatArray,
    index: NDArray[np.int64] | None = None,
) -> float | None:
    """Area under the ROC curve of finding clean labels; None where there is nothing to find.

    is_clean: (N,), None where the truth is unknown; clean_prob: (N,), or (M,) of the samples of
    `index`.
    """
    if is_clean is None:
        return None
    truth = is_clean if index is None else is_clean[index]
    if truth.all() or not truth.any():
        return None
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(truth, clean_prob))

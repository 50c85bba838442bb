"""The clean probability against expectation maximisation written out, and its edge cases."""

import math

import numpy as np
import pytest
from sklearn.cluster import KMeans

from instancegm.method.mixture import fit_clean_prob, normalise, split_by_clean_prob


def maximise(losses, shares):
    """Weight, mean and variance of each component from the samples' shares in it."""
    components = []
    for k in range(2):
        total = sum(row[k] for row in shares)
        mean = sum(row[k] * x for row, x in zip(shares, losses)) / total
        variance = sum(row[k] * (x - mean) ** 2 for row, x in zip(shares, losses)) / total
        components.append((total / len(losses), mean, variance + 5e-4))
    return components


def expect(losses, components):
    """Mean log-likelihood, and each sample's share in each component."""
    densities = [
        [
            w * math.exp(-((x - m) ** 2) / (2 * v)) / math.sqrt(2 * math.pi * v)
            for w, m, v in components
        ]
        for x in losses
    ]
    likelihood = sum(math.log(sum(row)) for row in densities) / len(losses)
    return likelihood, [[d / sum(row) for d in row] for row in densities]


def literal_clean_prob(losses, seed):
    """EM for two Gaussians: k-means start, 5e-4 added to variances, stop at a gain below 1e-2 or
    after 10 iterations.
    """
    start = KMeans(n_clusters=2, n_init=1, random_state=np.random.RandomState(seed)).fit_predict(
        losses[:, None]
    )
    components = maximise(losses, [[float(label == k) for k in range(2)] for label in start])
    previous = -math.inf
    for _ in range(10):
        likelihood, shares = expect(losses, components)
        components = maximise(losses, shares)
        if likelihood - previous < 1e-2:
            break
        previous = likelihood
    clean = 0 if components[0][1] < components[1][1] else 1
    return np.array([row[clean] for row in expect(losses, components)[1]])


def two_bumps(count=300):
    rng = np.random.default_rng(5)
    return normalise(
        np.concatenate([rng.gamma(2, 0.3, count), rng.normal(4, 1.0, count // 2)]).astype(
            np.float32
        )
    )


def test_clean_prob_matches_em_written_out():
    losses = two_bumps().astype(np.float64)
    got = fit_clean_prob(losses, seed=0).clean_prob
    np.testing.assert_allclose(got, literal_clean_prob(losses, seed=0), atol=1e-6)
    assert got[:300].mean() > 0.9
    assert got[300:].mean() < 0.2


def test_clean_prob_depends_on_the_sample_and_not_on_its_place():
    losses = two_bumps()
    order = np.random.default_rng(0).permutation(len(losses))
    np.testing.assert_allclose(
        fit_clean_prob(losses[order], 1).clean_prob,
        fit_clean_prob(losses, 1).clean_prob[order],
        atol=0.02,
    )


def test_normalise_maps_to_zero_and_one():
    assert normalise(np.array([3.0, 1.0, 2.0])).tolist() == [1.0, 0.0, 0.5]


@pytest.mark.parametrize("value", [0.0, 2.5])
def test_equal_losses_count_as_clean(value):
    fit = fit_clean_prob(normalise(np.full(10, value)), seed=0)
    assert fit.clean_prob.tolist() == [1.0] * 10
    assert fit.mixture is None


def test_split_keeps_the_order_and_the_probability_of_labelled_samples():
    split = split_by_clean_prob(np.array([0.9, 0.5, 0.1, 0.6]), threshold=0.5, at_least=2)
    assert split.labelled.tolist() == [0, 3]
    assert split.unlabelled.tolist() == [1, 2]
    assert split.clean_prob.tolist() == [0.9, 0.6]


def test_an_empty_labelled_part_falls_back_to_the_most_probable():
    split = split_by_clean_prob(np.array([0.1, 0.3, 0.2]), threshold=0.5, at_least=2)
    assert split.labelled.tolist() == [1, 2]
    assert split.unlabelled.tolist() == [0]


def test_everything_may_be_labelled():
    split = split_by_clean_prob(np.ones(3), threshold=0.5, at_least=2)
    assert len(split.labelled) == 3
    assert len(split.unlabelled) == 0

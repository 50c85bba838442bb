"""Poly-Margin-Diminishing (PMD) noise of PLC, and the independent noise on top of it.

    factor = factor_for_rate(eta, 1, rate=0.35, clean_labels=labels)
    noisy_labels = pmd_labels(eta, noise_type=1, factor=factor)
    hybrid = uniform_on_top(noisy_labels, 0.3, num_classes=10)     # cifar10-1-0.35_U_0.3.npy

PMD (Zhang et al., "Learning with Feature-Dependent Label Noise: A Progressive Approach", ICLR 2021)
labels an image with one of the two likeliest classes of a teacher that was trained on clean labels;
the smaller the margin between them, the likelier the second. Everything is drawn from a local
RandomState in the order of PLC's code, one draw per sample, so that the same posteriors give the
same labels, and the same labels the published `_U_` and `_A_` files.

Letters: N samples, C classes; eta: (N, C) float class posteriors, u and s a row's best and
second-best class, delta the margin eta_u - eta_s, f the probability of s before rate control. Wrong
arguments are a ValueError that says what helps.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from shared.labels import Labels, checked_labels, checked_rate

TYPES = (1, 2, 3)  # I, II and III of the paper
SEED = 123  # of PLC's labels; they depend on nothing but eta, type, factor and this
ON_TOP_SEED = 77  # of the published _U_ and _A_ files
FACTORS = (1e-6, 1e6)  # where a factor for a rate is looked for: all but sure u, all but sure s
_ROW_SUM_TOLERANCE = 0.02  # half-precision softmax outputs pass, logits do not

Floats = NDArray[np.floating[Any]]


def best_two(eta: Floats) -> tuple[Labels, Labels]:
    """Classes u and s, each (N,) int64; of equal posteriors the lower class comes first.

    eta: (N, C), C at least 2.
    """
    order = np.argsort(-eta, axis=1, kind="stable")[:, :2].astype(np.int64)
    return order[:, 0], order[:, 1]


def margin(eta: ArrayLike) -> Floats:
    """delta = eta_u - eta_s, (N,) in [0, 1]; float32 for float32 eta. eta: (N, C), C at least 2."""
    probs = checked_posteriors(eta)
    rows = np.arange(len(probs))
    best, second = best_two(probs)
    delta: Floats = probs[rows, best] - probs[rows, second]
    return delta


def flip_probability(delta: Floats, noise_type: int) -> Floats:
    """f, the probability of the second-best class before rate control, (N,).

    delta: (N,) in [0, 1].
    """
    f: Floats
    if _checked_type(noise_type) == 1:
        f = 0.5 - 0.5 * delta**2
    elif noise_type == 2:
        f = 1 - delta**3
    else:  # one term after the other: in float32 another order gives other last digits than PLC's
        f = 1 - (1 / 3) * delta**3 - (1 / 3) * delta**2 - (1 / 3) * delta
    return f


def keep_probability(delta: Floats, noise_type: int, factor: float) -> Floats:
    """Probability of the best class, (1 - f) / factor, (N,) in [0, 1]; type I: max(1 - f, 1/2).

    factor: above 0. Below 1 the quotient can exceed 1: it counts as 1 there, the best class for
    certain.
    """
    keep = 1 - flip_probability(delta, noise_type)
    if noise_type == 1:
        keep = np.maximum(keep, 0.5)
    clipped: Floats = np.clip(keep / checked_factor(factor), 0, 1)
    return clipped


def pmd_labels(eta: ArrayLike, noise_type: int, factor: float, seed: int = SEED) -> Labels:
    """Noisy labels, (N,) int64: the best class with its keep probability, else the second-best.

    eta: (N, C), C at least 2. noise_type: one of TYPES. factor: above 0; the larger, the noisier.
    The clean labels have no part in it: a mistake of the teacher is noise too.
    """
    probs = checked_posteriors(eta)
    return _draw(*best_two(probs), keep_probability(margin(probs), noise_type, factor), seed)


def factor_for_rate(
    eta: ArrayLike, noise_type: int, rate: float, clean_labels: ArrayLike, seed: int = SEED
) -> float:
    """The factor with which `pmd_labels` differ from clean_labels in the share `rate`.

    eta: (N, C), C at least 2; clean_labels: (N,) in [0, C). The rate is met to half a sample, or as
    closely as the draws allow, which is a sample or two. Raises ValueError, with the rates that can
    be had, when it cannot be reached.
    """
    probs = checked_posteriors(eta)
    clean = checked_labels(clean_labels, probs.shape[1], name="clean_labels")
    if len(clean) != len(probs):
        raise ValueError(
            f"eta has {len(probs)} rows for {len(clean)} clean labels: give one row per label, "
            "in order"
        )
    if not len(clean):
        raise ValueError("eta has no rows, so no factor gives it a rate: give a factor")
    checked_rate(rate)
    best, second = best_two(probs)
    delta = margin(probs)

    def excess(factor: float) -> float:
        noisy = _draw(best, second, keep_probability(delta, noise_type, factor), seed)
        return float((noisy != clean).mean()) - rate

    low, high = FACTORS
    ends = excess(low), excess(high)
    if min(ends) > 0.5 / len(clean) or max(ends) < -0.5 / len(clean):
        reach = sorted(round(end + rate, 5) for end in ends)
        raise ValueError(
            f"rate {rate} is out of reach of type {noise_type} with these posteriors, which allow "
            f"{reach[0]:g} to {reach[1]:g}: ask for a rate between, or train the teacher for more "
            "or fewer epochs"
        )
    known = {low: ends[0], high: ends[1]}
    rising = (
        ends[0] < ends[1]
    )  # not where a teacher's second-best class is the right one more often
    while abs(min(known.values(), key=abs)) > 0.5 / len(clean):
        middle = float(np.sqrt(low * high))
        if not low < middle < high:
            break
        known[middle] = excess(middle)
        low, high = (low, middle) if (known[middle] > 0) == rising else (middle, high)
    return min(known, key=lambda factor: abs(known[factor]))


def _draw(best: Labels, second: Labels, keep: Floats, seed: int) -> Labels:
    """One Bernoulli draw per sample, in order.

    An array of probabilities draws as a loop over them would.
    """
    return np.where(np.random.RandomState(seed).binomial(1, keep) == 1, best, second)


# ---- independent noise on top


def uniform_on_top(
    labels: ArrayLike, rate: float, num_classes: int, seed: int = ON_TOP_SEED
) -> Labels:
    """Each label becomes, with probability `rate`, one of the C - 1 others; (N,) int64.

    labels: (N,) in [0, C).

    The published `_U_` files are this of PMD labels, with the default seed. C = 1 is an error
    unless the rate is 0.
    """
    labels = checked_labels(labels, num_classes)
    if checked_rate(rate) == 0:
        return labels
    if num_classes == 1:
        raise ValueError("num_classes is 1, so there is no other class: use rate 0")
    other = rate / (num_classes - 1)

    def row_of(label: int) -> NDArray[np.float64]:
        row = np.full(num_classes, other)
        row[label] = 1 - rate
        return row

    return _draw_by_rows(labels, row_of, seed)


def asymmetric_on_top(
    labels: ArrayLike,
    rate: float,
    class_map: Mapping[int, int],
    num_classes: int,
    seed: int = ON_TOP_SEED,
) -> Labels:
    """Each label with a rule becomes, with probability `rate`, its target; (N,) int64.

    labels: (N,) in [0, C). class_map: source -> target, as in `noise.ASYMMETRIC_MAPS`. The
    published `_A_` files are this of PMD labels, by the maps `cifar10` and
    `cifar100_blocks_of_five`, with the default seed.
    """
    labels = checked_labels(labels, num_classes)
    if checked_rate(rate) == 0:
        return labels
    if strange := [c for rule in class_map.items() for c in rule if not 0 <= c < num_classes]:
        raise ValueError(
            f"class_map has class {strange[0]}, but there are {num_classes}, from 0: choose "
            "another map"
        )

    def row_of(label: int) -> NDArray[np.float64]:
        row = np.zeros(num_classes)
        row[label] = 1
        if (target := class_map.get(label, label)) != label:
            row[[label, target]] = 1 - rate, rate
        return row

    return _draw_by_rows(labels, row_of, seed)


def _draw_by_rows(
    labels: Labels, row_of: Callable[[int], NDArray[np.float64]], seed: int
) -> Labels:
    """One class per sample from the distribution (C,) of its label."""
    rng = np.random.RandomState(seed)
    rows = {label: row_of(label) for label in np.unique(labels).tolist()}
    # One multinomial per sample takes as many uniforms as the class it draws, so there is no
    # drawing them at once.
    drawn = (rng.multinomial(1, rows[label]).argmax() for label in labels.tolist())
    return np.fromiter(drawn, np.int64, len(labels))


# ---- checks


def checked_posteriors(eta: ArrayLike) -> Floats:
    """eta as float32 or float64, (N, C): rows must be distributions over two classes or more."""
    probs = np.asarray(eta)
    if probs.ndim != 2 or probs.dtype.kind != "f":
        raise ValueError(f"eta is {probs.dtype} of shape {probs.shape}: give floats, (N, C)")
    if probs.shape[1] < 2:
        raise ValueError(
            "eta has fewer than two columns, so there is no second-best class: give one per class"
        )
    probs = probs.astype(np.float64 if probs.itemsize > 4 else np.float32, copy=False)
    sums = probs.sum(axis=1)
    if not (
        np.isfinite(sums).all()
        and (probs >= 0).all()
        and (abs(sums - 1) <= _ROW_SUM_TOLERANCE).all()
    ):
        raise ValueError(
            "the rows of eta are no distributions: give softmax outputs, which sum to 1, not logits"
        )
    return probs


def _checked_type(noise_type: int) -> int:
    if noise_type not in TYPES:
        raise ValueError(
            f"PMD noise of type {noise_type} is unknown: choose one of {', '.join(map(str, TYPES))}"
        )
    return noise_type


def checked_factor(factor: float) -> float:
    """The factor if it is finite and above 0; else, or for NaN, a ValueError."""
    if not 0 < factor < float("inf"):
        raise ValueError(
            f"factor {factor} is no number above 0: larger ones mean more noise, 1 none beyond f"
        )
    return float(factor)

"""CIFAR as IEG and FSR prepare it, from one seed: a clean probe set held out, the rest made noisy.

    parts = split(labels, 10, noise="uniform", rate=0.4, probe_ratio=0.02)
    images[parts.train_ids], parts.train_labels, images[parts.probe_ids], parts.probe_labels
    test_images[parts.test_ids(len(test_images))]

IEG is Zhang et al., "Distilling Effective Supervision from Severe Label Noise" (CVPR 2020), FSR
Zhang & Pfister, "Learning Fast Sample Re-weighting Without Reward Data" (ICCV 2021). Both draw from
NumPy's legacy generator, so the order of the calls is part of the data. Here a local
RandomState(seed) makes them, in this order:

1. `shuffle` of all N positions.
2. With a probe set: for each class 0 ... C - 1, `choice` without replacement of
   floor(N probe_ratio) // C among the class's samples, in the order of 1. What remains, in the
   order of 1, is for training.
3. The noise. Uniform: `rand(n)`, then one `choice(C, count)` for the labels to redraw; "none" is
   uniform noise of rate 0 and draws the same n uniforms. Asymmetric: nothing here; a second
   RandomState(seed) draws one `multinomial` per training sample, in the order of 1.
4. `shuffle` of the n training positions.
5. With a probe set: for each class 0 ... C - 1, `shuffle` of its probe samples (in the order drawn
   in 2); then the classes take turns: 0, 1, ..., C - 1, 0, 1, ...
6. `shuffle` of the test positions.

Letters: N samples, C classes, n for training, p for the probe, N - n = p.
"""

import copy
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from shared.labels import Labels, checked_labels, checked_rate, checked_seed
from shared.noise import ASYMMETRIC_MAPS, pmd

SEED = 12345  # the original's default
PROBE_RATIO = 0.02  # the original's default: 1,000 of CIFAR's 50,000
NOISES = ("uniform", "asymmetric", "none")
CLASS_MAP = "cifar10"  # of the asymmetric noise, in ASYMMETRIC_MAPS
_MAP_CLASSES = 10


@dataclass(frozen=True, eq=False)
class Split:
    """Positions in the labels given to `split`, in the original's order, and their labels."""

    train_ids: Labels  # (n,) distinct
    train_labels: Labels  # (n,) in [0, C), with the noise
    clean_labels: Labels  # (n,) in [0, C), without
    probe_ids: Labels  # (p,) distinct, none in train_ids; empty without a probe set
    probe_labels: Labels  # (p,) 0, 1, ..., C - 1, 0, 1, ...
    random: np.random.RandomState  # after step 5

    @property
    def gold_labels(self) -> Labels:
        """The original's name of clean_labels."""
        return self.clean_labels

    def test_ids(self, size: int) -> Labels:
        """The order of the test set, step 6: a permutation of 0 ... size - 1, always the same."""
        return _shuffled(size, copy.deepcopy(self.random))


def split(
    labels: ArrayLike,
    num_classes: int,
    *,
    noise: str,
    rate: float = 0.0,
    probe_ratio: float = PROBE_RATIO,
    seed: int = SEED,
) -> Split:
    """Hold out a clean probe set, make the rest noisy and shuffle, in the original's order.

    labels: (N,) integers in [0, C). noise: one of NOISES. rate: in [0, 1]; 0 for "none".
    probe_ratio: in [0, 1); 0 means no probe set, everything trains. seed: in [0, 2^32). Raises
    ValueError for anything else, for asymmetric noise unless C = 10, and for a ratio that gives a
    class no probe image or leaves it none to train on.
    """
    labels = checked_labels(labels, num_classes)
    _check(noise, rate, num_classes, seed)
    per_class = _probe_images_per_class(labels, num_classes, probe_ratio)
    random = np.random.RandomState(seed)
    order = _shuffled(len(labels), random)
    probe = (
        _choose_probe(labels[order], num_classes, per_class, random)
        if per_class
        else np.zeros(0, np.int64)
    )
    train = np.setdiff1d(np.arange(len(labels)), probe, assume_unique=True)  # ascending in `order`
    probe_ids, train_ids = order[probe], order[train]
    clean = labels[train_ids]
    noisy = (
        asymmetric_noise(clean, rate, seed)
        if noise == "asymmetric"
        else uniform_noise(clean, num_classes, rate, random)
    )
    mixed = _shuffled(len(train_ids), random)
    if per_class:
        probe_ids = probe_ids[_interleaved(labels[probe_ids], num_classes, random)]
    return Split(train_ids[mixed], noisy[mixed], clean[mixed], probe_ids, labels[probe_ids], random)


def uniform_noise(
    labels: ArrayLike, num_classes: int, rate: float, random: np.random.RandomState
) -> Labels:
    """Each label is redrawn with probability `rate` from all C classes; (n,) int64.

    labels: (n,) in [0, C). The share of wrong labels is about rate (1 - 1/C). Draws from `random`,
    in this order, `rand(n)`, of which those up to `rate` mark the labels to redraw, and one
    `choice(C, how many)`. Noise on a long-tailed set is this of its labels and a new
    RandomState(seed).
    """
    noisy = checked_labels(labels, num_classes)
    mask = random.rand(len(noisy)) <= checked_rate(rate)
    noisy[mask] = random.choice(num_classes, int(mask.sum()))
    return noisy


def asymmetric_noise(labels: ArrayLike, rate: float, seed: int = SEED) -> Labels:
    """Each label with a rule becomes, with probability `rate`, its target; (n,) int64.

    labels: (n,) CIFAR-10 classes. Truck to automobile, bird to airplane, cat to dog and back, deer
    to horse: on balanced data rate / 2 of all. Draws one `multinomial` per label, in order, from a
    RandomState(seed) of its own.
    """
    return pmd.asymmetric_on_top(labels, rate, ASYMMETRIC_MAPS[CLASS_MAP], _MAP_CLASSES, seed)


def _shuffled(size: int, random: np.random.RandomState) -> Labels:
    positions = np.arange(size, dtype=np.int64)
    random.shuffle(positions)
    return positions


def _choose_probe(
    labels: Labels, num_classes: int, per_class: int, random: np.random.RandomState
) -> Labels:
    """Positions (p,), class by class, each class's in the order drawn.

    labels: (N,), per_class: 1 or more.
    """
    members = (np.flatnonzero(labels == label) for label in range(num_classes))
    return np.concatenate(
        [random.choice(positions, per_class, replace=False) for positions in members]
    )


def _interleaved(labels: Labels, num_classes: int, random: np.random.RandomState) -> Labels:
    """Positions (p,) shuffled within each class, then one of each class in turn.

    labels: (p,), p / C of each class.
    """
    columns = []
    for label in range(num_classes):
        positions = np.flatnonzero(labels == label)
        random.shuffle(positions)
        columns.append(positions)
    return np.stack(columns, axis=1).ravel().astype(np.int64)


# ---- checks


def _check(noise: str, rate: float, num_classes: int, seed: int) -> None:
    if noise not in NOISES:
        raise ValueError(f"unknown noise {noise!r}: choose one of {', '.join(NOISES)}")
    if checked_rate(rate) and noise == "none":
        raise ValueError(
            f"noise none has no rate, but it is {rate}: leave it out, or choose uniform or "
            "asymmetric noise"
        )
    if noise == "asymmetric" and num_classes != _MAP_CLASSES:
        raise ValueError(
            "asymmetric noise confuses CIFAR-10's classes (truck, automobile, ...), but there are "
            f"{num_classes}: choose uniform noise, or give a noise file with asymmetric noise for "
            "these classes"
        )
    checked_seed(seed)


def _probe_images_per_class(labels: Labels, num_classes: int, probe_ratio: float) -> int:
    """floor(N probe_ratio) // C, 0 only for ratio 0. labels: (N,) in [0, C)."""
    if not 0.0 <= probe_ratio <= 1.0:
        raise ValueError(
            f"probe ratio {probe_ratio} is outside [0, 1]: 0.02 holds out 2 % of the samples, 0 "
            "none"
        )
    if probe_ratio == 0:
        return 0
    probe_size = math.floor(len(labels) * probe_ratio)
    per_class = probe_size // num_classes
    if per_class == 0:
        least = math.ceil(1e6 * num_classes / max(1, len(labels))) / 1e6
        raise ValueError(
            f"probe ratio {probe_ratio} of {len(labels)} samples is {probe_size}, less than one "
            f"for each of {num_classes} classes: give at least {least:g}, or 0 for no probe set"
        )
    sizes = np.bincount(labels, minlength=num_classes)
    poorest = int(sizes.argmin())
    if sizes[poorest] <= per_class:
        raise ValueError(
            f"probe ratio {probe_ratio} takes {per_class} samples of each class, but class "
            f"{poorest} has {sizes[poorest]}, of which one or more must be left to train on: give "
            "a lower ratio, or 0 for no probe set"
        )
    return per_class

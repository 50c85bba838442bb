"""Label-noise generators: pure functions of arrays, without global random state.

    noisy_labels = part_dependent(images, labels, rate=0.5, num_classes=10)
    noisy_labels = symmetric(labels, 0.4, 10, np.random.default_rng(123), include_true_class=False)

Letters: N samples, C classes, F values per image, H W pixels. Labels come in as (N,) integers in
[0, C) and go out as (N,) int64. Every function raises ValueError, saying what helps, for labels
that are not integers, not 1-D or out of range and for rates outside [0, 1]. N = 0 gives an empty
array, rate 0 a copy of the labels.

Sources: PDN is Xia et al., "Part-dependent Label Noise" (NeurIPS 2020), drawn as InstanceGM's code
draws it; the exact counts of `symmetric` and `asymmetric` are DivideMix's (Li, Socher & Hoi, ICLR
2020), the independent draws SLN's (Chen et al., ICLR 2021); the class maps name theirs below.
Open-set noise changes images: see `shared.noise.open_set`.
"""

from collections.abc import Mapping
from fractions import Fraction
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from shared.labels import Labels, checked_labels, checked_rate

# Goes into noise files; count up when the same arguments give other labels.
GENERATOR = "shared.noise 1"
PDN_SPREAD = 0.1  # standard deviation of the per-image flip rate, before truncation to [0, 1]
PDN_CHUNK_BYTES = 64 * 2**20  # float32 pixels held at a time

# The five fine classes of each of CIFAR-100's 20 super-classes, in the order of the fine
# (alphabetical) class ids.
CIFAR100_SUPER_CLASSES = (
    (4, 30, 55, 72, 95),  # aquatic mammals
    (1, 32, 67, 73, 91),  # fish
    (54, 62, 70, 82, 92),  # flowers
    (9, 10, 16, 28, 61),  # food containers
    (0, 51, 53, 57, 83),  # fruit and vegetables
    (22, 39, 40, 86, 87),  # household electrical devices
    (5, 20, 25, 84, 94),  # household furniture
    (6, 7, 14, 18, 24),  # insects
    (3, 42, 43, 88, 97),  # large carnivores
    (12, 17, 37, 68, 76),  # large man-made outdoor things
    (23, 33, 49, 60, 71),  # large natural outdoor scenes
    (15, 19, 21, 31, 38),  # large omnivores and herbivores
    (34, 63, 64, 66, 75),  # medium-sized mammals
    (26, 45, 77, 79, 99),  # non-insect invertebrates
    (2, 11, 35, 46, 98),  # people
    (27, 29, 44, 78, 93),  # reptiles
    (36, 50, 65, 74, 80),  # small mammals
    (47, 52, 56, 59, 96),  # trees
    (8, 13, 48, 58, 90),  # vehicles 1
    (41, 69, 81, 85, 89),  # vehicles 2
)


def _cycles(groups: tuple[tuple[int, ...], ...]) -> Mapping[int, int]:
    """Each class goes to the next one of its group, the last to the first."""
    rules = {group[i]: group[(i + 1) % len(group)] for group in groups for i in range(len(group))}
    return MappingProxyType(dict(sorted(rules.items())))


_FIVE_RULES = MappingProxyType(
    {2: 0, 3: 5, 4: 7, 5: 3, 9: 1}
)  # bird-airplane, cat-dog, deer-horse, dog-cat, truck-car

ASYMMETRIC_MAPS: Mapping[str, Mapping[int, int]] = MappingProxyType(
    {
        # DivideMix's rules; SLN's published asym files, IEG and the LRA-diffusion hybrids use the
        # same five.
        "cifar10": _FIVE_RULES,
        # The custom generator of re-sln has no deer -> horse rule.
        "cifar10_four_rules": MappingProxyType({2: 0, 3: 5, 5: 3, 9: 1}),
        # SLN and re-sln: the next fine class, y + 1 mod 100, across super-classes.
        "cifar100": _cycles((tuple(range(100)),)),
        # PLC and LRA-diffusion: the next id within 0-4, 5-9, ...; those blocks are not the
        # super-classes.
        "cifar100_blocks_of_five": _cycles(
            tuple(tuple(range(start, start + 5)) for start in range(0, 100, 5))
        ),
        # Patrini et al. (CVPR 2017): the next fine class within the super-class.
        "cifar100_super_classes": _cycles(CIFAR100_SUPER_CLASSES),
    }
)


def part_dependent(
    images: NDArray[Any], labels: ArrayLike, rate: float, num_classes: int, seed: int = 123
) -> Labels:
    """Part-dependent noise (PDN): the wrong class depends on the image; (N,) int64.

    images: (N, H, W, 3) uint8, raw values in [0, 255]: scaled pixels give another noise. labels:
    (N,) in [0, C). rate: mean flip rate in [0, 1]; the per-image rate is N(rate, 0.1^2) truncated
    to [0, 1], so the realised rate is above the nominal one below 0.3 (0.129 for 0.1) and below it
    above 0.7. seed: InstanceGM always uses 123.

    Same labels as InstanceGM's code for the same arguments. Holds 64 MB of pixels, one class of W
    and (N, C) float32 probabilities at a time. Raises ValueError for C = 1 (there is no wrong
    class) unless the rate is 0.
    """
    labels = checked_labels(labels, num_classes)
    if checked_rate(rate) == 0:
        # DEVIATION(instancegm): the original's truncated normal flips 8 % of the labels at rate 0;
        # here none.
        return labels.copy()
    rng = np.random.RandomState(seed)  # legacy stream: the published files come from it
    _, probs = part_dependent_probabilities(images, labels, rate, num_classes, rng)
    return _draw_from_rows(probs, rng.random_sample(len(labels)))


def part_dependent_probabilities(
    images: NDArray[Any],
    labels: ArrayLike,
    rate: float,
    num_classes: int,
    rng: np.random.RandomState,
) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """Flip rates (N,) float64 and label distributions (N, C) float32 of PDN (algorithm 2).

    Draws from `rng` one uniform per sample for the flip rates, then W (C, F, C) normal, indexed
    [true class, pixel, target], class by class: the same stream as one draw of the whole W, without
    holding it. The next uniforms of `rng` are the ones that choose the labels.
    """
    labels = checked_labels(labels, num_classes)
    checked_rate(rate)
    if images.ndim < 2 or len(images) != len(labels):
        raise ValueError(
            f"images have shape {images.shape} for {len(labels)} labels: give (N, H, W, 3), one "
            "image per label"
        )
    if num_classes == 1 and len(labels):
        raise ValueError(
            "part-dependent noise needs a wrong class to flip to, but num_classes is 1: use rate 0"
        )
    flip_rates = _truncated_normal(rate, PDN_SPREAD, rng.random_sample(len(labels)))
    features = int(np.prod(images.shape[1:], dtype=np.int64))
    chunk = max(1, PDN_CHUNK_BYTES // (4 * max(1, features)))
    probs = np.empty((len(labels), num_classes), np.float32)
    for true_class in range(num_classes):
        weights = rng.standard_normal((features, num_classes)).astype(np.float32)
        members = np.flatnonzero(labels == true_class)
        for start in range(0, len(members), chunk):
            rows = members[start : start + chunk]
            logits = images[rows].reshape(len(rows), features).astype(np.float32) @ weights
            probs[rows] = _part_dependent_rows(logits, flip_rates[rows], true_class)
    return flip_rates, probs


def _part_dependent_rows(
    logits: NDArray[np.float32], flip_rates: NDArray[np.float64], true_class: int
) -> NDArray[np.float32]:
    """q softmax(logits without the true class), plus 1 - q on the true class.

    logits: (B, C), flip_rates q: (B,).
    """
    if not np.isfinite(logits).all():
        raise ValueError(
            "images hold NaN, infinite or huge values: give raw pixel values in [0, 255]"
        )
    logits[:, true_class] = -np.inf
    rows: NDArray[np.float32] = np.exp(logits - logits.max(axis=1, keepdims=True))
    rows *= flip_rates[:, None].astype(np.float32) / rows.sum(axis=1, keepdims=True)
    rows[:, true_class] = 1.0 - flip_rates
    return rows


def _truncated_normal(
    mean: float, spread: float, uniforms: NDArray[np.float64]
) -> NDArray[np.float64]:
    """N(mean, spread^2) truncated to [0, 1], (N,): truncnorm.rvs of scipy on the same uniforms."""
    from scipy.special import ndtr, ndtri  # slow to import, and only this kind needs it

    low, high = ndtr(-mean / spread), ndtr((1.0 - mean) / spread)
    values: NDArray[np.float64] = np.clip(
        mean + spread * ndtri(low + uniforms * (high - low)), 0.0, 1.0
    )
    return values


def _draw_from_rows(
    probs: NDArray[np.float32], uniforms: NDArray[np.float64], chunk: int = 65_536
) -> Labels:
    """One class per row, (N,) int64: the first whose CDF exceeds the uniform, in float64.

    That is what `RandomState.choice(C, p=row)` does. probs: (N, C), uniforms: (N,) in [0, 1).
    """
    drawn = np.empty(len(probs), np.int64)
    for start in range(0, len(probs), chunk):
        cdf = np.cumsum(probs[start : start + chunk], axis=1, dtype=np.float64)
        cdf /= cdf[:, -1:]
        drawn[start : start + chunk] = (cdf <= uniforms[start : start + chunk, None]).sum(axis=1)
    return drawn


def symmetric(
    labels: ArrayLike,
    rate: float,
    num_classes: int,
    rng: np.random.Generator,
    *,
    include_true_class: bool,
    independent: bool = False,
) -> Labels:
    """Exactly int(rate N) random samples get a uniformly drawn class; (N,) int64.

    include_true_class True: drawn from all C classes, DivideMix's convention, so the measured rate
    is about rate * (1 - 1/C). False: from the C - 1 others, so it is int(rate * N) / N; C = 1 is
    then an error unless nothing is to be changed. independent: each sample is chosen with
    probability `rate` on its own, as by SLN and re-sln.
    """
    labels = checked_labels(labels, num_classes)
    chosen = _choose(len(labels), rate, rng, independent)
    noisy = labels.copy()
    if include_true_class:
        noisy[chosen] = rng.integers(0, num_classes, len(chosen))
    elif len(chosen):
        if num_classes == 1:
            raise ValueError(
                "num_classes is 1, so there is no other class: use rate 0 or include_true_class"
            )
        noisy[chosen] = (labels[chosen] + rng.integers(1, num_classes, len(chosen))) % num_classes
    return noisy


def asymmetric(
    labels: ArrayLike,
    rate: float,
    class_map: Mapping[int, int],
    rng: np.random.Generator,
    *,
    independent: bool = False,
) -> Labels:
    """Exactly int(rate N) random samples go to the class theirs is confused with; (N,) int64.

    class_map: source -> target, as in ASYMMETRIC_MAPS. A chosen sample whose class has no rule
    stays, as in DivideMix: `rate` is the flip rate of the classes with a rule, and the overall rate
    is lower (0.2 for rate 0.4 on CIFAR-10). independent: each sample is chosen with probability
    `rate` on its own, as by SLN and re-sln.
    """
    labels = checked_labels(labels, None)
    if any(source < 0 or target < 0 for source, target in class_map.items()):
        raise ValueError(
            f"class_map {dict(class_map)} has a negative class: classes are 0 ... C - 1"
        )
    chosen = _choose(len(labels), rate, rng, independent)
    noisy = labels.copy()
    for source, target in class_map.items():
        noisy[chosen[labels[chosen] == source]] = target
    return noisy


def pair_flip(
    labels: ArrayLike,
    rate: float,
    num_classes: int,
    rng: np.random.Generator,
    *,
    independent: bool = False,
) -> Labels:
    """Exactly int(rate N) random samples go to the next class, y + 1 mod C; (N,) int64.

    C = 1: unchanged.

    independent: each sample is chosen with probability `rate` on its own, as by SLN and re-sln.
    """
    labels = checked_labels(labels, num_classes)
    chosen = _choose(len(labels), rate, rng, independent)
    noisy = labels.copy()
    noisy[chosen] = (labels[chosen] + 1) % num_classes
    return noisy


def confidence_dependent(
    labels: ArrayLike, mean_probs: NDArray[np.floating[Any]], rate: float
) -> Labels:
    """The int(rate * N) samples with the likeliest wrong class get that class; (N,) int64.

    labels: (N,) in [0, C). mean_probs: (N, C) float, finite and at least 0: the softmax outputs of
    a network trained on the clean labels, averaged over its epochs (Chen et al., AAAI 2021, the
    "dependent" noise of SLN). Nothing is drawn: of equal probabilities the lower class and the
    lower index come first. C = 1 is an error unless nothing is to flip.
    """
    probs = np.asarray(mean_probs)
    if probs.ndim != 2 or probs.dtype.kind != "f":
        raise ValueError(
            f"mean_probs are {probs.dtype} of shape {probs.shape}: give floats, (N, C)"
        )
    labels = checked_labels(labels, probs.shape[1])
    if len(probs) != len(labels):
        raise ValueError(
            f"mean_probs have {len(probs)} rows for {len(labels)} labels: give one row per "
            "label, in order"
        )
    if not (np.isfinite(probs).all() and (probs >= 0).all()):
        raise ValueError(
            "mean_probs hold NaN, infinite or negative values: give mean softmax outputs, not "
            "logits"
        )
    count = share_of(rate, len(labels))
    if count and probs.shape[1] == 1:
        raise ValueError("mean_probs have one column, so there is no wrong class: use rate 0")
    wrong = probs.copy()
    wrong[
        np.arange(len(labels)), labels
    ] = -1  # below every probability: the true class is no candidate
    chosen = np.argsort(-wrong.max(axis=1), kind="stable")[:count]
    noisy = labels.copy()
    noisy[chosen] = wrong[chosen].argmax(axis=1)
    return noisy


def transition_matrix(clean: ArrayLike, noisy: ArrayLike, num_classes: int) -> NDArray[np.float64]:
    """P(noisy = j | clean = i) as measured, (C, C) float64; rows sum to 1, an absent class's to 0.

    clean, noisy: (N,) integers in [0, C).
    """
    clean, noisy = checked_labels(clean, num_classes), checked_labels(noisy, num_classes)
    if len(clean) != len(noisy):
        raise ValueError(
            f"{len(clean)} clean and {len(noisy)} noisy labels: give the labels of the same samples"
        )
    counts = np.bincount(clean * num_classes + noisy, minlength=num_classes**2).reshape(
        num_classes, num_classes
    )
    matrix: NDArray[np.float64] = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    return matrix


def _choose(size: int, rate: float, rng: np.random.Generator, independent: bool) -> Labels:
    """Different indices below size: exactly int(rate size), or each with probability `rate`."""
    if independent:
        return np.flatnonzero(rng.random(size) < checked_rate(rate))
    return rng.choice(size, share_of(rate, size), replace=False).astype(np.int64)


def share_of(rate: float, size: int) -> int:
    """int(rate size) without the error of floats: of 50,000, 0.29 are 14,500 and not 14,499."""
    rate = checked_rate(rate)
    return max(int(rate * size), int(Fraction(repr(rate)) * size))

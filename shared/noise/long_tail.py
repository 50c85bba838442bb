"""Long-tailed subsets: class sizes that fall exponentially from the first class to the last.

    counts(10, 5000, 0.02)                          # 5000, 3237, ..., 100: 13,996 in all
    images[rows], labels[rows] = ...                # with rows = subset(labels, 0.02, seed=12345)

The sizes are those of Cui et al., "Class-Balanced Loss Based on Effective Number of Samples" (CVPR
2019), which IEG, FSR and others use on CIFAR. A factor is the smallest class's size by the
largest's; papers often name its inverse, the imbalance factor (0.02 is 50).

The images are our own draw. Cui et al. picked theirs without a seed, so their subsets exist only as
files in the archive they publish; a result on one of ours compares with theirs in class sizes, not
image by image.
"""

import math

import numpy as np
from numpy.typing import ArrayLike

from shared.labels import Labels, checked_labels, checked_seed

SEED = 12345


def counts(num_classes: int, largest: int, factor: float) -> Labels:
    """Samples per class, int(largest factor^(i / (C - 1))) of class i; (C,) int64, falling.

    num_classes: C, at least 1. largest: at least 1. factor: in (0, 1]. Raises ValueError otherwise
    and where a class would be empty.
    """
    if num_classes < 1 or largest < 1:
        raise ValueError(
            f"{num_classes} classes with at most {largest} samples: give at least 1 of each"
        )
    if not 0.0 < factor <= 1.0:
        raise ValueError(
            f"imbalance {factor} is outside (0, 1]: 0.02 makes the last class a fiftieth of the "
            "first"
        )
    steps = max(1, num_classes - 1)
    sizes = np.array(
        [int(largest * factor ** (label / steps)) for label in range(num_classes)], np.int64
    )
    if sizes[-1] == 0:
        least = math.ceil(1e6 / largest) / 1e6
        raise ValueError(
            f"imbalance {factor} leaves the last class nothing of {largest} samples: give at "
            f"least {least:g}"
        )
    return sizes


def subset(labels: ArrayLike, factor: float, seed: int = SEED) -> Labels:
    """Positions of a long-tailed subset, (M,) int64, ascending; class sizes are `counts`.

    The largest class gets as many as the smallest class of `labels` has.

    labels: (N,) integers, every class from 0 to their maximum occurring; on CIFAR all classes are
    of one size. factor: in (0, 1]. seed: in [0, 2^32). From a RandomState(seed), class by class,
    one `choice` without replacement among the class's positions. Of the same labels and seed, the
    subset of a lower factor is part of that of a higher one.
    """
    labels = checked_labels(labels, None)
    classes, sizes = np.unique(labels, return_counts=True)
    if not len(classes) or classes[-1] >= len(classes):
        missing = np.flatnonzero(classes != np.arange(len(classes)))[0] if len(classes) else 0
        raise ValueError(
            f"no sample has class {missing}: give the labels of the whole training set"
        )
    checked_seed(seed)
    random = np.random.RandomState(seed)
    chosen = [
        random.choice(np.flatnonzero(labels == label), size, replace=False)
        for label, size in enumerate(counts(len(sizes), int(sizes.min()), factor))
    ]
    return np.sort(np.concatenate(chosen)).astype(np.int64)

"""Which samples an epoch uses: all of them, or of a million images a class-balanced draw.

Clothing1M's training set is too large and too unbalanced to be seen as a whole: every epoch of each
network takes `num_batches` batches, the same number of each class by its noisy label. N samples, C
classes.
"""

import math

import numpy as np
from numpy.typing import NDArray

from instancegm.method.images import stream_seed
from instancegm.method.settings import Settings

Index = NDArray[np.int64]


def class_balanced(noisy_labels: Index, count: int, num_classes: int, seed: int) -> Index:
    """At most `count` samples in random order, of each class at most ceil(count / C).

    noisy_labels: (N,) in [0, C). Fewer come back where classes are too small.
    """
    random = np.random.default_rng(seed)
    order = random.permutation(len(noisy_labels))
    by_class = order[np.argsort(noisy_labels[order], kind="stable")]
    sizes = np.bincount(noisy_labels, minlength=num_classes)
    rank = np.empty_like(order)  # of a sample among those of its class, in the random order
    rank[by_class] = np.arange(len(order)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    kept = order[rank[order] < math.ceil(count / num_classes)][:count]
    return random.permutation(kept)


def warm_up_draw(
    noisy_labels: Index, num_classes: int, settings: Settings, epoch: int, number: int
) -> Index:
    """What network `number` warms up on in this epoch: `num_batches` batches of 2 B."""
    stream = f"warm-up draw {number}"
    return _draw(noisy_labels, num_classes, settings, epoch, stream, 2 * settings.batch_size)


def judged_draw(
    noisy_labels: Index, num_classes: int, settings: Settings, epoch: int, number: int
) -> Index:
    """Whose losses under network `number` make this epoch's split: `num_batches` batches of B."""
    stream = f"judged draw {number}"
    return _draw(noisy_labels, num_classes, settings, epoch, stream, settings.batch_size)


def _draw(
    noisy_labels: Index,
    num_classes: int,
    settings: Settings,
    epoch: int,
    stream: str,
    batch_size: int,
) -> Index:
    if settings.num_batches is None:
        return np.arange(len(noisy_labels))
    seed = stream_seed(settings.seed, epoch, stream)
    return class_balanced(noisy_labels, batch_size * settings.num_batches, num_classes, seed)


def vae_draw(noisy_labels: Index, num_classes: int, settings: Settings, epoch: int) -> Index:
    """What the VAEs take their batches from in this epoch.

    The published code keeps the second network's first warm-up draw for the whole run;
    `redraw_vae` draws for every epoch.
    """
    return warm_up_draw(
        noisy_labels, num_classes, settings, epoch if settings.redraw_vae else 0, number=2
    )

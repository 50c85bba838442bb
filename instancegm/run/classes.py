"""Classes with so few samples that the method may give them up, and those that it has given up.

The mixture knows losses, not classes, and the loss pushes each batch towards equal shares of all
classes: of a small class every sample may be judged noisy. N samples, C classes.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

NAMED = 10  # classes that a message names; it counts the others


def few_samples(
    noisy_labels: NDArray[np.int64], class_names: Sequence[str], batch_size: int
) -> str | None:
    """A warning about classes that cannot fill their share of one balanced batch; None without.

    noisy_labels: (N,) in [0, C).
    """
    counts = np.bincount(noisy_labels, minlength=len(class_names))
    share = batch_size / len(class_names)
    small = np.flatnonzero(counts < max(share, 1.0))
    if not len(small):
        return None
    fix = "add images of these classes"
    if counts[small].min() > 0:
        fix += f", or take --batch_size {counts[small].min() * len(class_names)} or less"
    return (
        f"few training samples: {_listed(small, counts, class_names)}. A balanced batch of "
        f"{batch_size} holds {math.ceil(share)} of each of {len(class_names)} classes; with fewer "
        f"all of them may be judged noisy, and the class be lost: {fix}"
    )


def vanished(
    noisy_labels: NDArray[np.int64], corrected: NDArray[np.int64], class_names: Sequence[str]
) -> str | None:
    """A warning about classes without a corrected label that had a noisy one; None without.

    noisy_labels, corrected: (N,) in [0, C).
    """
    before, after = (
        np.bincount(labels, minlength=len(class_names)) for labels in (noisy_labels, corrected)
    )
    gone = np.flatnonzero((before > 0) & (after == 0))
    if not len(gone):
        return None
    return (
        f"classes that corrected_labels.npz has lost: {_listed(gone, before, class_names)}, all "
        "judged noisy. Look at them in clean_prob.csv first; noise.npz has the labels as they were"
    )


def _listed(
    classes: NDArray[np.int64], counts: NDArray[np.int64], class_names: Sequence[str]
) -> str:
    """'dog' (3), ...; names of users are shown with escapes."""
    parts = [f"{class_names[each]!r} ({counts[each]})" for each in classes[:NAMED]]
    more = len(classes) - NAMED
    return ", ".join([*parts, f"and {more} more"] if more > 0 else parts)

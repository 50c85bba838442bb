"""What a label array is, for the generators and the noise files alike."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

Labels = NDArray[np.int64]  # (N,), values in [0, C)
MOST_CLASSES = 10_000  # a larger number in a file is no label


def checked_labels(
    values: ArrayLike,
    num_classes: int | None,
    *,
    name: str = "labels",
    error: type[ValueError] = ValueError,
    copy: bool = True,
) -> Labels:
    """A copy as (N,) int64 in [0, num_classes), or from 0 on where num_classes is None.

    copy: False for the array itself where it is int64 already.

    Raises `error`, naming the first offender. Floats are refused even when integral: a NaN or a
    rounding hides in them.
    """
    if num_classes is not None and num_classes < 1:
        raise error(f"num_classes is {num_classes}: it must be at least 1")
    array = np.asarray(values)
    if array.ndim != 1:
        of_rows = array.ndim == 2 and array.shape[1] > 1
        fix = ", a column of it or, of one-hot labels, array.argmax(axis=1)" if of_rows else ""
        raise error(f"{name} have shape {array.shape}: give one integer per sample, (N,){fix}")
    if array.dtype.kind not in "iu" and len(array):
        raise error(f"{name} are {array.dtype}: give integers (array.astype(np.int64))")
    wrong = np.flatnonzero((array < 0) | (array >= (2**62 if num_classes is None else num_classes)))
    if len(wrong):
        allowed = "from 0 on" if num_classes is None else f"in [0, {num_classes})"
        first = wrong[0]
        raise error(
            f"{name}: {array[first]} at sample {first} is not {allowed}; classes count from 0, "
            "check their number"
        )
    return array.astype(np.int64, copy=copy)


def checked_rate(rate: float) -> float:
    """The noise rate if it is in [0, 1]; else, or for NaN, a ValueError."""
    if not 0.0 <= rate <= 1.0:
        raise ValueError(f"noise rate {rate} is outside [0, 1]: 0.4 means 40 %")
    return float(rate)


def checked_seed(seed: int, limit: int = 2**32) -> int:
    """The seed if it is in [0, limit), which numpy's legacy generator takes; else a ValueError."""
    if not 0 <= seed < limit:
        raise ValueError(f"seed {seed} is outside [0, {limit}): choose another one")
    return seed

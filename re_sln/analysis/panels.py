"""Which training images viz.py shows, and their titles."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from shared.datasets.image_data import ImageData
from shared.formats.alignment import is_noisy
from shared.formats.noise_file import NoiseFile

PANELS = 32


def pick(pool: NDArray[np.int64], seed: int) -> int | None:
    """One of the pool (M,), if any, as the original picks it: replace=False matters in numpy."""
    return int(np.random.RandomState(seed).choice(pool, 1, replace=False)[0]) if len(pool) else None


def choose(noise: NoiseFile, seed: int) -> list[int | None]:
    """The sample of each panel, a row of the noise file: 16 clean ones, then 16 noisy ones.

    Of all samples where the truth is unknown. None: there is none of that kind.
    """
    noisy = is_noisy(noise)
    pools = [np.arange(len(noise.noisy_labels))] * 2
    if noisy is not None:
        pools = [np.flatnonzero(~noisy), np.flatnonzero(noisy)]
    return [pick(pools[number > PANELS // 2], seed + number) for number in range(1, PANELS + 1)]


def titles(noise: NoiseFile, chosen: Sequence[int | None], data: ImageData) -> list[str]:
    """`clean:<class>`, `dirty:<noisy class> (<true class>)`, `dirty:(<class>)`, or the class.

    The third is of a foreign image, the last where the truth is unknown.
    """
    noisy = is_noisy(noise)
    names = data.class_names

    def title(row: int | None) -> str:
        if row is None:
            return ""
        observed = str(names[noise.noisy_labels[row]])
        if noisy is None or noise.clean_labels is None:
            return observed
        if not noisy[row]:
            return f"clean:{observed}"
        if noise.open_set is not None and noise.open_set[row]:
            return f"dirty:({observed})"
        return f"dirty:{observed} ({names[noise.clean_labels[row]]})"

    return [title(row) for row in chosen]

"""Which class became which, and how often: counted without a matrix that the data do not fill.

    found = of_labels(clean, noisy, names)
    "\n".join(class_table(found, "class") + matrix(found))

Letters: C classes, P pairs of classes that occur.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shared.labels import Labels

MATRIX_CLASSES = 20  # up to so many classes a matrix fits a terminal
NAME_WIDTH = 14


@dataclass(frozen=True, eq=False)
class Confusions:
    """Pairs of a clean and a noisy class, ordered by them."""

    clean: Labels  # (P,) in [0, C)
    noisy: Labels  # (P,)
    counts: Labels  # (P,) how many samples, at least 1
    names: Sequence[str]  # (C,)

    @property
    def clean_sizes(self) -> Labels:
        """(C,) samples of each clean class."""
        return _sums(self.clean, self.counts, len(self.names))

    @property
    def noisy_sizes(self) -> Labels:
        """(C,) samples with each noisy label."""
        return _sums(self.noisy, self.counts, len(self.names))

    @property
    def changed(self) -> Labels:
        """(C,) samples of each clean class with another label."""
        wrong = self.clean != self.noisy
        return _sums(self.clean[wrong], self.counts[wrong], len(self.names))

    def wrong_pairs(self) -> list[tuple[int, int, int]]:
        """Clean class, noisy class and number of samples, of different classes."""
        pairs = zip(self.clean.tolist(), self.noisy.tolist(), self.counts.tolist())
        return [(source, target, count) for source, target, count in pairs if source != target]


def _sums(rows: Labels, counts: Labels, size: int) -> Labels:
    return np.bincount(rows, weights=counts, minlength=size).astype(np.int64)


def of_labels(clean: Labels, noisy: Labels, names: Sequence[str]) -> Confusions:
    """clean, noisy: (N,) in [0, C)."""
    pairs, counts = np.unique(clean * len(names) + noisy, return_counts=True)
    return Confusions(pairs // len(names), pairs % len(names), counts, names)


def of_counts(counts: NDArray[np.int64], names: Sequence[str]) -> Confusions:
    """counts: (C, C), rows clean, columns noisy."""
    rows, columns = np.nonzero(counts)
    return Confusions(rows, columns, counts[rows, columns], names)


def class_table(found: Confusions, what: str) -> list[str]:
    """One row per class that occurs: samples, how many changed, and what they became most often."""
    width = name_width(found.names)
    clean, noisy, changed = found.clean_sizes, found.noisy_sizes, found.changed
    favourite: dict[int, tuple[int, int]] = {}  # clean class -> count, noisy class
    for source, target, count in found.wrong_pairs():
        if count > favourite.get(source, (0, 0))[0]:
            favourite[source] = count, target
    lines = [
        f"  {what:<{width}}{'clean':>9}{'noisy':>9}{'changed':>9}{'rate':>9}  most often becomes"
    ]
    for row in np.flatnonzero(clean + noisy).tolist():
        count, target = favourite.get(row, (0, 0))
        lines.append(
            f"  {found.names[row]:<{width}}{clean[row]:>9,}{noisy[row]:>9,}{changed[row]:>9,}"
            f"{changed[row] / max(1, clean[row]):>9.2%}  "
            + (f"{found.names[target]} ({count:,})" if count else "-")
        )
    return lines


def matrix(found: Confusions, numbers: Sequence[int]) -> list[str]:
    """Percent of each clean class; a dot is exactly none. numbers: (C,) the columns' heads."""
    size, width = len(found.names), name_width(found.names)
    cell, digits = (6, 1) if size <= 10 else (4, 0)
    shares = np.zeros((size, size))
    shares[found.clean, found.noisy] = found.counts
    shares *= 100 / np.maximum(shares.sum(axis=1, keepdims=True), 1)
    return [
        "Transition matrix: of a clean class (row), how many percent are labelled as (column)",
        f"  {'':<{width + 4}}" + "".join(f"{number:>{cell}}" for number in numbers),
        *(
            f"  {numbers[row]:>3} {name:<{width}}"
            + "".join(f"{v:>{cell}.{digits}f}" if v else f"{'.':>{cell}}" for v in shares[row])
            for row, name in enumerate(found.names)
        ),
    ]


def name_width(names: Sequence[str]) -> int:
    return max(NAME_WIDTH, *(len(name) + 1 for name in names)) if names else NAME_WIDTH

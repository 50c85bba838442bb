"""What a run comes to; without TensorFlow, so that a table of runs is there at once."""

from collections.abc import Sequence
from typing import Any


def summary(rows: Sequence[dict[str, Any]], name: str) -> dict[str, float]:
    """Of all evaluations: the last figure called `name`, the mean of the last ten, the best and its
    iteration.
    """
    figures = [row[name] for row in rows]
    best = max(range(len(rows)), key=figures.__getitem__)
    return {
        "last": figures[-1],
        "last_10_mean": sum(figures[-10:]) / len(figures[-10:]),
        "best": figures[best],
        "best_iteration": rows[best]["iteration"],
    }

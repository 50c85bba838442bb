"""The accuracies of this project's runs; shared.runs reads finished ones, of every project."""

from collections.abc import Sequence
from typing import Any

from shared.runs.run import Evaluation, summarised

Row = dict[str, Any]  # the figures of an epoch


def summary(rows: Sequence[Row]) -> dict[str, float]:
    """Test accuracy in percent: the best and its epoch, the last, the mean of the last ten.

    rows: at least one, each with a number as accuracy.
    """
    return summarised([Evaluation(row["epoch"], row["accuracy"]) for row in rows])._asdict()

"""Finished runs, of this project or another one: their test accuracies.

A run is a run folder, or a curve such as those in `results/`: a CSV with `epoch` and `accuracy`.
"""

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from instancegm.run.errors import UsageError
from shared.run_folder import read_rows


class NoTestSetError(UsageError):
    """A run that is never tested, as of own pictures without a test set."""


Row = dict[str, Any]  # the figures of an epoch, or of an evaluation


@dataclass(frozen=True)
class Curve:
    """The accuracies that a run reports, in percent, where it was evaluated."""

    name: str
    rows: list[Row]  # at least one; each with numbers `epoch` and `accuracy`
    epochs: float  # how many were trained
    averaged: bool  # the accuracy is that of averaged weights


def read_curve(run: Path, name: str) -> Curve:
    """The curve of a run folder or a .csv; raises UserError or OSError."""
    rows = _table(run) if run.suffix == ".csv" else read_rows(run)
    key = reported(rows, _settings(run))
    known = [row for row in rows if _is_number(row.get(key))]
    if not known and any(key in row for row in rows):
        raise NoTestSetError(
            f"{run} has no test accuracy: it has no test set, or was not tested yet"
        )
    if not known:
        found = "no epoch is finished" if not rows else f"its rows hold {', '.join(rows[0])}"
        raise UsageError(
            f"{run} has no test accuracy ({found}): give the folder of a run that has been "
            "evaluated, or a .csv with the columns epoch and accuracy"
        )
    return Curve(
        name,
        [{"epoch": row["epoch"], "accuracy": row[key]} for row in known],
        # A log by iterations has a row an evaluation, any other a row an epoch.
        rows[-1]["epoch"] if "iteration" in rows[-1] else len(rows),
        averaged=key == "accuracy_ema",
    )


def reported(rows: Sequence[Row], settings: Mapping[str, Any]) -> str:
    """The entry with the accuracy that a run reports.

    Runs of ieg_fsr also evaluate the average of their weights (`use_ema`), and report that.
    """
    averaged = settings.get("use_ema", True) and any("accuracy_ema" in row for row in rows)
    return "accuracy_ema" if averaged else "accuracy"


def summary(rows: Sequence[Row]) -> dict[str, float]:
    """Test accuracy in percent: the best and its epoch, the last, the mean of the last ten."""
    accuracies = [row["accuracy"] for row in rows]
    best = max(rows, key=lambda row: row["accuracy"])
    return {
        "best": best["accuracy"],
        "best_epoch": best["epoch"],
        "last": accuracies[-1],
        "last_10_mean": sum(accuracies[-10:]) / len(accuracies[-10:]),
    }


def _table(path: Path) -> list[Row]:
    """The numbers of a curve kept as .csv; lines with # are remarks, empty cells no numbers."""
    try:
        with open(path, newline="") as file:
            lines = (line for line in file if not line.startswith("#"))
            table = csv.DictReader(lines)
            rows = [{k: float(v) for k, v in row.items() if _reads(v)} for row in table]
        if any("epoch" not in row for row in rows):
            raise ValueError("a line has no epoch")
    except (ValueError, csv.Error) as error:
        raise UsageError(
            f"{path} is no curve ({error}): give a .csv with the columns epoch and accuracy"
        ) from error
    return rows


def _reads(cell: Any) -> bool:
    try:
        return cell is not None and math.isfinite(float(cell))
    except (TypeError, ValueError):  # a word, or a line with too many cells
        return False


def _settings(run: Path) -> dict[str, Any]:
    """The config.yaml of the run, if there is one that can be read."""
    try:
        settings = yaml.safe_load((run / "config.yaml").read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return {}
    return settings if isinstance(settings, dict) else {}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)

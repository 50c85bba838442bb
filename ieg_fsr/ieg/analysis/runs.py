"""Finished runs: what their folders hold, and a table of them. Without TensorFlow."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ieg.run.report import known, summary
from shared.errors import UserError
from shared.run_folder import read_rows

NAMES = {"supervised": "supervised", "l2r": "L2R", "ieg": "IEG", "fsr": "FSR"}
COUNTED = 0.5  # the part of a run, its end, whose weights are averaged


@dataclass(frozen=True)
class Run:
    """What is left of a run."""

    folder: Path
    config: dict[str, Any]
    rows: list[dict[str, Any]]

    @property
    def name(self) -> str:
        return NAMES[self.config["method"]]

    @property
    def labels(self) -> tuple[Any, ...]:
        """What runs that can be compared have in common."""
        names = ("dataset", "noise_file", "labels", "val_fraction", "seed")
        return tuple(self.config.get(name) for name in names)

    @property
    def accuracy_name(self) -> str:
        return "accuracy_ema" if self.config["use_ema"] else "accuracy"

    def accuracies(self) -> list[float]:
        """Of every evaluation; NaN where it has none."""
        found = (row.get(self.accuracy_name) for row in self.rows)
        return [value if value is not None and known(value) else math.nan for value in found]

    def weight(self, kind: str) -> float | None:
        """Mean weight of `clean` or `noisy` samples in the second half; None without weights."""
        start = COUNTED * self.rows[-1]["iteration"]
        late = [row.get(f"weight_{kind}") for row in self.rows if row["iteration"] > start]
        found = [weight for weight in late if weight is not None and known(weight)]
        return sum(found) / len(found) if found else None


def read_run(folder: Path) -> Run:
    """Raises UserError, saying what is missing."""
    try:
        config = yaml.safe_load((folder / "config.yaml").read_text())
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UserError(f"{folder} is not the folder of a run of ieg.main: {error}") from error
    if not isinstance(config, dict) or config.get("method") not in NAMES:
        raise UserError(f"{folder / 'config.yaml'} is not of a run of ieg.main")
    rows = read_rows(folder, step="iteration")
    if not rows:
        raise UserError(f"{folder} has no evaluation yet")
    return Run(folder, config, rows)


def labels_of(runs: Sequence[Run]) -> list[str]:
    """What to call the runs: by method, of several of a method also by folder; raw is marked."""
    methods = [run.name for run in runs]
    return [
        run.name
        + (f" {run.folder.name}" if methods.count(run.name) > 1 else "")
        + ("" if run.config["use_ema"] else " (raw)")
        for run in runs
    ]


def table(runs: Sequence[Run]) -> str:
    """One line for each run."""
    columns = ("accuracy %", 12), ("best %", 9), ("weight of clean", 18), ("of noisy samples", 19)
    names = labels_of(runs)
    first = max(12, 2 + max(map(len, names)))
    head = f"{'method':<{first}}" + "".join(f"{title:>{width}}" for title, width in columns)
    lines = [head, "-" * len(head)]
    for run, name in zip(runs, names):
        result = summary(run.rows, run.accuracy_name)
        figures = [result["last"], result["best"], run.weight("clean"), run.weight("noisy")]
        cells = ("-" if value is None else f"{value:.2f}" for value in figures)
        row = "".join(f"{cell:>{width}}" for cell, (_, width) in zip(cells, columns))
        lines.append(f"{name:<{first}}{row}")
    lines.append(
        "accuracy: after the last step, of the averaged weights (of the raw ones where marked); "
        "best: of all evaluations; weight: 1 is uniform, mean of the second half of the run"
    )
    return "\n".join(lines)

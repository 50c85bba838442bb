"""Finished runs: what their folders hold, and a table of them. Without TensorFlow."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ieg.run.report import summary

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
        return self.config["dataset"], self.config.get("noise_file"), self.config["seed"]

    @property
    def accuracy_name(self) -> str:
        return "accuracy_ema" if self.config["use_ema"] else "accuracy"

    def weight(self, kind: str) -> float | None:
        """Mean weight of `clean` or `noisy` samples in the second half; None without weights."""
        start = COUNTED * self.rows[-1]["iteration"]
        late = [row.get(f"weight_{kind}") for row in self.rows if row["iteration"] > start]
        known = [weight for weight in late if weight is not None]
        return sum(known) / len(known) if known else None


def read_run(folder: Path) -> Run:
    """Raises OSError or ValueError, saying what is missing."""
    config = yaml.safe_load((folder / "config.yaml").read_text())
    if not isinstance(config, dict) or config.get("method") not in NAMES:
        raise ValueError(f"{folder / 'config.yaml'} is not of a run of ieg.main")
    # A kill can leave a part of a line at the end.
    lines = (folder / "metrics.jsonl").read_text().split("\n")[:-1]
    rows = [json.loads(line) for line in lines]
    if not rows:
        raise ValueError(f"{folder} has no evaluation yet")
    return Run(folder, config, rows)


def table(runs: Sequence[Run]) -> str:
    """One line for each run."""
    columns = ("accuracy %", 12), ("best %", 9), ("weight of clean", 18), ("of noisy samples", 19)
    head = f"{'method':<12}" + "".join(f"{title:>{width}}" for title, width in columns)
    lines = [head, "-" * len(head)]
    for run in runs:
        result = summary(run.rows, run.accuracy_name)
        figures = [result["last"], result["best"], run.weight("clean"), run.weight("noisy")]
        cells = ("-" if value is None else f"{value:.2f}" for value in figures)
        row = "".join(f"{cell:>{width}}" for cell, (_, width) in zip(cells, columns))
        lines.append(f"{run.name:<12}{row}")
    lines.append(
        "accuracy: after the last step, of the averaged weights where there are; weight: 1 is "
        "uniform, mean of the second half of the run"
    )
    return "\n".join(lines)

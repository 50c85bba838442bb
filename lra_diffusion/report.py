"""What a run leaves behind: config.yaml, metrics.jsonl and TensorBoard events; what is read of it,
and its summary.

The run folder of every project of this repository looks alike: config.yaml, metrics.jsonl, events,
last.ckpt, best.ckpt. Accuracies are in percent; an epoch without evaluation has the accuracy None.
"""

import hashlib
import json
import math
import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from torch.utils.tensorboard import SummaryWriter

from shared.files import write_atomically

Row = dict[str, Any]  # the figures of an epoch; `epoch` counts from 1
TIMING = (
    "seconds",
    "evaluation_seconds",
    "images_per_s",
)  # the only fields of a row that differ between two equal runs


def write_config(folder: Path, config: Mapping[str, Any]) -> None:
    """config.yaml: everything needed to repeat the run."""
    versions = {
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "numpy": np.__version__,
    }
    text = yaml.safe_dump({**_plain(config), "versions": versions}, sort_keys=False)
    write_atomically(folder / "config.yaml", text.encode())


def read_config(folder: Path) -> dict[str, Any] | None:
    """The config.yaml of a run folder; None if there is none that can be read."""
    try:
        config = yaml.safe_load((folder / "config.yaml").read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return None
    return config if isinstance(config, dict) and isinstance(config.get("identity"), dict) else None


def read_rows(folder: Path) -> list[Row]:
    """The rows of a run folder's metrics.jsonl, as far as they are whole.

    Raises OSError or ValueError.
    """
    lines = (folder / "metrics.jsonl").read_text().split("\n")
    rows = [
        json.loads(line) for line in lines[:-1]
    ]  # a kill can leave a part of a line at the end, without its newline
    if not all(isinstance(row, dict) and isinstance(row.get("epoch"), int) for row in rows):
        raise ValueError(f"{folder / 'metrics.jsonl'} holds a line that is no epoch")
    return rows


class Report:
    """The log of a run, one row an epoch.

    Starting with `rows` rewrites metrics.jsonl, so that nothing is logged twice.

    rows: the caller's own list, to which `log` appends. Every number of a row is a TensorBoard
    scalar of its name.
    """

    def __init__(self, folder: Path, rows: list[Row], wandb_run: Any | None = None) -> None:
        self.rows = rows
        self._metrics = folder / "metrics.jsonl"
        self._wandb_run = wandb_run
        write_atomically(self._metrics, "".join(_line(row) for row in rows).encode())
        self._events = SummaryWriter(str(folder), purge_step=rows[-1]["epoch"] + 1 if rows else 1)

    def log(self, row: Row) -> None:
        self.rows.append(row)
        with open(self._metrics, "a") as file:
            file.write(_line(row))
        numbers = {
            name: value for name, value in row.items() if name != "epoch" and _is_number(value)
        }
        for name, value in numbers.items():
            self._events.add_scalar(name, value, row["epoch"])
        self._events.flush()
        if self._wandb_run is not None:
            self._wandb_run.log(numbers, step=row["epoch"])

    def close(self) -> None:
        self._events.close()
        if self._wandb_run is not None:
            self._wandb_run.finish()


def _line(row: Row) -> str:
    return json.dumps(row) + "\n"


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def start_wandb(folder: Path, config: Mapping[str, Any]) -> Any:
    """A Weights & Biases run in the run folder, the same one after a resume; offline unless
    WANDB_MODE says otherwise.
    """
    import wandb

    identifier = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16]
    mode = os.environ.get("WANDB_MODE", "offline")
    return wandb.init(
        project="lra-diffusion",
        name=folder.name,
        id=identifier,
        dir=str(folder),
        config=_plain(config),
        mode=mode,
        resume="allow",
    )


def _plain(config: Mapping[str, Any]) -> dict[str, Any]:
    return {key: str(value) if isinstance(value, Path) else value for key, value in config.items()}


def chosen(rows: Sequence[Row]) -> Row | None:
    """The row of the best epoch: by validation, of equal ones the first; without validation the
    last that was tested.
    """
    tested = [row for row in rows if row["accuracy"] is not None]
    if not tested or tested[-1]["selection"] is None:
        return tested[-1] if tested else None
    return max(tested, key=lambda row: row["selection"])


def summary(rows: Sequence[Row], name: str = "accuracy") -> dict[str, float]:
    """Of the evaluated epochs: last figure, mean of the last ten, best, and the epoch of that; NaN
    where none was.

    name: which figure of the rows, `accuracy` of the test set unless told; the first of equally
    good epochs is the best.
    """
    evaluated = [row for row in rows if row.get(name) is not None]
    if not evaluated:
        return {
            "last": math.nan,
            "last_10_mean": math.nan,
            "best": math.nan,
            "best_epoch": math.nan,
        }
    figures = [row[name] for row in evaluated]
    return {
        "last": figures[-1],
        "last_10_mean": float(np.mean(figures[-10:])),
        "best": max(figures),
        "best_epoch": evaluated[int(np.argmax(figures))]["epoch"],
    }

"""What a run leaves behind: metrics.jsonl, TensorBoard events, the original's two log files, tables
for the user.

The run folder of every project of this repository looks alike: config.yaml, metrics.jsonl, events,
last.ckpt, best.ckpt.
"""

import csv
import hashlib
import io
import json
import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import sklearn
import torch
import yaml
from numpy.typing import NDArray
from torch.utils.tensorboard import SummaryWriter

from instancegm.options import UsageError
from shared.files import write_atomically

Row = dict[str, Any]
TIMING = ("seconds", "images_per_s")  # the only fields of a row that differ between two equal runs


def rate_name(rate: float) -> str:
    """The rate in file names: one digit after the point, or as many as it has."""
    # DEVIATION(instancegm): 0.45 and 0.5 have files of their own; the original writes both as 0.5
    # and takes the labels of whichever came first.
    return f"{rate:.1f}" if round(rate, 1) == rate else f"{rate:g}"


def write_config(folder: Path, config: Mapping[str, Any]) -> None:
    """config.yaml: everything needed to repeat the run."""
    versions = {
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "numpy": np.__version__,
        "scikit-learn": sklearn.__version__,
    }
    write_atomically(
        folder / "config.yaml",
        yaml.safe_dump({**_plain(config), "versions": versions}, sort_keys=False).encode(),
    )


def read_config(folder: Path) -> dict[str, Any]:
    """The settings of a run, as `write_config` wrote them; UsageError if they are not there."""
    path = folder / "config.yaml"
    try:
        config = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(
            f"{path} cannot be read ({error}): give the folder of a run, or a checkpoint file"
        ) from error
    if not isinstance(config, dict):
        raise UsageError(
            f"{path} is not the configuration of a run: give the folder of a run, or a "
            "checkpoint file"
        )
    return config


class Report:
    """The log of a run, one row an epoch.

    Starting with `rows` rewrites the files, so that nothing is logged twice.

    `rows` is the caller's own list; `log` appends to it.
    """

    def __init__(
        self, folder: Path, log_prefix: Path, rows: list[Row], wandb_run: Any | None = None
    ) -> None:
        self.rows = rows
        self._metrics = folder / "metrics.jsonl"
        self._log_prefix = log_prefix
        self._wandb_run = wandb_run
        self._events = SummaryWriter(str(folder / "tensorboard"), purge_step=len(self.rows))
        write_atomically(self._metrics, "".join(_line(row) for row in self.rows).encode())
        self._write_published_logs()

    def log(self, row: Row) -> None:
        self.rows.append(row)
        with open(self._metrics, "a") as file:
            file.write(_line(row))
        self._write_published_logs()
        numbers = {name: value for name, value in row.items() if isinstance(value, int | float)}
        for name, value in numbers.items():
            self._events.add_scalar(name, value, row["epoch"])
        self._events.flush()
        if self._wandb_run is not None:
            self._wandb_run.log(numbers, step=row["epoch"])

    def close(self) -> None:
        self._events.close()
        if self._wandb_run is not None:
            self._wandb_run.finish()

    def _write_published_logs(self) -> None:
        """`<prefix>_acc.txt` and `<prefix>_stats.txt` in the original's words (its spelling too):
        scripts read them.
        """
        accuracy = [
            f"Epoch:{row['epoch']:d}   Accuracy:{row['accuracy']:.2f}\n" for row in self.rows
        ]
        self._write_log("_acc.txt", accuracy)
        stats = [
            (
                f"Numer of labeled samples:{row[f'n_labelled_{k}']:d}   "
                f"AUC:{_number(row[f'auc_{k}']):.3f}\n"
            )
            for row in self.rows
            if row["phase"] == "co_divide"
            for k in (1, 2)
        ]
        self._write_log("_stats.txt", stats)

    def _write_log(self, suffix: str, lines: list[str]) -> None:
        write_atomically(
            self._log_prefix.with_name(self._log_prefix.name + suffix), "".join(lines).encode()
        )


def _number(value: float | None) -> float:
    return float("nan") if value is None else value


def _line(row: Row) -> str:
    return json.dumps(row) + "\n"


def start_wandb(folder: Path, config: Mapping[str, Any]) -> Any:
    """A Weights & Biases run in the run folder, the same one after a resume; offline unless
    WANDB_MODE says otherwise.
    """
    import wandb

    identifier = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16]
    mode = os.environ.get("WANDB_MODE", "offline")
    return wandb.init(
        project="instanceGM",
        name=folder.name,
        id=identifier,
        dir=str(folder),
        config=_plain(config),
        mode=mode,
        resume="allow",
    )


def _plain(config: Mapping[str, Any]) -> dict[str, Any]:
    return {key: str(value) if isinstance(value, Path) else value for key, value in config.items()}


def summary(rows: Sequence[Row]) -> dict[str, float]:
    """Test accuracy in percent: best epoch, last epoch, mean of the last ten epochs."""
    accuracies = [row["accuracy"] for row in rows]
    return {
        "best": max(accuracies),
        "best_epoch": int(np.argmax(accuracies)),
        "last": accuracies[-1],
        "last_10_mean": float(np.mean(accuracies[-10:])),
    }


def write_clean_prob(
    path: Path,
    index: NDArray[np.int64],
    given: NDArray[np.int64],
    clean_prob: Sequence[NDArray[np.floating]],
    predicted: NDArray[np.int64],
) -> None:
    """clean_prob.csv: dataset index, given label, clean probability by each network, label the
    ensemble predicts.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        [
            "index",
            "given_label",
            *(f"clean_prob_{k + 1}" for k in range(len(clean_prob))),
            "predicted_label",
        ]
    )
    columns = [
        index.tolist(),
        given.tolist(),
        *([f"{p:.6f}" for p in probs] for probs in clean_prob),
    ]
    writer.writerows(zip(*columns, predicted.tolist()))
    write_atomically(path, text.getvalue().encode())

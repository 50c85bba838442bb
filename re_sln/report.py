"""What a run leaves behind: config.yaml, metrics.jsonl, TensorBoard events, and the original's
config.yml and model files.

The run folder of every project of this repository looks alike: config.yaml, metrics.jsonl, events,
last.ckpt, best.ckpt.
"""

import argparse
import hashlib
import io
import json
import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from torch.utils.tensorboard import SummaryWriter

from re_sln.train import Row
from shared.files import write_atomically

TIMING = ("seconds", "images_per_s")  # the only fields of a row that differ between two equal runs
PUBLISHED_KEYS = (
    "batch_size",
    "custom_noise",
    "dataset_name",
    "exp_id",
    "lc_n_epoch",
    "lr",
    "make_new_custom_noise",
    "mo",
    "n_epochs",
    "noise_mode",
    "p",
    "seed",
    "sigma",
)


def write_config(folder: Path, config: Mapping[str, Any]) -> None:
    """config.yaml: everything needed to repeat the run."""
    versions = {
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "numpy": np.__version__,
    }
    write_atomically(
        folder / "config.yaml",
        yaml.safe_dump({**_plain(config), "versions": versions}, sort_keys=False).encode(),
    )


def read_config(folder: Path) -> dict[str, Any] | None:
    """The config.yaml of a run folder; None if there is none that can be read."""
    try:
        config = yaml.safe_load((folder / "config.yaml").read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return None
    return config if isinstance(config, dict) and "exp_id" in config else None


def published_places(output_dir: Path | None, exp_id: str) -> tuple[Path, Path]:
    """Folders of config.yml and of the model files: as in the original, or all in --output_dir
    where that is given.
    """
    if output_dir is not None:
        return output_dir, output_dir
    return Path("configs") / exp_id, Path("saved_models") / exp_id


def write_published_config(folder: Path, args: argparse.Namespace, exp_id: str) -> None:
    """config.yml with the original's keys, sorted; those of noise are null for Animal-10N."""
    known = {**vars(args), "exp_id": exp_id}
    config = {name: known[name] for name in PUBLISHED_KEYS}
    write_atomically(folder / "config.yml", yaml.safe_dump(config).encode())


def write_models(folder: Path, models: Mapping[str, Mapping[str, torch.Tensor]]) -> None:
    """State dicts under their file names, `model.pth` and `model_ema.pth`."""
    for name, state in models.items():
        buffer = io.BytesIO()
        torch.save(dict(state), buffer)
        write_atomically(folder / name, buffer.getvalue())


class Report:
    """The log of a run, one row an epoch.

    Starting with `rows` rewrites the files, so that nothing is logged twice.

    rows: the caller's own list, to which `log` appends. mo: the momentum model is the reported one.
    The events are the original's: `accuracy/train`, `loss/test` and `accuracy/test` as fractions,
    and `loss/train` in the sub-runs loss_train_all, loss_train_noisy, loss_train_clean.
    """

    def __init__(
        self, folder: Path, rows: list[Row], mo: bool, wandb_run: Any | None = None
    ) -> None:
        self.rows, self._reported = rows, "ema" if mo else "base"
        self._metrics = folder / "metrics.jsonl"
        self._wandb_run = wandb_run
        self._folder, self._first_step = folder, len(rows) + 1
        self._writers: dict[str, SummaryWriter] = {}
        write_atomically(self._metrics, "".join(_line(row) for row in rows).encode())

    def log(self, row: Row) -> None:
        self.rows.append(row)
        with open(self._metrics, "a") as file:
            file.write(_line(row))
        events = {
            "accuracy/train": row["accuracy_train"] / 100,
            "accuracy/test": row["accuracy"] / 100,
            "loss/test": row[f"loss_test_{self._reported}"],
        }
        events |= {
            name.replace("_", "/", 1): value / (100 if name.startswith("accuracy") else 1)
            for name, value in row.items()
            if name.endswith(("_base", "_ema"))
        }
        for tag, value in events.items():
            self._events("").add_scalar(tag, value, row["epoch"])
        for name in ("loss_train", "loss_train_noisy", "loss_train_clean"):
            if row[name] is not None:
                sub_run = "loss_train_all" if name == "loss_train" else name
                self._events(sub_run).add_scalar("loss/train", row[name], row["epoch"])
        for writer in self._writers.values():
            writer.flush()
        if self._wandb_run is not None:
            self._wandb_run.log({k: v for k, v in row.items() if v is not None}, step=row["epoch"])

    def _events(self, sub_run: str) -> SummaryWriter:
        """The event file of the run ("") or of a sub-run, made when there is something to write."""
        if sub_run not in self._writers:
            self._writers[sub_run] = SummaryWriter(
                str(self._folder / sub_run), purge_step=self._first_step
            )
        return self._writers[sub_run]

    def close(self) -> None:
        for writer in self._writers.values():
            writer.close()
        if self._wandb_run is not None:
            self._wandb_run.finish()


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
        project="re-sln",
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
    """Test accuracy in percent: last epoch (what the papers report), mean of the last ten epochs,
    best epoch.
    """
    accuracies = [row["accuracy"] for row in rows]
    return {
        "last": accuracies[-1],
        "last_10_mean": float(np.mean(accuracies[-10:])),
        "best": max(accuracies),
        "best_epoch": rows[int(np.argmax(accuracies))]["epoch"],
    }

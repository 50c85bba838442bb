"""Runs to look at: tiny ones of ours, and folders as the original re-sln leaves them."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from torch.utils.tensorboard import SummaryWriter

from re_sln import train_cifar
from re_sln.run.config import parse
from re_sln.run.experiment import Experiment

# Networks this small gain nothing from more threads, and lose much beside other processes.
torch.set_num_threads(1)

CONFIG = {
    "batch_size": 128,
    "custom_noise": False,
    "dataset_name": "cifar10",
    "lc_n_epoch": -1,
    "lr": 0.001,
    "make_new_custom_noise": False,
    "mo": False,
    "n_epochs": 3,
    "noise_mode": "sym",
    "p": 0.4,
    "seed": 123,
    "sigma": 0.0,
}
REAL = {
    "dataset_name": "animal-10n",
    "custom_noise": None,
    "make_new_custom_noise": None,
    "noise_mode": None,
    "p": None,
}
TINY = [
    *("--dataset_name", "digits", "--noise_mode", "sym", "--p", "0.4", "--n_epochs", "1"),
    *("--limit_train", "96", "--limit_test", "40", "--depth", "10", "--width", "1"),
    *("--batch_size", "32"),
]


def train_tiny(*flags: str) -> Experiment:
    """A run of train_cifar.py, as small as can be, in the working directory or --output_dir."""
    return train_cifar.train(parse("train_cifar", [*TINY, *flags]))


def write_old_run(
    home: Path,
    exp_id: str,
    config: Mapping[str, Any],
    accuracy: Sequence[float],
    accuracy_train: Sequence[float] = (),
    loss_test: Sequence[float] = (),
    losses: Mapping[str, Sequence[float]] | None = None,
) -> None:
    """Figures by epoch, accuracies as fractions.

    config: what differs from CONFIG; losses: of all, noisy, clean.
    """
    folder = home / "configs" / exp_id
    folder.mkdir(parents=True)
    (folder / "config.yml").write_text(yaml.safe_dump({**CONFIG, **config, "exp_id": exp_id}))
    curves = {"accuracy/test": accuracy, "accuracy/train": accuracy_train, "loss/test": loss_test}
    _write_events(home / "runs" / exp_id, curves)
    for part, values in (losses or {}).items():
        _write_events(home / "runs" / exp_id / f"loss_train_{part}", {"loss/train": values})


def _write_events(folder: Path, curves: Mapping[str, Sequence[float]]) -> None:
    with SummaryWriter(str(folder)) as events:
        for tag, values in curves.items():
            for step, value in enumerate(values, start=1):
                events.add_scalar(tag, value, step)


def write_old_model(
    home: Path, exp_id: str, state: Mapping[str, torch.Tensor], name: str = "model.pth"
) -> None:
    """As runs on several GPUs saved it, with DataParallel's prefix."""
    folder = home / "saved_models" / exp_id
    folder.mkdir(parents=True, exist_ok=True)
    torch.save({f"module.{key}": value for key, value in state.items()}, folder / name)


def write_search(
    home: Path, name: str, config: Mapping[str, Any], accuracy_by_sigma: Mapping[float, float]
) -> None:
    """A search of tune.py, one row of progress a trial; accuracies as fractions."""
    folder = home / "hp" / name
    for number, (sigma, accuracy) in enumerate(accuracy_by_sigma.items()):
        trial = folder / f"hp_abcde_{number:05}_{number}_sigma={sigma}_2021-12-03_13-18-03"
        trial.mkdir(parents=True)
        (trial / "params.json").write_text(json.dumps({"sigma": sigma}))
        (trial / "progress.csv").write_text(f"loss_train,accuracy_val\n1.5,0.1\n1.2,{accuracy}\n")
    (folder / "config.yml").write_text(
        yaml.safe_dump({**CONFIG, "n_epochs": 2, **config, "sigma": None})
    )

"""The paper's grid of experiments: its trainings, and the table that they fill.

A run of SLN+MO logs the network and its EMA model, so it fills the cells of SLN and SLN+MO both: 18
trainings make the 24 cells. Each is an ordinary run folder of train_cifar.py.
"""

import sys
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from re_sln.analysis import finished_runs
from re_sln.analysis.accuracy_tables import (
    Cells,
    Result,
    aligned,
    cells,
    csv_text,
    last_text,
    result_of,
)
from re_sln.method.train import Row
from re_sln.run import checkpoint
from re_sln.run.config import TABLE_NOISES, complete
from re_sln.run.device import choose_device
from re_sln.run.errors import CheckpointError
from re_sln.run.experiment import prepare
from re_sln.run.places import pinned
from re_sln.run.presets import METHODS, PAPER_RATE
from re_sln.run.record import read_config
from re_sln.run.settings import Config, TableConfig
from re_sln.search import ray_backend
from re_sln.search.ray_backend import Advice
from shared.files import write_atomically
from shared.run_folder import locked

TRAININGS = ("ce", "sln_mo", "sln_mo_lc")
# By METHODS: mean and deviation of 5 runs, last epoch.
PAPER = {
    ("cifar10", "sym"): ((53.16, 1.64), (80.00, 0.61), (84.71, 0.43), (87.00, 0.27)),
    ("cifar10", "asym"): ((72.72, 1.35), (80.63, 0.61), (84.80, 0.27), (87.85, 0.41)),
    ("cifar10", "dependent"): ((72.33, 0.50), (78.48, 0.28), (80.56, 0.16), (81.76, 0.16)),
    ("cifar100", "sym"): ((31.63, 0.83), (50.24, 0.41), (56.57, 0.38), (58.64, 0.37)),
    ("cifar100", "asym"): ((36.26, 0.65), (44.43, 0.19), (50.59, 0.35), (63.90, 0.46)),
    ("cifar100", "dependent"): ((55.59, 0.43), (57.47, 0.30), (61.24, 0.27), (61.14, 0.39)),
}
Columns = list[tuple[str, str]]  # dataset and noise
Table = dict[str, Cells]  # by dataset; the cells by method and noise


def columns_of(config: TableConfig) -> Columns:
    """(dataset, noise) of each column; by default all noises that exist for a dataset."""
    return [
        (dataset, noise)
        for dataset in config.dataset_names
        for noise in config.noise_modes or TABLE_NOISES[: 2 if dataset == "digits" else 3]
    ]


def trainings(config: TableConfig) -> dict[str, Config]:
    """The settings of each training by its folder's name; refuses folders of other settings."""
    found = {}
    for dataset, noise in columns_of(config):
        for seed in config.seeds:
            for method in TRAININGS:
                name = f"{dataset}_{noise}_{method}_seed{seed}"
                own = {"dataset_name": dataset, "noise_mode": noise, "seed": seed, "method": method}
                found[name] = _training(config, config.output_dir / name, own)
    return found


def _training(config: TableConfig, folder: Path, own: Mapping[str, Any]) -> Config:
    given = {**config.of_all, **own, "p": PAPER_RATE, "output_dir": folder, "resume": True}
    given["data_path"] = pinned(config.of_all["data_path"])
    training = complete(given)
    recorded = read_config(folder)
    if recorded is not None:
        settings = training.deciding()
        settings |= {name: getattr(training, name) for name in ("limit_train", "limit_test")}
        checkpoint.refuse_other_run({name: recorded.get(name) for name in settings}, settings)
    done = len(_rows(training))
    if done > training.n_epochs:
        raise CheckpointError(
            f"{folder} has done {done} epochs already: --n_epochs {training.n_epochs} cannot "
            "shorten it"
        )
    return training


def _rows(training: Config) -> list[Row]:
    assert training.output_dir is not None
    folder = training.output_dir
    return finished_runs.read_metrics(folder) if (folder / "metrics.jsonl").exists() else []


def _is_finished(training: Config) -> bool:
    """The models are written last, after the last row."""
    assert training.output_dir is not None
    model = training.output_dir / ("model_ema.pth" if training.mo else "model.pth")
    return len(_rows(training)) >= training.n_epochs and model.exists()


def _left(every: Mapping[str, Config]) -> dict[str, Config]:
    return {name: own for name, own in every.items() if not _is_finished(own)}


def fill(config: TableConfig, work: ray_backend.Work) -> int:
    """Runs what is missing by `work`, prints the table, writes table.csv; the exit status.

    No other process fills the same table meanwhile.
    """
    _check(config, _left(trainings(config)).values())  # before there is a folder
    with locked(config.output_dir):
        return _fill(config, work)


def _fill(config: TableConfig, work: ray_backend.Work) -> int:
    every, columns = trainings(config), columns_of(config)
    left = _left(every)
    count = len(columns) * len(METHODS)
    print(
        f"{len(every)} trainings fill {count} cells, for SLN and SLN+MO are one; {len(left)} of "
        "them are left. What they print goes to log.txt in their folders in "
        f"{config.output_dir}",
        flush=True,
    )
    failures = {}
    if left:
        advice = Advice("run the same command again", "try --amp off")
        failures = ray_backend.run_all(config.backend, left, "training", work, _line, advice)
    for name, failure in failures.items():
        print(f"{name} stopped: {failure.message}", file=sys.stderr)
    table = collect(every)
    print(text(table, columns, len(config.seeds)))
    write_atomically(config.output_dir / "table.csv", csv_text(as_lines(table, columns)))
    print(f"the same with the paper's deviations: {config.output_dir / 'table.csv'}")
    if any(not _is_finished(own) and name not in failures for name, own in left.items()):
        raise KeyboardInterrupt  # Ray stops its trials itself and comes back
    return max((failure.status for failure in failures.values()), default=0)


def _check(config: TableConfig, left: Iterable[Config]) -> None:
    """Reads each dataset and noise once, so that problems are reported before any training."""
    if config.backend.ray_address is None:
        choose_device(config.of_all["device"])
    for own in {(own.dataset_name, own.noise_mode): own for own in left}.values():
        prepare(replace(own, device="cpu", amp="off", output_dir=None, resume=False))


def _line(name: str, figures: Mapping[str, Any]) -> str:
    return (
        f"{name} finished: test accuracy {figures['accuracy_test_base']:.2f} %, EMA model "
        f"{figures['accuracy_test_ema']:.2f} %"
    )


def collect(every: Mapping[str, Config]) -> Table:
    """The cells of each dataset, as far as their trainings are finished."""
    table: Table = {}
    for dataset in dict.fromkeys(own.dataset_name for own in every.values()):
        finished = [
            result_of(finished_runs.find(str(own.output_dir)), _rows(own))
            for own in every.values()
            if own.dataset_name == dataset and _is_finished(own)
        ]
        table[dataset] = cells(dataset, finished)[0]
    return table


def text(table: Table, columns: Columns, seeds: int) -> str:
    """A block for each dataset: rows are methods, columns noises."""
    blocks = [
        f"test accuracy (%) after the last epoch, mean ± population std over {seeds} "
        f"seed{'s' * (seeds > 1)}; in brackets the paper's, of 5 runs"
    ]
    for dataset, of_dataset in table.items():
        noises = [noise for other, noise in columns if other == dataset]
        lines = [[dataset, *noises]]
        for method in METHODS:
            found = [of_dataset.get((method, noise), []) for noise in noises]
            paper = [published(dataset, noise, method) for noise in noises]
            lines.append([method, *map(_shown, found, paper, [seeds] * len(noises))])
        blocks.append(aligned(lines))
    return "\n".join(blocks)


def _shown(found: list[Result], paper: tuple[str, str], seeds: int) -> str:
    ours = last_text(found) if found else "not run"
    if 0 < len(found) < seeds:
        ours += f", {len(found)} of {seeds} seeds"
    return f"{ours} ({paper[0]} ± {paper[1]})" if paper[0] else ours


def published(dataset: str, noise: str, method: str) -> tuple[str, str]:
    """The paper's mean and deviation; empty where it has none."""
    if (dataset, noise) not in PAPER:
        return "", ""
    mean, std = PAPER[dataset, noise][METHODS.index(method)]
    return f"{mean:.2f}", f"{std:.2f}"


def as_lines(table: Table, columns: Columns) -> list[list[str]]:
    """table.csv: a line for each cell; an accuracy that is not known is empty."""
    lines = [["dataset", "noise", "method", "mean", "std", "seeds", "paper_mean", "paper_std"]]
    for dataset, noise in columns:
        for method in METHODS:
            found = table[dataset].get((method, noise), [])
            values = [result.last for result in found]
            ours = [f"{np.mean(values):.2f}", f"{np.std(values):.2f}"] if values else ["", ""]
            seeds = " ".join(str(result.seed) for result in found)
            paper = published(dataset, noise, method)
            lines.append([dataset, noise, method, *ours, seeds, *paper])
    return lines

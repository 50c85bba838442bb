"""One trial of the search for sigma, with its files as Ray Tune named them in the original.

    hp/hp_<time>/hp_<5 hex>_<number>_<number>_sigma=<sigma>_<time>/
        params.json, progress.csv, result.json, events, last.ckpt

A trial continues from its last.ckpt; its other files are rewritten from the rows in there, so they
never lack or repeat an epoch. Accuracies in these files are fractions, as in the original.
"""

import csv
import io
import json
import secrets
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import torch
from torch.utils.tensorboard import SummaryWriter

from re_sln.analysis.finished_runs import read_csv
from re_sln.method.train import Row, epochs
from re_sln.run import checkpoint
from re_sln.run.experiment import Experiment, prepare
from re_sln.run.settings import Config, HeldOut
from shared.files import remove_unfinished, write_atomically
from shared.run_folder import locked, naming

GRID = (0.1, 0.2, 0.5, 1.0)
METRICS = (
    *("loss_train", "loss_train_noisy", "loss_train_clean", "accuracy_train"),
    *("loss_val", "accuracy_val"),
)
TIME_FORMAT = "%Y-%m-%d_%H-%M-%S"


def trial_names(time: str) -> list[str]:
    """New folder names, one for each sigma of the grid."""
    search = secrets.token_hex(3)[:5]
    return [f"hp_{search}_{i:05d}_{i}_sigma={sigma}_{time}" for i, sigma in enumerate(GRID)]


# DEVIATION(re_sln): the split of the losses into noisy and clean samples follows the samples that
# are kept for training; the original's tune.py looks them up at the positions before the split, so
# that its two columns are meaningless.
def train_trial(
    held_out: HeldOut, config: Config, report: Callable[[dict[str, Any]], None]
) -> None:
    """Trains config.sigma, or what is left of it, in config.output_dir; reports every epoch."""
    run = prepare(config, held_out)
    with locked(run.folder):
        try:
            with naming(run.folder):
                _train(run, report)
        except FloatingPointError as error:
            checkpoint.note_last_good(error, run.folder)
            raise


def _train(run: Experiment, report: Callable[[dict[str, Any]], None]) -> None:
    config = run.config
    state = checkpoint.load_newest(run.folder, run.device)
    if state is not None:
        run.load_state_dict(state)
        # Sums of another number of threads differ in their last bits.
        torch.set_num_threads(state["threads"])
    remove_unfinished(run.folder)
    params = json.dumps({"sigma": config.sigma}, indent=2)
    write_atomically(run.folder / "params.json", params.encode())
    sets = run.data.train_set, run.data.test_sets
    with SummaryWriter(str(run.folder), purge_step=run.next_epoch) as events:
        for row in epochs(run.learner, *sets, run.settings, run.next_epoch):
            run.rows.append({**row, "date": datetime.now().strftime(TIME_FORMAT)})
            state = {**run.state_dict(), "threads": torch.get_num_threads()}
            checkpoint.save(state, run.folder / checkpoint.LAST)
            _write_rows(run.folder, run.rows, config)
            known = {k: v for k, v in metrics_of(row, config.mo).items() if v is not None}
            for name, value in known.items():
                events.add_scalar(f"ray/tune/{name}", value, row["epoch"])
            events.flush()
            report({**known, "epoch": row["epoch"]})
    _write_rows(run.folder, run.rows, config)  # a kill may have come between checkpoint and these


def metrics_of(row: Row, mo: bool) -> dict[str, float | None]:
    """METRICS of an epoch, with `mo` of the EMA model; None where there is no such sample."""
    known = {
        **row,
        "loss_val": row["loss_val_ema" if mo else "loss_val_base"],
        "accuracy_val": row["accuracy"] / 100,
        "accuracy_train": row["accuracy_train"] / 100,
    }
    return {name: known[name] for name in METRICS}


def _write_rows(folder: Path, rows: Sequence[Row], config: Config) -> None:
    """result.json and progress.csv, the one that is read again; null and "" stand for None."""
    lines, total = [], 0.0
    for row in rows:
        total += row["seconds"]
        lines.append(
            {
                **metrics_of(row, config.mo),
                "training_iteration": row["epoch"],
                "time_this_iter_s": row["seconds"],
                "time_total_s": round(total, 3),
                "date": row["date"],
                "trial_id": folder.name[3:14],
            }
        )
    sigma = {"config": {"sigma": config.sigma}}
    results = "".join(json.dumps({**line, **sigma}) + "\n" for line in lines)
    write_atomically(folder / "result.json", results.encode())
    table = io.StringIO()
    writer = csv.DictWriter(table, list(lines[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    write_atomically(folder / "progress.csv", table.getvalue().encode())


def read_rows(trial: Path) -> list[Row]:
    """METRICS of the finished epochs of a trial; none if it has not begun."""
    path = trial / "progress.csv"
    return read_csv(path.read_text()) if path.exists() else []

"""One trial of the sigma search, its files as Ray Tune named them in the original, and what the
trials come to.

    hp/hp_<time>/hp_<5 hex>_<number>_<number>_sigma=<sigma>_<time>/   params.json, progress.csv, result.json, events, last.ckpt

A trial goes on from its last.ckpt; its other files are written anew from the rows in there, so they
never lack or repeat an epoch. Accuracies in these files are fractions, as in the original.
"""

import argparse
import csv
import io
import json
import secrets
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import torch
from torch.utils.tensorboard import SummaryWriter

from re_sln import checkpoint
from re_sln.experiment import prepare
from re_sln.train import Row
from shared.files import write_atomically

GRID = (0.1, 0.2, 0.5, 1.0)
METRICS = (
    "loss_train",
    "loss_train_noisy",
    "loss_train_clean",
    "accuracy_train",
    "loss_val",
    "accuracy_val",
)
TIME_FORMAT = "%Y-%m-%d_%H-%M-%S"
Results = dict[float, list[Row]]  # the lines of result.json by sigma


def trial_names(time: str) -> list[str]:
    """New folder names, one for each sigma of the grid."""
    search = secrets.token_hex(3)[:5]
    return [f"hp_{search}_{i:05d}_{i}_sigma={sigma}_{time}" for i, sigma in enumerate(GRID)]


# DEVIATION(re_sln): the split of the losses into noisy and clean samples follows the samples that
# are kept for training; the original's tune.py looks them up at the positions before the split, so
# that its two columns mean nothing.
def train_trial(args: argparse.Namespace, report: Callable[[dict[str, Any]], None]) -> None:
    """Trains one sigma, or what is left of it, in args.output_dir; reports METRICS and the epoch
    after each epoch.
    """
    run = prepare(args)
    state = checkpoint.load_newest(run.folder, run.device)
    if state is not None:
        run.load_state_dict(state)
        torch.set_num_threads(
            state["threads"]
        )  # sums of another number of threads differ in their last bits
    for unfinished in run.folder.glob(".*.tmp"):  # left by a kill in the middle of writing
        unfinished.unlink()
    write_atomically(
        run.folder / "params.json", json.dumps({"sigma": args.sigma}, indent=2).encode()
    )
    with SummaryWriter(str(run.folder), purge_step=run.next_epoch) as events:
        for row in run.epochs():
            run.rows.append({**row, "date": datetime.now().strftime(TIME_FORMAT)})
            checkpoint.save(
                {**run.state_dict(), "threads": torch.get_num_threads()},
                run.folder / checkpoint.LAST,
            )
            metrics = metrics_of(row, args.mo)
            _write_rows(run.folder, run.rows, args)
            for name, value in metrics.items():
                if value is not None:
                    events.add_scalar(f"ray/tune/{name}", value, row["epoch"])
            events.flush()
            report(
                {name: value for name, value in metrics.items() if value is not None}
                | {"epoch": row["epoch"]}
            )
    _write_rows(run.folder, run.rows, args)  # a kill may have come between the checkpoint and these


def metrics_of(row: Row, mo: bool) -> dict[str, float | None]:
    """METRICS of an epoch, of the momentum model with `mo`; None where there is no such sample."""
    known = {
        **row,
        "loss_val": row["loss_val_ema" if mo else "loss_val_base"],
        "accuracy_val": row["accuracy"] / 100,
        "accuracy_train": row["accuracy_train"] / 100,
    }
    return {name: known[name] for name in METRICS}


def _write_rows(folder: Path, rows: Sequence[Row], args: argparse.Namespace) -> None:
    """progress.csv and result.json; an empty cell and null stand for None."""
    lines, total = [], 0.0
    for row in rows:
        total += row["seconds"]
        lines.append(
            {
                **metrics_of(row, args.mo),
                "training_iteration": row["epoch"],
                "time_this_iter_s": row["seconds"],
                "time_total_s": round(total, 3),
                "date": row["date"],
                "trial_id": folder.name[3:14],
            }
        )
    table = io.StringIO()
    writer = csv.DictWriter(table, list(lines[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    results = "".join(
        json.dumps({**line, "config": {"sigma": args.sigma}}) + "\n" for line in lines
    )
    write_atomically(folder / "progress.csv", table.getvalue().encode())
    write_atomically(folder / "result.json", results.encode())


def read_rows(trial: Path) -> list[Row]:
    """The finished epochs of a trial; none if it has not begun."""
    path = trial / "result.json"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def choose(results: Results) -> float:
    """The sigma whose last validation accuracy is highest; of equal ones the smallest."""
    return max(sorted(results), key=lambda sigma: results[sigma][-1]["accuracy_val"])


def table(results: Results, failed: Mapping[float, str]) -> str:
    """A line for each sigma: validation accuracy (last and best epoch) and the rest of the last
    epoch.
    """
    lines = [
        "sigma  val acc last  val acc best (epoch)  train acc  loss train   noisy   clean  loss val"
    ]
    for sigma in GRID:
        rows = results.get(sigma)
        if rows:
            last, best = rows[-1], max(rows, key=lambda row: row["accuracy_val"])
            losses = [
                f"{'-':>7}" if last[name] is None else f"{last[name]:7.4f}"
                for name in ("loss_train_noisy", "loss_train_clean")
            ]
            lines.append(
                f"{sigma:5g}  {last['accuracy_val']:12.4f}  {best['accuracy_val']:12.4f} "
                f"({best['training_iteration']:>5d}) "
                f"{last['accuracy_train']:10.4f}  {last['loss_train']:10.4f} {losses[0]} "
                f"{losses[1]}  {last['loss_val']:8.4f}"
            )
        if sigma in failed:
            lines.append(f"{sigma:5g}  stopped: {failed[sigma]}")
    return "\n".join(lines)


def draw(path: Path, results: Results, title: str) -> None:
    """Curves of the validation accuracy, and the last one against sigma with the maximum marked."""
    import matplotlib  # not needed where the trials run

    matplotlib.use("Agg")  # no display
    import matplotlib.pyplot as plt
    from matplotlib.ticker import MaxNLocator

    figure, (curves, by_sigma) = plt.subplots(1, 2, figsize=(11, 4.5), layout="constrained")
    figure.suptitle(title)
    for sigma, rows in sorted(results.items()):
        epochs = [row["training_iteration"] for row in rows]
        curves.plot(
            epochs,
            [row["accuracy_val"] for row in rows],
            label=f"sigma = {sigma:g}",
            marker="." if len(rows) < 30 else None,
        )
    curves.set(title="during training", xlabel="epoch", ylabel="validation accuracy (fraction)")
    curves.xaxis.set_major_locator(MaxNLocator(integer=True))
    curves.legend()
    sigmas, best = sorted(results), choose(results)
    last = {sigma: results[sigma][-1]["accuracy_val"] for sigma in sigmas}
    by_sigma.plot(sigmas, list(last.values()), marker="o", label="last epoch")
    by_sigma.plot(
        best, last[best], "r*", markersize=16, label=f"chosen: sigma = {best:g}, {last[best]:.4f}"
    )
    by_sigma.set_xscale("log")
    by_sigma.set_xticks(sigmas, [f"{sigma:g}" for sigma in sigmas])
    by_sigma.minorticks_off()
    by_sigma.set(title="after training", xlabel="sigma", ylabel="validation accuracy (fraction)")
    by_sigma.legend()
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=120)
    plt.close(figure)
    write_atomically(path, picture.getvalue())

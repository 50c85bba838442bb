"""A table and a picture of several runs.

    python -m instancegm.compare RUN [RUN ...] --plot comparison.png

A RUN is a run folder of instanceGM.py, or a curve such as those in `instancegm/results/`: a CSV
with the columns epoch and accuracy.
"""

import argparse
import csv
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")  # no display

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import MaxNLocator

Row = dict[str, Any]  # an epoch of a run, with at least `epoch` and `accuracy`


def read_rows(run: Path) -> list[Row]:
    """The epochs of a run folder or of a .csv; raises ValueError, KeyError or OSError."""
    if run.suffix == ".csv":
        with open(run, newline="") as file:
            rows: list[Row] = [
                {"epoch": int(row["epoch"]), "accuracy": float(row["accuracy"])}
                for row in csv.DictReader(file)
            ]
    else:
        rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    if not rows:
        raise ValueError("no epoch is finished yet")
    return rows


def summary(rows: Sequence[Row]) -> dict[str, float]:
    """Test accuracy in percent: best epoch, last epoch, mean of the last ten epochs."""
    accuracies = [row["accuracy"] for row in rows]
    return {
        "best": max(accuracies),
        "best_epoch": int(np.argmax(accuracies)),
        "last": accuracies[-1],
        "last_10_mean": float(np.mean(accuracies[-10:])),
    }


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description="A table of the accuracies of several runs, and their curves."
    )
    parser.add_argument(
        "runs", type=Path, nargs="+", metavar="RUN", help="run folder, or a curve as .csv"
    )
    parser.add_argument("--plot", type=Path, help="picture of the curves to write")
    args = parser.parse_args(argv)
    short = [run.stem if run.suffix == ".csv" else run.name for run in args.runs]
    names = short if len(set(short)) == len(short) else [str(run) for run in args.runs]
    curves = []
    for run, name in zip(args.runs, names):
        try:
            curves.append((name, read_rows(run)))
        except (OSError, ValueError, KeyError) as error:
            print(
                f"error: {run} has no curve ({error}): give the --output_dir of a run of "
                "instanceGM.py, or a .csv with the columns epoch and accuracy",
                file=sys.stderr,
            )
            return 2
    width = max(len("run"), *map(len, names))
    print(f"test accuracy (%)\n{'run':<{width}}  {'best':>6}  {'last':>6}  {'last 10':>7}  epochs")
    for name, rows in curves:
        result = summary(rows)
        print(
            f"{name:<{width}}  {result['best']:6.2f}  {result['last']:6.2f}  "
            f"{result['last_10_mean']:7.2f}  {len(rows)}"
        )
    if args.plot:
        args.plot.parent.mkdir(parents=True, exist_ok=True)
        draw(args.plot, curves)
        print(f"curves: {args.plot}")
    pictures = [str(run / "plots.png") for run in args.runs if (run / "plots.png").exists()]
    if pictures:
        print(f"plots: {', '.join(pictures)}")
    return 0


def draw(path: Path, curves: Sequence[tuple[str, list[Row]]]) -> None:
    """Test accuracy of each run by epoch."""
    figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    for name, rows in curves:
        line = axes.plot(
            [row["epoch"] for row in rows], [row["accuracy"] for row in rows], label=name
        )[0]
        axes.annotate(
            f"{rows[-1]['accuracy']:.1f}",
            (rows[-1]["epoch"], rows[-1]["accuracy"]),
            xytext=(4, 0),
            textcoords="offset points",
            color=line.get_color(),
            fontsize=9,
            va="center",
        )
    axes.set(
        title="Test accuracy on clean labels, trained on noisy ones",
        xlabel="epoch",
        ylabel="top-1 (%)",
    )
    axes.margins(x=0.08)  # room for the last values
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(loc="lower right")
    figure.savefig(path, dpi=120)
    plt.close(figure)

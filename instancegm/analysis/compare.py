"""A table and a picture of several runs, of this project or another one.

    python -m instancegm.compare RUN [RUN ...] --plot comparison.png

A RUN is a run folder, or a curve such as those in `instancegm/results/`: a CSV with the columns
epoch and accuracy. Imported before numpy and matplotlib, so that --help answers at once.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from instancegm.run.errors import exit_status

if TYPE_CHECKING:
    from instancegm.analysis.runs import Curve


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="A table of the accuracies of several runs, and their curves."
    )
    parser.add_argument(
        "runs", type=Path, nargs="+", metavar="RUN", help="run folder, or a curve as .csv"
    )
    parser.add_argument("--plot", type=Path, help="picture of the curves to write")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0; 2 for a run without a curve."""
    args = build_parser().parse_args(sys.argv[1:] if argv is None else argv)
    return exit_status(lambda: compare(args.runs, args.plot), trains=False)


def compare(runs: Sequence[Path], plot: Path | None) -> None:
    from instancegm.analysis.runs import NoTestSetError, read_curve

    short = [run.stem if run.suffix == ".csv" else run.resolve().name for run in runs]
    names = short if len(set(short)) == len(short) else [str(run) for run in runs]
    curves, left_out = [], []
    for run, name in zip(runs, names):
        try:
            curves.append(read_curve(run, name))
        except NoTestSetError as error:
            left_out.append(error)
    if not curves:
        raise left_out[0]
    for reason in left_out:
        print(f"note: left out: {reason}", file=sys.stderr)
    print(table(curves))
    if plot:
        from instancegm.analysis import figures

        figures.save(figures.curves(curves), plot)
        print(f"curves: {plot}")
    pictures = [str(run / "plots.png") for run in runs if (run / "plots.png").exists()]
    if pictures:
        print(f"plots: {', '.join(pictures)}")


def table(curves: Sequence["Curve"]) -> str:
    """One line for each run."""
    from instancegm.analysis.runs import summary

    width = max(len("run"), *(len(curve.name) for curve in curves))
    lines = [
        "test accuracy (%)",
        f"{'run':<{width}}  {'best':>6}  {'last':>6}  {'last 10':>7}  {'epochs':>6}  evaluations",
    ]
    for curve in curves:
        result = summary(curve.rows)
        lines.append(
            f"{curve.name:<{width}}  {result['best']:6.2f}  {result['last']:6.2f}  "
            f"{result['last_10_mean']:7.2f}  {round(curve.epochs, 1):6g}  {len(curve.rows):11d}"
        )
    lines.append("last 10: mean of the last ten evaluations")
    if averaged := [curve.name for curve in curves if curve.averaged]:
        lines.append(f"of averaged weights, as these runs report: {', '.join(averaged)}")
    return "\n".join(lines)

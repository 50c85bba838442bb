"""A table and a picture of several runs, of this project or another one.

    python -m instancegm.compare RUN [RUN ...] --plot comparison.png

A RUN is a run folder, a folder that holds such, or a curve such as those in `instancegm/results/`:
a CSV with the columns epoch and accuracy. Imported before numpy and matplotlib, so that --help
answers at once.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from instancegm.run.errors import exit_status

if TYPE_CHECKING:
    from shared.runs.reader import Run


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="A table of the accuracies of several runs, and their curves."
    )
    parser.add_argument(
        "runs",
        type=Path,
        nargs="+",
        metavar="RUN",
        help="run folder of any project here, folder of such, or a curve as .csv",
    )
    parser.add_argument("--plot", type=Path, help="picture of the curves to write")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0; 2 if there is no run with an accuracy."""
    args = build_parser().parse_args(sys.argv[1:] if argv is None else argv)
    return exit_status(lambda: compare(args.runs, args.plot), trains=False)


def compare(places: Sequence[Path], plot: Path | None) -> None:
    from shared.runs.reader import runs_to_compare

    found, left_out = runs_to_compare(places)
    runs = named(found)
    for reason in left_out:
        print(f"note: left out: {reason}", file=sys.stderr)
    print(table(runs))
    if plot:
        from instancegm.analysis import figures

        figures.save(figures.curves({name: run.evaluations for name, run in runs.items()}), plot)
        print(f"curves: {plot}")
    pictures = [path for run in found if (path := run.folder / "plots.png").exists()]
    if pictures:
        print(f"plots: {', '.join(map(str, pictures))}")


def named(runs: Sequence["Run"]) -> dict[str, "Run"]:
    """The runs by the names of their folders, or by whole paths where two are called the same."""
    short = [run.folder.stem if run.folder.is_file() else run.folder.resolve().name for run in runs]
    names = short if len(set(short)) == len(short) else [str(run.folder) for run in runs]
    return dict(zip(names, runs))


def table(runs: Mapping[str, "Run"]) -> str:
    """One line for each run, which has an evaluation."""
    width = max(len("run"), *map(len, runs))
    lines = [
        "test accuracy (%)",
        f"{'run':<{width}}  {'best':>6}  {'last':>6}  {'last 10':>7}  {'epochs':>6}  evaluations",
    ]
    for name, run in runs.items():
        result = run.summary()
        assert result is not None
        lines.append(
            f"{name:<{width}}  {result.best:6.2f}  {result.last:6.2f}  "
            f"{result.last_10_mean:7.2f}  {round(run.epochs, 1):6g}  {len(run.evaluations):11d}"
        )
    lines.append("last 10: mean of the last ten evaluations")
    if averaged := [name for name, run in runs.items() if run.averaged]:
        lines.append(f"of averaged weights, as these runs report: {', '.join(averaged)}")
    if masks := [name for name, run in runs.items() if run.metric != "accuracy"]:
        lines.append(f"mask AP instead of accuracy: {', '.join(masks)}")
    return "\n".join(lines)

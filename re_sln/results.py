"""Tables and figures of all local experiments: test accuracy by method and noise, curves, sigma.

    python results.py                                   # of configs/, runs/ and hp/, into results/
    python results.py --runs runs --out runs/figures    # of every run folder in there

Reads our runs and those of the original re-sln (configs/ beside runs/ with TensorBoard events).
Cells are mean ± population standard deviation over the runs of a cell, in percent. What differs
from the original is listed in NOTES.md.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).absolute().parents[1]))  # the script runs from any folder

from re_sln.run.errors import exit_status


@dataclass(frozen=True)
class Request:
    """Which experiments, and where to write."""

    runs: Sequence[Path] | None  # None: configs/, runs/ and hp/ of this folder
    out: Path


def parse(argv: Sequence[str] | None) -> Request:
    parser = argparse.ArgumentParser(
        allow_abbrev=False,
        prog="results.py",
        description="Tables and figures of all local experiments.",
    )
    add = parser.add_argument
    add(
        "--runs",
        type=Path,
        nargs="+",
        metavar="DIR",
        help="run folders, folders that contain such, searches, working folders of re-sln, curves "
        "as .csv (configs/, runs/ and hp/ of this folder)",
    )
    add("--out", type=Path, default=Path("results"), help="of the tables and figures (results)")
    gone = "no longer possible: TensorBoard.dev, which it names a table of, is shut down"
    add("--experiment_id", help=gone)
    args = parser.parse_args(argv)
    if args.experiment_id is not None:
        parser.error(
            f"--experiment_id {args.experiment_id} names an upload to TensorBoard.dev, which was "
            "shut down: leave it out to read configs/ and runs/ of this folder, or name other "
            "folders with --runs"
        )
    return Request(args.runs, args.out)


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0; 2 for input that cannot work, with a message."""
    request = parse(argv)

    def work() -> None:
        from re_sln.analysis.overview import collect
        from re_sln.run.launch import alone_only

        alone_only("a table is written once")
        collect(request.runs, request.out)

    return exit_status(work, trains=False)


if __name__ == "__main__":
    sys.exit(main())

"""A table and a picture of several runs on the same noisy labels.

    python -m ieg.compare RUN [RUN ...] --plot comparison.png

A RUN is a run folder of any project here, or a folder that holds such. The table has accuracies,
and which samples the weights trust, in units of the uniform weight: 1 is what every sample has
where nothing judges it, and a method that finds the noise gives noisy samples less.
"""

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

# Where the package is, to be run by path from anywhere.
sys.path.insert(0, str(Path(__file__).absolute().parents[1]))

from ieg.run.errors import exit_status, importing


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0; 2 for runs that cannot be read or compared, with a message."""
    return exit_status(partial(work, argv))


def work(argv: Sequence[str] | None) -> None:
    """Read, compare, draw."""
    with importing():
        from ieg.analysis.runs import table
        from shared.runs.labels import same_labels
        from shared.runs.reader import RunError, find_runs

    parser = argparse.ArgumentParser(
        prog="python -m ieg.compare",
        allow_abbrev=False,
        description="A table and a picture of several runs on the same noisy labels.",
    )
    parser.add_argument(
        "runs", nargs="+", type=Path, metavar="RUN", help="run folders, or folders of such"
    )
    parser.add_argument("--plot", type=Path, help="write the picture here (PNG)")
    given = parser.parse_args(argv)
    runs, unread = find_runs(given.runs)
    if not runs:
        raise RunError("\n".join(f"{folder}: {reason}" for folder, reason in unread))
    for folder, reason in unread:
        print(f"note: left out: {folder}: {reason}", file=sys.stderr)
    if len({run.seed for run in runs}) > 1 or not same_labels(runs):
        print("warning: the runs differ in noisy labels or seed", file=sys.stderr)
    print(table(runs))
    if given.plot:
        with importing():
            from ieg.analysis.picture import picture  # matplotlib takes a second to import
            from shared.files import write_atomically

        write_atomically(given.plot, picture(runs))
        print(f"picture: {given.plot}")


if __name__ == "__main__":
    sys.exit(main())

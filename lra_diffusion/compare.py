"""A table and a picture of several runs on the same noisy labels.

    python compare.py RUN [RUN ...] --plot comparison.png

A RUN is a run folder of any project here, a folder that holds such, or a curve as .csv.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

# The repository: the script runs from any folder.
sys.path.insert(0, str(Path(__file__).absolute().parents[1]))

from lra_diffusion.run.errors import exit_status


def parse(argv: Sequence[str] | None) -> tuple[list[Path], Path | None]:
    """The runs, and the picture to write."""
    parser = argparse.ArgumentParser(
        prog="compare.py",
        allow_abbrev=False,
        description="A table of the accuracies of several runs, and their curves.",
    )
    parser.add_argument(
        "runs",
        type=Path,
        nargs="+",
        metavar="RUN",
        help="run folder, folder of such, or a curve as .csv",
    )
    parser.add_argument("--plot", type=Path, metavar="PNG", help="picture of the curves to write")
    args = parser.parse_args(argv)
    if args.plot is not None and args.plot.suffix.lower() != ".png":
        parser.error(f"--plot {args.plot}: the picture is a PNG, so let its name end in .png")
    return args.runs, args.plot


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0, or 2 if there is no run."""

    def work() -> None:
        runs, plot = parse(argv)

        from lra_diffusion.analysis.compare import compare

        compare(runs, plot)

    return exit_status(work, trains=False)


if __name__ == "__main__":
    sys.exit(main())

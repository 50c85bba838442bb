"""Pictures of a finished run: how right the retrieved labels are, how test labels emerge.

    python plot.py runs/LRA-diffusion_SimCLR_digits-1-0.35_2026-11-21_08-30-47

Writes retrieval.png (where the clean labels are known) and trajectories.png into the run folder, or
into --out.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

# The repository: the script runs from any folder.
sys.path.insert(0, str(Path(__file__).absolute().parents[1]))

from lra_diffusion.run.errors import exit_status


def parse(argv: Sequence[str] | None) -> tuple[Path, Path, str]:
    """The run folder, the folder of the pictures, the device."""
    parser = argparse.ArgumentParser(
        prog="plot.py",
        allow_abbrev=False,
        description="Draw the retrieved labels and the reverse diffusion of a finished run.",
        epilog="example: python plot.py runs/mine",
    )
    parser.add_argument("run", type=Path, help="run folder of a training script")
    parser.add_argument("--out", type=Path, help="folder of the pictures (the run folder)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps (auto)")
    args = parser.parse_args(argv)
    return args.run, args.out or args.run, args.device


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0; 2 for input that cannot work, with a message."""
    run, out, device = parse(argv)

    from lra_diffusion.analysis.pictures import draw

    return exit_status(lambda: draw(run, out, device))


if __name__ == "__main__":
    sys.exit(main())

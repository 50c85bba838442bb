"""A table of the mask AP of several runs, and a picture of their curves.

    python tools/compare.py work_dirs/mask_rcnn_tiny_shapes_ce work_dirs/mask_rcnn_tiny_shapes_nl_2 --plot comparison.png

What it does is in compare.py beside this folder.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(
    0, str(Path(__file__).absolute().parents[2])
)  # the repository: the script runs from any folder

from noisy_instseg import compare
from noisy_instseg.command_line import report_errors


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0; 2 for input that cannot work, with a message."""
    args = compare.parser().parse_args(argv)
    return report_errors(lambda: compare.run(args))


if __name__ == "__main__":
    sys.exit(main())

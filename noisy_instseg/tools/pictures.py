"""A page of validation images: ground truth, and what several models make of them.

    python tools/pictures.py configs/shapes/mask_rcnn_tiny_shapes_ce.py clean.pth noisy.pth --names clean noisy --out page.png

What it does is in pictures.py beside this folder.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(
    0, str(Path(__file__).absolute().parents[2])
)  # the repository: the script runs from any folder

from noisy_instseg import pictures
from noisy_instseg.command_line import report_errors


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0; 2 for input that cannot work, with a message."""
    args = pictures.parser().parse_args(argv)
    return report_errors(lambda: pictures.run(args))


if __name__ == "__main__":
    sys.exit(main())

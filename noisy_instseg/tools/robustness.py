"""Mask AP by noise rate: makes the noise, trains every method, writes a table and a picture.

    python tools/robustness.py --dataset-config configs/shapes/mask_rcnn_tiny_shapes \\
        --ann data/shapes/annotations/instances_train.json --rates 0 0.2 0.4 --out robustness

What it does is in robustness.py beside this folder.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(
    0, str(Path(__file__).absolute().parents[2])
)  # the repository: the script runs from any folder

from noisy_instseg import robustness
from noisy_instseg.command_line import report_errors


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0; 2 for input that cannot work, with a message; 3 for a loss that is not
    finite.
    """
    args = robustness.parse(sys.argv[1:] if argv is None else argv)
    return report_errors(lambda: robustness.run(args))


if __name__ == "__main__":
    sys.exit(main())

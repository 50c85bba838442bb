"""Rank the annotations of a training file by the loss of a trained model: wrong class labels come
first.

    python tools/find_noisy.py configs/shapes/mask_rcnn_tiny_shapes_nl_2.py work_dirs/mask_rcnn_tiny_shapes_nl_2/epoch_12.pth \\
        --noise_file data/shapes/annotations/train_sn40.json

What it does is in find_noisy.py beside this folder.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(
    0, str(Path(__file__).absolute().parents[2])
)  # the repository: the script runs from any folder

from noisy_instseg import find_noisy
from noisy_instseg.command_line import report_errors


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0; 2 for input that cannot work, with a message."""
    args = find_noisy.parser().parse_args(argv)
    return report_errors(lambda: find_noisy.run(args))


if __name__ == "__main__":
    sys.exit(main())

"""Mask AP by noise rate: makes the noise, trains every method, writes a table and a picture.

    python tools/robustness.py --dataset-config configs/shapes/mask_rcnn_tiny_shapes \
        --ann ../data/shapes/annotations/instances_train.json --rates 0 0.2 0.4 --out robustness

See analysis/study.py.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

# the repository: the script runs from any folder
sys.path.insert(0, str(Path(__file__).absolute().parents[2]))

from noisy_instseg.analysis.config import parse_robustness
from noisy_instseg.run.errors import exit_status


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0; 2 for input that cannot work; 3 for a loss that is not finite."""
    flags = parse_robustness(argv)

    def work() -> None:
        from noisy_instseg.analysis import study

        study.run(flags)

    return exit_status(work)


if __name__ == "__main__":
    sys.exit(main())

"""SimCLR pre-training of the encoder f_p on CIFAR-10, CIFAR-100, digits or your own 32-pixel
images, without labels.

Chen, Kornblith, Norouzi & Hinton, "A simple framework for contrastive learning of visual
representations", ICML 2020.

    python train_SimCLR.py --dataset cifar10     # the usual recipe, 500 epochs: for a GPU
    python train_SimCLR.py --dataset digits      # about a minute on two CPU cores, no download

Writes model/SimCLR_128_<dataset>.pt, where the other scripts look for it. The original has no such
script: it ships weights for CIFAR, and how they were made is not known.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(
    0, str(Path(__file__).absolute().parents[1])
)  # the repository: the script runs from any folder

from lra_diffusion import simclr_run
from lra_diffusion.command_line import report_errors


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0; 2 for input that cannot work, with a message; 3 for a loss that is not
    finite.
    """
    return report_errors(simclr_run.start, simclr_run.parse(argv))


if __name__ == "__main__":
    sys.exit(main())

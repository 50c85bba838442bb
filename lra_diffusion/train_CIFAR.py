"""LRA-diffusion on CIFAR-10, CIFAR-100, digits or your own images with noisy labels.

Chen et al., "Label-Retrieval-Augmented Diffusion Models for Learning from Noisy Labels", NeurIPS
2023.

    python train_CIFAR.py --device cuda:0 --noise_type cifar10-1-0.35 --fp_encoder SimCLR --nepoch 200 --warmup_epochs 5
    python train_CIFAR.py --noise_type digits-1-0.35         # two minutes on two CPU cores, after make_pmd.py and train_SimCLR.py

What differs from the published code is listed in README.md; the loop is in train.py.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(
    0, str(Path(__file__).absolute().parents[1])
)  # the repository: the script runs from any folder

from lra_diffusion import options
from lra_diffusion.run import run_and_report


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0; 2 for input that cannot work, with a message; 3 for a loss that is not
    finite.
    """
    return run_and_report(options.parse("train_CIFAR", argv))


if __name__ == "__main__":
    sys.exit(main())

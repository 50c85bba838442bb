"""SLN, SLN+MO and SLN+MO+LC on noisy labels: stochastic label noise, momentum model, label
correction.

Chen, Chen, Ye, Zhao, Heng, "Noise against noise: stochastic label noise helps combat inherent label
noise", ICLR 2021.

    python train_cifar.py --dataset_name cifar10 --batch_size 128 --n_epochs 300 --lr 0.001 --noise_mode sym --p 0.4 \
        --sigma 1.0 --mo --lc_n_epoch 250 --seed 123            # the command lines of re-sln
    python train_cifar.py --dataset_name digits --noise_mode sym --method sln_mo_lc     # a minute on two CPU cores, no download

What differs from the published code is listed in README.md; the loop is in train.py.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(
    0, str(Path(__file__).absolute().parents[1])
)  # the repository: the script runs from any folder

from re_sln import options
from re_sln.run import run_and_report


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0; 2 for input that cannot work, with a message; 3 for a loss that is not
    finite.
    """
    return run_and_report(options.parse("train_cifar", argv))


if __name__ == "__main__":
    sys.exit(main())

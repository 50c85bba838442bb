"""CE, SLN, SLN+MO and SLN+MO+LC on labels that are noisy by themselves: Animal-10N, Clothing1M.

    python train_real.py --dataset_name animal-10n --batch_size 128 --n_epochs 300 --lr 0.001 \
        --sigma 0.5 --mo --lc_n_epoch 250 --seed 123                          # re-sln's
    python train_real.py --dataset_name clothing1m --method sln_mo_lc         # the authors'

Both need files that their publishers send on request: `python -m shared data animal10n` says how.
Training is that of train_cifar.py; the algorithm is in method/train.py.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).absolute().parents[1]))  # the script runs from any folder

from re_sln.run.errors import leave
from re_sln.train_cifar import run


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0; 2 for input that cannot work; 3 for a loss that is not finite; 130 Ctrl-C."""
    return run("train_real", argv)


if __name__ == "__main__":
    leave(main())

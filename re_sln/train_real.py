"""CE, SLN, SLN+MO and SLN+MO+LC on data whose labels are noisy by themselves: Animal-10N and
Clothing1M.

    python train_real.py --dataset_name animal-10n --batch_size 128 --n_epochs 300 --lr 0.001 --sigma 0.5 --mo \
        --lc_n_epoch 250 --seed 123                              # the command lines of re-sln
    python train_real.py --dataset_name clothing1m --method sln_mo_lc     # as in the code of SLN's authors

Both need files that their publishers send on request: `python -m shared data animal10n` says how.
The loop is in train.py.
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
    return run_and_report(options.parse("train_real", argv))


if __name__ == "__main__":
    sys.exit(main())

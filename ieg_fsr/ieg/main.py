"""IEG, FSR, L2R and plain cross-entropy on noisy labels and imbalanced classes.

Zhang, Zhang, Arik, Lee, Pfister, "Distilling Effective Supervision from Severe Label Noise", CVPR
2020 (IEG). Zhang, Pfister, "Learning Fast Sample Re-weighting Without Reward Data", ICCV 2021
(FSR). Ren, Zeng, Yang, Urtasun, "Learning to Reweight Examples for Robust Deep Learning", ICML 2018
(L2R).

    cd ieg_fsr
    python -m ieg.main --dataset=cifar100_uniform_0.4 --network_name=wrn28-10 --checkpoint_path=runs       # published
    python -m ieg.main --dataset=digits_uniform_0.6 --network_name=wrn10-1 --method=l2r --max_iteration=400  # no download

What differs from the published code is listed in README.md; the loop is in run.py, the methods in
step_*.py.
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(
    0, str(Path(__file__).absolute().parents[1])
)  # where the package is, to be run by path from anywhere
os.environ.setdefault(
    "TF_CPP_MIN_LOG_LEVEL", "3"
)  # TensorFlow talks about itself; its errors come as exceptions

from ieg import options


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0; 2 for input that cannot work, with a message; 3 for a loss that is not
    finite.
    """
    args = options.parse(argv)
    from ieg.run import (
        run_and_report,  # TensorFlow takes seconds to import, and `--help` should not wait for it
    )

    return run_and_report(args)


if __name__ == "__main__":
    sys.exit(main())

"""Chooses sigma among 0.1, 0.2, 0.5 and 1.0 by the accuracy on held-out noisy training samples.

Chen, Chen, Ye, Zhao, Heng, "Noise against noise: stochastic label noise helps combat inherent label
noise", ICLR 2021.

    python tune.py --dataset_name digits --noise_mode sym --p 0.4 --n_epochs 20        # two minutes
    python tune.py --dataset_name cifar10 --batch_size 128 --n_epochs 300 --lr 0.001 \
        --noise_mode sym --p 0.4 --lc_n_epoch -1 --seed 123 --val_size 0.1        # re-sln's search

One trial for each sigma, no early stopping; on Ray Tune (any number of GPUs, or CPU cores, or an
existing cluster with --ray_address), or with --backend local one after the other. The search is in
search/sigma_search.py; NOTES.md lists what differs from the published code.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).absolute().parents[1]))  # the script runs from any folder

from re_sln.run.config import parse_search
from re_sln.run.errors import exit_status


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0; 2 for input that cannot work; 3 for a loss that is not finite; 130 Ctrl-C."""
    config = parse_search(argv)

    def work() -> int:
        from re_sln.run.launch import alone_only
        from re_sln.search.sigma_search import search

        alone_only("Ray spreads its trials over the GPUs")
        return search(config)

    return exit_status(work)


if __name__ == "__main__":
    sys.exit(main())

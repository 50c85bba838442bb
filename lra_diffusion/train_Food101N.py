"""LRA-diffusion on Food-101N, whose labels come from a web search; tested on Food-101.

Chen et al., "Label-Retrieval-Augmented Diffusion Models for Learning from Noisy Labels", NeurIPS
2023.

    python train_Food101N.py --gpu_devices 0 1 2 3 --nepoch 200 --warmup_epochs 1 \\
        --feature_dim 1024

    python train_Food101N.py --dataset folder --data_path my_images    # your own, at 224 pixels

`python -m shared data food101n` says where the images come from. The run is that of train_CIFAR.py.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

# The repository: the script runs from any folder.
sys.path.insert(0, str(Path(__file__).absolute().parents[1]))

from lra_diffusion.run.errors import leave
from lra_diffusion.train_CIFAR import run


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0, 2 for input that cannot work, 3 for a loss that is not finite."""
    return run("train_Food101N", argv)


if __name__ == "__main__":
    leave(main())

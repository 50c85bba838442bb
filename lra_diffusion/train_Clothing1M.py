"""LRA-diffusion on Clothing1M, on the images that CC selected.

Chen et al., "Label-Retrieval-Augmented Diffusion Models for Learning from Noisy Labels", NeurIPS
2023.

    python train_Clothing1M.py --gpu_devices 0 1 2 3 --nepoch 200 --warmup_epochs 1 \\
        --feature_dim 1024

    python train_Clothing1M.py --dataset folder --data_path my_images    # your own, balanced

`python -m shared data clothing1m` says where the images come from. The run is that of
train_CIFAR.py.
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
    return run("train_Clothing1M", argv)


if __name__ == "__main__":
    leave(main())

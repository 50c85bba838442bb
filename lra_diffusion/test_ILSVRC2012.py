"""Tests a model of train_WebVision.py on WebVision's and on ILSVRC2012's validation images.

Chen et al., "Label-Retrieval-Augmented Diffusion Models for Learning from Noisy Labels", NeurIPS
2023.

    python test_ILSVRC2012.py --gpu_devices 0    # the model in model/LRA-diffusion_WebVision.pt

`python -m shared data ilsvrc2012` says where the images come from.
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
    return run("test_ILSVRC2012", argv)


if __name__ == "__main__":
    leave(main())

"""InstanceGM on Clothing1M, or on pictures of your own at 224 pixels.

Garg, Nguyen, Felix, Do, Carneiro, WACV 2023, arXiv 2209.00906.

    python instanceGM_clothing1M.py --data_path /data/clothing1M
    python instanceGM_clothing1M.py --dataset folder --data_path my_images

`python -m shared data clothing1m` says where the images come from. The run is that of
instanceGM.py.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

# The repository, so that the script runs from any folder.
sys.path.insert(0, str(Path(__file__).absolute().parents[1]))

from instancegm.instanceGM import run
from instancegm.run.errors import leave


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0; 2 for input that cannot work; 3 for a loss that is not finite."""
    return run("instanceGM_clothing1M", argv)


if __name__ == "__main__":
    leave(main())

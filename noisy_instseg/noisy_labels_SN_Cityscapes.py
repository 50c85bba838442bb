"""Symmetric class noise on Cityscapes annotations (Yang et al., ECCV 2020), after the authors'
script of this name.

    python noisy_instseg/noisy_labels_SN_cityscapes.py --ann instances_train.json --out train_sn20.json --rate 0.2 --seed 1

Each annotation gets, with probability --rate, one of the seven other classes. --mode original
repeats the authors' script for a seed; there bicycle is never drawn, and a class may draw itself.

The paper's README writes Cityscapes, its code cityscapes, so there are two files with the same
bytes: on a disk that does not tell the names apart, a checkout keeps one of them, and nothing is
lost.
"""

import sys
from pathlib import Path

sys.path.insert(
    0, str(Path(__file__).absolute().parents[1])
)  # the repository: the script runs from any folder

from shared.cli.coco import script_main

if __name__ == "__main__":
    sys.exit(script_main("symmetric", "cityscapes"))

"""Asymmetric class noise on Cityscapes annotations (Yang et al., ECCV 2020), after the authors'
script of this name.

    python noisy_instseg/noisy_labels_AN_cityscapes.py --ann instances_train.json --out train_an20.json --rate 0.2 --seed 1

With probability --rate person and rider, truck and bus, motorcycle and bicycle are swapped; car and
train stay. --mode original repeats the authors' script for a seed; there car and train count as
selected.

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
    sys.exit(script_main("asymmetric", "cityscapes"))

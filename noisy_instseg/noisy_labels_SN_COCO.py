"""Symmetric class noise on COCO annotations, after the script of Yang et al., ECCV 2020.

    python noisy_instseg/noisy_labels_SN_COCO.py --ann instances_train.json \
        --out train_sn20.json --rate 0.2 --seed 1

Each annotation gets, with probability --rate, one of the 79 other classes. --mode original repeats
the authors' script for a seed; there toothbrush is never drawn, and a class may draw itself.
"""

import sys
from pathlib import Path

# the repository: the script runs from any folder
sys.path.insert(0, str(Path(__file__).absolute().parents[1]))

from shared.cli.coco import script_main

if __name__ == "__main__":
    sys.exit(script_main("symmetric", "coco"))

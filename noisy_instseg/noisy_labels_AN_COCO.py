"""Asymmetric class noise on COCO annotations, after the script of Yang et al., ECCV 2020.

    python noisy_instseg/noisy_labels_AN_COCO.py --ann instances_train.json \
        --out train_an20.json --rate 0.2 --seed 1

Each annotation gets, with probability --rate, another class of its super-category; person has none
and stays. --mode original repeats the authors' script for a seed; there persons become vehicles,
and skis are never drawn.
"""

import sys
from pathlib import Path

# the repository: the script runs from any folder
sys.path.insert(0, str(Path(__file__).absolute().parents[1]))

from shared.cli.coco import script_main

if __name__ == "__main__":
    sys.exit(script_main("asymmetric", "coco"))

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

from noisy_instseg.run.noise_script import main

# To edit and run, as the original: what the flags are unless they are given.
r = 0.2  # --rate
p = ""  # --ann, clean annotations, such as "data/annotations/instances_train.json"
p_a, p_g = p, ""  # --ann and --out; "": p_a with the noise in its name

if __name__ == "__main__":
    sys.exit(main("asymmetric", "coco", r, p_a, p_g))

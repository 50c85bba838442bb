"""Symmetric class noise on Pascal VOC annotations, after the script of Yang et al., ECCV 2020.

    python noisy_instseg/noisy_labels_SN_VOC.py --ann instances_train.json \
        --out train_sn20.json --rate 0.2 --seed 1

Each annotation gets, with probability --rate, one of the 19 other classes. --mode original repeats
the authors' script for a seed; there tvmonitor is never drawn, and a class may draw itself.
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
    sys.exit(main("symmetric", "voc", r, p_a, p_g))

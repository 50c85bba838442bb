"""Pictures of one's own with planted wrong labels, and how many of them each method finds.

    python tests/bench/planted_digits.py make my_digits
    make compare DATASET=folder DATA=my_digits METHODS="ce sln lra l2r fsr"
    python tests/bench/planted_digits.py score my_digits runs/compare-my_digits

All 1,797 digits as files in folders of classes, 19 % of them (each by a chance of a fifth) in that
of another class; there is no test set. What was planted is known to `score` alone, by file name.
Run it with the environment .venv/compare.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from PIL import Image

# The repository, so that the script runs from any folder.
sys.path.insert(0, str(Path(__file__).absolute().parents[2]))

from shared import datasets
from shared.runs.reader import find_runs, read_label_quality

NAMES = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
RATE, SEED, LOOKED_AT = 0.2, 1, 100


def digits():
    """Images (N, 32, 32, 3) uint8, their true and their given labels (N,)."""
    data = datasets.load("digits")
    images = np.concatenate([data.train_images, data.test_images])
    true = np.concatenate([data.train_labels, data.test_labels])
    random = np.random.default_rng(SEED)
    moved = random.random(len(true)) < RATE
    given = np.where(moved, (true + random.integers(1, 10, len(true))) % 10, true)
    return images, true, given


def make(folder):
    images, _, given = digits()
    for number, (image, label) in enumerate(zip(images, given)):
        path = folder / NAMES[label] / f"{number:04}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)


def score(places):
    """Prints for every run how many of its most suspicious labels are planted ones."""
    _, true, given = digits()
    for run in find_runs(places)[0]:
        if run.label_quality_path is None:
            continue
        table = read_label_quality(run.label_quality_path)
        is_wrong = (given != true)[[int(Path(name).stem) for name in table.files]]
        first = is_wrong[np.argsort(table.quality, kind="stable")]
        print(
            f"{run.title:<15} {first[:LOOKED_AT].sum():4d} of the first {LOOKED_AT} are wrong, "
            f"{first[: is_wrong.sum()].sum()} of the first {is_wrong.sum()}, which are wrong in all"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("what", choices=("make", "score"))
    parser.add_argument("folder", type=Path, help="of the pictures")
    parser.add_argument("runs", type=Path, nargs="*")
    args = parser.parse_args()
    make(args.folder) if args.what == "make" else score(args.runs)

"""Digits as picture files in a folder for each class, as people have their own.

    python instancegm/scripts/write_pictures.py noise.npz pictures

Training pictures lie in the folder of their noisy label, test pictures in that of their true one;
all are 64 x 64. Pictures that are there already stay, unless they lie by other labels: then it is
an error.
"""

import shutil
import sys
from pathlib import Path

from PIL import Image

# The repository, so that the script runs from any folder.
sys.path.insert(0, str(Path(__file__).absolute().parents[2]))

from instancegm.run.errors import UsageError, exit_status
from shared import datasets
from shared.formats.alignment import aligned
from shared.formats.external import read_any


def main(noise_file: str, folder: str) -> None:
    digits = datasets.load("digits")
    noise = aligned(read_any(noise_file), digits)
    pictures = {
        f"{split}/{label}/{number:04}.png": image
        for split, images, labels in (
            ("train", digits.train_images[noise.indices], noise.noisy_labels),
            ("test", digits.test_images, digits.test_labels),
        )
        for number, (image, label) in enumerate(zip(images, labels))
    }
    place, unfinished = Path(folder), Path(f"{folder}.part")
    if place.exists():
        if {path.relative_to(place).as_posix() for path in place.rglob("*.png")} != set(pictures):
            raise UsageError(
                f"{place} has other pictures or labels than {noise_file} now gives: delete "
                f"{place.parent}, and run the same command again"
            )
        return
    shutil.rmtree(unfinished, ignore_errors=True)  # of a process that was killed
    for name, image in pictures.items():
        path = unfinished / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).resize((64, 64), Image.Resampling.NEAREST).save(path)
    unfinished.rename(place)


if __name__ == "__main__":
    sys.exit(exit_status(lambda: main(*sys.argv[1:]), trains=False))

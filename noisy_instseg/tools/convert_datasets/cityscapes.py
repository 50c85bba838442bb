"""Cityscapes' instance masks in COCO's format, as mmdetection reads them.

    python tools/convert_datasets/cityscapes.py ./data/cityscapes --nproc 8 \
        --out-dir ./data/cityscapes/annotations

Makes instancesonly_filtered_gtFine_{train,val,test}.json. Works on the unpacked
leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip; the package cityscapesscripts is not
needed. A pixel of `_gtFine_instanceIds.png` is 1000 * label + number of the object. Below 1000 it
is a label alone: of stuff, or of a group of things that could not be told apart, which is a crowd.
Only the eight labels that are evaluated become annotations. The test masks are not public: that
file lists images without annotations, and is left out where there are no test images.
"""

# ruff: noqa: RUF009 - the calls make fields, and no values

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

# the repository: the script runs from any folder
sys.path.insert(0, str(Path(__file__).absolute().parents[3]))

from noisy_instseg.run.errors import exit_status  # first, for Ctrl-C while the others load

# isort: split
import numpy as np

from noisy_instseg.run.flags import original, parse, positional
from noisy_instseg.tools.convert_datasets import png_to_coco
from shared.coco.classes import TABLES
from shared.errors import UserError

SPLITS = ("train", "val", "test")
# the labels with instances that are evaluated, by Cityscapes' own ids
LABELS = TABLES["cityscapes"]
IMAGE, INSTANCES, STUFF = "_leftImg8bit.png", "_gtFine_instanceIds.png", "_gtFine_labelIds.png"


@dataclass(frozen=True, kw_only=True)
class Flags(png_to_coco.ConvertFlags):
    """Cityscapes' instance masks in COCO's format; --out-dir is CITYSCAPES_PATH unless given."""

    EXAMPLE: ClassVar = "convert_datasets/cityscapes.py ./data/cityscapes --nproc 8"
    cityscapes_path: Path = positional("folder with leftImg8bit/ and gtFine/")
    img_dir: str = original("folder of images in it (leftImg8bit)", "leftImg8bit")
    gt_dir: str = original("folder of masks in it (gtFine)", "gtFine")


def masks_of(images: Path, masks: Path, split: str) -> list[Path]:
    """The files of instance masks of a split's images, sorted by city and name.

    images, masks: the folders of all splits.
    """
    found = sorted((images / split).glob(f"*/*{IMAGE}"))
    if not found:
        raise UserError(
            f"no images <city>/*{IMAGE} in {images / split}: unpack leftImg8bit_trainvaltest.zip "
            "there, or name the folder with --img-dir"
        )
    paths = [
        masks / split / path.parent.name / (path.name.removesuffix(IMAGE) + INSTANCES)
        for path in found
    ]
    if lacking := [path for path in paths if not path.is_file()]:
        raise UserError(
            f"{len(lacking)} of the {len(found)} images in {images / split} have no masks, "
            f"first {lacking[0]}: unpack gtFine_trainvaltest.zip there, or name the folder with "
            "--gt-dir"
        )
    return paths


def convert_image(path: Path) -> png_to_coco.Converted:
    """An image by its file of instance masks."""
    values = png_to_coco.read_png(path)
    annotations = []
    for value in np.unique(values[values >= min(LABELS)]).tolist():
        label = value // 1000 if value >= 1000 else value
        if label in LABELS:
            annotations.append(png_to_coco.annotation(values == value, label, crowd=value < 1000))
    city, name = path.parent.name, path.name.removesuffix(INSTANCES)
    image = {
        "file_name": f"{city}/{name}{IMAGE}",
        "height": values.shape[0],
        "width": values.shape[1],
        "segm_file": f"{city}/{name}{STUFF}",
    }
    return image, annotations


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0; 2 for input that cannot work, with a message."""
    flags = parse(Flags, argv)
    root = flags.cityscapes_path
    images, masks = root / flags.img_dir, root / flags.gt_dir
    # nothing here needs the test set
    splits = [split for split in SPLITS if split != "test" or (images / split).is_dir()]
    names = [f"instancesonly_filtered_gtFine_{split}.json" for split in splits]

    def make() -> list[bytes]:
        jobs = {split: masks_of(images, masks, split) for split in splits}
        found = (
            png_to_coco.convert(convert_image, jobs[split], flags.nproc, split) for split in splits
        )
        return [png_to_coco.number(converted, LABELS) for converted in found]

    return exit_status(
        lambda: png_to_coco.write_all(flags.out_dir or root, names, flags.force, make)
    )


if __name__ == "__main__":
    sys.exit(main())

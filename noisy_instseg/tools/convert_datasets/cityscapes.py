"""Cityscapes' instance masks in COCO's format: instancesonly_filtered_gtFine_{train,val,test}.json,
as mmdetection reads them.

    python tools/convert_datasets/cityscapes.py ./data/cityscapes --nproc 8 --out-dir ./data/cityscapes/annotations

Works on the unpacked leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip; the package
cityscapesscripts is not needed. A pixel of `_gtFine_instanceIds.png` is 1000 * label + number of
the object. Below 1000 it is a label alone: of stuff, or of a group of things that could not be told
apart, which is a crowd. Only the eight labels that are evaluated become annotations. The test masks
are not public: that file lists images without annotations, and is left out where there are no test
images.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(
    0, str(Path(__file__).absolute().parents[3])
)  # the repository: the script runs from any folder

import numpy as np

from noisy_instseg.errors import UserError
from noisy_instseg.tools.convert_datasets import png_to_coco
from shared.coco.classes import TABLES

SPLITS = ("train", "val", "test")
LABELS = TABLES[
    "cityscapes"
]  # the labels with instances that are evaluated, by Cityscapes' own ids
IMAGE, INSTANCES, STUFF = "_leftImg8bit.png", "_gtFine_instanceIds.png", "_gtFine_labelIds.png"


def masks_of(images: Path, masks: Path, split: str) -> list[Path]:
    """The files of instance masks of a split's images, sorted by city and name.

    images, masks: the folders of all splits.
    """
    found = sorted((images / split).glob(f"*/*{IMAGE}"))
    if not found:
        raise UserError(
            f"no images <city>/*{IMAGE} in {images / split}: unpack "
            "leftImg8bit_trainvaltest.zip there, or name the folder "
            "with --img-dir"
        )
    paths = [
        masks / split / path.parent.name / (path.name.removesuffix(IMAGE) + INSTANCES)
        for path in found
    ]
    if lacking := [path for path in paths if not path.is_file()]:
        raise UserError(
            f"{len(lacking)} of the {len(found)} images in {images / split} have no masks, "
            f"first {lacking[0]}: unpack "
            "gtFine_trainvaltest.zip there, or name the folder with --gt-dir"
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
    parser = argparse.ArgumentParser(description="Cityscapes' instance masks in COCO's format")
    parser.add_argument("cityscapes_path", type=Path, help="folder with leftImg8bit/ and gtFine/")
    parser.add_argument(
        "--img-dir", default="leftImg8bit", help="folder of images in it (default: %(default)s)"
    )
    parser.add_argument(
        "--gt-dir", default="gtFine", help="folder of masks in it (default: %(default)s)"
    )
    png_to_coco.add_options(parser, "cityscapes_path")
    args = parser.parse_args(argv)
    root = args.cityscapes_path
    images, masks = root / args.img_dir, root / args.gt_dir
    splits = [
        split for split in SPLITS if split != "test" or (images / split).is_dir()
    ]  # nothing here needs the test set

    def make() -> list[bytes]:
        jobs = {split: masks_of(images, masks, split) for split in splits}
        return [
            png_to_coco.number(
                png_to_coco.convert(convert_image, jobs[split], args.nproc, split), LABELS
            )
            for split in splits
        ]

    names = [f"instancesonly_filtered_gtFine_{split}.json" for split in splits]
    return png_to_coco.report(
        lambda: png_to_coco.write_all(args.out_dir or root, names, args.force, make)
    )


if __name__ == "__main__":
    sys.exit(main())

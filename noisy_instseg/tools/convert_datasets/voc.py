"""Pascal VOC 2012's segmented objects in COCO's format: instances_{train,val}2012.json, with
categories 1 to 20.

    python tools/convert_datasets/voc.py ./data/voc --nproc 8 --out-dir ./data/voc/annotations

Works on the unpacked VOCtrainval_11-May-2012.tar, which has VOCdevkit/VOC2012/ with
ImageSets/Segmentation/, SegmentationObject/ and SegmentationClass/. The paper's authors published
no converter for VOC: the split is that of the segmentation task, 1,464 images to train and 1,449 to
validate, and the unlabelled border of an object (255) belongs to nothing.
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

SPLITS = ("train", "val")
CLASSES = TABLES["voc"]
VOID = 255


def images_of(devkit: Path, split: str) -> list[tuple[Path, str]]:
    """(devkit, name of the image) for each image of a split, in the order of VOC's list."""
    path = devkit / "ImageSets/Segmentation" / f"{split}.txt"
    try:
        names = path.read_text(encoding="utf-8").split()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"cannot read {path}, the list of {split} images: unpack "
            f"VOCtrainval_11-May-2012.tar in {devkit.parents[1]}"
        ) from error
    if not names:
        raise UserError(f"{path} lists no images: unpack VOCtrainval_11-May-2012.tar again")
    return [(devkit, name) for name in names]


def convert_image(job: tuple[Path, str]) -> png_to_coco.Converted:
    """An image by its two files of masks. job: of `images_of`."""
    devkit, name = job
    object_path, class_path = (
        devkit / folder / f"{name}.png" for folder in ("SegmentationObject", "SegmentationClass")
    )
    objects, classes = png_to_coco.read_png(object_path), png_to_coco.read_png(class_path)
    if objects.shape != classes.shape:
        raise UserError(
            f"{object_path} is {objects.shape}, {class_path} {classes.shape}: unpack the "
            "archive again"
        )
    annotations = []
    for value in np.unique(objects[(objects > 0) & (objects != VOID)]).tolist():
        mask = objects == value
        annotations.append(
            png_to_coco.annotation(
                mask, class_of(classes[mask], f"object {value} of {object_path}")
            )
        )
    return {
        "file_name": f"{name}.jpg",
        "height": objects.shape[0],
        "width": objects.shape[1],
    }, annotations


def class_of(values: np.ndarray, place: str) -> int:
    """The class of an object's pixels; where borders of two objects meet, most pixels decide.

    values: (n,) of the class mask.
    """
    category = int(np.bincount(values[(values > 0) & (values != VOID)], minlength=1).argmax())
    if category not in CLASSES:
        found = f"class {category}" if category else "no class"
        raise UserError(
            f"{place} has {found}: give VOC 2012's SegmentationClass, with values 1 to 20"
        )
    return category


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0; 2 for input that cannot work, with a message."""
    parser = argparse.ArgumentParser(
        description="Pascal VOC 2012's segmented objects in COCO's format"
    )
    parser.add_argument("voc_path", type=Path, help="folder with VOCdevkit/VOC2012/")
    png_to_coco.add_options(parser, "voc_path/annotations")
    args = parser.parse_args(argv)
    devkit = args.voc_path / "VOCdevkit" / "VOC2012"

    def make() -> list[bytes]:
        jobs = {split: images_of(devkit, split) for split in SPLITS}
        return [
            png_to_coco.number(
                png_to_coco.convert(convert_image, jobs[split], args.nproc, split), CLASSES
            )
            for split in SPLITS
        ]

    names = [f"instances_{split}2012.json" for split in SPLITS]
    out_dir = args.out_dir or args.voc_path / "annotations"
    return png_to_coco.report(lambda: png_to_coco.write_all(out_dir, names, args.force, make))


if __name__ == "__main__":
    sys.exit(main())

"""Pascal VOC 2012's segmented objects in COCO's format: instances_{train,val}2012.json.

    python tools/convert_datasets/voc.py ./data/voc --nproc 8 --out-dir ./data/voc/annotations

Works on the unpacked VOCtrainval_11-May-2012.tar, which has VOCdevkit/VOC2012/ with
ImageSets/Segmentation/, SegmentationObject/ and SegmentationClass/. The paper's authors published
no converter for VOC: the split is that of the segmentation task, 1,464 images to train and 1,449 to
validate, the categories are 1 to 20, and the unlabelled border of an object (255) is nothing.
"""

# ruff: noqa: RUF009 - the calls make fields, and no values

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

# the repository: the script runs from any folder
sys.path.insert(0, str(Path(__file__).absolute().parents[3]))

from noisy_instseg.run.errors import exit_status  # first, for Ctrl-C while the others load

# isort: split
import numpy as np
from numpy.typing import NDArray

from noisy_instseg.run.flags import parse, positional
from noisy_instseg.tools.convert_datasets import png_to_coco
from shared.coco.classes import TABLES
from shared.errors import UserError

SPLITS = ("train", "val")
CLASSES = TABLES["voc"]
VOID = 255


@dataclass(frozen=True, kw_only=True)
class Flags(png_to_coco.ConvertFlags):
    """Pascal VOC 2012's segmented objects in COCO's format; --out-dir is VOC_PATH/annotations
    unless given.
    """

    EXAMPLE: ClassVar = "convert_datasets/voc.py ./data/voc --nproc 8"
    voc_path: Path = positional("folder with VOCdevkit/VOC2012/")


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
        category = class_of(classes[mask], f"object {value} of {object_path}")
        annotations.append(png_to_coco.annotation(mask, category))
    height, width = objects.shape
    return {"file_name": f"{name}.jpg", "height": height, "width": width}, annotations


def class_of(values: NDArray[np.integer[Any]], place: str) -> int:
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
    flags = parse(Flags, argv)
    devkit = flags.voc_path / "VOCdevkit" / "VOC2012"
    out_dir = flags.out_dir or flags.voc_path / "annotations"
    names = [f"instances_{split}2012.json" for split in SPLITS]

    def make() -> list[bytes]:
        jobs = {split: images_of(devkit, split) for split in SPLITS}
        found = (
            png_to_coco.convert(convert_image, jobs[split], flags.nproc, split) for split in SPLITS
        )
        return [png_to_coco.number(converted, CLASSES) for converted in found]

    return exit_status(lambda: png_to_coco.write_all(out_dir, names, flags.force, make))


if __name__ == "__main__":
    sys.exit(main())

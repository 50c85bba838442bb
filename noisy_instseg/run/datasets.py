"""The datasets in a config: where their files are, and how to get what is missing.

mmdetection itself is not imported: a wrong path is told in a second.
"""

import os
import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config

from shared.coco.classes import TABLES
from shared.datasets import shapes
from shared.errors import UserError

CLASSES = {name: tuple(table.values()) for name, table in TABLES.items()} | {
    "shapes": shapes.CLASSES
}
# datasets whose classes mmdet knows
KNOWN_TYPES = {"CityscapesDataset": "cityscapes", "CocoDataset": "coco"}
TOOLS = Path(__file__).parents[1] / "tools"
HELP = {  # name in CLASSES, or none -> how to get images, how to get annotations
    "cityscapes": (
        "download leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip from "
        "https://www.cityscapes-dataset.com/downloads and unpack both in {root}, or say where "
        "they are with --data_root",
        "make it with: python {tools}/convert_datasets/cityscapes.py {root} --nproc 8 --out-dir "
        "{root}/annotations",
    ),
    "coco": (
        "download train2017.zip and val2017.zip from https://cocodataset.org/#download and "
        "unpack both in {root}, or say where they are with --data_root",
        "download annotations_trainval2017.zip from https://cocodataset.org/#download and "
        "unpack it in {root}, or say where it is with --data_root",
    ),
    "voc": (
        "download VOCtrainval_11-May-2012.tar from host.robots.ox.ac.uk/pascal/VOC/voc2012 and "
        "unpack it in {root}, or say where it is with --data_root",
        "make it with: python {tools}/convert_datasets/voc.py {root} --out-dir {root}/annotations",
    ),
    "shapes": (
        "make them with `make data-shapes` in the repository's root (in an image: `python -m "
        "shared data shapes`)",
        "make it with `make data-shapes` in the repository's root (in an image: `python -m "
        "shared data shapes`)",
    ),
    "": (
        "name the set's folder with --data_root, or the images' with "
        "--cfg-options {part}_dataloader.dataset.{inner}data_prefix.img=FOLDER",
        "name the set's folder with --data_root, or the file with "
        "--cfg-options {part}_dataloader.dataset.{inner}ann_file=FILE",
    ),
}


@dataclass(frozen=True)
class Part:
    """One dataset of a config, without its wrappers."""

    name: str  # train, val or test
    inner: str  # "dataset." for each wrapper around it
    settings: dict[str, Any]

    @property
    def annotations(self) -> Path:
        return annotation_file(self.settings)

    @property
    def images(self) -> Path:
        folder = (self.settings.get("data_prefix") or {}).get("img") or ""
        return Path(self.settings.get("data_root") or "", folder)

    @property
    def classes(self) -> tuple[str, ...] | None:
        """Of the config, else those that mmdet gives a dataset of this type, else None."""
        if self.given_classes is not None:
            return self.given_classes
        known = KNOWN_TYPES.get(self.settings.get("type", ""))
        return CLASSES[known] if known else None

    @property
    def given_classes(self) -> tuple[str, ...] | None:
        given = (self.settings.get("metainfo") or {}).get("classes")
        if isinstance(given, str):
            place = f"{self.name}_dataloader.dataset.{self.inner}metainfo.classes"
            raise UserError(
                f"{place} is the text {given!r}, and would be a class for each letter: give a "
                f"list, such as --cfg-options '{place}=[{given}]'"
            )
        return None if given is None else tuple(given)

    def help(self, kind: int) -> str:
        """How to get its images (0) or annotations (1)."""
        known = (name for name, classes in CLASSES.items() if self.given_classes == classes)
        standard = kind == 0 or not Path(self.settings.get("ann_file") or "").is_absolute()
        root = os.path.normpath(self.settings.get("data_root") or ".")
        words = HELP[next(known, "") if standard else ""]
        quoted = {"root": shlex.quote(root), "tools": shlex.quote(os.path.relpath(TOOLS))}
        return words[kind].format(**quoted, part=self.name, inner=self.inner)


def parts_of(cfg: Config, names: Iterable[str]) -> Iterator[Part]:
    """The datasets of the dataloaders with these names, without wrappers such as RepeatDataset."""
    for name in names:
        if (loader := cfg.get(f"{name}_dataloader")) is not None:
            for inner, settings in innermost(loader["dataset"]):
                yield Part(name, inner, settings)


def innermost(dataset: Any, inner: str = "") -> Iterator[tuple[str, Any]]:
    """(path below the dataloader's dataset, settings) of the datasets below all wrappers."""
    if "dataset" in dataset:
        # put around it by the tools: not a level of the user's config
        ours = dataset.get("type") == "SeededDataset"
        yield from innermost(dataset["dataset"], inner if ours else f"{inner}dataset.")
    elif "datasets" in dataset:
        for position, one in enumerate(dataset["datasets"]):
            yield from innermost(one, f"{inner}datasets.{position}.")
    else:
        yield inner, dataset


def annotation_file(settings: Any) -> Path:
    """The file of an innermost dataset, as mmengine joins it."""
    return Path(settings.get("data_root") or "", settings.get("ann_file") or "")


def some_of(names: Iterable[str], most: int = 8) -> str:
    """A few of the names, for a message."""
    names = list(names)
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")

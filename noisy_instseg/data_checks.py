"""Checks a config's data before anything is trained, and says how to mend what is wrong.

    check(cfg, ("train", "val"))           # the dataloaders that will be used
    adopt_classes(cfg, ("train", "val"))   # configs of any COCO-format set: classes and heads as in the training file

mmdetection itself is not imported: a wrong path is told in a second. It would be silent about some
of what is checked here: its CocoDataset drops annotations of categories that the config does not
list, and numbers the classes in the order of the file while it names them in the order of the
config. Letters: C classes.
"""

import math
import os
import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config

from noisy_instseg.errors import UserError
from shared.coco import file as coco_file
from shared.coco.classes import TABLES, CocoError
from shared.datasets import shapes

CLASSES = {name: tuple(table.values()) for name, table in TABLES.items()} | {
    "shapes": shapes.CLASSES
}
KNOWN_TYPES = {
    "CityscapesDataset": "cityscapes",
    "CocoDataset": "coco",
}  # datasets whose classes mmdet knows
TOOLS = Path(__file__).parent / "tools"
HELP = {  # name in CLASSES, or none -> how to get images, how to get annotations
    "cityscapes": (
        "download leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip from "
        "https://www.cityscapes-dataset.com/downloads "
        "and unpack both in {root}, or say where they are with --data_root",
        "make it with: python {tools}/convert_datasets/cityscapes.py {root} --nproc 8 --out-dir "
        "{root}/annotations",
    ),
    "coco": (
        "download train2017.zip and val2017.zip from https://cocodataset.org/#download and "
        "unpack both in {root}, or say "
        "where they are with --data_root",
        "download annotations_trainval2017.zip from https://cocodataset.org/#download and "
        "unpack it in {root}, or say where "
        "it is with --data_root",
    ),
    "voc": (
        "download VOCtrainval_11-May-2012.tar from host.robots.ox.ac.uk/pascal/VOC/voc2012 and "
        "unpack it in {root}, "
        "or say where it is with --data_root",
        "make it with: python {tools}/convert_datasets/voc.py {root} --out-dir {root}/annotations",
    ),
    "shapes": (
        "make them with: python -m shared data shapes",
        "make it with: python -m shared data shapes",
    ),
    "": (
        "name the set's folder with --data_root, or the images' with "
        "--cfg-options {part}_dataloader.dataset.{inner}data_prefix.img=FOLDER",
        "name the set's folder with --data_root, a noisy training file with --noise_file, or "
        "any file with "
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
        return self._below_root(self.settings.get("ann_file") or "")

    @property
    def images(self) -> Path:
        return self._below_root((self.settings.get("data_prefix") or {}).get("img") or "")

    @property
    def classes(self) -> tuple[str, ...] | None:
        """Of the config; without any, those mmdet gives a dataset of this type. None: not known."""
        if self.given_classes is not None:
            return self.given_classes
        known = KNOWN_TYPES.get(self.settings.get("type", ""))
        return CLASSES[known] if known else None

    @property
    def given_classes(self) -> tuple[str, ...] | None:
        given = (self.settings.get("metainfo") or {}).get("classes")
        return None if given is None else tuple(given)

    def help(self, kind: int) -> str:
        """How to get its images (0) or annotations (1)."""
        known = (name for name, classes in CLASSES.items() if self.given_classes == classes)
        standard = kind == 0 or not Path(self.settings.get("ann_file") or "").is_absolute()
        root = os.path.normpath(self.settings.get("data_root") or ".")
        words = HELP[next(known, "") if standard else ""]
        quoted = {"root": shlex.quote(root), "tools": shlex.quote(os.path.relpath(TOOLS))}
        return words[kind].format(**quoted, part=self.name, inner=self.inner)

    def _below_root(self, path: str) -> Path:
        return Path(self.settings.get("data_root") or "", path)


def parts_of(cfg: Config, names: Iterable[str]) -> Iterator[Part]:
    """The datasets of the dataloaders with these names; what wraps a dataset (RepeatDataset and
    others) is looked through.
    """
    for name in names:
        if (loader := cfg.get(f"{name}_dataloader")) is not None:
            yield from _unwrap(name, "", loader["dataset"])


def _unwrap(name: str, inner: str, dataset: dict[str, Any]) -> Iterator[Part]:
    if "dataset" in dataset:
        ours = (
            dataset.get("type") == "SeededDataset"
        )  # put around it by the tools: not a level of the user's config
        yield from _unwrap(name, inner if ours else f"{inner}dataset.", dataset["dataset"])
    elif "datasets" in dataset:
        for position, one in enumerate(dataset["datasets"]):
            yield from _unwrap(name, f"{inner}datasets.{position}.", one)
    else:
        yield Part(name, inner, dataset)


def check(cfg: Config, parts: Iterable[str] = ("train", "val", "test")) -> None:
    """Raises UserError for the first thing that is wrong with the datasets of these dataloaders."""
    found = list(parts_of(cfg, parts))
    for part in found:
        check_heads(cfg, part)
    for part in found:  # before any long reading
        check_paths(part)
    checked: list[dict[str, Any]] = []
    for part in found:
        # validation and test are one dataset in most configs
        if part.settings not in checked:
            check_annotations(part, read(part))
            checked.append(part.settings)


def heads(cfg: Config) -> Iterator[tuple[str, dict[str, Any]]]:
    """The box and mask heads that tell classes apart, with their places in the config."""
    for name in ("bbox_head", "mask_head"):
        head = cfg.model.get("roi_head", {}).get(name)
        several = (
            head if isinstance(head, list) else [head]
        )  # a cascade has one head for each stage
        for position, one in enumerate(several):
            if one is not None and not one.get("class_agnostic"):
                yield (
                    f"model.roi_head.{name}" + (f".{position}" if isinstance(head, list) else ""),
                    one,
                )


def check_heads(cfg: Config, part: Part) -> None:
    """The number of classes stands in three places of a config, and has to be the same in all."""
    if part.classes is None:
        return
    for place, head in heads(cfg):
        loss = head.get("loss_cls", {}) if "bbox_head" in place else {}
        for name, owner in ((place, head), (f"{place}.loss_cls", loss)):
            count = owner.get("num_classes")
            if count is not None and count != len(part.classes):
                raise UserError(
                    f"{name}.num_classes is {count}, and the {part.name} set has "
                    f"{len(part.classes)} classes "
                    f"({_some(part.classes)}): give --cfg-options "
                    f"{name}.num_classes={len(part.classes)}, or the classes "
                    f"with {part.name}_dataloader.dataset.{part.inner}metainfo.classes "
                    "(background does not count)"
                )


def check_paths(part: Part) -> None:
    """The annotation file and the folder of images are there."""
    if not part.settings.get("ann_file"):
        raise UserError(f"the {part.name} set of the config has no ann_file: {part.help(1)}")
    if not part.annotations.is_file():
        raise UserError(f"{part.name} annotations {part.annotations} do not exist: {part.help(1)}")
    if not part.images.is_dir():
        raise UserError(
            f"the folder of {part.name} images {part.images} does not exist: {part.help(0)}"
        )


def read(part: Part) -> coco_file.CocoFile:
    """The annotations; a torn file, a repeated id or a category that the file does not explain is a
    UserError.
    """
    try:
        return coco_file.read(part.annotations)
    except CocoError as error:
        raise UserError(f"{part.name} {error}") from error


def check_annotations(part: Part, source: coco_file.CocoFile) -> None:
    """What mmdet would make of the file: its classes, fields and images."""
    check_classes(part, source)
    check_fields(part, source)
    check_images(part, source)
    if part.name == "train":
        check_objects(part, source)


def check_classes(part: Part, source: coco_file.CocoFile) -> None:
    """The classes of config and file are the same, in the same order, and no annotation would be
    dropped.
    """
    if part.classes is None:
        return
    path, names = part.annotations, [source.name_of(category) for category in source.categories]
    if missing := [name for name in part.classes if name not in names]:
        raise UserError(
            f"{path} has no category {_some(missing)} of the config's {len(part.classes)} "
            f"classes; it has {_some(names)}: "
            "use the config of this set, or configs/coco_format, which takes the classes from "
            "the file"
        )
    dropped = {one for one in source.categories if source.name_of(one) not in part.classes}
    if count := sum(category in dropped for category in source.category_ids.tolist()):
        raise UserError(
            f"{count} annotations of {path} have a category that is none of the config's "
            f"{len(part.classes)} classes "
            f"({_some([source.name_of(one) for one in sorted(dropped)])}), and mmdet would drop "
            "them without a word: use the "
            "config of this set, or configs/coco_format, which takes the classes from the file"
        )
    kept = [name for name in names if name in part.classes]
    if kept != list(part.classes):
        raise UserError(
            f"{path} lists its categories as {_some(kept)}, the config its classes as "
            f"{_some(part.classes)}, and mmdet would "
            "number them as the file and name them as the config: list each once, in the same "
            "order, in both"
        )


NEEDED: dict[str, dict[str, Any]] = {  # what mmdet reads of an entry
    "images": {"id": int | str, "file_name": str, "width": int, "height": int},
    "annotations": {
        "image_id": int | str,
        "bbox": list,
        "area": int | float,
        "segmentation": list | dict,
    },
}


def check_fields(part: Part, source: coco_file.CocoFile) -> None:
    """Every image and annotation has what training reads of it, and every annotation its image."""
    for kind, needed in NEEDED.items():
        for position, entry in enumerate(source.content[kind]):
            fields = entry if isinstance(entry, dict) else {}
            lacking = [
                key
                for key, types in needed.items()
                if not isinstance(fields.get(key), types) or fields[key] in ("", [])
            ]
            if lacking:
                raise UserError(
                    f"{part.annotations}: {kind}[{position}] has no {' and no '.join(lacking)}: "
                    "give instance annotations "
                    "in COCO format, with a mask for each object"
                )
    sizes = {image["id"]: [image["height"], image["width"]] for image in source.content["images"]}
    if len(sizes) < len(source.content["images"]):
        raise UserError(f"{part.annotations} gives two images one id: give each image its own")
    for position, entry in enumerate(source.content["annotations"]):
        if entry["image_id"] not in sizes:
            raise UserError(
                f"{part.annotations}: annotations[{position}] belongs to image "
                f"{entry['image_id']}, which 'images' does not "
                "list: take the images and the annotations of one file"
            )
        if wrong := _wrong_shape(entry["bbox"], entry["segmentation"], sizes[entry["image_id"]]):
            raise UserError(f"{part.annotations}: annotations[{position}] has {wrong}")


def _wrong_shape(box: list[Any], mask: Any, size: list[int]) -> str:
    """What is wrong with an annotation's box or mask, and its mend; empty if nothing is.

    size: (height, width).
    """
    if len(box) != 4 or not _finite(box):
        return f"the box {str(box)[:60]}: give 4 finite numbers (x, y, width, height)"
    if isinstance(mask, dict):
        same = mask.get("size") == size
        return (
            ""
            if same
            else (
                f"a mask that is not {size[0]} x {size[1]} (height x width) as its image: give "
                "it that size"
            )
        )
    for polygon in mask:
        if (
            not isinstance(polygon, list)
            or len(polygon) < 6
            or len(polygon) % 2
            or not _finite(polygon)
        ):
            return (
                f"the polygon {str(polygon)[:60]}: give 3 points at least, x and y of each, "
                "as one list of finite numbers"
            )
    return ""


def _finite(values: list[Any]) -> bool:
    """Whether all are finite numbers: their sum is, which is quick to know, and COCO has 50 million
    of them.
    """
    try:
        return math.isfinite(sum(values))
    except (TypeError, OverflowError):
        return False


def check_images(part: Part, source: coco_file.CocoFile) -> None:
    """Every image of the file lies in the folder of images; folders are listed, files not opened."""
    names = [image["file_name"] for image in source.content["images"]]
    if not names:
        raise UserError(f"{part.annotations} lists no images: {part.help(1)}")
    there: dict[Path, set[str]] = {}
    missing = []
    for name in names:
        path = part.images / name
        if path.parent not in there:
            there[path.parent] = set(os.listdir(path.parent)) if path.parent.is_dir() else set()
        if path.name not in there[path.parent]:
            missing.append(str(path))
    if missing:
        raise UserError(
            f"{len(missing)} of the {len(names)} images of {part.annotations} do not exist, "
            f"first {missing[0]}: "
            f"{part.help(0)}"
        )


def check_objects(part: Part, source: coco_file.CocoFile) -> None:
    """Something is left to learn from, of what mmdet drops: small images, crowds, boxes without
    area or beside the image.
    """
    images = source.content["images"]
    least = (part.settings.get("filter_cfg") or {}).get("min_size", 0)
    kept = {image["id"]: image for image in images if min(image["height"], image["width"]) >= least}
    if not kept:
        largest = max(min(image["height"], image["width"]) for image in images)
        raise UserError(
            f"all {len(images)} images of {part.annotations} are narrower or lower than "
            f"filter_cfg.min_size, {least}, and mmdet "
            "would train on none: give larger images, or --cfg-options "
            f"{part.name}_dataloader.dataset.{part.inner}filter_cfg.min_size={max(1, largest)}"
        )
    for entry in source.content["annotations"]:
        image, (x, y, w, h) = kept.get(entry["image_id"]), entry["bbox"]
        if (
            image is None
            or entry.get("iscrowd")
            or entry.get("ignore")
            or entry["area"] <= 0
            or min(w, h) < 1
        ):
            continue
        if -w < x < image["width"] and -h < y < image["height"]:
            return
    raise UserError(
        f"{part.annotations} has no object to learn from: each of its "
        f"{len(source.category_ids)} annotations is a crowd or "
        "ignored, has no area, a box below 1 x 1 pixels or outside its image, or an image "
        f"below filter_cfg.min_size, {least}: "
        "give the annotations of single objects, with boxes in pixels"
    )


def adopt_classes(cfg: Config, parts: Iterable[str] = ("train",)) -> None:
    """Where a config says `classes_from_annotations = True`: its classes and the sizes of its heads
    become those of the file.

    The file is that of the first of `parts`, the validation set's where nothing is trained. Configs
    of a known set stay.
    """
    if not cfg.get("classes_from_annotations"):
        return
    part = next(parts_of(cfg, parts))
    check_paths(part)
    source = read(part)
    if nameless := [category for category, name in source.categories.items() if not name]:
        raise UserError(
            f"{part.annotations}: category {nameless[0]} has no name: give each category one"
        )
    classes = tuple(source.name_of(category) for category in source.categories)
    for one in parts_of(cfg, ("train", "val", "test")):
        one.settings["metainfo"] = {**(one.settings.get("metainfo") or {}), "classes": classes}
    for _, head in heads(cfg):
        head["num_classes"] = len(classes)
        if "num_classes" in head.get("loss_cls", {}):
            head["loss_cls"]["num_classes"] = len(classes)


def _some(names: Iterable[str], most: int = 8) -> str:
    """A few of the names, for a message."""
    names = list(names)
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")

"""Checks a config's data before anything is trained, and says how to fix what is wrong.

    check(cfg, ("train", "val"))           # the dataloaders that will be used
    adopt_classes(cfg, ("train", "val"))   # configs of any COCO-format set: classes of the file

mmdetection would be silent about some of it, such as annotations of categories that the config does
not list, and would end in a traceback after an epoch for what only evaluation reads. Letters: C
classes.
"""

import math
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from mmengine.config import Config

from noisy_instseg.run.annotations import repaired, wrong_runs
from noisy_instseg.run.datasets import Part, parts_of, some_of
from noisy_instseg.run.device import is_first_process
from noisy_instseg.run.errors import say
from noisy_instseg.run.image_checks import check_samples, check_sizes
from shared.coco import file as coco_file
from shared.coco.classes import CocoError
from shared.errors import UserError

LARGE = 50_000_000  # bytes of an annotation file that takes seconds to read
OTHER_CONFIG = (
    "use the config of this set, or configs/coco_format, which takes the classes from the file"
)


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
        place = f"model.roi_head.{name}"
        found = {place: head}
        if isinstance(head, list):  # a cascade has one head for each stage
            found = {f"{place}.{position}": one for position, one in enumerate(head)}
        yield from (
            (key, one) for key, one in found.items() if one and not one.get("class_agnostic")
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
                    f"{len(part.classes)} classes ({some_of(part.classes)}): give --cfg-options "
                    f"{name}.num_classes={len(part.classes)}, or the classes with "
                    f"{part.name}_dataloader.dataset.{part.inner}metainfo.classes (background does "
                    "not count)"
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
    """The annotations. UserError for a torn file, a repeated id or an unknown category."""
    if (size := part.annotations.stat().st_size) > LARGE:
        say(f"reading {part.annotations} ({size / 1e6:,.0f} MB)")
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
    if is_first_process():
        check_sizes(part, source)
        check_samples(part, source)
        for note in repaired(source.content)[1]:
            say(f"note: {part.annotations}: {note} (the file stays as it is)")


def check_classes(part: Part, source: coco_file.CocoFile) -> None:
    """The file has each class of the config once, in any order, and no annotation is dropped.

    Every name can be written: JSON knows halves of characters, and UTF-8 does not.
    """
    path, names = part.annotations, [source.name_of(category) for category in source.categories]
    for name in names:
        if name.encode(errors="replace").decode() != name:
            raise UserError(
                f"{path}: the category {name} has a name that is no valid text: correct it"
            )
    if part.classes is None:
        return
    if missing := [name for name in part.classes if name not in names]:
        raise UserError(
            f"{path} has no category {some_of(missing)} of the config's {len(part.classes)} "
            f"classes; it has {some_of(names)}: {OTHER_CONFIG}"
        )
    dropped = {one for one in source.categories if source.name_of(one) not in part.classes}
    if count := sum(category in dropped for category in source.category_ids.tolist()):
        raise UserError(
            f"{count} annotations of {path} have a category that is none of the config's "
            f"{len(part.classes)} classes "
            f"({some_of([source.name_of(one) for one in sorted(dropped)])}), and mmdet would drop "
            f"them silently: {OTHER_CONFIG}"
        )
    for name in part.classes:
        if names.count(name) > 1:
            raise UserError(
                f"{path} has {names.count(name)} categories named {name}: give each class one "
                "category"
            )


# what mmdet reads of an entry
NEEDED: dict[str, dict[str, Any]] = {
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
                    "give instance annotations in COCO format, with a mask for each object"
                )
    ids = [image["id"] for image in source.content["images"]]
    numbers = all(type(one) is int and abs(one) < 2**63 for one in ids)
    if not numbers and not all(type(one) is str for one in ids):
        raise UserError(
            f"{part.annotations} has image ids of several kinds, or too large ones, which "
            "evaluation would mix up: give whole numbers below 2^63 alone, or texts alone"
        )
    sizes = {image["id"]: [image["height"], image["width"]] for image in source.content["images"]}
    if len(sizes) < len(source.content["images"]):
        raise UserError(f"{part.annotations} gives two images one id: give each image its own")
    for position, entry in enumerate(source.content["annotations"]):
        if entry.get("iscrowd", 0) not in (0, 1):
            raise UserError(
                f"{part.annotations}: annotations[{position}] has iscrowd "
                f"{str(entry['iscrowd'])[:40]}: give 0 for a single object, 1 for a crowd"
            )
        if entry["image_id"] not in sizes:
            raise UserError(
                f"{part.annotations}: annotations[{position}] belongs to image "
                f"{entry['image_id']}, which 'images' does not list: take the images and the "
                "annotations of one file"
            )
        if wrong := _wrong_shape(entry["bbox"], entry["segmentation"], sizes[entry["image_id"]]):
            raise UserError(f"{part.annotations}: annotations[{position}] has {wrong}")


def _wrong_shape(box: list[Any], mask: Any, size: list[int]) -> str:
    """What is wrong with an annotation's box or mask, and the fix; empty if nothing is.

    size: (height, width).
    """
    if len(box) != 4 or not _finite(box):
        return f"the box {str(box)[:60]}: give 4 finite numbers (x, y, width, height)"
    if isinstance(mask, dict):
        height, width = size
        if mask.get("size") != size:
            return (
                f"a mask that is not {height} x {width} (height x width) as its image: give it "
                "that size"
            )
        wrong = wrong_runs(mask, height, width)
        return wrong and f"{wrong}: encode the mask again, as pycocotools.mask.encode does"
    for polygon in mask:
        points = isinstance(polygon, list) and len(polygon) >= 6 and len(polygon) % 2 == 0
        if not points or not _finite(polygon):
            return (
                f"the polygon {str(polygon)[:60]}: give 3 points at least, x and y of each, "
                "as one list of finite numbers"
            )
    return ""


def _finite(values: list[Any]) -> bool:
    """Whether all are finite numbers: their sum is, which is quick for COCO's 50 million."""
    try:
        return math.isfinite(sum(values))
    except (TypeError, OverflowError):
        return False


def check_images(part: Part, source: coco_file.CocoFile) -> None:
    """Every image of the file lies in the folder of images; folders are listed, no file opened."""
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
            f"first {missing[0]}: {part.help(0)}"
        )


def check_objects(part: Part, source: coco_file.CocoFile) -> None:
    """Something is left to learn from when mmdet has dropped small images, crowds, empty boxes."""
    images = source.content["images"]
    least = (part.settings.get("filter_cfg") or {}).get("min_size", 0)
    kept = {image["id"]: image for image in images if min(image["height"], image["width"]) >= least}
    if not kept:
        largest = max(min(image["height"], image["width"]) for image in images)
        raise UserError(
            f"all {len(images)} images of {part.annotations} are narrower or lower than "
            f"filter_cfg.min_size, {least}, and mmdet would train on none: give larger images, or "
            "--cfg-options "
            f"{part.name}_dataloader.dataset.{part.inner}filter_cfg.min_size={max(1, largest)}"
        )
    for entry in source.content["annotations"]:
        image, (x, y, w, h) = kept.get(entry["image_id"]), entry["bbox"]
        counts = not entry.get("iscrowd") and not entry.get("ignore") and entry["area"] > 0
        if image is None or not counts or min(w, h) < 1:
            continue
        if -w < x < image["width"] and -h < y < image["height"]:
            return
    raise UserError(
        f"{part.annotations} has no object to learn from: each of its "
        f"{len(source.category_ids)} annotations is a crowd or ignored, has no area, a box below "
        f"1 x 1 pixels or outside its image, or an image below filter_cfg.min_size, {least}: give "
        "the annotations of single objects, with boxes in pixels"
    )


def adopt_classes(cfg: Config, parts: Iterable[str] = ("train",)) -> None:
    """Gives a config with `classes_from_annotations = True` the file's classes, and heads for them.

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

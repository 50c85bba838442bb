"""Annotated objects as pictures, and where the files are that a run of noisy_instseg learned from.

annotations, images = recorded(Path("runs/noisy_instseg-shapes-0.4-seed123/..._nl_2"))
drawer(samples, images, annotations, 96)(0)     # the object of row 0, its box and mask drawn
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from compare.report import masks, picture_files
from compare.report.collect import Samples
from shared.coco import file as coco_file
from shared.errors import UserError
from shared.runs import detectors

SIDE = 96  # pixels of a crop at least, for the object is shown with its surroundings
MARGIN = 0.25  # of the box around it, at each side
YELLOW, WHITE = (255, 230, 0), (255, 255, 255)
VEIL = 70  # of 255, how much the mask covers the object


def recorded(folder: Path) -> tuple[Path, Path] | None:
    """The annotations and the images of a run, by its config; None where that names none.

    A relative place is looked for from here, and from each folder above the run's.
    """
    data = detectors.at(detectors.read_config(folder), "train_dataloader", "dataset")
    while isinstance(data, dict) and "dataset" in data:  # the wrappers
        data = data["dataset"]
    root, file = detectors.at(data, "data_root") or "", detectors.at(data, "ann_file")
    prefix = detectors.at(data, "data_prefix", "img") or ""
    if not (isinstance(file, str) and isinstance(root, str) and isinstance(prefix, str)):
        return None
    return _found(Path(root, file), folder), _found(Path(root, prefix), folder)


def _found(path: Path, folder: Path) -> Path:
    places = (base / path for base in (Path(), *folder.absolute().parents))
    return next((place for place in places if place.exists()), path)


def drawer(
    samples: Samples, images: Path | None, annotations: Path | None, side: int
) -> Callable[[int], Image.Image]:
    """Draws the object of a row, `side` pixels long. Raises UserError without images.

    annotations: COCO-format file that has the masks; None: only boxes are drawn.
    """
    if images is None:
        raise UserError("the runs are about objects in images: give --images FOLDER")
    if not images.is_dir():
        raise UserError(f"{images} is no folder: give that of the images (--images)")
    assert samples.boxes is not None
    assert samples.annotation_ids is not None
    folder, boxes, ids = images, samples.boxes, samples.annotation_ids
    shapes = _segmentations(annotations)

    def draw(row: int) -> Image.Image:
        picture = picture_files.as_annotated(picture_files.below(folder, samples.files[row]))
        return _crop(picture, boxes[row].tolist(), shapes.get(int(ids[row])), side)

    return draw


def _segmentations(path: Path | None) -> dict[int, Any]:
    """Annotation id -> its mask as the file has it."""
    if path is None:
        return {}
    entries = coco_file.read(path).content["annotations"]
    return {entry["id"]: entry.get("segmentation") for entry in entries}


def _crop(picture: Image.Image, box: Sequence[float], shape: Any, side: int) -> Image.Image:
    x, y, w, h = box  # in pixels
    margin = MARGIN * max(w, h, 8)
    left, top = max(0, int(x - margin)), max(0, int(y - margin))
    right = min(picture.width, int(np.ceil(x + w + margin)))
    bottom = min(picture.height, int(np.ceil(y + h + margin)))
    if right <= left or bottom <= top:
        raise UserError("its box is outside the image")
    window = (left, top, right, bottom)
    factor = side / max(right - left, bottom - top)
    size = (max(1, round((right - left) * factor)), max(1, round((bottom - top) * factor)))
    crop = picture.crop(window).resize(size, Image.Resampling.LANCZOS)
    if shape:
        _paint(crop, masks.within(shape, picture.size, window, size))
    edges = [(x - left) * factor, (y - top) * factor]
    edges += [(x + w - left) * factor, (y + h - top) * factor]
    ImageDraw.Draw(crop).rectangle(edges, outline=WHITE)
    return crop


def _paint(crop: Image.Image, mask: Image.Image) -> None:
    """Lays a veil over the mask, and draws its outline, one pixel wide."""
    outline = ImageChops.subtract(mask, mask.filter(ImageFilter.MinFilter(3)))
    veil = mask.point(lambda value: value * VEIL // 255)
    crop.paste(YELLOW, mask=ImageChops.lighter(veil, outline))

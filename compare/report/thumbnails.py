"""Small pictures of samples as data URIs, from the dataset that the runs were trained on.

    found = thumbnails.of_samples(samples, rows, Source("cifar10", None))
    found.uris[0]                # "data:image/webp;base64,..." or None
    found.problem                # why there are none, for the page; None if all is well

Missing data are no error: a report without pictures is better than none. Letters: n chosen samples.
"""

import base64
import io
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageOps

from compare.report.collect import Samples
from shared import datasets
from shared.coco import file as coco_file
from shared.errors import UserError

SIDE = 64  # pixels of the longer side; smaller pictures stay as they are
CROP_SIDE = 96  # of annotated objects at least, which are shown with their surroundings
MARGIN = 0.25  # of the box around it, at each side
QUALITY = 80
FORMAT = "webp"

Draw = Callable[[int], Image.Image]  # the picture of a row of the samples


@dataclass(frozen=True)
class Source:
    """Where pictures are."""

    dataset: str | None = None  # a name of shared.datasets
    data_path: Path | None = None  # its folder or file; None: $DATA_ROOT
    annotations: Path | None = None  # COCO-format file of annotated objects
    images: Path | None = None  # the folder of its images


@dataclass(frozen=True)
class Thumbnails:
    """Pictures of n samples."""

    uris: tuple[str | None, ...]  # (n,)
    problem: str | None


def of_samples(
    samples: Samples, rows: Sequence[int], source: Source, side: int = SIDE
) -> Thumbnails:
    """The pictures of the samples at the positions `rows`, at most `side` pixels long."""
    if not rows:
        return Thumbnails((), None)
    side = side if samples.boxes is None else max(side, CROP_SIDE)
    try:
        draw = _drawer(samples, source, side)
    except (UserError, OSError) as error:
        return Thumbnails((None,) * len(rows), f"the pictures are not there: {error}")
    uris: list[str | None] = []
    failures: list[str] = []
    for row in rows:
        try:
            uris.append(_uri(draw(row), side))
        except Exception as error:  # Pillow's decoders raise whatever they like
            uris.append(None)
            failures.append(f"{samples.files[row] or f'sample {samples.index[row]}'} ({error})")
    if not failures:
        return Thumbnails(tuple(uris), None)
    problem = f"{len(failures):,} of {len(rows):,} pictures cannot be read, such as {failures[0]}"
    return Thumbnails(tuple(uris), problem)


def _drawer(samples: Samples, source: Source, side: int) -> Draw:
    if samples.boxes is not None:
        return _crops(samples, source, side)
    if any(samples.files):
        return _files(samples, source, side)
    if source.dataset is None:
        raise UserError("the runs do not say which dataset they are of: give --dataset")
    images = _arrays(source.dataset, source.data_path)
    if samples.index[-1] >= len(images):
        raise UserError(
            f"{source.dataset} has {len(images):,} training images, and the runs have sample "
            f"{samples.index[-1]:,}: give the data that the runs were trained on (--data_path)"
        )
    return lambda row: Image.fromarray(images[samples.index[row]])


def _arrays(dataset: str, path: Path | None) -> NDArray[np.uint8]:
    """(N, H, W, 3) or (N, H, W) the training images of a dataset that has no files."""
    root = datasets.data_root(path)
    if dataset != "folder" or not root.is_file():
        return datasets.load(dataset, path).train_images
    try:
        with np.load(root, allow_pickle=False) as arrays:
            return np.asarray(arrays["train_images"])  # as they are, not enlarged for a network
    except Exception as error:  # numpy, zipfile and zlib have a dozen for damaged files
        raise UserError(f"{root} is not a readable .npz of train_images ({error})") from error


# ---- picture files


def _files(samples: Samples, source: Source, side: int) -> Draw:
    root = datasets.data_root(source.data_path)
    folder = _folder_of(root, next(name for name in samples.files if name))

    def draw(row: int) -> Image.Image:
        if not samples.files[row]:
            raise UserError("no run says its file")
        return _opened(_below(folder, samples.files[row]), side)

    return draw


def _below(folder: Path, name: str) -> Path:
    """A file of the folder; the name comes from a table that somebody else may have written."""
    path = Path(name)
    if path.is_absolute() or ".." in path.parts:
        raise UserError("its name leads out of the folder of pictures")
    return folder / path


def _folder_of(root: Path, name: str) -> Path:
    """The folder, at most two levels below `root`, that the file is in."""
    for pattern in (".", "*", "*/*"):
        for folder in sorted(root.glob(pattern)) if pattern != "." else [root]:
            if folder.is_dir() and _below(folder, name).is_file():
                return folder
    raise UserError(
        f"{name} is not in {root.absolute()}: give the folder of the pictures (--data_path)"
    )


def _opened(path: Path, side: int) -> Image.Image:
    """The picture, turned as its EXIF data say, RGB; large JPEGs are decoded at a smaller size."""
    with warnings.catch_warnings(action="ignore"), Image.open(path) as picture:
        picture.draft("RGB", (2 * side, 2 * side))
        return _rgb(ImageOps.exif_transpose(picture))


def _rgb(picture: Image.Image) -> Image.Image:
    if picture.mode.startswith("I"):  # 16-bit grey, which convert() would cut off at 255
        values = np.asarray(picture, np.float64)
        values = 255 * (values - values.min()) / max(float(np.ptp(values)), 1.0)
        picture = Image.fromarray(values.astype(np.uint8))
    return picture.convert("RGB")


# ---- annotated objects


def _crops(samples: Samples, source: Source, side: int) -> Draw:
    """The objects with their surroundings, the box drawn, and the mask where the file has one."""
    if source.images is None:
        raise UserError("the runs are about objects in images: give --images FOLDER")
    assert samples.boxes is not None
    assert samples.annotation_ids is not None
    folder, boxes, annotations = source.images, samples.boxes, samples.annotation_ids
    masks = _polygons(source.annotations)

    def draw(row: int) -> Image.Image:
        picture = _as_annotated(_below(folder, samples.files[row]))
        return _crop(picture, boxes[row].tolist(), masks.get(int(annotations[row]), []), side)

    return draw


def _as_annotated(path: Path) -> Image.Image:
    """The picture as its boxes are meant, that is, not turned by its EXIF data."""
    with warnings.catch_warnings(action="ignore"), Image.open(path) as picture:
        return _rgb(picture)


def _polygons(path: Path | None) -> dict[int, list[list[float]]]:
    """Annotation id -> its mask as polygons x1 y1 x2 y2 ...; masks in run lengths are left out."""
    if path is None:
        return {}
    found: dict[int, list[list[float]]] = {}
    for entry in coco_file.read(path).content["annotations"]:
        shape: Any = entry.get("segmentation")
        if isinstance(shape, list):
            found[int(entry["id"])] = [part for part in shape if len(part) >= 6]
    return found


def _crop(
    picture: Image.Image, box: Sequence[float], mask: Sequence[Sequence[float]], side: int
) -> Image.Image:
    x, y, w, h = box  # in pixels
    margin = MARGIN * max(w, h, 8)
    left, top = max(0, int(x - margin)), max(0, int(y - margin))
    right = min(picture.width, int(np.ceil(x + w + margin)))
    bottom = min(picture.height, int(np.ceil(y + h + margin)))
    if right <= left or bottom <= top:
        raise UserError("its box is outside the image")
    crop = picture.crop((left, top, right, bottom))
    factor = side / max(crop.size)
    size = (max(1, round(crop.width * factor)), max(1, round(crop.height * factor)))
    crop = crop.resize(size, Image.Resampling.LANCZOS)
    canvas = ImageDraw.Draw(crop, "RGBA")

    def placed(points: Sequence[float]) -> list[float]:
        origin = (left, top)
        return [(value - origin[i % 2]) * factor for i, value in enumerate(points)]

    for part in mask:
        canvas.polygon(placed(part), fill=(255, 230, 0, 70), outline=(255, 230, 0, 255))
    canvas.rectangle(placed([x, y, x + w, y + h]), outline=(255, 255, 255, 255), width=1)
    return crop


def _uri(picture: Image.Image, side: int) -> str:
    small = picture.convert("RGB")
    small.thumbnail((side, side))  # never larger than it is
    stream = io.BytesIO()
    small.save(stream, FORMAT, quality=QUALITY)
    return f"data:image/{FORMAT};base64,{base64.b64encode(stream.getvalue()).decode()}"

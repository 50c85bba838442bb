"""`shapes`: generated pictures of eight plain shapes with COCO-format instance annotations.

    write("data/shapes")        # or `python -m shared data shapes`; 400 + 100 pictures

    data/shapes/train/000001.png ...      data/shapes/annotations/instances_train.json
    data/shapes/val/000001.png ...        data/shapes/annotations/instances_val.json

The class is the outline and nothing else: colours, sizes, positions and the blotchy background are
drawn without looking at it. Instances lie wholly inside the picture and do not overlap, so that
each is one polygon and all of it is visible. The eight classes are equally frequent. Everything
follows from `seed`; the same arguments give the same files.

Coordinates are COCO's, (x, y) from the upper left corner of the picture, a pixel being one wide.
Letters: S side of a picture in pixels; V vertices of a polygon.
"""

import io
import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from shared.datasets.image_data import DatasetError
from shared.files import write_atomically

CLASSES = ("circle", "square", "triangle", "diamond", "star", "cross", "arrow", "moon")
GENERATOR = "shared.datasets.shapes 1"
SPLITS = ("train", "val")
STAMP = "shapes.json"  # written last: a folder with it is complete
LEAST_SIZE = 64  # pixels; below, the smallest shapes lose their form
EXTENT = (20 / 128, 52 / 128)  # longer side of an instance, as a share of S
MOST_INSTANCES = 4
TILT = math.radians(12)  # more, and a square begins to look like a diamond
GAP = 2  # pixels between the boxes of two instances
# least distance of an instance's colour from the background's mean, in grey levels of some channel
CONTRAST = 60
FINE = 4  # sub-pixels per pixel, for smooth edges

Polygon = NDArray[np.float64]  # (V, 2) of (x, y)


@dataclass(frozen=True)
class Settings:
    """What the pictures follow from."""

    train: int = 400
    val: int = 100
    size: int = 128  # S
    seed: int = 123

    def __post_init__(self) -> None:
        if min(self.train, self.val) < 1:
            raise DatasetError(
                f"shapes with {self.train} training and {self.val} validation pictures: make at "
                "least 1 of each"
            )
        if self.size < LEAST_SIZE:
            raise DatasetError(
                f"shapes of {self.size} pixels: make the pictures at least {LEAST_SIZE} wide"
            )
        if self.seed < 0:
            raise DatasetError(f"seed {self.seed} is negative: give one from 0 on")


def write(
    root: str | Path,
    *,
    train: int = Settings.train,
    val: int = Settings.val,
    size: int = Settings.size,
    seed: int = Settings.seed,
) -> Path:
    """Write the pictures and annotations below `root`, unless they are there; returns it.

    train, val: number of pictures; size: S. Raises DatasetError if `root` holds shapes made with
    other arguments.
    """
    settings, root = Settings(train, val, size, seed), Path(root)
    stamp = json.dumps({"generator": GENERATOR, **asdict(settings)}).encode()
    if (root / STAMP).is_file():
        if (found := (root / STAMP).read_bytes()) != stamp:
            raise DatasetError(
                f"{root} holds other shapes ({found[:200].decode(errors='replace')}, wanted "
                f"{stamp.decode()}): delete that folder, or choose another"
            )
        return root
    for split, count in zip(SPLITS, (train, val)):
        _write_split(root, split, count, settings)
    write_atomically(root / STAMP, stamp)
    return root


def _write_split(root: Path, split: str, count: int, settings: Settings) -> None:
    rng = np.random.default_rng([settings.seed, SPLITS.index(split)])
    classes = _balanced_classes(rng)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number in range(1, count + 1):
        instances = _place(rng, settings.size, classes)
        name = f"{number:06}.png"
        picture = _paint(rng, settings.size, [polygon for _, polygon in instances])
        write_atomically(root / split / name, _png(picture))
        images.append(
            {"id": number, "file_name": name, "width": settings.size, "height": settings.size}
        )
        annotations += [
            annotation(len(annotations) + nth, number, category, polygon)
            for nth, (category, polygon) in enumerate(instances, start=1)
        ]
    categories = [
        {"id": category, "name": name, "supercategory": "shape"}
        for category, name in enumerate(CLASSES, start=1)
    ]
    content = {"images": images, "annotations": annotations, "categories": categories}
    write_atomically(root / "annotations" / f"instances_{split}.json", json.dumps(content).encode())


def annotation(number: int, image: int, category: int, polygon: Polygon) -> dict[str, Any]:
    """A COCO annotation: polygon, its bounding box (x, y, width, height) and area.

    polygon: (V, 2).
    """
    low, high = polygon.min(axis=0), polygon.max(axis=0)
    return {
        "id": number,
        "image_id": image,
        "category_id": category,
        "segmentation": [polygon.ravel().tolist()],
        "bbox": np.round([*low, *(high - low)], 2).tolist(),
        "area": round(area_of(polygon), 2),
        "iscrowd": 0,
    }


def area_of(polygon: Polygon) -> float:
    """Area of a simple polygon by the shoelace formula. polygon: (V, 2)."""
    x, y = polygon.T
    return abs(float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))) / 2


# ---- what and where


def _balanced_classes(rng: np.random.Generator) -> Iterator[int]:
    """Category ids without end: all eight in random order, again and again."""
    while True:
        yield from (rng.permutation(len(CLASSES)) + 1).tolist()


def _place(
    rng: np.random.Generator, size: int, classes: Iterator[int]
) -> list[tuple[int, Polygon]]:
    """One to four instances (category id, polygon) inside the picture, their boxes apart."""
    categories = [next(classes) for _ in range(rng.integers(1, MOST_INSTANCES + 1))]
    while True:  # large first ones may leave no room for the last: then all are placed again
        polygons: list[Polygon] = []
        for category in categories:
            if (polygon := _try_to_place(rng, size, category, polygons)) is None:
                break
            polygons.append(polygon)
        else:
            return list(zip(categories, polygons))


def _try_to_place(
    rng: np.random.Generator, size: int, category: int, others: list[Polygon]
) -> Polygon | None:
    for _ in range(30):
        extent = rng.uniform(*EXTENT) * size
        mirrored = outline(CLASSES[category - 1]) * [rng.choice([-1, 1]), 1]
        tilted = _tilted(mirrored, rng.uniform(-TILT, TILT))
        scaled = (tilted - tilted.min(axis=0)) * extent / np.ptp(tilted, axis=0).max()
        polygon: Polygon = np.round(scaled + rng.uniform(1, size - 1 - np.ptp(scaled, axis=0)), 2)
        if not any(_near(polygon, other) for other in others):
            return polygon
    return None


def _near(one: Polygon, other: Polygon) -> bool:
    """Whether their bounding boxes are less than GAP apart."""
    apart = np.maximum(one.min(axis=0) - other.max(axis=0), other.min(axis=0) - one.max(axis=0))
    return bool(apart.max() < GAP)


def _tilted(polygon: Polygon, angle: float) -> Polygon:
    cos, sin = math.cos(angle), math.sin(angle)
    turned: Polygon = polygon @ np.array([[cos, sin], [-sin, cos]])
    return turned


def outline(name: str) -> Polygon:
    """The shape in its normal position, (V, 2) of any scale; y points down."""
    if name == "circle":
        return _arc(0, 360, 33)[:-1]
    if name == "star":
        return _arc(-90, 270, 11)[:-1] * np.where(np.arange(10) % 2 == 0, 1.0, 0.42)[:, None]
    if name == "moon":  # from tip to tip along a circle, and back along a flatter curve
        back = [0.5, 0.0] - _arc(90, -90, 15)[1:-1] * [0.85, math.sin(math.radians(60))]
        return np.concatenate([_arc(60, 300, 25), back])
    return np.array(_CORNERS[name], np.float64)


def _arc(start: float, stop: float, points: int) -> Polygon:
    """Points of the unit circle from one angle to another, in degrees, both included; (n, 2)."""
    angles = np.radians(np.linspace(start, stop, points))
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


_CORNERS: dict[str, list[tuple[float, float]]] = {
    "square": [(-1, -1), (1, -1), (1, 1), (-1, 1)],
    "triangle": [(0, -1), (1, 1), (-1, 1)],
    "diamond": [(0, -1), (0.55, 0), (0, 1), (-0.55, 0)],
    "cross": [
        (-1, -3),
        (1, -3),
        (1, -1),
        (3, -1),
        (3, 1),
        (1, 1),
        (1, 3),
        (-1, 3),
        (-1, 1),
        (-3, 1),
        (-3, -1),
        (-1, -1),
    ],
    "arrow": [(0, -3), (2, 0), (0.8, 0), (0.8, 3), (-0.8, 3), (-0.8, 0), (-2, 0)],
}


# ---- pixels


def _paint(rng: np.random.Generator, size: int, polygons: list[Polygon]) -> NDArray[np.uint8]:
    """The picture, (S, S, 3): a blotchy background, polygons in one colour each, grain over all."""
    blotches = Image.fromarray(rng.integers(40, 216, (5, 5, 3), dtype=np.uint8)).resize(
        (size, size), Image.Resampling.BICUBIC
    )
    picture = np.asarray(blotches, np.float64)
    for polygon in polygons:
        cover = _coverage(polygon, size)[..., None]
        background = (picture * cover).sum(axis=(0, 1)) / cover.sum()
        picture = picture * (1 - cover) + _colour(rng, background) * cover
    return np.clip(picture + rng.normal(0, 10, picture.shape), 0, 255).astype(np.uint8)


def _colour(rng: np.random.Generator, background: NDArray[np.float64]) -> NDArray[np.float64]:
    """A random colour that stands out against the background, (3,) in [0, 255].

    background: (3,).
    """
    while True:
        colour = rng.uniform(0, 255, 3)
        if np.abs(colour - background).max() >= CONTRAST:
            return colour


def _coverage(polygon: Polygon, size: int) -> NDArray[np.float64]:
    """The share of every pixel that the polygon covers, (S, S) in [0, 1].

    polygon: (V, 2) inside the picture.
    """
    fine = Image.new("L", (size * FINE, size * FINE))
    # Pillow's integer coordinates are the middles of pixels, COCO's their corners
    ImageDraw.Draw(fine).polygon(
        [(x * FINE - 0.5, y * FINE - 0.5) for x, y in polygon.tolist()], fill=255
    )
    return np.asarray(fine.reduce(FINE), np.float64) / 255


def _png(picture: NDArray[np.uint8]) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(picture).save(
        stream, format="png", compress_level=1
    )  # grain hardly compresses, so be quick
    return stream.getvalue()

"""A page of validation images: the ground truth, and what several trained models make of them.

The config decides about the network and the data; checkpoints of another loss fit too, for a loss
has no weights. Masks are painted by mmdetection's DetLocalVisualizer; classes and scores are
written in the size of the page, so that they can be read on small images as well.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from mmengine.config import Config
from numpy.typing import NDArray

from noisy_instseg.analysis.figures import png
from noisy_instseg.analysis.trained_model import batches
from noisy_instseg.run.class_names import same_classes

SIDE = 640  # pixels of an image's longer side when it is painted
PAGE = (8.0, 11.0)  # inches, the most
CELL = 2.6  # inches, the most for the width of an image
FONT = 6  # points
GAP = 0.22  # inches around an image
Colour = tuple[int, int, int]  # red, green, blue in [0, 255]
# Okabe & Ito's colours, which colour-blind readers tell apart; for datasets whose classes have none
PALETTE = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (0, 114, 178),
    (213, 94, 0),
    (204, 121, 167),
    (150, 150, 150),
)


@dataclass(frozen=True)
class Instances:
    """What is in one image: K instances, in pixels of the original image."""

    boxes: NDArray[np.float32]  # (K, 4) x1 y1 x2 y2
    labels: NDArray[np.int64]  # (K,) in [0, C)
    masks: NDArray[np.bool_]  # (K, H, W)
    scores: NDArray[np.float32] | None  # (K,) in [0, 1]; None for the ground truth


def spread(count: int, wanted: int) -> list[int]:
    """`wanted` indices of `count`, evenly spread; all of them if there are not more."""
    places = np.linspace(0, count - 1, min(count, wanted)).round().astype(int)
    return sorted(set(places.tolist()))


# ---- what is painted


def ground_truth(info: dict[str, Any]) -> Instances:
    """The annotations of an image, crowds left out.

    info: an item of mmdetection's CocoDataset.get_data_info.
    """
    size = info["height"], info["width"]
    shown = [item for item in info["instances"] if not item["ignore_flag"]]
    masks = [
        decode(item["mask"], *size) if "mask" in item else np.zeros(size, bool) for item in shown
    ]
    return Instances(
        np.array([item["bbox"] for item in shown], np.float32).reshape(-1, 4),
        np.array([item["bbox_label"] for item in shown], np.int64),
        np.array(masks, bool).reshape(-1, *size),
        None,
    )


def decode(segmentation: Any, height: int, width: int) -> NDArray[np.bool_]:
    """A COCO segmentation, polygons or run lengths, as a mask (H, W)."""
    from pycocotools import mask

    if isinstance(segmentation, list) or isinstance(segmentation["counts"], list):
        segmentation = mask.frPyObjects(segmentation, height, width)
    runs = mask.merge(segmentation) if isinstance(segmentation, list) else segmentation
    return np.asarray(mask.decode(runs), bool)


def labels_of(names: Sequence[str] | None, dataset: Any, checkpoint: Path) -> NDArray[np.int64]:
    """(C,) the dataset's label of each class of a model. names: of the checkpoint, if it has them.

    Raises UserError for other classes.
    """
    classes = list(dataset.metainfo["classes"])
    if same_classes(names, classes, checkpoint, Path(dataset.ann_file)):
        return np.arange(len(classes))
    return np.array([classes.index(name) for name in names or ()], np.int64)


def predict(
    model: Any,
    cfg: Config,
    dataset: Any,
    indices: Sequence[int],
    score_thr: float,
    labels: NDArray[np.int64],
) -> list[Instances]:
    """What the model finds in these items with a score of `score_thr` or more.

    labels: of `labels_of`.
    """
    found = []
    with torch.no_grad():
        for batch in batches(cfg, dataset, indices):
            for sample in model.test_step(batch):
                seen = sample.pred_instances[sample.pred_instances.scores >= score_thr].cpu()
                parts = (seen.bboxes, labels[seen.labels.numpy()], seen.masks, seen.scores)
                found.append(Instances(*(np.asarray(part) for part in parts)))
    return found


# ---- painting


def colours_of(metainfo: dict[str, Any]) -> list[Colour]:
    """A colour for each class: those of the dataset, if they are for just these classes."""
    count, palette = len(metainfo["classes"]), metainfo.get("palette") or ()
    if len(palette) != count:
        palette = PALETTE
    return [palette[label % len(palette)] for label in range(count)]


def paint(
    visualizer: Any, image: NDArray[np.uint8], instances: Instances, colours: Sequence[Colour]
) -> NDArray[np.uint8]:
    """The image with the masks, at SIDE pixels; where masks overlap, the one with the higher score.

    image: (H, W, 3) RGB.
    """
    import mmcv
    from mmdet.structures.mask import bitmap_to_polygon

    height, width = image.shape[:2]
    scale = SIDE / max(height, width)
    size = round(width * scale), round(height * scale)
    interpolation = "nearest" if scale > 2 else "area" if scale < 1 else "bilinear"
    visualizer.set_image(mmcv.imresize(image, size, interpolation=interpolation))
    covered = np.zeros(size[::-1], bool)
    for i in by_score(instances):
        mask = mmcv.imresize(
            instances.masks[i].astype(np.uint8), size, interpolation="nearest"
        ).astype(bool)
        colour = colours[int(instances.labels[i])]
        if mask.any():
            visualizer.draw_binary_masks(mask & ~covered, colors=colour, alphas=0.5)
            visualizer.draw_polygons(bitmap_to_polygon(mask)[0], edge_colors=colour, line_widths=2)
        covered |= mask
    return np.asarray(visualizer.get_image())


def by_score(instances: Instances) -> list[int]:
    """The instances' places, highest score first."""
    if instances.scores is None:
        return list(range(len(instances.labels)))
    order: list[int] = np.argsort(-instances.scores, kind="stable").tolist()
    return order


def paint_page(
    dataset: Any,
    indices: Sequence[int],
    titles: Sequence[str],
    columns: Sequence[Sequence[Instances]],
) -> bytes:
    """The picture of these images of a dataset, a column for each title."""
    import mmcv
    from mmdet.visualization import DetLocalVisualizer

    infos = [dataset.get_data_info(i) for i in indices]
    colours, visualizer = colours_of(dataset.metainfo), DetLocalVisualizer()
    found = [list(row) for row in zip(*columns)]
    painted = []
    for info, row in zip(infos, found):
        image = mmcv.imread(info["img_path"], channel_order="rgb")
        painted.append([paint(visualizer, image, one, colours) for one in row])
    names = [Path(info["img_path"]).name for info in infos]
    scales = [SIDE / max(info["height"], info["width"]) for info in infos]
    return page(painted, found, names, scales, titles, dataset.metainfo)


def page(
    painted: Sequence[Sequence[NDArray[np.uint8]]],
    found: Sequence[Sequence[Instances]],
    names: Sequence[str],
    scales: Sequence[float],
    titles: Sequence[str],
    metainfo: dict[str, Any],
) -> bytes:
    """The picture.

    painted, found: by row and column; names, scales: of each row, scales in painted pixels per
    pixel.
    """
    heights = [row[0].shape[0] / row[0].shape[1] for row in painted]  # in widths of a column
    gaps = GAP * (len(painted) + 2)
    cell = min(CELL, PAGE[0] / len(titles) - 0.1, (PAGE[1] - gaps) / sum(heights))
    figure = Figure(
        (len(titles) * (cell + 0.1) + 0.2, sum(heights) * cell + gaps), layout="constrained"
    )
    grid = figure.subplots(len(painted), len(titles), squeeze=False, height_ratios=heights)
    for row, name in enumerate(names):
        for column, axes in enumerate(grid[row]):
            image, instances = painted[row][column], found[row][column]
            axes.imshow(image)
            axes.set(xticks=[], yticks=[])
            labels = label_places(
                instances, scales[row], metainfo["classes"], image.shape[1] / cell / 72
            )
            write_labels(axes, labels, [colours_of(metainfo)[label] for label in instances.labels])
        grid[row, 0].set_ylabel(name, fontsize=6)
    for axes, title in zip(grid[0], titles):
        axes.set_title(title, fontsize=9, pad=8)
    return png(figure)


def label_places(
    instances: Instances, scale: float, class_names: Sequence[str], point: float
) -> list[tuple[int, str, float, float]]:
    """(which instance, class and score, x, y) of the labels, in painted pixels.

    They stand at the upper left corners of the boxes. A label that would hide one with a higher
    score moves down. point: painted pixels of a point, the unit of font sizes.
    """
    height, letter = 1.5 * FONT * point, 0.58 * FONT * point
    taken: list[tuple[float, float, float]] = []  # left, right, lower edge
    places = []
    for i in by_score(instances):
        text = class_names[int(instances.labels[i])]
        text += "" if instances.scores is None else f" {instances.scores[i]:.2f}"
        x, y = (float(value) for value in instances.boxes[i, :2] * scale)
        y = max(y, height)
        end = x + letter * len(text)
        while clash := [
            low
            for left, right, low in taken
            if x < right and end > left and abs(y - low) < 0.99 * height
        ]:
            y = max(clash) + height  # 0.99: rounding must not make two neighbours clash for ever
        taken.append((x, end, y))
        places.append((i, text, x, y))
    return places


def write_labels(
    axes: Any, places: Sequence[tuple[int, str, float, float]], colours: Sequence[Colour]
) -> None:
    """Writes what `label_places` gives. colours: of each instance."""
    for i, text, x, y in places:
        red, green, blue = (value / 255 for value in colours[i])
        ink = "black" if 0.3 * red + 0.59 * green + 0.11 * blue > 0.5 else "white"
        axes.text(
            x,
            y - 3,
            text,
            fontsize=FONT,
            color=ink,
            va="bottom",
            bbox=dict(facecolor=(red, green, blue), edgecolor="none", pad=0.8),
        )

"""A page of validation images: the ground truth, and what several trained models make of them, side
by side.

    python tools/pictures.py configs/shapes/mask_rcnn_tiny_shapes_ce.py clean/epoch_12.pth noisy/epoch_12.pth \\
        --names "trained on clean labels" "on noisy labels" --images 4 --out page.png

Rows are images, evenly spread over the validation set; columns are the ground truth and the models.
The config decides about the network and the data; checkpoints of another loss fit too, for a loss
has no weights. Masks are painted by mmdetection's DetLocalVisualizer; classes and scores are
written in the size of the page, so that they can be read on small images as well.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from noisy_instseg.command_line import check_output
from noisy_instseg.errors import UserError
from shared.files import write_atomically

if (
    TYPE_CHECKING
):  # torch and mmdetection take seconds to import: `--help` and wrong flags must not wait for them
    from mmengine.config import Config
    from torch import nn

SIDE = 640  # pixels of an image's longer side when it is painted
PAGE = (8.0, 11.0)  # inches, the most
CELL = 2.6  # inches, the most for the width of an image
FONT = 6  # points
GAP = 0.22  # inches around an image
Colour = tuple[int, int, int]  # red, green, blue in [0, 255]
# Okabe & Ito's colours, which colour-blind readers tell apart; for data sets whose classes have no
# colours of their own.
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
    return np.unique(np.linspace(0, count - 1, min(count, wanted)).round().astype(int)).tolist()


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
    return mask.decode(runs).astype(bool)


def predict(
    model: "nn.Module", cfg: "Config", dataset: Any, indices: Sequence[int], score_thr: float
) -> list[Instances]:
    """What the model finds in these items with a score of `score_thr` or more."""
    import torch

    from noisy_instseg.inference import batches

    found = []
    with torch.no_grad():
        for batch in batches(cfg, dataset, indices):
            for sample in model.test_step(batch):
                seen = sample.pred_instances[sample.pred_instances.scores >= score_thr].cpu()
                parts = (seen.bboxes, seen.labels, seen.masks, seen.scores)
                found.append(Instances(*(np.asarray(part) for part in parts)))
    return found


# ---- painting


def colours_of(metainfo: dict[str, Any]) -> list[Colour]:
    """A colour for each class: those of the data set, if they are for just these classes."""
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
    return visualizer.get_image()


def by_score(instances: Instances) -> list[int]:
    """The instances' places, highest score first."""
    if instances.scores is None:
        return list(range(len(instances.labels)))
    return np.argsort(-instances.scores, kind="stable").tolist()


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
    from matplotlib.figure import Figure

    from noisy_instseg.figures import png

    heights = [
        row[0].shape[0] / row[0].shape[1] for row in painted
    ]  # in units of the width of a column
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
    """(which instance, class and score, x, y) of the labels, at the upper left corners of the
    boxes, in painted pixels.

    A label that would hide one with a higher score moves down. point: painted pixels of a point,
    the unit of font sizes.
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


# ---- command line


def parser() -> argparse.ArgumentParser:
    """The parser of tools/pictures.py."""
    made = argparse.ArgumentParser(
        prog="pictures.py",
        allow_abbrev=False,
        description="A page of validation images: the ground truth, and what each model finds.",
        epilog="example: python tools/pictures.py configs/shapes/mask_rcnn_tiny_shapes_ce.py "
        "clean.pth noisy.pth "
        "--names clean noisy --out page.png",
    )
    add = made.add_argument
    add("config", type=Path, help="config of the network and the data; the loss may be another one")
    add("checkpoints", nargs="+", type=Path, metavar="CHECKPOINT", help="one column each")
    add(
        "--names",
        nargs="+",
        metavar="NAME",
        help="titles of the columns (folder and name of the checkpoints)",
    )
    add(
        "--images",
        type=int,
        default=4,
        metavar="N",
        help="how many images, evenly spread over the validation set (4)",
    )
    add(
        "--score_thr",
        type=float,
        default=0.3,
        help="lowest score of a prediction that is painted (0.3)",
    )
    add(
        "--data_root",
        type=Path,
        metavar="DIR",
        help="folder of the data set, in place of the config's data_root",
    )
    add(
        "--device",
        choices=("auto", "cpu", "cuda"),
        default="auto",
        help="auto is a GPU where there is one (auto)",
    )
    add("--out", type=Path, required=True, metavar="PNG", help="the picture to write")
    return made


def run(args: argparse.Namespace) -> None:
    """Predicts, paints and writes. Raises UserError before that, if the input cannot work."""
    titles = checked_titles(args)
    import mmcv
    from mmdet.visualization import DetLocalVisualizer

    from noisy_instseg import inference

    device = inference.choose_device(args.device)
    cfg = inference.load_config(args.config, args, "val")
    dataset = inference.load_dataset(cfg, "val")
    indices = spread(len(dataset), args.images)
    infos = [dataset.get_data_info(i) for i in indices]
    columns = [[ground_truth(info) for info in infos]]
    for checkpoint in args.checkpoints:
        model = inference.load_model(cfg, checkpoint, device)
        columns.append(predict(model, cfg, dataset, indices, args.score_thr))
    colours, visualizer = colours_of(dataset.metainfo), DetLocalVisualizer()
    found = [list(row) for row in zip(*columns)]
    originals = [mmcv.imread(info["img_path"], channel_order="rgb") for info in infos]
    painted = [
        [paint(visualizer, image, one, colours) for one in row]
        for image, row in zip(originals, found)
    ]
    names, scales = zip(
        *(
            (Path(info["img_path"]).name, SIDE / max(info["height"], info["width"]))
            for info in infos
        )
    )
    picture = page(painted, found, names, scales, ["ground truth", *titles], dataset.metainfo)
    write_atomically(args.out, picture)
    print(f"wrote {args.out}: {len(indices)} images, {len(titles)} models")


def checked_titles(args: argparse.Namespace) -> list[str]:
    """A title for each checkpoint. Raises UserError for flags that cannot work."""
    check_output("--out", args.out, ".png")
    if args.names is not None and len(args.names) != len(args.checkpoints):
        raise UserError(
            f"--names: {len(args.names)} names for {len(args.checkpoints)} checkpoints; give "
            "one each"
        )
    if args.images < 1:
        raise UserError(f"--images {args.images}: must be at least 1")
    if not 0 <= args.score_thr <= 1:
        raise UserError(f"--score_thr {args.score_thr:g}: scores lie in [0, 1]")
    return args.names or [
        f"{path.absolute().parent.name}\n{path.stem}" for path in args.checkpoints
    ]

"""Which annotations of a training file have a wrong class label? Ranks them by the loss of a
trained model.

    python tools/find_noisy.py configs/shapes/mask_rcnn_tiny_shapes_nl_2.py work_dirs/mask_rcnn_tiny_shapes_nl_2/epoch_12.pth \\
        --noise_file data/shapes/annotations/train_sn40.json --plot losses.png

Each annotation's own box is the RoI, so that neither proposals nor box regression matter; the image
is scaled as in testing. The bounding box head gives C + 1 logits and the loss is -log p of the
given label, largest first in the ranking. p is the softmax over the C classes without background: a
box with a wrong class label is still a box, as the paper has it, and how far the model takes it for
background, as it does small and crowded ones, says nothing about its class. Measured on shapes
(tiny model, cross-entropy, 160 images, 20 % symmetric noise): AUC after 8, 16, 24 epochs 0.676,
0.826, 0.843 without background and 0.552, 0.823, 0.846 with it; so it helps where a model is not
yet sure of the boxes, and costs nothing later.

With the manifest of the noise (beside the file, or --manifest) it says how many of the changed
labels come first.
"""

import argparse
import csv
import io
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from noisy_instseg.command_line import check_output
from noisy_instseg.errors import UserError
from shared.coco import file as coco_file
from shared.coco import manifest as coco_manifest
from shared.files import write_atomically

if (
    TYPE_CHECKING
):  # torch and mmdetection take seconds to import: `--help` and wrong flags must not wait for them
    from mmengine.config import Config
    from torch import Tensor, nn

COLUMNS = (
    "rank",
    "annotation_id",
    "image_id",
    "file_name",
    "given",
    "likely",
    "likely_prob",
    "given_prob",
    "loss",
)


@dataclass(frozen=True)
class Annotations:
    """What is ranked: M annotations with a box and a class of the model, of K images."""

    ids: NDArray[np.int64]  # (M,)
    image_ids: NDArray[np.object_]  # (M,) int or str, as the file has them
    boxes: NDArray[np.float32]  # (M, 4) x1 y1 x2 y2 in pixels of the original image
    labels: NDArray[np.int64]  # (M,) in [0, C)
    file_names: dict[int | str, str]  # image id -> name, of all images
    skipped: dict[str, int]  # why, and how many

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class Ranking:
    """The annotations by descending loss; of equal losses the one earlier in the file is first."""

    annotations: Annotations  # in the order of the ranking, as all below
    probs: NDArray[np.float64]  # (M, C) of the classes, rows sum to 1
    losses: NDArray[np.float64]  # (M,)
    changed: (
        NDArray[np.bool_] | None
    )  # (M,) the label is a wrong one by the manifest; None without one
    class_names: Sequence[str]  # C

    @property
    def likely(self) -> NDArray[np.int64]:
        """(M,) the class the model would give."""
        return self.probs.argmax(axis=1)


# ---- reading


def read_annotations(
    source: coco_file.CocoFile, cat2label: dict[int, int], image_ids: Sequence[int | str]
) -> Annotations:
    """What training sees of a file, in its order.

    cat2label: category id -> class in [0, C); image_ids: of training.
    """
    images = {image["id"]: image for image in source.content["images"]}
    trained, skipped, rows = set(image_ids), Counter(), []
    for entry in source.content["annotations"]:
        if reason := _left_out(entry, images, cat2label, trained):
            skipped[reason] += 1
        else:
            rows.append(entry)
    corners = [[x, y, x + w, y + h] for x, y, w, h in (entry["bbox"] for entry in rows)]
    return Annotations(
        ids=np.array([entry["id"] for entry in rows], np.int64),
        image_ids=np.array([entry["image_id"] for entry in rows], object),
        boxes=np.array(corners, np.float32).reshape(-1, 4),
        labels=np.array([cat2label[entry["category_id"]] for entry in rows], np.int64),
        file_names={identifier: str(image["file_name"]) for identifier, image in images.items()},
        skipped=dict(skipped),
    )


def _left_out(
    entry: dict[str, Any],
    images: dict[int | str, Any],
    cat2label: dict[int, int],
    trained: set[int | str],
) -> str | None:
    """Why training learns no class from an annotation; None if it does.

    The order is mmdetection's.
    """
    image = images.get(entry["image_id"])
    if image is None or entry["image_id"] not in trained:
        return "of images that are left out"
    if entry.get("ignore") or entry.get("iscrowd"):
        return "crowds, or marked to be ignored"
    if entry["category_id"] not in cat2label:
        return "of categories that are no class of the config"
    x, y, w, h = entry["bbox"]
    width, height = (
        min(x + w, image["width"]) - max(x, 0),
        min(y + h, image["height"]) - max(y, 0),
    )
    if min(width, height) <= 0 or min(w, h) < 1 or entry.get("area", 1) <= 0:
        return "without area"
    return None


def changed_ids(source: coco_file.CocoFile, path: Path, manifest: Path | None) -> set[int] | None:
    """Ids of the annotations with a wrong label, by the manifest given or the one beside the file;
    None without one.
    """
    beside = coco_manifest.default_path(path)
    if manifest is None and not beside.is_file():
        return None
    found = coco_manifest.read_manifest(manifest or beside)
    if found.output_sha256 != source.sha256:
        raise UserError(
            f"{manifest or beside} is the manifest of another file than {path} (SHA-256 "
            f"{source.sha256[:12]}..., "
            f"expected {found.output_sha256[:12]}...): give the right one with --manifest, or "
            "make the noise "
            "again"
        )
    return set(found.changed_annotation_ids)


# ---- scoring


def class_logits(
    model: "nn.Module", cfg: "Config", dataset: Any, annotations: Annotations
) -> NDArray[np.float64]:
    """(M, C) logits of the classes, background left out, at the annotations' own boxes."""
    import torch

    from noisy_instseg.inference import batches

    rows_of: dict[int | str, list[int]] = {}
    for row, image_id in enumerate(annotations.image_ids.tolist()):
        rows_of.setdefault(image_id, []).append(row)
    indices = [i for i in range(len(dataset)) if dataset.get_data_info(i)["img_id"] in rows_of]
    logits: NDArray[np.float64] | None = None
    with torch.no_grad():
        for batch in batches(cfg, dataset, indices):
            rows = [rows_of[sample.img_id] for sample in batch["data_samples"]]
            found = (
                logits_at(model, batch, [annotations.boxes[part] for part in rows])
                .double()
                .cpu()
                .numpy()
            )
            if logits is None:
                logits = np.full((len(annotations), found.shape[1] - 1), np.nan)
            logits[np.concatenate(rows)] = found[:, :-1]
    assert logits is not None  # there is an annotation, or UserError was raised before
    return logits


def logits_at(
    model: "nn.Module", batch: dict[str, Any], boxes: Sequence[NDArray[np.float32]]
) -> "Tensor":
    """(R, C + 1) logits of the box head.

    batch: B images of `inference.batches`; boxes: per image (R_i, 4) in its own pixels.
    """
    import torch
    from mmdet.structures.bbox import bbox2roi

    data = model.data_preprocessor(batch, False)
    scaled = []
    for sample, own in zip(data["data_samples"], boxes):
        height, width = sample.img_shape[:2]
        box = torch.from_numpy(own) * torch.tensor(
            sample.get("scale_factor", (1.0, 1.0))
        ).float().repeat(2)
        box[:, 0::2].clamp_(0, width)  # as training does with boxes that reach beyond the image
        box[:, 1::2].clamp_(0, height)
        scaled.append(box.to(data["inputs"].device))
    return model.roi_head._bbox_forward(model.extract_feat(data["inputs"]), bbox2roi(scaled))[
        "cls_score"
    ]


def rank(
    annotations: Annotations,
    logits: NDArray[np.float64],
    changed: set[int] | None,
    class_names: Sequence[str],
) -> Ranking:
    """The ranking.

    logits: (M, C) of the classes without background; changed: ids of annotations with a wrong
    label.
    """
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_probs = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    losses = -log_probs[np.arange(len(annotations)), annotations.labels]
    order = np.argsort(-losses, kind="stable")
    ordered = Annotations(
        annotations.ids[order],
        annotations.image_ids[order],
        annotations.boxes[order],
        annotations.labels[order],
        annotations.file_names,
        annotations.skipped,
    )
    is_changed = None if changed is None else np.isin(ordered.ids, list(changed))
    return Ranking(ordered, np.exp(log_probs)[order], losses[order], is_changed, class_names)


# ---- telling


def encode_csv(ranking: Ranking) -> bytes:
    """The ranking as a file's content, a line an annotation."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([*COLUMNS, *(["changed"] if ranking.changed is not None else [])])
    found, names = ranking.annotations, ranking.class_names
    for row, (label, likely) in enumerate(zip(found.labels.tolist(), ranking.likely.tolist())):
        image_id = found.image_ids[row]
        probs = (f"{ranking.probs[row, column]:.6f}" for column in (likely, label))
        line = [
            row + 1,
            found.ids[row],
            image_id,
            found.file_names[image_id],
            names[label],
            names[likely],
            *probs,
            f"{ranking.losses[row]:.6f}",
        ]
        writer.writerow(
            [*line, *([int(ranking.changed[row])] if ranking.changed is not None else [])]
        )
    return buffer.getvalue().encode()


def detection(ranking: Ranking) -> dict[str, float] | None:
    """How well the loss finds the changed labels: AUC, precision among as many as there are; None
    where that has no meaning.
    """
    if ranking.changed is None or ranking.changed.all() or not ranking.changed.any():
        return None
    from sklearn.metrics import roc_auc_score  # slow to import, and only needed with a manifest

    count = int(ranking.changed.sum())
    return {
        "auc": float(roc_auc_score(ranking.changed, ranking.losses)),
        "precision": float(ranking.changed[:count].mean()),
    }


def report(ranking: Ranking) -> str:
    """What is printed: how much was ranked, how well the changed labels are found, the suspects of
    each class.
    """
    found, changed = ranking.annotations, ranking.changed
    skipped = "; ".join(f"{count} {reason}" for reason, count in found.skipped.items())
    lines = [f"{len(found):,} annotations ranked" + (f", left out: {skipped}" if skipped else "")]
    if (quality := detection(ranking)) is not None and changed is not None:
        count = int(changed.sum())
        lines.append(
            f"changed by the manifest: {count:,} ({100 * changed.mean():.1f} %); AUC of the "
            f"loss {quality['auc']:.4f}; "
            f"among the first {count:,} of the ranking {100 * quality['precision']:.1f} % are "
            "changed"
        )
    elif changed is not None:
        lines.append(
            "the manifest says that "
            + ("all" if changed.any() else "none")
            + " of them are changed: no AUC"
        )
    return "\n".join([*lines, "", *_suspects(ranking)])


def _suspects(ranking: Ranking) -> Iterator[str]:
    """A table: per given class, the annotations that the model takes for another one."""
    labels, likely, names = ranking.annotations.labels, ranking.likely, ranking.class_names
    width = max(len("given class"), *map(len, names))
    truth = "" if ranking.changed is None else f"  {'of them changed':>15}  {'changed in all':>14}"
    yield "suspects: annotations whose most likely class is not the given one"
    yield f"{'given class':<{width}}  {'annotations':>11}  {'suspects':>8}{truth}  mostly taken for"
    for label, name in enumerate(names):
        of_class = labels == label
        suspect = of_class & (likely != label)
        mostly = np.bincount(likely[suspect], minlength=len(names))
        other = names[int(mostly.argmax())] if suspect.any() else "-"
        known = (
            ""
            if ranking.changed is None
            else (
                f"  {(suspect & ranking.changed).sum():>15,}"
                f"  {(of_class & ranking.changed).sum():>14,}"
            )
        )
        yield f"{name:<{width}}  {of_class.sum():>11,}  {suspect.sum():>8,}{known}  {other}"


# ---- command line


def parser() -> argparse.ArgumentParser:
    """The parser of tools/find_noisy.py."""
    made = argparse.ArgumentParser(
        prog="find_noisy.py",
        allow_abbrev=False,
        description="Rank the annotations of a training file by the classification loss of a "
        "trained model: wrong class labels "
        "come first.",
        epilog="example: python tools/find_noisy.py configs/shapes/mask_rcnn_tiny_shapes_nl_2.py "
        "work_dirs/mask_rcnn_tiny_shapes_nl_2/epoch_12.pth --noise_file "
        "data/shapes/annotations/train_sn40.json",
    )
    add = made.add_argument
    add("config", type=Path, help="config that the model was trained with")
    add("checkpoint", type=Path, help="its checkpoint, such as epoch_12.pth")
    add(
        "--noise_file",
        type=Path,
        metavar="ANN",
        help="COCO annotations to rank (the config's training annotations)",
    )
    add(
        "--data_root",
        type=Path,
        metavar="DIR",
        help="folder of the data set, in place of the config's data_root",
    )
    add(
        "--manifest",
        type=Path,
        metavar="FILE",
        help="which labels are wrong, as noisy_labels_*.py wrote it (the "
        "annotation file's name with .manifest.json, if that exists)",
    )
    add(
        "--out",
        type=Path,
        default=Path("ranking.csv"),
        metavar="CSV",
        help="the ranking to write (ranking.csv)",
    )
    add("--plot", type=Path, metavar="PNG", help="write a histogram of the losses")
    add(
        "--limit_train",
        type=int,
        metavar="N",
        help="rank the annotations of the first N images only",
    )
    add(
        "--device",
        choices=("auto", "cpu", "cuda"),
        default="auto",
        help="auto is a GPU where there is one (auto)",
    )
    return made


def run(args: argparse.Namespace) -> None:
    """Ranks, writes and prints.

    Raises UserError before anything is written, if the input cannot work.
    """
    from noisy_instseg import figures, inference

    check_output("--out", args.out, ".csv")
    check_output("--plot", args.plot, ".png")
    if args.limit_train is not None and args.limit_train < 1:
        raise UserError(f"--limit_train {args.limit_train}: must be at least 1")
    device = inference.choose_device(args.device)
    cfg = inference.load_config(args.config, args, "train")
    path = args.noise_file or inference.annotation_path(cfg)
    source = coco_file.read(path)
    changed = changed_ids(source, path, args.manifest)
    model = inference.load_model(cfg, args.checkpoint, device)
    dataset = inference.load_dataset(cfg, "train")
    trained = [dataset.get_data_info(i)["img_id"] for i in range(len(dataset))]
    annotations = read_annotations(source, dataset.cat2label, trained)
    if not len(annotations):
        raise UserError(
            f"{path}: no annotation has a box and a class of {args.config} ({annotations.skipped})"
        )
    ranking = rank(
        annotations,
        class_logits(model, cfg, dataset, annotations),
        changed,
        dataset.metainfo["classes"],
    )
    write_atomically(args.out, encode_csv(ranking))
    print(f"{report(ranking)}\n\nranking: {args.out}")
    if args.plot is not None:
        title = f"Loss at the annotations of {path.name}"
        write_atomically(args.plot, figures.loss_histogram(title, ranking.losses, ranking.changed))
        print(f"picture: {args.plot}")

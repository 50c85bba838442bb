"""Which annotations of a training file have a wrong class label? Ranks them by a model's loss.

Each annotation's own box is the RoI, so that neither proposals nor box regression matter; the image
is scaled as in testing. The bounding box head gives C + 1 logits and the loss is -log p of the
annotation's label, largest first in the ranking; a label is an issue where another class is
likelier. p is the softmax over the C classes without background: a box with a wrong class label is
still a box, as the paper has it, and how far the model takes it for background, as it does small
and crowded ones, says nothing about its class.
Measured on shapes (tiny model, cross-entropy, 160 images, 20 % symmetric noise): AUC after 8, 16,
24 epochs 0.676, 0.826, 0.843 without background and 0.552, 0.823, 0.846 with it; so it helps where
a model is not yet sure of the boxes, and costs nothing later.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from numpy.typing import NDArray
from torch import Tensor, nn

from noisy_instseg.analysis import trained_model
from shared.coco import file as coco_file
from shared.coco import manifest as coco_manifest
from shared.errors import UserError, printable

NO_CLASS = -1  # a true category that is no class of the model


@dataclass(frozen=True)
class Annotations:
    """What is ranked, in the order of the file: M annotations, of K images, in C classes."""

    index: NDArray[np.int64]  # (M,) position among all annotations of the file
    ids: NDArray[np.int64]  # (M,)
    image_ids: NDArray[np.object_]  # (M,) int or str, as the file has them
    boxes: NDArray[np.float32]  # (M, 4) x1 y1 x2 y2 in pixels of the original image
    labels: NDArray[np.int64]  # (M,) in [0, C)
    clean_labels: NDArray[np.int64] | None  # (M,) in [0, C) or NO_CLASS; None: not known
    category_ids: Sequence[int]  # C, the file's id of each class
    file_names: dict[int | str, str]  # image id -> name, of all images
    skipped: dict[str, int]  # why, and how many

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def changed(self) -> NDArray[np.bool_] | None:
        """(M,) whether the label is wrong; None where that is not known."""
        return None if self.clean_labels is None else self.clean_labels != self.labels


@dataclass(frozen=True)
class Ranking:
    """What a model thinks of the annotations, in the order of the file."""

    annotations: Annotations
    probs: NDArray[np.float64]  # (M, C) of the classes, rows sum to 1
    losses: NDArray[np.float64]  # (M,)
    class_names: Sequence[str]  # C

    @property
    def predicted(self) -> NDArray[np.int64]:
        """(M,) the class that the model would give."""
        return np.asarray(self.probs.argmax(axis=1), np.int64)

    @property
    def is_issue(self) -> NDArray[np.bool_]:
        """(M,) whether the model would give another class than the label."""
        return np.not_equal(self.predicted, self.annotations.labels)

    @property
    def order(self) -> NDArray[np.int64]:
        """(M,) the rows by descending loss; of equal losses the one earlier in the file first."""
        return np.argsort(-self.losses, kind="stable")


# ---- reading


def read_annotations(
    source: coco_file.CocoFile,
    cat2label: dict[int, int],
    image_ids: Sequence[int | str],
    true_categories: dict[int, int] | None = None,
) -> Annotations:
    """What training sees of a file, in its order.

    cat2label: category id -> class in [0, C); image_ids: of training; true_categories: of the
    wrong labels, by annotation id.
    """
    images = {image["id"]: image for image in source.content["images"]}
    trained, index, rows = set(image_ids), [], []
    skipped: Counter[str] = Counter()
    for position, entry in enumerate(source.content["annotations"]):
        if reason := _left_out(entry, images, cat2label, trained):
            skipped[reason] += 1
        else:
            index.append(position)
            rows.append(entry)
    corners = [[x, y, x + w, y + h] for x, y, w, h in (entry["bbox"] for entry in rows)]
    clean = None
    if true_categories is not None:
        found = (true_categories.get(entry["id"], entry["category_id"]) for entry in rows)
        clean = np.array([cat2label.get(category, NO_CLASS) for category in found], np.int64)
    return Annotations(
        index=np.array(index, np.int64),
        ids=np.array([entry["id"] for entry in rows], np.int64),
        image_ids=np.array([entry["image_id"] for entry in rows], object),
        boxes=np.array(corners, np.float32).reshape(-1, 4),
        labels=np.array([cat2label[entry["category_id"]] for entry in rows], np.int64),
        clean_labels=clean,
        category_ids=sorted(cat2label, key=cat2label.__getitem__),
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
    width = min(x + w, image["width"]) - max(x, 0)
    height = min(y + h, image["height"]) - max(y, 0)
    if min(width, height) <= 0 or min(w, h) < 1 or entry.get("area", 1) <= 0:
        return "without area"
    return None


def true_categories(
    source: coco_file.CocoFile, path: Path, manifest: Path | None
) -> dict[int, int] | None:
    """True category of the wrong labels, by annotation id, as the manifest says.

    That beside the file unless another is given; None without one. Raises UserError.
    """
    beside = coco_manifest.default_path(path)
    if manifest is None and not beside.is_file():
        return None
    found = coco_manifest.read_manifest(manifest or beside)
    if found.output_sha256 != source.sha256:
        raise UserError(
            f"{manifest or beside} is the manifest of another file than {path} (SHA-256 "
            f"{source.sha256[:12]}..., expected {found.output_sha256[:12]}...): give the right one "
            "with --manifest, or make the noise again"
        )
    return dict(zip(found.changed_annotation_ids, found.clean_category_ids))


# ---- scoring


def rank_training_set(
    model: nn.Module, cfg: Config, source: coco_file.CocoFile, truth: dict[int, int] | None
) -> Ranking:
    """The training annotations, as `source` has them, by the model's loss. Raises UserError.

    truth: as `true_categories` gives it.
    """
    dataset = trained_model.load_dataset(cfg, "train")
    trained = [dataset.get_data_info(i)["img_id"] for i in range(len(dataset))]
    annotations = read_annotations(source, dataset.cat2label, trained, truth)
    if not len(annotations):
        raise UserError(
            f"no annotation has a box and a class of {cfg.filename} ({annotations.skipped})"
        )
    logits = class_logits(model, cfg, dataset, annotations)
    return rank(annotations, logits, dataset.metainfo["classes"])


def class_logits(
    model: nn.Module, cfg: Config, dataset: Any, annotations: Annotations
) -> NDArray[np.float64]:
    """(M, C) logits of the classes, background left out, at the annotations' own boxes."""
    rows_of: dict[int | str, list[int]] = {}
    for row, image_id in enumerate(annotations.image_ids.tolist()):
        rows_of.setdefault(image_id, []).append(row)
    indices = [i for i in range(len(dataset)) if dataset.get_data_info(i)["img_id"] in rows_of]
    logits: NDArray[np.float64] | None = None
    with torch.no_grad():
        for batch in trained_model.batches(cfg, dataset, indices):
            rows = [rows_of[sample.img_id] for sample in batch["data_samples"]]
            boxes = [annotations.boxes[part] for part in rows]
            found = logits_at(model, batch, boxes).double().cpu().numpy()
            if logits is None:
                logits = np.full((len(annotations), found.shape[1] - 1), np.nan)
            logits[np.concatenate(rows)] = found[:, :-1]
    assert logits is not None  # there is an annotation, or UserError was raised before
    return logits


def logits_at(model: Any, batch: dict[str, Any], boxes: Sequence[NDArray[np.float32]]) -> Tensor:
    """(R, C + 1) logits of the box head.

    batch: B images of `trained_model.batches`; boxes: per image (R_i, 4) in its own pixels.
    """
    from mmdet.structures.bbox import bbox2roi

    data = model.data_preprocessor(batch, False)
    scaled = []
    for sample, own in zip(data["data_samples"], boxes):
        height, width = sample.img_shape[:2]
        scale = torch.tensor(sample.get("scale_factor", (1.0, 1.0))).float()
        box = torch.from_numpy(own) * scale.repeat(2)
        box[:, 0::2].clamp_(0, width)  # as training does with boxes that reach beyond the image
        box[:, 1::2].clamp_(0, height)
        scaled.append(box.to(data["inputs"].device))
    features = model.extract_feat(data["inputs"])
    logits: Tensor = model.roi_head._bbox_forward(features, bbox2roi(scaled))["cls_score"]
    return logits


def rank(
    annotations: Annotations, logits: NDArray[np.float64], class_names: Sequence[str]
) -> Ranking:
    """The ranking. logits: (M, C) of the classes without background."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_probs = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    losses = -log_probs[np.arange(len(annotations)), annotations.labels]
    return Ranking(annotations, np.exp(log_probs), losses, class_names)


# ---- telling


def detection(ranking: Ranking) -> dict[str, float] | None:
    """How well the loss finds the changed labels: AUC, and precision among as many as there are.

    None where that has no meaning.
    """
    changed = ranking.annotations.changed
    if changed is None or changed.all() or not changed.any():
        return None
    from sklearn.metrics import roc_auc_score  # slow to import, and only needed with a manifest

    return {
        "auc": float(roc_auc_score(changed, ranking.losses)),
        "precision": float(changed[ranking.order][: int(changed.sum())].mean()),
    }


def report(ranking: Ranking) -> str:
    """What is printed: how much was ranked, how well changed labels are found, the suspects."""
    found, changed = ranking.annotations, ranking.annotations.changed
    skipped = "; ".join(f"{count} {reason}" for reason, count in found.skipped.items())
    lines = [f"{len(found):,} annotations ranked" + (f", left out: {skipped}" if skipped else "")]
    if (quality := detection(ranking)) is not None and changed is not None:
        count = int(changed.sum())
        lines.append(
            f"changed by the manifest: {count:,} ({100 * changed.mean():.1f} %); AUC of the "
            f"loss {quality['auc']:.4f}; among the first {count:,} of the ranking "
            f"{100 * quality['precision']:.1f} % are changed"
        )
    elif changed is not None:
        share = "all" if changed.any() else "none"
        lines.append(f"the manifest says that {share} of them are changed: no AUC")
    return "\n".join([*lines, "", *_suspects(ranking)])


def _suspects(ranking: Ranking) -> Iterator[str]:
    """A table: per class, the annotations that the model takes for another one."""
    labels, changed = ranking.annotations.labels, ranking.annotations.changed
    names = [printable(name) for name in ranking.class_names]
    width = max(len("noisy label"), *map(len, names))
    truth = "" if changed is None else f"  {'of them changed':>15}  {'changed in all':>14}"
    yield "suspects: annotations whose most likely class is not their label"
    yield f"{'noisy label':<{width}}  {'annotations':>11}  {'suspects':>8}{truth}  mostly taken for"
    for label, name in enumerate(names):
        of_class = labels == label
        suspect = of_class & ranking.is_issue
        mostly = np.bincount(ranking.predicted[suspect], minlength=len(names))
        other = names[int(mostly.argmax())] if suspect.any() else "-"
        known = ""
        if changed is not None:
            wrong, total = suspect & changed, of_class & changed
            known = f"  {wrong.sum():>15,}  {total.sum():>14,}"
        yield f"{name:<{width}}  {of_class.sum():>11,}  {suspect.sum():>8,}{known}  {other}"


def corrections(ranking: Ranking) -> str:
    """How many labels a correction replaces and, where the truth is known, how many are wrong."""
    found, issue = ranking.annotations, ranking.is_issue
    said = f"{issue.sum():,} of {len(found):,} labels replaced"
    if found.changed is None:
        return said
    left = np.where(issue, ranking.predicted, found.labels) != found.clean_labels
    return f"{said}; {found.changed.sum():,} were wrong, {left.sum():,} are"

"""What is read of a run's metrics: the chosen epoch and the summary; and what a run prints.

Accuracies are in percent; an epoch without evaluation has the accuracy None.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from .splits import RunData

Row = dict[str, Any]  # the figures of an epoch; `epoch` counts from 1
NAMES = {"val": "validation", "test": "test"}  # of the sets that are tested on
NO_TEST_SET = "no test set, so no test accuracy; --val_fraction 0.1 holds a tenth out to test on"
# The only fields of a row that differ between two equal runs.
TIMING = ("seconds", "evaluation_seconds", "images_per_s")


def chosen(rows: Sequence[Row]) -> Row | None:
    """The row of the best epoch: by validation, the first of equal ones; else the last evaluated.

    Where there is no test set, an evaluated epoch still says of which weights.
    """
    shown = ("accuracy", "selection", "weights")
    evaluated = [row for row in rows if any(row.get(name) is not None for name in shown)]
    if not evaluated or evaluated[-1]["selection"] is None:
        return evaluated[-1] if evaluated else None
    return max(evaluated, key=lambda row: row["selection"])


def summary(rows: Sequence[Row]) -> dict[str, float]:
    """Of the evaluated epochs: last accuracy, mean of the last ten, best, and its epoch; or NaN.

    The first of equally good epochs is the best.
    """
    evaluated = [row for row in rows if row.get("accuracy") is not None]
    if not evaluated:
        return dict.fromkeys(("last", "last_10_mean", "best", "best_epoch"), math.nan)
    figures = [row["accuracy"] for row in evaluated]
    return {
        "last": figures[-1],
        "last_10_mean": float(np.mean(figures[-10:])),
        "best": max(figures),
        "best_epoch": evaluated[int(np.argmax(figures))]["epoch"],
    }


def start_lines(what: str, data: "RunData", noise: str | None, held_out: bool) -> list[str]:
    """The first lines of a run: its images and its noise, and what own pictures leave open.

    noise: where the labels are from, None if none was added; held_out: is the test set one of
    training images?
    """
    sizes = {"training": len(data.train.labels)}
    sizes |= {NAMES[name]: count for name, count in data.tested.items()}
    counts = ", ".join(f"{count} {name}" for name, count in sizes.items())
    side, rate = data.image_side, data.noise.header.measured_rate
    lines = [f"{what}: {counts} images, {data.num_classes} classes, {side} x {side} pixels"]
    if rate is not None:
        lines.append(f"noise: {noise}, measured rate {rate:.4f}")
    else:
        source = "none added" if noise is None else f"labels of {noise}"
        lines.append(f"noise: {source}; how many of the labels are wrong is not known")
    if data.name != "folder":
        return lines
    as_they_came = [NAMES[name] for name in data.tested if name == "val" or held_out]
    if as_they_came and data.clean is None:
        kept = "keep the labels that came with them"
        if noise is not None:  # corrected ones
            kept = f"have the labels of {noise}, or else those that came with them"
        lines.append(
            f"note: {' and '.join(as_they_came)} images {kept}, some of which may be wrong"
        )
    return lines if "test" in data.tested else [*lines, f"note: {NO_TEST_SET}"]


def epoch_lines(row: Row, is_best: bool, select: str, splits: Sequence[str]) -> list[str]:
    """An epoch of LRA-diffusion in the original's words. splits: the sets that were tested."""
    right = row["drawn_labels_right"]
    drawn = "" if right is None else f", drawn labels right: {right:.2f}%"
    start = f"epoch: {row['epoch']}, "
    lines = [f"{start}loss: {row['loss']:.4f}{drawn}, {row['images_per_s']:.0f} images/s"]
    if row["weights"] is not None and splits:
        weights = row["weights"]
        shown = (
            f"{name} accuracy: {row[f'accuracy_{split}_{weights}']:.2f}%"
            for split, name in NAMES.items()
            if split in splits
        )
        lines += [
            f"{start}{', '.join(shown)} ({weights} weights)",
            f"time cost for CLR: {row['evaluation_seconds']:.2f} (all of these images, without "
            "f_p)",
        ]
    if is_best:
        val = "none" if row["selection"] is None else f"{row['selection']:.2f}"
        test = f", test acc: {row['accuracy']:.2f}" if "test" in splits else ""
        lines.append(
            f"Model saved, update best accuracy at Epoch {row['epoch']}, {select} acc: {val}{test}"
        )
    return lines


def end_lines(rows: Sequence[Row], select: str, splits: Sequence[str]) -> list[str]:
    """The result of a run of LRA-diffusion."""
    best, result = chosen(rows), summary(rows)
    if best is None:
        return ["no epoch was tested: with --legacy that needs more epochs than the warm-up has"]
    if best["accuracy"] is None:
        val = best["selection"]
        how = "the last one" if val is None else f"the best on validation images, {val:.2f} %"
        return [
            f"the model is that of epoch {best['epoch']}, {how} ({best['weights']} weights)",
            NO_TEST_SET,
        ]
    how = "after the last epoch (there is no validation set)"
    if best["selection"] is not None:
        by_val = "at the best validation accuracy (what the paper reports)"
        how = by_val if select == "val" else "at the best test accuracy"
    reported = "test" if "test" in splits else "validation"  # WebVision without ILSVRC2012
    tested = min(10, sum(row["accuracy"] is not None for row in rows))
    return [
        f"{reported} accuracy {how}: {best['accuracy']:.2f} % (epoch {best['epoch']}, "
        f"{best['weights']} weights)",
        f"last {result['last']:.2f} %, mean of the last {tested} tested epochs "
        f"{result['last_10_mean']:.2f} %, best {result['best']:.2f} % (epoch "
        f"{result['best_epoch']})",
    ]

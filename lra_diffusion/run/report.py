"""What is read of a run's metrics: the chosen epoch and the summary; and what a run prints.

Accuracies are in percent; an epoch without evaluation has the accuracy None.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

Row = dict[str, Any]  # the figures of an epoch; `epoch` counts from 1
# The only fields of a row that differ between two equal runs.
TIMING = ("seconds", "evaluation_seconds", "images_per_s")


def chosen(rows: Sequence[Row]) -> Row | None:
    """The row of the best epoch: by validation, the first of equal ones; else the last tested."""
    tested = [row for row in rows if row.get("accuracy") is not None]
    if not tested or tested[-1]["selection"] is None:
        return tested[-1] if tested else None
    return max(tested, key=lambda row: row["selection"])


def summary(rows: Sequence[Row], name: str = "accuracy") -> dict[str, float]:
    """Of the evaluated epochs: last figure, mean of the last ten, best, and its epoch; or NaN.

    name: which figure of the rows, `accuracy` of the test set unless told; the first of equally
    good epochs is the best.
    """
    evaluated = [row for row in rows if row.get(name) is not None]
    if not evaluated:
        return dict.fromkeys(("last", "last_10_mean", "best", "best_epoch"), math.nan)
    figures = [row[name] for row in evaluated]
    return {
        "last": figures[-1],
        "last_10_mean": float(np.mean(figures[-10:])),
        "best": max(figures),
        "best_epoch": evaluated[int(np.argmax(figures))]["epoch"],
    }


def start_lines(
    what: str, sizes: Mapping[str, int], rate: float | None, noise: str | None
) -> list[str]:
    """The first lines of a run: its images and its noise.

    sizes: images by what they are for; rate: share of wrong labels; noise: None if none was added.
    """
    counts = ", ".join(f"{count} {name}" for name, count in sizes.items())
    if rate is not None:
        noise_line = f"noise: {noise}, measured rate {rate:.4f}"
    else:
        noise_line = "noise: none added; how many of the labels are wrong is not known"
    return [f"{what}: {counts} images", noise_line]


def epoch_lines(row: Row, is_best: bool, select: str, splits: Sequence[str]) -> list[str]:
    """An epoch of LRA-diffusion in the original's words. splits: the sets that were tested."""
    right = row["drawn_labels_right"]
    drawn = "" if right is None else f", drawn labels right: {right:.2f}%"
    start = f"epoch: {row['epoch']}, "
    lines = [f"{start}loss: {row['loss']:.4f}{drawn}, {row['images_per_s']:.0f} images/s"]
    if row["accuracy"] is not None:
        weights, names = row["weights"], {"val": "validation", "test": "test"}
        shown = (
            f"{name} accuracy: {row[f'accuracy_{split}_{weights}']:.2f}%"
            for split, name in names.items()
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

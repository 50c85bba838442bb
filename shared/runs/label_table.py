"""label_quality.csv, read: what a method thinks of every training label.

Written by shared.formats.label_quality, whose docstring says what the columns mean.
"""

import csv
import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from shared.formats.label_quality import COLUMNS
from shared.runs.files import read_text
from shared.runs.run import RunError

MAX_BYTES = 512 * 2**20  # a million samples with long file names have 150
CLEAN = "clean_label"
T = TypeVar("T")


@dataclass(frozen=True)
class LabelQuality:
    """The table by column; N samples in the order of the dataset."""

    index: NDArray[np.int64]  # (N,) rows of the dataset
    files: list[str]  # (N,) names; empty where samples are no files
    given: NDArray[np.int64]  # (N,) labels from 0 on
    given_names: list[str]
    predicted: NDArray[np.int64]  # (N,)
    predicted_names: list[str]
    quality: NDArray[np.float64]  # (N,) in [0, 1], low is suspicious
    self_confidence: NDArray[np.float64]  # (N,) in [0, 1]
    is_issue: NDArray[np.bool_]  # (N,)
    clean: NDArray[np.int64] | None  # (N,), -1: of no class; None where the truth is not known
    annotation_id: NDArray[np.int64] | None = None  # (N,) of instance segmentation
    images: list[str] | None = None  # (N,) names of its image files
    bbox: NDArray[np.float64] | None = None  # (N, 4) x y w h in pixels

    @property
    def class_names(self) -> dict[int, str]:
        """By label, of the classes that occur."""
        given = zip(self.given.tolist(), self.given_names)
        return dict(sorted({*given, *zip(self.predicted.tolist(), self.predicted_names)}))


def read_label_quality(path: Path) -> LabelQuality:
    """Raises RunError for a table that is missing, damaged or of another program."""
    columns = _columns(path, read_text(path, MAX_BYTES, "a table of labels"))

    def parsed(name: str, parse: Callable[[str], T], kind: str) -> list[T]:
        try:
            return [parse(cell) for cell in columns[name]]
        except ValueError as error:
            raise RunError(
                f"{path}: column {name} has a cell that is no {kind} ({error}): copy the file again"
            ) from error

    def integers(name: str) -> NDArray[np.int64]:
        return np.array(parsed(name, partial(_from, 0), "integer from 0 on"), np.int64)

    def shares(name: str) -> NDArray[np.float64]:
        return np.array(parsed(name, _share, "number in [0, 1]"), np.float64)

    clean = parsed(CLEAN, partial(_from, -1), "integer from -1 on") if CLEAN in columns else None
    boxes = parsed("bbox", _box, "box x y w h") if "bbox" in columns else None
    return LabelQuality(
        index=integers("index"),
        files=columns["file"],
        given=integers("given_label"),
        given_names=columns["given_name"],
        predicted=integers("predicted_label"),
        predicted_names=columns["predicted_name"],
        quality=shares("label_quality"),
        self_confidence=shares("self_confidence"),
        is_issue=np.array(parsed("is_label_issue", _truth, "True or False"), np.bool_),
        clean=None if clean is None else np.array(clean, np.int64),
        annotation_id=integers("annotation_id") if "annotation_id" in columns else None,
        images=columns.get("image"),
        bbox=None if boxes is None else np.array(boxes, np.float64).reshape(-1, 4),
    )


def _columns(path: Path, text: str) -> dict[str, list[str]]:
    try:
        head, *rows = csv.reader(io.StringIO(text, newline=""), strict=True)
    except (ValueError, csv.Error) as error:
        raise RunError(f"{path} is no table of labels ({error}): copy it again") from error
    if missing := [name for name in COLUMNS if name not in head]:
        raise RunError(
            f"{path} has no column {', '.join(missing)}: give a label_quality.csv that a run of "
            "this repository wrote"
        )
    for number, row in enumerate(rows, start=2):
        if len(row) != len(head):
            raise RunError(
                f"{path}: row {number} has {len(row)} cells, not {len(head)}: the file is cut off "
                "or damaged; copy it again"
            )
    return {name: [row[k] for row in rows] for k, name in enumerate(head)}


def _from(least: int, text: str) -> int:
    value = int(text)
    if not least <= value < 2**62:
        raise ValueError(f"{text!r}")
    return value


def _share(text: str) -> float:
    value = float(text)
    if not 0.0 <= value <= 1.0:  # nor NaN
        raise ValueError(f"{text!r}")
    return value


def _truth(text: str) -> bool:
    if text not in ("True", "False"):
        raise ValueError(f"{text!r}")
    return text == "True"


def _box(text: str) -> Sequence[float]:
    box: list[Any] = [float(part) for part in text.split()]
    if len(box) != 4 or not all(map(math.isfinite, box)):
        raise ValueError(f"{text!r}")
    return box

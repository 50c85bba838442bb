"""A CSV of labels for pictures that lie anywhere below a folder.

    filename,label          a header is not needed where the first line names a picture
    a/1.png,cat             names of classes, or their numbers
    2.png,dog               a bare name will do where only one picture is called so
    3,dog                   and where all names lack their endings

Cells are separated by commas, tabs or semicolons, or in lists without a header by the last space.
"""

import csv
import io
import posixpath
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from shared.datasets import file_names
from shared.datasets.decoding import is_image
from shared.datasets.image_data import DatasetError
from shared.formats import safe_arrays, text_table
from shared.labels import MOST_CLASSES, Labels

_FILE_COLUMNS = (
    "filename",
    "file_name",
    "file",
    "path",
    "image",
    "image_path",
    "img_path",
    "img_paths",
    "name",
    "image_id",
    "id",
)
_LABEL_COLUMNS = ("label", "labels", "class", "target", "targets", "label_noisy", "category")
_NUMBER = re.compile(r"-?[0-9]{1,9}(\.0*)?", re.ASCII)
_NAMED = 3  # of the pictures that something is wrong with


@dataclass(frozen=True)
class Labelled:
    """Which pictures the file labels, and how."""

    rows: Labels  # (n,) ascending positions of the pictures
    labels: Labels  # (n,) in [0, C)
    class_names: tuple[str, ...]  # C of them


def read(path: Path, names: Sequence[str], folders: Sequence[str]) -> Labelled:
    """The labels of a CSV for those of the pictures `names` that it lists.

    names: of all pictures, with / between folders. folders: the sorted names of class folders,
    where there are any: labels that are all among them are numbered as they are, and numbers have
    their names where there are as many. Raises DatasetError, naming the line or the files that are
    wrong.
    """
    wanted, texts = _columns(path)
    if not any(is_image(Path(name)) for name in wanted):  # names without .png
        rows = file_names.positions(wanted, [posixpath.splitext(name)[0] for name in names])
    else:
        rows = file_names.positions(wanted, names)
    if missing := [name for name, row in zip(wanted, rows) if row < 0]:
        raise DatasetError(
            f"{path}: {len(missing):,} of {len(wanted):,} pictures, such as "
            f"{', '.join(missing[:_NAMED])}, are not in the folder (or several of that name are): "
            "correct the list, or add the folders to the names"
        )
    order = np.argsort(rows, kind="stable")
    if len(twice := np.flatnonzero(np.diff(rows[order]) == 0)):
        raise DatasetError(
            f"{path} names {names[rows[order][twice[0]]]} twice: delete one of the lines"
        )
    labels, classes = _numbered(path, texts, folders)
    return Labelled(rows[order], labels[order], classes)


def _numbered(
    path: Path, texts: Sequence[str], folders: Sequence[str]
) -> tuple[Labels, tuple[str, ...]]:
    """Labels (n,) and the names of their classes."""
    used = sorted(set(texts))
    if not set(used) <= set(folders) and all(_NUMBER.fullmatch(text) for text in used):
        numbers = np.array([int(float(text)) for text in texts], np.int64)
        if numbers.min() < 0:
            raise DatasetError(
                f"{path}: label {numbers.min()} is no number of a class, which begin at 0: leave "
                "pictures without a label out of the list"
            )
        count = int(numbers.max()) + 1
        if count > MOST_CLASSES:
            raise DatasetError(
                f"{path}: label {numbers.max()} is no number of a class: number them from 0"
            )
        known = len(folders) == count
        return numbers, tuple(folders) if known else tuple(str(label) for label in range(count))
    classes = tuple(folders) if set(used) <= set(folders) else tuple(used)
    if len(classes) > MOST_CLASSES:
        raise DatasetError(
            f"{path} has {len(used):,} different labels: is its second column the labels?"
        )
    position = {name: label for label, name in enumerate(classes)}
    return np.array([position[text] for text in texts], np.int64), classes


# ---- the cells


def _columns(path: Path) -> tuple[list[str], list[str]]:
    """File names and labels, as they are written."""
    try:
        lines = text_table.decoded(safe_arrays.read_limited(path)).splitlines()
        rows = [[cell.strip() for cell in row] for row in _rows(lines)]
    except (OSError, UnicodeDecodeError, csv.Error, safe_arrays.UnsafeArrayError) as error:
        raise DatasetError(
            f"{path} is not a readable list of labels ({error}): give a CSV with the columns "
            "filename,label, in UTF-8"
        ) from error
    if not rows:
        raise DatasetError(f"{path} is empty: give a CSV with the columns filename,label")
    file, label, first = _head(path, rows[0])
    for number, row in enumerate(rows[first:], start=first + 1):
        if len(row) != len(rows[0]) or not row[file] or not row[label]:
            raise DatasetError(
                f"{path}, line {number}: {','.join(row)[:80]!r}, expected {len(rows[0])} cells "
                "with a file name and a label: correct it"
            )
    if not rows[first:]:
        raise DatasetError(f"{path} lists no picture: give a CSV with the columns filename,label")
    return [row[file] for row in rows[first:]], [row[label] for row in rows[first:]]


def _rows(lines: list[str]) -> list[list[str]]:
    while lines and not lines[-1].strip():
        lines.pop()
    mark = next((mark for mark in ",\t;" if lines and mark in lines[0]), None)
    if mark is None:
        return [line.rsplit(None, 1) for line in lines]
    return list(csv.reader(io.StringIO("\n".join(lines)), delimiter=mark, strict=True))


def _head(path: Path, row: list[str]) -> tuple[int, int, int]:
    """The columns of file names and labels, and where the rows begin."""
    if any(is_image(Path(cell)) for cell in row):
        if len(row) == 2:
            return 0, 1, 0
        raise DatasetError(
            f"{path}: the first line has {len(row)} cells and no names: begin with filename,label"
        )
    names = [name.lower() for name in row]
    file = next((names.index(name) for name in _FILE_COLUMNS if name in names), None)
    label = next((names.index(name) for name in _LABEL_COLUMNS if name in names), None)
    if len(names) == 2 and file is None and label is not None:
        file = 1 - label
    if len(names) == 2 and label is None and file is not None:
        label = 1 - file
    if file is None or label is None:
        raise DatasetError(
            f"{path} begins with {','.join(row)[:80]!r}: expected the columns filename,label"
        )
    return file, label, 1

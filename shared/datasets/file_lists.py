"""Lists of image files and labels, as large datasets come with; read, but not believed.

Every failure is a DatasetError that names the list and the line. Letters: n files, C classes.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from shared.datasets.folders import nearest
from shared.datasets.image_data import DatasetError
from shared.labels import Labels

Samples = tuple[list[str], Labels]  # n file names, (n,) labels


def lines(path: Path) -> Iterator[tuple[int, str]]:
    """Number and text of each line that is not empty."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            for number, line in enumerate(file, start=1):
                if text := line.strip():
                    yield number, text
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path} is not a readable list ({error}): get it again") from error


def labelled(path: Path, num_classes: int) -> Samples:
    """A list of lines `file label`, labels in [0, C)."""
    files, labels = [], []
    for number, line in lines(path):
        name, _, text = line.rpartition(" ")
        if not name or not (text.isascii() and text.isdigit()):
            raise DatasetError(
                f"{path}, line {number}: {line[:80]!r}, expected a file name and a label: get "
                "it again"
            )
        files.append(name.rstrip())
        labels.append(label(path, number, text, num_classes))
    return checked(path, files), np.array(labels, np.int64)


def label(path: Path, number: int, text: str, num_classes: int) -> int:
    """The label that `text` of line `number` is, in [0, C)."""
    if not (text.isascii() and text.isdigit() and len(text) < 10 and int(text) < num_classes):
        raise DatasetError(
            f"{path}, line {number}: label {text[:20]}, expected 0 to {num_classes - 1}: get "
            "the list again"
        )
    return int(text)


def checked(path: Path, files: list[str]) -> list[str]:
    """The file names of a list if there are any and none leads out of the dataset."""
    if not files:
        raise DatasetError(f"{path} is empty, expected a file name a line: get it again")
    for name in files:
        if name.startswith("/") or (".." in name and ".." in name.split("/")):
            raise DatasetError(f"{path} names {name[:80]}, outside of the dataset: get it again")
    return files


def first_classes(samples: Samples, num_classes: int, path: Path) -> Samples:
    """Those of the first C classes, in the order of the list."""
    files, labels = samples
    chosen = np.flatnonzero(labels < num_classes)
    if not len(chosen):
        raise DatasetError(f"{path} has no file of the first {num_classes} classes: get it again")
    return [files[position] for position in chosen], labels[chosen]


def check_ends(root: Path, files: Sequence[str], reason: str) -> None:
    """Raise DatasetError where the first or the last file is missing; all would take minutes."""
    for name in (files[0], files[-1]) if files else ():
        if not (root / name).is_file():
            raise DatasetError(f"{root / name} is missing, but {reason} ({nearest(root / name)})")

"""What the reader of every format makes of a file: named columns, each read when it is chosen.

    table = of_value({"clean_label": [0, 1], "noisy_label": [1, 1]})
    labels(table.columns["noisy_label"].read(), "noisy_label")      # (2,) int64, checked

Letters: N labels.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from shared.formats.noise_file import NoiseFileError
from shared.formats.safe_arrays import MAX_LABELS, is_label_shape
from shared.formats.torch_file import Tensor
from shared.labels import Labels, checked_labels

SINGLE = ""  # the name of the only column of a file without names


@dataclass(frozen=True)
class Column:
    """One list of a file."""

    read: Callable[[], Any]  # the values, unchecked
    is_labels: bool  # one whole number per sample, as far as can be told without reading it
    kind: str | None = None  # of the labels, where the format says it
    rows: Labels | None = None  # (n,) positions of the samples that it has a value of; None: all


@dataclass(frozen=True)
class Table:
    """The columns of a file, and which samples they are about, where the file says so."""

    columns: Mapping[str, Column]
    indices: Any = None  # (N,) rows of the training set, unchecked
    names: tuple[str, ...] | None = None  # (N,) file names
    order: str = ""  # as NoiseFile.order
    is_text: bool = False  # a table of text: its column names say nothing about the noise

    def part(self, rows: Labels) -> "Table":
        """What is said of some of the samples; rows: (n,) their positions."""
        names = None if self.names is None else tuple(self.names[row] for row in rows)
        indices = self.indices
        if indices is not None:
            indices = indices[rows]
        elif names is None:
            indices = rows
        return replace(self, names=names, indices=indices)


def of_value(value: Any) -> Table:
    """The table of a value that a pickle, a torch file or JSON held."""
    if isinstance(value, Mapping):
        if not any(isinstance(item, (list, tuple, np.ndarray, Tensor)) for item in value.values()):
            names = ", ".join(_name(name)[:20] for name in list(value)[:3]) or "nothing"
            raise NoiseFileError(
                f"the file has {len(value):,} entries ({names}) and no list of labels: give them "
                "as one list in the dataset's order, or as a .csv with the columns filename,label"
            )
        return Table({_name(name): _column(item) for name, item in value.items()})
    if isinstance(value, (list, tuple)) and len(value) == 2:
        value = [item.array() if isinstance(item, Tensor) else item for item in value]
    if _is_pair_of_lists(value):
        found, indices = value
        return Table({SINGLE: _column(found)}, indices=labels(indices, "the second list, indices"))
    if isinstance(value, tuple):
        value = list(value)
    if not isinstance(value, (list, np.ndarray, Tensor)):
        raise NoiseFileError(
            f"the file holds a {type(value).__name__}, not a list of labels: give one of labels"
        )
    return Table({SINGLE: _column(value)})


def _is_pair_of_lists(value: Any) -> bool:
    """Whether it is [labels, indices]: lists of one length, of which the second repeats nothing."""
    if not (isinstance(value, (list, tuple)) and len(value) == 2):
        return False
    if not all(isinstance(item, (list, np.ndarray)) for item in value):
        return False
    first, second = value
    if len(first) != len(second):
        return False
    return all(map(_is_integer, second)) and len(set(map(int, second))) == len(second)


def _name(key: Any) -> str:
    """Of a column; Python 2 wrote bytes."""
    return key.decode("latin1") if isinstance(key, bytes) else str(key)


def _column(value: Any) -> Column:
    if isinstance(value, tuple):
        value = list(value)
    if isinstance(value, Tensor):
        return Column(value.array, value.looks_like_labels)
    if isinstance(value, np.ndarray):
        return Column(lambda: value, value.dtype.kind in "iu" and is_label_shape(value.shape))
    return Column(lambda: value, isinstance(value, list) and all(map(_is_integer, value[:1])))


def _is_integer(item: Any) -> bool:
    return type(item) is int or isinstance(item, np.integer)


def labels(value: Any, name: str) -> Labels:
    """The labels (N,) int64 in an array (N,) or (N, 1) or in a list, every item looked at.

    NumPy would turn True or "7" into a number.
    """
    if not isinstance(value, (list, np.ndarray)):
        raise NoiseFileError(
            f"{name} holds a {type(value).__name__}, not a list of labels: choose another column"
        )
    if len(value) > MAX_LABELS if isinstance(value, list) else value.size > MAX_LABELS:
        raise NoiseFileError(f"{name}: more than {MAX_LABELS:,} labels: is this a file of labels?")
    if isinstance(value, list):
        for position, item in enumerate(value):
            if not _is_integer(item) or abs(int(item)) >= 2**62:
                raise NoiseFileError(
                    f"item {position} of the list is {_shown(item)}, not a label: give integers "
                    "from 0 on"
                )
        value = np.array(value, np.int64)
    elif value.ndim == 2 and value.shape[1] == 1:
        value = value[:, 0]
    found = checked_labels(value, None, name=name, error=NoiseFileError, copy=False)
    found.setflags(write=False)
    return found


def _shown(item: Any) -> str:
    """An item of a list, for a message: a number may have more digits than Python prints."""
    if _is_integer(item) and int(item).bit_length() > 128:
        return "a number of more than 128 bits"
    if item is None or isinstance(item, (bool, int, float, np.number)):
        return str(item)
    return repr(item[:40]) if isinstance(item, (str, bytes)) else f"a {type(item).__name__}"

"""Labels in text: a CSV with a header, `path label` lines, or one label per line.

    label,label_noisy          SLN, re-sln; True/False in the second column: the image is replaced
    filename,label             names of files, for a dataset of files
    ,clean,noisy               the unnamed index that pandas writes
    00/1.jpg 3                 the lists of Clothing1M, WebVision and others
    3                          one label per line, also as numpy.savetxt writes it: 3.000e+00, and
                               below a line with #
    index,given_label,new_label,new_name    ticked on the page of compare.report; without a right
                               label, new_label, a sample is left out

Cells are separated by commas, tabs or semicolons (by spaces in lists without a header) and may
stand in quotes; 3.0 is 3, TRUE is True. A blank line is skipped at the end and refused elsewhere.
"""

import codecs
import csv
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import count
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.formats import column_names
from shared.formats.columns import SINGLE, Column, Table
from shared.formats.noise_file import CORRECTED_KIND, NoiseFileError
from shared.formats.safe_arrays import UnsafeArrayError

MAX_BYTES = 64 * 2**20
_MARKS = ",\t;"
_NUMBER = re.compile(r"-?[0-9]+(\.0*)?|-?[0-9]\.[0-9]*e\+[0-9]{2}", re.ASCII)  # 8.000e+00: numpy
_PATH_AND_LABEL = re.compile(r".*[^,;\t ] +[0-9]+(\.0*)?", re.ASCII)
_FILE = re.compile(r".*[^.]\.[A-Za-z]{2,5}")
_INDEX_NAMES = {"", "index", "idx", "indices", "unnamed: 0", "sample_index", "id"}
_FILE_NAMES = {"file", "filename", "file_name", "path", "image", "image_path", "img_path", "name"}
_GIVEN, _RIGHT, _RIGHT_NAME = "given_label", "new_label", "new_name"  # of what was ticked
_FLAGS = {"True": True, "False": False, "TRUE": True, "FALSE": False}  # pandas, spreadsheets
_EXPECTED = "expected label,label_noisy or another header with names of label columns"


def decoded(data: bytes) -> str:
    """The text of a file in UTF-8, or in UTF-16 as spreadsheets write it; or a UnicodeDecodeError.

    A byte order mark may stand in front.
    """
    is_utf_16 = data[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
    return data.decode("utf-16" if is_utf_16 else "utf-8-sig")


def of_bytes(data: bytes) -> str:
    """The same; nothing for bytes that are no text."""
    has_mark = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    if b"\0" in data and not has_mark:  # old pickles and tables of numbers are full of it
        return ""
    try:
        return decoded(data)
    except UnicodeDecodeError:
        return ""


def looks_like(text: str) -> bool:
    """Whether the text begins like one of these."""
    lines = text.lstrip().split("\n", 2)[:2]
    return (
        lines[-1].startswith("#")
        or any(mark in lines[0] for mark in _MARKS)
        or any(line.strip() and _NUMBER.fullmatch(line.split()[-1]) for line in lines)
    )


def parse(text: str) -> Table:
    """The columns of the text; a header names them."""
    if len(text) > MAX_BYTES:
        raise NoiseFileError(
            f"the text is longer than {MAX_BYTES >> 20} MiB: save the labels as .npy"
        )
    lines = text.lstrip("\r\n").splitlines()  # it may begin with a tab
    while lines and not lines[-1].strip(" "):
        lines.pop()
    if len(lines) > 1 and lines[0].startswith("#"):  # as numpy.savetxt writes what it is told
        if lines[1].startswith("#"):
            raise NoiseFileError("line 2 is a remark: delete all but the first of them")
        is_list = _NUMBER.fullmatch(lines[1].strip()) is not None
        lines[0] = "label" if is_list else lines[0][1:].lstrip(" ")
    rows = _rows(lines)
    head = next(rows)
    if head[:2] in (["src", "dsts"], ["src", "dst"]):
        raise NoiseFileError(
            "this describes the rules of a noise, not labels: give the .csv without `_noise_rules`"
        )
    if head == ["index", "donor_index"]:
        raise NoiseFileError(
            "this is a list of pairs of open-set noise, not labels: give the noise file with "
            "the flags"
        )
    has_names = not any(map(_is_value, head)) and not all(map(_is_number, head))
    columns: list[list[str]] = [[] if has_names else [cell] for cell in head]
    for number, row in enumerate(rows, start=2):
        if len(row) != len(head):
            raise NoiseFileError(
                f"line {number} has {len(row)} cells, expected {','.join(head)[:80]}: damaged file"
            )
        for column, cell in zip(columns, row):
            column.append(cell)
    return _named(head, columns) if has_names else _unnamed(columns)


def _rows(lines: list[str]) -> Iterator[list[str]]:
    """The cells of each line."""
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            raise NoiseFileError(f"line {number} is blank: delete it, or restore its label")
    mark = next((mark for mark in _MARKS if mark in lines[0]), None)
    if mark is None or _PATH_AND_LABEL.fullmatch(lines[0]):  # a path may have any sign in it
        yield from (line.rsplit(None, 1) for line in lines)
        return
    try:
        for row in csv.reader(lines, delimiter=mark, skipinitialspace=True, strict=True):
            yield [cell.strip() for cell in row]
    except csv.Error as error:
        raise NoiseFileError(f"the text is not a table ({error}): damaged file") from error


def _is_value(cell: str) -> bool:
    return cell in _FLAGS or _NUMBER.fullmatch(cell) is not None


def _is_number(cell: str) -> bool:
    """Whether Python would read it as one, so that it is no name."""
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _unnamed(columns: list[list[str]]) -> Table:
    """A list without a header: labels alone, or file names and labels."""
    *names, found = columns
    if len(names) > 1 or (names and _NUMBER.fullmatch(names[0][0])):
        raise NoiseFileError(f"the first line has {len(columns)} cells and no names: {_EXPECTED}")
    if names and all(map(_NUMBER.fullmatch, names[0][0].split())):
        raise NoiseFileError("the first line has more than one label: write one label a line")
    column = Column(lambda: values(found, count(1)), True)
    return Table({SINGLE: column}, names=tuple(names[0]) if names else None, is_text=True)


def _named(head: list[str], columns: list[list[str]]) -> Table:
    found: dict[str, Column] = {}
    rows: dict[str, NDArray[np.int64]] = {}
    names: tuple[str, ...] | None = None
    for name, column in zip(head, columns):
        if name in found:
            raise NoiseFileError(f"the first line names {name!r} twice: give each column a name")
        if name.lower() in _INDEX_NAMES and all(map(_NUMBER.fullmatch, column)):
            rows[name] = values(column, count(2))
        elif name.lower() in _FILE_NAMES or (column and all(map(_FILE.fullmatch, column))):
            names = tuple(column) if any(column) else None  # of samples that are no files
        else:
            # Nobody may take what an empty cell ends every line with for the only column, SINGLE.
            found[name or "(no name)"] = _label_column(name, column)
    if not any(column.is_labels for column in found.values()):
        raise NoiseFileError(f"the first line is {','.join(head)[:80]!r}: {_EXPECTED}")
    if {_GIVEN, _RIGHT} <= found.keys():
        cells = dict(zip(head, columns))
        samples = rows["index"].tolist() if "index" in rows else names or range(len(columns[0]))
        found[_RIGHT] = _corrections(cells[_RIGHT], cells.get(_RIGHT_NAME, cells[_RIGHT]), samples)
    return Table(found, _indices(rows, names is not None), names, is_text=True)


def _indices(rows: Mapping[str, NDArray[np.int64]], has_names: bool) -> NDArray[np.int64] | None:
    """The rows in the dataset; None: all, in order, or unknown.

    Beside names of files only `index`, as our tables have it, is one: pandas numbers its own rows.
    """
    if has_names:
        return rows.get("index")
    found = next(reversed(list(rows.values())), None)
    return None if found is None or np.array_equal(found, np.arange(len(found))) else found


def _label_column(name: str, cells: list[str]) -> Column:
    """What is called a label must be one; of other columns the first cell tells.

    The numbers of is_noisy and the like are flags that belong to a label, and are none.
    """
    has_flags = bool(cells) and cells[0] in _FLAGS
    is_mark = name.lower().startswith("is_") and bool(cells) and not has_flags
    is_labels = not is_mark and ("label" in name.lower() or not cells or _is_value(cells[0]))
    kind = "open_set" if has_flags and column_names.is_of_open_set(name) else None
    return Column(lambda: values(cells, count(2)), is_labels, kind)


def _corrections(
    cells: Sequence[str], names: Sequence[str], samples: Sequence[int | str]
) -> Column:
    """Right labels, and the names that they were chosen by, of those samples that have one.

    samples: their rows or file names. Equal labels of one count once.
    """
    labelled = [row for row in range(len(cells)) if cells[row] or names[row]]
    first: dict[int | str, int] = {}
    for row in labelled:
        first.setdefault(samples[row], row)
    rows = list(first.values())

    def read() -> NDArray[Any]:
        for row in labelled:
            other = first[samples[row]]
            if cells[row] != cells[other]:
                raise NoiseFileError(
                    f"lines {other + 2} and {row + 2} give sample {samples[row]} the right labels "
                    f"{names[other][:40]} and {names[row][:40]}: delete one of them"
                )
        for row in rows:
            if not cells[row]:
                raise NoiseFileError(
                    f"line {row + 2} has the right label {names[row][:40]!r}, which is none of the "
                    f"classes: write the number of one as its {_RIGHT}, or choose one on the page"
                )
        if not rows:
            raise NoiseFileError(
                f"no sample has a right label ({_RIGHT}): write them on the page, then download"
            )
        if blank := len(cells) - len(labelled):
            print(
                f"note: {blank:,} of {len(cells):,} ticked samples have no right label and are "
                "left out",
                file=sys.stderr,
            )
        return values([cells[row] for row in rows], (row + 2 for row in rows))

    return Column(read, True, CORRECTED_KIND, np.array(rows, np.int64))


def values(cells: Sequence[str], lines: Iterable[int]) -> NDArray[Any]:
    """The whole numbers, or the flags, in the cells of these lines; (N,) int64 or bool."""
    kinds = set(cells)
    if kinds and kinds <= _FLAGS.keys():
        return np.array([_FLAGS[cell] for cell in cells])
    found = [_whole(cell) for cell in cells]
    for number, cell, value in zip(lines, cells, found):
        if value is None:
            raise NoiseFileError(f"line {number} has {cell[:40]!r} where a label from 0 on belongs")
    return np.array(found, np.int64)


def _whole(cell: str) -> int | None:
    """The whole number from 0 on in a cell, if it is one."""
    if cell[:1] == "-" or not _NUMBER.fullmatch(cell):
        return None
    if "e" in cell:
        value = float(cell)
        return int(value) if value.is_integer() and value < 2**53 else None
    return int(cell.partition(".")[0]) if len(cell) <= 18 else None


def floats(data: bytes) -> NDArray[np.float64]:
    """A table of numbers without a header, (R, C), from the bytes of a .csv."""
    try:
        lines = decoded(data).strip().replace(";", ",").replace("\t", ",").split("\n")
        if lines == [""]:
            raise ValueError("it is empty")
        table = np.loadtxt(lines, delimiter=",", dtype=np.float64, ndmin=2)
    except ValueError as error:  # a UnicodeDecodeError is one
        raise UnsafeArrayError(
            f"this is not a table of numbers ({str(error)[:100]}): give as many in each line, "
            "separated by commas, and no header"
        ) from error
    return table

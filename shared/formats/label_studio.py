"""Label Studio's exports of reviewed labels as columns: JSON, JSON-MIN, CSV and TSV.

The tasks are those of `python -m compare.report ... --format label-studio`: `data` says which row
of the dataset the sample is (`index`), and what the classes are called, in order (`class_names`, a
list as JSON). The label is the answer to the control `label`; tasks without one, skipped ones among
them, are left out. Several annotators must agree, unless one annotation is the ground truth.

    table = of_export(json.loads(text))     # or of_csv(text)
    table.indices, table.columns[SINGLE].read()         # (n,), (n,): n reviewed samples
"""

import contextlib
import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from shared.formats.columns import SINGLE, Column, Table
from shared.formats.noise_file import CORRECTED_KIND, NoiseFileError

PICTURE, INDEX, CLASSES, CONTROL = "image", "index", "class_names", "label"
_NEEDED = {INDEX, CLASSES}


class _Answer(NamedTuple):
    """What one annotator says of one task."""

    place: str  # of the task, for a message
    data: Mapping[str, Any]
    choice: str
    is_truth: bool = False


def is_export(value: Any) -> bool:
    """Whether a JSON value is one: a list of tasks, or of their data (JSON-MIN)."""
    if not (isinstance(value, list) and value and isinstance(value[0], dict)):
        return False
    data = value[0].get("data", value[0])
    return isinstance(data, dict) and data.keys() >= _NEEDED


def is_csv(text: str) -> bool:
    """Whether the text's first line is the head of such a table, by commas or tabs."""
    head = {cell.strip().strip('"') for cell in _head(text).split(_delimiter(text))}
    return head >= _NEEDED


def _head(text: str) -> str:
    return text.lstrip().split("\n", 1)[0]


def _delimiter(text: str) -> str:
    return "\t" if "\t" in _head(text) else ","


def of_export(value: list[Any]) -> Table:
    """The reviewed labels of a JSON or JSON-MIN export; raises NoiseFileError."""
    return _table(answer for task in value for answer in _of_task(task))


def of_csv(text: str) -> Table:
    """The reviewed labels of a CSV or TSV export; raises NoiseFileError."""
    table = io.StringIO(text, newline="")
    usual = csv.field_size_limit(max(len(text), csv.field_size_limit()))  # a picture is a cell
    try:
        rows = list(csv.DictReader(table, delimiter=_delimiter(text), strict=True))
    except csv.Error as error:
        raise NoiseFileError(f"the text is not a table ({error}): export it again") from error
    finally:
        csv.field_size_limit(usual)
    return _table(answer for row in rows for answer in _of_flat(row))


# ---- answers


def _of_task(task: Any) -> Iterator[_Answer]:
    if not isinstance(task, dict):
        raise NoiseFileError(f"a {type(task).__name__} is among the tasks: export them again")
    if "data" not in task:
        yield from _of_flat(task)
        return
    place = f"task {task.get('id', '?')}"
    annotations, data = task.get("annotations"), task["data"]
    if not isinstance(annotations, list) or not isinstance(data, dict):
        raise NoiseFileError(
            f"{place} has no annotations or no data: export the project as JSON, after its review"
        )
    for each in annotations:
        if not isinstance(each, dict) or each.get("was_cancelled"):
            continue
        results = each.get("result")
        for result in results if isinstance(results, list) else ():
            if isinstance(result, dict) and result.get("from_name") == CONTROL:
                choice = _only(result.get("value"), place)
                yield _Answer(place, data, choice, bool(each.get("ground_truth")))


def _of_flat(row: Mapping[str, Any]) -> Iterator[_Answer]:
    """A row of JSON-MIN or CSV, which has the answer beside the data."""
    place = f"task {row.get('id', '?')}"
    answer = row.get(CONTROL)
    if isinstance(answer, str) and answer.startswith(("{", "[")):
        with contextlib.suppress(ValueError, RecursionError):  # it is the name of a class
            answer = json.loads(answer)
    if answer:
        yield _Answer(place, row, answer if isinstance(answer, str) else _only(answer, place))


def _only(value: Any, place: str) -> str:
    choices = value.get("choices") if isinstance(value, dict) else value
    if isinstance(choices, list) and len(choices) == 1 and isinstance(choices[0], str):
        return choices[0]
    raise NoiseFileError(
        f"{place} has the answer {str(choices)[:60]}: every picture takes one class"
    )


# ---- to labels


def _table(answers: Iterable[_Answer]) -> Table:
    by_sample: dict[int, list[_Answer]] = {}
    for answer in answers:
        by_sample.setdefault(_index(answer), []).append(answer)
    if not by_sample:
        raise NoiseFileError("no task of this export is annotated: export it after the review")
    indices = sorted(by_sample)
    numbers: dict[str, dict[str, int]] = {}  # of each list of classes that occurs
    labels = [_label(by_sample[index], numbers) for index in indices]
    column = Column(lambda: np.array(labels, np.int64), True, CORRECTED_KIND)
    return Table({SINGLE: column}, indices=np.array(indices, np.int64))


def _index(answer: _Answer) -> int:
    index = answer.data.get(INDEX)
    if isinstance(index, str) and index.isascii() and index.isdigit() and len(index) < 18:
        index = int(index)
    if type(index) is not int or not 0 <= index < 2**62:
        raise NoiseFileError(
            f"{answer.place} has {str(index)[:40]!r} as its {INDEX}, which is no row of a dataset: "
            "import the tasks as compare.report wrote them"
        )
    return index


def _label(answers: list[_Answer], numbers: dict[str, dict[str, int]]) -> int:
    """What the annotators of a sample agree on."""
    told = [answer for answer in answers if answer.is_truth] or answers
    choices = sorted({answer.choice for answer in told})
    if len(choices) > 1:
        raise NoiseFileError(
            f"the annotators of {told[0].place} say {' and '.join(choices)[:80]}: agree on one, or "
            "mark it as the ground truth"
        )
    listed = told[0].data.get(CLASSES)
    key = listed if isinstance(listed, str) else json.dumps(listed)
    if key not in numbers:
        numbers[key] = _numbered(key, told[0].place)
    if choices[0] not in numbers[key]:
        raise NoiseFileError(
            f"{told[0].place} has the label {choices[0][:40]!r}, which is none of the classes "
            f"{', '.join(numbers[key])[:80]}"
        )
    return numbers[key][choices[0]]


def _numbered(text: str, place: str) -> dict[str, int]:
    try:
        names = json.loads(text)
    except (ValueError, RecursionError):
        names = None
    if (
        not isinstance(names, list)
        or not all(isinstance(name, str) for name in names)
        or len(set(names)) < len(names)
    ):
        raise NoiseFileError(
            f"{place} has {text[:60]!r} as its {CLASSES}, which is no list of different names: "
            "import the tasks as compare.report wrote them"
        )
    return {name: number for number, name in enumerate(names)}

"""Reads and writes COCO-format annotations so that only the categories of annotations can change.

    source = read("instances_train.json")
    content = encode(source, noisy_ids)        # the bytes of the noisy file; noisy_ids: (N,)

Everything else of the file stays: key order, integers and floats, crowd annotations, fields that no
standard knows. Python's JSON keeps the order of keys and writes each number so that it reads back
as the same; spaces and escapes may differ. Letters: N annotations, in the order of the file.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from shared.coco.classes import CocoError
from shared.formats import safe_arrays
from shared.labels import Labels

# The largest set we know, LVIS, has 1.1 GB.
MAX_FILE_BYTES = 4 * 2**30
_KEYS = ("images", "annotations", "categories")


@dataclass(frozen=True, eq=False)
class CocoFile:
    """Annotations as read. `content` is the whole JSON object and is never changed."""

    content: dict[str, Any]
    category_ids: Labels  # (N,) of the annotations
    annotation_ids: Labels  # (N,) distinct
    categories: Mapping[int, str | None]  # id -> name, in the order of the file
    sha256: str  # of the file's bytes

    def name_of(self, category: int) -> str:
        return self.categories[category] or f"category {category}"


def read(path: str | Path) -> CocoFile:
    """Read and check annotations; raises CocoError that names the file, the place and the fix."""
    data = read_bytes(path)
    try:
        return checked(parse_json(data), data)
    except CocoError as error:
        raise CocoError(f"{path}: {error}") from error


def read_bytes(path: str | Path, what: str = "annotations") -> bytes:
    """The file's bytes; raises CocoError if it cannot be read or is far too large."""
    try:
        return safe_arrays.read_limited(Path(path), MAX_FILE_BYTES, what)
    except FileNotFoundError as error:
        if what == "annotations":
            raise CocoError(f"{what} {path} do not exist: check the path") from error
        raise CocoError(f"cannot read {what} {path}: no such file, check the path") from error
    except (OSError, safe_arrays.UnsafeArrayError) as error:
        reason = getattr(error, "strerror", None) or error
        raise CocoError(f"cannot read {what} {path}: {reason}") from error


def checked(content: Any, data: bytes) -> CocoFile:
    """The annotations in a JSON value, read from a file with these bytes; raises CocoError."""
    if not isinstance(content, dict):
        raise CocoError(
            f"this is a JSON {type(content).__name__}, not COCO annotations: {_EXPECTED}"
        )
    for key in _KEYS:
        if not isinstance(content.get(key), list):
            kind = type(content.get(key)).__name__
            found = f"is a {kind}, not a list" if key in content else "is missing"
            raise CocoError(f"{key!r} {found}: {_EXPECTED}")
    categories = _categories(content["categories"])
    ids = _annotations(content["annotations"], categories)
    return CocoFile(content, *ids, categories, hashlib.sha256(data).hexdigest())


_EXPECTED = (
    "give instance annotations in COCO format, a JSON object with images, annotations "
    "and categories"
)


def parse_json(data: bytes) -> Any:
    """The JSON value in a file's bytes; raises CocoError."""
    try:
        return json.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:  # errors of decoding are ValueErrors
        raise CocoError(f"this is no JSON ({error}): {_EXPECTED}") from error


def _categories(entries: list[Any]) -> dict[int, str | None]:
    found: dict[int, str | None] = {}
    for position, entry in enumerate(entries):
        place = f"categories[{position}]"
        category = _integer(entry, "id", place)
        name = entry.get("name")
        if name is not None and not isinstance(name, str):
            raise CocoError(f"{place} has the name {str(name)[:40]}, no text: correct it")
        if category in found:
            raise CocoError(f"{place} repeats id {category}: give each category one id")
        found[category] = name
    return found


def _annotations(entries: list[Any], categories: Mapping[int, str | None]) -> tuple[Labels, Labels]:
    """Category ids and annotation ids, both (N,)."""
    if not entries:
        raise CocoError(
            "there are no annotations: give the file of labelled images, not of an unlabelled "
            "test set"
        )
    labels, ids = np.empty(len(entries), np.int64), np.empty(len(entries), np.int64)
    for row, entry in enumerate(entries):
        place = f"annotations[{row}]"
        labels[row], ids[row] = _integer(entry, "category_id", place), _integer(entry, "id", place)
        if labels[row] not in categories:
            raise CocoError(
                f"{place} (id {ids[row]}) has category_id {labels[row]}, which 'categories' "
                "lacks: correct one of the two"
            )
    values, counts = np.unique(ids, return_counts=True)
    if len(values) < len(ids):
        raise CocoError(
            f"annotation id {values[counts > 1][0]} occurs more than once: give each annotation "
            "its own id"
        )
    return labels, ids


def _integer(entry: Any, key: str, place: str) -> int:
    """An id. JSON's true and 1.0 would pass for integers in comparisons, and are none."""
    if not isinstance(entry, dict):
        raise CocoError(
            f"{place} is a {type(entry).__name__}, not an object with its fields: {_EXPECTED}"
        )
    value = entry.get(key)
    if type(value) is not int or not 0 <= value < 2**62:
        found = f"has no {key!r}" if key not in entry else f"has {key} {repr(value)[:40]}"
        raise CocoError(f"{place} {found}: give an integer from 0 on")
    return value


def encode(source: CocoFile, category_ids: Labels) -> bytes:
    """The file's bytes with other categories of the annotations.

    category_ids: (N,) ids of the file's categories.
    """
    if len(category_ids) != len(source.category_ids):
        raise CocoError(
            f"{len(category_ids)} category ids for {len(source.category_ids)} annotations: give "
            "one each"
        )
    annotations = [
        # a key that is there keeps its place when it gets another value
        entry if entry["category_id"] == category else {**entry, "category_id": category}
        for entry, category in zip(source.content["annotations"], category_ids.tolist())
    ]
    return json.dumps({**source.content, "annotations": annotations}).encode()


def check_not_input(out: Path, source: Path, flag: str) -> None:
    """Raises CocoError if writing `out` would replace `source`, under whatever name."""
    same = (
        out.samefile(source)
        if out.exists() and source.exists()
        else out.resolve() == source.resolve()
    )
    if same:
        # DEVIATION(noisy_instseg): The clean annotations are never overwritten; the scripts write
        # to any path.
        raise CocoError(f"{flag} {out} is the input file, which would be lost: choose another name")


def is_coco(path: Path) -> bool:
    """Whether a file holds COCO annotations or their manifest, instead of labels."""
    if not path.is_file():  # a pipe would wait for ever; whoever reads it next says what is wrong
        return False
    with path.open("rb") as file:
        start = file.read(64)
    if not start.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"{"):
        return False
    data = read_bytes(path)
    if b'"coco-noise-manifest"' in data:
        return True
    found = [key for key in _KEYS if f'"{key}"'.encode() in data]
    if len(found) in (0, len(_KEYS)):  # as of all real ones, which may be too large to read twice
        return bool(found)
    try:
        return is_annotations(parse_json(data))
    except CocoError:  # which is said when they are read
        return True


def is_annotations(value: Any) -> bool:
    """Whether a JSON value is meant as annotations: one of the keys may be of labels, too."""
    if not isinstance(value, dict):
        return False
    found = [key for key in _KEYS if key in value]
    lists = [item for key, item in value.items() if key not in _KEYS and isinstance(item, list)]
    has_labels = any(item and type(item[0]) is int for item in lists)
    return len(found) > 1 or (len(found) == 1 and not has_labels)

"""Reads and writes COCO-format annotations so that only the categories of annotations can change.

    source = read("instances_train.json")
    content = encode(source, noisy_ids)        # the bytes of the noisy file; noisy_ids: (N,) in the order of the file

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
from shared.labels import Labels


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
    """Read and check a file of annotations; raises CocoError that names the file, the place and the
    fix.
    """
    try:
        data = Path(path).read_bytes()
    except FileNotFoundError as error:
        raise CocoError(f"annotations {path} do not exist: check the path (--ann)") from error
    except OSError as error:
        raise CocoError(f"cannot read annotations {path}: {error.strerror or error}") from error
    try:
        return checked(parse_json(data), data)
    except CocoError as error:
        raise CocoError(f"{path}: {error}") from error


def checked(content: Any, data: bytes) -> CocoFile:
    """The annotations in a JSON value, read from a file with these bytes; raises CocoError."""
    if not isinstance(content, dict):
        raise CocoError(
            f"this is a JSON {type(content).__name__}, not COCO annotations: {_EXPECTED}"
        )
    for key in ("images", "annotations", "categories"):
        if not isinstance(content.get(key), list):
            found = (
                "is missing"
                if key not in content
                else f"is a {type(content[key]).__name__}, not a list"
            )
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
    except (
        ValueError,
        RecursionError,
    ) as error:  # UnicodeDecodeError and JSONDecodeError are ValueErrors
        raise CocoError(f"this is no JSON ({error}): {_EXPECTED}") from error


def _categories(entries: list[Any]) -> dict[int, str | None]:
    found: dict[int, str | None] = {}
    for position, entry in enumerate(entries):
        place = f"categories[{position}]"
        category = _integer(entry, "id", place)
        name = entry.get("name")
        if name is not None and not isinstance(name, str):
            raise CocoError(f"{place} has the name {str(name)[:40]}, no text: mend it")
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
                "lacks: mend one of the two"
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
        found = f"has no {key!r}" if key not in entry else f"has {key} {str(value)[:40]}"
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


def writes(path: Path, content: bytes, force: bool) -> bool:
    """Whether the file has to be written: not if it has this content.

    Raises CocoError if it has another, unless forced.
    """
    if not path.exists():
        return True
    if not path.is_file():
        raise CocoError(f"{path} is not a file: choose another name")
    if path.stat().st_size == len(content) and path.read_bytes() == content:
        return False
    if not force:
        raise CocoError(
            f"{path} exists with other content: choose another name, or overwrite it with --force"
        )
    return True


def is_json_object(path: Path) -> bool:
    """Whether a file begins like a JSON object: annotations and manifests do, and no noise file of
    labels.
    """
    try:
        with path.open("rb") as file:
            start = file.read(64)
    except OSError:
        return False  # whoever reads it next says why
    return start.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"{")

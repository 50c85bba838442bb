"""The manifest of a noisy COCO file: how the noise was made, and which labels are wrong.

    manifest = read_manifest("train_sn20.manifest.json")
    wrong = manifest.changed_annotation_ids          # what a search for wrong labels should find

A JSON object beside the noisy file, one field per line, without dates: the same arguments give the
same bytes. Letters: N annotations, in the order of the file; K categories, in the order of the
file.
"""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.coco import file as coco_file
from shared.coco.classes import CocoError
from shared.labels import Labels

FORMAT = "coco-noise-manifest"
VERSION = 1
_RATES = ("requested_rate", "realised_rate", "realised_rate_flippable")
_COUNTS = ("annotations", "selected", "flippable", "changed")
_TYPES: dict[str, type | tuple[type, ...]] = {  # as JSON has them
    **dict.fromkeys(_RATES, (int, float)),
    **dict.fromkeys((*_COUNTS, "seed"), int),
    "dataset": str,
    "kind": str,
    "mode": str,
    "input_sha256": str,
    "output_sha256": str,
}
_LISTS = (
    "category_ids",
    "category_names",
    "transitions",
    "changed_annotation_ids",
    "clean_category_ids",
)


@dataclass(frozen=True)
class Manifest:
    """The fields of the file, besides `format` and `version`."""

    dataset: str
    kind: str
    mode: str
    seed: int
    requested_rate: float
    annotations: int  # N
    selected: int  # drawn for a flip; in mode original not all of them changed
    flippable: int  # the rule can give them another class
    changed: int
    realised_rate: float  # changed / annotations
    realised_rate_flippable: float  # changed / flippable
    category_ids: list[int]  # (K,)
    category_names: list[str]  # (K,)
    transitions: list[list[int]]  # (K, K) annotations: rows true, columns new category
    input_sha256: str
    output_sha256: str
    changed_annotation_ids: list[int]  # (changed,) in the order of the file
    clean_category_ids: list[int]  # (changed,) their true categories


def encode(manifest: Manifest) -> bytes:
    """The file's bytes, a function of the fields alone."""
    fields = {"format": FORMAT, "version": VERSION, **dataclasses.asdict(manifest)}
    lines = (f"{json.dumps(name)}: {json.dumps(value)}" for name, value in fields.items())
    return ("{\n" + ",\n".join(lines) + "\n}\n").encode()


def read_manifest(path: str | Path) -> Manifest:
    """Read and check a manifest; raises CocoError."""
    try:
        return decode(coco_file.parse_json(coco_file.read_bytes(path, "manifest")))
    except CocoError as error:
        raise CocoError(f"{path}: {error}") from error


def is_manifest(value: object) -> bool:
    """Whether a JSON value says that it is a manifest."""
    return isinstance(value, Mapping) and value.get("format") == FORMAT


def decode(value: Any) -> Manifest:
    """The manifest in a JSON value; raises CocoError where it is none, or contradicts itself."""
    if not is_manifest(value):
        raise CocoError(
            "this is not a manifest of COCO noise: give the .manifest.json that `noise make` wrote"
        )
    if value.get("version") != VERSION:
        raise CocoError(
            f"manifest version {value.get('version')!r} is not {VERSION}: update this "
            "repository or remake it"
        )
    fields = {name: item for name, item in value.items() if name not in ("format", "version")}
    names = {item.name for item in dataclasses.fields(Manifest)}
    if set(fields) != names:
        raise CocoError(
            f"the manifest has wrong fields {sorted(set(fields) ^ names)}: damaged, make it again"
        )
    for name, item in fields.items():
        expected = list if name in _LISTS else _TYPES[name]
        if not isinstance(item, expected) or isinstance(item, bool):
            raise CocoError(
                f"field {name} of the manifest is {str(item)[:40]!r}: damaged, make it again"
            )
    manifest = Manifest(**fields)
    _check(manifest)
    return manifest


def _check(manifest: Manifest) -> None:
    """Rates must be in [0, 1]; lists as long as the counts say, of integers or of names."""
    for name in _RATES:
        if not 0 <= getattr(manifest, name) <= 1:
            raise CocoError(
                f"{name} of the manifest is {str(getattr(manifest, name))[:40]}, not in [0, 1]: "
                "damaged, make it again"
            )
    categories, changed = len(manifest.category_ids), manifest.changed
    lengths = {
        "category_names": categories,
        "transitions": categories,
        "changed_annotation_ids": changed,
        "clean_category_ids": changed,
    }
    for name, length in lengths.items():
        if len(getattr(manifest, name)) != length:
            raise CocoError(
                f"{name} has {len(getattr(manifest, name))} entries, expected {length}: "
                "damaged, make it again"
            )
    rows = manifest.transitions
    if not all(isinstance(row, list) and len(row) == categories for row in rows):
        raise CocoError(
            f"transitions are not {categories} x {categories} counts: damaged, make it again"
        )
    numbers = [
        *manifest.category_ids,
        *manifest.changed_annotation_ids,
        *manifest.clean_category_ids,
    ]
    numbers += [count for row in rows for count in row]
    if not all(type(number) is int and 0 <= number < 2**62 for number in numbers):
        raise CocoError(
            "ids and counts of the manifest are not all integers from 0 on: damaged, make it again"
        )
    if not all(isinstance(name, str) for name in manifest.category_names):
        raise CocoError("category_names of the manifest are not all text: damaged, make it again")
    if sum(map(sum, rows)) != manifest.annotations:
        raise CocoError(
            f"transitions count {sum(map(sum, rows))} of {manifest.annotations} annotations: "
            "damaged, make it again"
        )


def default_path(out: Path) -> Path:
    """Where the manifest of a noisy file is, unless told otherwise: beside it."""
    return out.with_name(out.name.removesuffix(".json") + ".manifest.json")


def transition_counts(clean: Labels, noisy: Labels, category_ids: list[int]) -> NDArray[np.int64]:
    """(K, K) int64, [i, j]: annotations of category_ids[i] that became category_ids[j].

    clean, noisy: (N,) of these ids.
    """
    order = np.argsort(category_ids)
    sorted_ids = np.asarray(category_ids, np.int64)[order]
    rows, columns = (order[np.searchsorted(sorted_ids, ids)] for ids in (clean, noisy))
    size = len(category_ids)
    return np.bincount(rows * size + columns, minlength=size**2).reshape(size, size)

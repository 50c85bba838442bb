"""What users' annotation files lack or have in a form that COCO's evaluation stumbles over.

    content, notes = repaired(content)     # in memory; the file stays as it is

Nothing heavy is imported, so that the data checks and mmdetection's reader (coco_reader.py) use the
same rules. Letters: H W pixels.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.errors import UserError

Content = dict[str, Any]
LONGEST = 7  # characters of a run: 35 bits, more than any image has pixels


def repaired(content: Content) -> tuple[Content, list[str]]:
    """The annotations as evaluation can read them, and what was changed, a sentence each."""
    entries, notes = content["annotations"], []
    if any(entry["id"] == 0 for entry in entries):
        free = 1 + max(entry["id"] for entry in entries)
        entries = [{**entry, "id": entry["id"] or free} for entry in entries]
        notes.append(
            f"annotation 0 counts as number {free}: pycocotools takes a match with an annotation 0 "
            "for no match"
        )
    if lacking := sum("iscrowd" not in entry for entry in entries):
        entries = [{"iscrowd": 0, **entry} for entry in entries]
        notes.append(f"{lacking:,} annotations have no iscrowd, and count as single objects")
    return {**content, "annotations": entries}, notes


def by_name(categories: Sequence[Content], names: Sequence[str]) -> list[int]:
    """The ids of the categories in the order of the names. UserError for a name without category.

    pycocotools gives them in the order of the file, whatever the order of the names.
    """
    ids = {category["name"]: category["id"] for category in categories if "name" in category}
    if missing := [name for name in names if name not in ids]:
        raise UserError(f"the annotations have no category {missing[0]}: give it to them")
    return [ids[name] for name in names]


# ---- masks as run lengths


def wrong_runs(mask: Content, height: int, width: int) -> str:
    """What is wrong with the run lengths of a mask (H, W); empty if nothing is."""
    counts = mask.get("counts")
    if not counts or not isinstance(counts, str | list):
        return "run lengths without counts"
    runs = _numbers(counts) if isinstance(counts, list) else decode_runs(counts)
    if runs is None or (runs < 0).any():
        return f"run lengths that cannot be read ({str(counts)[:40]!r})"
    if (covered := int(runs.sum())) != height * width:
        return f"run lengths of {covered:,} pixels, and the image has {height * width:,}"
    return ""


def _numbers(counts: list[Any]) -> NDArray[np.int64] | None:
    if any(type(count) is not int or abs(count) >= 2**40 for count in counts):
        return None
    return np.array(counts, np.int64)


def decode_runs(counts: str) -> NDArray[np.int64] | None:
    """The run lengths in COCO's compressed text, of background and object in turn; None if torn.

    A character holds 5 bits, the lowest first, and whether the number goes on. From the fourth on
    the numbers are differences to the last but one.
    """
    values = np.array([ord(letter) - 48 for letter in counts], np.int64)
    if values.min() < 0 or values.max() > 63 or values[-1] & 32:
        return None
    ends = np.flatnonzero(values & 32 == 0)
    starts = np.concatenate([[0], ends[:-1] + 1])
    lengths = ends - starts + 1
    if lengths.max() > LONGEST:
        return None
    places = np.arange(len(values)) - np.repeat(starts, lengths)
    numbers = np.add.reduceat((values & 31) << (5 * places), starts)
    numbers -= np.where(values[ends] & 16, 1 << (5 * lengths), 0)
    numbers[1::2] = numbers[1::2].cumsum()
    numbers[2::2] = numbers[2::2].cumsum()
    return numbers

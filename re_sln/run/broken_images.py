"""--skip_broken: which images on disk can be read, checked once and remembered beside them.

What is known is written after every shard, so that a kill loses one of them.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from re_sln.method.disk_images import Opener, readable
from shared.files import write_atomically

SHARD = 10_000  # files
KNOWN = "checked_images.json"  # by shard: the files that cannot be read
NAMED = 20


def whole_images(
    root: Path, names: Sequence[str], workers: int, opened: Opener
) -> NDArray[np.int64]:
    """Positions of the images below `root` that can be read; names and counts the others."""
    known = _read(root / KNOWN)
    broken: list[str] = []
    for start in range(0, len(names), SHARD):
        shard = names[start : start + SHARD]
        key = hashlib.sha256("\n".join(shard).encode()).hexdigest()
        # Those known to be broken may have been repaired.
        unsure = known.get(key, shard)
        whole = np.ones(0, bool)
        if unsure:
            whole = readable([root / name for name in unsure], workers, opened)
        found = [name for name, good in zip(unsure, whole) if not good]
        broken += found
        if known.get(key) != found:
            known[key] = found
            _write(root / KNOWN, known)
    if broken:
        more = f" and {len(broken) - NAMED} more, in {root / KNOWN}" if len(broken) > NAMED else ""
        print(
            f"note: {len(broken)} of {len(names):,} images cannot be read and are left out: "
            f"{', '.join(broken[:NAMED])}{more}"
        )
    left_out = set(broken)
    return np.array([i for i, name in enumerate(names) if name not in left_out], np.int64)


def _read(path: Path) -> dict[str, list[str]]:
    try:
        known: dict[str, list[str]] = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return known


def _write(path: Path, known: dict[str, list[str]]) -> None:
    try:
        write_atomically(path, json.dumps(known, indent=1).encode())
    except OSError as error:
        print(f"note: {path} cannot be written ({error.strerror}): the next start checks again")

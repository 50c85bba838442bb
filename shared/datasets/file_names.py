"""Finds files by the names that others wrote down, with more or fewer folders in front of them."""

import posixpath
import unicodedata
from collections.abc import Sequence
from pathlib import PurePosixPath

import numpy as np

from shared.labels import Labels


def positions(wanted: Sequence[str], names: Sequence[str]) -> Labels:
    """Of M file names their positions in N `names`, (M,) int64; -1: not there, or several are.

    A wanted name may begin with folders that `names` do not have, or lack those that all of them
    have. A bare file name will do where only one file is called so. An accent may be a character of
    its own, as macOS writes it, or not.
    """
    plain = [unicodedata.normalize("NFC", name) for name in names]
    if len(set(plain)) == len(names):
        names, wanted = plain, [unicodedata.normalize("NFC", name) for name in wanted]
    if not len(names):
        return np.full(len(wanted), -1, np.int64)
    common = PurePosixPath(posixpath.commonpath([posixpath.dirname(name) for name in names]))
    rows = {PurePosixPath(name).relative_to(common).parts: row for row, name in enumerate(names)}
    last: dict[str, int] = {}
    for parts, row in rows.items():  # -1: several folders have a file of that name
        last[parts[-1]] = -1 if parts[-1] in last else row

    def find(name: str) -> int:
        parts = PurePosixPath(name.replace("\\", "/")).parts
        ends = (parts[start:] for start in range(len(parts)))
        bare = last.get(parts[-1], -1) if parts else -1
        return next((rows[end] for end in ends if end in rows), bare)

    return np.array([find(name) for name in wanted], np.int64)

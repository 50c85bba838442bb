"""Looking through folders, links included, without running in circles; what to say in vain."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]


def to_get(name: str) -> str:
    """The command that gets a dataset or noise files: make's, or python's where no Makefile is.

    A container has the code alone.
    """
    has_make = (REPOSITORY / "Makefile").is_file()
    return f"make data-{name}" if has_make else f"python -m shared data {name}"


def walk(root: Path, depth: int | None = None) -> Iterator[Path]:
    """`root` and its sub-folders but hidden ones, breadth first, `depth` levels deep.

    Links are followed; a folder that is reached twice comes once.
    """
    seen: set[tuple[int, int]] = set()
    level = [root] if root.is_dir() else []
    while level and (depth is None or depth >= 0):
        found: list[Path] = []
        for folder in level:
            status = folder.stat()
            if (place := (status.st_dev, status.st_ino)) not in seen:
                seen.add(place)
                found.append(folder)
        yield from found
        depth = None if depth is None else depth - 1
        if depth is None or depth >= 0:
            level = [child for folder in found for child in _sub_folders(folder)]


def _sub_folders(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            names = [e.name for e in entries if e.is_dir() and not e.name.startswith(".")]
    except OSError:  # a folder we may not list cannot hold the data
        return []
    return [folder / name for name in sorted(names)]


ARCHIVES = (".zip", ".tar", ".tgz", ".gz", ".7z", ".rar", ".bz2", ".xz")


def missing(
    title: str, wanted: str, root: Path, depth: int, found: Iterable[str], ways: str
) -> str:
    """The message about a dataset that is not there.

    found: what is there instead, a sentence each. ways: how to get it, as lines.
    """
    place = root.absolute()
    exists = "" if root.exists() else " (which does not exist)"
    there = "".join(f"\n  found {text}" for text in dict.fromkeys(found))
    return f"""{title} is missing: {wanted}.
Looked in {place}{exists} and its sub-folders, {depth} levels down.{there}
{ways}
Data in another place: pass its path (--data_path; of ieg_fsr --dataset_dir), or set DATA_ROOT."""


def packed(root: Path, depth: int, words: Iterable[str]) -> list[str]:
    """What is said about archives whose name has one of the words: they want to be unpacked."""
    found = []
    for folder in walk(root, depth):
        with os.scandir(folder) as entries:
            names = sorted(e.name for e in entries if e.name.lower().endswith(ARCHIVES))
        for name in names:
            if any(word in name.lower() for word in words):
                found.append(f"{folder / name}, which is not unpacked: unpack it there")
    return found


def nearest(path: Path, most: int = 5) -> str:
    """The nearest folder above a missing file, and some of what it holds."""
    folder = next(parent for parent in path.parents if parent.is_dir())
    names = sorted(entry.name for entry in folder.iterdir())
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return f"{folder} has {', '.join(names[:most]) or 'nothing'}{more}"

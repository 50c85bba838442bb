"""Where data and noise files are looked for."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from shared.datasets.image_data import DatasetError

T = TypeVar("T")
PROJECT = Path(__file__).parents[1]


def pinned(given: Path | None) -> Path | None:
    """The one folder with all data: --data_path, else $DATA_ROOT; None where nobody named one."""
    root = given or os.environ.get("DATA_ROOT")
    return Path(root).expanduser() if root else None


def data_places(given: Path | None) -> list[Path]:
    """The folders to look in, in this order: the one named, else the original's and the root's."""
    if root := pinned(given):
        return [root]
    published = PROJECT / "data"
    return [*([published] if published.is_dir() else []), PROJECT.parent / "data"]


def first_found(read: Callable[[Path], T], given: Path | None) -> T:
    """What `read` gets from the first place that has it. Raises DatasetError, naming all places."""
    problems: dict[Path, str] = {}
    for place in data_places(given):
        try:
            return read(place)
        except DatasetError as error:
            problems[place] = str(error)
    *others, last = problems
    texts = [problems[last]]
    for place in others:
        same = _without_place(problems[place], place) == _without_place(problems[last], last)
        texts.append(f"Looked in {place} too." if same else problems[place])
    raise DatasetError("\n".join(texts))


def _without_place(problem: str, place: Path) -> str:
    return problem.replace(str(place.absolute()), "").replace(" (which does not exist)", "")

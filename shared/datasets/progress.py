"""How far a long loop is: a bar on a terminal, else a line now and then."""

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

from shared.errors import printable

T = TypeVar("T")
FIRST_SECONDS, EVERY_SECONDS = 5.0, 60.0  # what is done in less needs no line


def watched(items: Iterable[T], total: int, what: str) -> Iterator[T]:
    """The items; shows on stderr how many of `total` their consumer has had.

    Without a terminal there is a line after FIRST_SECONDS and then every EVERY_SECONDS.
    """
    what = printable(what)
    due = time.monotonic() + FIRST_SECONDS
    with tqdm(total=total, desc=what, leave=False, disable=None) as bar:
        for number, item in enumerate(items, start=1):
            yield item
            bar.update()
            if bar.disable and time.monotonic() >= due:
                print(f"{what}: {number:,} of {total:,}", file=sys.stderr, flush=True)
                due = time.monotonic() + EVERY_SECONDS

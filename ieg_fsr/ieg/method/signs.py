"""Signs of life of what takes long: a bar in a terminal, else a line about every minute."""

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

EVERY = 60.0  # seconds
Item = TypeVar("Item")


class Pulse:
    """Whether it is time to say something again."""

    def __init__(self) -> None:
        self._said = time.monotonic()

    def due(self) -> bool:
        """True about once a minute."""
        now = time.monotonic()
        if now - self._said < EVERY:
            return False
        self._said = now
        return True


def watched(items: Iterable[Item], what: str, total: int) -> Iterator[Item]:
    """The items, of which there are `total`, while it is shown how far they are."""
    if sys.stderr.isatty():
        yield from tqdm(items, desc=what, total=total, leave=False)
        return
    pulse = Pulse()
    for number, item in enumerate(items, 1):
        yield item
        if pulse.due():
            print(f"{what}: {number} of {total} batches", flush=True)

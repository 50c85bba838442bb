"""Signs of life: a bar on a terminal; without one a line at the start and about every minute."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

from noisy_instseg.run.device import is_first_process
from noisy_instseg.run.errors import say

T = TypeVar("T")
EVERY = 60.0  # seconds


class Progress:
    """Counts what is done, on stderr, by the first process alone.

    total: of `unit`s; least: below so many there is no line at the start.
    """

    def __init__(self, title: str, total: int, unit: str, least: int = 0) -> None:
        self.title, self.total, self.unit, self.done = title, total, unit, 0
        self.told = time.monotonic()
        self.bar = None
        if is_first_process() and sys.stderr.isatty():
            self.bar = tqdm(total=total, desc=title, unit=unit, leave=False)
        elif total >= least:
            say(f"{title}: {total:,} {unit}s")

    def step(self, more: Callable[[], str] = str, count: int = 1) -> None:
        """more: what else there is to say, called only when it is said."""
        self.done += count
        if self.bar is not None:
            self.bar.update(count)
        if (now := time.monotonic()) - self.told >= (1.0 if self.bar is not None else EVERY):
            self.told, words = now, more()
            if self.bar is not None:
                self.bar.set_postfix_str(words, refresh=False)
            else:
                rest = f", {words}" if words else ""
                say(f"{self.title}: {self.unit} {self.done:,} of {self.total:,}{rest}")

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()


def watched(items: Iterable[T], title: str, total: int, unit: str, least: int = 0) -> Iterator[T]:
    """The items, with a Progress over them."""
    progress = Progress(title, total, unit, least)
    try:
        for item in items:
            yield item
            progress.step()
    finally:
        progress.close()

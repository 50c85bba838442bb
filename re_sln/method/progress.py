"""Signs of life inside a long pass: a bar on a terminal, elsewhere a line about every minute."""

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from torch import Tensor
from tqdm import tqdm

T = TypeVar("T")
SECONDS = 60.0  # between two lines, and between two losses read from the device


class _Clock:
    """When the next line is due; the first one is at once."""

    def __init__(self) -> None:
        self._next = 0.0

    def is_due(self) -> bool:
        now = time.monotonic()
        if now < self._next:
            return False
        self._next = now + SECONDS
        return True


_clock = _Clock()


def watched(
    batches: Iterable[T],
    what: str,
    steps: int,
    images: int,
    loss: Callable[[], Tensor] | None = None,
) -> Iterator[T]:
    """The batches; shows how far their consumer is.

    steps: batches in all; images: in all of them; loss: that of the last step, a scalar on the
    device, which is read once a minute at most.
    """
    start = time.monotonic()
    with tqdm(total=steps, desc=what, unit="step", leave=False, disable=None) as bar:
        if bar.disable and _clock.is_due():
            _say(f"{what}: {steps} steps, {images:,} images")
        for step, batch in enumerate(batches, start=1):
            yield batch
            bar.update()
            if not _clock.is_due():
                continue
            value = None if loss is None else loss().item()
            if not bar.disable:
                bar.set_postfix({} if value is None else {"loss": f"{value:.3g}"})
                continue
            rate = images * step / steps / max(time.monotonic() - start, 1e-6)
            shown = "" if value is None else f", loss {value:.3g}"
            _say(f"{what}: step {step} of {steps}{shown}, {rate:.0f} images/s")


def _say(text: str) -> None:
    if os.environ.get("RANK", "0") == "0":  # of torchrun's processes the first one speaks for all
        print(text, file=sys.stderr, flush=True)

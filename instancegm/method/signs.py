"""Signs of life from a loop over batches: on a terminal a bar, else a line about every minute."""

import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

from torch import Tensor
from tqdm import tqdm

Batch = TypeVar("Batch")


class SignsOfLife:
    """Shows how far the loops of a run are. One object serves all of them, one after the other.

    Without a terminal there is a line after the first batch and then one every `seconds`, over all
    loops together, so that short epochs say nothing. seconds: None is silence.
    """

    def __init__(self, seconds: float | None = 60.0) -> None:
        self._seconds = seconds
        self._due = -float("inf")

    def over(
        self,
        batches: Iterable[Batch],
        total: int,
        title: str,
        images: int,
        losses: Sequence[Tensor] = (),
    ) -> Iterator[Batch]:
        """The batches, unchanged.

        total: how many there are; images: in one of them; losses: the caller's list, to which each
        step adds one. The newest is looked at when it is shown and at no other time: on a GPU that
        waits for it.
        """
        if self._seconds is None:
            yield from batches
            return
        start = time.perf_counter()
        on_terminal = sys.stderr.isatty()
        with tqdm(total=total, desc=title, leave=False, disable=not on_terminal) as bar:
            for step, batch in enumerate(batches, start=1):
                yield batch
                bar.update()
                now = time.perf_counter()
                if now < self._due or step == total:  # whoever called says that it is done
                    continue
                self._due = now + self._seconds
                loss = f", loss {losses[-1].flatten()[0].item():.2f}" if losses else ""
                speed = f"{step * images / (now - start):.0f} images/s"
                if on_terminal:
                    bar.set_postfix_str(f"{loss[2:]}, {speed}" if loss else speed)
                else:
                    print(f"{title}: step {step} of {total}{loss}, {speed}", flush=True)


SILENT = SignsOfLife(None)

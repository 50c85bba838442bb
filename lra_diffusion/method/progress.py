"""Signs of life in an epoch or a pass over images: on a terminal a bar, else a line a minute."""

import sys
import time
from collections.abc import Iterator, Sequence, Sized
from typing import TypeVar

from torch import Tensor
from tqdm import tqdm

SECONDS = 60.0  # between two lines, and between two looks at the loss, which wait for the device

T = TypeVar("T", bound=Sized)


def watched(
    batches: Sequence[T],
    title: str,
    *,
    losses: Sequence[Tensor] = (),
    unit: str = "images",
    announced: bool = False,
) -> Iterator[T]:
    """The batches, one by one; meanwhile it is shown how far they are.

    losses: scalars on the device that the loop appends to; the last one is shown. announced: say
    something at the start, too, where there is no terminal; before the first epoch a run does.
    """
    on_terminal = sys.stderr.isatty()
    if announced and not on_terminal:
        total = sum(map(len, batches))
        tqdm.write(f"{title}: {total:,} {unit} in {len(batches):,} steps", file=sys.stdout)
    start = shown = time.monotonic()
    done = 0
    with tqdm(total=len(batches), desc=title, leave=False, disable=not on_terminal) as bar:
        for step, batch in enumerate(batches, start=1):
            yield batch
            done += len(batch)
            bar.update()
            if (now := time.monotonic()) - shown >= SECONDS:
                shown = now
                loss = f"loss {losses[-1].item():.4g}" if losses else ""
                bar.set_postfix_str(loss, refresh=False)
                if not on_terminal and step < len(batches):
                    parts = [f"step {step:,} of {len(batches):,}", loss]
                    parts.append(f"{done / (now - start):,.0f} {unit}/s")
                    line = f"{title}: {', '.join(filter(None, parts))}"
                    tqdm.write(line, file=sys.stdout)
                    sys.stdout.flush()

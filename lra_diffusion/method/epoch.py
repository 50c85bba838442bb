"""What every training epoch needs: its random numbers, its batches, and the check of its losses.

Every draw comes from a generator made from (seed, epoch, stream name), so an epoch can be repeated
without any state to restore. Letters: M samples, B batch.
"""

import zlib
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from lra_diffusion.method.ranks import ALONE, Ranks


class NonFiniteLossError(FloatingPointError):
    """A loss is NaN or infinite."""


# DEVIATION(lra_diffusion): every random number follows from --seed, epoch and purpose, so that a
# resumed run continues bit for bit; the original seeds the global generators once.
def stream_seed(seed: int, epoch: int, stream: str) -> int:
    """A 32-bit seed that depends on all three arguments."""
    entropy = [seed, epoch, zlib.crc32(stream.encode())]
    return int(np.random.SeedSequence(entropy).generate_state(1)[0])


def torch_stream(device: torch.device | str, seed: int, epoch: int, stream: str) -> torch.Generator:
    """A generator on `device` for one stream of one epoch."""
    return torch.Generator(device).manual_seed(stream_seed(seed, epoch, stream))


def in_order(
    count: int, batch_size: int, device: torch.device, ranks: Ranks = ALONE
) -> Sequence[Tensor]:
    """0 ... count - 1 in batches; of several ranks, each gets those of its rows."""
    return torch.split(ranks.part(torch.arange(count, device=device)), batch_size)


def shuffled(
    samples: Tensor, batch_size: int, generator: torch.Generator, drop_last: bool = False
) -> Sequence[Tensor]:
    """The samples (M,) in random order, in batches; a smaller last one stays unless `drop_last`."""
    order = torch.randperm(len(samples), device=samples.device, generator=generator)
    batches = torch.split(samples[order], batch_size)
    incomplete = len(batches) > 1 and len(batches[-1]) < batch_size
    return batches[:-1] if drop_last and incomplete else batches


def check_finite(batch_losses: Sequence[Tensor], epoch: int) -> None:
    """Raises NonFiniteLossError for the first scalar that is not finite; waits for the device."""
    losses = torch.stack(list(batch_losses))
    finite = torch.isfinite(losses)
    if not finite.all():
        step = int((~finite).nonzero()[0])
        raise NonFiniteLossError(
            f"epoch {epoch}, step {step + 1} of {len(losses)}: loss {losses[step].item()}"
        )

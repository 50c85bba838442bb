"""The processes (ranks) that train one run together, each on its rows of every batch.

A batch is that of all ranks together. Each draws the random numbers of the whole batch and works on
its own rows, so samples and targets follow from seed and epoch, however many ranks there are. What
needs all rows is summed up or gathered, and then equal on all ranks.

Gradients: a loss is made of `total` and `mean`. It has the value of the whole batch on every rank,
and its gradient, averaged over the ranks by DistributedDataParallel, is that of the whole batch.

Kept byte-identical in every torch project.
"""

from collections.abc import Callable
from dataclasses import dataclass
from inspect import signature
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch import distributed as dist

T = TypeVar("T")


@dataclass(frozen=True)
class Ranks:
    """This process among those of the run; alone unless torchrun started it, see run/launch.py."""

    rank: int = 0
    size: int = 1

    @property
    def is_first(self) -> bool:
        """The first rank alone writes and prints."""
        return self.rank == 0

    def rows(self, count: int) -> slice:
        """Its rows of a batch of `count` > 0.

        At least two, if there are so many, as batch normalisation needs; where that leaves it none,
        since every rank takes part in every step, two of another's, which `mean` and `gather` do
        not count.
        """
        start, stop = self._bounds(count, self.rank)
        return slice(start, stop) if start < stop else slice(0, min(count, 2))

    def own(self, count: int) -> int:
        """How many of its `rows` of a batch are its own: all, or none where they are another's."""
        start, stop = self._bounds(count, self.rank)
        return stop - start

    def part(self, batch: Tensor) -> Tensor:
        """Its rows of a batch (B, ...)."""
        return batch[self.rows(len(batch))]

    def mean(self, values: Tensor, count: int) -> Tensor:
        """Mean over a batch (count, ...); values: of its own rows."""
        if self.size == 1:
            return values.mean()
        return self.total(values[: self.own(count)].sum()) / (count * values[0].numel())

    def total(self, value: Tensor) -> Tensor:
        """Sum over the ranks."""
        if self.size == 1:
            return value
        summed: Tensor = _Total.apply(value, self.size)
        return summed

    def gather(self, rows: Tensor, count: int) -> Tensor:
        """The whole batch (count, ...), without gradient; rows: of its own rows."""
        if self.size == 1:
            return rows
        bounds = [self._bounds(count, rank) for rank in range(self.size)]
        longest = max(stop - start for start, stop in bounds)
        padded = rows.new_zeros(longest, *rows.shape[1:])
        padded[: self.own(count)] = rows[: self.own(count)].detach()
        parts = [torch.empty_like(padded) for _ in bounds]
        dist.all_gather(parts, padded)
        return torch.cat([part[: stop - start] for part, (start, stop) in zip(parts, bounds)])

    def parallel(self, net: nn.Module, sync_bn: bool = False) -> nn.Module:
        """What training calls in place of the network: its gradients are averaged over the ranks.

        The network itself is what is tested and saved. sync_bn: batch normalisation over the whole
        batch, in place of each rank's rows (GPU only).
        """
        if self.size == 1:
            return net
        device = next(net.parameters()).device
        if sync_bn:
            net = nn.SyncBatchNorm.convert_sync_batchnorm(net)
        # Each rank has running statistics of its own until `share_buffers`: a broadcast before
        # each forward pass would change what an earlier one of the same step still needs.
        known = signature(nn.parallel.DistributedDataParallel).parameters
        renamed = "forward_sync_buffers" in known  # in torch 2.13
        options: dict[str, Any] = {
            "device_ids": [device] if device.type == "cuda" else None,
            "forward_sync_buffers" if renamed else "broadcast_buffers": False,
        }
        return nn.parallel.DistributedDataParallel(net, **options)

    def share_buffers(self, *nets: nn.Module) -> None:
        """Running statistics of the first rank for all, as nn.DataParallel keeps them."""
        if self.size > 1:
            for buffer in (buffer for net in nets for buffer in net.buffers()):
                dist.broadcast(buffer, src=0)

    def same(self, compute: Callable[[], T]) -> T:
        """What the first rank computes (anything that can be pickled, on the CPU), on every one."""
        if self.size == 1:
            return compute()
        found: list[Any] = [compute() if self.is_first else None]
        dist.broadcast_object_list(found, src=0, device=torch.device("cpu"))
        result: T = found[0]
        return result

    def each(self, value: T) -> list[T]:
        """What every rank has (anything that can be pickled, on the CPU), the first one's first."""
        if self.size == 1:
            return [value]
        found: list[Any] = [None] * self.size
        dist.all_gather_object(found, value)
        return found

    def wait(self) -> None:
        """Until all ranks are here."""
        self.each(None)

    def _bounds(self, count: int, rank: int) -> tuple[int, int]:
        busy = max(1, min(self.size, count // 2))  # ranks that have rows, two or more
        return count * min(rank, busy) // busy, count * min(rank + 1, busy) // busy


ALONE = Ranks()


class _Total(torch.autograd.Function):
    """Sum over the ranks, whose gradient is for the own summand `size` times the one that comes in.

    DistributedDataParallel divides by that again.
    """

    @staticmethod
    def forward(ctx: Any, value: Tensor, size: int) -> Tensor:
        ctx.size = size
        summed = value.clone()
        dist.all_reduce(summed)
        return summed

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0] * ctx.size, None

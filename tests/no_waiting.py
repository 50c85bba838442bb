"""A stand-in for a GPU that must not be waited for: `with NothingWaits(): <the loop over steps>`.

On a GPU the host runs ahead of the device until it asks for a value or a size; each such question
costs the time that the device is behind. On a CPU they are free, so that only this sees them.
"""

from typing import Any, Self

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

ATEN = torch.ops.aten
# Operators whose result, or its size, the host needs.
ASKING = {
    ATEN._local_scalar_dense,  # item, bool(tensor), float(tensor)
    *(ATEN.nonzero, ATEN.masked_select, ATEN._unique, ATEN._unique2, ATEN.unique_consecutive),
    *(ATEN.repeat_interleave, ATEN.bincount, ATEN.equal),
}
INDEXING = {ATEN.index, ATEN.index_put, ATEN.index_put_}
READING = ("cpu", "numpy", "tolist", "__array__")  # methods that no operator stands for


class Waited(AssertionError):
    """Something asked the device for a value."""


class NothingWaits(TorchDispatchMode):
    """Raises Waited at the line that would wait. F.one_hot may: on CPUs alone it checks ranges."""

    def __enter__(self) -> Self:
        self._methods = {name: getattr(Tensor, name) for name in READING}
        self._one_hot = torch.nn.functional.one_hot
        for name in READING:
            setattr(Tensor, name, _refused(name))
        torch.nn.functional.one_hot = _one_hot
        return super().__enter__()

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)
        torch.nn.functional.one_hot = self._one_hot
        for name, method in self._methods.items():
            setattr(Tensor, name, method)

    def __torch_dispatch__(
        self, operator: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        packet = operator.overloadpacket
        masks = packet in INDEXING and any(
            each is not None and each.dtype in (torch.bool, torch.uint8) for each in args[1]
        )
        if packet in ASKING or masks:
            raise Waited(f"{operator} waits for the device")
        return operator(*args, **(kwargs or {}))


def _refused(name: str) -> Any:
    def refuse(*_: object, **__: object) -> None:
        raise Waited(f"Tensor.{name} waits for the device")

    return refuse


def _one_hot(labels: Tensor, num_classes: int) -> Tensor:
    """As the function on a GPU, which does not look at the labels first."""
    zeros = torch.zeros(*labels.shape, num_classes, dtype=torch.int64, device=labels.device)
    return zeros.scatter(-1, labels.unsqueeze(-1), 1)

"""torch's SGD and Adam without its compiler, which takes seconds to import.

The methods of torch.optim are wrapped so that torch.compile leaves them alone, and the wrapper
imports the compiler at the first call, two to three seconds of every run. Nothing here compiles an
optimizer, so these are the same methods without the wrapper: the same numbers, the same state.

Kept byte-identical in every torch project.
"""

import inspect
from typing import TypeVar

import torch

T = TypeVar("T", bound=torch.optim.Optimizer)
WRAPPED = ("add_param_group", "load_state_dict", "state_dict", "zero_grad")


def _plain(optimizer: type[T]) -> type[T]:
    methods = {name: inspect.unwrap(getattr(optimizer, name)) for name in WRAPPED}
    step = torch.no_grad()(inspect.unwrap(optimizer.step))
    return type(optimizer.__name__, (optimizer,), {**methods, "step": step})


SGD, Adam = _plain(torch.optim.SGD), _plain(torch.optim.Adam)

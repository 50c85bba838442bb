"""MO: the EMA model (the paper's momentum model), which is tested and which corrects the labels."""

import torch
from torch import nn


class MomentumModel:
    """theta' <- alpha theta' + (1 - alpha) theta after every step; no bias correction, no warm-up.

    Every floating entry of the state is averaged, the running statistics of batch normalisation
    too; integer entries (`num_batches_tracked`) stay unchanged. Both networks start from the
    weights of `average`.
    """

    # DEVIATION(re_sln): the EMA runs on a CPU too; the original's type test knows CUDA tensors
    # only, and crashes there.
    def __init__(self, net: nn.Module, average: nn.Module, decay: float) -> None:
        net.load_state_dict(average.state_dict())
        self.net = average.requires_grad_(False).eval()
        self._weight = 1.0 - decay
        pairs = zip(average.state_dict().values(), net.state_dict().values())
        self._average, self._current = zip(*(pair for pair in pairs if pair[0].is_floating_point()))

    @torch.no_grad()
    def update(self) -> None:
        torch._foreach_lerp_(self._average, self._current, self._weight)

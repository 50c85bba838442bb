"""The average of the weights: an exponential moving average of predictor and, where it is trained,
diffusion encoder.
"""

import copy
from collections.abc import Sequence

import torch
from torch import nn


# DEVIATION(lra_diffusion): the average of the weights covers every trained part and is tested; the
# original averages the predictor alone and never uses it.
class WeightAverage:
    """theta' <- mu theta' + (1 - mu) theta after every step, without bias correction; theta' starts
    as theta.

    Every floating entry of the state is averaged, the running statistics of batch normalisation
    too; integer entries stay as they are. `nets` are the averaged copies, in the order of the
    originals.
    """

    def __init__(self, nets: Sequence[nn.Module], decay: float) -> None:
        self.nets = [copy.deepcopy(net).requires_grad_(False).eval() for net in nets]
        self._weight = 1.0 - decay
        pairs = [
            pair
            for average, net in zip(self.nets, nets)
            for pair in zip(average.state_dict().values(), net.state_dict().values())
            if pair[0].is_floating_point()
        ]
        self._average, self._current = zip(*pairs)

    @torch.no_grad()
    def update(self) -> None:
        torch._foreach_lerp_(self._average, self._current, self._weight)

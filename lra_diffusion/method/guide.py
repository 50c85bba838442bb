"""The guide of the diffusion: f_p's feature of each training image and the labels retrieved for it.

Two ways to the same thing: `Cached`, where features and neighbours are computed once, and
`OnTheFly`, where the query is the feature of the augmented image, computed in every step.
Letters: N training images, B batch, k neighbours, D features, H W pixels.
"""

from collections.abc import Callable
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from lra_diffusion.method.images import Autocast
from lra_diffusion.method.ranks import ALONE, Ranks
from lra_diffusion.method.retrieval import Bank, candidate_labels


class Guidance(NamedTuple):
    """features: (B, D) float32; candidates: (B, k + 1) int64, the labels to draw from."""

    features: Tensor
    candidates: Tensor


class Guide(Protocol):
    def __call__(self, index: Tensor, images: Tensor) -> Guidance:
        """Of training images `index` (B,), shown as `images` (B, 3, H, W)."""


class Cached:
    """Features (N, D) and neighbours computed once, of the images themselves."""

    def __init__(
        self,
        features: Tensor,
        bank: Bank,
        labels: Tensor,
        k: int,
        exclude_self: bool,
        ranks: Ranks = ALONE,
    ) -> None:
        own_rows = torch.arange(len(features), device=features.device) if exclude_self else None
        self.features = features
        index = bank.nearest_rows(features, k, own_rows, ranks)
        self.candidates = candidate_labels(index, labels, labels)

    def __call__(self, index: Tensor, images: Tensor) -> Guidance:
        return Guidance(self.features[index], self.candidates[index])


class OnTheFly:
    """f_p looks at each augmented image, whose neighbours are searched in the bank.

    encoder: f_p, images (B, 3, H, W) to features (B, D) float32.
    """

    def __init__(
        self,
        encoder: Callable[[Tensor], Tensor],
        bank: Bank,
        labels: Tensor,
        k: int,
        exclude_self: bool,
        autocast: Autocast,
    ) -> None:
        self._encoder, self._bank, self._labels, self._k = encoder, bank, labels, k
        self._exclude_self, self._autocast = exclude_self, autocast

    @torch.no_grad()
    def __call__(self, index: Tensor, images: Tensor) -> Guidance:
        with self._autocast():
            features = self._encoder(images)
        own_rows = index if self._exclude_self else None
        neighbours = self._bank.nearest(features, self._k, own_rows).index
        return Guidance(features, candidate_labels(neighbours, self._labels, self._labels[index]))

"""Labels by reverse diffusion, fast: what does not change between the S steps is computed once.

The embedding's batch normalisation and the feature's part of the first layer are the same in all
steps, and at a fixed time each gate and its batch normalisation together are one scale and one
shift. What remains of a step is two F x F products. The result is that of `diffusion.ddim` around
the predictor in eval mode, to rounding. Letters: B batch, C classes, D features, F hidden width, S
steps.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lra_diffusion.diffusion import ReverseSteps, class_probabilities, ddim
from lra_diffusion.networks import NoisePredictor, TimeGatedLinear

BATCH = 10_000  # images at once; changes the speed only


class LabelSampler:
    """The reverse process of one predictor, with its weights as they are now."""

    @torch.no_grad()
    def __init__(self, predictor: NoisePredictor, steps: ReverseSteps) -> None:
        self._predictor, self._steps = predictor.eval(), steps
        layers = (
            (predictor.lin1, predictor.unetnorm1),
            (predictor.lin2, predictor.unetnorm2),
            (predictor.lin3, predictor.unetnorm3),
        )
        self._gates = [_folded(layer, norm, steps.times) for layer, norm in layers]
        self._norm = _scale_and_shift(predictor.norm)
        self._from_label, self._from_feature = predictor.lin1.lin.weight.split(
            [predictor.num_classes, predictor.feature_dim], dim=1
        )

    @torch.no_grad()
    def trajectory(self, embedding: Tensor, feature: Tensor) -> Tensor:
        """The points y of the reverse process, (S + 1, B, C).

        embedding: (B, F); feature: (B, D).
        """
        predictor = self._predictor
        scale, shift = self._norm
        image = embedding.float() * scale + shift
        constant = F.linear(feature, self._from_feature)
        (scale1, shift1), (scale2, shift2), (scale3, shift3) = self._gates

        def predict_noise(y: Tensor, i: int) -> Tensor:
            hidden = (
                F.softplus((F.linear(y, self._from_label) + constant) * scale1[i] + shift1[i])
                * image
            )
            hidden = F.softplus(F.linear(hidden, predictor.lin2.lin.weight) * scale2[i] + shift2[i])
            hidden = F.softplus(F.linear(hidden, predictor.lin3.lin.weight) * scale3[i] + shift3[i])
            return predictor.lin4(hidden)

        start = torch.zeros(len(embedding), predictor.num_classes, device=embedding.device)
        return torch.stack(ddim(predict_noise, start, self._steps))

    def probabilities(self, embedding: Tensor, feature: Tensor) -> Tensor:
        """Class probabilities (N, C) of images with embedding (N, F) and feature (N, D), in
        batches.
        """
        parts = zip(embedding.split(BATCH), feature.split(BATCH))
        return torch.cat([class_probabilities(self.trajectory(*part)[-1]) for part in parts])


def _scale_and_shift(norm: nn.BatchNorm1d) -> tuple[Tensor, Tensor]:
    """Batch normalisation in eval mode as x * scale + shift, (F,) each."""
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    return scale, norm.bias - norm.running_mean * scale


def _folded(layer: TimeGatedLinear, norm: nn.BatchNorm1d, times: Tensor) -> tuple[Tensor, Tensor]:
    """BN(gate(t) * (W v + b)) as (W v) * scale + shift, (S, F) each."""
    scale, shift = _scale_and_shift(norm)
    gates = layer.embed(times) * scale
    return gates, gates * layer.lin.bias + shift

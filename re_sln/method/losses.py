"""Losses and label rules of SLN: noise on the targets, and label correction by the EMA model.

Chen, Chen, Ye, Zhao, Heng, "Noise against noise", ICLR 2021. Letters: N samples, B batch, C
classes. All in float32, whatever autocast says.
"""

import torch
from torch import Tensor
from torch.nn import functional as F


def one_hot(labels: Tensor, num_classes: int) -> Tensor:
    """(B,) int64 in [0, C) to (B, C) float32."""
    return F.one_hot(labels, num_classes).float()


def perturb(targets: Tensor, sigma: float, generator: torch.Generator) -> Tensor:
    """Stochastic label noise: t = y + sigma z with fresh z ~ N(0, I_C); sigma = 0 draws nothing.

    targets: (B, C) float. The result is neither clipped nor normalised: entries may be negative,
    and so may the loss.
    """
    if sigma == 0:
        return targets
    return targets + sigma * torch.randn(targets.shape, device=targets.device, generator=generator)


def soft_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """-sum_k t_k log softmax(logits)_k of each sample: (B,).

    logits: (B, C); targets: (B, C), any real numbers.

    Its gradient is (sum_k t_k) softmax(logits) - t, whose mean over the noise is that of
    cross-entropy.
    """
    wide_enough = torch.promote_types(logits.dtype, torch.float32)
    return -(targets * F.log_softmax(logits, dim=1, dtype=wide_enough)).sum(dim=1)


def correction_weights(losses: Tensor) -> Tensor:
    """w = (l - min l) / (max l - min l) over the whole training set, (N,) in [0, 1]; losses: (N,).

    A high loss gives a weight near 1, which keeps the noisy label; a low one trusts the prediction.
    That is the direction of both published codes, though other methods have it the other way round.
    """
    low, high = losses.min(), losses.max()
    # DEVIATION(re_sln): equal losses keep the noisy labels; the original divides zero by zero.
    return torch.where(high > low, (losses - low) / (high - low), 1.0)


def corrected_targets(weights: Tensor, given: Tensor, predicted: Tensor) -> Tensor:
    """T = w y + (1 - w) p.

    weights: (N,); given: (N, C) the noisy one-hot labels; predicted: (N, C) one-hot or soft.
    """
    return torch.lerp(predicted, given, weights[:, None])

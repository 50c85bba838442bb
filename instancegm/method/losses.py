"""The losses and label rules of InstanceGM (Garg et al., WACV 2023) as pure functions.

The first half is DivideMix (Li, Socher & Hoi, ICLR 2020), the second the generative part that comes
from CausalNL (Yao et al., NeurIPS 2021) with a continuous Bernoulli image likelihood (Loaiza-Ganem
& Cunningham, NeurIPS 2019).

Shapes: B labelled rows, U unlabelled rows, R any rows, C classes, Z latent size, H W pixels.
Everything is computed in float32, whatever autocast says: logarithms of bfloat16 probabilities lose
the small ones.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from instancegm.method.settings import CIFAR_WEIGHTS, Numerics, VaeWeights


def wide(values: Tensor) -> Tensor:
    """bfloat16 and float16 as float32; float32 and float64 as they are."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def one_hot(labels: Tensor, num_classes: int) -> Tensor:
    """One-hot rows, (R, C) float32, of labels (R,) int64 in [0, C)."""
    rows = torch.zeros(len(labels), num_classes, device=labels.device)
    # F.one_hot would wait for the device to check the range
    return rows.scatter_(1, labels[:, None], 1.0)


def sharpen(probs: Tensor, temperature: float) -> Tensor:
    """Temperature sharpening p^(1/T) / sum p^(1/T).

    probs: (R, C), rows sum to 1; temperature: in (0, 1].
    """
    # The powers themselves underflow at a low temperature.
    return F.softmax(probs.log() / temperature, dim=1)


def co_guess(view_logits: list[Tensor], temperature: float) -> Tensor:
    """Targets of unlabelled rows (DivideMix eq. 7): sharpened mean prediction of both networks.

    view_logits: of each network on each of two augmentations, (U, C). Returns (U, C), rows sum to
    1.
    """
    probs = torch.stack([F.softmax(wide(logits), dim=1) for logits in view_logits])
    return sharpen(probs.mean(dim=0), temperature)


def co_refine(
    view_logits: list[Tensor], noisy_targets: Tensor, clean_prob: Tensor, temperature: float
) -> Tensor:
    """Targets of labelled rows (DivideMix eq. 3-4): noisy label and prediction mixed by clean_prob.

    view_logits: the network's logits on each augmentation, (B, C); noisy_targets: (B, C) one-hot;
    clean_prob: (B,) in [0, 1]. Returns (B, C), rows sum to 1.
    """
    probs = torch.stack([F.softmax(wide(logits), dim=1) for logits in view_logits]).mean(dim=0)
    weight = clean_prob[:, None]
    return sharpen(weight * noisy_targets + (1.0 - weight) * probs, temperature)


def mixup(
    rows: Tensor, partner: Tensor, coefficient: float, own: Tensor | slice = slice(None)
) -> Tensor:
    """Convex combination of the rows, or of some of them, with the rows in another order.

    rows: (R, ...); partner: (R,) int64; coefficient: in [0.5, 1]; own: (r,) int64, which ones.
    """
    return torch.lerp(rows[partner[own]], rows[own], coefficient)


def soft_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """L_x (DivideMix eq. 9): mean over rows of -sum_c target log softmax.

    logits, targets: (B, C). A scalar.
    """
    return -(targets * F.log_softmax(wide(logits), dim=1)).sum(dim=1).mean()


def squared_error(logits: Tensor, targets: Tensor) -> Tensor:
    """L_u (DivideMix eq. 10): mean over rows AND classes of (softmax - target)^2.

    logits, targets: (U, C). A scalar.
    """
    return (F.softmax(wide(logits), dim=1) - targets).square().mean()


def negative_entropy(logits: Tensor) -> Tensor:
    """Mean over rows of sum_c p log p, which punishes confidence; a scalar. logits: (R, C).

    Published with DivideMix for asymmetric noise, used by InstanceGM's warm-up on Clothing1M.
    """
    log_probs = F.log_softmax(wide(logits), dim=1)
    return (log_probs.exp() * log_probs).sum(dim=1).mean()


def class_balance_penalty(logits: Tensor) -> Tensor:
    """KL(uniform || mean prediction) over all rows (DivideMix eq. 11); a scalar. logits: (R, C)."""
    log_mean = torch.logsumexp(F.log_softmax(wide(logits), dim=1), dim=0) - math.log(len(logits))
    # In log space, since a class that nobody predicts must not give log 0.
    return -math.log(logits.shape[1]) - log_mean.mean()


def unlabelled_weight(epoch: float, warm_up: int, lambda_u: float, ramp_epochs: int = 16) -> float:
    """lambda(e) = lambda_u clip((e - warm_up) / 16, 0, 1), e in epochs and fractions of one."""
    return lambda_u * min(max((epoch - warm_up) / ramp_epochs, 0.0), 1.0)


def continuous_bernoulli_log_prob(value: Tensor, probs: Tensor) -> Tensor:
    """log CB(value; probs), elementwise, in the shape of both. value: in [0, 1]; probs: in (0, 1).

    The normalising constant log C(p) = log|log(1-p) - log p| - log|1-2p| is 0/0 at p = 1/2; within
    (0.499, 0.501) its Taylor expansion takes over.
    """
    eps = torch.finfo(probs.dtype).eps
    probs = probs.clamp(eps, 1.0 - eps)
    log_p, log_not_p = probs.log(), torch.log1p(-probs)
    near_half = (probs > 0.499) & (probs < 0.501)
    # Keeps the gradient of the unused branch finite.
    safe = torch.where(near_half, torch.full_like(probs, 0.499), probs)
    exact = (torch.log1p(-safe) - safe.log()).abs().log() - (1.0 - 2.0 * safe).abs().log()
    square = (probs - 0.5).square()
    taylor = math.log(2.0) + (4.0 / 3.0 + 104.0 / 45.0 * square) * square
    return value * log_p + (1.0 - value) * log_not_p + torch.where(near_half, taylor, exact)


class VaeLoss(NamedTuple):
    """The terms l1..l4 of the generative loss, weights included; each a scalar."""

    reconstruction: Tensor
    noisy_label: Tensor
    label_prior: Tensor
    latent_prior: Tensor


def vae_loss(
    images: Tensor,
    reconstruction: Tensor,
    noisy_labels: Tensor,
    noisy_label_logits: Tensor,
    label_sample: Tensor,
    mu: Tensor,
    log_var: Tensor,
    weights: VaeWeights = CIFAR_WEIGHTS,
    numerics: Numerics = "original",
    pixel_mean: Callable[[Tensor], Tensor] = torch.mean,
) -> VaeLoss:
    """-log p(X|Z,Y) - log p(Y~|X,Y) + KL(q(Y|X) || uniform) + KL(q(Z|X,Y) || N(0,1)), weighted.

    images: (R, 3, H, W) in [0, 1]; reconstruction: the same shape in (0, 1); noisy_labels: (R,)
    int64; noisy_label_logits: (R, C); label_sample: (R, C), rows sum to 1; mu, log_var: (R, Z).
    "original" keeps two bugs of the published code: the label prior is a constant without
    gradient, and the latent prior is a sum over the batch without the factor 1/2. "paper" is the KL
    terms as written above, mean over rows. pixel_mean: of all R rows, where `images` and
    `reconstruction` are those of one rank.
    """
    num_classes = label_sample.shape[1]
    latent = 1.0 + log_var - mu.square() - log_var.exp()
    if numerics == "original":
        label_prior = (label_sample * math.log(1.0 / num_classes + 1e-8)).sum(dim=1).mean()
        latent_prior = -latent.sum()
    else:
        negative_entropy = torch.xlogy(label_sample, label_sample)
        label_prior = (negative_entropy + label_sample * math.log(num_classes)).sum(dim=1).mean()
        latent_prior = -0.5 * latent.sum(dim=1).mean()
    return VaeLoss(
        reconstruction=-pixel_mean(continuous_bernoulli_log_prob(images, reconstruction)),
        noisy_label=weights.noisy_label * F.cross_entropy(noisy_label_logits, noisy_labels),
        label_prior=weights.label_prior * label_prior,
        latent_prior=weights.latent_prior * latent_prior,
    )

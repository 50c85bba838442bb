"""Losses for class labels that may be wrong, where "this is some object" is still right.

Yang, Meng, Li, Wu, Cheng, "Learning with Noisy Class Labels for Instance Segmentation", ECCV 2020.
The new combination loss trains telling objects from background with cross entropy (CE), and telling
the classes apart with reverse cross entropy (RCE), whose gradient vanishes for a label that the
model finds impossible. Symmetric cross entropy (Wang et al., ICCV 2019) and generalized cross
entropy (Zhang & Sabuncu, NeurIPS 2018) are the paper's baselines.

Letters: N sampled regions, C foreground classes. Everywhere: logits (N, C + 1), any floating type,
background last; labels (N,) int64 in [0, C], C being background; the result is one number per
region, (N,) float32, or float64 for float64 logits. Lower precision is widened first, and autocast
does not touch what is computed in float32 here.
"""

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

# negatives, pseudo negatives, other samples, potential noisy samples
NEG, PSN, OS, PON = 0, 1, 2, 3
SET_NAMES = ("NEG", "PSN", "OS", "PON")

MIN_PROB = 1e-7  # predictions are clamped to it from below, p~ = max(p, 1e-7)
# and the one-hot labels, t~ = max(t, 1e-4): log t~ >= -A, and a trace of label smoothing in CE
MIN_TARGET = 1e-4
MIN_LOG_PROB = math.log(MIN_PROB)
A = -math.log(MIN_TARGET)
LOG2_E = math.log2(math.e)


def cross_entropy_terms(logits: Tensor, labels: Tensor) -> Tensor:
    """ce_i = -sum_k t~_ik log p~_ik."""
    return symmetric_cross_entropy(logits, labels, 1.0, 0.0)


def reverse_cross_entropy_terms(logits: Tensor, labels: Tensor) -> Tensor:
    """rce_i = -sum_k p~_ik log t~_ik = A sum_{k != y} p~_ik, in [0, 9.2104]."""
    return symmetric_cross_entropy(logits, labels, 0.0, 1.0)


def new_combination_loss(
    logits: Tensor,
    labels: Tensor,
    loss_weight1: float = 1.0,
    loss_weight2: float = 1.0,
    pon_threshold: float | None = None,
    sets: Tensor | None = None,
) -> Tensor:
    """w1 ce on NEG and PSN, w2 rce on OS, 0 on PON.

    sets: (N,) of partition(), where that is at hand already.
    """
    logits = _checked(logits, labels)
    if sets is None:
        sets = partition(logits, labels, pon_threshold)
    return _WeightedTerms.apply(
        logits, labels, loss_weight1 * (sets <= PSN), A * loss_weight2 * (sets == OS)
    )


def partition(logits: Tensor, labels: Tensor, pon_threshold: float | None = None) -> Tensor:
    """The set of each region, (N,) int64; nothing is differentiated.

    logits may be log-probabilities as well.

    NEG  labelled background
    PSN  labelled as an object that the model still calls background: the fight between foreground
         and background continues
    OS   any other: the model sees an object, of whichever class; a tie with background counts as
         an object
    PON  those of OS with ce > pon_threshold, whose label is probably wrong. The authors wrote 6.0
         and shipped it switched off (None), calling its gain marginal. NEG and PSN are never PON.
    """
    logits = logits.detach()
    background = logits.shape[1] - 1
    sees_object = logits[:, :background].amax(dim=1) >= logits[:, background]
    sets = (labels < background) * (PSN + sees_object.long())  # 0 is NEG, and OS follows PSN
    if pon_threshold is None:
        return sets
    return sets.masked_fill_(
        (sets == OS) & (cross_entropy_terms(logits, labels) > pon_threshold), PON
    )


def symmetric_cross_entropy(
    logits: Tensor, labels: Tensor, loss_weight1: float = 1.0, loss_weight2: float = 0.1
) -> Tensor:
    """w1 ce + w2 rce for every region."""
    logits = _checked(logits, labels)
    ce_weight, rce_weight = (
        logits.new_full((1,), weight).expand(len(labels))
        for weight in (loss_weight1, A * loss_weight2)
    )
    return _WeightedTerms.apply(logits, labels, ce_weight, rce_weight)


def generalized_cross_entropy(logits: Tensor, labels: Tensor, q: float = 0.3) -> Tensor:
    """(1 - p_y^q) / q, without clamps.

    q: in (0, 1]; near 0 it is cross entropy, at 1 the mean absolute error.
    """
    # DEVIATION(noisy_instseg): p_y^q is exp(q log p_y); the power itself has the gradient inf * 0
    # once p_y underflows.
    log_prob = F.log_softmax(_checked(logits, labels), dim=1).gather(1, labels[:, None])[:, 0]
    return -torch.expm1(q * log_prob) / q


class _WeightedTerms(torch.autograd.Function):
    """u_i ce_i + v_i rce_i / A of logits, labels and the weights u, v (N,), with the gradients
    written out:

    d ce / d log p_k = -t~_k     d (rce / A) / d log p_k = p_k for k != y, 0 for k = y

    Both are 0 where p_k is clamped.

    Autograd's own way takes 1.6 times as long at 81 columns, 1.1 times at 9; the tests hold the two
    against each other.
    """

    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, labels: Tensor, ce_weight: Tensor, rce_weight: Tensor
    ) -> Tensor:
        column = labels[:, None]
        log_probs = F.log_softmax(logits, dim=1)
        probs = (
            log_probs * LOG2_E
        ).exp2_()  # exp(log_probs), which on many CPUs takes twice as long
        clamped = log_probs.clamp_min_(MIN_LOG_PROB)
        at_label = clamped.gather(1, column)
        ce = torch.add((MIN_TARGET - 1) * at_label[:, 0], clamped.sum(dim=1), alpha=-MIN_TARGET)
        others = probs.clamp_min(MIN_PROB).scatter_(1, column, 0.0).sum(dim=1)
        ctx.save_for_backward(probs, column, at_label, ce_weight, rce_weight)
        return torch.addcmul(ce_weight * ce, rce_weight, others)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_loss: Tensor) -> tuple[Tensor, None, None, None]:
        probs, column, at_label, ce_weight, rce_weight = ctx.saved_tensors
        grad_ce = (grad_loss * ce_weight)[:, None]
        grad_rce = (grad_loss * rce_weight)[:, None]
        grad = _where_above(MIN_PROB, probs, (probs * grad_rce).sub_(grad_ce, alpha=MIN_TARGET))
        grad.scatter_(1, column, _where_above(MIN_LOG_PROB, at_label, -grad_ce))
        return (
            grad.sub_(probs * grad.sum(dim=1, keepdim=True)),
            None,
            None,
            None,
        )  # through the log softmax


def _where_above(bound: float, values: Tensor, result: Tensor) -> Tensor:
    """result where values > bound, else 0; in one pass, which torch.where does not do."""
    return torch.ops.aten.threshold_backward(result, values, bound)


def _checked(logits: Tensor, labels: Tensor) -> Tensor:
    """The logits in float32 or wider, once it is sure that every label has a column."""
    if len(labels):
        # On a GPU this waits for the labels. mmdetection's head has just waited for avg_factor, so
        # there is little to wait for.
        low, high = torch.stack(torch.aminmax(labels)).tolist()
        last = logits.shape[1] - 1
        if low < 0 or high > last:
            raise ValueError(
                f"labels reach from {low} to {high}, the logits' columns from 0 to {last} "
                "(background); check "
                "num_classes and the annotations, or give the label to skip as ignore_index"
            )
    return logits.to(torch.promote_types(logits.dtype, torch.float32))

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

import torch
from torch import Tensor
from torch.nn import functional as F

# negatives, pseudo negatives, other samples, potential noisy samples
NEG, PSN, OS, PON = 0, 1, 2, 3
SET_NAMES = ("NEG", "PSN", "OS", "PON")

MIN_PROB = 1e-7  # predictions are clamped to it from below, p~ = max(p, 1e-7)
# and the one-hot labels, t~ = max(t, 1e-4): log t~ >= -A, and a trace of label smoothing in CE
MIN_TARGET = 1e-4
MIN_LOG_PROB = math.log(MIN_PROB)
A = -math.log(MIN_TARGET)


def cross_entropy_terms(logits: Tensor, labels: Tensor) -> Tensor:
    """ce_i = -sum_k t~_ik log p~_ik."""
    return _ce_and_rce(logits, labels)[0]


def reverse_cross_entropy_terms(logits: Tensor, labels: Tensor) -> Tensor:
    """rce_i = -sum_k p~_ik log t~_ik = A sum_{k != y} p~_ik, in [0, 9.2104]."""
    return _ce_and_rce(logits, labels)[1]


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
    if sets is None:
        sets = partition(logits, labels, pon_threshold)
    ce, rce = _ce_and_rce(logits, labels)
    return loss_weight1 * (sets <= PSN) * ce + loss_weight2 * (sets == OS) * rce


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
    dropped = (sets == OS) & (cross_entropy_terms(logits, labels) > pon_threshold)
    return sets.masked_fill(dropped, PON)


def symmetric_cross_entropy(
    logits: Tensor, labels: Tensor, loss_weight1: float = 1.0, loss_weight2: float = 0.1
) -> Tensor:
    """w1 ce + w2 rce for every region."""
    ce, rce = _ce_and_rce(logits, labels)
    return loss_weight1 * ce + loss_weight2 * rce


def generalized_cross_entropy(logits: Tensor, labels: Tensor, q: float = 0.3) -> Tensor:
    """(1 - p_y^q) / q, without clamps.

    q: in (0, 1]; near 0 it is cross entropy, at 1 the mean absolute error.
    """
    # DEVIATION(noisy_instseg): p_y^q is exp(q log p_y); the power itself has the gradient inf * 0
    # once p_y underflows.
    log_prob = F.log_softmax(_checked(logits, labels), dim=1).gather(1, labels[:, None])[:, 0]
    return -torch.expm1(q * log_prob) / q


def _ce_and_rce(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Both terms from one softmax. A sum over t~ is one over all classes and one at the label."""
    column = labels[:, None]
    log_probs = F.log_softmax(_checked(logits, labels), dim=1)
    clamped = log_probs.clamp_min(MIN_LOG_PROB)
    ce = -MIN_TARGET * clamped.sum(dim=1) - (1 - MIN_TARGET) * clamped.gather(1, column)[:, 0]
    rce = A * log_probs.exp().clamp_min(MIN_PROB).scatter(1, column, 0.0).sum(dim=1)
    return ce, rce


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
                "(background); check num_classes and the annotations, or give the label to skip as "
                "ignore_index"
            )
    return logits.to(torch.promote_types(logits.dtype, torch.float32))

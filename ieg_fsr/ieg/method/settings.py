"""The numbers of the four methods, without TensorFlow, so that a command line can name them."""

import math
from dataclasses import dataclass
from typing import NamedTuple

METHODS = ("ieg", "l2r", "supervised", "fsr")


class PseudoLoss(NamedTuple):
    """FSR's loss on pseudo labels; on a command line `type_temperature_gamma_weight`."""

    type: str  # "all" samples, or "partial": those without weight
    temperature: float  # of the softmax that makes targets of averaged logits, > 0
    gamma: float  # share of the old logits in the average, in [0, 1]
    weight: float  # of this loss, >= 0


def parse_pseudo_loss(text: str) -> PseudoLoss | None:
    """`all_1_0.1_2` as numbers, None for ''. Raises ValueError that says what is wrong."""
    if not text:
        return None
    kind, *numbers = text.split("_")
    try:
        temperature, gamma, weight = (float(number) for number in numbers)
    except ValueError:
        raise ValueError(
            f"{text!r} is not type_temperature_gamma_weight, such as all_1_0.1_2"
        ) from None
    in_range = 0 < temperature < math.inf and 0 <= gamma <= 1 and 0 <= weight < math.inf
    if kind not in ("all", "partial") or not in_range:
        raise ValueError(
            f"{text!r}: the type is all or partial, temperature > 0, gamma in [0, 1], weight >= 0"
        )
    return PseudoLoss(kind, temperature, gamma, weight)


@dataclass(frozen=True)
class Settings:
    """What a training step needs to know; fields that are flags have the flags' names."""

    num_classes: int  # C
    num_replicas: int  # devices that share a step
    batch_size: int  # B, samples of one replica
    meta_stepsize: float  # eta of the look-ahead
    meta_momentum: float  # mu, share of the momentum in the look-ahead of IEG and FSR
    grad_eps_init: float  # IEG: share of the noisy label before its judgement, in [0, 1]
    ce_factor: float  # IEG: weight of the loss on estimated labels
    consistency_factor: float  # IEG: weight of the consistency of two augmentations
    guess_gradient: bool  # IEG: the look-ahead's gradient flows through the label estimate
    label_smoothing: float  # in [0, 1)
    use_mixup: bool  # FSR
    use_pseudo_loss: PseudoLoss | None  # FSR
    clip_meta_weight: bool  # FSR: only helpful samples count
    moving_weight_gamma: float  # FSR: decay of weights averaged by class, 0 for none
    meta_start_epoch: int  # FSR: weights and pseudo labels count from this epoch on
    meta_moving_end_epoch: int  # FSR: epoch from which these averages stay, 0 for never
    iter_epoch: int  # steps of an epoch

"""What the training steps of the four methods share: their inputs and outputs.

A method is a pure function of tensors, `step(network, values, batch, draws, settings) -> Outcome`,
with all randomness in `draws`; the trainer reads variables before and assigns them after it.
Shapes: B batch of one replica, C classes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import tensorflow as tf
from tensorflow import Tensor

from ieg.method.settings import Settings

Weights = Sequence[Tensor]
Batch = dict[str, Tensor]


class Passed(NamedTuple):
    """One forward pass in training mode."""

    features: Tensor  # (B, D) float32, what the classifier sees
    logits: Tensor  # (B, C) float32
    moving: list[Tensor]  # statistics of batch normalisation afterwards; only one pass's are kept


@dataclass(frozen=True)
class Network:
    """A network as pure functions of its weights.

    The last two weights are the classifier's kernel (D, C) and bias (C,). `forward` takes weights,
    moving statistics and images (B, H, W, 3).
    """

    forward: Callable[[Weights, Weights, Tensor], Passed]
    regularisation: Callable[[Weights], Tensor]  # R(theta)
    meta_regularisation: Callable[[Weights], Tensor]  # of looked-ahead weights, all or some


class Values(NamedTuple):
    """The values of the trainer's variables at the start of a step."""

    weights: list[Tensor]
    moving: list[Tensor]
    accumulators: list[Tensor]  # of momentum, in the scale of gradients


@dataclass
class Outcome:
    """What a step found out."""

    gradients: list[Tensor]  # of the loss of this replica; they are summed over replicas
    moving: list[Tensor]
    metrics: dict[str, Tensor]  # scalars
    samples: dict[str, Tensor] = field(default_factory=dict)  # a row for each sample of the batch


def one_hot(labels: Tensor, settings: Settings) -> Tensor:
    """(B, C) float32 of labels (B,) int."""
    return tf.one_hot(labels, settings.num_classes)


def share_correct(labels: Tensor, logits: Tensor) -> Tensor:
    """Accuracy in [0, 1] on one batch."""
    correct = tf.equal(tf.cast(labels, tf.int64), tf.argmax(logits, axis=1))
    return tf.reduce_mean(tf.cast(correct, tf.float32))


def weight_metrics(weights: Tensor, batch: Batch) -> dict[str, Tensor]:
    """How the weights (B,) fall on clean and on noisy samples, as sums that the log divides.

    batch: `labels` and `gold`, the name that the published code has for clean labels.
    """
    clean = tf.cast(tf.equal(batch["labels"], batch["gold"]), tf.float32)
    used = tf.cast(weights > 0, tf.float32)
    return {
        "weights/zeroratio": tf.reduce_mean(1.0 - used),
        "sum/clean_weight": tf.reduce_sum(weights * clean),
        "sum/noisy_weight": tf.reduce_sum(weights * (1.0 - clean)),
        "sum/clean": tf.reduce_sum(clean),
        "sum/noisy": tf.reduce_sum(1.0 - clean),
        "sum/used": tf.reduce_sum(used),
        "sum/used_clean": tf.reduce_sum(used * clean),
    }

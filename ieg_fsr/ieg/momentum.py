"""The update of the weights: TensorFlow 1's momentum rule, and the moving average of the weights.

Keras' SGD keeps the learning rate inside its velocity; the two rules differ whenever the rate
changes, which is at every step here, and the look-ahead of IEG and FSR needs the accumulator in the
scale of gradients.
"""

from collections.abc import Sequence

import tensorflow as tf
from tensorflow import Tensor

EMA_DECAY = 0.999


def accumulate(
    accumulators: Sequence[Tensor], gradients: Sequence[Tensor], momentum: float
) -> list[Tensor]:
    """The new accumulators a <- momentum a + g, in the scale of gradients."""
    return [momentum * a + g for a, g in zip(accumulators, gradients)]


def descend(
    weights: Sequence[Tensor], accumulators: Sequence[Tensor], learning_rate: Tensor
) -> list[Tensor]:
    """The new weights theta <- theta - lr a (no Nesterov term)."""
    return [w - learning_rate * a for w, a in zip(weights, accumulators)]


def average(averages: Sequence[Tensor], weights: Sequence[Tensor], step: Tensor) -> list[Tensor]:
    """The new averages of the weights; the decay grows with the step, min(0.999, (1 + step) / (10 +
    step)).
    """
    step = tf.cast(step, tf.float32)
    share = 1.0 - tf.minimum(EMA_DECAY, (1.0 + step) / (10.0 + step))
    return [e - share * (e - w) for e, w in zip(averages, weights)]

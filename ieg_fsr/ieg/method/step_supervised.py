"""A training step of plain cross-entropy, the baseline."""

import tensorflow as tf

from ieg.method import losses
from ieg.method.settings import Settings
from ieg.method.step import Batch, Network, Outcome, Values, one_hot, share_correct


def step(
    network: Network, values: Values, batch: Batch, draws: Batch, settings: Settings
) -> Outcome:
    """batch: images (B, H, W, 3) float32 and labels (B,) int32; nothing is drawn."""
    with tf.GradientTape() as tape:
        tape.watch(values.weights)
        _, logits, moving = network.forward(values.weights, values.moving, batch["images"])
        targets = losses.smooth(one_hot(batch["labels"], settings), settings.label_smoothing)
        loss = tf.reduce_mean(losses.cross_entropy(targets, logits)) + network.regularisation(
            values.weights
        )
        shared_loss = loss / settings.num_replicas
    gradients = tape.gradient(shared_loss, values.weights)
    return Outcome(
        gradients, moving, {"loss/net": loss, "acc/train": share_correct(batch["labels"], logits)}
    )

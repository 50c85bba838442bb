"""A training step of L2R.

Ren et al., "Learning to Reweight Examples for Robust Deep Learning", ICML 2018.
"""

import tensorflow as tf

from ieg.method import losses, meta
from ieg.method.settings import Settings
from ieg.method.step import (
    Batch,
    Network,
    Outcome,
    Values,
    one_hot,
    share_correct,
    weight_metrics,
)


def step(
    network: Network, values: Values, batch: Batch, draws: Batch, settings: Settings
) -> Outcome:
    """batch: images, labels, probe_images, probe_labels, gold, B of each; nothing is drawn."""
    theta = values.weights
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(theta)
        _, logits, moving = network.forward(theta, values.moving, batch["images"])
        cost = losses.cross_entropy(one_hot(batch["labels"], settings), logits)
        regularisation = network.regularisation(theta)
        with tape.stop_recording():
            # All weights are 0 at the virtual step, so only the regularisation moves theta there.
            gradients = tape.gradient(regularisation, theta, unconnected_gradients="zero")
            ahead = meta.look_ahead(theta, gradients, settings.meta_stepsize)
            direction, meta_loss, meta_accuracy = probe_gradient(
                network, ahead, values, batch, settings
            )
            (along,) = meta.jvp(tape, [cost], theta, direction)
            meta_gradients = -settings.meta_stepsize * along
            weights = losses.positive_part(meta_gradients)
        loss = tf.reduce_sum(weights * cost) + regularisation
        shared_loss = loss / settings.num_replicas
    gradients = tape.gradient(shared_loss, theta)
    metrics = {
        "loss/net": loss,
        "loss/meta": meta_loss,
        "acc/train": share_correct(batch["labels"], logits),
        "acc/meta": meta_accuracy,
        **weight_metrics(weights, batch),
    }
    return Outcome(
        gradients, moving, metrics, {"weights": weights, "meta_gradients": meta_gradients}
    )


def probe_gradient(
    network: Network, ahead: list[tf.Tensor], values: Values, batch: Batch, settings: Settings
) -> tuple[list[tf.Tensor], tf.Tensor, tf.Tensor]:
    """V = dM/dtheta' of the probe samples' mean cross-entropy, M itself, and their accuracy."""
    seen = {}

    def probe_loss(weights: list[tf.Tensor]) -> tf.Tensor:
        seen["logits"] = network.forward(weights, values.moving, batch["probe_images"]).logits
        cost = losses.cross_entropy(one_hot(batch["probe_labels"], settings), seen["logits"])
        return tf.reduce_mean(cost) + network.meta_regularisation(weights)

    direction, meta_loss = meta.gradient_of(probe_loss, ahead)
    return direction, meta_loss, share_correct(batch["probe_labels"], seen["logits"])

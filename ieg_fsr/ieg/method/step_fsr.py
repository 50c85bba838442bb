"""A training step of FSR.

Zhang & Pfister, "Learning Fast Sample Re-weighting Without Reward Data", ICCV 2021. The letters (a)
to (f) follow the order of the published code.

No trusted samples: a queue of training samples stands in for them (reward_queue.py). Only the
classifier is looked ahead and all features are shared, so the meta gradient has a closed form and
no backward pass through the network.
"""

from typing import NamedTuple

import tensorflow as tf
from tensorflow import Tensor

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

CLASSIFIER = slice(-2, None)  # kernel and bias, the last two weights


def step(
    network: Network, values: Values, batch: Batch, draws: Batch, settings: Settings
) -> Outcome:
    """One step.

    batch: images, labels, gold, B of each; queue_images, queue_labels, Q of each; pseudo_rows (B,
    C) of the table of averaged logits; class_weights (C,); iteration, a scalar, the number of steps
    done. draws: mix_uniform (B,) and mix_order (B,), a permutation.
    """
    theta, labels = values.weights, one_hot(batch["labels"], settings)
    size = labels.shape[0]
    started = batch["iteration"] // settings.iter_epoch >= settings.meta_start_epoch
    pseudo = settings.use_pseudo_loss
    # (a)
    images, targets = batch["images"], losses.smooth(labels, settings.label_smoothing)
    if settings.use_mixup:
        images, targets = losses.mixup(images, labels, draws["mix_uniform"], draws["mix_order"])
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(theta)
        features, logits, moving = network.forward(theta, values.moving, images)  # (b)
        cost = losses.cross_entropy(targets, logits)
        regularisation = network.regularisation(theta)
        with tape.stop_recording():
            residual = tf.nn.softmax(logits) - targets  # dl_i/dz_i
            decay = tape.gradient(regularisation, theta[CLASSIFIER], unconnected_gradients="zero")
            found = _meta_step(network, values, batch, settings, features, residual, decay)  # (c)
            weights = losses.fsr_weights(found.meta_gradients, settings.clip_meta_weight)
            margin = cost - found.ahead_cost
            class_weights = batch["class_weights"]
            if settings.moving_weight_gamma > 0:  # averaged from the first step on
                class_weights, weights = _moving_weights(weights, batch, settings)
            applied = tf.where(started, weights, tf.fill([size], 1.0 / size))  # (d)
        pseudo_loss = tf.constant(0.0)
        if pseudo:  # (e)
            rows = losses.logit_norm(batch["pseudo_rows"])
            pseudo_targets = losses.pseudo_targets(rows, pseudo.temperature)
            pseudo_cost = losses.cross_entropy(pseudo_targets, logits)
            if pseudo.type == "all":
                total = tf.reduce_mean(pseudo_cost)
            else:
                unused = tf.cast(tf.equal(applied, 0.0), tf.float32)
                total = tf.reduce_sum(unused * pseudo_cost)
            pseudo_loss = tf.where(started, pseudo.weight * total, 0.0)
        loss = tf.reduce_sum(applied * cost) + pseudo_loss + regularisation  # (f)
        shared_loss = loss / settings.num_replicas
    gradients = tape.gradient(shared_loss, theta)
    samples = {
        "margin": margin,
        "weights": applied,
        "meta_gradients": found.meta_gradients,
        "cost": cost,
        "class_weights": class_weights,
    }
    if pseudo:
        samples["pseudo_rows"] = pseudo.gamma * rows + (1.0 - pseudo.gamma) * logits
    metrics = {
        "loss/net": loss,
        "loss/meta": found.meta_loss,
        "loss/pseudo": pseudo_loss,
        "acc/train": share_correct(batch["labels"], logits),
        "acc/meta": found.meta_accuracy,
        **weight_metrics(applied, batch),
        **_monitors(cost, margin, applied, batch),
    }
    return Outcome(gradients, moving, metrics, samples)


class _Found(NamedTuple):
    meta_gradients: Tensor  # (B,) dM/dw_i
    ahead_cost: Tensor  # (B,) cross-entropy of the images, not mixed, after the virtual step
    meta_loss: Tensor
    meta_accuracy: Tensor


def _meta_step(
    network: Network,
    values: Values,
    batch: Batch,
    settings: Settings,
    features: Tensor,
    residual: Tensor,
    decay: list[Tensor],
) -> _Found:
    """The virtual step of the classifier, judged by the queue's samples, in closed form.

    features: (B, D); residual: (B, C), softmax(z) - targets; decay: dR of kernel and bias.
    """
    eta, queue_size = settings.meta_stepsize, batch["queue_labels"].shape[0]
    classifier = values.weights[CLASSIFIER]
    mean_residual = residual / residual.shape[0]
    virtual = [
        tf.matmul(features, mean_residual, transpose_a=True) + decay[0],
        tf.reduce_sum(mean_residual, axis=0) + decay[1],
    ]
    ahead = meta.look_ahead(
        classifier, virtual, eta, values.accumulators[CLASSIFIER], settings.meta_momentum
    )
    # One batch of both, so both share their statistics of batch normalisation, as published.
    joint = network.forward(
        values.weights, values.moving, tf.concat([batch["queue_images"], batch["images"]], axis=0)
    )
    queue_features, image_features = joint.features[:queue_size], joint.features[queue_size:]
    queue_targets = one_hot(batch["queue_labels"], settings)
    seen = {}

    def queue_loss(classifier: list[Tensor]) -> Tensor:
        seen["logits"] = _classify(queue_features, classifier)
        cost = losses.cross_entropy(
            losses.smooth(queue_targets, settings.label_smoothing), seen["logits"]
        )
        return tf.reduce_mean(cost) + network.meta_regularisation(classifier)

    direction, meta_loss = meta.gradient_of(queue_loss, ahead)
    # -eta JVP_V[l_i], as meta.py has it for a whole network
    meta_gradients = -eta * tf.reduce_sum(residual * _classify(features, direction), axis=1)
    ahead_cost = losses.cross_entropy(
        one_hot(batch["labels"], settings), _classify(image_features, ahead)
    )
    return _Found(
        meta_gradients, ahead_cost, meta_loss, share_correct(batch["queue_labels"], seen["logits"])
    )


def _classify(features: Tensor, classifier: list[Tensor]) -> Tensor:
    return tf.matmul(features, classifier[0]) + classifier[1]


def _moving_weights(weights: Tensor, batch: Batch, settings: Settings) -> tuple[Tensor, Tensor]:
    """Weights averaged over time by class: the new averages (C,) and each sample's (B,).

    weights: (B,) found by the meta step, also before the loss uses them. Of several samples of a
    class the last one counts. From --meta_moving_end_epoch on (0: never) the averages stay.
    """
    gamma, averages, labels = settings.moving_weight_gamma, batch["class_weights"], batch["labels"]
    new = gamma * tf.gather(averages, labels) + (1.0 - gamma) * weights
    # A scatter with indices that repeat may write in any order on a GPU.
    own = tf.equal(labels[:, None], tf.range(averages.shape[0]))
    last = tf.reduce_max(tf.where(own, tf.range(labels.shape[0])[:, None], -1), axis=0)
    moved = tf.where(last >= 0, tf.gather(new, tf.maximum(last, 0)), averages)
    if settings.meta_moving_end_epoch > 0:
        frozen = batch["iteration"] // settings.iter_epoch >= settings.meta_moving_end_epoch
        moved = tf.where(frozen, averages, moved)
    return moved, tf.gather(moved, labels)


def _monitors(cost: Tensor, margin: Tensor, weights: Tensor, batch: Batch) -> dict[str, Tensor]:
    """Sums over clean and noisy samples, divided by their counts where they are reported."""
    clean = tf.cast(tf.equal(batch["labels"], batch["gold"]), tf.float32)
    used = tf.cast(weights > 0, tf.float32)
    return {
        "sum/clean_loss": tf.reduce_sum(clean * cost),
        "sum/noisy_loss": tf.reduce_sum((1.0 - clean) * cost),
        "sum/clean_margin": tf.reduce_sum(clean * margin),
        "sum/noisy_margin": tf.reduce_sum((1.0 - clean) * margin),
        "sum/masked_clean": tf.reduce_sum(clean * (1.0 - used)),
        "sum/masked_clean_loss": tf.reduce_sum(clean * (1.0 - used) * cost),
        "sum/unmasked_noisy": tf.reduce_sum((1.0 - clean) * used),
        "sum/unmasked_noisy_loss": tf.reduce_sum((1.0 - clean) * used * cost),
    }

"""A training step of IEG.

Zhang et al., "Distilling Effective Supervision from Severe Label Noise", CVPR 2020. The letters (a)
to (i) follow the order of the published code, which matters: only the first pass moves the
statistics of batch normalisation.
"""

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
from ieg.method.step_l2r import probe_gradient

NOISY_SHARE = 0.9  # of the noisy label in the target of the re-weighted loss, else the estimate


def step(
    network: Network, values: Values, batch: Batch, draws: Batch, settings: Settings
) -> Outcome:
    """One step.

    batch: images, the same ones strongly augmented, labels, gold, probe_images, probe_labels, B of
    each. draws: probe_choice (B,) int which probe samples are mixed in, mix_uniform (3B,),
    mix_order (3B,) a permutation.
    """
    theta, noisy = values.weights, one_hot(batch["labels"], settings)
    size = tf.shape(noisy)[0]
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(theta)
        _, logits, moving = network.forward(theta, values.moving, batch["images"])  # (a)
        strong_logits = network.forward(theta, values.moving, batch["strong"]).logits  # (b)
        log_p = tf.nn.log_softmax(logits)
        guess = losses.guess_label(logits, strong_logits)  # (c) q
        target_guess = tf.stop_gradient(guess)
        mixup_loss = _mixup_loss(network, values, batch, draws, settings, target_guess)  # (d)-(f)
        divergence = losses.consistency(logits, strong_logits)  # (g)
        consistency_loss = settings.consistency_factor * divergence
        regularisation = network.regularisation(theta)

        # (h) The virtual loss sum_i w_i l_i + R with l_i = CE(e onehot + (1 - e) q, z), at w = 1/B
        # and e = grad_eps_init. The published code lets the gradient of its step flow through the
        # label estimate; --guess_gradient stop does not.
        q = guess if settings.guess_gradient else target_guess
        e = settings.grad_eps_init
        cost = -tf.reduce_sum((e * noisy + (1.0 - e) * q) * log_p, axis=1)
        cost_by_e = -tf.reduce_sum((noisy - q) * log_p, axis=1)  # dl_i/de
        virtual_loss = tf.reduce_mean(cost) + regularisation
        with tape.stop_recording():
            virtual_gradients = tape.gradient(virtual_loss, theta)
            eta, mu = settings.meta_stepsize, settings.meta_momentum
            ahead = meta.look_ahead(theta, virtual_gradients, eta, values.accumulators, mu)
            direction, meta_loss, meta_accuracy = probe_gradient(
                network, ahead, values, batch, settings
            )
            along, along_by_e = meta.jvp(tape, [cost, cost_by_e], theta, direction)
            weight_gradients = -eta * along
            eps_gradients = -eta * along_by_e / tf.cast(size, tf.float32)
            weights = losses.positive_part(weight_gradients)
            keep = tf.cast(eps_gradients < 0, tf.float32)[:, None]  # the noisy label, or estimate
        # (i)
        kept = keep * noisy + (1.0 - keep) * target_guess
        relabelled = -tf.reduce_mean(tf.reduce_sum(kept * log_p, axis=1))
        blended = NOISY_SHARE * noisy + (1.0 - NOISY_SHARE) * target_guess
        reweighted = -tf.reduce_sum(weights * tf.reduce_sum(blended * log_p, axis=1))
        judged = 0.5 * (relabelled + reweighted)
        loss = judged + mixup_loss + consistency_loss + regularisation
        shared_loss = loss / settings.num_replicas
    gradients = tape.gradient(shared_loss, theta)
    metrics = {
        "loss/net": loss,
        "loss/meta": meta_loss,
        "loss/xemin": mixup_loss,
        "loss/consistency": consistency_loss,
        "acc/train": share_correct(batch["labels"], logits),
        "acc/meta": meta_accuracy,
        **weight_metrics(weights, batch),
    }
    samples = {
        "weights": weights,
        "keep": keep[:, 0],
        "guess": guess,
        "meta_gradients": weight_gradients,
        "eps_gradients": eps_gradients,
    }
    return Outcome(gradients, moving, metrics, samples)


def _mixup_loss(
    network: Network,
    values: Values,
    batch: Batch,
    draws: Batch,
    settings: Settings,
    guess: Tensor,
) -> Tensor:
    """Cross-entropy of mixtures of trusted, weakly and strongly augmented images.

    guess: (B, C), the targets of the images that are not trusted.
    """
    chosen = draws["probe_choice"]  # (d)
    trusted = tf.gather(batch["probe_images"], chosen)
    trusted_labels = one_hot(tf.gather(batch["probe_labels"], chosen), settings)
    images = tf.concat([trusted, batch["images"], batch["strong"]], axis=0)
    targets = tf.concat([trusted_labels, guess, guess], axis=0)
    images, targets = losses.mixup(images, targets, draws["mix_uniform"], draws["mix_order"])  # (e)
    blocks = tf.split(network.forward(values.weights, values.moving, images).logits, 3)  # (f)
    logits = tf.concat([losses.logit_norm(block) for block in blocks], axis=0)
    cost, size = losses.cross_entropy(targets, logits), tf.shape(guess)[0]
    return tf.reduce_mean(cost[:size]) + settings.ce_factor * tf.reduce_mean(cost[size:])

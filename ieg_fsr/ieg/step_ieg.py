"""A training step of IEG (Zhang et al., "Distilling Effective Supervision from Severe Label Noise",
CVPR 2020).

The letters (a) to (i) follow the order of the published code, which matters: only the first pass
moves the statistics of batch normalisation.
"""

import tensorflow as tf

from ieg import losses, meta
from ieg.step import (
    Batch,
    Network,
    Outcome,
    Settings,
    Values,
    one_hot,
    share_correct,
    weight_metrics,
)
from ieg.step_l2r import probe_gradient

GIVEN_SHARE = (
    0.9  # of the given label in the target of the re-weighted loss; the rest is the label estimate
)


def step(
    network: Network, values: Values, batch: Batch, draws: Batch, settings: Settings
) -> Outcome:
    """One step.

    batch: images, their strong views, labels, gold, probe_images, probe_labels, B of each. draws:
    probe_choice (B,) int which probe samples are mixed in, mix_uniform (3B,), mix_order (3B,) a
    permutation.
    """
    theta, given = values.weights, one_hot(batch["labels"], settings)
    size = tf.shape(given)[0]
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(theta)
        _, logits, moving = network.forward(theta, values.moving, batch["images"])  # (a)
        strong_logits = network.forward(theta, values.moving, batch["strong"]).logits  # (b)
        log_p = tf.nn.log_softmax(logits)
        guess = losses.guess_label(logits, strong_logits)  # (c) q
        target_guess = tf.stop_gradient(guess)
        chosen, order = draws["probe_choice"], draws["mix_order"]  # (d)
        images = tf.concat(
            [tf.gather(batch["probe_images"], chosen), batch["images"], batch["strong"]], axis=0
        )
        chosen_labels = one_hot(tf.gather(batch["probe_labels"], chosen), settings)
        targets = tf.concat([chosen_labels, target_guess, target_guess], axis=0)
        mixed_images, mixed_targets = losses.mixup(
            images, targets, draws["mix_uniform"], order
        )  # (e)
        blocks = tf.split(network.forward(theta, values.moving, mixed_images).logits, 3)  # (f)
        mixed_cost = losses.cross_entropy(
            mixed_targets, tf.concat([losses.logit_norm(b) for b in blocks], axis=0)
        )
        labelled, unlabelled = tf.reduce_mean(mixed_cost[:size]), tf.reduce_mean(mixed_cost[size:])
        cross_entropy_loss = labelled + settings.ce_factor * unlabelled
        consistency_loss = settings.consistency_factor * losses.consistency(
            logits, strong_logits
        )  # (g)
        regularisation = network.regularisation(theta)

        # (h) The virtual loss sum_i w_i l_i + R with l_i = CE(e onehot + (1 - e) q, z), at w = 1/B
        # and e = grad_eps_init. The published code lets the gradient of its step flow through the
        # label estimate; --guess_gradient stop does not.
        q = guess if settings.guess_gradient else target_guess
        e = settings.grad_eps_init
        cost = -tf.reduce_sum((e * given + (1.0 - e) * q) * log_p, axis=1)
        cost_by_e = -tf.reduce_sum((given - q) * log_p, axis=1)  # dl_i/de
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
            keep = tf.cast(eps_gradients < 0, tf.float32)[
                :, None
            ]  # the given label, else the estimate
        # (i)
        relabelled = -tf.reduce_mean(
            tf.reduce_sum((keep * given + (1.0 - keep) * target_guess) * log_p, axis=1)
        )
        blended = GIVEN_SHARE * given + (1.0 - GIVEN_SHARE) * target_guess
        reweighted = -tf.reduce_sum(weights * tf.reduce_sum(blended * log_p, axis=1))
        loss = (
            0.5 * (relabelled + reweighted) + cross_entropy_loss + consistency_loss + regularisation
        )
        shared_loss = loss / settings.num_replicas
    gradients = tape.gradient(shared_loss, theta)
    metrics = {
        "loss/net": loss,
        "loss/meta": meta_loss,
        "loss/xemin": cross_entropy_loss,
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

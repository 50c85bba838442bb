"""The steps of L2R, IEG and FSR in the literal form of the papers, through the virtual step.

What `method/meta.py` and the closed form of `method/step_fsr.py` shorten stands here in full, for
the tests to compare with and for the benchmark to time: a tape over the sample weights (and IEG's
label coefficients) sees the backward pass of the virtual loss, the virtual weights and the meta
loss, and is differentiated as a whole. Only the network and the types of a step come from the
package; losses and label rules are written out once more. L2R: Ren et al., ICML 2018, algorithm 1.
IEG: Zhang et al., CVPR 2020. FSR: Zhang & Pfister, ICCV 2021.

Shapes: B batch, C classes, Q queue samples.
"""

import tensorflow as tf
from tensorflow import Tensor

from ieg.method.settings import Settings
from ieg.method.step import Batch, Network, Outcome, Values


def l2r_step(
    network: Network, values: Values, batch: Batch, draws: Batch, settings: Settings
) -> Outcome:
    theta, eta = values.weights, settings.meta_stepsize
    labels = tf.one_hot(batch["labels"], settings.num_classes)
    w = tf.zeros(labels.shape[0])
    with tf.GradientTape(persistent=True) as by_theta:
        by_theta.watch(theta)
        with tf.GradientTape() as by_w:
            by_w.watch(w)
            _, z, moving = network.forward(theta, values.moving, batch["images"])
            cost = cross_entropy(labels, z)
            regularisation = network.regularisation(theta)
            virtual_loss = tf.reduce_sum(w * cost) + regularisation
            with by_theta.stop_recording():
                gradients = by_theta.gradient(virtual_loss, theta, unconnected_gradients="zero")
                ahead = [v - eta * g for v, g in zip(theta, gradients)]
                meta_loss = probe_loss(network, ahead, values, batch, settings)
        with by_theta.stop_recording():
            meta_gradients = by_w.gradient(meta_loss, w)
            weights = over_sum(tf.maximum(-meta_gradients, 0.0))
        loss = tf.reduce_sum(weights * cost) + regularisation
        shared_loss = loss / settings.num_replicas
    metrics = {"loss/net": loss, "loss/meta": meta_loss}
    return Outcome(
        by_theta.gradient(shared_loss, theta),
        moving,
        metrics,
        {"weights": weights, "meta_gradients": meta_gradients},
    )


def ieg_step(
    network: Network, values: Values, batch: Batch, draws: Batch, settings: Settings
) -> Outcome:
    theta, eta, mu = values.weights, settings.meta_stepsize, settings.meta_momentum
    labels = tf.one_hot(batch["labels"], settings.num_classes)
    size = labels.shape[0]
    w, e = tf.fill([size], 1.0 / size), tf.fill([size], settings.grad_eps_init)
    with tf.GradientTape(persistent=True) as by_theta:
        by_theta.watch(theta)
        with tf.GradientTape() as by_w_and_e:
            by_w_and_e.watch([w, e])
            _, z, moving = network.forward(theta, values.moving, batch["images"])
            _, strong_z, _ = network.forward(theta, values.moving, batch["strong"])
            p = (tf.nn.softmax(over_rms(z)) + tf.nn.softmax(over_rms(strong_z))) / 2
            q = p**2 / tf.reduce_sum(p**2, axis=1, keepdims=True)
            q_in_target = q if settings.guess_gradient else tf.stop_gradient(q)
            target = e[:, None] * labels + (1 - e)[:, None] * q_in_target
            regularisation = network.regularisation(theta)
            virtual_loss = tf.reduce_sum(w * cross_entropy(target, z)) + regularisation
            with by_theta.stop_recording():
                gradients = by_theta.gradient(virtual_loss, theta)
                ahead = [
                    v - eta * (mu * tf.stop_gradient(a) + g)
                    for v, a, g in zip(theta, values.accumulators, gradients)
                ]
                meta_loss = probe_loss(network, ahead, values, batch, settings)
        with by_theta.stop_recording():
            w_gradients, e_gradients = by_w_and_e.gradient(meta_loss, [w, e])
            weights = over_sum(tf.maximum(w - w_gradients - 1 / size, 0.0))
            keep = tf.where(e_gradients < 0, 1.0, 0.0)
        q = tf.stop_gradient(q)

        drawn = draws["probe_choice"]
        drawn_labels = tf.one_hot(tf.gather(batch["probe_labels"], drawn), settings.num_classes)
        images = tf.concat(
            [tf.gather(batch["probe_images"], drawn), batch["images"], batch["strong"]], axis=0
        )
        mixed, mixed_targets = mix(images, tf.concat([drawn_labels, q, q], axis=0), draws)
        mixed_z = network.forward(theta, values.moving, mixed).logits
        first, second, third = (over_rms(mixed_z[k * size : (k + 1) * size]) for k in range(3))
        labelled = tf.reduce_mean(cross_entropy(mixed_targets[:size], first))
        unlabelled = tf.reduce_mean(
            cross_entropy(mixed_targets[size:], tf.concat([second, third], axis=0))
        )
        xe_loss = labelled + settings.ce_factor * unlabelled

        fixed = tf.nn.softmax(tf.stop_gradient(z))
        divergence = fixed * (tf.math.log(fixed) - tf.nn.log_softmax(strong_z))
        cs_loss = settings.consistency_factor * tf.reduce_mean(tf.reduce_sum(divergence, axis=1))

        relabelled = tf.reduce_mean(
            cross_entropy(keep[:, None] * labels + (1 - keep)[:, None] * q, z)
        )
        reweighted = tf.reduce_sum(weights * cross_entropy(0.9 * labels + 0.1 * q, z))
        loss = (relabelled + reweighted) / 2 + xe_loss + cs_loss + regularisation
        shared_loss = loss / settings.num_replicas
    metrics = {
        "loss/net": loss,
        "loss/meta": meta_loss,
        "loss/xemin": xe_loss,
        "loss/consistency": cs_loss,
    }
    samples = {
        "weights": weights,
        "keep": keep,
        "guess": q,
        "meta_gradients": w_gradients,
        "eps_gradients": e_gradients,
    }
    return Outcome(by_theta.gradient(shared_loss, theta), moving, metrics, samples)


def fsr_step(
    network: Network, values: Values, batch: Batch, draws: Batch, settings: Settings
) -> Outcome:
    theta, eta, mu = values.weights, settings.meta_stepsize, settings.meta_momentum
    labels = tf.one_hot(batch["labels"], settings.num_classes)
    queue_labels = tf.one_hot(batch["queue_labels"], settings.num_classes)
    size, queue_size, smoothing = labels.shape[0], queue_labels.shape[0], settings.label_smoothing
    epoch = batch["iteration"] // settings.iter_epoch
    if settings.use_mixup:
        images, targets = mix(batch["images"], labels, draws)
    else:
        images, targets = (
            batch["images"],
            labels * (1 - smoothing) + smoothing / settings.num_classes,
        )
    w = tf.fill([size], 1.0 / size)
    with tf.GradientTape(persistent=True) as by_theta:
        by_theta.watch(theta)
        with tf.GradientTape() as by_w:
            by_w.watch(w)
            _, z, moving = network.forward(theta, values.moving, images)
            cost = cross_entropy(targets, z)
            regularisation = network.regularisation(theta)
            virtual_loss = tf.reduce_sum(w * cost) + regularisation
            with by_theta.stop_recording():
                gradients = by_theta.gradient(virtual_loss, theta[-2:])
                ahead = [
                    v - eta * (mu * tf.stop_gradient(a) + g)
                    for v, a, g in zip(theta[-2:], values.accumulators[-2:], gradients)
                ]
                both = tf.concat([batch["queue_images"], batch["images"]], axis=0)
                ahead_z = network.forward([*theta[:-2], *ahead], values.moving, both).logits
                smoothed = queue_labels * (1 - smoothing) + smoothing / settings.num_classes
                meta_loss = tf.reduce_mean(cross_entropy(smoothed, ahead_z[:queue_size]))
                meta_loss += network.meta_regularisation(ahead)
        with by_theta.stop_recording():
            meta_gradients = by_w.gradient(meta_loss, w)
            margin = cost - cross_entropy(labels, ahead_z[queue_size:])
            stepped = w - meta_gradients
            if settings.clip_meta_weight:
                weights = over_sum(tf.maximum(stepped - 1 / size, 0.0))
            else:
                weights = over_sum(stepped - tf.reduce_min(stepped) + 1 / size)
            averages = batch["class_weights"]
            if settings.moving_weight_gamma > 0:
                averages, weights = moving_class_weights(weights, epoch, batch, settings)
            weights = tf.where(epoch >= settings.meta_start_epoch, weights, 1 / size)
        loss = tf.reduce_sum(weights * cost) + regularisation
        pseudo, rows = settings.use_pseudo_loss, over_rms(batch["pseudo_rows"])
        pseudo_loss = tf.constant(0.0)
        if pseudo:
            pseudo_cost = cross_entropy(
                tf.stop_gradient(tf.nn.softmax(rows / pseudo.temperature)), z
            )
            if pseudo.type == "all":
                pseudo_loss = pseudo.weight * tf.reduce_mean(pseudo_cost)
            else:
                pseudo_loss = pseudo.weight * tf.reduce_sum(
                    tf.where(weights == 0, pseudo_cost, 0.0)
                )
            pseudo_loss = tf.where(epoch >= settings.meta_start_epoch, pseudo_loss, 0.0)
        loss += pseudo_loss
        shared_loss = loss / settings.num_replicas
    metrics = {"loss/net": loss, "loss/meta": meta_loss, "loss/pseudo": pseudo_loss}
    samples = {
        "weights": weights,
        "meta_gradients": meta_gradients,
        "margin": margin,
        "cost": cost,
        "class_weights": averages,
    }
    if pseudo:
        samples["pseudo_rows"] = pseudo.gamma * rows + (1 - pseudo.gamma) * z
    return Outcome(by_theta.gradient(shared_loss, theta), moving, metrics, samples)


STEPS = {"l2r": l2r_step, "ieg": ieg_step, "fsr": fsr_step}


# ---- what the steps share


def cross_entropy(targets: Tensor, logits: Tensor) -> Tensor:
    return -tf.reduce_sum(targets * tf.nn.log_softmax(logits), axis=1)


def over_rms(logits: Tensor) -> Tensor:
    return logits / tf.sqrt(tf.reduce_mean(logits**2) + 1e-8)


def over_sum(weights: Tensor) -> Tensor:
    return weights / (tf.reduce_sum(weights) + 1e-5)


def mix(images: Tensor, targets: Tensor, draws: Batch) -> tuple[Tensor, Tensor]:
    """Mixup of rows with a permutation of them; lambda = 1 - u^2 / 2 lies in [0.5, 1]."""
    share = 1 - draws["mix_uniform"] ** 2 / 2
    others = draws["mix_order"]
    by_image, by_row = share[:, None, None, None], share[:, None]
    return (
        by_image * images + (1 - by_image) * tf.gather(images, others),
        by_row * targets + (1 - by_row) * tf.gather(targets, others),
    )


def probe_loss(
    network: Network, ahead: list[Tensor], values: Values, batch: Batch, settings: Settings
) -> Tensor:
    """M(theta')."""
    labels = tf.one_hot(batch["probe_labels"], settings.num_classes)
    logits = network.forward(ahead, values.moving, batch["probe_images"]).logits
    return tf.reduce_mean(cross_entropy(labels, logits)) + network.meta_regularisation(ahead)


def moving_class_weights(
    weights: Tensor, epoch: Tensor, batch: Batch, settings: Settings
) -> tuple[Tensor, Tensor]:
    """The averages by class (C,), one sample after another, and what they give each sample (B,)."""
    averages = tf.unstack(batch["class_weights"])
    for weight, label in zip(tf.unstack(weights), tf.unstack(batch["labels"])):
        old = tf.gather(batch["class_weights"], label)
        new = settings.moving_weight_gamma * old + (1 - settings.moving_weight_gamma) * weight
        averages = [tf.where(label == c, new, average) for c, average in enumerate(averages)]
    averages = tf.stack(averages)
    if settings.meta_moving_end_epoch > 0:
        averages = tf.where(
            epoch >= settings.meta_moving_end_epoch, batch["class_weights"], averages
        )
    return averages, tf.gather(averages, batch["labels"])

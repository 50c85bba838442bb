"""Losses and label rules of IEG, FSR, L2R and supervised training.

Pure functions of tensors, computed in float32.

IEG: Zhang et al., "Distilling Effective Supervision from Severe Label Noise", CVPR 2020. FSR: Zhang
& Pfister, "Learning Fast Sample Re-weighting Without Reward Data", ICCV 2021. L2R: Ren et al.,
"Learning to Reweight Examples", ICML 2018.

Shapes: B batch, C classes. Targets are rows of probabilities, logits are not normalised.
"""

import tensorflow as tf
from tensorflow import Tensor

GUESS_TEMPERATURE = 0.5
MIXUP_BETA = 0.5
NORMALISER_FLOOR = 1e-5  # of the sum of weights; they sum to a little less than 1


def cross_entropy(targets: Tensor, logits: Tensor) -> Tensor:
    """-sum_c t_c log softmax(z)_c of each sample, (B,). targets, logits: (B, C)."""
    return tf.nn.softmax_cross_entropy_with_logits(
        labels=targets, logits=tf.cast(logits, tf.float32)
    )


def smooth(targets: Tensor, smoothing: float) -> Tensor:
    """Label smoothing t (1 - s) + s / C. targets: (B, C); smoothing: s in [0, 1)."""
    return targets * (1.0 - smoothing) + smoothing / targets.shape[-1]


def logit_norm(logits: Tensor) -> Tensor:
    """Logits over their root mean square, one scalar of the whole (B, C) tensor."""
    return logits * tf.math.rsqrt(tf.reduce_mean(tf.square(logits)) + 1e-8)


def guess_label(logits: Tensor, strong_logits: Tensor) -> Tensor:
    """IEG's label estimate q, (B, C): the mean prediction of weakly and strongly augmented images.

    Of normalised logits, sharpened by T = 0.5.
    """
    mean = 0.5 * (tf.nn.softmax(logit_norm(logits)) + tf.nn.softmax(logit_norm(strong_logits)))
    powered = mean ** (1.0 / GUESS_TEMPERATURE)
    return powered / tf.reduce_sum(powered, axis=1, keepdims=True)


def consistency(logits: Tensor, strong_logits: Tensor) -> Tensor:
    """Mean of KL(softmax(z) || softmax(z^)); only z^ is moved. (B, C) each."""
    log_p = tf.stop_gradient(tf.nn.log_softmax(logits))
    return tf.reduce_mean(
        tf.reduce_sum(tf.exp(log_p) * (log_p - tf.nn.log_softmax(strong_logits)), axis=1)
    )


def mixup_lambda(uniform: Tensor) -> Tensor:
    """The published code's stand-in for Beta(0.5, 0.5), in [0.5, 1].

    lambda = max(l, 1 - l) with l = u^(1/beta) / 2.
    """
    half = uniform ** (1.0 / MIXUP_BETA) / 2.0
    return tf.maximum(half, 1.0 - half)


def mixup(images: Tensor, targets: Tensor, uniform: Tensor, order: Tensor) -> tuple[Tensor, Tensor]:
    """Images and targets mixed with a permutation of themselves.

    images: (M, H, W, channels); targets: (M, C); uniform: (M,) in [0, 1), a draw for each image;
    order: (M,) int, the permutation.
    """
    lam = mixup_lambda(uniform)
    of_image = tf.reshape(lam, (-1, 1, 1, 1))
    of_target = tf.reshape(lam, (-1, 1))
    return (
        of_image * images + (1.0 - of_image) * tf.gather(images, order),
        of_target * targets + (1.0 - of_target) * tf.gather(targets, order),
    )


def normalised(weights: Tensor) -> Tensor:
    """Weights (B,) >= 0 over their sum; all zero stays all zero."""
    return weights / (tf.reduce_sum(weights) + NORMALISER_FLOOR)


def positive_part(meta_gradients: Tensor) -> Tensor:
    """max(-g, 0), normalised (L2R, eq. 8): weights (B,) for samples that lower the meta loss."""
    return normalised(tf.nn.relu(-meta_gradients))


def fsr_weights(meta_gradients: Tensor, clip: bool) -> Tensor:
    """FSR's weights (B,) after one step from 1/B.

    Only helpful samples have weight (`clip`, for noise), or all of them, from 1/B up.
    """
    if clip:
        return positive_part(meta_gradients)
    stepped = 1.0 / meta_gradients.shape[0] - meta_gradients
    return normalised(stepped - tf.reduce_min(stepped) + 1.0 / meta_gradients.shape[0])


def pseudo_targets(rows: Tensor, temperature: float) -> Tensor:
    """FSR's pseudo labels, (B, C), of normalised rows of its table; constants to the gradient."""
    return tf.stop_gradient(tf.nn.softmax(rows / temperature))


def correct(labels: Tensor, logits: Tensor, k: int) -> Tensor:
    """(B,) float32: 1 where the label is among the k largest logits, of equal ones the first.

    labels: (B,), logits: (B, C).
    """
    classes = tf.range(tf.shape(logits)[1])[None, :]
    own = tf.gather(logits, tf.minimum(labels, tf.shape(logits)[1] - 1), batch_dims=1)[:, None]
    before = (logits > own) | ((logits == own) & (classes < labels[:, None]))
    return tf.cast(tf.reduce_sum(tf.cast(before, tf.int32), axis=1) < k, tf.float32)

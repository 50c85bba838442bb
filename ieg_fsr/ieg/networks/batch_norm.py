"""Batch normalisation as TensorFlow 1 had it, with a second derivative as fast as the first.

Unlike `keras.layers.BatchNormalization` the moving variance follows the unbiased variance of the
batch, n / (n - 1) times the biased one that normalises it. Ioffe & Szegedy, "Batch Normalization",
ICML 2015, algorithms 1 and 2.

Re-weighting differentiates the backward pass (meta.py). TensorFlow does that for its fused
operation with some sixty small ones. Here it is written out: with x^ = (x - mean) i, i = (variance
+ epsilon)^-1/2 and the projection P(a) = a - mean(a) - x^ mean(a x^), the backward pass of y =
gamma x^ + beta is

    dx = gamma i P(dy),    dgamma = sum(dy x^),    dbeta = sum(dy),

where P is self-adjoint, so its transpose is the fused backward operation again. Shapes: x (B, H, W,
C) float32 or bfloat16; all of shape (C,) is float32; n = B H W.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import keras
import tensorflow as tf
from tensorflow import Tensor

EPSILON = 1e-5


@tf.custom_gradient  # type: ignore[untyped-decorator]  # TensorFlow has no types
def normalise(
    x: Tensor, gamma: Tensor, beta: Tensor
) -> tuple[tuple[Tensor, ...], Callable[..., Any]]:
    """y (B, H, W, C) = gamma x^ + beta; the batch's mean (C,) and unbiased variance (C,).

    First and second derivatives of y are exact, also one inside the other; third ones are not. Mean
    and variance are constants to them.
    """
    none = tf.zeros([0])
    y, mean, variance, *reserved = tf.raw_ops.FusedBatchNormV3(
        x=x, scale=gamma, offset=beta, mean=none, variance=none, epsilon=EPSILON, is_training=True
    )

    def backward(dy: Tensor, *_: Tensor) -> Any:
        return _backward(dy, x, gamma, mean, variance, *reserved)

    return (y, mean, variance), backward


@tf.custom_gradient  # type: ignore[untyped-decorator]
def _backward(
    dy: Tensor, x: Tensor, gamma: Tensor, mean: Tensor, variance: Tensor, *reserved: Tensor
) -> tuple[tuple[Tensor, ...], Callable[..., Any]]:
    """dx, dgamma and dbeta.

    reserved: what the fused operation kept for itself. It is only handed on: the variance on a CPU
    is the inverse standard deviation on a GPU.
    """

    def fused(dy: Tensor, scale: Tensor) -> Any:
        kept = {f"reserve_space_{k}": tensor for k, tensor in enumerate(reserved, 1)}
        return tf.raw_ops.FusedBatchNormGradV3(
            y_backprop=dy, x=x, scale=scale, epsilon=EPSILON, is_training=True, **kept
        )[:3]

    def transposed(tx: Tensor, tgamma: Tensor, tbeta: Tensor) -> tuple[Tensor | None, ...]:
        """Gradient of <tx, dx> + <tgamma, dgamma> + <tbeta, dbeta>.

        Inside a tf.function only what is used is computed.
        """
        n = _count(x)
        i = tf.math.rsqrt(variance * (tf.maximum(n - 1.0, 1.0) / n) + EPSILON)
        slope = tgamma * i
        wide = tf.cast(x, tf.float32)
        to_dy = fused(tx, gamma)[0] + tf.cast(wide * slope + (tbeta - slope * mean), x.dtype)
        # By x and gamma: only literal double back-propagation asks for these. A scale of 1 leaves
        # no division by gamma.
        one = tf.ones_like(gamma)
        px, along, _ = fused(tx, one)  # i P(tx), sum(tx x^)
        py, across, _ = fused(dy, one)
        px, py = tf.cast(px, tf.float32), tf.cast(py, tf.float32)
        to_gamma = tf.reduce_sum(tf.cast(dy, tf.float32) * px, axis=[0, 1, 2])
        scale = gamma * i / n
        to_x = py * (tgamma - scale * along) - px * (scale * across)
        to_x -= (wide - mean) * (scale * i * to_gamma)
        return to_dy, tf.cast(to_x, x.dtype), to_gamma, *[None] * (2 + len(reserved))

    return fused(dy, gamma), transposed


def _count(x: Tensor) -> Tensor:
    """n, the number of values that a channel's statistics are taken over."""
    if None not in x.shape[:3]:
        return tf.constant(float(x.shape[0] * x.shape[1] * x.shape[2]))
    return tf.cast(tf.reduce_prod(tf.shape(x)[:3]), tf.float32)


class BatchNorm(keras.layers.Layer):  # type: ignore[misc]  # Keras has no types
    """(B, H, W, C) -> the same.

    training=True: statistics of the batch, and the moving ones go a step towards them.
    """

    def __init__(self, momentum: float = 0.9, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.momentum = momentum

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        # Parameters and statistics stay float32 under mixed precision; the fused operation takes
        # images in bfloat16.
        weight = partial(self.add_weight, shape=(input_shape[-1],), dtype="float32", autocast=False)
        self.gamma = weight(name="gamma", initializer="ones")
        self.beta = weight(name="beta", initializer="zeros")
        self.moving_mean = weight(name="moving_mean", initializer="zeros", trainable=False)
        self.moving_variance = weight(name="moving_variance", initializer="ones", trainable=False)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return input_shape

    def call(self, x: Tensor, training: bool | None = False) -> Tensor:
        held = (self.gamma, self.beta, self.moving_mean, self.moving_variance)
        gamma, beta, moving_mean, moving_variance = (tf.convert_to_tensor(v) for v in held)
        if not training:
            return tf.raw_ops.FusedBatchNormV3(
                x=x,
                scale=gamma,
                offset=beta,
                mean=moving_mean,
                variance=moving_variance,
                epsilon=EPSILON,
                is_training=False,
            ).y
        y, mean, variance = normalise(x, gamma, beta)
        share = 1.0 - self.momentum
        self.moving_mean.assign(moving_mean + share * (mean - moving_mean))
        self.moving_variance.assign(moving_variance + share * (variance - moving_variance))
        return y

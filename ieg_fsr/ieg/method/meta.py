"""The meta gradient without double back-propagation.

Re-weighting methods take a virtual step theta' = theta - eta d/dtheta sum_i w_i l_i(theta) and ask
how the loss M of trusted samples at theta' depends on w_i. By the chain rule

    dM/dw_i = -eta <dM/dtheta', dl_i/dtheta> = -eta JVP_V[l_i],    V = dM/dtheta',

so one ordinary backward pass at theta' and one Jacobian-vector product at theta give it exactly.
Ren et al., "Learning to Reweight Examples for Robust Deep Learning", ICML 2018, eq. 12,
differentiate through the step instead.
"""

from collections.abc import Callable, Sequence

import tensorflow as tf
from tensorflow import Tensor


def jvp(
    tape: tf.GradientTape,
    outputs: Sequence[Tensor],
    weights: Sequence[Tensor],
    direction: Sequence[Tensor],
) -> list[Tensor]:
    """The derivative of every element of `outputs` along `direction` in the space of `weights`.

    tape: a persistent one that has seen the weights become the outputs and does not record now. The
    Jacobian-vector product is the transpose of the vector-Jacobian product u -> u J, which is
    linear in u, so differentiating it by u gives J V. Inside a tf.function all that depends on u
    alone is pruned: what remains costs as much as forward mode, about two forward passes, and uses
    the activations that the tape holds already.
    """
    cotangents = [tf.zeros_like(output) for output in outputs]
    with tf.GradientTape() as transposing:
        transposing.watch(cotangents)
        pulled_back = tape.gradient(
            outputs, weights, output_gradients=cotangents, unconnected_gradients="zero"
        )
    along: list[Tensor] = transposing.gradient(
        pulled_back, cotangents, output_gradients=list(direction), unconnected_gradients="zero"
    )
    return along


def look_ahead(
    weights: Sequence[Tensor],
    gradients: Sequence[Tensor],
    stepsize: float,
    accumulators: Sequence[Tensor] | None = None,
    momentum: float = 0.0,
) -> list[Tensor]:
    """theta' = theta - eta (mu a + g). accumulators: the optimizer's, constants here."""
    if momentum and accumulators is not None:
        gradients = [momentum * a + g for a, g in zip(accumulators, gradients)]
    return [w - stepsize * g for w, g in zip(weights, gradients)]


def gradient_of(
    loss: Callable[[list[Tensor]], Tensor], weights: Sequence[Tensor]
) -> tuple[list[Tensor], Tensor]:
    """Gradient of loss(weights) at `weights`, and the loss itself."""
    point = [tf.identity(w) for w in weights]
    with tf.GradientTape() as tape:
        tape.watch(point)
        value = loss(point)
    return tape.gradient(value, point, unconnected_gradients="zero"), value

"""Batch normalisation and its derivatives against the formula written out.

Tolerances: both sides are float32 and add up n <= 200 products of numbers near 1 in different
orders, so they may differ by some 1e-6 of the largest element; 1e-5 leaves room for the chain of
two derivatives.
"""

import keras
import numpy as np
import pytest
import tensorflow as tf

from ieg.networks.batch_norm import EPSILON, BatchNorm, normalise

SHAPE = (4, 5, 3, 2)


def written_out(x, gamma, beta):
    mean = tf.reduce_mean(x, [0, 1, 2])
    # Tf.nn.moments stops a gradient: its second derivative is wrong.
    variance = tf.reduce_mean((x - mean) ** 2, [0, 1, 2])
    return gamma * (x - mean) * tf.math.rsqrt(variance + EPSILON) + beta


def fused(x, gamma, beta):
    return normalise(x, gamma, beta)[0]


def inputs(seed=0, shape=SHAPE):
    random = np.random.default_rng(seed)
    x = random.normal(0.7, 1.5, shape)
    return [
        tf.constant(v, tf.float32)
        for v in (x, random.normal(1, 0.5, shape[-1]), random.normal(size=shape[-1]))
    ]


def noise(seed, like):
    random = np.random.default_rng(seed)
    return [tf.constant(random.normal(size=v.shape), v.dtype) for v in like]


def assert_close(found, expected, tolerance=1e-5):
    for a, b in zip(found, expected, strict=True):
        a, b = tf.cast(a, tf.float32).numpy(), tf.cast(b, tf.float32).numpy()
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * max(1.0, np.abs(b).max()))


def first(function, seed):
    """y and the gradients of <c, y>, c random, by x, gamma, beta."""
    variables = inputs(seed)
    with tf.GradientTape() as tape:
        tape.watch(variables)
        y = function(*variables)
    return y, *tape.gradient(y, variables, output_gradients=noise(seed + 1, [y])[0])


def second(function, seed):
    """Gradients by c, x, gamma, beta of <t, first derivatives>, t random.

    There y also acts through its square.
    """
    variables = [*inputs(seed), *noise(seed + 1, [tf.zeros(SHAPE)])]
    with tf.GradientTape() as outer:
        outer.watch(variables)
        with tf.GradientTape() as tape:
            tape.watch(variables[:3])
            y = function(*variables[:3])
            value = tf.reduce_sum(variables[3] * (y + 0.3 * y * y))
        gradients = tape.gradient(value, variables[:3])
    return outer.gradient(gradients, variables, output_gradients=noise(seed + 2, gradients))


def jacobian_vector_product(function, seed):
    """The vector-Jacobian product transposed, as in meta.py, and TensorFlow's forward mode."""
    variables = inputs(seed)
    direction = noise(seed + 1, variables)
    with tf.GradientTape() as tape:
        tape.watch(variables)
        y = tf.tanh(function(*variables))
    cotangent = tf.zeros_like(y)
    with tf.GradientTape() as outer:
        outer.watch(cotangent)
        pulled_back = tape.gradient(y, variables, output_gradients=cotangent)
    return [outer.gradient(pulled_back, cotangent, output_gradients=direction)]


@pytest.mark.parametrize("compiled", [None, "graph", "xla"])
@pytest.mark.parametrize("derivative", [first, second, jacobian_vector_product])
def test_derivatives_are_those_of_the_formula(derivative, compiled):
    expected = derivative(written_out, 3)
    call = (
        derivative if compiled is None else tf.function(derivative, jit_compile=compiled == "xla")
    )
    assert_close(call(fused, 3), expected)


def test_the_jacobian_vector_product_agrees_with_forward_mode():
    variables = inputs(5)
    with tf.autodiff.ForwardAccumulator(variables, noise(6, variables)) as forward:
        y = tf.tanh(written_out(*variables))
    assert_close(jacobian_vector_product(fused, 5), [forward.jvp(y)])


def test_a_scale_of_zero_has_second_derivatives():
    """Nothing may be divided by gamma.

    At 0 the gradient by gamma is still the mean of what the layer would let through.
    """
    x, _, beta = inputs()
    gamma, weights = tf.zeros(2), noise(1, [x])[0]

    def by_gamma(function):
        with tf.GradientTape() as outer:
            outer.watch(gamma)
            with tf.GradientTape() as tape:
                tape.watch(x)
                value = tf.reduce_sum(weights * function(x, gamma, beta))
            gradient = tape.gradient(value, x)
        return outer.gradient(gradient, gamma, output_gradients=weights)

    assert_close([by_gamma(fused)], [by_gamma(written_out)])


def test_derivatives_with_a_batch_of_unknown_size():
    @tf.function(input_signature=[tf.TensorSpec([None, None, 3, 2])])
    def transposed(x):
        _, gamma, beta = inputs(7)
        with tf.GradientTape() as outer:
            outer.watch(x)
            with tf.GradientTape() as tape:
                tape.watch(x)
                value = tf.reduce_sum(tf.tanh(normalise(x, gamma, beta)[0]))
            gradient = tape.gradient(value, x)
        return outer.gradient(gradient, x, output_gradients=tf.cos(x))

    x, gamma, beta = inputs(7)
    with tf.GradientTape() as outer:
        outer.watch(x)
        with tf.GradientTape() as tape:
            tape.watch(x)
            value = tf.reduce_sum(tf.tanh(written_out(x, gamma, beta)))
        gradient = tape.gradient(value, x)
    assert_close([transposed(x)], [outer.gradient(gradient, x, output_gradients=tf.cos(x))])


@pytest.mark.parametrize("shape", [(1, 1, 1, 2), (2, 1, 1, 2)])
def test_one_and_two_values_in_a_channel(shape):
    x, gamma, beta = inputs(shape=shape)
    y, mean, variance = normalise(x, gamma, beta)
    assert_close([y, mean], [written_out(x, gamma, beta), tf.reduce_mean(x, [0, 1, 2])])
    np.testing.assert_allclose(
        variance, np.var(x, axis=(0, 1, 2), ddof=1) if shape[0] > 1 else np.zeros(2), rtol=1e-5
    )


@pytest.mark.parametrize("momentum", [0.9, 0.997])
def test_the_moving_statistics_follow_mean_and_unbiased_variance(momentum):
    layer = BatchNorm(momentum)
    layer.build(SHAPE)
    mean, variance = np.zeros(2), np.ones(2)
    for seed in range(3):
        x = inputs(seed)[0]
        np.testing.assert_allclose(
            layer(x, training=True), written_out(x, tf.ones(2), tf.zeros(2)), atol=1e-5
        )
        rows = x.numpy().astype(float).reshape(-1, 2)
        mean = momentum * mean + (1 - momentum) * rows.mean(axis=0)
        variance = momentum * variance + (1 - momentum) * rows.var(axis=0, ddof=1)
    np.testing.assert_allclose(layer.moving_mean, mean, rtol=1e-5)
    np.testing.assert_allclose(layer.moving_variance, variance, rtol=1e-5)
    x = inputs(9)[0]
    np.testing.assert_allclose(layer(x), (x - mean) / np.sqrt(variance + EPSILON), atol=1e-5)
    np.testing.assert_allclose(layer.moving_mean, mean, rtol=1e-5)  # evaluation moves nothing


def test_bfloat16_keeps_parameters_and_statistics_in_float32():
    """bfloat16 has 8 bits, so a rounded y near 4 may be off by 2^-7.

    Statistics see the rounded images, but in float32.
    """
    layer = BatchNorm(dtype="mixed_bfloat16")
    layer.build(SHAPE)
    x, gamma, beta = inputs()
    x = tf.cast(x, tf.bfloat16)
    wide = tf.cast(x, tf.float32)
    parameters = [tf.convert_to_tensor(v) for v in layer.trainable_variables]
    assert {v.dtype for v in layer.variables} == {"float32"}
    y, moved = layer.stateless_call([gamma, beta], [tf.zeros(2), tf.zeros(2)], x, training=True)
    assert y.dtype == tf.bfloat16
    assert [v.dtype for v in (*moved, *parameters)] == [tf.float32] * 4
    assert_close([y], [written_out(wide, gamma, beta)], 2.0**-7)
    assert_close([moved[0]], [0.1 * tf.reduce_mean(wide, [0, 1, 2])])
    weights = tf.cast(noise(1, [wide])[0], tf.bfloat16)

    def twice(function, x, weights):
        with tf.GradientTape() as outer:
            outer.watch([weights, x, gamma])
            with tf.GradientTape() as tape:
                tape.watch([x, gamma])
                y = function(x, gamma, beta)
            gradients = tape.gradient(y, [x, gamma], output_gradients=weights)
        directions = [tf.cast(d, g.dtype) for d, g in zip(noise(2, gradients), gradients)]
        return outer.gradient(gradients, [weights, x, gamma], output_gradients=directions)

    found = twice(fused, x, weights)
    assert [v.dtype for v in found] == [tf.bfloat16, tf.bfloat16, tf.float32]
    # Sums of a few rounded terms.
    assert_close(found, twice(written_out, wide, tf.cast(weights, tf.float32)), 2.0**-5)


def test_every_replica_has_its_own_statistics():
    images = keras.Input(SHAPE[1:])
    devices = tf.config.list_logical_devices("CPU")
    strategy = tf.distribute.MirroredStrategy([d.name for d in devices])
    with strategy.scope():
        model = keras.Model(images, BatchNorm()(images))
    x, gamma, beta = inputs()

    @tf.function
    def run():
        def replica():
            shifted = x + tf.cast(
                tf.distribute.get_replica_context().replica_id_in_sync_group, tf.float32
            )
            with tf.GradientTape() as tape:
                tape.watch(gamma)
                y, moved = model.stateless_call(
                    [gamma, beta], [tf.zeros(2), tf.zeros(2)], shifted, training=True
                )
                value = tf.reduce_sum(y * y)
            return moved[0], tape.gradient(value, gamma)

        return strategy.run(replica)

    means, gradients = (strategy.experimental_local_results(v) for v in run())
    assert len(means) == len(devices)
    for replica, (mean, gradient) in enumerate(zip(means, gradients)):
        assert_close([mean], [0.1 * (tf.reduce_mean(x, [0, 1, 2]) + replica)])
        assert_close([gradient / 60], [2 * gamma])

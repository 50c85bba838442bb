"""The networks: size, initial values, unusual details, compilation and mixed precision."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from ieg import networks
from ieg.networks import batch_norm

# name, classes, side of the image -> parameters, trainable variables, layers of batch
# normalisation; as published
LARGE = ("resnet50", "resnet50v1", "resnet32", "wrn28-10")
SIZES = [
    ("resnet29", 10, 32, 840_730, 89, 28),
    ("resnet29", 100, 32, 863_860, 89, 28),
    ("resnet32", 10, 32, 464_154, 95, 31),
    ("resnet32", 100, 32, 470_004, 95, 31),
    ("resnet18", 10, 32, 269_626, 59, 19),
    ("resnet18", 100, 32, 275_476, 59, 19),
    ("resnet50", 50, 224, 23_602_802, 153, 49),
    ("resnet50v1", 10, 224, 23_528_522, 161, 53),
    ("wrn28-10", 100, 32, 36_278_324, 77, 25),
]


def build(name, classes=10, side=32, seed=0, **options):
    return networks.build(name, classes, image_shape=(side, side, 3), seed=seed, **options)


def images(count=4, side=32, seed=0):
    return tf.constant(
        np.random.default_rng(seed).uniform(-1, 1, (count, side, side, 3)), tf.float32
    )


def values(variables):
    return [tf.convert_to_tensor(v) for v in variables]


def kernels(model):
    return {v.path: v.numpy() for v in model.trainable_variables if v.path.endswith("kernel")}


@pytest.mark.parametrize(
    ("name", "classes", "side", "parameters", "variables", "norms"),
    [
        # The large ones take seconds to build.
        pytest.param(*size, marks=[pytest.mark.training] if size[0] in LARGE else [])
        for size in SIZES
    ],
)
def test_sizes_and_initial_values(name, classes, side, parameters, variables, norms):
    model = build(name, classes, side)
    trainable = model.trainable_variables
    assert sum(int(np.prod(v.shape)) for v in trainable) == parameters
    assert (len(trainable), len(model.non_trainable_variables)) == (variables, 2 * norms)
    features, logits = model.outputs
    assert [v.path for v in trainable[-2:]] == ["classifier/kernel", "classifier/bias"]
    assert [tuple(v.shape) for v in trainable[-2:]] == [(features.shape[-1], classes), (classes,)]
    assert (logits.shape[-1], logits.dtype, features.dtype) == (classes, "float32", "float32")
    drawn = kernels(model)
    classifier = drawn.pop("classifier/kernel")
    for kernel in drawn.values():
        size, channels, filters = kernel.shape[0] * kernel.shape[1], *kernel.shape[2:]
        if name.startswith("wrn"):
            variance = 2 / (size * filters)
        elif name == "resnet50":
            variance = 1 / (size * channels)
        elif name == "resnet50v1":
            variance = 2 / (size * channels)
        else:
            variance = 2 / (size * (channels + filters))
        sigma = variance**0.5
        # Of n draws the deviation is known to 1 / sqrt(2 n), the mean to 1 / sqrt(n) deviations:
        # five times that.
        assert kernel.std() == pytest.approx(sigma, rel=5 / (2 * kernel.size) ** 0.5)
        assert abs(kernel.mean()) < 5 * sigma / kernel.size**0.5
        bound = {"wrn": 9.0, "resnet32": 3**0.5 + 1e-4, "resnet18": 3**0.5 + 1e-4}.get(
            name.split("28")[0], 2 / 0.8796
        )
        # Uniform, or normal and cut at two deviations before it is widened.
        assert np.abs(kernel).max() <= bound * sigma
        if name.startswith("wrn") and kernel.size > 100_000:
            assert np.abs(kernel).max() > 3.5 * sigma  # normal, not cut
    limit = classes**-0.5 if name.startswith("wrn") else (6 / sum(classifier.shape)) ** 0.5
    assert 0.95 * limit < np.abs(classifier).max() <= limit
    assert not np.any(trainable[-1].numpy())


@pytest.mark.parametrize(
    ("name", "parameters"), [("wrn10-1", 77_000), ("wrn16-2", 690_000), ("wrn28-2", 1_460_000)]
)
def test_wide_networks_of_other_sizes(name, parameters):
    model = build(name)
    assert model.count_params() == pytest.approx(parameters, rel=0.03)
    features, logits = model(images(2))
    assert (features.shape, logits.shape) == ((2, 64 * int(name[-1])), (2, 10))


@pytest.mark.parametrize("name", ["wrn28", "wrn12-2", "wrn4-1", "wrn28-0", "resnet34", "WRN28-10"])
def test_an_unknown_network_is_refused_with_the_grammar(name):
    with pytest.raises(
        ValueError, match=r"wrn28-10, resnet29, resnet32, resnet18, resnet50, resnet50v1, or wrn"
    ):
        build(name)
    with pytest.raises(ValueError, match="unknown network"):
        networks.regularisation(name, [tf.ones(1)])


def test_impossible_requests_are_refused():
    with pytest.raises(ValueError, match="multiples of 4"):
        build("wrn10-1", side=30)
    with pytest.raises(ValueError, match="only resnet29"):
        build("wrn10-1", relu_in_bottleneck=True)


@pytest.mark.training  # builds networks for seconds
def test_the_seed_decides_the_weights_and_layers_differ():
    one, same, other = (kernels(build("resnet29", seed=seed)) for seed in (1, 1, 2))
    assert list(one) == list(same)  # names do not depend on what was built before
    assert all(np.array_equal(one[name], same[name]) for name in one)
    assert not any(np.array_equal(one[name], other[name]) for name in one)
    first_rows = [kernel.ravel()[0] / kernel.std() for kernel in one.values()]
    assert len(set(np.round(first_rows, 4))) == len(first_rows)


@pytest.mark.training  # builds networks for seconds
def test_the_restored_relu_changes_what_resnet29_computes_and_nothing_else():
    plain, restored = build("resnet29"), build("resnet29", relu_in_bottleneck=True)
    assert [v.path for v in plain.variables] == [v.path for v in restored.variables]
    count = [
        sum(isinstance(layer, keras.layers.ReLU) for layer in model.layers)
        for model in (plain, restored)
    ]
    assert count == [20, 28]  # eight blocks have one more
    assert np.abs(plain(images())[1] - restored(images())[1]).max() > 0.01


def test_the_wide_network_is_the_formula_written_out():
    """wrn10-2 in inference mode with random statistics, block by block."""
    model = build("wrn10-2", seed=3)
    random = np.random.default_rng(0)
    for v in model.variables:
        if len(v.shape) == 1:
            v.assign(random.uniform(0.5, 1.5, v.shape))
    weights = {v.path: v.value for v in model.variables}
    norms, convs = iter(range(1, 8)), iter(range(1, 8))

    def norm_relu(x):
        gamma, beta, mean, variance = (
            weights[f"batch_norm_{norm}/{part}"]
            for norm in [next(norms)]
            for part in ("gamma", "beta", "moving_mean", "moving_variance")
        )
        return tf.nn.relu(gamma * (x - mean) / tf.sqrt(variance + 1e-5) + beta)

    def conv(x, stride=1):
        return tf.nn.conv2d(x, weights[f"conv_{next(convs)}/kernel"], stride, "SAME")

    def smaller(x, stride, channels):
        sides = (channels - x.shape[-1]) // 2
        return tf.pad(tf.nn.avg_pool2d(x, stride, stride, "VALID"), [[0, 0]] * 3 + [[sides, sides]])

    x = images(2)
    x = first = conv(x)
    for stride, channels in ((1, 32), (2, 64), (2, 128)):
        before = x
        active = norm_relu(x)
        x = conv(norm_relu(conv(active, stride))) + smaller(
            active if stride == 1 else before, stride, channels
        )
        x = x + smaller(before, stride, channels)
    features = tf.reduce_mean(norm_relu(x + smaller(first, 4, 128)), [1, 2])
    expected = features @ weights["classifier/kernel"] + weights["classifier/bias"]
    found = model(images(2))
    np.testing.assert_allclose(found[0], features, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(found[1], expected, rtol=1e-4, atol=1e-4)


def test_regularisation_of_every_network():
    variables = [tf.constant([[1.0, 2.0]]), tf.constant([3.0])]  # a kernel and a bias
    rates = {"weight_decay": 0.1, "l2_weight_decay": 0.2}
    expected = {
        "wrn28-10": 5e-4 * 7,
        "wrn16-2": 5e-4 * 7,
        "resnet29": 1e-4 * 5,
        "resnet32": 0.7,
        "resnet18": 0.7,
        "resnet50": 1.4,
    }
    for name, value in expected.items():
        assert float(networks.regularisation(name, variables, **rates)) == pytest.approx(value)
        meta = 7e-4 if name == "resnet29" else value
        assert float(networks.meta_regularisation(name, variables, **rates)) == pytest.approx(meta)
    model = build("resnet29")
    by_hand = 1e-4 * sum(
        float(np.sum(kernel.astype(float) ** 2)) for kernel in kernels(model).values()
    )
    assert float(
        networks.regularisation(model, values(model.trainable_variables))
    ) == pytest.approx(by_hand, rel=1e-5)


def meta_gradient(model, weights, x, direction):
    """Logits, their derivative along `direction`, and gradients, as the methods use a network."""
    moving = values(model.non_trainable_variables)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(weights)
        (_, logits), moved = model.stateless_call(weights, moving, x, training=True)
    cotangent = tf.zeros_like(logits)
    with tf.GradientTape() as outer:
        outer.watch(cotangent)
        pulled_back = tape.gradient(logits, weights, output_gradients=cotangent)
    along = outer.gradient(pulled_back, cotangent, output_gradients=direction)
    return (
        logits,
        along,
        tape.gradient(logits, weights, output_gradients=tf.ones_like(logits)),
        list(moved),
    )


def composite(x, gamma, beta):
    """Batch normalisation in plain operations, which TensorFlow differentiates in any mode."""
    mean = tf.reduce_mean(x, [0, 1, 2])
    variance = tf.reduce_mean((x - mean) ** 2, [0, 1, 2])
    count = tf.size(x, tf.int32) // tf.size(mean)
    return (
        gamma * (x - mean) * tf.math.rsqrt(variance + 1e-5) + beta,
        mean,
        variance * tf.cast(count / (count - 1), tf.float32),
    )


@pytest.mark.training
@pytest.mark.parametrize(("name", "xla"), [("wrn10-1", True), ("resnet18", False)])
def test_the_meta_gradient_is_that_of_forward_mode_and_compiles(name, xla, monkeypatch):
    """The reference adds in another order: 1e-4 of the largest number is above the rounding."""
    model = build(name, side=8, seed=1)
    weights, moving = values(model.trainable_variables), values(model.non_trainable_variables)
    random = np.random.default_rng(0)
    direction = [tf.constant(random.normal(size=v.shape), tf.float32) for v in weights]
    plain = meta_gradient(model, weights, images(6, 8), direction)
    compiled = tf.function(lambda *tensors: meta_gradient(model, *tensors), jit_compile=xla)(
        weights, images(6, 8), direction
    )
    monkeypatch.setattr(batch_norm, "normalise", composite)
    with tf.autodiff.ForwardAccumulator(weights, direction) as forward, tf.GradientTape() as tape:
        tape.watch(weights)
        (_, logits), moved = model.stateless_call(weights, moving, images(6, 8), training=True)
    gradients = tape.gradient(logits, weights)
    expected = (logits, forward.jvp(logits), gradients, list(moved))
    # Some exact gradients are 0, that of a shift before batch normalisation, say: all are measured
    # against the largest.
    largest = max(np.abs(gradient).max() for gradient in gradients)
    for found in (plain, compiled):
        for part, (a_part, b_part) in enumerate(zip(found, expected, strict=True)):
            for a, b in zip(tf.nest.flatten(a_part), tf.nest.flatten(b_part), strict=True):
                scale = largest if part == 2 else np.abs(b).max()
                np.testing.assert_allclose(a, b, rtol=0, atol=1e-4 * scale)


@pytest.mark.training  # builds networks for seconds
def test_mixed_precision_computes_in_bfloat16_and_keeps_the_rest_in_float32():
    policy = keras.mixed_precision.dtype_policy()
    plain = build("wrn10-1", side=16)
    try:
        keras.mixed_precision.set_dtype_policy("mixed_bfloat16")
        model = build("wrn10-1", side=16)
    finally:
        keras.mixed_precision.set_dtype_policy(policy)
    assert {
        layer.compute_dtype
        for layer in model.layers
        if layer.name.startswith(("conv", "batch_norm"))
    } == {"bfloat16"}
    assert {v.dtype for v in model.variables} == {"float32"}
    weights = values(model.trainable_variables)
    direction = [0.1 * w for w in weights]
    logits, along, gradients, moved = meta_gradient(model, weights, images(8, 16), direction)
    exact = meta_gradient(plain, weights, images(8, 16), direction)
    assert {tensor.dtype for tensor in (logits, along, *gradients, *moved)} == {tf.float32}
    for a, b in zip((logits, along), exact):  # two and a half digits through seven convolutions
        assert np.abs(a - b).max() < 0.1 * np.abs(b).max()


def test_a_pass_without_its_statistics_leaves_the_model_alone():
    model = build("resnet18", side=8)
    before = [v.numpy() for v in model.variables]
    _, moved = model.stateless_call(
        values(model.trainable_variables),
        values(model.non_trainable_variables),
        images(4, 8),
        training=True,
    )
    assert all(np.array_equal(a, v.numpy()) for a, v in zip(before, model.variables))
    assert not any(
        np.array_equal(a, b) for a, b in zip(moved, values(model.non_trainable_variables))
    )
    model(images(4, 8), training=True)
    for a, v in zip(moved, model.non_trainable_variables):
        np.testing.assert_allclose(v, a, rtol=1e-4, atol=1e-6)

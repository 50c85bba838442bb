"""A training step of each method is the step of its paper, differentiated through the virtual step.

The draws and weights below are fixed, and such that every method gives some samples weight and
others none.
"""

from dataclasses import replace
from functools import cache, partial

import keras
import numpy as np
import pytest
import tensorflow as tf

from ieg import networks
from ieg.method import step_fsr, step_ieg, step_l2r, step_supervised
from ieg.method.settings import PseudoLoss, Settings
from ieg.method.step import Values
from ieg.method.trainer import Trainer, network_of
from ieg.networks.layers import Builder
from tests.bench import ieg_fsr_literal as literal

OURS = {"l2r": step_l2r.step, "ieg": step_ieg.step, "fsr": step_fsr.step}
BATCH, QUEUE, CLASSES, SIDE = 6, 4, 3, 8
SETTINGS = Settings(
    num_classes=CLASSES,
    num_replicas=1,
    batch_size=BATCH,
    meta_stepsize=0.1,
    meta_momentum=0.9,
    grad_eps_init=0.9,
    ce_factor=5.0,
    consistency_factor=20.0,
    guess_gradient=True,
    label_smoothing=0.0,
    use_mixup=True,
    use_pseudo_loss=PseudoLoss("all", 1.0, 0.1, 2.0),
    clip_meta_weight=True,
    moving_weight_gamma=0.0,
    meta_start_epoch=2,
    meta_moving_end_epoch=0,
    iter_epoch=10,
)
OPTIONS = {
    "l2r": [{}, {"num_replicas": 2}, {"meta_stepsize": 1.0}],
    "ieg": [
        {},
        {"guess_gradient": False},
        {"meta_momentum": 0.0},
        {"guess_gradient": False, "meta_momentum": 0.0, "num_replicas": 2},
        {"ce_factor": 0.0},
        {"consistency_factor": 0.0},
        {"ce_factor": 0.0, "consistency_factor": 0.0, "grad_eps_init": 0.5},
    ],
    "fsr": [
        {},
        {
            "use_mixup": False,
            "label_smoothing": 0.1,
            "clip_meta_weight": False,
            "use_pseudo_loss": None,
        },
        {"clip_meta_weight": False},
        {"meta_momentum": 0.0, "num_replicas": 2},
        {"label_smoothing": 0.1},  # with mixup it acts on the queue alone
        {"use_pseudo_loss": PseudoLoss("partial", 0.5, 0.3, 1.5)},
        {"moving_weight_gamma": 0.9},
        {"moving_weight_gamma": 0.5, "meta_moving_end_epoch": 2, "clip_meta_weight": False},
        {"meta_start_epoch": 3},  # the batch is of epoch 2
        {
            "meta_start_epoch": 3,
            "moving_weight_gamma": 0.9,
            "use_pseudo_loss": PseudoLoss("partial", 1.0, 0.1, 2.0),
        },
    ],
}


@cache
def conv_network():
    """A small Wide ResNet: the network as functions, weights, moving statistics."""
    model = networks.build("wrn10-1", CLASSES, image_shape=(SIDE, SIDE, 3), seed=3)
    return of_model(
        model, partial(networks.regularisation, model), partial(networks.meta_regularisation, model)
    )


@cache
def mlp():
    images = keras.Input((SIDE, SIDE, 3))
    features = keras.layers.Dense(
        7, "tanh", kernel_initializer=keras.initializers.GlorotUniform(1)
    )(keras.layers.Flatten()(images))
    logits = keras.layers.Dense(CLASSES, kernel_initializer=keras.initializers.GlorotUniform(2))(
        features
    )
    return of_model(keras.Model(images, [features, logits]), squares, partial(squares, rate=0.003))


@cache
def one_layer():
    """One convolution with batch normalisation: what a compiler is quick with."""
    images = keras.Input((SIDE, SIDE, 3))
    make = Builder(7, lambda size, filters, seed: keras.initializers.GlorotNormal(seed))
    activated = make.norm_relu(make.conv(images, 5, 3, 2))
    model = make.model("one_layer", images, activated, CLASSES, keras.initializers.GlorotUniform)
    return of_model(model, squares, partial(squares, rate=0.003))


def squares(weights, rate=0.005):
    return rate * tf.add_n([tf.reduce_sum(v**2) for v in weights])


def of_model(model, regularisation, meta_regularisation):
    draw = np.random.default_rng(5)
    weights = [
        tf.constant(v.numpy() + 0.1 * draw.normal(size=v.shape), tf.float32)
        for v in model.trainable_variables
    ]
    moving = [tf.convert_to_tensor(v) for v in model.non_trainable_variables]
    accumulators = [tf.constant(0.1 * draw.normal(size=v.shape), tf.float32) for v in weights]
    return network_of(model, regularisation, meta_regularisation), Values(
        weights, moving, accumulators
    )


NETWORKS = {"conv": conv_network, "mlp": mlp, "one layer": one_layer}
# A step of convolutions takes as long as training something.
EVERY_NETWORK = [pytest.param("conv", marks=pytest.mark.training), "mlp"]


def batch_and_draws(seed=4, labels=None):
    draw = np.random.default_rng(seed)

    def images(count):
        return tf.constant(draw.uniform(-1, 1, (count, SIDE, SIDE, 3)), tf.float32)

    def classes(count):
        return tf.constant(draw.integers(0, CLASSES, count), tf.int32)

    batch = {
        "images": images(BATCH),
        "strong": images(BATCH),
        "labels": classes(BATCH),
        "gold": classes(BATCH),
        "probe_images": images(BATCH),
        "probe_labels": classes(BATCH),
        "queue_images": images(QUEUE),
        "queue_labels": classes(QUEUE),
        "pseudo_rows": tf.constant(draw.normal(size=(BATCH, CLASSES)), tf.float32),
        "class_weights": tf.constant(draw.uniform(0, 0.3, CLASSES), tf.float32),
        "iteration": tf.constant(25),
    }
    if labels is not None:
        batch["labels"] = tf.constant(labels, tf.int32)
    return batch, draw


def draws_for(method, draw):
    count = 3 * BATCH if method == "ieg" else BATCH
    return {
        "mix_uniform": tf.constant(draw.uniform(size=count), tf.float32),
        "mix_order": tf.constant(draw.permutation(count), tf.int32),
        "probe_choice": tf.constant(draw.integers(0, BATCH, BATCH), tf.int32),
    }


def run(step, method, network, settings=SETTINGS, **batch_options):
    network, values = NETWORKS[network]()
    batch, draw = batch_and_draws(**batch_options)
    return step(network, values, batch, draws_for(method, draw), settings)


def assert_same(ours, expected):
    assert expected.metrics.keys() <= ours.metrics.keys()
    assert expected.samples.keys() == ours.samples.keys()
    for part in ("metrics", "samples"):
        for name, value in getattr(expected, part).items():
            found = getattr(ours, part)[name]
            np.testing.assert_allclose(found, value, rtol=2e-4, atol=2e-6, err_msg=f"{part} {name}")
    for part in ("gradients", "moving"):
        assert len(getattr(ours, part)) == len(getattr(expected, part))
        for number, (found, value) in enumerate(zip(getattr(ours, part), getattr(expected, part))):
            scale = np.abs(value).max()
            np.testing.assert_allclose(
                found, value, atol=2e-4 * scale + 1e-6, err_msg=f"{part} {number}"
            )


@pytest.mark.parametrize("network", EVERY_NETWORK)
@pytest.mark.parametrize(
    ("method", "options"),
    [(method, options) for method, rows in OPTIONS.items() for options in rows],
    ids=str,
)
def test_a_step_equals_double_back_propagation(method, options, network):
    settings = replace(SETTINGS, **options)
    ours, expected = (
        run(steps[method], method, network, settings) for steps in (OURS, literal.STEPS)
    )
    assert_same(ours, expected)
    assert np.isfinite(ours.metrics["loss/net"])


@pytest.mark.parametrize("network", EVERY_NETWORK)
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_supervised_is_mean_cross_entropy(network, smoothing):
    settings = replace(SETTINGS, label_smoothing=smoothing, num_replicas=2)
    ours = run(step_supervised.step, "supervised", network, settings)
    functions, values = NETWORKS[network]()
    batch, _ = batch_and_draws()
    with tf.GradientTape() as tape:
        tape.watch(values.weights)
        _, logits, moving = functions.forward(values.weights, values.moving, batch["images"])
        targets = (1 - smoothing) * tf.one_hot(batch["labels"], CLASSES) + smoothing / CLASSES
        loss = tf.reduce_mean(literal.cross_entropy(targets, logits)) + functions.regularisation(
            values.weights
        )
        half = loss / 2  # of two replicas
    expected = literal.Outcome(tape.gradient(half, values.weights), moving, {"loss/net": loss})
    assert_same(ours, expected)


@pytest.mark.training
def test_the_fixed_batches_tell_samples_apart():
    for network in ("conv", "mlp"):
        for method in OURS:
            weights = run(OURS[method], method, network).samples["weights"].numpy()
            assert 0 < np.sum(weights == 0) < BATCH
        keep = run(OURS["ieg"], "ieg", network).samples["keep"].numpy()
        assert 0 < keep.sum() < BATCH


@pytest.mark.training
@pytest.mark.parametrize("method", ["l2r", "ieg", "fsr"])
def test_compiled_by_xla_a_step_is_the_same(method):
    """All numbers come in from outside, so the compiler can change nothing but rounding."""
    functions, values = NETWORKS["one layer"]()
    batch, draw = batch_and_draws()

    @tf.function(jit_compile=True)
    def compiled(values, batch, draws):
        outcome = OURS[method](functions, Values(*values), batch, draws, SETTINGS)
        return outcome.gradients, outcome.moving, outcome.metrics, outcome.samples

    found = literal.Outcome(*compiled(tuple(values), batch, draws_for(method, draw)))
    assert_same(found, run(OURS[method], method, "one layer"))


@pytest.mark.training
@pytest.mark.parametrize("method", ["supervised", "l2r", "ieg", "fsr"])
def test_only_the_first_pass_moves_the_statistics(method):
    """That of the training images: weak ones, or mixed ones for FSR."""
    functions, values = conv_network()
    batch, draw = batch_and_draws()
    draws = draws_for(method, draw)
    images = (
        literal.mix(batch["images"], tf.zeros((BATCH, CLASSES)), draws)[0]
        if method == "fsr"
        else batch["images"]
    )
    expected = functions.forward(values.weights, values.moving, images).moving
    steps = {**OURS, "supervised": step_supervised.step}
    found = steps[method](functions, values, batch, draws, SETTINGS).moving
    assert len(found) == len(expected) == 2 * sum("batch_norm" in name for name in variable_paths())
    for ours, once, before in zip(found, expected, values.moving):
        np.testing.assert_allclose(ours, once, rtol=1e-5, atol=1e-6)
        assert not np.allclose(ours, before)


def variable_paths():
    model = networks.build("wrn10-1", CLASSES, image_shape=(SIDE, SIDE, 3), seed=3)
    return {v.path.rsplit("/", 1)[0] for v in model.non_trainable_variables}


@pytest.mark.parametrize("method", ["l2r", "ieg", "fsr"])
def test_samples_that_all_harm_get_no_weight_and_the_loss_stays_finite(method):
    """A negative step size turns every meta gradient round; one image, so all of them agree."""
    functions, values = mlp()
    batch, draw = batch_and_draws(labels=[1] * BATCH)
    image = batch["images"][:1]
    same = tf.repeat(image, BATCH, axis=0)
    batch |= {"images": same, "strong": same, "probe_images": same, "queue_images": same[:QUEUE]}
    batch |= {name: tf.ones_like(batch[name]) for name in ("probe_labels", "queue_labels")}
    unmixed, draws = replace(SETTINGS, use_mixup=False), draws_for(method, draw)
    outcomes = [
        OURS[method](functions, values, batch, draws, replace(unmixed, meta_stepsize=eta))
        for eta in (0.1, -0.1)
    ]
    helped, harmed = (outcome.samples["weights"].numpy() for outcome in outcomes)
    np.testing.assert_allclose(helped, 1 / BATCH, rtol=1e-2)
    np.testing.assert_array_equal(harmed, 0)
    assert np.all(outcomes[1].samples["meta_gradients"] > 0)
    assert np.isfinite(outcomes[1].metrics["loss/net"])
    assert all(np.isfinite(gradient).all() for gradient in outcomes[1].gradients)


@pytest.mark.parametrize("network", EVERY_NETWORK)
@pytest.mark.parametrize("method", ["l2r", "ieg", "fsr"])
def test_a_batch_may_hold_one_class_alone(method, network):
    ours, expected = (
        run(steps[method], method, network, labels=[2] * BATCH) for steps in (OURS, literal.STEPS)
    )
    assert_same(ours, expected)
    assert all(np.isfinite(gradient).all() for gradient in ours.gradients)


@pytest.mark.parametrize("network", EVERY_NETWORK)
def test_the_gradient_through_the_label_estimate_matters(network):
    flow, stop = (
        run(step_ieg.step, "ieg", network, replace(SETTINGS, guess_gradient=guess))
        for guess in (True, False)
    )
    for name in ("meta_gradients", "eps_gradients"):
        a, b = flow.samples[name].numpy(), stop.samples[name].numpy()
        assert np.abs(a - b).max() > 0.01 * np.abs(b).max()


@pytest.mark.parametrize("network", EVERY_NETWORK)
def test_meta_gradients_are_the_slope_of_the_meta_loss(network):
    """By finite differences of L2R's look-ahead, without differentiating through a step."""
    functions, values = NETWORKS[network]()
    batch, _ = batch_and_draws()
    labels = tf.one_hot(batch["labels"], CLASSES)

    def meta_loss(w):
        with tf.GradientTape() as tape:
            tape.watch(values.weights)
            cost = literal.cross_entropy(
                labels, functions.forward(values.weights, values.moving, batch["images"]).logits
            )
            loss = tf.reduce_sum(w * cost) + functions.regularisation(values.weights)
        ahead = [v - 0.1 * g for v, g in zip(values.weights, tape.gradient(loss, values.weights))]
        return float(literal.probe_loss(functions, ahead, values, batch, SETTINGS))

    found = run(step_l2r.step, "l2r", network).samples["meta_gradients"].numpy()
    width = 3e-4  # steps over few kinks of the ReLUs, and above float32's rounding
    slopes = [
        (meta_loss(width * row) - meta_loss(-width * row)) / (2 * width)
        for row in np.eye(BATCH, dtype=np.float32)
    ]
    np.testing.assert_allclose(found, slopes, rtol=0.02, atol=0.02 * np.abs(slopes).max())


@pytest.mark.training
def test_weights_are_averaged_by_class_before_the_loss_uses_them(monkeypatch):
    """Class 0 helps and class 1 harms, 200 steps, gamma 0.9: the next weights are 0.5 and 0."""

    def found(network, values, batch, settings, features, residual, decay):
        gradients = tf.where(batch["labels"] == 0, -1.0, 1.0)
        return step_fsr._Found(gradients, gradients, tf.constant(0.0), tf.constant(0.0))

    monkeypatch.setattr(step_fsr, "_meta_step", found)
    labels = [0] * 2 + [1] * (BATCH - 2)
    options = {"moving_weight_gamma": 0.9, "meta_start_epoch": 20, "iter_epoch": 10}
    settings = replace(SETTINGS, **options)
    functions, values = mlp()
    batch, draw = batch_and_draws(labels=labels)
    batch["class_weights"] = tf.fill([CLASSES], 1 / BATCH)
    step = tf.function(
        lambda batch: (
            step_fsr.step(functions, values, batch, draws_for("fsr", draw), settings).samples
        )
    )
    for iteration in range(201):
        batch["iteration"] = tf.constant(iteration)
        samples = step(batch)
        batch["class_weights"] = samples["class_weights"]
        if iteration < 200:  # epochs 0 to 19
            np.testing.assert_allclose(samples["weights"], [1 / BATCH] * BATCH)
    np.testing.assert_allclose(samples["class_weights"][:2], [0.5, 0], atol=1e-5)
    np.testing.assert_allclose(samples["weights"], [0.5] * 2 + [0] * (BATCH - 2), atol=1e-5)


def test_averages_of_weights_by_class_start_at_the_uniform_weight():
    """1 / the batch of all replicas, and are not kept where nothing reads them."""
    model = networks.build("wrn10-1", CLASSES, image_shape=(SIDE, SIDE, 3), seed=3)
    network, strategy = network_of(model, squares, squares), tf.distribute.get_strategy()
    for gamma, expected in ((0.9, [1 / 12] * CLASSES), (0.0, None)):
        settings = replace(SETTINGS, num_replicas=2, moving_weight_gamma=gamma)
        trainer = Trainer(
            "fsr", model, network, settings, strategy, momentum_rate=0.9, seed=0, jit_compile=False
        )
        found = trainer.state().get("class_weights")
        assert (found is None) == (expected is None)
        assert found is None or found.numpy().tolist() == pytest.approx(expected)

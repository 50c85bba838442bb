"""IEG's preparation of CIFAR, against a literal restatement with the global generator."""

import numpy as np
import pytest

from shared import noise
from shared.noise.ieg_splits import asymmetric_noise, split, uniform_noise

LABELS = np.random.RandomState(0).randint(
    0, 10, 1000
)  # classes of unequal size, as a part of CIFAR has


@pytest.fixture
def global_generator():
    """The original draws from NumPy's global generator; whatever a test does to it is undone."""
    state = np.random.get_state()  # noqa: NPY002
    yield np.random
    np.random.set_state(state)  # noqa: NPY002


def shuffled(items, draw):
    items = list(items)
    order = np.arange(len(items))
    draw.shuffle(order)
    return [items[position] for position in order]


def literal(draw, labels, num_classes, noise_kind, rate, probe_size, seed, test_size):
    """The steps one after the other, image by image, an image being its number."""
    draw.seed(seed)
    images = shuffled(range(len(labels)), draw)
    held_out = []
    if probe_size > 0:
        for label in range(num_classes):
            members = [place for place, image in enumerate(images) if labels[image] == label]
            held_out += list(draw.choice(members, probe_size // num_classes, replace=False))
    train = [image for place, image in enumerate(images) if place not in held_out]
    probe = [images[place] for place in held_out]
    noisy = [int(labels[image]) for image in train]
    if noise_kind == "asymmetric":
        own = np.random.RandomState(seed)
        targets = {9: 1, 2: 0, 3: 5, 5: 3, 4: 7}
        for place, image in enumerate(train):
            row = np.zeros(10)
            row[labels[image]] = 1
            if labels[image] in targets:
                row[labels[image]], row[targets[labels[image]]] = 1 - rate, rate
            noisy[place] = int(np.flatnonzero(own.multinomial(1, row))[0])
    else:
        redrawn = [place for place, number in enumerate(draw.rand(len(train))) if number <= rate]
        for place, label in zip(redrawn, draw.choice(num_classes, len(redrawn))):
            noisy[place] = int(label)
    pairs = shuffled(zip(train, noisy), draw)
    if probe_size > 0:
        queues = [
            shuffled([image for image in probe if labels[image] == c], draw)
            for c in range(num_classes)
        ]
        probe = [
            queues[c][turn] for turn in range(probe_size // num_classes) for c in range(num_classes)
        ]
    return (
        [image for image, _ in pairs],
        [label for _, label in pairs],
        probe,
        shuffled(range(test_size), draw),
    )


@pytest.mark.parametrize("noise_kind", ["uniform", "asymmetric", "none"])
@pytest.mark.parametrize(
    ("probe_ratio", "probe_size"), [(0.0, 0), (0.02, 20), (0.1, 100), (0.1099, 109)]
)
def test_draws_come_in_the_order_of_the_original(
    global_generator, noise_kind, probe_ratio, probe_size
):
    rate = 0.0 if noise_kind == "none" else 0.4
    train, noisy, probe, test = literal(
        global_generator, LABELS, 10, noise_kind, rate, probe_size, 12345, 50
    )
    made = split(LABELS, 10, noise=noise_kind, rate=rate, probe_ratio=probe_ratio)
    np.testing.assert_array_equal(made.train_ids, train)
    np.testing.assert_array_equal(made.train_labels, noisy)
    np.testing.assert_array_equal(made.gold_labels, LABELS[train])
    np.testing.assert_array_equal(made.probe_ids, probe)
    np.testing.assert_array_equal(made.probe_labels, LABELS[made.probe_ids])
    np.testing.assert_array_equal(made.test_ids(50), test)
    np.testing.assert_array_equal(made.test_ids(50), test)  # asking twice changes nothing


def test_many_classes_and_another_seed(global_generator):
    labels = np.random.RandomState(1).permutation(np.arange(3000) % 100)
    train, noisy, probe, _ = literal(global_generator, labels, 100, "uniform", 0.8, 300, 7, 10)
    made = split(labels, 100, noise="uniform", rate=0.8, probe_ratio=0.1, seed=7)
    for found, expected in (
        (made.train_ids, train),
        (made.train_labels, noisy),
        (made.probe_ids, probe),
    ):
        np.testing.assert_array_equal(found, expected)


def test_the_draws_of_a_small_split_never_change():
    made = split(np.arange(12) % 3, 3, noise="uniform", rate=0.5, probe_ratio=0.25)
    assert made.train_ids.tolist() == [11, 3, 9, 2, 7, 1, 6, 5, 4]
    assert made.train_labels.tolist() == [0, 0, 0, 2, 0, 1, 0, 2, 1]
    assert made.probe_ids.tolist() == [0, 10, 8]


def test_every_sample_is_for_training_or_for_the_probe():
    made = split(LABELS, 10, noise="uniform", rate=0.4, probe_ratio=0.1)
    assert sorted([*made.train_ids, *made.probe_ids]) == list(range(1000))
    assert made.probe_labels.tolist() == list(range(10)) * 10
    for array in (
        made.train_ids,
        made.train_labels,
        made.gold_labels,
        made.probe_ids,
        made.probe_labels,
    ):
        assert array.dtype == np.int64


def test_without_a_ratio_everything_trains():
    made = split(LABELS, 10, noise="uniform", rate=0.4, probe_ratio=0)
    assert sorted(made.train_ids) == list(range(1000))
    assert made.probe_ids.shape == made.probe_labels.shape == (0,)
    assert made.probe_ids.dtype == made.probe_labels.dtype == np.int64
    nothing = split([], 10, noise="uniform", rate=0.4, probe_ratio=0)
    assert len(nothing.train_ids) == len(nothing.test_ids(0)) == 0


def test_the_default_ratio_is_a_thousand_of_cifar():
    labels = np.arange(50_000) % 100
    assert len(split(labels, 100, noise="uniform", rate=0.2).probe_ids) == 1000
    assert (
        len(split(labels % 10, 10, noise="uniform", rate=0.2, probe_ratio=0.002).probe_ids) == 100
    )


def test_the_global_generator_is_left_alone(global_generator):
    global_generator.seed(3)
    before = global_generator.get_state()[1].copy()
    split(LABELS, 10, noise="asymmetric", rate=0.4)
    np.testing.assert_array_equal(global_generator.get_state()[1], before)


def test_noise_none_is_uniform_noise_of_rate_zero():
    none, zero = split(LABELS, 10, noise="none"), split(LABELS, 10, noise="uniform", rate=0)
    np.testing.assert_array_equal(none.train_ids, zero.train_ids)
    np.testing.assert_array_equal(none.train_labels, none.gold_labels)


# ---- statistics: 5,000 samples of each class, so a share's standard deviation is below 0.0071


@pytest.mark.parametrize("rate", [0.0, 0.2, 0.8, 1.0])
def test_uniform_noise_has_its_transition_matrix(rate):
    labels = np.arange(50_000) % 10
    noisy = uniform_noise(labels, 10, rate, np.random.RandomState(5))
    expected = (1 - rate) * np.eye(10) + rate / 10
    np.testing.assert_allclose(noise.transition_matrix(labels, noisy, 10), expected, atol=0.03)
    assert (noisy != labels).mean() == pytest.approx(0.9 * rate, abs=0.01)


@pytest.mark.parametrize("rate", [0.0, 0.2, 0.4, 1.0])
def test_asymmetric_noise_has_its_transition_matrix(rate):
    labels = np.arange(50_000) % 10
    noisy = asymmetric_noise(labels, rate)
    expected = np.eye(10)
    for source, target in ((9, 1), (2, 0), (3, 5), (5, 3), (4, 7)):
        expected[source, source] -= rate
        expected[source, target] += rate
    np.testing.assert_allclose(noise.transition_matrix(labels, noisy, 10), expected, atol=0.03)
    assert (noisy != labels).mean() == pytest.approx(rate / 2, abs=0.01)


def test_noise_leaves_its_argument_alone():
    labels = LABELS.copy()
    uniform_noise(labels, 10, 1.0, np.random.RandomState(0))
    asymmetric_noise(labels, 1.0)
    np.testing.assert_array_equal(labels, LABELS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rate": -0.1}, r"noise rate -0.1 is outside \[0, 1\]"),
        ({"rate": 1.1}, "0.4 means 40 %"),
        ({"rate": float("nan")}, "noise rate nan"),
        ({"noise": "pair"}, "choose one of uniform, asymmetric, none"),
        ({"noise": "none"}, "noise none has no rate"),
        ({"seed": -1}, "seed -1 is outside"),
        ({"probe_ratio": -0.1}, r"probe ratio -0.1 is outside \[0, 1\]"),
        ({"probe_ratio": float("nan")}, "probe ratio nan"),
        (
            {"probe_ratio": 0.009},
            "1000 samples is 9, less than one for each of 10 classes: give at least 0.01",
        ),
        (
            {"probe_ratio": 1.0},
            r"takes 100 samples of each class, but class \d has \d\d, .*: give a lower ratio",
        ),
        (
            {"labels": np.arange(100) % 10, "probe_ratio": 1.0},
            "takes 10 samples of each class, but class 0 has 10",
        ),
        ({"labels": np.arange(99) % 9, "probe_ratio": 0.2}, "class 9 has 0"),
        ({"labels": [], "probe_ratio": 0.5}, "0 samples is 0, less than one"),
        ({"labels": [0, 10]}, "labels: 10 at sample 1"),
        (
            {"labels": np.arange(200) % 20, "num_classes": 20, "noise": "asymmetric"},
            "CIFAR-10's classes .* 20: choose",
        ),
    ],
)
def test_what_cannot_be_split_is_refused(change, message):
    given = {
        "labels": LABELS,
        "num_classes": 10,
        "noise": "uniform",
        "rate": 0.4,
        "probe_ratio": 0.02,
    } | change
    with pytest.raises(ValueError, match=message):
        split(given.pop("labels"), given.pop("num_classes"), **given)


def test_the_ratio_that_an_error_names_is_enough():
    made = split(np.arange(1797) % 10, 10, noise="none", probe_ratio=0.005565)
    assert made.probe_labels.tolist() == list(range(10))
    with pytest.raises(ValueError, match=r"give at least 0\.005565,"):
        split(np.arange(1797) % 10, 10, noise="none", probe_ratio=0.005)

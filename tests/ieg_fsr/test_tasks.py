"""Names of datasets, and what a run gets for each: noise, probe, limits, labels."""

import contextlib

import numpy as np
import pytest
from conftest import tiny_cifar
from PIL import Image

from ieg.input.names import EXAMPLES, IMBALANCE_FACTORS, Name, parse
from ieg.input.tasks import load
from shared import datasets
from shared.datasets.image_data import DatasetError
from shared.formats import external
from shared.formats.alignment import labels_for
from shared.formats.noise_file import NoiseFileError, encode, make
from shared.noise.recipe import Recipe, generate

SEED = 12345


def digits(name="digits_uniform_0.4", **options):
    return load(name, **{"data_dir": None, "probe_ratio": 0.02, "seed": SEED, **options})


# ---- names


@pytest.mark.parametrize(
    ("name", "meaning"),
    [
        ("cifar10", Name("cifar10", "cifar10")),
        ("cifar100", Name("cifar100", "cifar100")),
        ("cifar100_uniform_0.8", Name("cifar100_uniform_0.8", "cifar100", "uniform", 0.8)),
        ("cifar10_asymmetric_0.4", Name("cifar10_asymmetric_0.4", "cifar10", "asymmetric", 0.4)),
        ("cifar10_imbal_0.02", Name("cifar10_imbal_0.02", "cifar10", imbalance=0.02)),
        ("cifar100_imbal_1", Name("cifar100_imbal_1", "cifar100", imbalance=1.0)),
        ("cifar10_imbal_0.02_0.2", Name("cifar10_imbal_0.02_0.2", "cifar10", "uniform", 0.2, 0.02)),
        ("digits", Name("digits", "digits")),
        ("folder_uniform_1", Name("folder_uniform_1", "folder", "uniform", 1.0)),
        ("file", Name("file", None, "file")),
        ("file_digits", Name("file_digits", "digits", "file")),
        ("cifar10n", Name("cifar10n_worse", "cifar10", "human", human=("cifar10n", "worse"))),
        (
            "cifar10n_rand2",
            Name("cifar10n_random2", "cifar10", "human", human=("cifar10n", "random2")),
        ),
        (
            "cifar10n_aggre_label",
            Name("cifar10n_aggre", "cifar10", "human", human=("cifar10n", "aggre")),
        ),
        ("cifar100n", Name("cifar100n_noisy", "cifar100", "human", human=("cifar100n", "noisy"))),
        ("webvisionmini", Name("webvisionmini", "webvisionmini", "web", probe_per_class=10)),
        ("webvisionmini_3", Name("webvisionmini_3", "webvisionmini", "web", probe_per_class=3)),
    ],
)
def test_names(name, meaning):
    assert parse(name) == meaning


@pytest.mark.parametrize("dataset", ["cifar10", "cifar100", "digits", "folder"])
@pytest.mark.parametrize("rate", ["0", "1", "0.5", ".25", "0.123456789", "1.0"])
def test_every_rate_in_the_unit_interval_parses(dataset, rate):
    assert parse(f"{dataset}_uniform_{rate}").rate == float(rate)


@pytest.mark.parametrize("factor", IMBALANCE_FACTORS)
@pytest.mark.parametrize("dataset", ["cifar10", "cifar100"])
def test_every_published_imbalance_parses(dataset, factor):
    assert parse(f"{dataset}_imbal_{factor}").imbalance == factor
    assert parse(f"{dataset}_imbal_{factor}_0.3") == Name(
        f"{dataset}_imbal_{factor}_0.3", dataset, "uniform", 0.3, factor
    )


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("cifar10_uniform_1.2", "1.2 is outside"),
        ("cifar10_uniform_40", "40 is outside"),
        ("cifar10_uniform_-0.1", "'-0.1' is not a number"),
        ("cifar10_uniform_nan", "'nan' is not a number"),
        ("cifar10_uniform_1e-1", "'1e-1' is not a number"),
        ("cifar10_uniform", "after uniform_ comes one rate"),
        ("cifar10_uniform_0.1_0.2", "after uniform_ comes one rate"),
        ("cifar10_symmetric_0.4", "uniform, asymmetric or imbal, not 'symmetric'"),
        ("cifar10_0.4", "uniform, asymmetric or imbal, not '0.4'"),
        ("cifar100_asymmetric_0.4", "cifar10 only"),
        ("digits_asymmetric_0.4", "uniform, not 'asymmetric'"),
        ("digits_imbal_0.1", "uniform, not 'imbal'"),
        ("cifar10_imbal", "after imbal_"),
        ("cifar10_imbal_50", "'50' is none of the published 1, 0.1, 0.05, 0.02, 0.01, 0.005"),
        ("cifar10_imbal_0.02_2", "2 is outside"),
        ("cifar10_imbal_0.02_uniform_0.2", "after imbal_"),
        ("CIFAR-10", "did you mean cifar10"),
        ("cifar-100_uniform_0.2", "did you mean cifar100"),
        ("webvision", "did you mean webvisionmini"),
        ("webvisionmini_0", "from 1 on"),
        ("webvisionmini_ten", "from 1 on"),
        ("file_webvisionmini", "after file_ comes one of cifar10, cifar100, digits, folder"),
        ("cifar10n_uniform_0.4", "no noise type 'uniform_0.4': choose --noise_type worse or aggre"),
        ("cifar100n_worse", "no noise type 'worse': choose --noise_type noisy"),
        ("mnist", "there is no 'mnist'"),
        ("", "there is no ''"),
    ],
)
def test_near_misses_are_told_what_is_wrong_and_what_there_is(name, problem):
    with pytest.raises(DatasetError) as caught:
        parse(name)
    assert problem in str(caught.value)
    assert all(example in str(caught.value) for example in EXAMPLES)


def test_a_noise_type_beside_the_name():
    assert parse("cifar10n", "aggre") == parse("cifar10n_aggre")
    with pytest.raises(DatasetError, match="both say which labels: leave out --noise_type"):
        parse("cifar10n_aggre", "worse")
    with pytest.raises(DatasetError, match="is for the labels that people gave"):
        parse("cifar10_uniform_0.4", "worse")


def test_every_example_is_a_name():
    for example in EXAMPLES:
        assert parse(example).name == example


def test_no_text_breaks_the_parser():
    rng = np.random.default_rng(0)
    words = [
        "cifar10",
        "uniform",
        "asymmetric",
        "imbal",
        "0.4",
        "file",
        "digits",
        "webvisionmini",
        "7",
        "",
        "é",
        "٣",
    ]
    for _ in range(500):
        name = "_".join(rng.choice(words, rng.integers(1, 5)))
        with contextlib.suppress(DatasetError):  # any other error is one of the parser
            assert parse(name).name == name


# ---- digits: the same code as CIFAR's


def test_digits_with_uniform_noise():
    task, data = digits(), datasets.load("digits")
    assert (task.num_classes, len(task.evaluation.labels)) == (10, len(data.test_labels))
    assert len(task.probe.labels) == 20  # floor(0.02 * 1442) // 10 of each class
    assert len(task.train.labels) == len(data.train_labels) - 20
    np.testing.assert_array_equal(task.probe.labels, np.tile(np.arange(10), 2))
    wrong = task.train.labels != task.train.gold
    assert wrong.mean() == pytest.approx(0.4 * 0.9, abs=0.04)
    assert task.noise.header.measured_rate == wrong.mean()
    assert task.noise.header.nominal_rate == 0.4


def test_the_record_fits_the_training_images_and_the_dataset():
    task, data = digits(), datasets.load("digits")
    rows, labels = labels_for(
        task.noise, dataset="digits", clean_labels=data.train_labels, num_classes=10
    )
    np.testing.assert_array_equal(labels, task.train.labels)
    np.testing.assert_array_equal(data.train_labels[rows], task.train.gold)
    np.testing.assert_array_equal(task.train.pixels(np.arange(30)), data.train_images[rows[:30]])
    assert encode(task.noise) == encode(digits().noise)  # and is the same every time


@pytest.mark.parametrize(("ratio", "rate"), [(0.02, 0.4), (0, 0.8)])
def test_the_labels_are_those_that_noise_make_writes(ratio, rate):
    task = digits(f"digits_uniform_{rate}", probe_ratio=ratio)
    made = generate(Recipe("ieg_uniform", rate, SEED, probe_ratio=ratio), datasets.load("digits"))
    order = np.argsort(task.noise.indices)
    np.testing.assert_array_equal(task.noise.noisy_labels[order], made.noisy_labels)
    np.testing.assert_array_equal(task.noise.clean_labels[order], made.clean_labels)
    for field in (
        "kind",
        "convention",
        "nominal_rate",
        "measured_rate",
        "seed",
        "generator",
        "dataset",
        "num_classes",
    ):
        assert getattr(task.noise.header, field) == getattr(made.header, field)


def test_probe_and_training_images_are_all_the_images_once():
    task, data = digits(), datasets.load("digits")
    probe = task.probe.pixels(np.arange(20)).numpy()
    held_out = np.setdiff1d(np.arange(len(data.train_labels)), task.noise.indices)
    assert sorted(image.tobytes() for image in probe) == sorted(
        image.tobytes() for image in data.train_images[held_out]
    )
    assert {label for label in data.train_labels[held_out]} == set(range(10))


def test_the_test_set_is_shuffled_and_whole():
    task, data = digits(), datasets.load("digits")
    count = len(data.test_labels)
    pixels = task.evaluation.pixels(np.arange(count)).numpy()
    assert sorted(image.tobytes() for image in pixels) == sorted(
        image.tobytes() for image in data.test_images
    )
    assert not np.array_equal(task.evaluation.labels, data.test_labels)


def test_seeds_change_split_and_noise():
    one, other = digits(), digits(seed=1)
    assert not np.array_equal(one.noise.indices, other.noise.indices)


def test_plain_digits_have_their_own_labels():
    task = digits("digits", probe_ratio=0)
    assert task.probe is None
    assert task.noise.header.measured_rate == 0
    assert task.noise.header.kind == "none"


def test_limits_are_spread_and_change_no_split():
    whole, part = digits(), digits(limit_train=64, limit_test=30)
    assert (len(part.train.labels), len(part.evaluation.labels), len(part.noise.noisy_labels)) == (
        64,
        30,
        64,
    )
    np.testing.assert_array_equal(part.probe.labels, whole.probe.labels)
    assert set(part.noise.indices) <= set(whole.noise.indices)
    positions = [whole.noise.indices.tolist().index(row) for row in part.noise.indices]
    assert np.ptp(np.diff(positions)) <= 1
    assert len(digits(limit_train=10**6).train.labels) == len(whole.train.labels)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"probe_ratio": 0.001}, "give at least 0.006"),
        ({"probe_ratio": 0.99}, "lower ratio"),
        ({"probe_ratio": 1.5}, r"outside \[0, 1\)"),
        ({"limit_train": 0}, "--limit_train 0"),
        ({"limit_test": -1}, "--limit_test -1"),
        ({"noise_file": "x.npz"}, "file_digits"),
        ({"name": "file"}, "--noise_file"),
        ({"use_imagenet_as_eval": True}, "webvisionmini"),
        ({"seed": -1}, "seed -1"),
    ],
)
def test_what_cannot_be_meant_is_refused(options, message):
    with pytest.raises(DatasetError, match=message):
        digits(**options)


def test_the_smallest_ratio_that_is_named_works():
    assert len(digits(probe_ratio=0.00694).probe.labels) == 10


# ---- CIFAR


@pytest.mark.parametrize("probe_ratio", [0, 0.1])
def test_asymmetric_noise_stays_within_its_rules(monkeypatch, probe_ratio):
    tiny_cifar(monkeypatch)
    task = load("cifar10_asymmetric_0.4", data_dir=None, probe_ratio=probe_ratio, seed=SEED)
    wrong = task.train.labels != task.train.gold
    pairs = set(zip(task.train.gold[wrong].tolist(), task.train.labels[wrong].tolist()))
    assert pairs == {(9, 1), (2, 0), (3, 5), (5, 3), (4, 7)}
    assert task.noise.header.class_map == "cifar10"


@pytest.mark.parametrize(
    "name", ["cifar10_imbal_0.1", "cifar10_imbal_0.1_0.5", "cifar100_imbal_0.1"]
)
def test_a_long_tail_without_the_published_files(monkeypatch, tmp_path, capsys, name):
    tiny_cifar(monkeypatch)
    task = load(name, data_dir=tmp_path, probe_ratio=0, seed=SEED)
    counts = np.bincount(task.train.gold, minlength=task.num_classes)
    assert (counts[0], counts[-1]) == (40, 4)
    assert (np.diff(counts) <= 0).all()
    assert task.probe is None
    assert "chosen by seed 12345" in capsys.readouterr().out
    wrong = (task.train.labels != task.train.gold).mean()
    assert wrong == pytest.approx(0.45 if name.endswith("0.5") else 0, abs=0.1)
    assert (np.diff(task.train.gold) < 0).mean() > 0.2  # shuffled as a whole
    assert task.train.plain(np.arange(5)).numpy().max() < 1  # x / 128 - 1
    data = datasets.load(task.noise.header.dataset)
    np.testing.assert_array_equal(data.train_labels[task.noise.indices], task.train.gold)


def test_the_labels_of_a_long_tail_are_those_that_noise_make_writes(monkeypatch, tmp_path):
    tiny_cifar(monkeypatch)
    task = load("cifar10_imbal_0.1_0.5", data_dir=tmp_path, probe_ratio=0, seed=SEED)
    made = generate(Recipe("long_tail", 0.5, SEED, imbalance=0.1), datasets.load("cifar10"))
    order = np.argsort(task.noise.indices)
    np.testing.assert_array_equal(task.noise.indices[order], made.indices)
    np.testing.assert_array_equal(task.noise.noisy_labels[order], made.noisy_labels)
    assert (task.noise.header.kind, task.noise.header.generator) == (
        "long_tail",
        made.header.generator,
    )


def test_a_long_tail_can_have_a_balanced_probe(monkeypatch, tmp_path):
    tiny_cifar(monkeypatch)
    task = load("cifar10_imbal_0.1_0.5", data_dir=tmp_path, probe_ratio=0.2, seed=SEED)
    assert len(set(np.bincount(task.probe.labels))) == 1
    assert np.bincount(task.train.gold, minlength=10).min() >= 1


# ---- noise files


def test_a_noise_file_of_our_own_names_its_dataset(tmp_path):
    data = datasets.load("digits")
    noisy = (data.train_labels + (np.arange(len(data.train_labels)) % 4 == 0)) % 10
    made = make(
        noisy,
        clean_labels=data.train_labels,
        dataset="digits",
        split="train",
        num_classes=10,
        kind="shift",
        seed=3,
    )
    external.write_any(tmp_path / "n.npz", made)
    task = digits("file", noise_file=tmp_path / "n.npz")
    assert len(task.train.labels) + len(task.probe.labels) == len(noisy)
    np.testing.assert_array_equal(task.train.labels, noisy[task.noise.indices])
    np.testing.assert_array_equal(task.train.gold, data.train_labels[task.noise.indices])
    # Clean ones, whatever the file says.
    np.testing.assert_array_equal(task.probe.labels, np.tile(np.arange(10), 2))
    assert (task.noise.header.kind, task.noise.header.seed, task.noise.header.dataset) == (
        "shift",
        3,
        "digits",
    )


@pytest.mark.parametrize("ending", ["pt", "csv", "json", "npy"])
def test_other_formats_need_the_dataset_in_the_name(tmp_path, ending):
    data = datasets.load("digits")
    path = tmp_path / f"n.{ending}"
    external.write_any(path, make((data.train_labels + 1) % 10, clean_labels=data.train_labels))
    task = digits("file_digits", noise_file=str(path), probe_ratio=0)
    assert task.noise.header.measured_rate == 1
    with pytest.raises(DatasetError, match="file_digits"):
        digits("file", noise_file=path)


def test_a_file_with_indices_trains_on_those(tmp_path):
    data = datasets.load("digits")
    rows = np.arange(0, 1400, 3)
    noise = make(
        data.train_labels[rows],
        clean_labels=data.train_labels[rows],
        indices=rows,
        dataset="digits",
    )
    external.write_any(tmp_path / "n.npz", noise)
    task = digits("file", noise_file=tmp_path / "n.npz", probe_ratio=0.05)
    assert set(task.noise.indices) < set(rows)
    assert len(task.train.labels) + len(task.probe.labels) == len(rows)


def test_labels_that_do_not_fit_are_refused(tmp_path):
    labels = datasets.load("digits").train_labels
    noises = {
        "is for mnist": make(labels, dataset="mnist"),
        "clean labels": make(labels, clean_labels=labels[::-1], dataset="digits"),
        "has 5 labels": make(labels[:5], dataset="digits"),
        "open-set": make(labels, dataset="digits", open_set=np.arange(len(labels)) < 9),
    }
    for message, noise in noises.items():
        external.write_any(tmp_path / "n.npz", noise)
        with pytest.raises((DatasetError, NoiseFileError), match=message):
            digits("file", noise_file=tmp_path / "n.npz")


# ---- users' own images


def test_a_folder_of_images(tmp_path):
    rng = np.random.default_rng(0)
    for split, count in (("train", 12), ("test", 3)):
        for label, name in enumerate(("cat", "dog")):
            (tmp_path / split / name).mkdir(parents=True)
            for number in range(count + label):
                pixels = rng.integers(0, 256, (40, 36, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / split / name / f"{number}.png")
    task = load("folder_uniform_0.5", data_dir=tmp_path, probe_ratio=0.1, seed=SEED)
    assert task.class_names == ("cat", "dog")
    assert (len(task.train.labels), len(task.probe.labels), len(task.evaluation.labels)) == (
        23,
        2,
        7,
    )
    assert task.train.image_shape == (32, 32, 3)
    assert task.location == tmp_path


def test_missing_data_say_how_to_get_them(tmp_path):
    with pytest.raises(DatasetError, match="make data-cifar10"):
        load("cifar10_uniform_0.4", data_dir=tmp_path, probe_ratio=0.02, seed=SEED)

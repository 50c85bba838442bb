"""Where labels come from: the right file or a clear message, the legacy generator, open-set images
in memory.
"""

import hashlib

import numpy as np
import pytest

from re_sln.method.legacy_noise import legacy_noise, rules, rules_csv
from re_sln.run import labels as run_labels
from re_sln.run.config import parse as parse_flags
from re_sln.run.labels import csv_name, noisy_training_set
from shared import datasets
from shared.datasets.image_data import ImageData
from shared.formats import noise_file
from shared.formats.alignment import is_noisy
from shared.formats.external import read_any, write_any
from shared.formats.noise_file import NoiseFileError
from shared.noise import open_set


def fake(name="cifar10", per_class=20, classes=10):
    """Images whose first pixel says where they come from."""
    labels = np.arange(per_class * classes) % classes
    images = np.zeros((len(labels), 32, 32, 3), np.uint8)
    images[:, 0, 0, 0] = np.arange(len(labels)) % 256
    images[:, 0, 0, 1] = 1 if name == "cifar100" else 0
    names = datasets.CIFAR[name].class_names[:classes]
    return ImageData(name, images, labels, images[:10], labels[:10], names, None)


@pytest.fixture
def parse(tmp_path):
    def make(*flags, dataset="cifar10"):
        words = [
            "--dataset_name",
            dataset,
            "--sigma",
            "0",
            "--data_path",
            str(tmp_path),
            *map(str, flags),
        ]
        return parse_flags("train_cifar", words)

    return make


def write_csv(path, data, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    noisy = np.random.default_rng(seed).permutation(data.train_labels)
    write_any(path, noise_file.make(noisy, clean_labels=data.train_labels))
    return noisy


def test_legacy_noise_is_the_published_recipe_in_small():
    """Bernoulli and categorical draws from a generator reseeded for each class."""
    import torch

    labels = np.repeat(np.arange(4), 30)[np.random.default_rng(0).permutation(120)]
    noisy = legacy_noise(labels, "sym", 0.4, 4, seed=7)
    for source in range(4):
        generator = torch.Generator().manual_seed(7)
        members = [i for i in range(120) if labels[i] == source]
        uniforms = torch.bernoulli(torch.full((len(members),), 0.4), generator=generator).tolist()
        weights = torch.tensor([0.0 if k == source else 1 / 3 for k in range(4)])
        targets = torch.multinomial(
            weights, len(members), replacement=True, generator=generator
        ).tolist()
        for i, flips, target in zip(members, uniforms, targets):
            assert noisy[i] == (target if flips else source)
    flipped = [[noisy[i] != k for i in np.flatnonzero(labels == k)] for k in range(4)]
    assert (
        flipped == [flipped[0]] * 4
    )  # the j-th members flip together: why `shared` has independent draws


# Of the published files: SHA-256 of the labels of re-sln's custom noise on the real CIFAR-10 would
# need its labels; the generator depends on them only through the sizes of the classes, so a
# balanced set of the same size gives these counts.
@pytest.mark.parametrize(
    ("mode", "rate", "classes", "flips"),
    [
        ("sym", 0.4, 10, 20_170),
        ("sym", 0.5, 10, 25_070),
        ("asym", 0.4, 10, 8_068),
        ("asym", 0.5, 10, 10_028),
        ("sym", 0.4, 100, 19_400),
        ("asym", 0.4, 100, 19_400),
    ],
)
def test_legacy_noise_has_the_counts_of_the_published_files(mode, rate, classes, flips):
    labels = np.arange(50_000) % classes
    noisy = legacy_noise(labels, mode, rate, classes, seed=123)
    assert (noisy != labels).sum() == flips
    if mode == "asym":
        assert set(zip(labels[noisy != labels].tolist(), noisy[noisy != labels].tolist())) == {
            (source, target)
            for source, targets in rules(mode, classes).items()
            for target in targets
        }


# Of the rules files that re-sln ships.
@pytest.mark.parametrize(
    ("dataset", "mode", "rate", "sha256"),
    [
        (
            "cifar10",
            "asym",
            0.4,
            "ac5c6f8a1798c85872b65cdf21bcce393f9b87862c1fbe6d0b4425be89d5cc1c",
        ),
        ("cifar10", "sym", 0.5, "5dd485034bc3179e7378bcfa5860eeb9647b3a1934668b58a4c24858518c3732"),
        (
            "cifar10",
            "openset",
            0.6,
            "dfd223a8d74ba3f0cf6beb46ba4a99762d7e89ac51dd3c7b0bc8679a3f5eefad",
        ),
        (
            "cifar100",
            "asym",
            0.4,
            "67353c01b082e0cbb76802b0c9229c3a2adaa544d368c9f5f862b80c85225c31",
        ),
        (
            "cifar100",
            "sym",
            0.4,
            "061cc86d3a29252015da1bad16ed229d659be6c9c24fa934f249ca4d16d945a9",
        ),
    ],
)
def test_rules_files_are_the_published_bytes(dataset, mode, rate, sha256):
    text = rules_csv(mode, rate, datasets.CIFAR[dataset].class_names)
    assert hashlib.sha256(text.encode()).hexdigest() == sha256


def test_the_file_of_the_very_rate_is_read(parse, tmp_path):
    data = fake()
    expected = write_csv(tmp_path / "cifar10" / "label_noisy" / "sym0.5.csv", data)
    noise, images = noisy_training_set(parse("--noise_mode", "sym", "--p", 0.5), data)
    assert noise.noisy_labels.tolist() == expected.tolist()
    assert images is data.train_images
    with pytest.raises(
        NoiseFileError,
        match=r"sym0.45.csv of cifar10 .*--kind symmetric --exclude_true_class --independent",
    ):
        noisy_training_set(parse("--noise_mode", "sym", "--p", 0.45), data)
    assert [csv_name("sym", p, False) for p in (0.4, 0.45, 0.5, 1.0)] == [
        "sym0.4.csv",
        "sym0.45.csv",
        "sym0.5.csv",
        "sym1.0.csv",
    ]


def test_a_missing_file_names_the_command_that_makes_it(parse):
    data = fake()
    with pytest.raises(
        NoiseFileError,
        match=r"make data-sln-noise.*make_dependent_noise.py --dataset_name cifar10 --p 0.2",
    ):
        noisy_training_set(parse("--noise_mode", "dependent", "--p", 0.2), data)
    with pytest.raises(NoiseFileError, match="--make_new_custom_noise"):
        noisy_training_set(parse("--noise_mode", "asym", "--custom_noise"), data)


def test_files_that_make_data_sln_noise_fetches_are_found_after_the_users_own(parse, tmp_path):
    data = fake()
    published = write_csv(tmp_path / "label_noisy" / "sln" / "cifar10" / "sym0.4.csv", data, seed=1)
    found, _ = noisy_training_set(parse("--noise_mode", "sym"), data)
    assert found.noisy_labels.tolist() == published.tolist()
    own = write_csv(tmp_path / "cifar10" / "label_noisy" / "sym0.4.csv", data, seed=2)
    found, _ = noisy_training_set(parse("--noise_mode", "sym"), data)
    assert found.noisy_labels.tolist() == own.tolist()
    assert (found.header.kind, found.header.nominal_rate) == ("symmetric", 0.4)


@pytest.mark.parametrize("mode", ["sym", "asym"])
def test_custom_noise_is_made_kept_and_read_again(parse, tmp_path, mode, capsys):
    data = fake()
    flags = ["--noise_mode", mode, "--custom_noise", "--p", 0.4, "--seed", 123]
    made, _ = noisy_training_set(parse(*flags, "--make_new_custom_noise"), data)
    expected = legacy_noise(data.train_labels, mode, 0.4, 10, 123)
    assert made.noisy_labels.tolist() == expected.tolist()
    folder = tmp_path / "cifar10" / "label_noisy"
    assert sorted(path.name for path in folder.iterdir()) == [
        f"{mode}0.4_custom.csv",
        f"{mode}0.4_noise_rules.csv",
    ]
    first, *lines = (folder / f"{mode}0.4_custom.csv").read_text().splitlines()
    assert first == "label,label_noisy"
    assert lines == [f"{clean},{noisy}" for clean, noisy in zip(data.train_labels, expected)]
    assert "made" in capsys.readouterr().out
    again, _ = noisy_training_set(parse(*flags), data)
    assert again.noisy_labels.tolist() == expected.tolist()


@pytest.fixture
def cifar100(monkeypatch):
    donors = fake("cifar100", classes=100)
    monkeypatch.setattr(open_set, "DONOR_IMAGES", len(donors.train_labels))
    monkeypatch.setattr(run_labels.datasets, "load", lambda name, path: {"cifar100": donors}[name])
    return donors


def test_openset_replaces_images_in_memory_and_keeps_labels(parse, tmp_path, cifar100):
    data = fake()
    flags = ["--noise_mode", "openset", "--custom_noise", "--seed", 123]
    noise, images = noisy_training_set(parse(*flags), data)
    folder = tmp_path / "cifar10" / "label_noisy"
    assert not folder.exists()  # seed and rate say it all
    with pytest.raises(
        NoiseFileError, match="make data-sln-noise"
    ):  # viz.py and plot.py make nothing
        noisy_training_set(parse(*flags), data, may_make=False)
    _, kept = noisy_training_set(parse(*flags, "--make_new_custom_noise"), data)
    assert np.array_equal(kept, images)
    assert {path.name for path in folder.iterdir()} == {
        "openset0.4_custom.csv",
        "openset0.4_custom_pairs.csv",
        "openset0.4_noise_rules.csv",
    }
    assert noise.noisy_labels.tolist() == data.train_labels.tolist()
    assert is_noisy(noise).sum() == 80
    pairs = open_set.draw_pairs(200, len(cifar100.train_labels), 0.4, 123)
    foreign = dict(zip(pairs.positions.tolist(), pairs.donors.tolist()))
    for i in range(200):
        expected = cifar100.train_images[foreign[i]] if i in foreign else data.train_images[i]
        assert np.array_equal(images[i], expected)

    (folder / "openset0.4_custom_pairs.csv").unlink()  # re-sln ships the flags only: its "Bugs"
    _, again = noisy_training_set(
        parse(*flags[:-1], "7"), data
    )  # any --seed: the files that ship come from 123
    assert np.array_equal(again, images)


def test_openset_takes_the_originals_npy_and_refuses_what_does_not_belong(
    parse, tmp_path, cifar100
):
    data = fake()
    flags = ["--noise_mode", "openset", "--custom_noise", "--seed", 5]
    noise, _ = noisy_training_set(parse(*flags, "--make_new_custom_noise"), data)
    folder = tmp_path / "cifar10" / "label_noisy"
    pairs = (folder / "openset0.4_custom_pairs.csv").read_text().splitlines()
    (folder / "openset0.4_custom_pairs.csv").write_text("\n".join(pairs[:-1]) + "\n")
    with pytest.raises(NoiseFileError, match="belong to different noise"):
        noisy_training_set(parse(*flags), data)
    (folder / "openset0.4_custom_pairs.csv").unlink()
    published = data.train_images.copy()
    published[noise.open_set] = 9
    np.save(folder / "openset0.4_custom.npy", published)
    assert np.array_equal(noisy_training_set(parse(*flags), data)[1], published)
    for wrong, message in (
        (published[:5], "delete it"),
        (data.train_images, "other images than its .csv says"),
    ):
        np.save(folder / "openset0.4_custom.npy", wrong)
        with pytest.raises(NoiseFileError, match=message):
            noisy_training_set(parse(*flags), data)


def test_a_noise_file_of_another_project_and_its_rate(tmp_path):
    data = datasets.load("digits")
    path = tmp_path / "labels.csv"
    write_csv(path, data)
    flags = ["--dataset_name", "digits", "--sigma", "0", "--noise_file", str(path)]
    noise, _ = noisy_training_set(parse_flags("train_cifar", flags), data)
    assert noise.noisy_labels.tolist() == read_any(path).noisy_labels.tolist()
    with pytest.raises(NoiseFileError, match="contradicts"):
        noisy_training_set(parse_flags("train_cifar", [*flags, "--p", "0.1"]), data)
    # Two classes flip at rate 0.4: that is their --p, though less than a tenth of all labels
    # changed.
    labels = data.train_labels
    flips = np.zeros(len(labels), bool)
    for k in (3, 5):
        members = np.flatnonzero(labels == k)
        flips[members[: int(0.4 * len(members))]] = True
    asymmetric = noise_file.make(np.where(flips, 8 - labels, labels), clean_labels=labels)
    write_any(path, asymmetric)
    assert asymmetric.header.measured_rate < 0.1
    noisy_training_set(parse_flags("train_cifar", [*flags, "--p", "0.4"]), data)


def test_digits_get_independent_noise_without_any_file(tmp_path):
    data = datasets.load("digits")
    flags = ["--dataset_name", "digits", "--sigma", "0", "--seed", "3", "--noise_mode"]
    symmetric, asymmetric = (
        noisy_training_set(parse_flags("train_cifar", [*flags, mode]), data)[0]
        for mode in ("sym", "asym")
    )
    for noise in (symmetric, asymmetric):
        assert noise.header.measured_rate == pytest.approx(0.4, abs=0.04)
    wrong = asymmetric.noisy_labels != asymmetric.clean_labels
    assert np.array_equal(asymmetric.noisy_labels[wrong], (asymmetric.clean_labels[wrong] + 1) % 10)
    assert len(set(symmetric.noisy_labels[symmetric.clean_labels == 3])) == 10

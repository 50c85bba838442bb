"""PMD noise files and noise on top of noise files: recipes, headers and their commands."""

import re

import numpy as np
import pytest

from shared import datasets, noise
from shared.__main__ import main
from shared.formats import external, noise_file
from shared.formats.alignment import labels_for
from shared.formats.external import read_any
from shared.formats.noise_file import NoiseFileError
from shared.noise import on_top as noise_on_top
from shared.noise import pmd
from shared.noise.on_top import OnTop
from shared.noise.recipe import Recipe, generate

DIGITS = datasets.load("digits")
SIZE = len(DIGITS.train_labels)
ETA = (
    np.random.default_rng(0).dirichlet(np.ones(10), SIZE) + 3 * np.eye(10)[DIGITS.train_labels]
).astype(np.float32) / 4


def run(*words):
    return main(["noise", *(str(word) for word in words)])


def make_pmd(out, eta, *more):
    return run("make", "--dataset", "digits", "--kind", "pmd", "--eta", eta, "--out", out, *more)


@pytest.fixture
def eta(tmp_path):
    np.save(tmp_path / "eta.npy", ETA)
    return tmp_path / "eta.npy"


# ---- PMD


@pytest.mark.parametrize("noise_type", [None, 1, 2, 3])
def test_make_finds_the_factor_for_a_rate(tmp_path, eta, noise_type):
    chosen = [] if noise_type is None else ["--pmd_type", noise_type]
    assert make_pmd(tmp_path / "a.npz", eta, "--rate", 0.35, *chosen) == 0
    made = noise_file.read(tmp_path / "a.npz")
    factor = pmd.factor_for_rate(ETA, noise_type or 1, 0.35, DIGITS.train_labels)
    np.testing.assert_array_equal(made.noisy_labels, pmd.pmd_labels(ETA, noise_type or 1, factor))
    known = made.header
    assert (known.kind, known.nominal_rate, known.seed, known.convention) == (
        "pmd",
        0.35,
        123,
        None,
    )
    assert known.measured_rate == pytest.approx(0.35, abs=0.5 / SIZE)
    assert made.indices is None
    start = f"{noise.GENERATOR}, PMD type {noise_type or 1}, factor "
    assert known.generator.startswith(start)
    again = float(
        known.generator.removeprefix(start).split(",")[0]
    )  # the header has all that makes the labels anew
    np.testing.assert_array_equal(pmd.pmd_labels(ETA, noise_type or 1, again), made.noisy_labels)
    assert make_pmd(tmp_path / "b.npz", eta, "--rate", 0.35, *chosen) == 0
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_make_takes_a_factor(tmp_path, eta):
    assert make_pmd(tmp_path / "a.npz", eta, "--factor", 1.43, "--seed", 7, "--pmd_type", 2) == 0
    made = noise_file.read(tmp_path / "a.npz")
    np.testing.assert_array_equal(made.noisy_labels, pmd.pmd_labels(ETA, 2, 1.43, 7))
    assert (made.header.nominal_rate, made.header.seed) == (None, 7)
    assert make_pmd(tmp_path / "a.csv", eta, "--factor", 1.43, "--seed", 7, "--pmd_type", 2) == 0
    np.testing.assert_array_equal(read_any(tmp_path / "a.csv").noisy_labels, made.noisy_labels)


def test_posteriors_of_the_first_images_label_those(tmp_path, capsys):
    np.save(tmp_path / "eta.npy", ETA[:1000])
    assert make_pmd(tmp_path / "a.npz", tmp_path / "eta.npy", "--factor", 2) == 0
    made = noise_file.read(tmp_path / "a.npz")
    np.testing.assert_array_equal(made.indices, np.arange(1000))
    np.testing.assert_array_equal(made.clean_labels, DIGITS.train_labels[:1000])
    rows, _ = labels_for(made, dataset="digits", clean_labels=DIGITS.train_labels, num_classes=10)
    assert len(rows) == 1000
    capsys.readouterr()
    assert make_pmd(tmp_path / "a.csv", tmp_path / "eta.npy", "--factor", 2) == 2
    assert "cannot say which samples" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "more", "message"),
    [
        (
            ETA[:, :-1] / ETA[:, :-1].sum(axis=1, keepdims=True),
            ["--factor", 2],
            "9 columns, but digits has 10 classes",
        ),
        (
            np.concatenate([ETA, ETA]),
            ["--factor", 2],
            f"{2 * SIZE} rows, but digits has {SIZE} training images",
        ),
        (ETA * 2, ["--factor", 2], "not logits"),
        (ETA[0], ["--factor", 2], r"shape \(10,\)"),
        (np.float32(1), ["--factor", 2], r"shape \(\)"),
        (ETA.astype(int), ["--factor", 2], "not floats"),
        (ETA, ["--factor", 0], "no number above 0"),
        (np.roll(ETA, 1, axis=1), ["--rate", 0.2], "out of reach of type 1"),  # always wrong
        (ETA, ["--rate", 1.5], r"outside \[0, 1\]"),
    ],
)
def test_what_cannot_become_pmd_noise_is_refused(tmp_path, capsys, content, more, message):
    np.save(tmp_path / "eta.npy", content)
    assert make_pmd(tmp_path / "a.npz", tmp_path / "eta.npy", *more) == 2
    assert re.search(message, capsys.readouterr().err)
    assert not (tmp_path / "a.npz").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--kind", "pmd", "--rate", "0.4"], "pmd noise needs --eta FILE.npy"),
        (["--kind", "pmd", "--rate", "0.4", "--eta", "none.npy"], "cannot read --eta none.npy"),
        (["--kind", "pmd", "--rate", "0.4", "--eta", __file__], "is not an .npy file"),
        (["--kind", "pmd", "--rate", "0.4", "--factor", "1.2"], "not allowed with"),
        (["--kind", "pmd"], "pmd noise needs a rate or a factor, not both (--rate, --factor)"),
        (["--kind", "pmd", "--rate", "0.4", "--pmd_type", "4"], "--pmd_type"),
        (["--kind", "pdn", "--rate", "0.4", "--eta", "e.npy"], "--eta is for pmd noise"),
        (
            ["--kind", "pdn", "--rate", "0.4", "--pmd_type", "1"],
            "is for pmd noise: leave it out for pdn",
        ),
        (["--kind", "pdn", "--factor", "1.2"], "is for pmd noise: leave it out for pdn"),
    ],
)
def test_options_of_pmd_are_refused_where_they_mean_nothing(
    tmp_path, monkeypatch, capsys, words, message
):
    monkeypatch.chdir(tmp_path)
    try:
        code = run("make", "--dataset", "digits", "--out", "a.npz", *words)
    except SystemExit as stop:
        code = stop.code
    assert code == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_recipe_of_pmd_wants_eta_and_either_a_rate_or_a_factor():
    with pytest.raises(ValueError, match="pmd noise needs eta"):
        generate(Recipe("pmd", 0.4), DIGITS)
    with pytest.raises(ValueError, match="pdn noise has no eta"):
        generate(Recipe("pdn", 0.4), DIGITS, eta=ETA)
    for rate, factor in ((None, None), (0.4, 1.2)):
        with pytest.raises(ValueError, match="pmd noise needs a rate or a factor, not both"):
            Recipe("pmd", rate, factor=factor)
    with pytest.raises(ValueError, match=r"pdn noise needs a rate \(--rate\)$"):
        Recipe("pdn")
    with pytest.raises(ValueError, match="--pmd_type 0 is unknown: choose one of 1, 2, 3"):
        Recipe("pmd", 0.4, pmd_type=0)


# ---- on top


@pytest.fixture
def base(tmp_path):
    """PMD labels of the first 1,000 digits."""
    np.save(tmp_path / "part.npy", ETA[:1000])
    make_pmd(tmp_path / "base.npz", tmp_path / "part.npy", "--factor", 2)
    return tmp_path / "base.npz"


def test_uniform_noise_is_put_on_top_of_a_file(tmp_path, base, capsys):
    assert run("add", base, "--kind", "uniform", "--rate", 0.3, "--out", tmp_path / "u.npz") == 0
    before, after = noise_file.read(base), noise_file.read(tmp_path / "u.npz")
    np.testing.assert_array_equal(
        after.noisy_labels, pmd.uniform_on_top(before.noisy_labels, 0.3, 10, 77)
    )
    np.testing.assert_array_equal(after.indices, before.indices)
    np.testing.assert_array_equal(after.clean_labels, before.clean_labels)
    known = after.header
    assert (known.dataset, known.split, known.num_classes, known.kind) == (
        "digits",
        "train",
        10,
        "pmd+uniform",
    )
    assert (known.seed, known.nominal_rate, known.class_map) == (77, None, None)
    assert known.measured_rate == (after.noisy_labels != after.clean_labels).mean()
    assert known.generator.startswith(before.header.generator + ", seed 123; ")
    assert known.generator.endswith("uniform on top, rate 0.3, seed 77")
    assert f"measured rate {known.measured_rate:.5f}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "kind", "rules"),
    [
        ([], "pair_flip", {c: (c + 1) % 10 for c in range(10)}),
        (
            ["--map", "cifar10_four_rules"],
            "asymmetric",
            noise.ASYMMETRIC_MAPS["cifar10_four_rules"],
        ),
    ],
)
def test_asymmetric_noise_is_put_on_top_of_a_file(tmp_path, base, more, kind, rules):
    words = ["--kind", "asymmetric", "--rate", 0.4, "--seed", 5, "--out", tmp_path / "a.npz", *more]
    assert run("add", base, *words) == 0
    after = noise_file.read(tmp_path / "a.npz")
    expected = pmd.asymmetric_on_top(noise_file.read(base).noisy_labels, 0.4, rules, 10, 5)
    np.testing.assert_array_equal(after.noisy_labels, expected)
    assert (after.header.kind, after.header.class_map) == (
        f"pmd+{kind}",
        more[-1] if more else None,
    )


@pytest.mark.parametrize(
    ("dataset", "name"), [("cifar10", "cifar10"), ("cifar100", "cifar100_blocks_of_five")]
)
def test_the_maps_of_cifar_are_those_of_the_published_hybrids(dataset, name):
    count = int(dataset.removeprefix("cifar"))
    labels = np.arange(count).repeat(5)
    base = noise_file.make(labels, dataset=dataset, num_classes=count, kind="pmd")
    after = noise_on_top.add(base, OnTop("asymmetric", 0.3))
    expected = pmd.asymmetric_on_top(labels, 0.3, noise.ASYMMETRIC_MAPS[name], count, 77)
    np.testing.assert_array_equal(after.noisy_labels, expected)
    assert (after.header.class_map, after.header.kind, after.clean_labels) == (
        name,
        "pmd+asymmetric",
        None,
    )


def test_a_file_without_header_needs_its_dataset(tmp_path, capsys):
    np.save(tmp_path / "plain.npy", DIGITS.train_labels)
    words = ["--kind", "uniform", "--rate", 0.5, "--out", tmp_path / "u.npz"]
    assert run("add", tmp_path / "plain.npy", *words) == 2
    assert "name its dataset (--dataset)" in capsys.readouterr().err
    assert run("add", tmp_path / "plain.npy", *words, "--dataset", "digits") == 0
    known = noise_file.read(tmp_path / "u.npz").header
    assert (known.kind, known.dataset) == ("unknown+uniform", "digits")
    assert known.generator.startswith("unknown labels; ")


def test_forty_five_thousand_labels_are_written_as_the_published_files_are(tmp_path):
    labels = np.arange(external.PMD_SAMPLES) % 10
    np.save(tmp_path / "pmd.npy", labels)
    base = read_any(tmp_path / "pmd.npy")
    known = {"dataset": "cifar10", "num_classes": 10}
    after = noise_on_top.add(
        noise_file.make(base.noisy_labels, indices=base.indices, **known), OnTop("uniform", 0.3)
    )
    external.write_any(tmp_path / "u.npy", after)
    np.save(tmp_path / "expected.npy", pmd.uniform_on_top(labels, 0.3, 10))
    assert (tmp_path / "u.npy").read_bytes() == (tmp_path / "expected.npy").read_bytes()


def test_noise_can_be_put_on_top_again_and_on_replaced_images():
    base = generate(Recipe("open_set", 0.4), DIGITS)
    first = noise_on_top.add(base, OnTop("asymmetric", 0.3, class_map="cifar10"))
    second = noise_on_top.add(first, OnTop("uniform", 0.2, seed=3))
    np.testing.assert_array_equal(second.open_set, base.open_set)
    assert (second.header.kind, second.header.class_map) == (
        "open_set+asymmetric+uniform",
        "cifar10",
    )
    assert second.header.measured_rate > base.header.measured_rate
    parts = second.header.generator.split("; ")
    assert parts[0] == f"{base.header.generator}, rate 0.4, seed 123"
    assert parts[1].endswith("asymmetric on top, rate 0.3, seed 77, map cifar10")
    assert parts[2].endswith("uniform on top, rate 0.2, seed 3")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--kind", "uniform", "--rate", 1.5], "rate 1.5 is outside"),
        (["--kind", "uniform", "--rate", 0.3, "--seed", -1], "seed -1 is outside"),
        (
            ["--kind", "uniform", "--rate", 0.3, "--map", "cifar10"],
            "uniform noise has no class map",
        ),
        (["--kind", "asymmetric", "--rate", 0.3, "--map", "mine"], "unknown map 'mine'"),
        (
            ["--kind", "asymmetric", "--rate", 0.3, "--map", "cifar100"],
            "class_map has class 10, but there are 10",
        ),
        (["--kind", "uniform", "--rate", 0.3, "--out", "a.txt"], "does not end in"),
    ],
)
def test_what_cannot_be_put_on_top_is_refused(tmp_path, base, monkeypatch, capsys, words, message):
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())
    assert run("add", base, "--out", "a.npz", *words) == 2
    assert message in capsys.readouterr().err
    assert sorted(tmp_path.iterdir()) == before
    with pytest.raises(ValueError, match="unknown kind of noise on top 'pdn'"):
        OnTop("pdn", 0.3)


def test_a_number_of_classes_is_needed():
    with pytest.raises(NoiseFileError, match="does not say how many classes"):
        noise_on_top.add(noise_file.make([0, 1]), OnTop("uniform", 0.3))

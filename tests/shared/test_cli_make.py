"""`python -m shared noise make`, on the embedded digits."""

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from cli_results import assert_refused

from shared import datasets, noise
from shared.formats import external, noise_file
from shared.formats.alignment import labels_for
from shared.formats.external import read_any
from shared.noise.recipe import Recipe, generate

ROOT = Path(__file__).parents[2]
DIGITS = datasets.load("digits")


@pytest.mark.parametrize(
    ("kind", "options", "expected"),
    [
        ("pdn", (), lambda y, x: noise.part_dependent(x, y, 0.4, 10, 123)),
        (
            "symmetric",
            (),
            lambda y, _: noise.symmetric(
                y, 0.4, 10, np.random.default_rng(123), include_true_class=True
            ),
        ),
        (
            "symmetric",
            ("--exclude_true_class", "--seed", "7"),
            lambda y, _: noise.symmetric(
                y, 0.4, 10, np.random.default_rng(7), include_true_class=False
            ),
        ),
        (
            "asymmetric",
            ("--map", "cifar10_four_rules"),
            lambda y, _: noise.asymmetric(
                y, 0.4, {2: 0, 3: 5, 5: 3, 9: 1}, np.random.default_rng(123)
            ),
        ),
        ("pair_flip", (), lambda y, _: noise.pair_flip(y, 0.4, 10, np.random.default_rng(123))),
    ],
)
def test_make_writes_what_the_generator_gives(make, tmp_path, kind, options, expected):
    out = tmp_path / "noise.npz"
    code, printed, _ = make(out, *options, kind=kind)
    assert code == 0
    made = noise_file.read(out)
    np.testing.assert_array_equal(
        made.noisy_labels, expected(DIGITS.train_labels, DIGITS.train_images)
    )
    known = made.header
    assert (known.dataset, known.split, known.num_classes, known.kind) == (
        "digits",
        "train",
        10,
        kind,
    )
    assert (known.nominal_rate, known.generator) == (0.4, noise.GENERATOR)
    assert known.seed == (7 if options[1:] and options[-1] == "7" else 123)
    assert f"measured rate {known.measured_rate:.5f}" in printed
    assert known.convention == (
        "with_true_class" if kind == "symmetric" and not options else "without_true_class"
    )
    labels_for(made, dataset="digits", clean_labels=DIGITS.train_labels, num_classes=10)


@pytest.mark.parametrize("format", external.FORMATS)
def test_make_writes_every_format_and_the_same_bytes_again(make, tmp_path, format):
    first, second = tmp_path / f"a.{format}", tmp_path / f"b.{format}"
    make(first)
    code, printed, _ = make(second)
    assert code == 0
    assert first.read_bytes() == second.read_bytes()
    assert ("does not keep seed" in printed) == (format != "npz")
    expected = generate(Recipe("symmetric", 0.4), DIGITS)
    np.testing.assert_array_equal(read_any(first).noisy_labels, expected.noisy_labels)


def test_another_file_is_never_overwritten_silently(make, tmp_path):
    out = tmp_path / "noise.npz"
    make(out)
    before = out.read_bytes()
    code, printed, _ = make(out)
    assert code == 0
    assert "unchanged" in printed
    assert_refused(make(out, rate=0.5), "exists with other content", "--force")
    assert out.read_bytes() == before
    assert make(out, "--force", rate=0.5)[0] == 0
    assert out.read_bytes() != before
    (tmp_path / "folder.npz").mkdir()
    assert_refused(make(tmp_path / "folder.npz", "--force"), "is not a file")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"rate": "nan"}, ["outside [0, 1]"]),
        ({"rate": "1.2"}, ["outside [0, 1]"]),
        ({"rate": "much"}, ["--rate"]),
        ({"kind": "sym"}, ["--kind", "symmetric"]),
        ({"kind": "asymmetric"}, ["no usual class map", "--map", "cifar10_four_rules"]),
        (
            {"kind": "asymmetric", "more": ["--map", "cifar100"]},
            ["has classes that digits", "lacks"],
        ),
        (
            {"kind": "asymmetric", "more": ["--map", "mine"]},
            ["--map mine is unknown", "choose one of"],
        ),
        (
            {"more": ["--map", "cifar10"]},
            ["--map is for asymmetric noise: leave it out for symmetric"],
        ),
        (
            {"kind": "pdn", "more": ["--exclude_true_class"]},
            ["--exclude_true_class is for symmetric noise"],
        ),
        ({"kind": "pdn", "more": ["--independent"]}, ["--independent is for symmetric"]),
        ({"kind": "open_set", "more": ["--independent"]}, ["leave it out for open_set"]),
        ({"kind": "open_set", "out": "a.pt"}, ["cannot say which images are replaced", ".csv"]),
        ({"kind": "open_set", "more": ["--seed", str(2**32 - 1)]}, ["seed 4294967295"]),
        (
            {"kind": "open_set", "more": ["--dataset", "cifar100", "--data_path", "nowhere"]},
            ["itself cannot have it"],
        ),
        ({"more": ["--mean_probs", "p.npy"]}, ["--mean_probs is for confidence noise"]),
        ({"kind": "confidence"}, ["needs --mean_probs FILE.npy"]),
        (
            {"kind": "confidence", "more": ["--mean_probs", "p.npy"]},
            ["cannot read --mean_probs p.npy"],
        ),
        ({"more": ["--exclude_true_class", "--include_true_class"]}, ["not allowed with"]),
        ({"more": ["--seed", "-1"]}, ["seed -1"]),
        ({"more": ["--image_size", "64"]}, ["32 x 32"]),
        ({"out": "noise.txt"}, ["does not end in", ".npz"]),
        (
            {"more": ["--dataset", "cifar10", "--data_path", "nowhere"]},
            ["CIFAR-10 is missing", "nowhere"],
        ),
    ],
)
def test_make_refuses_what_cannot_work_and_writes_nothing(
    make, tmp_path, monkeypatch, options, words
):
    monkeypatch.chdir(tmp_path)
    more = options.pop("more", [])
    assert_refused(make(options.pop("out", "noise.npz"), *more, **options), *words)
    assert list(tmp_path.iterdir()) == []


def test_a_failing_write_is_one_message_and_leaves_nothing(make, tmp_path, monkeypatch):
    def full(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr("os.fsync", full)
    assert_refused(make(tmp_path / "noise.npz"), "no space left")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "--dataset cifar10 --kind pdn --rate 0.5 --seed 123"),
        ({"KIND": "ieg_uniform", "RATE": "0.4"}, "--kind ieg_uniform --rate 0.4 --seed 12345"),
        ({"KIND": "ieg_uniform", "SEED": "7"}, "--rate 0.5 --seed 7"),
        ({"KIND": "transition"}, "--kind transition --seed 123"),
        ({"KIND": "transition", "MATRIX": "a/T.csv"}, "--matrix a/T.csv --seed 123"),
        ({"KIND": "pmd", "ARGS": "--eta e.npy --factor 3"}, "--kind pmd --seed 123 --out"),
    ],
)
def test_make_noise_gives_what_the_kind_takes(given, words):
    known = {"PATH": os.environ["PATH"], "PYTHON": "echo"}
    done = subprocess.run(
        [ROOT / "shared/noise.sh"], env=known | given, capture_output=True, text=True, check=True
    )
    assert words in done.stdout

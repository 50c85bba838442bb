"""From a recipe to a noise file, and the commands: independent draws, open-set noise, parts."""

import dataclasses
import hashlib
import json
import pickle
import re

import numpy as np
import pytest

from shared import datasets, noise
from shared.__main__ import main
from shared.formats import noise_file
from shared.formats.alignment import labels_for
from shared.formats.external import read_any
from shared.noise import ieg_splits, long_tail, open_set
from shared.noise.recipe import Recipe, generate

DIGITS = datasets.load("digits")
PROBS = np.random.default_rng(0).dirichlet(np.ones(10), len(DIGITS.train_labels)).astype(np.float32)


def make(out, kind, *more):
    command = [
        "noise",
        "make",
        "--dataset",
        "digits",
        "--kind",
        kind,
        "--rate",
        "0.4",
        "--out",
        out,
        *more,
    ]
    return main([str(word) for word in command])


@pytest.mark.parametrize(
    ("kind", "digest"),
    [("symmetric", "456b39e1"), ("asymmetric", "14970c69"), ("pair_flip", "a3948642")],
)
def test_labels_and_header_of_exact_counts_never_change(kind, digest):
    made = generate(
        Recipe(kind, 0.4, class_map="cifar10" if kind == "asymmetric" else None), DIGITS
    )
    header = json.dumps(dataclasses.asdict(made.header), sort_keys=True)
    assert hashlib.sha256(made.noisy_labels.tobytes() + header.encode()).hexdigest()[:8] == digest


@pytest.mark.parametrize(
    ("kind", "options", "expected"),
    [
        (
            "symmetric",
            ["--exclude_true_class"],
            lambda y, rng: noise.symmetric(
                y, 0.4, 10, rng, include_true_class=False, independent=True
            ),
        ),
        (
            "symmetric",
            [],
            lambda y, rng: noise.symmetric(
                y, 0.4, 10, rng, include_true_class=True, independent=True
            ),
        ),
        (
            "asymmetric",
            ["--map", "cifar10"],
            lambda y, rng: noise.asymmetric(
                y, 0.4, noise.ASYMMETRIC_MAPS["cifar10"], rng, independent=True
            ),
        ),
        ("pair_flip", [], lambda y, rng: noise.pair_flip(y, 0.4, 10, rng, independent=True)),
    ],
)
def test_independent_draws_are_named_in_the_header(tmp_path, kind, options, expected):
    assert make(tmp_path / "a.npz", kind, "--independent", *options) == 0
    made = noise_file.read(tmp_path / "a.npz")
    np.testing.assert_array_equal(
        made.noisy_labels, expected(DIGITS.train_labels, np.random.default_rng(123))
    )
    assert made.header.generator == f"{noise.GENERATOR}, independent draws"
    assert make(tmp_path / "b.npz", kind, "--independent", *options) == 0
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


@pytest.mark.parametrize("format", ["npz", "csv"])
def test_open_set_noise_flags_images_and_leads_back_to_its_pairs(tmp_path, capsys, format):
    out = tmp_path / f"openset0.4.{format}"
    assert make(out, "open_set", "--seed", 7) == 0
    assert "measured rate 0.39945" in capsys.readouterr().out
    made = read_any(out)
    pairs = open_set.draw_pairs(len(DIGITS.train_labels), 50_000, 0.4, 7)
    assert made.open_set.sum() == int(0.4 * len(DIGITS.train_labels))
    np.testing.assert_array_equal(made.open_set, open_set.flags(pairs, len(made.open_set)))
    np.testing.assert_array_equal(made.noisy_labels, DIGITS.train_labels)
    again = open_set.pairs_for(made, open_set.DONOR_IMAGES, seeds=[] if format == "npz" else [7])
    np.testing.assert_array_equal(again.donors, pairs.donors)
    if format == "npz":
        known = made.header
        assert (known.kind, known.seed, known.nominal_rate, known.convention) == (
            "open_set",
            7,
            0.4,
            None,
        )
        assert known.generator == f"{noise.GENERATOR}, images of cifar100"


def test_open_set_files_are_compared_by_their_images(tmp_path, capsys):
    make(tmp_path / "a.npz", "open_set")
    make(tmp_path / "b.csv", "open_set", "--rate", "0.2")
    make(tmp_path / "c.npz", "pair_flip")
    capsys.readouterr()
    assert main(["noise", "compare", str(tmp_path / "a.npz"), str(tmp_path / "b.csv")]) == 0
    printed = capsys.readouterr().out
    counts = {
        line[:24].strip(): line[24:].split()[0]
        for line in printed.splitlines()
        if line.startswith("images")
    }
    assert counts == {
        "images replaced in A": "576",
        "images replaced in B": "288",
        "images replaced in both": "288",
    }
    main(["noise", "compare", str(tmp_path / "c.npz"), str(tmp_path / "c.npz")])
    assert "images replaced" not in capsys.readouterr().out


def test_confidence_noise_comes_from_the_mean_probabilities(tmp_path, capsys):
    np.save(tmp_path / "probs.npy", PROBS)
    for out, seed in (("a.npz", 1), ("b.npz", 2)):
        assert (
            make(
                tmp_path / out, "confidence", "--mean_probs", tmp_path / "probs.npy", "--seed", seed
            )
            == 0
        )
    assert (tmp_path / "a.npz").read_bytes() == (
        tmp_path / "b.npz"
    ).read_bytes()  # nothing is drawn
    made = noise_file.read(tmp_path / "a.npz")
    np.testing.assert_array_equal(
        made.noisy_labels, noise.confidence_dependent(DIGITS.train_labels, PROBS, 0.4)
    )
    known = made.header
    assert (known.kind, known.seed, known.convention) == (
        "confidence",
        None,
        noise_file.WITHOUT_TRUE_CLASS,
    )
    assert known.measured_rate == int(0.4 * len(PROBS)) / len(PROBS)
    capsys.readouterr()
    assert make(tmp_path / "a.csv", "confidence", "--mean_probs", tmp_path / "probs.npy") == 0
    assert "does not keep" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (PROBS[:-1], "1441 rows for 1442 labels"),
        (PROBS[:, :-1], "9 columns, but digits has 10 classes"),
        (PROBS - 1, "not logits"),
        (PROBS[0], r"\(10,\)"),
        (PROBS.astype(int), r"not floats; save it as floats \(array.astype\(np.float32\)\)"),
        (b"no array", "is not an .npy file"),
        (pickle.dumps(PROBS), "is not an .npy file"),
        (np.array([None, 1]), "object, not floats"),
    ],
)
def test_wrong_mean_probabilities_are_refused(tmp_path, capsys, content, message):
    path = tmp_path / "probs.npy"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        np.save(path, content, allow_pickle=True)
    assert make(tmp_path / "a.npz", "confidence", "--mean_probs", path) == 2
    error = capsys.readouterr().err
    assert re.search(message, error), error
    assert not (tmp_path / "a.npz").exists()


def test_generate_wants_mean_probs_for_confidence_alone():
    with pytest.raises(ValueError, match="needs mean_probs"):
        generate(Recipe("confidence", 0.4), DIGITS)
    with pytest.raises(ValueError, match="has no mean_probs"):
        generate(Recipe("pair_flip", 0.4), DIGITS, PROBS)


# ---- a part of the training set


@pytest.mark.parametrize(
    ("kind", "kind_there"), [("ieg_uniform", "uniform"), ("ieg_asymmetric", "asymmetric")]
)
@pytest.mark.parametrize(("more", "ratio"), [([], 0.02), (["--probe_ratio", 0.1], 0.1)])
def test_the_labels_of_ieg_travel_without_its_probe_set(tmp_path, kind, kind_there, more, ratio):
    assert make(tmp_path / "a.npz", kind, *more) == 0
    made = noise_file.read(tmp_path / "a.npz")
    split = ieg_splits.split(
        DIGITS.train_labels, 10, noise=kind_there, rate=0.4, probe_ratio=ratio, seed=12345
    )
    assert (np.diff(made.indices) > 0).all()
    assert dict(zip(made.indices, made.noisy_labels)) == dict(
        zip(split.train_ids, split.train_labels)
    )
    np.testing.assert_array_equal(made.clean_labels, DIGITS.train_labels[made.indices])
    known = made.header
    assert (known.kind, known.nominal_rate, known.seed) == (kind, 0.4, 12345)
    assert known.class_map == (None if kind == "ieg_uniform" else "cifar10")
    assert known.convention == (
        "with_true_class" if kind == "ieg_uniform" else "without_true_class"
    )
    assert known.generator == f"{noise.GENERATOR}, IEG's split, probe ratio {ratio}"
    rows, _ = labels_for(made, dataset="digits", clean_labels=DIGITS.train_labels, num_classes=10)
    assert not set(rows) & set(split.probe_ids)


def test_without_a_probe_set_every_format_takes_the_labels_of_ieg(tmp_path, capsys):
    assert make(tmp_path / "a.csv", "ieg_uniform", "--probe_ratio", 0) == 0
    split = ieg_splits.split(DIGITS.train_labels, 10, noise="uniform", rate=0.4, probe_ratio=0)
    np.testing.assert_array_equal(
        read_any(tmp_path / "a.csv").noisy_labels[split.train_ids], split.train_labels
    )
    assert make(tmp_path / "b.csv", "ieg_uniform") == 2
    assert "cannot say which samples" in capsys.readouterr().err


@pytest.mark.parametrize(("more", "seed"), [([], 12345), (["--seed", 5], 5)])
def test_a_long_tail_is_a_file_of_fewer_samples(tmp_path, more, seed):
    assert make(tmp_path / "a.npz", "long_tail", "--imbalance", 0.1, *more) == 0
    made = noise_file.read(tmp_path / "a.npz")
    np.testing.assert_array_equal(made.indices, long_tail.subset(DIGITS.train_labels, 0.1, seed))
    np.testing.assert_array_equal(made.clean_labels, DIGITS.train_labels[made.indices])
    expected = ieg_splits.uniform_noise(made.clean_labels, 10, 0.4, np.random.RandomState(seed))
    np.testing.assert_array_equal(made.noisy_labels, expected)
    assert (made.header.kind, made.header.seed, made.header.convention) == (
        "long_tail",
        seed,
        "with_true_class",
    )
    assert made.header.generator == f"{noise.GENERATOR}, long tail 0.1"


def test_a_long_tail_of_rate_zero_keeps_its_labels():
    made = generate(Recipe("long_tail", 0, 12345, imbalance=0.1), DIGITS)
    np.testing.assert_array_equal(made.noisy_labels, made.clean_labels)
    assert made.header.measured_rate == 0


@pytest.mark.parametrize(
    ("kind", "more", "message"),
    [
        ("ieg_uniform", ["--probe_ratio", 1.5], r"--probe_ratio 1\.5 is outside"),
        ("ieg_uniform", ["--probe_ratio", 0.001], "less than one for each of 10 classes"),
        (
            "ieg_uniform",
            ["--imbalance", 0.1],
            "--imbalance is for long_tail noise: leave it out for ieg_uniform",
        ),
        ("ieg_asymmetric", ["--map", "cifar100"], "--map is for asymmetric noise"),
        ("ieg_uniform", ["--independent"], "--independent is for"),
        (
            "pdn",
            ["--probe_ratio", 0.1],
            "--probe_ratio is for ieg_uniform, ieg_asymmetric noise",
        ),
        ("long_tail", [], "long_tail needs --imbalance"),
        ("long_tail", ["--imbalance", 0], r"--imbalance 0\.0 is outside"),
        ("long_tail", ["--imbalance", 0.001], "leaves the last class nothing"),
        ("long_tail", ["--imbalance", 0.1, "--probe_ratio", 0.1], "leave it out for long_tail"),
    ],
)
def test_options_of_a_part_are_refused_where_they_mean_nothing(
    tmp_path, capsys, kind, more, message
):
    assert make(tmp_path / "a.npz", kind, *more) == 2
    assert re.search(message, capsys.readouterr().err)
    assert not (tmp_path / "a.npz").exists()


# ---- a transition matrix of one's own


def transitions(classes=10):
    return np.random.default_rng(5).dirichlet(np.ones(classes), classes)


@pytest.mark.parametrize("ending", ["csv", "npy"])
def test_a_matrix_is_met_to_the_sample(tmp_path, ending, capsys):
    matrix, path = transitions(), tmp_path / f"T.{ending}"
    if ending == "npy":
        np.save(path, matrix)
    else:
        path.write_text("\n".join(",".join(map(repr, row)) for row in matrix.tolist()) + "\n")
    flags = ["--dataset", "digits", "--kind", "transition", "--matrix", str(path)]
    for out in ("a.npz", "b.npz"):
        assert main(["noise", "make", *flags, "--out", str(tmp_path / out)]) == 0
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    made = noise_file.read(tmp_path / "a.npz")
    sizes = np.bincount(DIGITS.train_labels)
    counts = np.zeros((10, 10))
    np.add.at(counts, (made.clean_labels, made.noisy_labels), 1)
    assert np.abs(counts - matrix * sizes[:, None]).max() < 1
    expected = ((1 - matrix.diagonal()) * sizes).sum() / sizes.sum()
    assert made.header.nominal_rate == pytest.approx(expected)
    assert made.header.measured_rate == pytest.approx(expected, abs=10 / sizes.sum())
    assert (made.header.kind, made.header.seed) == ("transition", 123)
    assert "measured rate" in capsys.readouterr().out


def test_a_matrix_with_exact_shares_gives_exactly_them():
    labels = np.repeat([0, 1, 2], [100, 50, 10])
    matrix = np.array([[0.71, 0.29, 0], [0, 0.5, 0.5], [0.3, 0.3, 0.4]])
    noisy = noise.by_transitions(labels, matrix, np.random.default_rng(1))
    counts = [np.bincount(noisy[labels == label], minlength=3).tolist() for label in range(3)]
    assert counts == [[71, 29, 0], [0, 25, 25], [3, 3, 4]]
    assert not np.array_equal(noisy[:100], np.sort(noisy[:100])), "which ones is random"


def test_a_matrix_by_independent_draws():
    labels = np.repeat(np.arange(10), 5_000)
    matrix = transitions()
    noisy = noise.by_transitions(labels, matrix, np.random.default_rng(1), independent=True)
    off = np.abs(noise.transition_matrix(labels, noisy, 10) - matrix).max()
    assert 1 / 5_000 < off < 0.03, "exact counts are no independent draws"
    recipe = Recipe("transition", independent=True)
    assert "independent draws" in generate(recipe, DIGITS, matrix=matrix).header.generator


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("0.5,0.5\n0.5,0.5\n", "2 columns, but digits has 10 classes"),
        ("\n".join([",".join(["0.2"] * 10)] * 10), "row 0 of the matrix sums to 2"),
        ("\n".join([",".join(["-0.1", "1.1"] + ["0"] * 8)] * 10), "negative"),
        ("a,b\n1,2\n", "not a table of numbers"),
        ("1,2\n3\n", "not a table of numbers"),
        ("\n", "not a table of numbers (it is empty)"),
        ("\n".join([",".join(["nan"] * 10)] * 10), "missing"),
    ],
)
def test_wrong_matrices_are_refused(tmp_path, capsys, content, message):
    (tmp_path / "T.csv").write_text(content)
    flags = ["--dataset", "digits", "--kind", "transition", "--matrix", str(tmp_path / "T.csv")]
    assert main(["noise", "make", *flags, "--out", str(tmp_path / "a.npz")]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "a.npz").exists()


def test_a_matrix_is_for_its_kind_and_has_no_rate(tmp_path, capsys):
    out = ["--dataset", "digits", "--out", str(tmp_path / "a.npz")]
    for flags, message in (
        (["--kind", "transition"], "transition noise needs --matrix FILE"),
        (["--kind", "transition", "--rate", "0.4"], "has no rate: leave --rate out"),
        (["--kind", "pdn", "--rate", "0.4", "--matrix", "T.csv"], "--matrix is for transition"),
        (["--kind", "pdn"], "pdn noise needs a rate (--rate)"),
    ):
        assert main(["noise", "make", *out, *flags]) == 2
        assert message in capsys.readouterr().err


# ---- counts


@pytest.mark.parametrize(
    ("rate", "size", "count"),
    [(0.29, 50_000, 14_500), (0.57, 100, 57), (0.4, 1442, 576), (1 / 3, 3, 1), (0.9999, 100, 99)],
)
def test_a_count_is_not_cut_by_the_error_of_floats(rate, size, count):
    noisy = noise.pair_flip(np.zeros(size, int), rate, 2, np.random.default_rng(0))
    assert noisy.sum() == count
    assert len(open_set.draw_pairs(size, size, rate, 1)) == count
    probs = np.full((size, 2), 0.5, np.float32)
    assert noise.confidence_dependent(np.zeros(size, int), probs, rate).sum() == count

"""The commands of `python -m shared`, on the embedded digits."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cli_results import assert_refused

from shared import datasets, noise
from shared.cli import noise as noise_cli
from shared.datasets import published_noise
from shared.formats import external, noise_file
from shared.formats.external import read_any
from shared.noise.recipe import Recipe, generate

ROOT = Path(__file__).parents[2]
DIGITS = datasets.load("digits")


# ---- info


def test_info_tells_rate_counts_and_matrix(make, run, tmp_path):
    out = tmp_path / "noise.npz"
    make(out, "--map", "cifar10", kind="asymmetric")
    code, printed, _ = run("noise", "info", out)
    made = noise_file.read(out)
    matrix = noise.transition_matrix(made.clean_labels, made.noisy_labels, 10)
    assert code == 0
    for fact in (
        "digits, train",
        "asymmetric",
        "cifar10",
        "nominal rate  0.4",
        "seed          123",
        noise.GENERATOR,
    ):
        assert fact in printed
    assert (
        f"{made.header.measured_rate:.5f} ({(made.noisy_labels != made.clean_labels).sum()} of"
        in printed
    )
    assert f"{1 - matrix[9, 9]:.2%}" in printed
    row = next(line for line in printed.splitlines() if line.startswith("    9 "))
    cells = row.split()[3:]  # after the number, "class" and its number
    assert cells == [f"{100 * value:.1f}" if value else "." for value in matrix[9]]


def test_info_takes_clean_labels_and_names_from_the_dataset(make, run, tmp_path):
    out = tmp_path / "noise.pt"
    make(out)
    _, printed, _ = run("noise", "info", out)
    assert "No clean labels in this file" in printed
    _, printed, _ = run("noise", "info", out, "--dataset", "digits")
    expected = generate(Recipe("symmetric", 0.4), DIGITS).header.measured_rate
    assert f"measured rate {expected:.5f}" in printed
    np.save(tmp_path / "other.npy", np.zeros(7, int))
    assert_refused(
        run("noise", "info", tmp_path / "other.npy", "--dataset", "digits"), "has 7 labels"
    )
    assert_refused(run("noise", "info", out, "--data_path", tmp_path), "add --dataset")


@pytest.mark.parametrize("num_classes", [1, 20, 100])
def test_info_draws_a_heat_map(run, tmp_path, num_classes):
    labels = np.arange(400) % num_classes
    noisy = noise.pair_flip(labels, 0.3, num_classes, np.random.default_rng(0))
    source, plot = tmp_path / "costs $1_000 $2^.npz", tmp_path / "plot.png"
    noise_file.write(source, noise_file.make(noisy, clean_labels=labels, num_classes=num_classes))
    code, printed, _ = run("noise", "info", source, "--plot", plot)
    assert code == 0
    assert f"wrote {plot}" in printed
    assert plot.read_bytes().startswith(b"\x89PNG")
    assert ("Commonest confusions" in printed) == (num_classes > 20)
    if num_classes == 1:
        first = plot.read_bytes()
        run("noise", "info", source, "--plot", plot)
        assert plot.read_bytes() == first


def test_a_plot_needs_clean_labels_and_a_png(make, run, tmp_path):
    out = tmp_path / "noise.json"
    make(out)
    assert_refused(
        run("noise", "info", out, "--plot", tmp_path / "a.png"),
        "needs the clean labels",
        "--dataset",
    )
    assert_refused(run("noise", "info", out, "--plot", tmp_path / "a.pdf"), ".png")
    assert not (tmp_path / "a.png").exists()


def test_info_of_open_set_noise_and_of_no_samples(run, tmp_path):
    (tmp_path / "open.csv").write_text("label,label_noisy\n0,True\n1,False\n1,False\n1,False\n")
    _, printed, _ = run("noise", "info", tmp_path / "open.csv")
    assert "measured rate 0.25000" in printed
    assert "1 images of another dataset" in printed
    (tmp_path / "empty.json").write_text("[]")
    assert "no samples" in run("noise", "info", tmp_path / "empty.json")[1]
    (tmp_path / "ids.json").write_text("[123456789]")
    assert_refused(run("noise", "info", tmp_path / "ids.json"), "are these labels?")


@pytest.fixture
def human(tmp_path):
    clean = np.arange(40) % 10
    path = tmp_path / "human.npz"
    np.savez(
        path,
        clean_label=clean,
        aggre_label=np.where(clean == 1, 2, clean),
        worse_label=(clean + 1) % 10,
    )
    return path


def test_info_lists_columns_with_their_rates(run, human):
    code, printed, _ = run("noise", "info", human)
    assert code == 0
    rates = {line.split()[0]: line.split()[-1] for line in printed.splitlines()[1:]}
    assert rates == {"clean_label": "0.00000", "aggre_label": "0.10000", "worse_label": "1.00000"}
    for chosen in ([f"{human}:aggre_label"], [human, "--column", "aggre_label"]):
        assert "0.10000 (4 of 40" in run("noise", "info", *chosen)[1]
    assert_refused(run("noise", "info", human, "--plot", "a.png"), "choose one of", "aggre_label")
    assert_refused(run("noise", "info", f"{human}:none"), "no column 'none'")


def test_info_lists_columns_that_cannot_be_labels(run, tmp_path):
    (tmp_path / "a.csv").write_text("label,label_a,label_b\n1,1,1\n2,,2\n")
    code, printed, _ = run("noise", "info", tmp_path / "a.csv")
    assert code == 0
    assert [line.split()[1:] for line in printed.splitlines()[1:]] == [
        *(["rate", "0.00000"], ["no", "labels"], ["rate", "0.00000"])
    ]


def test_classes_beyond_those_of_the_dataset_have_no_names(run, tmp_path):
    known = {"clean_labels": [3, 4], "dataset": "cifar10"}
    noise_file.write(tmp_path / "a.npz", noise_file.make([15, 4], **known))
    code, printed, _ = run("noise", "info", tmp_path / "a.npz")
    assert code == 0
    assert "class 15" in printed
    assert "deer" not in printed


def test_a_header_need_not_say_the_rate(run, tmp_path):
    found = noise_file.make([1, 1], clean_labels=[0, 1], num_classes=2)
    header = replace(found.header, measured_rate=None)
    noise_file.write(tmp_path / "a.npz", replace(found, header=header))
    code, printed, said = run("noise", "info", tmp_path / "a.npz", "--plot", tmp_path / "a.png")
    assert code == 0, said
    assert "0.50000 (1 of 2 labels wrong)" in printed


# ---- convert and compare


def test_convert_between_formats(run, human, tmp_path):
    out = tmp_path / "worse.csv"
    assert run("noise", "convert", f"{human}:worse_label", out)[0] == 0
    back = read_any(out)
    np.testing.assert_array_equal(back.noisy_labels, (back.clean_labels + 1) % 10)
    assert "unchanged" in run("noise", "convert", human, out, "--column", "worse_label")[1]
    assert_refused(run("noise", "convert", human, out, "--column", "aggre_label"), "--force")
    assert_refused(run("noise", "convert", human, tmp_path / "x.npz"), "choose human.npz:COLUMN")
    assert_refused(
        run("noise", "convert", tmp_path / "none.csv", tmp_path / "x.npz"), "does not exist"
    )


def test_convert_completes_a_file_from_its_dataset(make, run, tmp_path):
    make(tmp_path / "labels.json")
    assert_refused(
        run("noise", "convert", tmp_path / "labels.json", tmp_path / "labels.csv"),
        "needs the clean labels",
    )
    for out in ("labels.csv", "labels.npz"):
        assert (
            run(
                "noise", "convert", tmp_path / "labels.json", tmp_path / out, "--dataset", "digits"
            )[0]
            == 0
        )
        np.testing.assert_array_equal(read_any(tmp_path / out).clean_labels, DIGITS.train_labels)
    assert read_any(tmp_path / "labels.npz").header.dataset == "digits"


def test_labels_of_all_samples_need_no_indices(make, run, tmp_path):
    make(tmp_path / "a.npz")
    found = noise_file.read(tmp_path / "a.npz")
    every = np.arange(len(found.noisy_labels))
    noise_file.write(tmp_path / "b.npz", replace(found, indices=every))
    code, _, said = run(
        "noise", "convert", tmp_path / "b.npz", tmp_path / "b.npy", "--dataset", "digits"
    )
    assert code == 0, said
    assert np.load(tmp_path / "b.npy").tolist() == found.noisy_labels.tolist()


def test_convert_to_npz_and_back_keeps_the_bytes(make, run, tmp_path):
    for format in external.FORMATS:
        make(tmp_path / f"a.{format}")
        run("noise", "convert", tmp_path / f"a.{format}", tmp_path / f"{format}.npz")
        run("noise", "convert", tmp_path / f"{format}.npz", tmp_path / f"b.{format}")
        assert (tmp_path / f"a.{format}").read_bytes() == (tmp_path / f"b.{format}").read_bytes()


def test_compare_counts_agreement_by_hand(run, tmp_path):
    clean = [0, 0, 1, 1, 2, 2, 3, 3]
    noise_file.write(
        tmp_path / "a.npz", noise_file.make([1, 0, 2, 2, 2, 2, 3, 3], clean_labels=clean)
    )
    noise_file.write(
        tmp_path / "b.npz", noise_file.make([1, 1, 2, 0, 2, 2, 3, 3], clean_labels=clean)
    )
    code, printed, _ = run("noise", "compare", tmp_path / "a.npz", tmp_path / "b.npz")
    assert code == 0
    counts = {line[:22].strip(): (line[22:].split() or [""])[0] for line in printed.splitlines()}
    assert counts["samples in both"] == "8"
    assert counts["same label"] == "6"
    assert counts["wrong in A"] == "3"
    assert counts["wrong in B"] == "4"
    assert counts["wrong in both"] == "3"
    assert counts["with the same label"] == "2"
    assert counts["wrong in B only"] == "1"
    assert "Different at samples   1, 3\n" in printed
    assert "0/1: 1, 2/0: 1" in printed


def test_compare_uses_the_common_samples(run, tmp_path):
    noise_file.write(tmp_path / "all.npz", noise_file.make([1, 2, 3, 4]))
    noise_file.write(tmp_path / "part.npz", noise_file.make([4, 2], indices=[3, 0]))
    _, printed, _ = run("noise", "compare", tmp_path / "all.npz", tmp_path / "part.npz")
    assert "samples in both        2 (A has 4, B has 2)" in printed
    assert "Different at samples   0\n" in printed
    assert (
        "The labels are the same"
        in run("noise", "compare", tmp_path / "all.npz", tmp_path / "all.npz")[1]
    )


def test_compare_refuses_files_of_different_data(run, tmp_path):
    (tmp_path / "a.json").write_text("[1, 2]")
    (tmp_path / "b.json").write_text("[1, 2, 3]")
    (tmp_path / "a.csv").write_text("label,label_noisy\n1,1\n2,2\n")
    (tmp_path / "b.csv").write_text("label,label_noisy\n1,1\n3,2\n")
    assert_refused(
        run("noise", "compare", tmp_path / "a.json", tmp_path / "b.json"), "2 and 3 labels"
    )
    assert_refused(
        run("noise", "compare", tmp_path / "a.csv", tmp_path / "b.csv"),
        "1 of 2 clean labels differ",
    )


# ---- data and the program itself


def test_data_list_and_fetch(run, tmp_path, monkeypatch):
    code, printed, _ = run("data", "list")
    assert code == 0
    for name in (*datasets.NAMES, *published_noise.NOISE):
        assert f"  {name} " in printed
    monkeypatch.setattr(datasets, "fetch", lambda name, path: Path(path) / name)
    assert (
        run("data", "cifar10", "--path", tmp_path)[1] == f"cifar10 is in {tmp_path / 'cifar10'}\n"
    )
    monkeypatch.setattr(published_noise, "fetch_noise", lambda name, path: Path(path) / name)
    assert run("data", "sln/cifar10/sym0.4.csv", "--path", tmp_path)[1].endswith(
        "/sln/cifar10/sym0.4.csv\n"
    )


def test_data_of_an_unknown_name_is_refused(run):
    assert_refused(run("data", "cifar11"), "unknown dataset", "cifar10", "cifar10n", "sln-noise")
    assert_refused(run("data", "sln/none.csv"), "unknown noise file")


def test_as_a_program(tmp_path):
    def program(*arguments):
        command = [sys.executable, "-m", "shared", *arguments]
        return subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
        )

    out = tmp_path / "noise.json"
    made = program(
        *["noise", "make", "--dataset", "digits", "--kind", "pair_flip", "--rate", "0.2", "--out"],
        str(out),
    )
    assert (made.returncode, made.stderr) == (0, "")
    assert len(read_any(out).noisy_labels) == len(DIGITS.train_labels)
    bad = program("noise", "info", str(tmp_path / "none.pt"))
    assert bad.returncode == 2
    assert bad.stdout == ""
    assert bad.stderr.startswith("error: noise file ")
    assert bad.stderr.count("\n") == 1


def test_by_path_it_runs_from_any_folder(tmp_path):
    command = [sys.executable, str(ROOT / "shared"), "data", "list"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert "cifar10" in done.stdout


@pytest.mark.parametrize(
    "command", [[], ["noise"], ["noise", "make"], ["noise", "add"], ["noise", "info"], ["data"]]
)
def test_help_has_examples(run, command):
    code, printed, _ = run(*command, "--help")
    assert code == 0
    assert "python -m shared" in printed.partition("example")[2]


def test_the_help_names_every_map():
    for name in noise.ASYMMETRIC_MAPS:
        assert f"  {name} " in noise_cli.MAKE_EXAMPLES

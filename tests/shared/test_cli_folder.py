"""Noise files for folders of own pictures: layouts, labels in a CSV, broken pictures."""

import numpy as np
import pytest
from cli_results import assert_refused
from picture_files import save, truncate

from shared.formats import noise_file


@pytest.fixture
def pictures(tmp_path):
    """Thirty pictures that lie in no class folders, and a CSV of three classes."""
    lines = ["filename,label"]
    for number in range(30):
        save(tmp_path / "set" / f"{number:02}.png", number, (8, 8))
        lines.append(f"{number:02}.png,{'abc'[number % 3]}")
    (tmp_path / "labels.csv").write_text("\n".join(lines))
    return tmp_path / "set"


def flags(pictures, *more):
    where = ("--data_path", pictures, "--labels", pictures.parent / "labels.csv")
    return ("--dataset", "folder", *where, *more)


def make(run, pictures, *more):
    how = ("--kind", "symmetric", "--rate", 0.3, "--exclude_true_class")
    out = ("--out", pictures.parent / "noise.npz")
    return run("noise", "make", *flags(pictures, *more), *how, *out)


def test_make_and_info_take_labels_of_a_csv(run, pictures):
    assert make(run, pictures)[0] == 0
    made = noise_file.read(pictures.parent / "noise.npz")
    np.testing.assert_array_equal(made.clean_labels, np.arange(30) % 3)
    assert made.header.measured_rate == pytest.approx(0.3)
    code, printed, _ = run("noise", "info", pictures.parent / "noise.npz", *flags(pictures))
    assert code == 0
    assert "0.30000" in printed


def test_corrected_labels_have_no_rate_that_the_folders_own_would_measure(run, pictures):
    labels = noise_file.make((np.arange(30) + 1) % 3, kind="corrected", dataset="folder")
    noise_file.write(pictures.parent / "better.npz", labels)
    where, out = flags(pictures), pictures.parent / "out.npz"
    code, printed, _ = run("noise", "info", pictures.parent / "better.npz", *where)
    assert code == 0
    assert "unknown" in printed
    assert run("noise", "convert", pictures.parent / "better.npz", out, *where)[0] == 0
    found = noise_file.read(out)
    assert (found.clean_labels, found.header.measured_rate) == (None, None)


def test_class_folders_at_the_root_are_enough(run, tmp_path):
    for number in range(20):
        save(tmp_path / "set" / "ab"[number % 2] / f"{number}.png", number, (8, 8))
    where = ("--dataset", "folder", "--data_path", tmp_path / "set")
    out = tmp_path / "noise.npz"
    how = ("--kind", "pdn", "--rate", 0.3, "--out", out)
    assert run("noise", "make", *where, *how)[0] == 0
    assert run("noise", "info", out, *where)[0] == 0
    assert run("noise", "convert", out, tmp_path / "noise.csv", *where)[0] == 0
    assert run("noise", "compare", out, tmp_path / "noise.csv", *where)[0] == 0


def test_broken_pictures_are_refused_or_skipped(run, pictures):
    truncate(pictures / "04.png")
    assert_refused(make(run, pictures), "1 of 30 pictures", "04.png", "--skip_broken")
    assert make(run, pictures, "--skip_broken")[0] == 0
    out = pictures.parent / "noise.npz"
    assert len(noise_file.read(out).noisy_labels) == 29
    assert run("noise", "info", out, *flags(pictures, "--skip_broken"))[0] == 0
    assert_refused(run("noise", "info", out, *flags(pictures)), "29 labels", "30")


def test_flags_without_their_dataset_are_refused(run, make, tmp_path):
    labels = tmp_path / "labels.csv"
    assert_refused(make(tmp_path / "a.npz", "--labels", labels), "--labels is for pictures of your")
    make(tmp_path / "a.npz")
    info = run("noise", "info", tmp_path / "a.npz", "--labels", labels)
    assert_refused(info, "--labels is about a dataset", "add --dataset")
    for flag in ("--skip_broken", "--accept_labels"):
        info = run("noise", "info", tmp_path / "a.npz", flag)
        assert_refused(info, f"{flag} is about a dataset")

"""The teacher of confidence-dependent noise, on the digits: what it averages, writes, refuses."""

import numpy as np
import pytest

from re_sln import make_dependent_noise
from re_sln.run import checkpoint
from shared import datasets
from shared.datasets.image_data import ImageData
from shared.formats import noise_file

pytestmark = pytest.mark.training


@pytest.fixture
def few_digits(monkeypatch):
    """Every eighth digit: the arithmetic is the same, and it takes a second."""
    digits = datasets.load("digits")
    few = ImageData(
        "digits",
        digits.train_images[::8],
        digits.train_labels[::8],
        digits.test_images,
        digits.test_labels,
        digits.class_names,
        None,
    )
    monkeypatch.setattr(datasets, "load", lambda name, path: few)
    return few


def test_the_least_sure_images_get_their_most_probable_wrong_class(
    few_digits, tmp_path, monkeypatch
):
    seen = []
    averaged = make_dependent_noise.mean_probabilities
    monkeypatch.setattr(
        make_dependent_noise, "mean_probabilities", lambda *a: seen.append(averaged(*a)) or seen[-1]
    )
    files = [tmp_path / "one.npz", tmp_path / "two.npz"]
    for path in files:
        flags = [
            "--dataset_name",
            "digits",
            "--p",
            "0.25",
            "--n_epochs",
            "2",
            "--out",
            str(path),
            "--device",
            "cpu",
        ]
        assert make_dependent_noise.main(flags) == 0
    assert files[0].read_bytes() == files[1].read_bytes()
    probs, labels = seen[0], few_digits.train_labels
    assert np.allclose(probs.sum(axis=1), 1, atol=1e-6)
    noise = noise_file.read(files[0])
    wrong = [
        max((probs[i, k], -k) for k in range(10) if k != labels[i]) for i in range(len(labels))
    ]
    flipped = sorted(range(len(labels)), key=lambda i: (-wrong[i][0], i))[: int(0.25 * len(labels))]
    assert set(np.flatnonzero(noise.noisy_labels != labels)) == set(flipped)
    assert all(noise.noisy_labels[i] == -wrong[i][1] for i in flipped)
    assert (noise.header.kind, noise.header.nominal_rate) == ("confidence", 0.25)


def test_a_killed_teacher_resumes(few_digits, tmp_path, monkeypatch, capsys):
    flags = ["--dataset_name", "digits", "--n_epochs", "3", "--device", "cpu", "--out"]
    assert make_dependent_noise.main([*flags, str(tmp_path / "whole.npz")]) == 0
    save = checkpoint.save

    def save_and_die(state, path):
        save(state, path)
        if state["epoch"] == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint, "save", save_and_die)
    assert make_dependent_noise.main([*flags, str(tmp_path / "killed.npz")]) == 130
    assert (
        make_dependent_noise.main([*flags[:3], "4", *flags[4:], str(tmp_path / "killed.npz")]) == 2
    )
    assert "epochs: 3 then, 4 now" in capsys.readouterr().err
    monkeypatch.setattr(checkpoint, "save", save)
    assert make_dependent_noise.main([*flags, str(tmp_path / "killed.npz")]) == 0
    assert (tmp_path / "killed.npz").read_bytes() == (tmp_path / "whole.npz").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["killed.npz", "whole.npz"]
    assert make_dependent_noise.main([*flags, str(tmp_path / "whole.npz")]) == 2
    assert "exists" in capsys.readouterr().err


def test_what_cannot_work_is_refused_before_the_teacher_trains(
    few_digits, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(
        make_dependent_noise, "mean_probabilities", lambda *a: pytest.fail("trained")
    )
    assert (
        make_dependent_noise.main(
            ["--dataset_name", "digits", "--out", str(tmp_path / "noise.xlsx")]
        )
        == 2
    )
    assert "choose the format by the ending" in capsys.readouterr().err
    for flags, message in ((["--p", "40"], "--p 0.4"), (["--n_epochs", "0"], "at least 1")):
        with pytest.raises(SystemExit, match="2"):
            make_dependent_noise.main(["--dataset_name", "digits", "--out", "x.npz", *flags])
        assert message in capsys.readouterr().err


@pytest.mark.parametrize("seed", ["-1", "99999999999999999999999"])
def test_a_seed_out_of_range_is_refused(seed, capsys):
    with pytest.raises(SystemExit, match="2"):
        make_dependent_noise.main(["--dataset_name", "digits", "--out", "a.npz", "--seed", seed])
    assert f"--seed {seed}: must be between 0 and" in capsys.readouterr().err

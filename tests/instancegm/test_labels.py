"""Noise of a run: made once, kept under a name of its own, never taken for another rate."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from instancegm.run.config import parse
from instancegm.run.labels import labels_of_run
from instancegm.run.published import rate_name
from shared import noise
from shared.datasets.image_data import ImageData
from shared.formats.external import read_any, write_any
from shared.formats.noise_file import NoiseFileError, make, read, write


@pytest.fixture
def data(tmp_path):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (400, 32, 32, 3), dtype=np.uint8)
    labels = np.arange(400) % 10
    return ImageData(
        "cifar10", images, labels, images[:50], labels[:50], tuple("abcdefghij"), tmp_path
    )


def noise_of(data, line):
    noise_file, _, word = labels_of_run(parse(line.split()), data)
    return noise_file, word


@pytest.mark.parametrize(
    ("rate", "name"), [(0.5, "0.5"), (0.45, "0.45"), (0.2, "0.2"), (0.08, "0.08"), (0, "0.0")]
)
def test_rates_of_two_digits_have_names_of_their_own(rate, name):
    assert rate_name(rate) == name


def test_instance_noise_is_part_dependent_with_seed_123_whatever_the_runs_seed(data):
    first, word = noise_of(data, "--r 0.4 --seed 7")
    expected = noise.part_dependent(data.train_images, data.train_labels, 0.4, 10, 123)
    assert word == "instance"
    assert (first.noisy_labels == expected).all()
    assert first.header.nominal_rate == 0.4


def test_the_noise_is_kept_beside_the_data_in_the_originals_format_and_in_ours(data):
    made, _ = noise_of(data, "--r 0.4")
    assert (read_any(data.location / "0.4_instance.pt").noisy_labels == made.noisy_labels).all()
    assert read(data.location / "0.4_instance.npz").header.seed == 123
    again, _ = noise_of(data, "--r 0.4")
    assert (again.noisy_labels == made.noisy_labels).all()


def test_rates_045_and_05_do_not_share_a_file(data):
    low, _ = noise_of(data, "--r 0.45")
    high, _ = noise_of(data, "--r 0.5")
    assert low.header.measured_rate < high.header.measured_rate
    assert {path.name for path in data.location.glob("*.pt")} == {
        "0.45_instance.pt",
        "0.5_instance.pt",
    }


def test_an_old_file_that_was_made_for_another_rate_is_refused(data):
    other = noise.part_dependent(data.train_images, data.train_labels, 0.3, 10, 123)
    write_any(data.location / "0.5_instance.pt", make(other))
    with pytest.raises(NoiseFileError, match=r"made for another rate.*--noise_file"):
        noise_of(data, "--r 0.5")


def test_an_old_file_of_the_right_rate_is_used_as_it_is(data, capsys):
    other = noise.part_dependent(data.train_images, data.train_labels, 0.5, 10, 7)
    own = noise.part_dependent(data.train_images, data.train_labels, 0.5, 10, 123)
    shift = np.flatnonzero(other != data.train_labels)[
        : int((other != data.train_labels).sum() - (own != data.train_labels).sum())
    ]
    other[shift] = data.train_labels[shift]  # the same number of wrong labels
    write_any(data.location / "0.5_instance.pt", make(other))
    found, _ = noise_of(data, "--r 0.5")
    assert (found.noisy_labels == other).all()
    assert "is used, though it is not what seed 123 gives" in capsys.readouterr().out


@pytest.mark.parametrize("form", [np.asarray, list, torch.tensor])
def test_files_of_the_original_and_ours_are_the_same_to_torch(tmp_path, form):
    labels = np.arange(300, dtype=np.int64) % 10
    torch.save(form(labels), tmp_path / "theirs.pt")
    assert (read_any(tmp_path / "theirs.pt").noisy_labels == labels).all()
    write_any(tmp_path / "ours.pt", make(labels))
    read_back = torch.load(tmp_path / "ours.pt", weights_only=False)
    assert isinstance(read_back, np.ndarray)
    assert (read_back == labels).all()


def test_a_folder_that_cannot_be_written_does_not_stop_the_run(data, capsys, monkeypatch):
    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("instancegm.run.labels.write", refuse)
    noise_of(data, "--r 0.4")
    assert "kept in the run folder only" in capsys.readouterr().out


@pytest.mark.parametrize(("mode", "kind"), [("sym", "symmetric"), ("asym", "asymmetric")])
def test_other_modes_follow_dividemix(data, mode, kind):
    made, _ = noise_of(data, f"--noise_mode {mode} --r 0.4")
    assert made.header.kind == kind
    wrong = made.noisy_labels != data.train_labels
    if mode == "sym":  # the true class is among the targets
        assert wrong.mean() == pytest.approx(0.4 * 0.9, abs=0.04)
    else:
        pairs = set(zip(data.train_labels[wrong], made.noisy_labels[wrong]))
        assert pairs == {(9, 1), (2, 0), (4, 7), (3, 5), (5, 3)}


def test_the_first_part_of_a_training_set_may_be_labelled(data, tmp_path):
    path = tmp_path / "part.npz"
    rows = np.arange(300)
    write(path, make(data.train_labels[rows], indices=rows, dataset="cifar10", num_classes=10))
    found, word = noise_of(data, f"--noise_file {path}")
    assert word == "part"
    assert found.indices.tolist() == rows.tolist()
    assert found.header.measured_rate == 0.0


def test_the_originals_place_for_the_file_is_the_data_path(data, tmp_path):
    folder = tmp_path / "cifar-10"
    folder.mkdir()
    made, _ = noise_of(data, f"--r 0.4 --data_path {folder}")
    assert (read_any(folder / "0.4_instance.pt").noisy_labels == made.noisy_labels).all()


def test_every_column_of_a_file_has_a_word_of_its_own(data, tmp_path):
    path = tmp_path / "human.npz"
    np.savez(path, clean_label=data.train_labels, worse_label=np.roll(data.train_labels, 1))
    assert noise_of(data, f"--noise_file {path}:worse_label")[1] == "human_worse_label"


def test_a_file_that_says_its_kind_brings_the_preset(data, tmp_path):
    write(
        tmp_path / "sym.npz",
        make(data.train_labels, kind="symmetric", nominal_rate=0.2, dataset="cifar10"),
    )
    flags = ["--noise_file", str(tmp_path / "sym.npz")]
    config = labels_of_run(parse(flags), data).config
    assert (config.r, config.noise_mode, config.lambda_u) == (0.2, "sym", 0.0)
    config = labels_of_run(parse([*flags, "--lambda_u", "7"]), data).config
    assert (config.r, config.lambda_u) == (0.2, 7.0)


def test_a_file_of_another_dataset_or_length_is_refused(data, tmp_path):
    write(tmp_path / "a.npz", make(data.train_labels, dataset="cifar100"))
    write(tmp_path / "b.npz", make(data.train_labels[:-1]))
    write(tmp_path / "c.npz", make(data.train_labels, clean_labels=np.roll(data.train_labels, 1)))
    write(tmp_path / "d.npz", make(data.train_labels, open_set=data.train_labels == 0))
    for name, reason in (
        ("a", "for cifar100"),
        ("b", "399 labels"),
        ("c", "clean labels"),
        ("d", "open-set"),
    ):
        with pytest.raises(NoiseFileError, match=reason):
            noise_of(data, f"--noise_file {tmp_path / name}.npz")


def test_datasets_that_share_a_folder_do_not_share_the_noise(data):
    """Ten classes each, with the same labels: nothing but name and images differ."""
    first, _ = noise_of(data, "--r 0.4")
    other = replace(data, name="cifar100", train_images=255 - data.train_images)
    second, _ = noise_of(other, "--dataset cifar100 --r 0.4")
    assert (first.noisy_labels != second.noisy_labels).any()
    assert second.header.dataset == "cifar100"
    for _ in range(2):  # made, then kept
        assert (noise_of(data, "--r 0.4")[0].noisy_labels == first.noisy_labels).all()
        again, _ = noise_of(other, "--dataset cifar100 --r 0.4")
        assert (again.noisy_labels == second.noisy_labels).all()
    names = sorted(path.name for path in data.location.glob("*.pt"))
    assert names[0] == "0.4_instance.pt"  # as published
    assert names[1].startswith("0.4_instance_cifar100_")
    assert len(names) == 2


def test_a_kept_file_of_other_labels_is_left_alone(data):
    noise_of(replace(data, train_labels=(data.train_labels + 1) % 10), "--r 0.4")
    before = (data.location / "0.4_instance.pt").read_bytes()
    found, _ = noise_of(data, "--r 0.4")
    assert (found.clean_labels == data.train_labels).all()
    assert (data.location / "0.4_instance.pt").read_bytes() == before


def test_two_sets_of_a_users_images_keep_noise_of_their_own(data):
    sets = [
        replace(data, name="folder", train_images=images)
        for images in (data.train_images, 255 - data.train_images)
    ]
    flags = f"--dataset folder --data_path {data.location} --r 0.4"
    made = [noise_of(each, flags)[0].noisy_labels for each in sets]
    assert (made[0] != made[1]).any()
    assert len(list(data.location.glob("0.4_instance_folder_*.pt"))) == 2
    again = [noise_of(each, flags)[0].noisy_labels for each in sets]
    assert all((a == b).all() for a, b in zip(made, again))

"""Human labels of CIFAR by name, and where their file is."""

import re

import pytest

from shared import datasets
from shared.__main__ import main
from shared.datasets import DatasetError
from shared.datasets.human_noise import HUMAN, column, human_labels
from shared.datasets.published_noise import NOISE


def place(root, name="CIFAR-10_human.pt", below="label_noisy/cifar_n"):
    (root / below).mkdir(parents=True)
    (root / below / name).write_bytes(b"never opened")
    return root / below / name


@pytest.mark.parametrize(
    ("noise_type", "expected"),
    [
        (None, "worse_label"),
        ("worse", "worse_label"),
        ("worst", "worse_label"),
        ("worse_label", "worse_label"),
        ("aggre", "aggre_label"),
        ("random1", "random_label1"),
        ("random3", "random_label3"),
        ("rand2", "random_label2"),
        ("random_label2", "random_label2"),
    ],
)
def test_types_of_cifar10n(tmp_path, noise_type, expected):
    path = place(tmp_path)
    assert human_labels("cifar10n", noise_type, tmp_path) == ("cifar10", f"{path}:{expected}")


@pytest.mark.parametrize("noise_type", [None, "noisy", "noisy_label", "noisy100"])
def test_types_of_cifar100n(tmp_path, noise_type):
    path = place(tmp_path, "CIFAR-100_human.pt")
    assert human_labels("cifar100n", noise_type, tmp_path) == ("cifar100", f"{path}:noisy_label")


@pytest.mark.parametrize(
    ("dataset", "noise_type", "choices"),
    [
        ("cifar10n", "clean_label", "worse or aggre or random1 or random2 or random3"),
        ("cifar10n", "noisy", "worse or aggre or random1 or random2 or random3"),
        ("cifar100n", "worse", "noisy"),
    ],
)
def test_unknown_types_name_the_known_ones(dataset, noise_type, choices):
    message = f"{dataset} has no noise type '{noise_type}': choose --noise_type {choices}$"
    with pytest.raises(DatasetError, match=message):
        column(dataset, noise_type)


def test_an_unknown_set_is_refused(tmp_path):
    with pytest.raises(DatasetError, match="no human labels for 'cifar10': choose one of cifar10n"):
        human_labels("cifar10", None, tmp_path)


def test_the_file_is_found_in_other_places(tmp_path):
    path = place(tmp_path, below="cifar-10-100n/data")
    assert human_labels("cifar10n", None, tmp_path)[1] == f"{path}:worse_label"


def test_a_missing_file_is_told_with_the_command(tmp_path):
    with pytest.raises(DatasetError, match=re.escape("make data-cifar_n    (downloads it from ")):
        human_labels("cifar10n", None, tmp_path)


def test_the_published_files_are_the_ones_meant():
    for known in HUMAN.values():
        assert known.dataset in datasets.NAMES
        assert NOISE[known.published].dataset == known.dataset


def test_the_commands_get_images_and_labels(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(datasets, "fetch", lambda name, path: path / name)
    monkeypatch.setattr("shared.datasets.published_noise.fetch_noise", lambda name, path: name)
    assert main(["data", "cifar10n", "--path", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert f"cifar10 is in {tmp_path / 'cifar10'}\n" in out
    assert "cifar_n/CIFAR-10_human.pt" in out
    assert main(["data", "cifar_n", "--path", str(tmp_path)]) == 0
    assert capsys.readouterr().out.split() == [k.published for k in HUMAN.values()]

"""CIFAR-10N and -100N by name, with made-up labels in a file as their publisher's."""

import pickle
import zipfile

import numpy as np
import pytest
import yaml
from conftest import rows, tiny_cifar

from ieg.input.tasks import load
from shared import datasets
from shared.datasets.image_data import DatasetError
from shared.formats import noise_file

COLUMNS = ("worse_label", "aggre_label", "random_label1", "random_label2", "random_label3")
FLAGS = [
    "--dataset_dir=.",
    "--network_name=wrn10-1",
    "--method=supervised",
    "--max_iteration=1",
    "--probe_dataset_hold_ratio=0",
    "--batch_size=20",
    "--checkpoint_path=runs",
]


@pytest.fixture
def cifar(monkeypatch, tmp_path):
    """A small CIFAR, and in the folder the labels that people gave it; these, by column."""
    tiny_cifar(monkeypatch)
    found = {}
    for name, file, columns in (
        ("cifar10", "CIFAR-10_human.pt", COLUMNS),
        ("cifar100", "CIFAR-100_human.pt", ("noisy_label",)),
    ):
        clean = datasets.load(name).train_labels
        labels = {"clean_label": clean}
        for number, column in enumerate(columns, start=2):
            labels[column] = np.where(np.arange(len(clean)) % number, clean, (clean + 1) % 10)
        with zipfile.ZipFile(tmp_path / file, "w") as archive:  # as torch.save writes it
            archive.writestr("archive/data.pkl", pickle.dumps(labels, protocol=2))
            archive.writestr("archive/version", "3\n")
        found[name] = labels
    return found


def test_the_labels_are_those_of_the_column_and_the_probe_is_clean(cifar, tmp_path):
    given = {"data_dir": tmp_path, "probe_ratio": 0.1, "seed": 7}
    for name, column in (("cifar10n_worse", "worse_label"), ("cifar10n_random1", "random_label1")):
        task = load(name, **given)
        labels = cifar["cifar10"]
        np.testing.assert_array_equal(task.train.labels, labels[column][task.noise.indices])
        np.testing.assert_array_equal(task.train.gold, labels["clean_label"][task.noise.indices])
        np.testing.assert_array_equal(task.probe.labels, np.tile(np.arange(10), 4))
        assert (task.name, task.noise.header.dataset) == (name, "cifar10")
        file = f"{tmp_path / 'CIFAR-10_human.pt'}:{column}"
        same = load("file_cifar10", noise_file=file, **given)
        assert noise_file.encode(same.noise) == noise_file.encode(task.noise)
    task = load("cifar100n_noisy", **given)
    assert task.num_classes == 100
    assert (task.train.labels == cifar["cifar100"]["noisy_label"][task.noise.indices]).all()


def test_without_the_file_it_is_said_how_to_get_it(monkeypatch, tmp_path):
    tiny_cifar(monkeypatch)
    with pytest.raises(DatasetError, match="make data-cifar_n"):
        load("cifar10n", data_dir=tmp_path, probe_ratio=0, seed=7)


@pytest.mark.training
def test_a_run_is_named_after_set_and_type_however_they_are_given(cifar, main, tmp_path, capsys):
    assert main("--dataset=cifar10n", "--noise_type=random1", *FLAGS) == 0
    folder = tmp_path / "runs" / "cifar10n_random1" / "wrn10-1" / "supervised"
    printed = capsys.readouterr().out
    assert "supervised on cifar10n_random1: " in printed
    assert "noise: measured rate 0.2500" in printed
    saved = yaml.safe_load((folder / "config.yaml").read_text())
    assert (saved["dataset"], saved["noise_type"]) == ("cifar10n_random1", None)
    first = rows(folder)
    assert main("--dataset=cifar10n_random1", *FLAGS, "--output_dir=other") == 0
    assert rows(tmp_path / "other") == first
    assert main(f"--config={folder / 'config.yaml'}", "--output_dir=again") == 0
    assert rows(tmp_path / "again") == first


def test_other_noise_is_refused_beside_it(main, capsys):
    with pytest.raises(SystemExit, match="2"):
        main("--dataset=cifar10n", "--noise_file=a.npz", *FLAGS)
    assert "both say what the labels are" in capsys.readouterr().err
    for flags, message in (
        (["--dataset=cifar10n_worse", "--noise_type=aggre"], "leave out --noise_type"),
        (["--dataset=digits", "--noise_type=worse"], "--noise_type is for the labels that people"),
        (["--dataset=cifar10n", "--noise_type=clean_label"], "choose --noise_type worse or aggre"),
        (["--dataset=cifar10n", "--val_fraction=0.1"], "--val_fraction is for your own pictures"),
    ):
        assert main(*flags, *FLAGS) == 2
        assert message in capsys.readouterr().err

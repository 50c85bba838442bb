"""Data and noise are looked for in every place, and all places are named where nothing is."""

import numpy as np
import pytest

from re_sln import train_cifar, viz
from re_sln.run import places
from re_sln.run.config import choose_labels
from re_sln.run.labels import noisy_training_set
from shared import datasets
from shared.datasets.image_data import DatasetError, ImageData
from shared.formats.external import write_any
from shared.formats.noise_file import make

CIFAR = ["--dataset_name", "cifar10", "--noise_mode", "sym", "--sigma", "0"]


@pytest.fixture
def both(tmp_path, monkeypatch):
    """re_sln/data with nothing but a noise file in it, and the root's data/."""
    monkeypatch.delenv("DATA_ROOT", raising=False)
    monkeypatch.setattr(places, "PROJECT", tmp_path / "re_sln")
    own, root = tmp_path / "re_sln" / "data", tmp_path / "data"
    (own / "cifar10" / "label_noisy").mkdir(parents=True)
    return own, root


def cifar10():
    labels = np.arange(20) % 10
    images = np.zeros((20, 32, 32, 3), np.uint8)
    names = datasets.CIFAR["cifar10"].class_names
    return ImageData("cifar10", images, labels, images, labels, names, None)


def test_the_roots_data_are_found_beside_a_folder_of_noise_files(both, monkeypatch):
    own, root = both

    def load(name, path):
        if path == root:
            return cifar10()
        raise DatasetError(f"{name} is missing in {path.absolute()}")

    monkeypatch.setattr(datasets, "load", load)
    data = places.first_found(lambda place: datasets.load("cifar10", place), None)
    labels = data.train_labels
    for folder in (own / "cifar10" / "label_noisy", root / "label_noisy" / "sln" / "cifar10"):
        write_any(folder / "sym0.4.csv", make((labels + 1) % 10, clean_labels=labels))
        choice = choose_labels(dataset_name="cifar10", noise_mode="sym", p=0.4)
        noise, _ = noisy_training_set(choice, data)
        assert noise.header.measured_rate == 1
        (folder / "sym0.4.csv").unlink()


def test_what_is_nowhere_is_said_of_every_place(both, capsys, monkeypatch):
    own, root = both
    assert train_cifar.main(CIFAR) == 2
    error = capsys.readouterr().err
    assert str(own) in error
    assert f"put cifar-10-python.tar.gz into {root}" in error
    assert error.count("Get it in one of three ways") == 1
    monkeypatch.setattr(datasets, "load", lambda name, path: cifar10())
    assert viz.main(["cifar10", "--noise_mode", "sym"]) == 2
    error = capsys.readouterr().err
    assert str(own / "cifar10" / "label_noisy") in error
    assert str(root / "label_noisy" / "sln" / "cifar10") in error


def test_a_folder_that_is_named_is_the_only_one(both, tmp_path, monkeypatch):
    assert places.data_places(None) == list(both)
    assert places.data_places(tmp_path) == [tmp_path]
    monkeypatch.setenv("DATA_ROOT", str(tmp_path / "elsewhere"))
    assert places.data_places(None) == [tmp_path / "elsewhere"]
    monkeypatch.setenv("DATA_ROOT", "")
    assert places.data_places(None) == list(both)


def test_a_damaged_file_in_one_place_is_said_too(both):
    def read(place):
        raise DatasetError(f"damaged in {place}" if place == both[0] else "missing")

    with pytest.raises(DatasetError, match=r"missing\ndamaged in .*re_sln"):
        places.first_found(read, None)

"""The list of published noise files is complete, and its files are fetched by checksum."""

import dataclasses
import hashlib
import re

import pytest

from shared import published_noise
from shared.datasets import DatasetError
from shared.download import DownloadError
from shared.published_noise import NOISE, fetch_noise


@pytest.fixture(autouse=True)
def no_mirror(monkeypatch):
    monkeypatch.delenv("DATA_MIRROR", raising=False)


def test_every_entry_is_complete():
    for name, noise in NOISE.items():
        assert name == noise.name
        assert re.fullmatch(r"[0-9a-f]{64}", noise.sha256)
        assert re.fullmatch(r"https://raw\.githubusercontent\.com/[\w-]+/[\w-]+/[\w]+/[\w./-]+", noise.url)
        assert noise.dataset in ("cifar10", "cifar100")
        assert noise.licence
        assert noise.images in (published_noise.ALL_IMAGES, published_noise.FIRST_IMAGES)
    assert len(NOISE) == 1 + 6 + 15 + 16 + 12 + 2


def test_equal_content_is_listed_with_equal_sums():
    assert NOISE["re_sln/cifar10/sym0.4.csv"].sha256 == NOISE["sln/cifar10/sym0.4.csv"].sha256
    assert NOISE["plc/cifar100-1-0.70.npy"].sha256 == NOISE["lra_diffusion/cifar100-1-0.70.npy"].sha256
    assert NOISE["sln/cifar10/sym0.4.csv"].sha256 != NOISE["sln/cifar100/sym0.4.csv"].sha256


@pytest.mark.parametrize(
    ("name", "dataset"),
    [
        ("plc/cifar10-1-0.70.npy", "cifar10"),
        ("plc/cifar100-1-0.70.npy", "cifar100"),
        ("sln/cifar100/sym0.4.csv", "cifar100"),
        ("cifar_n/CIFAR-10_human.pt", "cifar10"),
        ("cifar_n/CIFAR-100_human.pt", "cifar100"),
        ("instancegm/0.5_instance.pt", "cifar10"),
    ],
)
def test_the_dataset_of_a_file_is_known(name, dataset):
    assert NOISE[name].dataset == dataset


def test_files_of_one_name_are_told_apart_by_checksum(tmp_path, monkeypatch):
    for dataset in ("cifar10", "cifar100"):
        content = f"label,label_noisy of {dataset}".encode()
        folder = tmp_path / "mirror" / dataset / "label_noisy"
        folder.mkdir(parents=True)
        (folder / "sym0.4.csv").write_bytes(content)
        name = f"sln/{dataset}/sym0.4.csv"
        monkeypatch.setitem(NOISE, name, dataclasses.replace(NOISE[name], sha256=hashlib.sha256(content).hexdigest()))
    monkeypatch.setenv("DATA_MIRROR", str(tmp_path / "mirror"))
    for dataset in ("cifar10", "cifar100"):
        path = fetch_noise(f"sln/{dataset}/sym0.4.csv", tmp_path / "data")
        assert path == tmp_path / "data/label_noisy/sln" / dataset / "sym0.4.csv"
        assert path.read_text() == f"label,label_noisy of {dataset}"


def test_another_file_of_the_name_is_refused(tmp_path, monkeypatch):
    (tmp_path / "label_noisy/plc").mkdir(parents=True)
    (tmp_path / "label_noisy/plc/cifar10-1-0.70.npy").write_bytes(b"own labels")
    with pytest.raises(DownloadError, match="Move it away"):
        fetch_noise("plc/cifar10-1-0.70.npy", tmp_path)


def test_unknown_names_are_refused_with_the_known_ones(tmp_path):
    with pytest.raises(DatasetError, match=r"(?s)'plc/none'.*plc/cifar10-1-0\.35\.npy"):
        fetch_noise("plc/none", tmp_path)

"""The list of published noise files is complete, and its files are fetched by checksum."""

import dataclasses
import hashlib
import re
from pathlib import Path

import pytest

from shared import datasets
from shared.__main__ import main
from shared.datasets import DatasetError, download, published_noise
from shared.datasets.download import DownloadError
from shared.datasets.published_noise import COLLECTIONS, NOISE, fetch_collection, fetch_noise


@pytest.fixture(autouse=True)
def no_mirror(monkeypatch):
    monkeypatch.delenv("DATA_MIRROR", raising=False)


def test_every_entry_is_complete():
    for name, noise in NOISE.items():
        assert name == noise.name
        assert re.fullmatch(r"[0-9a-f]{64}", noise.sha256)
        assert re.fullmatch(
            r"https://raw\.githubusercontent\.com/[\w-]+/[\w-]+/[\w]+/[\w./-]+", noise.url
        )
        assert noise.dataset in ("cifar10", "cifar100")
        assert noise.licence
        assert noise.images in (published_noise.ALL_IMAGES, published_noise.FIRST_IMAGES)
    assert len(NOISE) == 1 + 6 + 15 + 16 + 12 + 2


def test_equal_content_is_listed_with_equal_sums():
    assert NOISE["re_sln/cifar10/sym0.4.csv"].sha256 == NOISE["sln/cifar10/sym0.4.csv"].sha256
    assert (
        NOISE["plc/cifar100-1-0.70.npy"].sha256 == NOISE["lra_diffusion/cifar100-1-0.70.npy"].sha256
    )
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
        monkeypatch.setitem(
            NOISE,
            name,
            dataclasses.replace(NOISE[name], sha256=hashlib.sha256(content).hexdigest()),
        )
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


# ---- collections


@pytest.fixture
def mirror(tmp_path, monkeypatch):
    """A folder with all files of SLN and re-sln, of other content: equal files once."""
    contents = {}
    for name, noise in NOISE.items():
        if name.startswith(("sln/", "re_sln/")):
            _, dataset, file = name.split("/")
            content = f"content of {dataset} {file}".encode()
            contents[name] = content
            (tmp_path / "mirror" / dataset / "label_noisy").mkdir(parents=True, exist_ok=True)
            (tmp_path / "mirror" / dataset / "label_noisy" / file).write_bytes(content)
            changed = dataclasses.replace(noise, sha256=hashlib.sha256(content).hexdigest())
            monkeypatch.setitem(NOISE, name, changed)
    monkeypatch.setenv("DATA_MIRROR", str(tmp_path / "mirror"))
    return contents


def test_a_collection_is_fetched_as_a_whole_and_each_path_printed(mirror, tmp_path, capsys):
    assert len(mirror) == 6 + 15
    assert main(["data", "sln-noise", "--path", str(tmp_path / "data")]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed == [str(tmp_path / "data/label_noisy" / name) for name in mirror]
    for name, content in mirror.items():
        assert (tmp_path / "data/label_noisy" / name).read_bytes() == content
    assert [str(path) for path in fetch_collection("sln-noise", tmp_path / "data")] == printed


def test_the_collection_of_pmd_noise_is_that_of_both_repositories(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(published_noise, "fetch_noise", lambda name, path: Path(path) / name)
    assert main(["data", "pmd-noise", "--path", str(tmp_path)]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 16 + 12
    assert {
        str(tmp_path / "lra_diffusion/cifar10-1-0.35.npy"),
        str(tmp_path / "plc/cifar10-1-0.35.npy"),
    } <= set(printed)


def test_a_file_that_the_mirror_has_in_another_version_only_is_not_taken(
    mirror, tmp_path, monkeypatch
):
    (tmp_path / "mirror/cifar100/label_noisy/sym0.4.csv").write_bytes(b"edited")
    monkeypatch.setattr(
        download, "_sources", lambda *_: iter([tmp_path / "mirror"])
    )  # and no internet
    with pytest.raises(
        DownloadError,
        match=r"could not get sym0\.4\.csv(.|\n)*is another file(.|\n)*is another file",
    ):
        fetch_collection("sln-noise", tmp_path / "data")


def test_collections_name_sources_that_exist():
    sources = {name.split("/")[0] for name in NOISE}
    assert all(set(members) <= sources for members in COLLECTIONS.values())
    with pytest.raises(DatasetError, match=r"'all-noise'.*sln-noise"):
        fetch_collection("all-noise")


def test_every_file_is_pinned_by_a_whole_commit():
    assert all(re.fullmatch("[0-9a-f]{40}", noise.commit) for noise in NOISE.values())
    assert all(noise.commit in noise.url for noise in NOISE.values())


def test_cifar_is_known_by_its_size_and_two_checksums():
    for spec in datasets.CIFAR.values():
        assert re.fullmatch("[0-9a-f]{64}", spec.archive_sha256)
        assert re.fullmatch("[0-9a-f]{32}", spec.archive_md5)
        assert 160 << 20 < spec.archive_bytes < 170 << 20


def test_everything_that_is_known_of_a_file_goes_to_its_download(tmp_path, monkeypatch):
    asked = {}

    def fetch(url, target, **known):
        asked[target.name] = known
        raise DownloadError("not here")

    monkeypatch.setattr(download, "fetch", fetch)
    name = next(name for name in NOISE if name.startswith("sln/"))
    for wanted in (
        lambda: fetch_noise(name, tmp_path),
        lambda: datasets.fetch("cifar10", tmp_path),
    ):
        with pytest.raises(DownloadError):
            wanted()
    assert asked[name.rpartition("/")[2]] == {
        "sha256": NOISE[name].sha256,
        "limit": published_noise.MAX_BYTES,
        "names": (f"label_noisy/{name}", name),
    }
    spec = datasets.CIFAR["cifar10"]
    assert asked[spec.archive_name] == {
        "sha256": spec.archive_sha256,
        "md5": spec.archive_md5,
        "size": spec.archive_bytes,
    }

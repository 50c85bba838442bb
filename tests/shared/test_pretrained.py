"""ImageNet weights are found, fetched and checked."""

import dataclasses
import hashlib

import pytest

from shared.__main__ import main
from shared.datasets import download, pretrained
from shared.datasets.download import DownloadError
from shared.datasets.pretrained import NETWORKS, imagenet_weights

CONTENT = b"weights"


@pytest.fixture(autouse=True)
def places(tmp_path, monkeypatch):
    """Small files stand for the published ones, one of them known by eight digits only."""
    sha256 = hashlib.sha256(CONTENT).hexdigest()
    for name, known in (("resnet50", sha256), ("vgg19_bn", sha256[:8])):
        small = dataclasses.replace(NETWORKS[name], sha256=known, limit=20)
        monkeypatch.setitem(NETWORKS, name, small)
    monkeypatch.setenv("DATA_MIRROR", str(tmp_path / "mirror"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(download, "_download", refuse)
    (tmp_path / "mirror").mkdir()


def refuse(*_):
    raise download._UnreachableError("no network in tests")


def write(folder, network, content=CONTENT):
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / NETWORKS[network].file
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("network", ["resnet50", "vgg19_bn"])
def test_they_are_fetched_into_the_data_root(tmp_path, network):
    write(tmp_path / "mirror", network)
    path = imagenet_weights(network, tmp_path / "data")
    assert path == tmp_path / "data/pretrained" / NETWORKS[network].file
    assert path.read_bytes() == CONTENT
    (tmp_path / "mirror" / path.name).unlink()
    assert imagenet_weights(network, tmp_path / "data") == path


@pytest.mark.parametrize("network", ["resnet50", "vgg19_bn"])
@pytest.mark.parametrize("content", [b"WEIGHTS", b"longer than the limit of the file"])
def test_another_file_is_refused(tmp_path, network, content):
    write(tmp_path / "mirror", network, content)
    with pytest.raises(DownloadError, match="expected") as caught:
        imagenet_weights(network, tmp_path / "data")
    assert "A file of them in another place: --weights FILE" in str(caught.value)
    with pytest.raises(DownloadError) as caught:
        imagenet_weights(network, tmp_path / "data", flag=None)
    assert "--weights" not in str(caught.value)
    write(tmp_path / "data/pretrained", network, content)
    with pytest.raises(DownloadError, match="Move it away"):
        imagenet_weights(network, tmp_path / "data")


def test_the_cache_of_torch_is_used(tmp_path, monkeypatch):
    path = write(tmp_path / "torch/hub/checkpoints", "resnet50")
    assert imagenet_weights("resnet50", tmp_path / "data") == path
    monkeypatch.delenv("TORCH_HOME")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    path = write(tmp_path / "xdg/torch/hub/checkpoints", "vgg19_bn")
    assert imagenet_weights("vgg19_bn", tmp_path / "data") == path
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert pretrained.torch_cache() == tmp_path / "home/.cache/torch/hub/checkpoints"


def test_a_damaged_cache_of_torch_is_passed_over(tmp_path):
    write(tmp_path / "torch/hub/checkpoints", "resnet50", b"damaged")
    write(tmp_path / "mirror", "resnet50")
    assert imagenet_weights("resnet50", tmp_path / "data").parent.name == "pretrained"


def test_an_unknown_network_is_refused():
    with pytest.raises(DownloadError, match="choose resnet50 or vgg19_bn"):
        imagenet_weights("resnet18")


def test_the_published_names_carry_their_hashes():
    for network, file in (("resnet50", "resnet50-0676ba61"), ("vgg19_bn", "vgg19_bn-c79401a0")):
        assert NETWORKS[network].url == f"https://download.pytorch.org/models/{file}.pth"


def test_the_command_gets_them(tmp_path, capsys):
    write(tmp_path / "mirror", "resnet50")
    assert main(["data", "resnet50", "--path", str(tmp_path / "data")]) == 0
    assert "data/pretrained/resnet50-0676ba61.pth" in capsys.readouterr().out

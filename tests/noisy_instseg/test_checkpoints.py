"""Checkpoints: written whole or not at all, read without executing, skipped if torn."""

import hashlib
import os
import pickle
import shutil
from pathlib import Path

import pytest
import torch
from conftest import weights

from noisy_instseg.run import checkpoints, run_folder
from shared.errors import UserError


class Bomb:
    """What a malicious file holds: reading it writes a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return Path.touch, (self.target,)


def test_our_checkpoints_need_no_allowed_class(stages):
    with torch.serialization.safe_globals([]):
        state = torch.load(stages / "tiny_nl_2" / "epoch_4.pth", weights_only=True)
    assert state["meta"]["epoch"] == 4
    assert state["meta"][checkpoints.IDENTITY]["seed"] == 0
    assert state["message_hub"]["runtime_info"]["row"]["epoch"] == 4
    checkpoints.restore_history(state)
    history, counts = state["message_hub"]["log_scalars"]["train/loss"].data
    assert len(history) == len(counts) == 8  # two steps an epoch, stage 1's too


@pytest.mark.parametrize(
    "container", [lambda bomb: bomb, lambda bomb: {"meta": {}, "state_dict": {}, "extra": bomb}]
)
def test_a_file_that_could_run_code_is_refused_and_runs_none(container, tmp_path):
    torch.save(container(Bomb(tmp_path / "boom")), tmp_path / "epoch_1.pth")
    with pytest.raises(UserError, match=r"could run code \(it asks for "):
        checkpoints.load(tmp_path / "epoch_1.pth")
    (tmp_path / "old.pth").write_bytes(
        pickle.dumps(Bomb(tmp_path / "boom"))
    )  # as torch wrote until 1.5
    with pytest.raises(UserError, match="torn, or no checkpoint"):
        checkpoints.load(tmp_path / "old.pth")
    assert not (tmp_path / "boom").exists()


def test_a_config_in_a_checkpoint_is_not_executed(tmp_path):
    torch.save(
        {"meta": {"epoch": 1, "config": "raise SystemExit"}, "state_dict": {}},
        tmp_path / "epoch_1.pth",
    )
    assert checkpoints.load(tmp_path / "epoch_1.pth")["meta"] == {"epoch": 1}
    with pytest.raises(UserError, match="was not written by"):
        checkpoints.check_same_run(tmp_path / "epoch_1.pth", {}, {})


def test_every_way_mmengine_reads_is_ours(monkeypatch):
    from mmengine.runner import CheckpointLoader

    monkeypatch.setattr(CheckpointLoader, "_schemes", dict(CheckpointLoader._schemes))
    checkpoints.install()
    for name in ("https://example.org/a.pth", "s3://a", "open-mmlab://a", "mmcls://a", "pavi://a"):
        with pytest.raises(UserError, match="download the file"):
            CheckpointLoader.load_checkpoint(name)
    with pytest.raises(UserError, match="no such checkpoint"):
        CheckpointLoader.load_checkpoint("nowhere.pth")


def test_writing_is_whole_or_not_at_all(tmp_path, monkeypatch):
    backend = checkpoints.AtomicLocalBackend()
    backend.put(b"first", tmp_path / "epoch_1.pth")
    backend.put_text("first", tmp_path / "text")

    def killed(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", killed)
    for put, name in ((backend.put, "epoch_1.pth"), (backend.put_text, "text")):
        with pytest.raises(KeyboardInterrupt):
            put(b"second" if name.endswith("pth") else "second", tmp_path / name)
        assert (tmp_path / name).read_text() == "first"


@pytest.mark.parametrize("harm", ["cut", "flip", "empty"])
def test_torn_files_are_told(stages, tmp_path, harm, capsys):
    shutil.copytree(stages / "tiny_nl_1", tmp_path / "run")
    path = tmp_path / "run" / "epoch_2.pth"
    content = bytearray(path.read_bytes())
    if harm == "flip":
        content[len(content) // 2] ^= 1
    path.write_bytes({"cut": content[:-100], "flip": content, "empty": b""}[harm])
    with pytest.raises(UserError, match=r"torn|damaged"):
        checkpoints.load(path)
    assert run_folder.newest_intact(tmp_path / "run") == (1, tmp_path / "run" / "epoch_1.pth")
    assert "epoch_2.pth is skipped" in capsys.readouterr().err
    assert run_folder.find(tmp_path / "run" / "latest.pth") == tmp_path / "run" / "epoch_1.pth"


def test_epochs_are_ordered_as_numbers(tmp_path):
    for name in ("epoch_9.pth", "epoch_10.pth", "epoch_best.pth", "epoch_2.pth.tmp"):
        (tmp_path / name).touch()
    assert [epoch for epoch, _ in run_folder.epochs_in(tmp_path)] == [10, 9]


def test_differences_are_named():
    then = {"seed": 0, "model": {"head": {"classes": 8}, "steps": [1, 2]}}
    assert list(run_folder.differing(then, then)) == []
    now = {"seed": 1, "model": {"head": {"classes": 80}, "steps": [1, 3]}, "more": 1}
    assert list(run_folder.differing(then, now)) == [
        "seed: 0 then, 1 now",
        "model.head.classes: 8 then, 80 now",
        "model.steps.1: 2 then, 3 now",
        "more: None then, 1 now",
    ]


# ---- ImageNet weights


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without internet: empty caches, a mirror that is a folder."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("DATA_ROOT", str(tmp_path / "data"))
    monkeypatch.setenv("DATA_MIRROR", str(tmp_path / "mirror"))
    monkeypatch.setattr(checkpoints.download, "_download", _no_internet)
    (tmp_path / "mirror").mkdir()
    return tmp_path


def _no_internet(source: str, *_: object) -> None:
    raise checkpoints.download._RefusedError("no internet")


@pytest.mark.training  # torchvision's import takes as long
def test_imagenet_weights_that_could_not_be_downloaded(places):
    with pytest.raises(UserError) as refused:
        checkpoints.pretrained("torchvision://resnet50")
    message = str(refused.value)
    assert "resnet50-0676ba61.pth" in message
    assert str(places / "data" / "pretrained" / "resnet50-0676ba61.pth") in message
    assert "model.backbone.init_cfg=None" in message
    with pytest.raises(UserError, match="no model of this name"):
        checkpoints.pretrained("torchvision://resnet5000")


@pytest.mark.training  # torchvision's import takes as long
def test_imagenet_weights_of_a_mirror_are_checked(places, monkeypatch):
    torch.save({"conv1.weight": torch.zeros(1)}, places / "weights")
    content = (places / "weights").read_bytes()
    (places / "mirror" / "resnet50-0676ba61.pth").write_bytes(content)
    with pytest.raises(UserError, match=r"its sha256 is .*, expected 0676ba61"):
        checkpoints.pretrained("torchvision://resnet50")
    name = f"resnet50-{hashlib.sha256(content).hexdigest()[:8]}.pth"
    (places / "mirror" / name).write_bytes(content)
    monkeypatch.setattr(
        checkpoints, "get_torchvision_models", lambda: {"resnet50": f"https://example.org/{name}"}
    )
    assert checkpoints.pretrained("torchvision://resnet50") == places / "data" / "pretrained" / name
    assert checkpoints.load_from_torchvision("torchvision://resnet50", "cpu")[
        "conv1.weight"
    ].tolist() == [0]
    (places / "torch" / "hub" / "checkpoints").mkdir(parents=True)
    cached = Path(shutil.copy(places / "mirror" / name, places / "torch" / "hub" / "checkpoints"))
    assert checkpoints.pretrained("torchvision://resnet50") == cached


def test_the_weights_of_equal_checkpoints_are_equal(stages, tmp_path):
    shutil.copy(stages / "tiny_nl_1" / "epoch_1.pth", tmp_path)
    assert weights(tmp_path / "epoch_1.pth") == weights(stages / "tiny_nl_1" / "epoch_1.pth")
    assert weights(tmp_path / "epoch_1.pth") != weights(stages / "tiny_nl_1" / "epoch_2.pth")

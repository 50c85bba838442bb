"""Checkpoints: whole or absent, never executed, never of another run."""

import os
import pickle

import pytest
import torch

from instancegm.method.networks import PreActResNet18
from instancegm.run import checkpoint
from instancegm.run.errors import CheckpointError
from instancegm.run.published import network_states

STATE = {
    "epoch": 4,
    "peers": [{"net": {"w": torch.arange(1000.0)}}],
    "rows": [{"epoch": 4, "accuracy": 50.0}],
}


def test_what_is_saved_is_loaded(tmp_path):
    checkpoint.save(STATE, tmp_path / "a", tmp_path / "b")
    for name in "ab":
        loaded = checkpoint.load(tmp_path / name)
        assert loaded["rows"] == STATE["rows"]
        assert torch.equal(loaded["peers"][0]["net"]["w"], STATE["peers"][0]["net"]["w"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]  # no temporary file stays


def test_a_failing_write_keeps_the_previous_checkpoint(tmp_path, monkeypatch):
    path = tmp_path / checkpoint.LAST
    checkpoint.save(STATE, path)

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        checkpoint.save({**STATE, "epoch": 5}, path)
    assert checkpoint.load(path)["epoch"] == 4


@pytest.mark.parametrize("damage", ["torn", "flipped", "empty", "text"])
def test_a_damaged_last_checkpoint_is_skipped_for_the_best(tmp_path, damage, capsys):
    checkpoint.save({**STATE, "epoch": 2}, tmp_path / checkpoint.BEST)
    checkpoint.save(STATE, tmp_path / checkpoint.LAST)
    data = bytearray((tmp_path / checkpoint.LAST).read_bytes())
    if damage == "flipped":
        data[len(data) // 2] ^= 1
    (tmp_path / checkpoint.LAST).write_bytes(
        {"torn": data[:-100], "flipped": data, "empty": b"", "text": b"hello"}[damage]
    )
    assert checkpoint.load_newest(tmp_path, "cpu")["epoch"] == 2
    assert "torn" in capsys.readouterr().out


def test_a_folder_without_checkpoint_gives_none(tmp_path):
    assert checkpoint.load_newest(tmp_path, "cpu") is None


def test_a_checkpoint_that_would_run_code_is_refused(tmp_path):
    class Evil:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path}/executed",)

    torch.save({"peers": Evil()}, tmp_path / "evil.ckpt")
    with pytest.raises(CheckpointError, match="safely"):
        checkpoint.load(tmp_path / "evil.ckpt")
    (tmp_path / "raw.ckpt").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(CheckpointError):
        checkpoint.load(tmp_path / "raw.ckpt")
    assert not (tmp_path / "executed").exists()


def test_another_run_is_refused_naming_every_difference():
    saved = {"seed": 1, "width": 8, "lr": 0.02}
    checkpoint.refuse_other_run(saved, dict(saved))
    with pytest.raises(CheckpointError, match=r"seed: 1 then, 2 now; width: 8 then, 16 now"):
        checkpoint.refuse_other_run(saved, {"seed": 2, "width": 16, "lr": 0.02})


def test_published_checkpoints_give_their_networks(tmp_path):
    nets = [PreActResNet18(10, width=4) for _ in range(2)]
    loss = (nets[0].linear.weight.sum() * 2).expand(3)  # the original saves losses with their graph
    old = {
        "epoch": 300,
        "loss_1": loss.detach().requires_grad_(),
        "loss_2": loss.detach(),
        "vae1_state_dict": {"y_encoder.fc.weight": torch.zeros(2)},
        "optimizer1_state_dict": {},
    }
    old |= {f"net{k + 1}_state_dict": net.state_dict() for k, net in enumerate(nets)}
    torch.save(old, tmp_path / "checkpoint_0.5.tar")
    first, second = network_states(checkpoint.load(tmp_path / "checkpoint_0.5.tar"))
    assert torch.equal(first["linear.weight"], nets[0].linear.weight)
    assert torch.equal(second["conv1.weight"], nets[1].conv1.weight)
    with pytest.raises(CheckpointError, match="no networks"):
        network_states({"epoch": 3})

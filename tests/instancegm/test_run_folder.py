"""One process per run folder, full disks, Ctrl-C: what is said, and what stays."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import SCRIPT, TINY, environment, rows

from instancegm.run import checkpoint
from instancegm.run.config import parse
from instancegm.run.experiment import build
from instancegm.run.folder import RunFolder
from instancegm.run.published import checkpoint_path
from shared.run_folder import locked
from tests import interrupts

pytestmark = pytest.mark.training

SMALL = [*TINY, "--limit_train", "24", "--no-vae", "--amp", "off", "--no-plots"]


@pytest.fixture
def start(tmp_path):
    """Starts a command in an empty folder; what still runs at the end is killed."""
    started = []

    def begin(*command):
        process = subprocess.Popen(
            [sys.executable, *map(str, command)],
            cwd=tmp_path,
            env={**environment(), "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # A shell that starts the tests in the background makes them ignore Ctrl-C.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )
        started.append(process)
        return process

    yield begin
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def small(tmp_path, monkeypatch):
    """A run in an empty folder, built but not begun; takes further flags."""
    monkeypatch.chdir(tmp_path)
    return lambda *flags: build(parse([*SMALL, "--width", "1", *flags]))


def test_a_folder_in_use_is_refused_and_nothing_in_it_is_touched(small, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".last.ckpt.1.tmp").write_bytes(b"half of a checkpoint")
    for flags in ([], ["--resume"]):
        run = small("--output_dir", "run", *flags)
        with (
            locked(tmp_path / "run"),
            pytest.raises(ValueError, match=f"in use by process {os.getpid()} on .*--output_dir"),
            RunFolder(run),
        ):
            pass
        assert (tmp_path / "run" / ".last.ckpt.1.tmp").exists()
    with RunFolder(small("--output_dir", "run")):
        assert not (tmp_path / "run" / ".last.ckpt.1.tmp").exists()


def test_a_folder_in_use_is_refused_before_anything_is_read(small, tmp_path, monkeypatch):
    (tmp_path / "run").mkdir()
    monkeypatch.setattr("instancegm.run.experiment.run_data", lambda *_: pytest.fail("too late"))
    with locked(tmp_path / "run"), pytest.raises(ValueError, match="in use"):
        small("--output_dir", "run")


def test_without_a_name_the_next_free_folder_is_taken(small):
    first, second, third = small(), small(), small("--resume")
    name = Path("runs/digits_0.4_instance_dividemix_seed123")
    with RunFolder(first), RunFolder(second):
        assert [first.folder, second.folder] == [name, name.with_name(f"{name.name}-2")]
        with pytest.raises(ValueError, match="-2 is in use"), RunFolder(third):
            pass


def test_without_a_name_the_last_run_of_these_settings_is_resumed(small, main, capsys):
    name = Path("runs/digits_0.4_instance_dividemix_seed123")
    flags = [*SMALL, "--width 1 --num_epochs 0"]
    for more in ("", "", "--lr 0.01"):
        assert main(*flags, more) == 0

    def taken(*more):
        run = small("--resume", *more)
        with RunFolder(run):
            return run.folder

    assert taken() == name.with_name(f"{name.name}-2")
    assert taken("--lr", "0.01") == name.with_name(f"{name.name}-3")
    with locked(name.with_name(f"{name.name}-2")):
        assert taken() == name
    with pytest.raises(ValueError, match=r"lr: 0\.01 then, 0\.5 now"):
        taken("--lr", "0.5")


def test_an_error_frees_the_folder(small):
    for _ in range(2):
        with pytest.raises(KeyError), RunFolder(small("--output_dir", "run")):
            raise KeyError


def test_sets_of_a_users_images_have_logs_and_checkpoints_of_their_own(small, tmp_path):
    """Two files with the same name, labels and size."""
    words = []
    for folder, shade in (("a", 10), ("b", 20)):
        images, labels = np.full((40, 32, 32, 3), shade, np.uint8), np.arange(40) % 2
        (tmp_path / folder).mkdir()
        parts = {"train_images": images, "train_labels": labels}
        parts |= {"test_images": images, "test_labels": labels}
        np.savez(tmp_path / folder / "my pets.npz", **parts)
        data = ["--dataset", "folder", "--data_path", f"{folder}/my pets.npz"]
        run = small(*data, "--r", "0", "--output_dir", f"run_{folder}")
        with RunFolder(run):
            assert (
                tmp_path / "checkpoint" / f"{run.data_word}_0.0_instance_dividemix_acc.txt"
            ).exists()
        words.append(run.data_word)
    assert words[0] != words[1]
    assert all(word.startswith("folder_my_pets_") for word in words)
    assert checkpoint_path(words[0], run.config).parent == Path("saved") / words[0]
    assert small().data_word == "digits"


# ---- disks


def full(error=errno.ENOSPC):
    def fail(*_):
        raise OSError(error, os.strerror(error))

    return fail


def test_a_full_disk_is_named_with_the_way_on(main, tmp_path, capsys, monkeypatch):
    assert main(*SMALL, "--width 1 --num_epochs 0 --output_dir run") == 0
    capsys.readouterr()
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full())
        assert main(*SMALL, "--width 1 --num_epochs 1 --output_dir run --resume") == 2
    assert capsys.readouterr().err == (
        "error: no space left to write run/.holder: free some space, then run the same command "
        "with --resume\n"
    )
    for place in ("record.Metrics.append", "folder.SummaryWriter.flush"):
        with monkeypatch.context() as patch:
            patch.setattr(f"instancegm.run.{place}", full())
            assert main(*SMALL, "--width 1 --num_epochs 1 --output_dir run --resume") == 2
        message = capsys.readouterr().err
        assert "no space left to write run: free some space" in message
    assert main(*SMALL, "--width 1 --num_epochs 1 --output_dir run --resume") == 0
    assert [row["epoch"] for row in rows(tmp_path / "run")] == [0, 1]


def test_a_folder_of_another_user_is_named(small, monkeypatch, capsys, main):
    monkeypatch.setattr(os, "fsync", full(errno.EACCES))
    assert main(*SMALL, "--width 1 --output_dir run") == 2
    message = capsys.readouterr().err
    assert f"run/.holder is not accessible to user {os.getuid()}" in message
    assert "docker's `--user`" in message


@pytest.mark.parametrize("kept", [True, False])
def test_a_last_good_checkpoint_is_promised_only_where_there_is_one(
    small, tmp_path, monkeypatch, kept
):
    error = FloatingPointError("loss nan")
    if kept:
        checkpoint.save({"w": torch.zeros(1)}, tmp_path / "run" / checkpoint.LAST)
    folder = RunFolder(small("--output_dir", "run", "--resume"))
    monkeypatch.setattr("instancegm.run.folder._resume", lambda *_: None)
    with pytest.raises(FloatingPointError), folder:
        raise error
    notes = getattr(error, "__notes__", [])
    assert notes == ["The checkpoint of the last good epoch is kept in run"] * kept


# ---- Ctrl-C


@pytest.mark.parametrize(
    ("script", "module"),
    [("instanceGM.py", "torch"), ("instanceGM.py", "sklearn"), ("compare.py", "numpy")],
)
def test_ctrl_c_while_importing_ends_with_one_line(tmp_path, script, module):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "metrics.jsonl").write_text('{"epoch": 0, "accuracy": 1.0}\n')
    flags = TINY if script == "instanceGM.py" else ["run", "--plot", "a.png"]
    path = SCRIPT.with_name(script)
    done = interrupts.interrupted(path, [*flags], module, tmp_path, environment())
    lines = done.stderr.splitlines()
    assert (done.returncode, len(lines)) == (130, 1), lines
    assert lines[0].startswith("interrupted; run the same command")


def test_the_same_command_twice_at_once_and_ctrl_c_in_the_middle(start, tmp_path):
    flags = [*SMALL, "--width", "1", "--num_epochs", "9000", "--output_dir", "run", "--resume"]
    first = start(SCRIPT, *flags)
    for line in first.stdout:
        if line.startswith("| Test Epoch"):
            break
    second = start(SCRIPT, *flags)
    _, message = second.communicate(timeout=300)
    assert second.returncode == 2
    assert message.startswith(f"error: run is in use by process {first.pid} on {os.uname()[1]} ")
    assert len(message.splitlines()) == 1

    first.send_signal(signal.SIGINT)
    _, message = first.communicate(timeout=60)
    assert first.returncode == 130
    assert message == "interrupted; run the same command with --resume to continue\n"
    epochs = [row["epoch"] for row in rows(tmp_path / "run")]
    assert epochs == list(range(len(epochs)))

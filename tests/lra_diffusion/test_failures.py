"""What happens to a run from outside: a second process, Ctrl-C, a full disk, more epochs."""

import errno
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tiny
import yaml
from conftest import SCRIPTS, environment, rows

from lra_diffusion import compare, make_pmd, plot, train_CE, train_CIFAR, train_SimCLR
from lra_diffusion.run import checkpoint, record
from shared import run_folder
from tests import interrupts

FEW = ["--dataset", "digits", "--limit_train", "60", "--device", "cpu"]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DATA_ROOT", str(tmp_path / "data"))


def command(script: str, folder: Path) -> list[str]:
    """Flags of a short run of one of the training scripts."""
    small = [*FEW, "--limit_test", "20", "--batch_size", "20", "--width", "2", "--nepoch", "3"]
    if script == "make_pmd":
        return [*FEW, "--noise_factor", "1", "--epochs", "2"]
    if script == "train_SimCLR":
        return small
    labels = ["--noise_file", str(tiny.noisy_digits(folder))]
    if script == "train_CE":
        return [*small, *labels]
    more = ["--feature_dim", "8", "--warmup_epochs", "1"]
    return [*small, *labels, *more, *tiny.pixel_features(folder)]


MAINS = {
    "train_CIFAR": train_CIFAR.main,
    "train_CE": train_CE.main,
    "train_SimCLR": train_SimCLR.main,
    "make_pmd": make_pmd.main,
}
TRAINING = [name for name in MAINS if name != "make_pmd"]


def start(script: str, *flags: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, str(SCRIPTS / f"{script}.py"), *flags],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Whoever starts the tests in the background has it ignored, which processes inherit.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


# ---- two processes, one run folder


@pytest.mark.training
def test_the_same_command_twice_at_once_is_one_run(tmp_path):
    flags = [*command("train_CE", tmp_path), "--nepoch", "2000", "--resume", "--output_dir", "run"]
    both = [start("train_CE", *flags) for _ in range(2)]
    while all(process.poll() is None for process in both):
        time.sleep(0.01)
    winner, loser = sorted(both, key=lambda process: process.poll() is not None)
    _, message = loser.communicate()
    assert loser.returncode == 2
    assert f"run is in use by process {winner.pid} on {socket.gethostname()}" in message
    while not (tmp_path / "run" / checkpoint.LAST).exists() and winner.poll() is None:
        time.sleep(0.01)
    interrupted(winner)
    done = [row["epoch"] for row in rows(tmp_path / "run")]
    assert done == [*range(1, len(done) + 1)]


@pytest.mark.training
@pytest.mark.parametrize("script", MAINS)
def test_a_folder_in_use_is_refused_before_anything_in_it_changes(script, tmp_path, capsys):
    run = tmp_path / "run"
    held = run / ".teacher_digits_2ep_seed123_n60" if script == "make_pmd" else run
    run.mkdir()
    (run / ".last.ckpt.12345678.tmp").write_text("which the other process is writing")
    flags = command(script, tmp_path)
    with run_folder.locked(held):
        assert MAINS[script]([*flags, "--output_dir", "run", "--resume"]) == 2
    assert f"in use by process {os.getpid()} on " in capsys.readouterr().err
    left = {path.name for path in run.iterdir()} - {run_folder.LOCK, held.name}
    assert left == {".last.ckpt.12345678.tmp"}
    assert MAINS[script]([*flags, "--output_dir", "run", "--resume"]) == 0


@pytest.mark.training
@pytest.mark.parametrize("script", TRAINING)
def test_without_a_name_the_next_free_folder_is_taken(script, tmp_path):
    flags = command(script, tmp_path)
    assert MAINS[script](flags) == 0
    [first] = (tmp_path / "runs").iterdir()
    before = (first / "metrics.jsonl").read_bytes()
    with run_folder.locked(first):
        assert MAINS[script]([*flags, "--resume"]) == 0
    assert (first / "metrics.jsonl").read_bytes() == before
    [second] = {*(tmp_path / "runs").iterdir()} - {first}
    assert rows(second) == rows(first)


# ---- more epochs


@pytest.mark.training
@pytest.mark.parametrize("script", TRAINING)
def test_more_epochs_go_on_with_the_schedule_of_the_longer_run_and_say_so(script, tmp_path, capsys):
    flags = command(script, tmp_path)
    assert MAINS[script](flags) == 0
    capsys.readouterr()
    assert MAINS[script]([*flags, "--nepoch", "5", "--resume"]) == 0
    out = capsys.readouterr().out
    assert "resumed: epoch 3 of 5 is done" in out
    assert "the learning rate of epochs 1 to 3 was one that ends at epoch 3, from epoch 4" in out
    assert ("--lr_horizon" in out) == (script == "train_CIFAR")
    [run] = (tmp_path / "runs").iterdir()
    assert MAINS[script]([*flags, "--nepoch", "5", "--output_dir", "whole"]) == 0
    prolonged, whole = rows(run), rows(tmp_path / "whole")
    assert [row["epoch"] for row in prolonged] == [1, 2, 3, 4, 5]
    assert [row["lr"] for row in prolonged[3:]] == [row["lr"] for row in whole[3:]]
    assert prolonged[2]["lr"] != whole[2]["lr"]
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert config["prolonged"] == [{"done": 3, "before": 3, "now": 5}]
    # The same again changes nothing; fewer epochs are another run; its config makes a new one.
    assert MAINS[script]([*flags, "--nepoch", "5", "--resume"]) == 0
    assert rows(run) == prolonged
    assert MAINS[script]([*flags, "--nepoch", "4", "--resume", "--output_dir", str(run)]) == 2
    assert "nepoch: 5 then, 4 now" in capsys.readouterr().err
    assert MAINS[script](["--config", str(run / "config.yaml"), "--output_dir", "copy"]) == 0


@pytest.mark.training
def test_with_a_horizon_from_the_start_a_prolonged_run_is_the_long_one(tmp_path, capsys):
    flags = [*command("train_CIFAR", tmp_path), "--lr_horizon", "7"]
    assert train_CIFAR.main([*flags, "--output_dir", "run"]) == 0
    assert train_CIFAR.main([*flags, "--nepoch", "5", "--resume", "--output_dir", "run"]) == 0
    assert "prolonged" not in capsys.readouterr().out
    assert train_CIFAR.main([*flags, "--nepoch", "5", "--output_dir", "whole"]) == 0
    figures = ("epoch", "loss", "lr", "images")
    prolonged, whole = (
        [[row[name] for name in figures] for row in rows(tmp_path / name)]
        for name in ("run", "whole")
    )
    assert prolonged == whole
    # Another horizon is what the note is of, not the number of epochs.
    later = ["--nepoch", "6", "--lr_horizon", "9", "--resume", "--output_dir", "run"]
    assert train_CIFAR.main([*flags, *later]) == 0
    said = "was one that ends at epoch 7, from epoch 6 on one that ends at epoch 9"
    assert said in capsys.readouterr().out


# ---- a full disk


def full(path: str | None) -> OSError:
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)


@pytest.mark.training
@pytest.mark.parametrize("script", TRAINING)
def test_a_full_disk_is_one_line_with_the_file_and_the_way_on(
    script, tmp_path, capsys, monkeypatch
):
    flags = [*command(script, tmp_path), "--output_dir", "run"]

    def no_space(*_args):
        raise full(None)

    with monkeypatch.context() as patched:
        patched.setattr(record.Metrics, "append", no_space)
        assert MAINS[script](flags) == 2
    assert capsys.readouterr().err == (
        "error: no space left to write run/metrics.jsonl: free some space, then run the same "
        "command with --resume\n"
    )

    def no_space_for(path, data):
        raise full(str(path))

    with monkeypatch.context() as patched:
        patched.setattr(checkpoint, "write_atomically", no_space_for)
        assert MAINS[script](flags) == 2
    assert "no space left to write run/" in capsys.readouterr().err
    assert MAINS[script]([*flags, "--resume"]) == 0
    assert [row["epoch"] for row in rows(tmp_path / "run")] == [1, 2, 3]


@pytest.mark.training
def test_commands_that_cannot_be_resumed_do_not_advise_it(tmp_path, capsys, monkeypatch):
    flags = command("train_CIFAR", tmp_path)
    assert train_CIFAR.main([*flags, "--output_dir", "run"]) == 0

    def no_space_for(path, data):
        raise full(str(path))

    monkeypatch.setattr("lra_diffusion.analysis.pictures.write_atomically", no_space_for)
    monkeypatch.setattr("lra_diffusion.analysis.compare.write_atomically", no_space_for)
    monkeypatch.setattr("lra_diffusion.run.finished.predict", lambda *_: no_space_for("f", b""))
    [model] = (tmp_path / "run").glob("*.pt")
    capsys.readouterr()
    for main, more in (
        (plot.main, ["run"]),
        (compare.main, ["run", "--plot", "a.png"]),
        (train_CIFAR.main, [*flags, "--eval_only", str(model)]),
    ):
        assert main(more) == 2
        message = capsys.readouterr().err
        assert message.endswith("free some space, then run the same command again\n")


@pytest.mark.training
@pytest.mark.parametrize("script", TRAINING)
def test_only_a_checkpoint_that_exists_is_said_to_be_kept(script, tmp_path, capsys, monkeypatch):
    flags = [*command(script, tmp_path), "--output_dir", "run"]

    def broken(*_args):
        raise FloatingPointError("epoch 1")

    with monkeypatch.context() as patched:
        patched.setattr(record.Metrics, "append", broken)
        assert MAINS[script](flags) == 3
    assert "checkpoint of the last good epoch" not in capsys.readouterr().err
    assert MAINS[script](flags) == 0
    monkeypatch.setattr(record.Metrics, "append", broken)
    assert MAINS[script]([*flags, "--nepoch", "4", "--resume"]) == 3
    message = capsys.readouterr().err
    assert "The checkpoint of the last good epoch is kept in run. Lower --lr" in message


# ---- Ctrl-C


def interrupted(process: "subprocess.Popen[str]") -> str:
    """Sends SIGINT; the one line that is left."""
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130, error
    [line] = [line for line in error.splitlines() if line]
    assert line.startswith("interrupted; run the same command ")
    return line


SCRIPT_NAMES = sorted(path.stem for path in SCRIPTS.glob("*.py") if path.stem != "__init__")


@pytest.mark.training
@pytest.mark.parametrize("script", SCRIPT_NAMES)
def test_ctrl_c_while_importing_is_one_line(script, tmp_path):
    """compare.py imports matplotlib, the others torch."""
    flags = {"plot": ["run"], "compare": ["run"], "make_pmd": FEW, "train_SimCLR": FEW}
    module = "matplotlib" if script == "compare" else "torch"
    path, words = SCRIPTS / f"{script}.py", flags.get(script, [])
    done = interrupts.interrupted(path, words, module, tmp_path, environment())
    assert (done.returncode, len(done.stderr.splitlines())) == (130, 1), done.stderr
    assert done.stderr.startswith("interrupted; run the same command ")
    assert not (tmp_path / "runs").exists()


@pytest.mark.training
@pytest.mark.parametrize("script", MAINS)
def test_ctrl_c_in_the_middle_keeps_what_is_done(script, tmp_path):
    long = ["--epochs" if script == "make_pmd" else "--nepoch", "500", "--output_dir", "run"]
    flags = [*command(script, tmp_path), *long]
    process = start(script, *flags)
    done = "teacher_digits_500ep_seed123_n60.ckpt" if script == "make_pmd" else checkpoint.LAST
    while not (tmp_path / "run" / done).exists() and process.poll() is None:
        time.sleep(0.01)
    assert interrupted(process).endswith("with --resume to continue")
    assert checkpoint.load(tmp_path / "run" / done)

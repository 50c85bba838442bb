"""One process works in a run folder; another one with the same command is told which."""

import json
import socket
import subprocess
import sys
import time

import pytest
from conftest import SCRIPTS, TINY, environment, rows

from re_sln import make_dependent_noise, table, tune
from shared.run_folder import locked

pytestmark = pytest.mark.training
METHOD = ["--method", "ce"]
SEARCH = [*TINY, "--n_epochs", "1", "--backend", "local", "--device", "cpu"]


def start(*flags, cwd):
    command = [sys.executable, str(SCRIPTS / "train_cifar.py"), *TINY, *METHOD, *flags]
    return subprocess.Popen(
        command,
        cwd=cwd,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for_an_epoch(folder):
    deadline = time.monotonic() + 120
    while not (folder / "metrics.jsonl").exists() or not rows(folder):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_the_second_of_two_equal_commands_is_refused_until_the_first_is_killed(tmp_path, main):
    flags = ["--n_epochs", "5000", "--output_dir", "run", "--resume"]
    first = start(*flags, cwd=tmp_path)
    wait_for_an_epoch(tmp_path / "run")
    assert main(*TINY, *METHOD, "--output_dir", "run") == 2  # it has a checkpoint already
    second = start(*flags, cwd=tmp_path)
    _, error = second.communicate(timeout=200)
    assert first.poll() is None, "the first one was too fast for this test"
    assert second.returncode == 2
    assert f"in use by process {first.pid} on {socket.gethostname()}" in error
    assert "Traceback" not in error
    first.kill()
    first.communicate()
    done = len(rows(tmp_path / "run"))
    flags = ["--n_epochs", done + 1, "--output_dir", "run", "--resume"]
    assert main(*TINY, *METHOD, *flags) == 0
    assert [row["epoch"] for row in rows(tmp_path / "run")] == list(range(1, done + 2))


def test_without_a_name_the_next_free_folder_is_taken(main, tmp_path):
    assert main(*TINY, *METHOD, "--n_epochs", 1) == 0
    (folder,) = (tmp_path / "runs").iterdir()
    with locked(folder):
        assert main(*TINY, *METHOD, "--n_epochs", 1, "--resume") == 0
    assert len(list((tmp_path / "runs").iterdir())) == 2


def test_temporary_files_of_another_process_are_left_alone(main, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".last.ckpt.0123.tmp").write_text("half")
    with locked(tmp_path / "run"):
        assert main(*TINY, *METHOD, "--output_dir", "run") == 2
        assert (tmp_path / "run" / ".last.ckpt.0123.tmp").exists()


def test_a_search_a_trial_and_a_table_are_of_one_process_too(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    search = [*SEARCH, "--output_dir", "hp_x"]
    with locked(tmp_path / "hp_x"):
        assert tune.main([*search, "--resume"]) == 2
        assert "hp_x is in use by process" in capsys.readouterr().err
        assert not list((tmp_path / "hp_x").glob("[!.]*"))
    assert tune.main(search) == 0
    trial = next((tmp_path / "hp_x").glob("*sigma=0.5*"))
    (trial / "progress.csv").unlink()
    with locked(trial):
        assert tune.main([*search, "--resume"]) == 2
    assert f"{trial.relative_to(tmp_path)} is in use by process" in capsys.readouterr().out
    sizes = ["--limit_train", "96", "--limit_test", "40", "--n_epochs", "2", "--device", "cpu"]
    grid = ["--dataset_name", "digits", "--noise_mode", "sym", *sizes, "--backend", "local"]
    with locked(tmp_path / "table"):
        assert table.main([*grid, "--output_dir", "table"]) == 2
        assert "table is in use by process" in capsys.readouterr().err
        assert not list((tmp_path / "table").glob("[!.]*"))


def test_a_search_without_a_name_takes_the_next_free_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert tune.main(SEARCH) == 0
    (folder,) = (tmp_path / "hp").iterdir()
    with locked(folder):
        assert tune.main([*SEARCH, "--resume"]) == 0
    assert len(list((tmp_path / "hp").iterdir())) == 2


def test_a_noise_file_is_made_by_one_process(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    flags = ["--dataset_name", "digits", "--n_epochs", "1", "--out", "noise.npz"]
    with locked(tmp_path / "noise.npz.lock"):
        assert make_dependent_noise.main(flags) == 2
    error = capsys.readouterr().err
    assert "noise.npz.lock is in use by process" in error
    assert "another --out" in error.replace("--output_dir", "")
    assert "--output_dir" not in error
    assert json.dumps([path.name for path in tmp_path.iterdir()]) == '["noise.npz.lock"]'

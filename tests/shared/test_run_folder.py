"""One process per run folder, and logs that are one run's."""

import errno
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from shared import run_folder
from shared.run_folder import RunFolderError, is_locked, locked, naming, read_rows

HOLD = """
import sys, time
from pathlib import Path
from shared.run_folder import locked
with locked(Path(sys.argv[1])):
    print("locked", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds `tmp_path / run`."""
    root = Path(run_folder.__file__).parents[1]
    command = [sys.executable, "-c", HOLD, str(tmp_path / "run")]
    process = subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "locked\n"
    yield process
    process.kill()
    process.wait()


def test_a_second_process_is_refused_and_told_who_holds_the_folder(tmp_path, holder):
    assert is_locked(tmp_path / "run")
    with (
        pytest.raises(RunFolderError, match=rf"in use by process {holder.pid} on \S+ since"),
        locked(tmp_path / "run"),
    ):
        pass
    assert is_locked(tmp_path / "run"), "a refused attempt took the lock away"


@pytest.mark.parametrize("flag", [(), ("--work-dir",)])
def test_the_message_advises_the_flag_of_its_command(tmp_path, holder, flag):
    advice = f"choose another {(*flag, '--output_dir')[0]}$"
    with pytest.raises(RunFolderError, match=advice), locked(tmp_path / "run", *flag):
        pass


def test_a_killed_process_leaves_no_lock(tmp_path, holder):
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    assert not is_locked(tmp_path / "run")
    with locked(tmp_path / "run"):
        assert is_locked(tmp_path / "run")
    assert not (tmp_path / "run" / run_folder.HOLDER).exists()


def test_an_exception_frees_the_folder(tmp_path):
    with pytest.raises(KeyError), locked(tmp_path / "a" / "b"):
        raise KeyError
    assert not is_locked(tmp_path / "a" / "b")
    assert not is_locked(tmp_path / "nothing")


def test_rows_are_read_but_for_a_last_line_that_is_cut_off(tmp_path):
    rows = [{"epoch": 1, "loss": 2.0}, {"epoch": 2, "loss": 1.0}]
    (tmp_path / "metrics.jsonl").write_text(
        "".join(json.dumps(row) + "\n" for row in rows) + '{"ep'
    )
    assert read_rows(tmp_path) == rows


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"epoch": 1}\n{"epoch": 1}\n', "epoch 1 follows epoch 1: two runs"),
        ('{"epoch": 1}\n{"epoch": 2}\n{"epoch": 1}\n', "epoch 1 follows epoch 2: two runs"),
        ('{"epoch": 1}\n{"epoch": "2"}\n', "no row with 'epoch'"),
        ('{"epoch": 1}\n{"epoch": null}\n', "no row with 'epoch'"),
        ('{"step": 1}\n', "no row with 'epoch'"),
        ("[1]\n", "no row with 'epoch'"),
        ("{\n", "no row with 'epoch'"),
    ],
)
def test_a_log_that_is_not_one_runs_is_refused(tmp_path, content, message):
    (tmp_path / "metrics.jsonl").write_text(content)
    with pytest.raises(RunFolderError, match=message):
        read_rows(tmp_path)


def test_a_missing_log_is_refused(tmp_path):
    with pytest.raises(RunFolderError, match=r"metrics\.jsonl cannot be read"):
        read_rows(tmp_path)


def test_an_error_without_a_name_gets_that_of_the_folder_and_a_thread_prints_none(tmp_path, capsys):
    def fill():
        raise OSError(errno.ENOSPC, "No space left on device")

    def fill_twice():
        thread = threading.Thread(target=fill)
        thread.start()
        thread.join()
        fill()

    before = threading.excepthook
    with pytest.raises(OSError, match="No space") as caught, naming(tmp_path):
        fill_twice()
    assert caught.value.filename == str(tmp_path)
    assert capsys.readouterr().err == ""
    assert threading.excepthook is before

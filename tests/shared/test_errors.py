"""What a command says of a file that cannot be read or written: one table for all errors."""

import errno
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

import shared
from shared import files
from shared.errors import UserError, explain, fix_for
from tests import interrupts

ROOT = Path(shared.__file__).parents[1]
EVERY = sorted(errno.errorcode)


def failure(number: int) -> OSError:
    return OSError(number, os.strerror(number), "a/b.npz")


@pytest.mark.parametrize("number", EVERY, ids=errno.errorcode.get)
def test_every_error_names_the_file_the_reason_and_the_way_on(number):
    text = explain(failure(number), "go on")
    assert "a/b.npz" in text
    assert "[Errno" not in text or text.endswith("fix that, then go on")
    assert number in (errno.ENOSPC, errno.EDQUOT) or os.strerror(number) in text
    assert any(word in text for word in ("choose", "check", "go on"))
    assert "{" not in text


@pytest.mark.parametrize(
    ("number", "way_on"),
    [
        (errno.ENOSPC, "free some space, then go on"),
        (errno.EDQUOT, "free some space, then go on"),
        (errno.EFBIG, r"\(`ulimit -f`\), then go on"),
        (errno.EIO, "check the disk, or choose a folder on another one, then go on"),
        (errno.EROFS, rf"user {os.getuid()} .*choose another folder"),
        (errno.EACCES, rf"user {os.getuid()} .*`chown`"),
        (errno.EMFILE, r"\(`ulimit -n`\), then go on"),
        (errno.ESTALE, "check the connection to its file server, then go on"),
    ],
)
def test_the_way_on_is_the_same_wherever_it_is_asked_for(number, way_on, tmp_path, monkeypatch):
    with pytest.raises(UserError, match=way_on):
        raise UserError(explain(failure(number), "go on"))
    assert fix_for(failure(number)) in explain(failure(number))

    def fail(*_: object) -> None:
        raise failure(number)

    monkeypatch.setattr(files, "write_atomically", fail)
    with pytest.raises(UserError) as caught:
        files.save(tmp_path / "b.npz", b"", "--out")
    assert str(caught.value).endswith(f"({os.strerror(number)}): {fix_for(failure(number))}")


def test_errors_without_a_file_say_what_they_know():
    assert explain(OSError("urlopen: refused"), "go on") == "urlopen: refused: fix that, then go on"
    full = OSError(errno.ENOSPC, "No space left on device")
    assert explain(full, "go on") == "no space left to write a file: free some space, then go on"


def test_a_limit_on_the_size_of_files_is_told_by_the_command(tmp_path):
    flags = ["--dataset", "digits", "--kind", "symmetric", "--rate", "0.2", "--out", "n.csv"]
    done = subprocess.run(
        [sys.executable, "-m", "shared", "noise", "make", *flags],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000)),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: cannot write n.csv (File too large): ")
    assert "`ulimit -f`" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_while_importing_is_one_line(tmp_path):
    flags = ["--dataset", "digits", "--kind", "symmetric", "--rate", "0.2", "--out", "n.csv"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    words = ["noise", "make", *flags]
    done = interrupts.interrupted("shared", words, "numpy", tmp_path, environment)
    assert done.returncode == 130
    assert done.stderr == "interrupted; run the same command again\n"
    assert list(tmp_path.iterdir()) == []

"""Jobs whose script is a stand-in, and commands in this process: a new one takes a while."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from compare.__main__ import main
from compare.methods import METHODS
from compare.plan import ROOT, Job

SCRIPT = Path(__file__).with_name("fake_script.py")


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


@pytest.fixture
def job(tmp_path, monkeypatch):
    """A job of the stand-in in tmp_path, made from its flags."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))

    def make(*flags: object, seed: int = 1, method: str = "sln") -> Job:
        folder = tmp_path / f"{method}-seed{seed}"
        command = (sys.executable, str(SCRIPT), str(folder), *map(str, flags))
        return Job(METHODS[method], seed, (command,), folder, 12.0)

    return make


@pytest.fixture
def called(capsys):
    """Calls a command's main function with its words; how it ended, as of a process."""

    def call(function, *words: object) -> subprocess.CompletedProcess[str]:
        try:
            status = function([*map(str, words)])
        except SystemExit as end:  # argparse's way
            status = end.code
        said = capsys.readouterr()
        return subprocess.CompletedProcess(words, status, said.out, said.err)

    return call


@pytest.fixture
def compare(called, tmp_path, monkeypatch):
    """Runs `python -m compare` in tmp_path, with a folder for the comparison."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")

    def run(*words: object, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
        place = [] if words[0] in ("table", "projects") else ["--folder", folder or tmp_path / "c"]
        return called(main, *words, *place)

    return run

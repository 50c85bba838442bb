"""Jobs whose script is a stand-in, and `python -m compare` as a user starts it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

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
def compare(tmp_path):
    """Runs `python -m compare` with a folder for the comparison; the finished process."""

    def run(*words: object, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
        place = [] if words[0] in ("table", "projects") else ["--folder", folder or tmp_path / "c"]
        return subprocess.run(
            [sys.executable, ROOT / "compare", *map(str, words), *place],
            cwd=tmp_path,
            env=environment(),
            capture_output=True,
            text=True,
        )

    return run

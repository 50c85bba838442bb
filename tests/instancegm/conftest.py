"""How the tests run the real script: in a subprocess as a user does, or faster in this process."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from instancegm import instanceGM

# Networks this small gain nothing from more, and lose much when other processes compute.
torch.set_num_threads(1)

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "instancegm" / "instanceGM.py"
TIMING = ("seconds", "images_per_s")  # the only fields of a row that differ between equal runs
TINY = [
    *("--dataset", "digits", "--r", "0.4", "--limit_train", "96", "--limit_test", "40"),
    *("--width", "4", "--batch_size", "16", "--num_epochs", "3", "--warm_up", "1"),
]


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


def rows(folder: Path) -> list[dict[str, object]]:
    """The metrics of a run, less what the clock decides."""
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k not in TIMING} for line in lines]


@pytest.fixture
def run_script(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs instanceGM.py as a user would, in an empty folder."""

    def run(*flags: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(SCRIPT), *flags]
        return subprocess.run(
            command, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=300
        )

    return run


@pytest.fixture
def main(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """The script's main function, in an empty folder; takes words, or several words in a text."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DATA_ROOT", raising=False)
    return lambda *flags: instanceGM.main([word for flag in flags for word in str(flag).split()])

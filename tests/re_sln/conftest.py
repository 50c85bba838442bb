"""How the tests run the real scripts: in a subprocess as a user does, or quicker in this one."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from re_sln import train_cifar
from re_sln.run.report import TIMING

# Networks this small gain nothing from more threads, and lose much beside other processes.
torch.set_num_threads(1)
# `make` exports it; here nobody names a folder unless a test does.
os.environ.pop("DATA_ROOT", None)

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = ROOT / "re_sln"
SMALL = ["--limit_train", "96", "--limit_test", "40", "--n_epochs", "3", "--batch_size", "32"]
TINY = ["--dataset_name", "digits", "--noise_mode", "sym", "--p", "0.4", *SMALL]


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


def rows(folder: Path) -> list[dict[str, object]]:
    """The metrics of a run, less what the clock decides."""
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [without_clock(json.loads(line)) for line in lines]


def without_clock(row: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in row.items() if name not in TIMING}


@pytest.fixture
def run_script(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs a script as a user would, in an empty folder."""

    def run(script: str, *flags: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(SCRIPTS / script), *flags]
        return subprocess.run(
            command, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=300
        )

    return run


@pytest.fixture
def main(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """The main function of train_cifar.py, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DATA_ROOT", raising=False)
    return lambda *flags: train_cifar.main([str(flag) for flag in flags])

"""How the tests run the real scripts: in a subprocess as a user does, or in this process where only
speed differs.
"""

import csv
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from lra_diffusion.run import folder, image_files
from lra_diffusion.run.report import TIMING

# Networks this small gain nothing from more, and lose much when other processes compute.
torch.set_num_threads(1)

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = ROOT / "lra_diffusion"


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


def rows(folder: Path) -> list[dict[str, object]]:
    """The metrics of a run, less what the clock decides."""
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k not in TIMING} for line in lines]


def verdicts(folder: Path) -> list[dict[str, str]]:
    """The rows of a run's label_quality.csv."""
    with (folder / "label_quality.csv").open(newline="") as file:
        return list(csv.DictReader(file))


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
def small_crops(tmp_path, monkeypatch) -> list[str]:
    """An empty folder, where images on disk are cut to 32 pixels (224 take a minute, and change
    nothing), and the flags of a tiny encoder, timm's smallest.
    """
    import timm

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DATA_ROOT", str(tmp_path / "data"))
    monkeypatch.setattr(image_files, "SHORTER_SIDE", 36)
    monkeypatch.setattr(image_files, "CROP", 32)
    torch.manual_seed(0)
    torch.save(timm.create_model("test_resnet", num_classes=0).state_dict(), "backbone.pth")
    return ["--fp_encoder", "test_resnet", "--fp_weights", "backbone.pth"]


@pytest.fixture
def interrupted(monkeypatch) -> Callable[[Callable[[], int]], None]:
    """Lets a run be stopped by Ctrl-C when its second epoch is to be saved."""

    def stop(run: Callable[[], int]) -> None:
        save = folder.RunFolder.save

        def saved(self: folder.RunFolder, is_best: bool) -> None:
            if len(self.rows) == 2:
                raise KeyboardInterrupt
            save(self, is_best)

        with monkeypatch.context() as patch:
            patch.setattr(folder.RunFolder, "save", saved)
            assert run() == 130

    return stop

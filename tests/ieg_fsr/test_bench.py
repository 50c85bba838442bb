"""The benchmark runs; what it measures at such a size says nothing."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.training
def test_the_benchmark_runs(tmp_path):
    figures = tmp_path / "figures.json"
    size = ["--network_name", "wrn10-1", "--batch_size", "5", "--steps", "1", "--threads", "1"]
    words = [*size, "--json", str(figures)]
    subprocess.run([sys.executable, "-m", "tests.bench.ieg_fsr", *words], cwd=ROOT, check=True)
    assert json.loads(figures.read_text())["steps"]

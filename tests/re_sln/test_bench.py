"""The benchmark runs; what it measures at such a size says nothing."""

import json
import sys

import pytest

from tests.bench import re_sln


@pytest.mark.training
def test_the_benchmark_runs(tmp_path, monkeypatch):
    monkeypatch.setattr(re_sln, "CPU_SAMPLES", 4)
    figures = tmp_path / "figures.json"
    words = ["--steps", "1", "--device", "cpu", "--json", str(figures)]
    monkeypatch.setattr(sys, "argv", ["bench", *words])
    assert re_sln.main() == 0
    assert json.loads(figures.read_text())

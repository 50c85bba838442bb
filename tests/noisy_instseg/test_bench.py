"""The benchmark runs; what it measures at such a size says nothing."""

import json
import sys

import pytest

from tests.bench import noisy_instseg


@pytest.mark.training
def test_the_benchmark_runs(tmp_path, monkeypatch):
    figures = tmp_path / "figures.json"
    words = ["--steps", "10", "--training_steps", "1", "--threads", "1", "--json", str(figures)]
    monkeypatch.setattr(sys, "argv", ["bench", *words])
    assert noisy_instseg.main() == 0
    found = json.loads(figures.read_text())
    assert found["training, 1 threads, steps/s"]
    assert found["loading of an image, ms"]["LoadAnnotations"] > 0

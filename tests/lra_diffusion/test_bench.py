"""The benchmark runs; what it measures at such a size says nothing."""

import json
import sys

import pytest

from tests.bench import lra_diffusion, lra_diffusion_training


@pytest.mark.training
def test_the_benchmark_runs(tmp_path, monkeypatch):
    for name, size in (("BATCH", 4), ("ROWS", 40), ("CIFAR_TRAIN_IMAGES", 40)):
        monkeypatch.setattr(lra_diffusion_training, name, size)
    words = ["--turns", "1", "--queries", "8", "--only", "retrieval", "training"]
    figures = tmp_path / "figures.json"
    monkeypatch.setattr(sys, "argv", ["bench", *words, "--device", "cpu", "--json", str(figures)])
    assert lra_diffusion.main() == 0
    assert json.loads(figures.read_text())["training"]["float32 NCHW / as trained"] > 0

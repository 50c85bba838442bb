"""A run of the code before the redesign goes on as it would have then."""

import json
import shutil
from pathlib import Path

import pytest
from conftest import TIMING, rows

pytestmark = pytest.mark.training

OLD_RUN = Path(__file__).parent / "data" / "old_run"  # up to epoch 2; its metrics up to epoch 4
FLAGS = [
    *("--dataset", "digits", "--r", "0.9", "--noise_mode", "sym", "--limit_train", "64"),
    *("--limit_test", "40", "--width", "1", "--batch_size", "16", "--warm_up", "1", "--no-vae"),
    *("--amp", "off", "--lr", "0.001", "--num_epochs", "4", "--output_dir", "run", "--resume"),
]


@pytest.mark.parametrize("flags", [FLAGS, ["--config", "config.yaml", *FLAGS[-5:]]])
def test_an_old_run_resumes_and_ends_with_the_old_metrics(main, tmp_path, capsys, flags):
    (tmp_path / "run").mkdir()
    shutil.copy(OLD_RUN / "checkpoint.pt", tmp_path / "run" / "last.ckpt")
    shutil.copy(OLD_RUN / "config.yaml", tmp_path)
    assert main(*flags) == 0
    assert "resumed: epoch 2 of 4 is done" in capsys.readouterr().out
    old = [json.loads(line) for line in (OLD_RUN / "metrics.jsonl").read_text().splitlines()]
    for row, expected in zip(rows(tmp_path / "run"), old, strict=True):
        phase = {"phase": expected.pop("phase")}
        numbers = {name: value for name, value in expected.items() if name not in TIMING}
        # Equal on the same processor with one thread; others may round an image to another class.
        slack = {name: 2.6 if "accuracy" in name else 1e-9 for name in numbers}
        near = {k: pytest.approx(each, rel=0.02, abs=slack[k]) for k, each in numbers.items()}
        assert row == near | phase


def test_an_old_run_is_evaluated(main, tmp_path, capsys):
    shutil.copy(OLD_RUN / "checkpoint.pt", tmp_path / "last.ckpt")
    assert main("--evaluate", "last.ckpt", "--limit_test", 40, "--amp", "off") == 0
    accuracy = json.loads((OLD_RUN / "metrics.jsonl").read_text().splitlines()[2])["accuracy"]
    assert f"test accuracy {accuracy:.2f} %" in capsys.readouterr().out

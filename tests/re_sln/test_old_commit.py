"""Runs of an earlier commit resume here, to the figures that the earlier commit came to.

`data/` holds a run stopped after 4 of 6 epochs and a search stopped after 2 of 3, with what they
came to (`finished.*`); of a network small enough to be kept.
"""

import csv
import json
import shutil
from pathlib import Path

import pytest
from conftest import without_clock
from torch import nn

from re_sln import train_cifar, tune
from re_sln.search.sigma_trial import METRICS

pytestmark = pytest.mark.training
DATA = Path(__file__).with_name("data")
FLAGS = [
    *("--dataset_name", "digits", "--noise_mode", "sym", "--p", "0.4", "--seed", "123"),
    *("--limit_train", "96", "--limit_test", "40", "--batch_size", "32"),
    *("--amp", "off", "--device", "cpu", "--resume"),
]


@pytest.fixture(autouse=True)
def tiny_network(monkeypatch):
    def build(num_classes, depth, width):
        convolution = nn.Conv2d(3, 4, 3, stride=4, padding=1)
        head = nn.Linear(256, num_classes)
        return nn.Sequential(convolution, nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), head)

    monkeypatch.setattr("re_sln.run.experiment.WideResNet", build)


def close(row):
    """On another machine sums differ in their last bits, and so may a prediction or two."""
    return {
        name: pytest.approx(value, rel=1e-3, abs=6 if name.startswith("accuracy") else 1e-3)
        for name, value in row.items()
    }


def test_an_old_run_resumes_to_the_same_figures(tmp_path, capsys):
    shutil.copytree(DATA / "old_run", tmp_path / "run")
    flags = ["--method", "sln_mo_lc", "--lc_n_epoch", "3", "--n_epochs", "6"]
    assert train_cifar.main([*FLAGS, *flags, "--output_dir", str(tmp_path / "run")]) == 0
    assert "resumed: epoch 4 of 6 is done" in capsys.readouterr().out
    found, expected = (
        [without_clock(json.loads(line)) for line in path.read_text().splitlines()]
        for path in (tmp_path / "run" / "metrics.jsonl", DATA / "old_run" / "finished.jsonl")
    )
    assert found[:4] == expected[:4]
    assert found[4:] == [close(row) for row in expected[4:]]


def test_an_old_search_resumes_to_the_same_figures(tmp_path, capsys):
    shutil.copytree(DATA / "old_search", tmp_path / "hp")
    flags = ["--backend", "local", "--n_epochs", "3", "--output_dir", str(tmp_path / "hp")]
    assert tune.main([*FLAGS, *flags]) == 0
    assert "4 of 4 trials to run" in capsys.readouterr().out
    assert tune.main([*FLAGS, *flags]) == 0
    assert "0 of 4 trials to run" in capsys.readouterr().out
    for trial in (DATA / "old_search").glob("hp_*"):
        found, expected = (
            [
                {name: float(row[name]) for name in METRICS}
                for row in csv.DictReader(path.read_text().splitlines())
            ]
            for path in (tmp_path / "hp" / trial.name / "progress.csv", trial / "finished.csv")
        )
        assert found[:2] == expected[:2]
        assert found[2:] == [
            {name: pytest.approx(value, rel=1e-3, abs=0.06) for name, value in row.items()}
            for row in expected[2:]
        ]

"""`make bench-labels` and the report say the same of a ranking; cleanlab's place has a stand-in."""

import json
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import report_runs as made

from compare.plan import ROOT
from compare.report import tables
from compare.report.collect import collect


@pytest.fixture
def cleanlab(tmp_path):
    """Runs it with a stand-in for cleanlab, which has an environment of its own."""
    place = tmp_path / ".modules/cleanlab"
    place.mkdir(parents=True)
    for name, function in (
        ("__init__", ""),
        ("filter", "find_label_issues = None"),
        ("rank", "get_label_quality_scores = None"),
    ):
        (place / f"{name}.py").write_text(function)

    def run(*words):
        return subprocess.run(
            [sys.executable, "-m", "tests.bench.labels", *map(str, words)],
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": f"{place.parent}:{ROOT}", "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
        )

    return run


def test_its_figures_are_those_of_the_page(tmp_path, cleanlab):
    """Of qualities with many ties, which the order of the samples must not decide about."""
    labels, says = made.noise(200), made.verdict(made.noise(200), skill=0.8)
    says = replace(says, quality=np.round(2 * says.quality) / 2)
    made.write(tmp_path / "run", labels, "sln", says=says)
    done = cleanlab(tmp_path / "run", "--folds", 0, "--json", tmp_path / "found.json")
    assert done.returncode == 0, done.stderr
    [found] = json.loads((tmp_path / "found.json").read_text())
    page = collect([tmp_path / "run"])
    [detection] = tables.detections(page.methods[0], page.samples)
    assert found["auc"] == pytest.approx(detection.auc)
    assert found["precision_at_rate"] == pytest.approx(detection.precision_at_k)
    flagged = says.is_issue
    assert found["flagged"] == pytest.approx(flagged.mean())
    wrong = labels.noisy_labels != labels.clean_labels
    assert found["recall"] == pytest.approx((flagged & wrong).sum() / wrong.sum())


def test_runs_that_cannot_be_measured_are_named_and_the_others_are_measured(tmp_path, cleanlab):
    """An unreadable table, a run without its labels, and own pictures that have gone."""
    labels = made.noise(60, dataset="folder")
    for name in ("damaged", "unlabelled", "gone"):
        gone = f"data_location: {tmp_path / 'pictures'}\n"
        made.write(tmp_path / name, labels, "ce", says=made.verdict(labels), config=gone)
    (tmp_path / "damaged/label_quality.csv").write_text("index\n")
    (tmp_path / "unlabelled/noise.npz").unlink()
    made.write(tmp_path / "whole", labels, "sln", says=made.verdict(labels))
    done = cleanlab(tmp_path)
    assert done.returncode == 0, done.stderr
    assert "damaged/label_quality.csv has no column" in done.stderr
    assert "unlabelled: no noise.npz" in done.stderr
    assert "gone: " in done.stderr
    assert "pictures does not exist" in done.stderr
    assert "re_sln, SLN+MO+LC" in done.stdout
    assert "Traceback" not in done.stderr

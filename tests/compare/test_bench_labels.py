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


def test_its_figures_are_those_of_the_page(tmp_path):
    """Of qualities with many ties, which the order of the samples must not decide about."""
    for name, function in (
        ("__init__", ""),
        ("filter", "find_label_issues = None"),
        ("rank", "get_label_quality_scores = None"),
    ):
        (tmp_path / "cleanlab").mkdir(exist_ok=True)
        (tmp_path / f"cleanlab/{name}.py").write_text(function)
    labels, says = made.noise(200), made.verdict(made.noise(200), skill=0.8)
    says = replace(says, quality=np.round(2 * says.quality) / 2)
    made.write(tmp_path / "run", labels, "sln", says=says)
    words = [sys.executable, "-m", "tests.bench.labels", str(tmp_path / "run"), "--folds", "0"]
    done = subprocess.run(
        [*words, "--json", str(tmp_path / "found.json")],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": f"{tmp_path}:{ROOT}", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
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

"""The command that the page gives makes a noise file of a review."""

import json
import shlex
from dataclasses import replace
from html import unescape
from pathlib import Path

import numpy as np
import report_runs as made

from compare.question import NOISE, PLAN, Question, prepare
from compare.report import page, review
from compare.report.collect import collect
from compare.report.thumbnails import Source
from shared.__main__ import main as shared
from shared.formats import noise_file
from shared.formats.alignment import subset

HEAD = "index,file,given_label,given_name,predicted_label,predicted_name,new_label,new_name\n"


def test_the_command_on_the_page_works(called, tmp_path, monkeypatch):
    """In a folder whose name a shell would split."""
    monkeypatch.chdir(tmp_path)
    labels = made.noise(20)
    made.three_methods(Path("my runs"), labels)
    html, _ = page.page(collect([Path("my runs")]), Source("digits"), 5)
    Path("ticked_labels.csv").write_text(f"{HEAD}3,,0,0,0,0,9,9\n4,,0,0,0,0,,\n")
    [said] = [line for line in html.splitlines() if "noise convert" in line]
    said = said.partition("<code>")[2].partition("</code>")[0]
    python, _, package, *words = shlex.split(unescape(said))
    assert (python, package) == (".venv/compare/bin/python", "shared")
    done = called(shared, *words)
    assert done.returncode == 0, done.stderr
    expected = labels.noisy_labels.copy()
    expected[3] = 9
    assert noise_file.read("better.npz").noisy_labels.tolist() == expected.tolist()


def test_of_a_comparison_its_own_noise_file_is_corrected(tmp_path):
    labels = made.noise(20)
    made.write(tmp_path / "ce-seed1", labels, says=made.verdict(labels))
    assert review.labels(collect([tmp_path])) == tmp_path / "ce-seed1" / NOISE
    noise_file.write(tmp_path / NOISE, labels)
    assert review.labels(collect([tmp_path])) == tmp_path / "ce-seed1" / NOISE
    prepare(Question("digits"), tmp_path / "c")
    plan = json.loads((tmp_path / "c" / PLAN).read_text())
    (tmp_path / PLAN).write_text(json.dumps(plan))
    assert review.labels(collect([tmp_path])) == tmp_path / NOISE
    plan["task"]["noise_file"] = None  # NOISE is what an earlier plan left
    (tmp_path / PLAN).write_text(json.dumps(plan))
    assert review.labels(collect([tmp_path])) == tmp_path / "ce-seed1" / NOISE


def test_of_own_pictures_a_run_that_trained_on_all_has_the_labels(tmp_path):
    labels = made.noise(20, known=False)
    part = subset(replace(labels, indices=np.arange(20)), np.arange(0, 20, 2))
    made.write(tmp_path / "a", part, "ieg", says=made.verdict(part))
    made.write(tmp_path / "b", labels, "sln", says=made.verdict(labels))
    assert review.labels(collect([tmp_path])) == tmp_path / "b" / NOISE
    table = tmp_path / "b/label_quality.csv"
    assert review.command(collect([table]), "x.csv").endswith("--onto noise.npz")

"""`make check-gpu` tried on the CPU, with the cheapest of its projects."""

import json
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.bench.check_gpu import __main__ as check_gpu
from tests.bench.check_gpu.commands import Check, Deadline
from tests.bench.check_gpu.projects import PROJECTS

ROOT = Path(__file__).resolve().parents[2]
FLAGS = ("--device=cpu", "--projects", "re_sln", "--without", "speed", "bf16")


def results(figures: Path) -> dict[str, str]:
    """Part -> result, of what the check wrote."""
    return {row["part"]: row["result"] for row in json.loads(figures.read_text())["found"]}


@pytest.mark.training
def test_a_project_repeats_and_resumes(tmp_path):
    figures = tmp_path / "found.json"
    words = [sys.executable, "-m", "tests.bench.check_gpu", *FLAGS, f"--json={figures}"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    found = results(figures)
    assert found.pop("waiting").startswith("not run: nothing to wait for on a CPU")
    equal = "equal, bit for bit: metrics, checkpoint, label_quality.csv, corrected_labels.npz"
    assert found == {"repeat": equal, "resume": equal}
    head, *table, last = done.stdout.split("\n\n")[1].splitlines()
    assert head.split() == ["project", "part", "seconds", "result"]
    assert [line.split()[:2] for line in table] == [
        ["re_sln", part] for part in ("repeat", "resume", "waiting")
    ]
    assert last == f"figures: {figures}"


def checked(monkeypatch, figures: Path, *flags: str) -> int:
    """Its exit status, in this process."""
    monkeypatch.setattr(sys, "argv", ["check-gpu", *FLAGS, f"--json={figures}", *flags])
    return check_gpu.main()


def test_what_does_not_come_in_time_is_not_run(tmp_path, monkeypatch, capsys):
    figures, start = tmp_path / "found.json", time.monotonic()
    assert checked(monkeypatch, figures, "--minutes=0.01") == 0
    assert time.monotonic() - start < 30  # a whole run takes longer
    late = "not run: the 0.01 minutes are over"
    assert {part: results(figures)[part] for part in ("repeat", "resume")} == {
        "repeat": late,
        "resume": late,
    }
    assert capsys.readouterr().out.split("\n\n")[1].count(late) == 2


def test_a_command_that_fails_is_reported_and_what_needs_it_is_not_run(
    tmp_path, monkeypatch, capsys
):
    wrong = replace(PROJECTS["re_sln"], run=(*PROJECTS["re_sln"].run, "--no_such_flag"))
    monkeypatch.setitem(PROJECTS, "re_sln", wrong)
    figures = tmp_path / "found.json"
    assert checked(monkeypatch, figures) == 1
    found = results(figures)
    assert found["repeat"].startswith("FAILED: ")
    assert "--no_such_flag" in found["repeat"]
    assert found["resume"] == "not run: repeat failed"
    assert found["repeat"] in capsys.readouterr().out.split("\n\n")[1]


@pytest.mark.training
def test_runs_that_differ_are_told_apart(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    check = Check("re_sln", tmp_path, "cpu", Deadline(1))
    whole, again = tmp_path / "whole", tmp_path / "again"
    whole.mkdir()
    for name in ("last.ckpt", "best.ckpt"):
        torch.save({"net": torch.zeros(2)}, whole / name)
    (whole / "metrics.jsonl").write_text('{"loss": 1.0, "seconds": 5}\n')
    shutil.copytree(whole, again)
    (again / "metrics.jsonl").write_text('{"loss": 1.0, "seconds": 6}\n')
    assert check_gpu.compared(check, "again") == "equal, bit for bit: metrics, checkpoint"
    torch.save({"net": torch.tensor([0.0, -0.0])}, again / "last.ckpt")
    assert check_gpu.compared(check, "again") == "DIFFER in checkpoint"
    (again / "metrics.jsonl").write_text('{"loss": 1.5, "seconds": 6}\n')
    assert check_gpu.compared(check, "again") == "DIFFER, first in loss: 1.0 and 1.5"

"""The table and the picture of several runs."""

import json
import subprocess
import sys

import pytest
from conftest import ROOT, environment

from instancegm.analysis import compare


@pytest.fixture
def runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    rows = [{"epoch": epoch, "accuracy": 10.0 * epoch} for epoch in range(3)]
    (tmp_path / "run" / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "kept.csv").write_text("epoch,accuracy\n0,50.0\n1,40.0\n")
    return ["run", "kept.csv"]


def test_compare_prints_a_table_and_draws_the_curves(runs, tmp_path, capsys):
    assert compare.main([*runs, "--plot", "curves.png"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].split() == ["run", "20.00", "20.00", "10.00", "3"]
    assert lines[3].split() == ["kept", "50.00", "40.00", "45.00", "2"]
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_a_run_without_a_curve_gets_one_message(runs, capsys):
    assert compare.main(["nothing"]) == 2
    assert "nothing has no curve" in capsys.readouterr().err


@pytest.mark.parametrize(
    "script", [[str(ROOT / "instancegm" / "compare.py")], ["-m", "instancegm.compare"]]
)
def test_both_ways_to_type_it_work(runs, script):
    command = [sys.executable, *script, *runs]
    where = {**environment(), "PYTHONPATH": str(ROOT)} if "-m" in script else environment()
    done = subprocess.run(command, env=where, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "kept" in done.stdout

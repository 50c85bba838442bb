"""The table of several runs, of this project and of others."""

import json
import math
import subprocess
import sys

import pytest
import yaml
from conftest import ROOT, environment

from instancegm.analysis import compare

OURS = {"method": "dividemix", "no_vae": True, "num_epochs": 4}
LRA = {"method": "LRA-diffusion (SimCLR)", "nepoch": 5}
FSR = {"method": "fsr", "network_name": "wrn10-1", "max_iteration": 7, "use_ema": True}


def write_run(folder, rows, config=OURS):
    folder.mkdir()
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "config.yaml").write_text(yaml.safe_dump(config))


def cells(capsys, name):
    """The figures in the table's line of a run."""
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    return next(line[1:] for line in lines if line and line[0] == name)


@pytest.fixture
def runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_run(tmp_path / "run", [{"epoch": epoch, "accuracy": 10.0 * epoch} for epoch in range(3)])
    (tmp_path / "kept.csv").write_text("# seed: 1\nepoch,accuracy\n0,50.0\n1,40.0\n")
    return ["run", "kept.csv"]


def test_compare_prints_a_table_and_draws_the_curves(runs, tmp_path, capsys):
    assert compare.main([*runs, "--plot", "curves.png"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].split() == ["run", "20.00", "20.00", "10.00", "3", "3"]
    assert lines[3].split() == ["kept", "50.00", "40.00", "45.00", "2", "2"]
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


EVALUATIONS = [
    {"iteration": n, "epoch": n / 5, "accuracy": 10.0 + n, "accuracy_ema": 80.0 - n}
    for n in (1, 5, 7)
]


def test_of_a_run_with_averaged_weights_the_reported_accuracy_counts(tmp_path, capsys):
    write_run(tmp_path / "fsr", EVALUATIONS, FSR)
    assert compare.main([str(tmp_path / "fsr")]) == 0
    output = capsys.readouterr()
    line = output.out.splitlines()[2].split()
    # Three evaluations are no three epochs.
    assert line == ["fsr", "79.00", "73.00", "75.67", "1.4", "3"]
    assert "of averaged weights, as these runs report: fsr" in output.out
    (tmp_path / "fsr" / "config.yaml").write_text(yaml.safe_dump({**FSR, "use_ema": False}))
    assert compare.main([str(tmp_path / "fsr")]) == 0
    assert cells(capsys, "fsr")[:2] == ["17.00", "17.00"]


def test_a_curve_of_another_project_is_read(tmp_path, capsys):
    path = tmp_path / "fsr.csv"
    path.write_text("iteration,epoch,accuracy,accuracy_ema,note\n1,0.2,1,5,\n7,1.4,2,4.0,x\n")
    assert compare.main([str(path)]) == 0
    assert cells(capsys, "fsr") == ["5.00", "4.00", "4.50", "1.4", "2"]


@pytest.mark.parametrize("nothing", [None, math.nan])
def test_epochs_that_were_not_evaluated_are_left_out(tmp_path, capsys, nothing):
    rows = [{"epoch": n, "accuracy": nothing if n < 3 else 10.0 * n} for n in range(1, 6)]
    write_run(tmp_path / "lra", rows, LRA)
    assert compare.main([str(tmp_path / "lra"), "--plot", str(tmp_path / "a.png")]) == 0
    assert cells(capsys, "lra") == ["50.00", "50.00", "40.00", "5", "3"]
    write_run(tmp_path / "early", rows[:2], LRA)
    assert compare.main([str(tmp_path / "early")]) == 2
    assert "early has no test accuracy: it has no test set, or" in capsys.readouterr().err
    assert compare.main([str(tmp_path / "early"), str(tmp_path / "lra")]) == 0
    out, error = capsys.readouterr()
    assert "early" not in out
    assert error.startswith("note: left out: ")
    assert "early has no test accuracy" in error


def test_a_run_without_a_curve_gets_one_message(runs, tmp_path, capsys):
    write_run(tmp_path / "empty", [])
    write_run(tmp_path / "twice", [{"epoch": 0, "accuracy": 1.0}] * 2)
    write_run(tmp_path / "other", [{"epoch": 1, "accuracy": 1.0}], {"of": "another program"})
    (tmp_path / "words.csv").write_text("a,b\n1,2\n")
    expected = {
        "nothing": "no such folder",
        "empty": "no epoch is finished",
        "twice": "two runs wrote into one folder",
        "other": "not those of a training script of this repository",
        "words.csv": "no epoch",
        "none.csv": "none.csv",
    }
    for run, message in expected.items():
        assert compare.main([run]) == 2
        error = capsys.readouterr().err
        assert message in error
        assert len(error.splitlines()) == 1
    assert compare.main([*runs, "--plot", "a.doc"]) == 2
    assert "a picture ends in" in capsys.readouterr().err
    assert not (tmp_path / "a.doc").exists()


def test_a_folder_of_runs_is_read_and_what_is_no_run_is_named(runs, tmp_path, capsys):
    write_run(tmp_path / "fsr", EVALUATIONS, FSR)
    write_run(tmp_path / "simclr", [{"epoch": 1}], {"nepoch": 1, "temperature": 1, "arch": "a"})
    (tmp_path / "masks").mkdir()
    (tmp_path / "masks" / "metrics.jsonl").write_text('{"epoch": 1, "segm_mAP": 0.125}\n')
    assert compare.main(["."]) == 0
    out, error = capsys.readouterr()
    lines = [line.split()[:3] for line in out.splitlines()[2:5]]
    assert lines == [
        ["fsr", "79.00", "73.00"],
        ["masks", "12.50", "12.50"],
        ["run", *["20.00"] * 2],
    ]
    assert "mask AP instead of accuracy: masks" in out
    assert error.splitlines() == [
        "note: left out: simclr: config.yaml: an encoder trained by train_SimCLR.py, not a "
        "classifier: give the run that uses it"
    ]


@pytest.mark.parametrize(
    "script",
    [
        ["compare.py"],
        pytest.param([str(ROOT / "instancegm" / "compare.py")], marks=pytest.mark.training),
        pytest.param(["-m", "instancegm.compare"], marks=pytest.mark.training),
    ],
)
def test_every_way_to_type_it_works_without_heavy_imports(runs, tmp_path, script):
    command = [sys.executable, "-X", "importtime", *script, *(str(tmp_path / run) for run in runs)]
    where = ROOT / "instancegm" if script[0] == "compare.py" else tmp_path
    if script[0] == "-m":
        where = ROOT
    done = subprocess.run(command, cwd=where, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "kept" in done.stdout
    assert not {"torch", "sklearn", "matplotlib"} & set(done.stderr.split())

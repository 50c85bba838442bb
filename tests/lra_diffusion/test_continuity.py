"""What users rely on from one version to the next: old runs resume, a config.yaml repeats a run,
--help answers at once, and the README's code runs.
"""

import json
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import tiny
from conftest import ROOT, SCRIPTS, environment, rows

from lra_diffusion import train_CE, train_CIFAR, train_SimCLR
from lra_diffusion.run import checkpoint
from lra_diffusion.run.config import parse_ce
from lra_diffusion.run.folder import claimed
from lra_diffusion.run.report import TIMING

OLD_RUNS = Path(__file__).parent / "data" / "old_run"
FEW = ["--dataset", "digits", "--limit_train", "60", "--limit_test", "20", "--amp", "off"]
OLD = {
    "lra": (
        train_CIFAR.main,
        "--nepoch 6 --batch_size 20 --feature_dim 1 --width 1 --warmup_epochs 1 --k 5",
    ),
    "ce": (train_CE.main, "--nepoch 4 --batch_size 20 --width 1"),
}


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DATA_ROOT", str(tmp_path / "data"))


def test_a_run_on_a_noise_file_of_any_name_is_found_again(tmp_path):
    name, identity = "CE_labels [1]*", {"nepoch": 2}
    config = parse_ce(["--dataset", "digits", "--noise_file", "labels [1]*.npz", "--resume"])
    path = tmp_path / "runs" / f"{name}_2026-11-29"
    path.mkdir(parents=True)
    (path / "config.yaml").write_text("identity: {nepoch: 2}")
    with claimed(config, name, identity) as folder:
        assert folder.path.resolve() == path


@pytest.mark.training
@pytest.mark.parametrize("kind", OLD)
def test_a_run_of_the_version_before_the_redesign_resumes(kind, tmp_path, capsys):
    """Its checkpoint was made halfway by the old code, whose final figures are in final.jsonl."""
    main, line = OLD[kind]
    folder = tmp_path / "run"
    folder.mkdir()
    shutil.copy(OLD_RUNS / kind / "last.pt", folder / checkpoint.LAST)
    shutil.copy(OLD_RUNS / kind / "config.yaml", folder)
    flags = [*FEW, *line.split(), "--noise_file", str(tiny.noisy_digits(tmp_path))]
    features = tiny.pixel_features(tmp_path) if kind == "lra" else []
    command = [*flags, *features, "--device", "cpu", "--output_dir", str(folder), "--resume"]
    assert main(command) == 0
    assert "resumed: epoch " in capsys.readouterr().out
    text = (OLD_RUNS / kind / "final.jsonl").read_text()
    expected = [json.loads(row) for row in text.splitlines()]
    found = rows(folder)
    assert [row["epoch"] for row in found] == [row["epoch"] for row in expected]
    for row, old in zip(found, expected):
        assert row.keys() == old.keys() - {*TIMING}
        for name, value in row.items():
            number = isinstance(value, float)
            assert old[name] == (pytest.approx(value, rel=1e-3, abs=1e-6) if number else value)


TINY = ["--width", "4", "--batch_size", "25", "--nepoch", "2", "--device", "cpu"]
REPEATED = {
    "train_CIFAR": (
        train_CIFAR.main,
        ["--feature_dim", "8", "--warmup_epochs", "1", "--seed", "7"],
    ),
    "train_CE": (train_CE.main, ["--lr", "0.05", "--seed", "7"]),
    "train_SimCLR": (train_SimCLR.main, ["--temperature", "0.2", "--seed", "7"]),
}


@pytest.mark.training
@pytest.mark.parametrize("script", REPEATED)
def test_a_config_repeats_its_run_and_flags_override_it(script, tmp_path):
    main, flags = REPEATED[script]
    command = [*FEW, *TINY, *flags, "--output_dir", "first"]
    if script != "train_SimCLR":
        command += ["--noise_file", str(tiny.noisy_digits(tmp_path))]
    if script == "train_CIFAR":
        command += tiny.pixel_features(tmp_path)
    assert main(command) == 0
    assert main(["--config", "first/config.yaml", "--output_dir", "again"]) == 0
    assert rows(tmp_path / "again") == rows(tmp_path / "first")
    assert main(["--config", "first/config.yaml", "--nepoch", "3", "--output_dir", "more"]) == 0
    assert len(rows(tmp_path / "more")) == 3


SCRIPT_NAMES = sorted(path.stem for path in SCRIPTS.glob("*.py") if path.stem != "__init__")


def test_help_and_a_wrong_flag_answer_without_torch():
    """All scripts in one fresh interpreter."""
    code = f"""
import importlib, sys
sys.path.insert(0, {str(ROOT)!r})
for name in {SCRIPT_NAMES}:
    main = importlib.import_module(f"lra_diffusion.{{name}}").main
    for flag, status in (("--help", 0), ("--no_such_flag", 2)):
        try:
            main([flag])
        except SystemExit as stop:
            assert stop.code == status, (name, flag, stop.code)
    assert "torch" not in sys.modules, name
"""
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(), capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert len(SCRIPT_NAMES) == 11


def test_the_code_in_the_readme_runs(tmp_path):
    [code] = re.findall(r"```python\n(.*?)```", (SCRIPTS / "README.md").read_text(), re.DOTALL)
    assert len(code.strip().splitlines()) <= 20
    (tmp_path / "code.py").write_text(code)
    runpy.run_path(str(tmp_path / "code.py"))

"""The recipes behind `make`: what they call, by a script that notes it in the place of python."""

import subprocess
from pathlib import Path

import pytest
from conftest import ROOT, environment

VARIABLES = ("RATE", "KIND", "SEED", "ARGS", "NOISE_FILE")


@pytest.fixture
def recipe(tmp_path: Path):
    """Runs a recipe: (exit status, its calls, what it said)."""
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\n')
    python.chmod(0o755)
    kept = {name: value for name, value in environment().items() if name not in VARIABLES}

    def run(name: str, **variables: str) -> tuple[int, list[str], str]:
        (tmp_path / "calls").write_text("")
        known = {"PYTHON": str(python), "DATA_ROOT": str(tmp_path / "data"), **variables}
        script = ROOT / "noisy_instseg/scripts" / name
        done = subprocess.run([script], env={**kept, **known}, capture_output=True, text=True)
        return done.returncode, (tmp_path / "calls").read_text().splitlines(), done.stderr

    return run


@pytest.mark.parametrize(
    ("variables", "folder"),
    [
        ({}, "noisy_instseg-shapes-0.4-seed123"),
        ({"KIND": "asymmetric"}, "noisy_instseg-shapes-asymmetric-0.4-seed123"),
        ({"KIND": "asymmetric", "NOISE_FILE": "a.json"}, "noisy_instseg-shapes-a.json-seed123"),
    ],
)
def test_the_kind_of_noise_is_in_the_name_of_the_folder(recipe, variables, folder):
    status, calls, said = recipe("shapes.sh", **variables)
    assert status == 0, said
    stages = next(call for call in calls if "train_stages.py" in call)
    assert f"--work-dir runs/{folder}" in stages


def test_robustness_has_the_kind_and_the_rates_that_are_given(recipe):
    status, (_, study), said = recipe("robustness.sh")
    assert status == 0, said
    assert "--kind symmetric --seeds 123 --out runs/noisy_instseg-robustness-seed123 --" in study
    *_, study = recipe("robustness.sh", KIND="asymmetric", RATE="0 0.2", ARGS="--amp off")[1]
    assert "--kind asymmetric --rates 0 0.2 --seeds 123 --out" in study
    assert "runs/noisy_instseg-robustness-asymmetric-0_0.2-seed123-amp_off -- " in study
    status, calls, said = recipe("robustness.sh", NOISE_FILE="a.json")
    assert (status, calls) == (2, [])
    assert "leave it out" in said


@pytest.mark.parametrize("name", ["shapes.sh", "robustness.sh"])
def test_the_shapes_are_generated_where_they_are_missing(recipe, name, tmp_path):
    assert recipe(name)[1][0] == "-m shared data shapes"
    (tmp_path / "data/shapes/annotations").mkdir(parents=True)
    assert "-m shared data shapes" not in recipe(name)[1]

"""The recipes behind `make`: the commands that they run, and where their runs go."""

import os
import subprocess

import pytest
from conftest import PROJECT

from ieg.run import config


@pytest.fixture
def recipe(tmp_path):
    """Runs a recipe with a `python` that only writes down its arguments; those of each command."""
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\nprintf "%s\\n" "$@" ""\n')
    python.chmod(0o755)

    def run(name, **variables):
        known = {"PATH": os.environ["PATH"], "PYTHON": str(python)}
        done = subprocess.run(
            [PROJECT / "scripts" / f"{name}.sh"],
            env={**known, **variables},
            capture_output=True,
            text=True,
        )
        commands = [block.split("\n") for block in done.stdout.rstrip().split("\n\n")]
        return done.returncode, commands if done.returncode == 0 else done.stderr

    return run


def parsed(command):
    """The settings of a command, which starts with the script or with -m ieg.main."""
    return config.parse(command[2:] if command[0] == "-m" else command[1:])


@pytest.mark.parametrize(
    ("name", "variables", "method", "dataset", "folder"),
    [
        ("ieg-cifar10", {}, "ieg", "cifar10_uniform_0.4", "ieg-cifar10-0.4-seed123"),
        (
            "ieg-cifar100",
            {"METHOD": "l2r", "RATE": "0.2", "SEED": "1", "ARGS": "--max_iteration 5"},
            "l2r",
            "cifar100_uniform_0.2",
            "l2r-cifar100-0.2-seed1-max_iteration_5",
        ),
        (
            "fsr-cifar100",
            {"NOISE_FILE": "a/b.npz"},
            "fsr",
            "file_cifar100",
            "fsr-cifar100-a_b.npz-seed123",
        ),
        ("ieg-webvision", {}, "ieg", "webvisionmini", "ieg-webvision-seed123"),
        ("fsr-longtail", {}, "fsr", "cifar10_imbal_0.02", "fsr-longtail-seed123"),
    ],
)
def test_recipes_run_the_program_in_a_folder_of_their_own(
    recipe, name, variables, method, dataset, folder
):
    status, commands = recipe(name, **variables)
    assert status == 0, commands
    flags = parsed(commands[0])
    assert (flags.method, flags.dataset, flags.output_dir.name) == (method, dataset, folder)
    assert flags.seed == int(variables.get("SEED", "123"))
    assert flags.max_iteration == 5 if "ARGS" in variables else flags.max_iteration > 5


def test_digits_are_made_noisy_once_trained_on_by_all_and_compared(recipe):
    status, (noise, *runs, compared) = recipe("digits")
    run = "runs/ieg_fsr-digits-0.6-seed123"
    assert status == 0
    assert noise[:4] == ["-m", "shared", "noise", "make"]
    assert noise[-2:] == ["--out", f"{run}/noise.npz"]
    assert [parsed(command).method for command in runs] == ["supervised", "l2r", "ieg", "fsr"]
    assert {parsed(command).noise_file for command in runs} == {f"{run}/noise.npz"}
    ratios = [parsed(command).probe_dataset_hold_ratio for command in runs]
    assert ratios == [0, 0.07, 0.07, 0]
    assert compared[1:5] == [f"{run}/{method}" for method in ("supervised", "l2r", "ieg", "fsr")]
    assert len(recipe("digits", NOISE_FILE="mine.npz")[1]) == 5


def test_a_method_that_has_a_recipe_of_its_own_is_refused(recipe):
    status, error = recipe("ieg-cifar10", METHOD="fsr")
    assert status == 2
    assert "METHOD=fsr: choose ieg, l2r or supervised" in error


@pytest.mark.parametrize("variables", [{"RATE": "0.2"}, {"NOISE_FILE": "a.npz"}])
@pytest.mark.parametrize(
    ("name", "way"),
    [("fsr-longtail", "--dataset=cifar10_imbal_0.02_0.2"), ("ieg-webvision", "by themselves")],
)
def test_noise_that_a_recipe_does_not_make_is_refused(recipe, name, way, variables):
    status, error = recipe(name, **variables)
    assert status == 2
    assert "leave out RATE and NOISE_FILE" in error
    assert way in error

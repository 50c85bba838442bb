"""The Makefile does what its help says, every recipe calls scripts that exist, and CI runs what a
reader would.
"""

import os
import re
import subprocess
from pathlib import Path

import pytest
from house import ALL_PROJECTS, ROOT, files, make, text

HELP = re.compile(r"^([a-z][\w% -]*):[^#\n]*## (.+)$", re.MULTILINE)
STAND_FOR = {  # what the % of a documented target may be
    "setup-%": ["shared", "tests", "compare", "labels", *ALL_PROJECTS],
    "docker-%": ALL_PROJECTS,
    "docker-run-%": ALL_PROJECTS,
    "lock-%": ["shared", "tests", "compare", "docker", *ALL_PROJECTS],
    "test-%": ["shared", "repo", "compare", *ALL_PROJECTS],
    "bench-%": ALL_PROJECTS,
    "data-%": ["list", "cifar10", "sln/cifar10/sym0.4.csv", "sln-noise"],
}


def documented() -> dict[str, str]:
    """Target -> its help."""
    return dict(HELP.findall(text(Path("Makefile"))))


def targets() -> list[str]:
    return [
        name.replace("%", stem) for name in documented() for stem in STAND_FOR.get(name, [name])
    ]


def recipes() -> list[Path]:
    return [p for p in files() if p.parts[1:2] == ("scripts",) and os.access(ROOT / p, os.X_OK)]


@pytest.mark.parametrize("arguments", [[], ["help"]])
def test_the_help_lists_every_documented_target(checkout, arguments):
    run = make(checkout, *arguments)
    assert run.returncode == 0, run.stderr
    shown = dict(re.findall(r"^  (\S+) +(\S.*)$", run.stdout, re.MULTILINE))
    assert shown == {name.replace("%", "<name>"): about for name, about in documented().items()}


@pytest.mark.parametrize("target", targets())
def test_make_can_follow_a_target_and_a_dry_run_writes_nothing(checkout, target):
    before = sorted(checkout.rglob("*"))
    run = make(checkout, "-n", target)
    assert run.returncode == 0, run.stderr
    assert sorted(checkout.rglob("*")) == before


def test_every_recipe_has_its_target():
    names = documented().keys()
    for recipe in recipes():
        targets = {f"{recipe.parts[0]}-{recipe.stem}", recipe.stem} & names
        callers = [other for other in recipes() if f"/{recipe.name}" in text(other)]
        assert targets or callers, f"{recipe}:1: no target of make calls it"


@pytest.mark.parametrize("target", ["instancegm-cifar11", "setup-no", "lock-no", "bench-no"])
def test_a_misspelt_target_is_refused(checkout, target):
    run = make(checkout, "-n", target)
    assert run.returncode != 0
    assert "No rule" in run.stderr


@pytest.mark.parametrize("recipe", [r for r in recipes() if r.stem != "two_stages"], ids=str)
def test_a_recipe_calls_scripts_that_exist(recipe, checkout, tmp_path):
    """Runs it with an interpreter that only notes what it is asked to run."""
    notes = tmp_path / "notes"
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nprintf "%s\\n" "$*" >> {notes}\n')
    python.chmod(0o755)
    environment = os.environ | {"PYTHON": str(python), "SEED": "7", "ARGS": "--some_flag 'a b'"}
    run = subprocess.run(
        [checkout / recipe], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    calls = notes.read_text().splitlines()
    takes_flags = recipe.stem != "figures"  # re_sln's, which looks at whatever runs there are
    # compare passes them on as one word, still quoted, to several scripts
    assert any("--some_flag a b" in call.replace("'", "") for call in calls) == takes_flags
    for call in calls:
        if not call.startswith("-m "):
            assert (ROOT / call.split()[0]).is_file(), f"{recipe}:1: no {call.split()[0]}"


def test_ci_runs_what_the_readme_tells():
    commands = re.findall(r"^make .*$", text(Path(".ci/run")), re.MULTILINE)
    assert commands == ["make lint", "make test"]
    assert ".ci/run" in text(Path(".github/workflows/ci.yml"))
    assert "make test" in text(Path("README.md"))

"""The recipes behind `make`: what they refuse."""

import os
import subprocess

import pytest
from conftest import SCRIPTS


@pytest.mark.parametrize("name", ["food101n", "clothing1m", "webvision"])
@pytest.mark.parametrize("variables", [{"RATE": "0.2"}, {"NOISE_FILE": "a.npz"}])
def test_noise_on_top_of_labels_that_are_noisy_is_refused(name, variables):
    known = {"PATH": os.environ["PATH"], "PYTHON": "true"}
    command = [SCRIPTS / "scripts" / f"{name}.sh"]
    plain = subprocess.run(command, env=known)
    refused = subprocess.run(command, env={**known, **variables}, capture_output=True, text=True)
    assert (plain.returncode, refused.returncode, refused.stdout) == (0, 2, "")
    assert "leave out RATE and NOISE_FILE" in refused.stderr

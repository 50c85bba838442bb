"""The README's Python runs as it stands, in an interpreter of its own as at its reader's."""

import re
import subprocess
import sys

import pytest
from conftest import PROJECT

CHECKS = """
assert weights.shape == (8,)
assert 0.99 < float(sum(weights)) <= 1
assert [g.shape for g in gradients] == [(4, 3), (3,)]
"""


@pytest.mark.training
def test_the_code_to_use_elsewhere_runs():
    [block] = re.findall(r"```python\n(.*?)```", (PROJECT / "README.md").read_text(), re.DOTALL)
    command = [sys.executable, "-c", block + CHECKS]
    run = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr

"""The README's Python block runs, and its names exist."""

import re
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
README = (REPOSITORY / "shared" / "README.md").read_text()


def test_the_python_block_runs(tmp_path):
    (block,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    done = subprocess.run(
        [sys.executable, "-c", block],
        cwd=tmp_path,
        env={"PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"0\.\d{3} of the labels are wrong\n", done.stdout)
    assert len(block.splitlines()) <= 15


def test_what_it_names_is_there():
    for module in re.findall(r"`(\w+/\w+\.py)`", README):
        assert (REPOSITORY / "shared" / module).is_file(), module
    assert len(README.splitlines()) <= 120

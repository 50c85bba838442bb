"""Files that projects keep as copies of each other stay equal, byte for byte."""

from pathlib import Path

import pytest
from house import ALL_PROJECTS, ROOT

TORCH = ("instancegm", "re_sln", "lra_diffusion")
COPIES = {
    **dict.fromkeys(
        [
            f"run/{name}.py"
            for name in ("checkpoint", "device", "errors", "flags", "launch", "record")
        ],
        TORCH,
    ),
    "method/optimizers.py": TORCH,
    "method/ranks.py": TORCH,
    "scripts/common.sh": ALL_PROJECTS,
}


@pytest.mark.parametrize("name", COPIES)
def test_the_copies_are_equal(name):
    first, *others = (ROOT / Path(project, name) for project in COPIES[name])
    for other in others:
        assert other.read_bytes() == first.read_bytes(), (
            f"{other.relative_to(ROOT)} differs from {first.relative_to(ROOT)}: change both alike"
        )

"""The README's Python runs as it stands."""

import re

from conftest import PROJECT


def test_the_code_to_use_elsewhere_runs():
    [block] = re.findall(r"```python\n(.*?)```", (PROJECT / "README.md").read_text(), re.DOTALL)
    found = {}
    exec(block, found)
    assert found["weights"].shape == (8,)
    assert 0.99 < float(sum(found["weights"])) <= 1
    assert [g.shape for g in found["gradients"]] == [(4, 3), (3,)]

"""The README's example of use in other code runs as it is printed."""

import re

import torch
from conftest import SCRIPTS


def test_the_example_runs():
    (block,) = re.findall(r"```python\n(.*?)```", (SCRIPTS / "README.md").read_text(), re.DOTALL)
    names: dict[str, object] = {}
    exec(compile(block, "README.md", "exec"), names)
    first = names["net"].state_dict()["conv1.weight"]
    second = names["ema_model"].net.state_dict()["conv1.weight"]
    assert not torch.equal(first, second)
    assert torch.allclose(first, second, atol=0.1)

"""The README's piece for somebody else's loop runs as it stands."""

import re

import torch
from conftest import ROOT


def test_use_it_in_your_own_code_runs():
    text = (ROOT / "instancegm" / "README.md").read_text()
    section = text[text.index("## Use it in your own code") :]
    block = re.search(r"```python\n(.*?)```", section, re.DOTALL)
    names = {}
    exec(block[1], names)
    assert torch.isfinite(names["loss"])
    assert names["mixed_images"].shape == (64, 3, 32, 32)

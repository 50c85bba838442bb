"""Narrow networks on several threads, where a strided kernel of oneDNN ends the process."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NETWORKS = {
    "SmallResNet": "lra_diffusion.method.networks import SmallResNet as Net",
    "SimCLRNet": "lra_diffusion.encoders.networks import SimCLRNet as Net",
}
ARGUMENTS = {"SmallResNet": "'resnet18', 10, 8", "SimCLRNet": "'resnet18', 8"}


@pytest.mark.training
@pytest.mark.parametrize("name", NETWORKS)
def test_a_narrow_network_survives(name):
    code = f"""
import torch
from {NETWORKS[name]}
torch.set_num_threads(4)
net = Net({ARGUMENTS[name]}).to(memory_format=torch.channels_last)
for _ in range(8):
    images = torch.randn(34, 3, 32, 32).to(memory_format=torch.channels_last)
    net(images).sum().backward()
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr

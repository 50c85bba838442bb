"""The optimizers without torch's compiler; their file is the same in every torch project."""

import subprocess
import sys

import pytest
import torch

from re_sln.method import optimizers

SETTINGS = {
    "SGD": {"lr": 0.1, "momentum": 0.9, "weight_decay": 5e-4},
    "Adam": {"lr": 0.01},
}


def path_of(optimizer, fused, **settings):
    """Weights after each of six steps, with a state saved and loaded after the third."""
    generator = torch.Generator().manual_seed(0)
    weights = [torch.nn.Parameter(torch.randn(7, 3, generator=generator)) for _ in range(2)]
    running = optimizer(weights, fused=fused, **settings)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(running, 6)
    path = []
    for step in range(6):
        if step == 3:
            state = running.state_dict()
            running = optimizer(weights, fused=fused, **settings)
            running.load_state_dict(state)
            schedule.optimizer = running
        running.zero_grad()
        assert all(weight.grad is None for weight in weights)
        for weight in weights:
            weight.grad = torch.randn(7, 3, generator=generator)
        running.step()
        schedule.step()
        path.append(torch.cat([weight.detach().clone() for weight in weights]))
    return torch.stack(path)


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("name", SETTINGS)
def test_they_are_those_of_torch_bit_for_bit(name, fused):
    ours, theirs = (
        path_of(getattr(module, name), fused, **SETTINGS[name])
        for module in (optimizers, torch.optim)
    )
    assert torch.equal(ours, theirs)


def test_a_step_does_not_import_the_compiler():
    lines = """
import sys, torch
from re_sln.method.optimizers import SGD, Adam
weight = torch.nn.Parameter(torch.ones(3))
for optimizer in (SGD([weight], lr=0.1), Adam([weight])):
    weight.grad = torch.ones(3)
    optimizer.step()
    optimizer.zero_grad()
    optimizer.load_state_dict(optimizer.state_dict())
sys.exit("torch._dynamo" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", lines]).returncode == 0

"""Losses, targets and the EMA model against the formulas, written out slowly in plain Python."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from re_sln.method.ema import MomentumModel
from re_sln.method.losses import (
    corrected_targets,
    correction_weights,
    one_hot,
    perturb,
    soft_cross_entropy,
)


def log_softmax(row):
    total = math.log(sum(math.exp(value - max(row)) for value in row)) + max(row)
    return [value - total for value in row]


@pytest.mark.parametrize(
    ("rows", "classes", "sigma"), [(1, 2, 0.0), (7, 10, 1.0), (64, 100, 0.2), (5, 3, 30.0)]
)
def test_soft_cross_entropy_and_its_gradient_match_the_formula(rows, classes, sigma):
    generator = torch.Generator().manual_seed(rows)
    logits = torch.randn(rows, classes, generator=generator).requires_grad_()
    labels = torch.randint(0, classes, (rows,), generator=generator)
    targets = one_hot(labels, classes) + sigma * torch.randn(rows, classes, generator=generator)
    losses = soft_cross_entropy(logits, targets)
    losses.mean().backward()
    for i, (row, target) in enumerate(zip(logits.tolist(), targets.tolist())):
        log_p = log_softmax(row)
        assert losses[i].item() == pytest.approx(
            -sum(t * p for t, p in zip(target, log_p)), rel=1e-4, abs=1e-5
        )
        for k in range(classes):
            expected = (sum(target) * math.exp(log_p[k]) - target[k]) / rows
            assert logits.grad[i, k].item() == pytest.approx(expected, rel=1e-4, abs=1e-5)


def test_soft_cross_entropy_is_float32_under_autocast_and_keeps_float64():
    logits = torch.randn(4, 10, dtype=torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        loss = soft_cross_entropy(logits, one_hot(torch.arange(4), 10))
    assert loss.dtype == torch.float32
    assert soft_cross_entropy(logits.double(), torch.ones(4, 10).double()).dtype == torch.float64


def test_the_noise_on_the_targets_is_normal_fresh_and_absent_for_sigma_0():
    generator = torch.Generator().manual_seed(0)
    targets = one_hot(torch.arange(10_000) % 10, 10)
    first, second = perturb(targets, 0.5, generator), perturb(targets, 0.5, generator)
    noise = (first - targets).flatten()
    assert noise.mean().abs() < 0.01
    assert noise.std().item() == pytest.approx(0.5, rel=0.02)
    assert not torch.equal(first, second)
    assert first.min() < 0  # neither clipped nor normalised
    before = generator.get_state()
    assert perturb(targets, 0.0, generator) is targets
    assert torch.equal(generator.get_state(), before)


def test_a_high_loss_keeps_the_noisy_label_and_a_low_one_trusts_the_prediction():
    losses = torch.tensor([0.5, 3.0, 1.0])
    weights = correction_weights(losses)
    assert weights.tolist() == pytest.approx([0.0, 1.0, 0.2])
    noisy, predicted = one_hot(torch.tensor([0, 1, 2]), 3), one_hot(torch.tensor([1, 1, 0]), 3)
    targets = corrected_targets(weights, noisy, predicted)
    for i in range(3):
        for k in range(3):
            w = (losses[i] - 0.5) / 2.5
            assert targets[i, k].item() == pytest.approx(
                (w * noisy[i, k] + (1 - w) * predicted[i, k]).item(), abs=1e-6
            )


def test_equal_losses_keep_the_noisy_labels():
    assert correction_weights(torch.full((4,), 2.0)).tolist() == [1.0] * 4


def test_the_ema_model_averages_every_floating_entry_and_only_those():
    torch.manual_seed(0)
    net, average = (nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)) for _ in range(2))
    model = MomentumModel(net, average, 0.9)
    assert all(
        torch.equal(a, b) for a, b in zip(net.state_dict().values(), average.state_dict().values())
    )
    expected = {name: value.clone().numpy() for name, value in average.state_dict().items()}
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    for step in range(3):
        net.train()
        optimizer.zero_grad()
        net(torch.randn(8, 3)).square().sum().backward()
        optimizer.step()
        model.update()
        for name, value in net.state_dict().items():
            if "num_batches" not in name:
                expected[name] = 0.9 * expected[name] + np.float32(1 - 0.9) * value.numpy()
        for name, value in average.state_dict().items():
            np.testing.assert_allclose(value.numpy(), expected[name], atol=1e-6, err_msg=name)
        assert net.state_dict()["1.num_batches_tracked"] == step + 1
        assert average.state_dict()["1.num_batches_tracked"] == 0
    assert not any(parameter.requires_grad for parameter in average.parameters())

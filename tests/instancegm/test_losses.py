"""Every loss against the paper's sum, written slowly."""

import math

import numpy as np
import pytest
import torch
from torch.distributions import ContinuousBernoulli

from instancegm.method import losses

SHAPES = [(1, 2), (7, 10), (64, 100)]


def softmax(row):
    powers = [math.exp(value - max(row)) for value in row]
    return [power / sum(powers) for power in powers]


def logits_and_targets(rows, classes):
    generator = torch.Generator().manual_seed(rows)
    logits = 3 * torch.randn(rows, classes, generator=generator)
    return logits, torch.softmax(torch.randn(rows, classes, generator=generator), dim=1)


def test_one_hot_marks_the_label():
    assert losses.one_hot(torch.tensor([2, 0]), 3).tolist() == [[0, 0, 1], [1, 0, 0]]


@pytest.mark.parametrize("temperature", [0.5, 1.0])
def test_sharpen_matches_the_formula(temperature):
    probs = torch.tensor([[0.2, 0.3, 0.5], [0.0, 0.1, 0.9]], dtype=torch.float64)
    for row, got in zip(probs.tolist(), losses.sharpen(probs, temperature).tolist()):
        powered = [p ** (1 / temperature) for p in row]
        assert got == pytest.approx([p / sum(powered) for p in powered])


def test_co_guess_averages_the_probabilities_of_four_views():
    views = [logits_and_targets(5, 4)[0] + k for k in range(3)] + [torch.zeros(5, 4)]
    for row, got in enumerate(losses.co_guess(views, 0.5).tolist()):
        mean = [sum(softmax(view[row].tolist())[c] for view in views) / 4 for c in range(4)]
        assert got == pytest.approx([p**2 / sum(q**2 for q in mean) for p in mean], rel=1e-5)


def test_co_refine_trusts_the_label_by_its_clean_probability():
    first, second = logits_and_targets(3, 4)[0], torch.zeros(3, 4)
    given = losses.one_hot(torch.tensor([0, 3, 1]), 4)
    weights = torch.tensor([1.0, 0.6, 0.0])
    for row, got in enumerate(losses.co_refine([first, second], given, weights, 0.5).tolist()):
        w = weights[row].item()
        own = [
            (a + b) / 2 for a, b in zip(softmax(first[row].tolist()), softmax(second[row].tolist()))
        ]
        mixed = [w * g + (1 - w) * p for g, p in zip(given[row].tolist(), own)]
        assert got == pytest.approx([p**2 / sum(q**2 for q in mixed) for p in mixed], rel=1e-5)


def test_mixup_keeps_the_larger_share_of_the_row_itself():
    rows = torch.tensor([[0.0, 8.0], [4.0, 0.0]])
    assert losses.mixup(rows, torch.tensor([1, 0]), 0.75).tolist() == [[1.0, 6.0], [3.0, 2.0]]


@pytest.mark.parametrize(("rows", "classes"), SHAPES)
def test_soft_cross_entropy_matches_the_formula(rows, classes):
    logits, targets = logits_and_targets(rows, classes)
    pairs = zip(logits.tolist(), targets.tolist())
    expected = (
        sum(-sum(t * math.log(p) for t, p in zip(target, softmax(row))) for row, target in pairs)
        / rows
    )
    assert losses.soft_cross_entropy(logits, targets).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("rows", "classes"), SHAPES)
def test_squared_error_is_a_mean_over_rows_and_classes(rows, classes):
    logits, targets = logits_and_targets(rows, classes)
    pairs = zip(logits.tolist(), targets.tolist())
    total = sum(sum((p - t) ** 2 for t, p in zip(target, softmax(row))) for row, target in pairs)
    assert losses.squared_error(logits, targets).item() == pytest.approx(
        total / (rows * classes), rel=1e-5
    )


@pytest.mark.parametrize(("rows", "classes"), SHAPES)
def test_class_balance_penalty_matches_the_formula(rows, classes):
    logits, _ = logits_and_targets(rows, classes)
    probs = [softmax(row) for row in logits.tolist()]
    mean = [sum(row[c] for row in probs) / rows for c in range(classes)]
    expected = sum((1 / classes) * math.log((1 / classes) / p) for p in mean)
    assert losses.class_balance_penalty(logits).item() == pytest.approx(
        expected, rel=1e-4, abs=1e-6
    )


def test_class_balance_penalty_is_finite_for_a_class_nobody_predicts():
    logits = torch.tensor([[500.0, 0.0]], requires_grad=True)
    penalty = losses.class_balance_penalty(logits)
    penalty.backward()
    assert penalty.item() == pytest.approx(250 - math.log(2))
    assert logits.grad.isfinite().all()


def test_losses_of_bfloat16_logits_are_computed_in_float32():
    logits, targets = logits_and_targets(7, 10)
    for loss in (losses.soft_cross_entropy, losses.squared_error):
        assert loss(logits.bfloat16(), targets).dtype == torch.float32
        assert (
            loss(logits.bfloat16(), targets).item()
            == loss(logits.bfloat16().float(), targets).item()
        )


@pytest.mark.parametrize(
    ("epoch", "expected"), [(0, 0.0), (10, 0.0), (12.25, 25 * 2.25 / 16), (26, 25.0), (300, 25.0)]
)
def test_unlabelled_weight_ramps_over_sixteen_epochs(epoch, expected):
    assert losses.unlabelled_weight(epoch, warm_up=10, lambda_u=25) == expected


def test_continuous_bernoulli_matches_torch_everywhere():
    probs = torch.cat(
        [torch.linspace(0.001, 0.999, 401), torch.linspace(0.4985, 0.5015, 51)]
    ).double()
    values = torch.tensor([0.0, 0.3, 1.0], dtype=torch.float64)[:, None].expand(3, len(probs))
    expected = ContinuousBernoulli(probs=probs, validate_args=False).log_prob(values)
    got = losses.continuous_bernoulli_log_prob(values, probs.expand_as(values))
    np.testing.assert_allclose(got, expected, rtol=1e-7, atol=1e-7)


def test_continuous_bernoulli_gradient_is_finite_at_one_half():
    probs = torch.tensor([0.0, 0.5, 0.499, 1.0], requires_grad=True)
    losses.continuous_bernoulli_log_prob(torch.tensor([1.0, 0.5, 0.5, 1.0]), probs).sum().backward()
    assert probs.grad.isfinite().all()


def vae_inputs():
    rng = np.random.default_rng(0)
    tensors = {
        "images": rng.random((4, 3, 8, 8)),
        "reconstruction": 0.5 + 0.2 * rng.random((4, 3, 8, 8)),
        "noisy_label_logits": rng.normal(size=(4, 5)),
        "label_sample": rng.dirichlet(np.ones(5), 4),
        "mu": rng.normal(size=(4, 6)),
        "log_var": rng.normal(size=(4, 6)),
    }
    return {name: torch.from_numpy(value) for name, value in tensors.items()} | {
        "noisy_labels": torch.tensor([0, 4, 2, 2])
    }


@pytest.mark.parametrize("numerics", ["original", "paper"])
def test_vae_loss_matches_the_formulas(numerics):
    inputs = vae_inputs()
    weights = losses.VaeWeights(noisy_label=0.5, label_prior=0.1, latent_prior=0.01)
    got = losses.vae_loss(**inputs, weights=weights, numerics=numerics)

    log_prob = ContinuousBernoulli(probs=inputs["reconstruction"], validate_args=False).log_prob(
        inputs["images"]
    )
    assert got.reconstruction.item() == pytest.approx(-log_prob.mean().item())
    rows = zip(inputs["noisy_label_logits"].tolist(), inputs["noisy_labels"].tolist())
    assert got.noisy_label.item() == pytest.approx(
        0.5 * sum(-math.log(softmax(row)[c]) for row, c in rows) / 4
    )
    latent = [
        1 + v - m * m - math.exp(v)
        for m, v in zip(inputs["mu"].flatten().tolist(), inputs["log_var"].flatten().tolist())
    ]
    if numerics == "original":
        assert got.label_prior.item() == pytest.approx(0.1 * math.log(1 / 5 + 1e-8))
        assert got.latent_prior.item() == pytest.approx(-0.01 * sum(latent))
    else:
        divergence = (
            sum(sum(p * math.log(5 * p) for p in row) for row in inputs["label_sample"].tolist())
            / 4
        )
        assert got.label_prior.item() == pytest.approx(0.1 * divergence)
        assert got.latent_prior.item() == pytest.approx(-0.01 * 0.5 * sum(latent) / 4)


def test_original_label_prior_has_no_useful_gradient_and_the_papers_has():
    for numerics, moves in (("original", False), ("paper", True)):
        inputs = vae_inputs()
        logits = torch.randn(4, 5, dtype=torch.float64, requires_grad=True)
        inputs["label_sample"] = torch.softmax(logits, dim=1)
        losses.vae_loss(**inputs, numerics=numerics).label_prior.backward()
        assert (logits.grad.abs().max().item() > 1e-9) == moves

"""The losses and their gradients against the paper's sums, written slowly in plain Python."""

import math
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from noisy_instseg import losses
from noisy_instseg.losses import NEG, OS, PON, PSN

SHAPES = [(0, 8), (1, 1), (1, 3), (7, 8), (64, 8), (40, 80)]
A = -math.log(1e-4)
LOSSES = [
    losses.cross_entropy_terms,
    losses.reverse_cross_entropy_terms,
    losses.new_combination_loss,
    losses.symmetric_cross_entropy,
    losses.generalized_cross_entropy,
]


def softmax(row: list[float]) -> list[float]:
    powers = [math.exp(value - max(row)) for value in row]
    return [power / sum(powers) for power in powers]


def slow_terms(row: list[float], label: int) -> tuple[float, float]:
    probs = [max(p, 1e-7) for p in softmax(row)]
    targets = [1.0 if k == label else 1e-4 for k in range(len(row))]
    ce = -sum(t * math.log(p) for t, p in zip(targets, probs))
    return ce, -sum(p * math.log(t) for t, p in zip(targets, probs))


def slow_set(row: list[float], label: int, threshold: float | None) -> int:
    if label == len(row) - 1:
        return NEG
    if row.index(max(row)) == len(row) - 1:
        return PSN
    return PON if threshold is not None and slow_terms(row, label)[0] > threshold else OS


def batch(rows: int, classes: int, scale: float = 3.0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(rows + classes)
    logits = scale * torch.randn(rows, classes + 1, generator=generator)
    labels = torch.randint(0, classes + 1, (rows,), generator=generator)
    labels[::3] = classes
    logits[1::4, classes] += 10  # pseudo negatives
    return logits, labels


def plain(logits: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(ce, rce) literally, for autograd to differentiate."""
    probs = logits.softmax(dim=1).clamp(1e-7, 1)
    targets = torch.nn.functional.one_hot(labels, logits.shape[1]).to(logits.dtype).clamp(1e-4, 1)
    return -(targets * probs.log()).sum(dim=1), -(probs * targets.log()).sum(dim=1)


@pytest.mark.parametrize(("rows", "classes"), SHAPES)
@pytest.mark.parametrize("scale", [3.0, 30.0])
def test_every_loss_is_the_sum_of_the_paper(rows, classes, scale):
    logits, labels = batch(rows, classes, scale)
    pairs = list(zip(logits.tolist(), labels.tolist()))
    ce, rce = zip(*(slow_terms(*pair) for pair in pairs)) if pairs else ((), ())
    sets = [slow_set(*pair, None) for pair in pairs]
    combined = [0.7 * c if s in (NEG, PSN) else 1.3 * r for s, c, r in zip(sets, ce, rce)]
    generalized = [(1 - softmax(row)[label] ** 0.3) / 0.3 for row, label in pairs]
    for found, expected in (
        (losses.cross_entropy_terms(logits, labels), ce),
        (losses.reverse_cross_entropy_terms(logits, labels), rce),
        (losses.new_combination_loss(logits, labels, 0.7, 1.3), combined),
        (losses.symmetric_cross_entropy(logits, labels), [c + 0.1 * r for c, r in zip(ce, rce)]),
        (losses.generalized_cross_entropy(logits, labels), generalized),
    ):
        assert found.dtype == torch.float32
        assert found.shape == (rows,)
        assert found.tolist() == pytest.approx(list(expected), rel=1e-5, abs=2e-6)


@pytest.mark.parametrize(("rows", "classes"), SHAPES)
@pytest.mark.parametrize("threshold", [None, 6.0, 0.6])
def test_partition_follows_the_table(rows, classes, threshold):
    logits, labels = batch(rows, classes)
    expected = [
        slow_set(row, label, threshold) for row, label in zip(logits.tolist(), labels.tolist())
    ]
    assert losses.partition(logits, labels, threshold).tolist() == expected
    assert losses.partition(logits.log_softmax(dim=1), labels, threshold).tolist() == expected
    loss = losses.new_combination_loss(logits, labels, pon_threshold=threshold)
    assert [value == 0 for value in loss.tolist()] == [number == PON for number in expected]


def test_hand_checks():
    logits = torch.tensor([[0.5, -1, 2, 0.1]])
    foreground, background = torch.tensor([0]), torch.tensor([3])
    assert losses.new_combination_loss(logits, foreground).item() == pytest.approx(
        7.765613, rel=1e-6
    )
    assert losses.new_combination_loss(logits, background).item() == pytest.approx(
        2.252962, rel=1e-6
    )
    assert losses.new_combination_loss(logits, foreground, pon_threshold=0.6).item() == 0
    uniform = losses.new_combination_loss(torch.zeros(4, 9), torch.tensor([0, 3, 7, 8])).mean()
    assert uniform.item() == pytest.approx(6.689973, rel=1e-6)


def test_a_tie_with_background_is_an_object():
    logits = torch.tensor([[1.0, 0, 0, 1], [0, 0, 1, 1], [0, 0, 0, 0], [0, 0, 1, 1.5]])
    assert losses.partition(logits, torch.tensor([0, 1, 2, 1])).tolist() == [OS, OS, OS, PSN]


@pytest.mark.parametrize("scale", [1.0, 12.0])
def test_gradients_are_autograds(scale):
    logits, labels = batch(24, 8, scale)
    weights = torch.rand(24, generator=torch.Generator().manual_seed(1)).double()
    for rce_weight in (0.0, 0.1, 1.0):
        fast, slow = (logits.double().requires_grad_() for _ in range(2))
        (weights * losses.symmetric_cross_entropy(fast, labels, 1.0, rce_weight)).sum().backward()
        ce, rce = plain(slow, labels)
        (weights * (ce + rce_weight * rce)).sum().backward()
        torch.testing.assert_close(fast.grad, slow.grad, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("loss", LOSSES)
def test_gradcheck(loss):
    logits, labels = batch(6, 4)
    assert torch.autograd.gradcheck(lambda z: loss(z, labels), logits.double().requires_grad_())


def test_gradients_are_the_closed_forms():
    """Of section 1.4 of the paper's facts, with no entry clamped."""
    logits, labels = batch(10, 5, 1.0)
    probs = logits.double().softmax(dim=1)
    at_label = torch.nn.functional.one_hot(labels, 6).double()
    p_y = (probs * at_label).sum(dim=1, keepdim=True)
    expected = {
        losses.cross_entropy_terms: probs * (1 + 5e-4) - at_label.clamp(1e-4),
        losses.reverse_cross_entropy_terms: A * probs * (1 - at_label - (1 - p_y)),
        losses.generalized_cross_entropy: -(p_y**0.3) * (at_label - probs),
    }
    for loss, gradient in expected.items():
        leaf = logits.double().requires_grad_()
        loss(leaf, labels).sum().backward()
        torch.testing.assert_close(leaf.grad, gradient, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("loss", LOSSES)
def test_impossible_labels_give_finite_gradients(loss):
    logits = torch.tensor([[200.0, 0, 0], [0, 0, 200.0], [0, 300, -300]], requires_grad=True)
    values = loss(logits, torch.tensor([1, 0, 2]))
    values.sum().backward()
    assert torch.isfinite(values).all()
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_is_widened_and_autocast_changes_nothing(loss, dtype):
    logits, labels = batch(30, 8)
    logits = logits.to(dtype)
    expected = loss(logits.float(), labels)
    with torch.autocast("cpu", torch.bfloat16):
        leaf = logits.clone().requires_grad_()
        found = loss(leaf, labels)
        found.sum().backward()
    assert found.dtype == torch.float32
    assert torch.equal(found, expected)
    assert leaf.grad.dtype == dtype


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("label", [-1, -100, 9])
def test_a_label_without_a_column_is_refused(loss, label):
    with pytest.raises(
        ValueError, match=r"labels reach from .* 0 to 8 \(background\); check num_classes"
    ):
        loss(torch.zeros(2, 9), torch.tensor([0, label]))


@pytest.mark.training  # a second import of torch
def test_the_example_of_the_readme_runs():
    readme = Path(losses.__file__).with_name("README.md")
    (example,) = re.findall(r"```python\n(.*?)```", readme.read_text(), re.DOTALL)
    command, root = [sys.executable, "-c", example], readme.parents[1]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "'NEG': " in done.stdout

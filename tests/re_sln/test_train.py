"""The training loop against the algorithm written out step by step, and its edges."""

import numpy as np
import pytest
import torch
from conftest import TINY
from torch import nn

from re_sln.method.ema import MomentumModel
from re_sln.method.losses import one_hot
from re_sln.method.streams import stream_seed, torch_stream
from re_sln.method.train import (
    EvaluationSet,
    Learner,
    NonFiniteLossError,
    Settings,
    TrainingSet,
    correct_labels,
    epochs,
    evaluate,
    train_epoch,
)
from re_sln.run.config import parse
from re_sln.run.device import autocast
from re_sln.run.experiment import prepare

CPU = torch.device("cpu")
SAMPLES, CLASSES, FEATURES = 20, 5, 12


class Vectors:
    """A source of images without augmentation, so that the loop can be followed by hand."""

    device, evaluation_batch = CPU, 6

    def __init__(self, values):
        self.values = values

    def __len__(self):
        return len(self.values)

    def plain(self, batches, ranks):
        return (ranks.part(self.values[index]) for index in batches)

    def views(self, batches, seed, ranks):
        return self.plain(batches, ranks)


def settings(**changes):
    values = dict(
        batch_size=8,
        n_epochs=6,
        learning_rate=lambda epoch: 0.05,
        sigma=0.7,
        mo=True,
        lc_n_epoch=-1,
        recursive=True,
        plain_scoring=False,
        soft_predictions=False,
        seed=3,
        autocast=autocast("off", CPU),
    )
    return Settings(**{**values, **changes})


def small_learner(decay=0.9):
    torch.manual_seed(0)
    net, average = (
        nn.Sequential(nn.Linear(FEATURES, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, CLASSES))
        for _ in range(2)
    )
    ema = MomentumModel(net, average, decay)
    return Learner(
        net,
        net,
        ema,
        torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4),
    )


@pytest.fixture
def train_set():
    generator = torch.Generator().manual_seed(1)
    labels = torch.randint(0, CLASSES, (SAMPLES,), generator=generator)
    wrong = torch.rand(SAMPLES, generator=generator) < 0.4
    return TrainingSet(
        Vectors(torch.randn(SAMPLES, FEATURES, generator=generator)),
        one_hot(labels, CLASSES),
        wrong,
    )


def test_an_epoch_is_the_algorithm_written_out(train_set):
    learner, literal = small_learner(), small_learner()
    everything = torch.arange(SAMPLES)
    row = train_epoch(learner, train_set, everything, 0.7, settings(), epoch=1)

    order = torch.randperm(SAMPLES, generator=torch_stream(CPU, 3, 1, "shuffle"))
    noise = torch_stream(CPU, 3, 1, "sln")
    losses, correct = {}, {}
    net, average = literal.net.train(), literal.ema.net
    for start in range(0, SAMPLES, 8):
        index = order[start : start + 8]
        z = torch.randn(len(index), CLASSES, generator=noise)
        logits = net(train_set.images.values[index])
        loss = torch.zeros(())
        for row_number, sample in enumerate(index.tolist()):
            target = train_set.noisy[sample] + 0.7 * z[row_number]
            per_sample = -(target * torch.log_softmax(logits[row_number], 0)).sum()
            losses[sample] = per_sample.item()
            correct[sample] = logits[row_number].argmax() == train_set.noisy[sample].argmax()
            loss = loss + per_sample / len(index)
        literal.optimizer.zero_grad()
        loss.backward()
        literal.optimizer.step()
        for a, b in zip(average.state_dict().values(), net.state_dict().values()):
            if a.is_floating_point():
                a.copy_(0.9 * a + 0.1 * b)
    for one, other in ((learner.net, net), (learner.ema.net, average)):
        for a, b in zip(one.state_dict().values(), other.state_dict().values()):
            torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)
    wrong = [i for i in range(SAMPLES) if train_set.is_noisy[i]]
    right = [i for i in range(SAMPLES) if not train_set.is_noisy[i]]
    assert row["loss_train"] == pytest.approx(np.mean(list(losses.values())), rel=1e-5)
    assert row["loss_train_noisy"] == pytest.approx(np.mean([losses[i] for i in wrong]), rel=1e-5)
    assert row["loss_train_clean"] == pytest.approx(np.mean([losses[i] for i in right]), rel=1e-5)
    assert row["accuracy_train"] == pytest.approx(
        100 * np.mean([bool(right) for right in correct.values()])
    )


@pytest.mark.parametrize("recursive", [True, False])
@pytest.mark.parametrize("soft", [True, False])
def test_label_correction_over_four_epochs_is_the_recursion_written_out(train_set, recursive, soft):
    learner = small_learner()
    chosen = settings(recursive=recursive, soft_predictions=soft, lc_n_epoch=1)
    reference = train_set.noisy
    for epoch in range(1, 5):
        with torch.no_grad():
            logits = learner.ema.net.eval()(train_set.images.values)
        losses = [
            -(reference[i] * torch.log_softmax(logits[i], 0)).sum().item() for i in range(SAMPLES)
        ]
        expected = torch.zeros(SAMPLES, CLASSES)
        for i in range(SAMPLES):
            w = (losses[i] - min(losses)) / (max(losses) - min(losses))
            predicted = (
                torch.softmax(logits[i], 0) if soft else one_hot(logits[i].argmax(), CLASSES)
            )
            expected[i] = w * train_set.noisy[i] + (1 - w) * predicted
        learner.targets = correct_labels(learner, train_set, torch.arange(SAMPLES), chosen, epoch)
        torch.testing.assert_close(learner.targets, expected, atol=1e-5, rtol=1e-5)
        reference = expected if recursive else train_set.noisy
        train_epoch(learner, train_set, torch.arange(SAMPLES), 0.0, chosen, epoch)


def test_sigma_is_0_and_the_targets_change_from_the_first_correction_on(train_set):
    learner = small_learner()
    tests = {"test": EvaluationSet(train_set.images, train_set.noisy.argmax(1))}
    rows, targets = [], []
    for row in epochs(learner, train_set, tests, settings(lc_n_epoch=4)):
        rows.append(row)
        targets.append(learner.targets)
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert [row["sigma"] for row in rows] == [0.7, 0.7, 0.7, 0.0, 0.0, 0.0]
    assert targets[:3] == [None, None, None]
    assert not torch.equal(targets[3], targets[4])
    assert all(target.sum(1).allclose(torch.ones(SAMPLES)) for target in targets[3:])
    assert rows[-1]["accuracy"] == rows[-1]["accuracy_test_ema"]


def test_evaluation_is_in_eval_mode_and_counts_samples_not_batches(train_set):
    learner = small_learner()
    result = evaluate(
        learner.net, EvaluationSet(train_set.images, train_set.noisy.argmax(1)), settings(), 1
    )
    with torch.no_grad():
        logits = learner.net.eval()(train_set.images.values)
    assert result["loss"].item() == pytest.approx(
        nn.functional.cross_entropy(logits, train_set.noisy.argmax(1)).item()
    )
    assert result["accuracy"].item() == pytest.approx(
        100 * (logits.argmax(1) == train_set.noisy.argmax(1)).float().mean()
    )


@pytest.mark.parametrize(
    ("wrong", "unknown"), [(True, "loss_train_clean"), (False, "loss_train_noisy"), (None, None)]
)
def test_a_group_without_samples_has_no_loss(train_set, wrong, unknown):
    flags = None if wrong is None else torch.full((SAMPLES,), wrong)
    row = train_epoch(
        small_learner(),
        train_set._replace(is_noisy=flags),
        torch.arange(SAMPLES),
        0.0,
        settings(),
        1,
    )
    groups = {name for name in ("loss_train_noisy", "loss_train_clean") if row[name] is None}
    assert groups == ({"loss_train_noisy", "loss_train_clean"} if wrong is None else {unknown})


def test_a_loss_that_is_not_finite_names_epoch_and_step(train_set):
    train_set.images.values[
        int(torch.randperm(SAMPLES, generator=torch_stream(CPU, 3, 2, "shuffle"))[9])
    ] = torch.inf
    with pytest.raises(NonFiniteLossError, match="epoch 2, step 2 of 3"):
        train_epoch(small_learner(), train_set, torch.arange(SAMPLES), 0.0, settings(), 2)


def test_an_epoch_of_clothing1m_has_equally_many_samples_of_each_class(train_set):
    per_class = train_set._replace(
        noisy=one_hot(torch.arange(SAMPLES) % CLASSES, CLASSES), per_class=3
    )
    first, again, other = (
        per_class.samples(torch_stream(CPU, 3, epoch, "samples")) for epoch in (1, 1, 2)
    )
    assert torch.bincount(first % CLASSES).tolist() == [3] * CLASSES
    assert len(set(first.tolist())) == 3 * CLASSES
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_streams_differ_in_seed_epoch_and_purpose():
    seeds = {
        stream_seed(seed, epoch, name)
        for seed in (0, 1)
        for epoch in (1, 2)
        for name in ("sln", "shuffle")
    }
    assert len(seeds) == 8


def test_both_networks_start_from_the_second_one_drawn(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = prepare(parse("train_cifar", [*TINY, "--method", "sln_mo", "--seed", "123"]))
    torch.manual_seed(123)
    _, second = (type(run.learner.net)(10, 10, 1) for _ in range(2))
    for net in (run.learner.net, run.learner.ema.net):
        assert all(
            torch.equal(a, b)
            for a, b in zip(net.state_dict().values(), second.state_dict().values())
        )


@pytest.mark.training
def test_bfloat16_and_float32_agree_on_an_epoch(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    figures = []
    for amp in ("off", "bf16"):
        run = prepare(
            parse("train_cifar", [*TINY, "--method", "ce", "--amp", amp, "--lr", "0.001"])
        )
        figures.append(
            next(epochs(run.learner, run.data.train_set, run.data.test_sets, run.settings))[
                "loss_train"
            ]
        )
    assert figures[0] == pytest.approx(figures[1], rel=0.01)

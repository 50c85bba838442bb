"""Cross-entropy training against the loop written out, what it records, and its edges."""

import math

import pytest
import torch
from torch import nn

from lra_diffusion.method import classifier
from lra_diffusion.method.classifier import (
    Classifier,
    LabelledImages,
    Settings,
    cosine,
    epochs,
    predict,
    train_epoch,
)
from lra_diffusion.method.epoch import NonFiniteLossError, stream_seed, torch_stream
from lra_diffusion.method.ranks import ALONE
from lra_diffusion.run.checkpoint import load_optimizer
from lra_diffusion.run.device import autocast

CPU = torch.device("cpu")
SAMPLES, CLASSES, FEATURES = 20, 5, 12


class Vectors:
    """A source of images whose views are scaled at random, so that the loop can be followed by
    hand.
    """

    device, evaluation_batch, normalisation = CPU, 6, ((0.0,), (1.0,))

    def __init__(self, values):
        self.values = values

    def __len__(self):
        return len(self.values)

    def plain(self, batches):
        return (self.values[index] for index in batches)

    def views(self, batches, seed, ranks):
        generator = torch.Generator().manual_seed(seed)
        return (
            self.values[index] * (0.5 + torch.rand(len(index), 1, generator=generator))
            for index in batches
        )


def settings(**changes):
    values = dict(
        batch_size=8,
        n_epochs=3,
        learning_rate=lambda epoch: 0.1 / epoch,
        seed=3,
        autocast=autocast("off", CPU),
    )
    return Settings(**{**values, **changes})


def small_classifier():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(FEATURES, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, CLASSES))
    return Classifier(
        net,
        torch.optim.SGD(
            net.parameters(), 0.1, momentum=0.9, nesterov=True, weight_decay=5e-4, fused=True
        ),
        ALONE,
        net,
    )


@pytest.fixture
def train_set():
    generator = torch.Generator().manual_seed(1)
    labels = torch.randint(0, CLASSES, (SAMPLES,), generator=generator)
    return LabelledImages(Vectors(torch.randn(SAMPLES, FEATURES, generator=generator)), labels)


def test_an_epoch_is_the_loop_written_out_and_records_each_output_before_its_update(train_set):
    trained, literal = small_classifier(), small_classifier()
    recorded = torch.full((SAMPLES, CLASSES), -1.0)
    row = train_epoch(trained, train_set, settings(), 2, recorded)

    order = torch.randperm(SAMPLES, generator=torch_stream(CPU, 3, 2, "shuffle")).tolist()
    views = torch.Generator().manual_seed(stream_seed(3, 2, "augmentation"))
    losses, outputs = [], {}
    literal.net.train()
    for start in range(0, SAMPLES, 8):
        samples = order[start : start + 8]
        scale = 0.5 + torch.rand(len(samples), 1, generator=views)
        logits = literal.net(torch.stack([train_set.images.values[i] for i in samples]) * scale)
        batch = []
        for i, sample in enumerate(samples):
            exponentials = [math.exp(value) for value in logits[i].tolist()]
            outputs[sample] = [value / sum(exponentials) for value in exponentials]
            batch.append(logits[i].logsumexp(0) - logits[i, train_set.labels[sample]])
        literal.optimizer.zero_grad()
        torch.stack(batch).mean().backward()
        literal.optimizer.step()
        losses += [loss.item() for loss in batch]
    assert recorded.tolist() == [pytest.approx(outputs[i], rel=1e-4) for i in range(SAMPLES)]
    assert row["loss"] == pytest.approx(sum(losses) / SAMPLES, rel=1e-5)
    right = [
        max(range(CLASSES), key=outputs[i].__getitem__) == train_set.labels[i]
        for i in range(SAMPLES)
    ]
    assert row["accuracy_train"] == pytest.approx(100 * sum(right) / SAMPLES)
    for one, other in zip(trained.net.state_dict().values(), literal.net.state_dict().values()):
        torch.testing.assert_close(one, other)


def test_rows_hold_rate_and_accuracies_and_going_on_from_a_state_changes_nothing(train_set):
    whole = small_classifier()
    tests = {
        "val": LabelledImages(train_set.images, (train_set.labels + 1) % CLASSES),
        "test": train_set,
    }
    rows = list(epochs(whole, train_set, tests, settings()))
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    assert [row["lr"] for row in rows] == [0.1, 0.05, 0.1 / 3]
    expected = (
        (predict(whole.net, train_set.images, settings()).argmax(1) == train_set.labels)
        .float()
        .mean()
        .item()
    )
    assert rows[-1]["accuracy"] == pytest.approx(100 * expected)
    assert all(row["accuracy"] + row["accuracy_val"] <= 100.001 for row in rows)
    assert not whole.net.training

    first, second = small_classifier(), small_classifier()
    list(epochs(first, train_set, tests, settings(n_epochs=1)))
    second.load_networks(first.state_dict())
    load_optimizer(second.optimizer, first.state_dict()["optimizer"])
    torch.manual_seed(99)  # the loop must not draw from the global generator
    again = list(epochs(second, train_set, tests, settings(), first_epoch=2))
    clock = ("seconds", "images_per_s")
    assert [{k: v for k, v in row.items() if k not in clock} for row in again] == [
        {k: v for k, v in row.items() if k not in clock} for row in rows[1:]
    ]
    assert all(
        torch.equal(a, b)
        for a, b in zip(second.net.state_dict().values(), whole.net.state_dict().values())
    )


def test_a_loss_or_an_output_that_is_not_finite_names_its_place(train_set):
    broken = small_classifier()
    train_set.images.values[7] = torch.nan
    place = (
        torch.randperm(SAMPLES, generator=torch_stream(CPU, 3, 1, "shuffle")).tolist().index(7) // 8
        + 1
    )
    with pytest.raises(NonFiniteLossError, match=f"epoch 1, step {place} of 3: loss nan"):
        next(epochs(broken, train_set, {}, settings()))
    bad = LabelledImages(
        Vectors(torch.full((4, FEATURES), torch.inf)), torch.zeros(4, dtype=torch.int64)
    )
    good = LabelledImages(Vectors(torch.randn(8, FEATURES)), torch.zeros(8, dtype=torch.int64))
    with pytest.raises(NonFiniteLossError, match="epoch 1, test images"):
        next(epochs(small_classifier(), good, {"test": bad}, settings()))


def test_the_built_network_follows_its_seed_and_its_rate_the_cosine():
    one, same, other = (classifier.build("resnet18", 4, 3, CPU, seed) for seed in (1, 1, 2))
    assert all(
        torch.equal(a, b)
        for a, b in zip(one.net.state_dict().values(), same.net.state_dict().values())
    )
    assert not torch.equal(one.net.conv1.weight, other.net.conv1.weight)
    assert one.net(torch.zeros(2, 3, 32, 32)).shape == (2, 3)
    rate = cosine(0.1, 4)
    assert [rate(epoch) for epoch in (1, 3)] == pytest.approx([0.1, 0.05])
    assert 0 < rate(4) < 0.02

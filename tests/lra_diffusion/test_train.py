"""The training loop: one step against the algorithm written out, the average, evaluation, what
--legacy changes.
"""

import copy
import dataclasses
import math
from contextlib import nullcontext

import numpy as np
import pytest
import tiny
import torch
from torch.nn import functional as F

from lra_diffusion.method.diffusion import antithetic_times, betas, cumulative_alphas
from lra_diffusion.method.epoch import NonFiniteLossError, shuffled, torch_stream
from lra_diffusion.method.evaluate import accuracies, embed_images, evaluation_epochs, predict
from lra_diffusion.method.networks import WeightAverage
from lra_diffusion.method.train import train_epoch
from lra_diffusion.run.config import parse
from lra_diffusion.run.experiment import Prepared, prepare


def prepared(config) -> Prepared:
    return prepare(config, torch.device("cpu"))


@pytest.fixture
def experiment(tmp_path, monkeypatch):
    """Makes an experiment on digits with their pixels as features; float32."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DATA_ROOT", str(tmp_path / "data"))

    def make(*flags: str) -> Prepared:
        return prepared(
            parse("train_CIFAR", [*tiny.with_features(tmp_path), "--amp", "off", *flags])
        )

    return make


@pytest.mark.training
def test_a_step_is_the_algorithm(experiment):
    """One epoch of one batch: retrieval draw, forward process, weighted loss, clipping of each part
    by itself, Adam.
    """
    run = experiment("--batch_size", "100", "--lr", "0.5")
    before = copy.deepcopy(run.learner)
    samples = torch.arange(100)
    row = train_epoch(
        run.learner, run.train_set, samples, dataclasses.replace(run.config, warmup_epochs=2), 2
    )

    seed, epoch = 123, 2
    stream = {
        name: torch_stream("cpu", seed, epoch, name)
        for name in ("shuffle", "retrieval", "time", "noise")
    }
    [index] = shuffled(samples, 100, stream["shuffle"])
    labels, features = run.train_set.labels, run.data.train.features
    distances = torch.cdist(features[index].double(), features.double())
    neighbours = distances.argsort(dim=1, stable=True)[:, :10]
    candidates = torch.cat([labels[neighbours], labels[index][:, None]], dim=1)
    positions = torch.randint(0, 11, (100,), generator=stream["retrieval"])
    drawn = candidates[torch.arange(100), positions]
    counts = (candidates == drawn[:, None]).sum(dim=1).float()
    weights = counts / counts.sum()
    t = antithetic_times(100, 1000, stream["time"])
    noise = torch.randn(100, 10, generator=stream["noise"])
    alpha = cumulative_alphas(betas())[t][:, None]
    y_t = alpha.sqrt() * F.one_hot(drawn, 10) + (1 - alpha).sqrt() * noise
    predictor, encoder = before.predictor.train(), before.encoder.train()
    [images] = run.train_set.images.plain([index])  # digits are not augmented
    predicted = predictor(encoder(images), y_t, t, features[index])
    loss = (weights[:, None] * (noise - predicted) ** 2).sum(dim=0).mean()
    loss.backward()
    assert row["loss"] == pytest.approx(loss.item(), rel=1e-5)
    assert row["drawn_labels_right"] == pytest.approx(
        100 * (weights * (drawn == run.train_set.clean[index])).sum().item(), rel=1e-5
    )
    lr = 0.5 * 1 / 2  # the first step of epoch 2 of two epochs of warm-up
    assert row["lr"] == pytest.approx(lr)
    for net, trained in ((predictor, run.learner.predictor), (encoder, run.learner.encoder)):
        norm = math.sqrt(sum(p.grad.square().sum().item() for p in net.parameters()))
        for parameter, after in zip(net.parameters(), trained.parameters()):
            gradient = parameter.grad * min(1, 1 / (norm + 1e-6))
            expected = parameter - lr * gradient / (gradient.abs() + 1e-8)  # Adam's first step
            far = gradient.abs() > 1e-5  # where the sign of the gradient is no matter of rounding
            np.testing.assert_allclose(after[far].detach(), expected[far].detach(), atol=1e-3)


def test_the_average_covers_all_floating_entries_of_every_part():
    torch.manual_seed(0)
    nets = [torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2)]
    average = WeightAverage(nets, 0.9)
    expected = {
        id(net): {name: value.clone() for name, value in net.state_dict().items()} for net in nets
    }
    for _ in range(3):
        with torch.no_grad():
            for net in nets:
                for value in net.state_dict().values():
                    value.add_(1)
        average.update()
        for net in nets:
            for name, value in net.state_dict().items():
                if value.is_floating_point():
                    expected[id(net)][name] = 0.9 * expected[id(net)][name] + 0.1 * value
    for net, averaged in zip(nets, average.nets):
        for name, value in averaged.state_dict().items():
            np.testing.assert_allclose(
                value.numpy(), expected[id(net)][name].numpy(), rtol=1e-5, atol=1e-7
            )


@pytest.mark.training
def test_a_frozen_encoder_keeps_its_weights_and_is_not_averaged(experiment):
    run = experiment("--freeze_encoder")
    before = [parameter.clone() for parameter in run.learner.encoder.parameters()]
    predictor = [parameter.clone() for parameter in run.learner.predictor.parameters()]
    train_epoch(run.learner, run.train_set, torch.arange(100), run.config, 2)
    assert all(torch.equal(*pair) for pair in zip(before, run.learner.encoder.parameters()))
    assert not all(
        torch.equal(*pair) for pair in zip(predictor, run.learner.predictor.parameters())
    )
    assert len(run.learner.average.nets) == 1
    assert run.learner.model("ema")[1] is run.learner.encoder


@pytest.mark.training
def test_a_prediction_does_not_depend_on_the_other_images_unless_legacy(experiment):
    run = experiment()
    test_set = run.test_sets["test"]
    [together] = predict([run.learner.model("raw")], test_set, run.config, run.learner.autocast)
    statistics = run.learner.encoder.bn1.running_mean.clone()
    run.train_set.images.evaluation_batch = test_set.images.evaluation_batch = 7
    [apart] = predict([run.learner.model("raw")], test_set, run.config, run.learner.autocast)
    np.testing.assert_allclose(together.numpy(), apart.numpy(), atol=1e-5)
    assert torch.equal(statistics, run.learner.encoder.bn1.running_mean)

    legacy = experiment("--legacy")
    [first] = embed_images([legacy.learner.encoder], test_set.images, legacy.config, nullcontext)
    assert not torch.equal(statistics, legacy.learner.encoder.bn1.running_mean)
    smaller = dataclasses.replace(legacy.config, batch_size=10)
    [other] = embed_images([legacy.learner.encoder], test_set.images, smaller, nullcontext)
    assert (first - other).abs().max() > 1e-4


@pytest.mark.training
def test_the_better_weights_on_validation_count(experiment):
    run = experiment()
    train_epoch(run.learner, run.train_set, torch.arange(100), run.config, 2)
    row = accuracies(run.learner, run.test_sets, run.config, 4)
    better = "ema" if row["accuracy_val_ema"] > row["accuracy_val_raw"] else "raw"
    assert (row["weights"], row["selection"], row["accuracy"]) == (
        better,
        row[f"accuracy_val_{better}"],
        row[f"accuracy_test_{better}"],
    )
    forced = dataclasses.replace(run.config, eval_weights="ema", select="test")
    row = accuracies(run.learner, run.test_sets, forced, 4)
    assert (row["weights"], row["selection"], row["accuracy"]) == (
        "ema",
        *[row["accuracy_test_ema"]] * 2,
    )
    assert accuracies(run.learner, run.test_sets, run.config, 1)["accuracy"] is None


@pytest.mark.training
def test_a_last_batch_of_one_image_joins_the_one_before(experiment):
    run = experiment("--limit_train", "51")
    assert train_epoch(run.learner, run.train_set, torch.arange(51), run.config, 1)["images"] == 51
    dropped = dataclasses.replace(run.config, drop_last=True)
    assert train_epoch(run.learner, run.train_set, torch.arange(51), dropped, 1)["images"] == 50


@pytest.mark.training
def test_a_loss_that_is_not_finite_stops_within_the_epoch(experiment):
    run = experiment()
    with torch.no_grad():
        run.learner.predictor.lin4.bias.fill_(float("nan"))
    with pytest.raises(NonFiniteLossError, match="epoch 3, step 1 of 4: loss nan"):
        train_epoch(run.learner, run.train_set, torch.arange(100), run.config, 3)


@pytest.mark.training
def test_augmented_queries_are_searched_anew_and_find_themselves_where_nothing_is_augmented(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DATA_ROOT", str(tmp_path / "data"))
    tiny.simclr_weights(tmp_path)
    flags = [
        "--dataset",
        "digits",
        "--noise_file",
        str(tiny.noisy_digits(tmp_path)),
        *tiny.SMALL,
        "--amp",
        "off",
    ]
    index = torch.tensor([5, 0, 42])
    guidance = {}
    for how in ("cached", "augmented"):
        for excluded in ("--exclude_self", "--no-exclude_self"):
            run = prepared(parse("train_CIFAR", [*flags, "--fp_queries", how, excluded]))
            [images] = run.train_set.images.plain([index])
            guidance[how, excluded] = run.train_set.guide(index, images)
    for excluded in ("--exclude_self", "--no-exclude_self"):
        cached, augmented = guidance["cached", excluded], guidance["augmented", excluded]
        assert torch.equal(cached.candidates, augmented.candidates)
        np.testing.assert_allclose(cached.features.numpy(), augmented.features.numpy(), atol=1e-5)
    labels = run.train_set.labels
    plain = guidance["cached", "--no-exclude_self"].candidates
    assert torch.equal(plain[:, 0], labels[index])  # itself, the nearest
    assert torch.equal(plain[:, -1], labels[index])
    without = guidance["cached", "--exclude_self"].candidates
    assert torch.equal(without[:, :9], plain[:, 1:10])


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ((200, 5, 5, False), [*range(10, 200, 5), 200]),
        ((3, 5, 5, False), [3]),
        ((4, 1, 1, False), [1, 2, 3, 4]),
        ((12, 5, 5, True), [6, 11]),
        ((3, 1, 1, True), [1, 2, 3]),
    ],
)
def test_evaluated_epochs(flags, expected):
    assert sorted(evaluation_epochs(*flags)) == expected


def test_balanced_epochs_draw_equally_many_of_each_class_anew(experiment):
    run = experiment()
    train_set = run.train_set._replace(per_class=5)
    first, second = (
        train_set.samples(torch_stream("cpu", 1, epoch, "samples")) for epoch in (1, 2)
    )
    assert torch.bincount(train_set.labels[first]).tolist() == [5] * 10
    assert len(first.unique()) == 50
    assert not torch.equal(first, second)


@pytest.mark.training
def test_legacy_retrieves_among_features_of_augmented_images(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DATA_ROOT", str(tmp_path / "data"))
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (60, 32, 32, 3), dtype=np.uint8)
    labels = np.arange(60) % 2
    np.savez(
        "mine.npz",
        train_images=images[:40],
        train_labels=labels[:40],
        test_images=images[40:],
        test_labels=labels[40:],
    )
    weights = tiny.simclr_weights(tmp_path, "folder")
    flags = [
        "--dataset",
        "folder",
        "--data_path",
        "mine.npz",
        "--fp_weights",
        str(weights),
        "--cache_dir",
        "cache",
        "--k",
        "3",
        "--width",
        "4",
        "--feature_dim",
        "8",
        "--amp",
        "off",
    ]
    banks = {}
    for name, extra in {
        "default": [],
        "legacy": ["--legacy"],
        "again": ["--legacy"],
        "other": ["--legacy", "--seed", "1"],
    }.items():
        banks[name] = prepared(
            parse("train_CIFAR", [*flags, *extra])
        ).train_set.guide._bank.features
    assert torch.equal(banks["legacy"], banks["again"])  # drawn once, kept in the cache
    for other in ("default", "other"):
        assert not torch.allclose(banks["legacy"], banks[other], atol=1e-4)

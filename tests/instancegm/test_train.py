"""The steps of training: what a co-divide step does to the weights, and whose weights move."""

import contextlib
import copy
import math

import numpy as np
import pytest
import torch

from instancegm.method.images import DeviceImages, stream_seed, torch_stream
from instancegm.method.mixture import Split
from instancegm.method.networks import PreActResNet18
from instancegm.method.peers import (
    NonFiniteLossError,
    Peer,
    TrainingSet,
    ensemble_accuracy,
    predict,
)
from instancegm.method.settings import Settings
from instancegm.method.train import co_divide_epoch, warm_up_epoch
from instancegm.method.vae import Vae

CPU = torch.device("cpu")
CLASSES = 3
ALL = np.arange(14)


class Linear(torch.nn.Module):
    """A classifier simple enough to follow by hand."""

    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(3 * 32 * 32, CLASSES)

    def forward(self, images):
        return self.linear(images.flatten(1))


def settings(**changes):
    return Settings(batch_size=8, seed=5, **changes)


def training_set(count=14):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
    return TrainingSet(
        DeviceImages(images, CPU), torch.from_numpy(rng.integers(0, CLASSES, count)), CLASSES
    )


def peer(number, net=None, vae=False):
    torch.manual_seed(number)
    net = PreActResNet18(CLASSES, width=2) if net is None else net
    generative = Vae(CLASSES, 4) if vae else None
    return Peer(
        number,
        net,
        torch.optim.SGD(net.parameters(), lr=0.02, momentum=0.9, weight_decay=5e-4),
        generative,
        torch.optim.Adam(generative.parameters(), lr=1e-3) if vae else None,
        net,
        generative,
    )


def split_of(labelled, count=14, clean_prob=0.8):
    rest = [i for i in range(count) if i not in labelled]
    return Split(
        np.array(labelled), np.array(rest, dtype=np.int64), np.full(len(labelled), clean_prob)
    )


def test_one_dividemix_step_matches_the_algorithm_written_out(monkeypatch):
    # Augmentations draw nothing here.
    monkeypatch.setattr(
        DeviceImages, "_view", lambda self, index, *random: next(self.plain([index]))
    )
    train_set, chosen = training_set(), settings()
    first, other = peer(1, Linear()), peer(2, Linear())
    weight, bias = (p.detach().double().numpy().copy() for p in first.net.parameters())
    other_weight, other_bias = (p.detach().double().numpy() for p in other.net.parameters())
    labelled = [0, 2, 3, 5, 7, 8, 9, 11]
    epoch = 12
    co_divide_epoch(first, other, split_of(labelled), ALL, train_set, chosen, epoch)

    def order(stream, count):
        generator = torch_stream(CPU, 5, epoch, f"co-divide 1{stream}")
        return torch.randperm(count, generator=generator).numpy()

    x_index = np.array(labelled)[order(", labelled", 8)]
    u_index = np.array([i for i in range(14) if i not in labelled])[order(", unlabelled", 6)]
    partner = order("", 28)
    draw = np.random.default_rng(stream_seed(5, epoch, "co-divide 1, mixup")).beta(4.0, 4.0)
    coefficient = max(draw, 1 - draw)

    def probabilities(w, b, x):
        logits = x @ w.T + b
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        return powers / powers.sum(axis=1, keepdims=True)

    def sharpened(p):
        return p**2 / (p**2).sum(axis=1, keepdims=True)

    images = next(train_set.images.plain([torch.arange(14)])).flatten(1).double().numpy()
    x, u = images[x_index], images[u_index]
    targets_u = sharpened(
        (2 * probabilities(weight, bias, u) + 2 * probabilities(other_weight, other_bias, u)) / 4
    )
    given = np.eye(CLASSES)[train_set.noisy_labels.numpy()[x_index]]
    targets_x = sharpened(0.8 * given + 0.2 * probabilities(weight, bias, x))
    rows, targets = (
        np.concatenate([x, x, u, u]),
        np.concatenate([targets_x, targets_x, targets_u, targets_u]),
    )
    rows = coefficient * rows + (1 - coefficient) * rows[partner]
    targets = coefficient * targets + (1 - coefficient) * targets[partner]

    p = probabilities(weight, bias, rows)
    ramp = 25 * (epoch + 0 / (8 // 8 + 1) - 10) / 16
    grad = np.zeros_like(p)  # of the total loss with respect to the logits
    grad[:16] += (p[:16] - targets[:16]) / 16
    error = 2 * (p[16:] - targets[16:]) / (12 * CLASSES)
    grad[16:] += ramp * p[16:] * (error - (error * p[16:]).sum(axis=1, keepdims=True))
    by_mean = -1 / (CLASSES * p.mean(axis=0)) / 28  # d penalty / d p
    grad += p * (by_mean - (by_mean * p).sum(axis=1, keepdims=True))
    expected_weight = weight - 0.02 * (grad.T @ rows + 5e-4 * weight)
    expected_bias = bias - 0.02 * (grad.sum(axis=0) + 5e-4 * bias)
    new_weight, new_bias = (p.detach().numpy() for p in first.net.parameters())
    np.testing.assert_allclose(new_weight, expected_weight, atol=1e-6)
    np.testing.assert_allclose(new_bias, expected_bias, atol=1e-6)


def moved(before, after):
    return any(not torch.equal(before[name], value) for name, value in after.items())


@pytest.mark.parametrize(("guess_eval", "forwards"), [(False, 6), (True, 2)])
def test_a_step_moves_one_peer_and_its_running_statistics_once_per_train_mode_forward(
    guess_eval, forwards
):
    first, other = peer(1, vae=True), peer(2, vae=True)
    states = [
        copy.deepcopy(part.state_dict()) for part in (first.net, first.vae, other.net, other.vae)
    ]
    terms = co_divide_epoch(
        first,
        other,
        split_of([0, 1, 2, 3, 4]),
        ALL,
        training_set(),
        settings(guess_eval=guess_eval),
        11,
    )
    assert moved(states[0], first.net.state_dict())
    assert moved(states[1], first.vae.state_dict())
    assert not moved(states[2], other.net.state_dict())
    assert not moved(states[3], other.vae.state_dict())
    assert first.net.bn1.num_batches_tracked == forwards
    assert first.vae.z_encoder.encoder[0][1].num_batches_tracked == 1
    assert set(terms) == {
        "loss",
        "labelled_loss",
        "unlabelled_loss",
        "penalty",
        "reconstruction",
        "noisy_label",
        "label_prior",
        "latent_prior",
    }
    assert terms["label_prior"] == pytest.approx(1e-5 * math.log(1 / CLASSES), rel=1e-4)


def test_the_generative_loss_trains_the_classifier_too():
    results = []
    for vae in (True, False):
        first, other = peer(1, vae=vae), peer(2)
        co_divide_epoch(first, other, split_of([0, 1, 2]), ALL, training_set(), settings(), 11)
        results.append(first.net.linear.weight.detach())
    assert not torch.equal(*results)


def test_an_empty_unlabelled_part_leaves_a_supervised_step():
    first, other = peer(1), peer(2)
    split = split_of(list(range(14)))
    terms = co_divide_epoch(first, other, split, ALL, training_set(), settings(), 11)
    assert terms["unlabelled_loss"] == 0.0
    assert math.isfinite(terms["loss"])


def test_a_batch_of_one_class_and_one_sample_is_fine():
    train_set = training_set()
    train_set.noisy_labels.zero_()
    first, other = peer(1, vae=True), peer(2)
    assert math.isfinite(
        co_divide_epoch(first, other, split_of([4]), ALL, train_set, settings(), 11)["loss"]
    )


def test_warm_up_takes_batches_of_twice_the_size_and_lowers_the_loss():
    train_set, first = training_set(32), peer(1)
    losses = [
        warm_up_epoch(first, np.arange(32), train_set, settings(), epoch)["loss"]
        for epoch in range(40)
    ]
    assert first.net.bn1.num_batches_tracked == 40 * 2
    assert sum(losses[-5:]) < sum(losses[:5])


def test_a_loss_that_is_not_finite_names_the_step():
    first = peer(1)
    first.net.linear.weight.data.fill_(float("nan"))
    with pytest.raises(
        NonFiniteLossError, match="epoch 3, warm-up of network 1, step 1 of 1: loss nan"
    ):
        warm_up_epoch(first, ALL, training_set(), settings(), 3)


def test_predict_serves_all_networks_in_eval_mode_in_order():
    train_set = training_set(700)  # more than one batch
    nets = [peer(k).net.train() for k in (1, 2)]
    logits = predict(nets, train_set.images, contextlib.nullcontext)
    assert logits.shape == (2, 700, CLASSES)
    assert nets[0].bn1.num_batches_tracked == 0
    with torch.no_grad():
        alone = nets[1].eval()(next(train_set.images.plain([torch.arange(690, 700)])))
    assert torch.allclose(logits[1, 690:], alone, atol=1e-5, rtol=1e-4)


def test_without_unlabelled_loss_only_rows_that_begin_labelled_are_forwarded():
    """Clothing1M's step: partners of both kinds, targets of both, no L_u."""

    class Counting(Linear):
        rows = 0

        def forward(self, images):
            self.rows += len(images) if torch.is_grad_enabled() else 0
            return super().forward(images)

    first, other = peer(1, Counting()), peer(2, Linear())
    terms = co_divide_epoch(
        first, other, split_of([0, 1, 2]), ALL, training_set(), settings(unlabelled_loss=False), 11
    )
    assert first.net.rows == 6
    assert terms["unlabelled_loss"] == 0.0
    full = peer(1, Counting())
    co_divide_epoch(full, other, split_of([0, 1, 2]), ALL, training_set(), settings(), 11)
    assert full.net.rows == 6 + 2 * 8


def test_the_confidence_penalty_is_the_negative_entropy_and_not_of_plain_cross_entropy():
    def loss(**changes):
        torch.manual_seed(0)
        first = peer(1, Linear())
        return warm_up_epoch(first, ALL, training_set(), settings(**changes), 0)["loss"]

    plain, penalised = loss(), loss(confidence_penalty=True)
    assert -math.log(CLASSES) < penalised - plain < 0
    assert loss(confidence_penalty=True, mode="ce") == plain


def test_the_ensemble_sums_logits_not_probabilities():
    logits = torch.tensor([[[9.0, 0.0, 8.0]], [[0.0, 3.0, 2.0]]])
    assert ensemble_accuracy(logits, torch.tensor([2])) == 100.0
    assert ensemble_accuracy(logits, torch.tensor([0])) == 0.0

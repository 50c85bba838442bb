"""The training loop of InstanceGM: warm-up, then the two networks divide the data for each other.

    for row in train(peers, train_set, tests, settings, LossHistory(len(peers))):
        print(row["epoch"], row["accuracy"])

Shapes: N training samples, B batch, C classes, P peers (networks). Nothing inside an epoch waits
for the device: losses are gathered there and looked at once, when the epoch is over.
"""

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from instancegm.method import draws
from instancegm.method.images import (
    endless_batches,
    independent_batches,
    shuffled_batches,
    stream_seed,
    torch_stream,
)
from instancegm.method.losses import VaeLoss, negative_entropy, unlabelled_weight, wide
from instancegm.method.mixture import (
    CleanFit,
    LossHistory,
    Split,
    detection_auc,
    split_by_clean_prob,
)
from instancegm.method.peers import (
    EvaluationSet,
    Peer,
    TrainingSet,
    ensemble_accuracy,
    mean_losses,
    predict,
)
from instancegm.method.ranks import Ranks
from instancegm.method.settings import Settings
from instancegm.method.signs import SILENT, SignsOfLife
from instancegm.method.step import generative_terms, mixmatch_terms, update, whole


def train(
    peers: Sequence[Peer],
    train_set: TrainingSet,
    tests: Mapping[str, EvaluationSet],
    settings: Settings,
    history: LossHistory,
    first_epoch: int = 0,
    signs: SignsOfLife = SILENT,
) -> Iterator[dict[str, Any]]:
    """Trains the peers (two; in mode "ce" one) in place; yields the figures of every epoch.

    tests: "test", and "val" where there is a clean validation set; either may be missing. history:
    with the peers all the state there is; what a run resumes from; of several ranks the first
    one's counts. signs: shows how far it is within an epoch.
    """
    host_labels = train_set.noisy_labels.cpu().numpy()
    # DEVIATION(instancegm): the last epoch runs; the original counts to num_epochs as well, but
    # dies there of a list that is one entry short, before it saves anything.
    for epoch in range(first_epoch, settings.num_epochs + 1):
        start = time.perf_counter()
        lr = settings.lr if epoch < settings.lr_drop else settings.lr / 10
        for peer in peers:
            peer.net_optimizer.param_groups[0]["lr"] = lr
        row: dict[str, Any] = {"epoch": epoch, "lr": lr}
        drawing = (host_labels, train_set.num_classes, settings, epoch)

        if epoch < settings.warm_up or settings.mode == "ce":
            row["phase"] = "warm_up"
            drawn = [draws.warm_up_draw(*drawing, peer.number) for peer in peers]
            losses = [
                warm_up_epoch(peer, index, train_set, settings, epoch, signs)
                for peer, index in zip(peers, drawn)
            ]
            seen = sum(map(len, drawn))
        else:
            row["phase"] = "co_divide"
            drawn = [draws.judged_draw(*drawing, peer.number) for peer in peers]
            fits = clean_fits(peers, drawn, train_set, history, settings, epoch, signs)
            # Each network learns from the split that the other one's losses make.
            fits, drawn = fits[::-1], drawn[::-1]
            splits = [
                split_by_clean_prob(
                    fit.clean_prob, settings.p_threshold, settings.batch_size, index
                )
                for fit, index in zip(fits, drawn)
            ]
            fresh = draws.vae_draw(*drawing)
            losses = [
                co_divide_epoch(peer, other, split, fresh, train_set, settings, epoch, signs)
                for peer, other, split in zip(peers, peers[::-1], splits)
            ]
            for k, (fit, split, index) in enumerate(zip(fits, splits, drawn), start=1):
                row[f"n_labelled_{k}"] = len(split.labelled)
                row[f"auc_{k}"] = detection_auc(train_set.is_clean, fit.clean_prob, index)
            seen = sum(images_seen(split, settings) for split in splits)
        seconds = time.perf_counter() - start

        for k, terms in enumerate(losses, start=1):
            row |= {f"{name}_{k}": value for name, value in terms.items()}
        row["accuracy"] = None  # without a test set
        for name, part in tests.items():
            prefix = "" if name == "test" else f"{name}_"
            found = accuracies(peers, part, signs, f"epoch {epoch}, {name} set")
            row |= {f"{prefix}{key}": value for key, value in found.items()}
        row["seconds"] = round(seconds, 3)
        row["images_per_s"] = round(seen / seconds, 1)
        yield row


def warm_up_epoch(
    peer: Peer,
    drawn: draws.Index,
    train_set: TrainingSet,
    settings: Settings,
    epoch: int,
    signs: SignsOfLife = SILENT,
) -> dict[str, float]:
    """Plain cross-entropy on the drawn samples with their noisy labels, in batches of 2 B.

    With `confidence_penalty`, and the negative entropy of the predictions. Returns the means.
    """
    images, noisy_labels = train_set.images, train_set.noisy_labels
    name, batch_size = f"warm-up {peer.number}", 2 * settings.batch_size
    index = torch.from_numpy(drawn).to(images.index_device)
    order = torch_stream(images.index_device, settings.seed, epoch, name)
    steps = images.views(
        [shuffled_batches(index, batch_size, order)],
        [1],
        stream_seed(settings.seed, epoch, f"{name}, views"),
        peer.ranks,
    )
    seed_dropout(settings, epoch, name, peer.ranks)
    penalised = settings.confidence_penalty and settings.mode != "ce"
    losses: list[Tensor] = []
    peer.net.train()
    total, title = math.ceil(len(drawn) / batch_size), f"epoch {epoch}, network {peer.number}"
    for (batch,) in signs.over(steps, total, title, batch_size, losses):
        with peer.autocast():
            own_logits = peer.trained_net(batch.views[0])
        logits = whole(own_logits, len(batch.index), peer.ranks)
        terms = [F.cross_entropy(wide(logits), noisy_labels[batch.index])]
        terms += [negative_entropy(logits)] if penalised else []
        loss = torch.stack(terms).sum()
        update(peer, loss)
        losses.append(torch.stack([loss, *terms[1:]]).detach())
    peer.share_buffers()
    where = f"epoch {epoch}, warm-up of network {peer.number}"
    return mean_losses(torch.stack(losses), ("loss", "penalty")[: len(terms)], where)


def clean_fits(
    peers: Sequence[Peer],
    drawn: Sequence[draws.Index],
    train_set: TrainingSet,
    history: LossHistory,
    settings: Settings,
    epoch: int,
    signs: SignsOfLife = SILENT,
) -> list[CleanFit]:
    """The clean probability of the drawn samples by each network, from its losses before the epoch.

    drawn: positions in the training set, of each network its own; equal where it is all of them.
    """
    title = f"epoch {epoch}, losses of the training set"
    # DEVIATION(instancegm): every drawn sample has a loss of its own; the original's buffers of
    # fixed length leave zeros, which count as the cleanest samples.
    labels = [train_set.noisy_labels[torch.from_numpy(index)] for index in drawn]
    if settings.num_batches is None:  # one pass over the images serves both networks
        logits = list(predict_of(peers, train_set, drawn[0], signs, title))
    else:
        logits = [
            predict_of([peer], train_set, index, signs, title)[0]
            for peer, index in zip(peers, drawn)
        ]
    # The first rank decides for all: a sample must not be labelled on one machine alone.
    return peers[0].ranks.same(lambda: fit_mixtures(logits, labels, history, settings.seed, epoch))


def fit_mixtures(
    logits: Sequence[Tensor],
    noisy_labels: Sequence[Tensor],
    history: LossHistory,
    seed: int,
    epoch: int,
) -> list[CleanFit]:
    """A mixture on the losses of each network. logits: P of (M, C); noisy_labels: P of (M,)."""
    losses = [F.cross_entropy(*each, reduction="none") for each in zip(logits, noisy_labels)]
    seeds = [stream_seed(seed, epoch, f"mixture {k}") for k in range(1, len(losses) + 1)]
    return history.fit([each.cpu().numpy() for each in losses], seeds)


def predict_of(
    peers: Sequence[Peer],
    train_set: TrainingSet,
    index: draws.Index,
    signs: SignsOfLife,
    title: str,
) -> Tensor:
    """Logits of the training samples of an index (M,): (P, M, C) float32."""
    nets, ranks = [peer.net for peer in peers], peers[0].ranks
    return predict(nets, train_set.images, peers[0].autocast, signs, title, index, ranks)


def co_divide_epoch(
    peer: Peer,
    other: Peer,
    split: Split,
    fresh: draws.Index,
    train_set: TrainingSet,
    settings: Settings,
    epoch: int,
    signs: SignsOfLife = SILENT,
) -> dict[str, float]:
    """One epoch of `peer` on the split that the OTHER network's losses made.

    fresh: what the VAE's batches are drawn from. Returns the mean of each loss term.
    """
    images, batch_size = train_set.images, settings.batch_size
    clean_prob = torch.zeros(len(images), device=images.device)
    clean_prob[torch.from_numpy(split.labelled).to(images.device)] = torch.from_numpy(
        split.clean_prob
    ).to(images.device, torch.float32)

    name = f"co-divide {peer.number}"
    generator = torch_stream(images.device, settings.seed, epoch, name)
    mix_draws = np.random.default_rng(stream_seed(settings.seed, epoch, f"{name}, mixup"))
    steps = images.views(
        step_indices(split, fresh, images.index_device, settings, epoch, name),
        [2, 2, 0 if peer.vae is None else 1],
        stream_seed(settings.seed, epoch, f"{name}, views"),
        peer.ranks,
    )
    seed_dropout(settings, epoch, name, peer.ranks)
    ramp_steps = len(split.labelled) // batch_size + 1

    terms: list[Tensor] = []
    total = math.ceil(len(split.labelled) / batch_size)
    title = f"epoch {epoch}, network {peer.number}"
    shown = signs.over(steps, total, title, images_per_step(settings), terms)
    for step, (x, u, v) in enumerate(shown):
        draw = mix_draws.beta(settings.alpha, settings.alpha)
        labelled_loss, unlabelled_loss, penalty = mixmatch_terms(
            peer,
            other,
            x,
            u,
            clean_prob[x.index],
            max(draw, 1.0 - draw),
            train_set,
            settings,
            generator,
        )
        generative = generative_terms(peer, v, train_set, settings, generator)
        weight = unlabelled_weight(epoch + step / ramp_steps, settings.warm_up, settings.lambda_u)
        loss = labelled_loss + weight * unlabelled_loss + penalty + sum(generative)
        update(peer, loss)
        terms.append(
            torch.stack([loss, labelled_loss, unlabelled_loss, penalty, *generative]).detach()
        )
    peer.share_buffers()

    names = ["loss", "labelled_loss", "unlabelled_loss", "penalty"]
    names += VaeLoss._fields if peer.vae else ()
    where = f"epoch {epoch}, training of network {peer.number}"
    return mean_losses(torch.stack(terms), names, where)


def seed_dropout(settings: Settings, epoch: int, name: str, ranks: Ranks) -> None:
    """Dropout (VGG's) takes no generator: torch's global one is seeded for every epoch."""
    whose = f" of rank {ranks.rank}" if ranks.size > 1 else ""
    torch.manual_seed(stream_seed(settings.seed, epoch, f"{name}, dropout{whose}"))


def step_indices(
    split: Split,
    fresh: draws.Index,
    device: torch.device,
    settings: Settings,
    epoch: int,
    name: str,
) -> list[Iterator[Tensor]]:
    """Three streams of batches: labelled (one pass), unlabelled and of the VAE (both endless)."""
    labelled, unlabelled, everything = (
        torch.from_numpy(index).to(device) for index in (split.labelled, split.unlabelled, fresh)
    )
    orders = [
        torch_stream(device, settings.seed, epoch, f"{name}, {part}")
        for part in ("labelled", "unlabelled", "VAE")
    ]
    return [
        shuffled_batches(labelled, settings.batch_size, orders[0]),
        endless_batches(unlabelled, settings.batch_size, orders[1]),
        independent_batches(everything, 2 * settings.batch_size, orders[2]),
    ]


def accuracies(
    peers: Sequence[Peer],
    test_set: EvaluationSet,
    signs: SignsOfLife = SILENT,
    title: str = "test set",
) -> dict[str, float]:
    """Test accuracy in percent of each of two networks, and of the sum of their logits."""
    nets = [peer.net for peer in peers]
    logits = predict(nets, test_set.images, peers[0].autocast, signs, title, ranks=peers[0].ranks)
    alone = {
        f"accuracy_{k}": ensemble_accuracy(each[None], test_set.labels)
        for k, each in enumerate(logits, start=1)
    }
    both = {"accuracy": ensemble_accuracy(logits, test_set.labels)}
    return alone | both if len(peers) > 1 else both


def images_per_step(settings: Settings) -> int:
    """Training images drawn in a step of co-divide, each counted once, not per augmentation."""
    return (2 if settings.no_vae else 4) * settings.batch_size


def images_seen(split: Split, settings: Settings) -> int:
    """Training images drawn in an epoch of co-divide."""
    return images_per_step(settings) * math.ceil(len(split.labelled) / settings.batch_size)

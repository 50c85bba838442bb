"""The training loop of InstanceGM: warm-up, then the two networks divide the data for each other.

    for row in train(peers, train_set, test_set, settings, LossHistory(len(peers))):
        print(row["epoch"], row["accuracy"])

Shapes: N training samples, B batch, C classes, P peers (networks). Nothing inside an epoch waits
for the device: losses are gathered there and looked at once, when the epoch is over.
"""

import math
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from instancegm.method.images import (
    endless_batches,
    shuffled_batches,
    stream_seed,
    torch_stream,
)
from instancegm.method.losses import (
    VaeLoss,
    class_balance_penalty,
    co_guess,
    co_refine,
    mixup,
    one_hot,
    soft_cross_entropy,
    squared_error,
    unlabelled_weight,
    vae_loss,
)
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
from instancegm.method.settings import Settings
from instancegm.method.signs import SILENT, SignsOfLife


def train(
    peers: Sequence[Peer],
    train_set: TrainingSet,
    test_set: EvaluationSet,
    settings: Settings,
    history: LossHistory,
    first_epoch: int = 0,
    signs: SignsOfLife = SILENT,
) -> Iterator[dict[str, Any]]:
    """Trains the peers (two; in mode "ce" one) in place; yields the figures of every epoch.

    history: with the peers all the state there is; what a run resumes from. signs: shows how far it
    is within an epoch.
    """
    # DEVIATION(instancegm): the last epoch runs; the original counts to num_epochs as well, but
    # dies there of a list that is one entry short, before it saves anything.
    for epoch in range(first_epoch, settings.num_epochs + 1):
        start = time.perf_counter()
        lr = settings.lr if epoch < settings.lr_drop else settings.lr / 10
        for peer in peers:
            peer.net_optimizer.param_groups[0]["lr"] = lr
        row: dict[str, Any] = {"epoch": epoch, "lr": lr}

        if epoch < settings.warm_up or settings.mode == "ce":
            row["phase"] = "warm_up"
            losses = [warm_up_epoch(peer, train_set, settings, epoch, signs) for peer in peers]
            seen = len(peers) * len(train_set.images)
        else:
            row["phase"] = "co_divide"
            title = f"epoch {epoch}, losses of the training set"
            nets = [peer.net for peer in peers]
            logits = predict(nets, train_set.images, peers[0].autocast, signs, title)
            fits = clean_fits(logits, train_set.noisy_labels, history, settings.seed, epoch)
            fits = fits[::-1]  # each network learns from the split that the other one's losses make
            splits = [
                split_by_clean_prob(fit.clean_prob, settings.p_threshold, settings.batch_size)
                for fit in fits
            ]
            losses = [
                co_divide_epoch(peer, other, split, train_set, settings, epoch, signs)
                for peer, other, split in zip(peers, peers[::-1], splits)
            ]
            for k, (fit, split) in enumerate(zip(fits, splits), start=1):
                row[f"n_labelled_{k}"] = len(split.labelled)
                row[f"auc_{k}"] = detection_auc(train_set.is_clean, fit.clean_prob)
            seen = sum(images_seen(split, settings) for split in splits)
        seconds = time.perf_counter() - start

        for k, terms in enumerate(losses, start=1):
            row |= {f"{name}_{k}": value for name, value in terms.items()}
        row |= accuracies(peers, test_set, signs, f"epoch {epoch}, test set")
        row["seconds"] = round(seconds, 3)
        row["images_per_s"] = round(seen / seconds, 1)
        yield row


def warm_up_epoch(
    peer: Peer,
    train_set: TrainingSet,
    settings: Settings,
    epoch: int,
    signs: SignsOfLife = SILENT,
) -> dict[str, float]:
    """Plain cross-entropy on every sample with its noisy label, in batches of 2 B.

    Returns the mean loss.
    """
    images, noisy_labels = train_set.images, train_set.noisy_labels
    generator = torch_stream(images.device, settings.seed, epoch, f"warm-up {peer.number}")
    everything = torch.arange(len(images), device=images.device)
    losses: list[Tensor] = []
    peer.net.train()
    batches = shuffled_batches(everything, 2 * settings.batch_size, generator)
    total = math.ceil(len(images) / (2 * settings.batch_size))
    title = f"epoch {epoch}, network {peer.number}"
    for index in signs.over(batches, total, title, 2 * settings.batch_size, losses):
        with peer.autocast():
            logits = peer.net(images.view(index, generator))
        loss = F.cross_entropy(logits.float(), noisy_labels[index])
        update(peer, loss)
        losses.append(loss.detach())
    where = f"epoch {epoch}, warm-up of network {peer.number}"
    return mean_losses(torch.stack(losses)[:, None], ("loss",), where)


def clean_fits(
    logits: Tensor, noisy_labels: Tensor, history: LossHistory, seed: int, epoch: int
) -> list[CleanFit]:
    """The clean probability of every training sample by each network, from its losses.

    logits: (P, N, C) before the epoch; noisy_labels: (N,).
    """
    losses = [F.cross_entropy(each, noisy_labels, reduction="none") for each in logits]
    seeds = [stream_seed(seed, epoch, f"mixture {k}") for k in range(1, len(losses) + 1)]
    return history.fit([each.cpu().numpy() for each in losses], seeds)


def co_divide_epoch(
    peer: Peer,
    other: Peer,
    split: Split,
    train_set: TrainingSet,
    settings: Settings,
    epoch: int,
    signs: SignsOfLife = SILENT,
) -> dict[str, float]:
    """One epoch of `peer` on the split that the OTHER network's losses made.

    Returns the mean of each loss term.
    """
    images = train_set.images
    device, batch_size = images.device, settings.batch_size
    labelled = torch.from_numpy(split.labelled).to(device)
    unlabelled = torch.from_numpy(split.unlabelled).to(device)
    clean_prob = torch.zeros(len(images), device=device)
    clean_prob[labelled] = torch.from_numpy(split.clean_prob).to(device, torch.float32)

    generator = torch_stream(device, settings.seed, epoch, f"co-divide {peer.number}")
    mix_draws = np.random.default_rng(stream_seed(settings.seed, epoch, f"mixup {peer.number}"))
    unlabelled_batches = endless_batches(unlabelled, batch_size, generator)
    ramp_steps = len(labelled) // batch_size + 1

    terms: list[Tensor] = []
    batches = shuffled_batches(labelled, batch_size, generator)
    total, title = math.ceil(len(labelled) / batch_size), f"epoch {epoch}, network {peer.number}"
    shown = signs.over(batches, total, title, images_per_step(settings), terms)
    for step, x_index in enumerate(shown):
        u_index = next(unlabelled_batches) if len(unlabelled) else unlabelled
        draw = mix_draws.beta(settings.alpha, settings.alpha)
        labelled_loss, unlabelled_loss, penalty = mixmatch_terms(
            peer,
            other,
            x_index,
            u_index,
            clean_prob[x_index],
            max(draw, 1.0 - draw),
            train_set,
            settings,
            generator,
        )
        generative = generative_terms(peer, train_set, settings, generator)
        weight = unlabelled_weight(epoch + step / ramp_steps, settings.warm_up, settings.lambda_u)
        loss = labelled_loss + weight * unlabelled_loss + penalty + sum(generative)
        update(peer, loss)
        terms.append(
            torch.stack([loss, labelled_loss, unlabelled_loss, penalty, *generative]).detach()
        )

    names = ["loss", "labelled_loss", "unlabelled_loss", "penalty"]
    names += VaeLoss._fields if peer.vae else ()
    where = f"epoch {epoch}, training of network {peer.number}"
    return mean_losses(torch.stack(terms), names, where)


def mixmatch_terms(
    peer: Peer,
    other: Peer,
    x_index: Tensor,
    u_index: Tensor,
    clean_prob: Tensor,
    coefficient: float,
    train_set: TrainingSet,
    settings: Settings,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor, Tensor]:
    """L_x, L_u and the class-balance penalty of one step (DivideMix, algorithm 1, lines 12-25).

    x_index, clean_prob: (B,) of the labelled samples; u_index: (U,), U from 0 to B.
    """
    images = train_set.images
    x_views = [images.view(x_index, generator) for _ in range(2)]
    u_views = [images.view(u_index, generator) for _ in range(2)] if len(u_index) else []
    noisy_targets = one_hot(train_set.noisy_labels[x_index], train_set.num_classes)
    targets = guess_targets(peer, other, x_views, u_views, noisy_targets, clean_prob, settings)

    rows = torch.cat(x_views + u_views)
    partner = torch.randperm(len(rows), device=rows.device, generator=generator)
    peer.net.train()
    with peer.autocast():
        logits = peer.net(mixup(rows, partner, coefficient))
    targets = mixup(targets, partner, coefficient)
    count = 2 * len(x_index)
    unlabelled_loss = (
        squared_error(logits[count:], targets[count:])
        if u_views
        else torch.zeros((), device=rows.device)
    )
    labelled_loss = soft_cross_entropy(logits[:count], targets[:count])
    return labelled_loss, unlabelled_loss, class_balance_penalty(logits)


@torch.no_grad()
def guess_targets(
    peer: Peer,
    other: Peer,
    x_views: list[Tensor],
    u_views: list[Tensor],
    noisy_targets: Tensor,
    clean_prob: Tensor,
    settings: Settings,
) -> Tensor:
    """Refined labels of the labelled and guessed ones of the unlabelled rows: (2 B + 2 U, C).

    x_views: two augmentations (B, 3, H, W); u_views: two (U, 3, H, W), or none.
    """
    # The original guesses in train mode: batch statistics, and each forward pass updates the
    # running ones.
    peer.net.train(not settings.guess_eval)
    other.net.eval()
    with peer.autocast():
        u_logits = [peer.net(view) for view in u_views]
        if u_views:  # in eval mode both augmentations can share one forward pass
            u_logits += other.net(torch.cat(u_views)).chunk(2)
        x_logits = [peer.net(view) for view in x_views]
    targets = [co_refine(x_logits, noisy_targets, clean_prob, settings.T)] * 2
    if u_views:
        targets += [co_guess(u_logits, settings.T)] * 2
    return torch.cat(targets)


def generative_terms(
    peer: Peer, train_set: TrainingSet, settings: Settings, generator: torch.Generator
) -> Sequence[Tensor]:
    """The VAE's terms on 2 B fresh samples of the whole set; they train the classifier too."""
    if peer.vae is None:
        return ()
    images = train_set.images
    order = torch.randperm(len(images), device=images.device, generator=generator)
    index = order[: 2 * settings.batch_size]
    batch = images.view(index, generator)
    with peer.autocast():
        output = peer.vae(batch, peer.net(batch), generator)
    return vae_loss(
        batch,
        output.reconstruction,
        train_set.noisy_labels[index],
        output.noisy_label_logits,
        output.label_sample,
        output.mu,
        output.log_var,
        settings.vae_weights,
        settings.numerics,
    )


def update(peer: Peer, loss: Tensor) -> None:
    """One step of SGD on the classifier and of Adam on the VAE."""
    for optimizer in peer.optimizers:
        optimizer.zero_grad()
    loss.backward()
    for optimizer in peer.optimizers:
        optimizer.step()


def accuracies(
    peers: Sequence[Peer],
    test_set: EvaluationSet,
    signs: SignsOfLife = SILENT,
    title: str = "test set",
) -> dict[str, float]:
    """Test accuracy in percent of each of two networks, and of the sum of their logits."""
    nets = [peer.net for peer in peers]
    logits = predict(nets, test_set.images, peers[0].autocast, signs, title)
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

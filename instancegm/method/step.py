"""One step of InstanceGM: MixMatch on a split batch (DivideMix), and the generative model.

Losses are those of the whole batch, on every rank: what the networks say of its rows is brought
together, and a gradient goes back to the own ones.

Shapes: B labelled and U unlabelled samples of a batch, N training samples, C classes.
"""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from instancegm.method.images import Batch
from instancegm.method.losses import (
    class_balance_penalty,
    co_guess,
    co_refine,
    mixup,
    one_hot,
    soft_cross_entropy,
    squared_error,
    vae_loss,
    wide,
)
from instancegm.method.peers import Peer, TrainingSet
from instancegm.method.ranks import Ranks
from instancegm.method.settings import Settings
from instancegm.method.vae import VaeNoise


def mixmatch_terms(
    peer: Peer,
    other: Peer,
    x: Batch,
    u: Batch,
    clean_prob: Tensor,
    coefficient: float,
    train_set: TrainingSet,
    settings: Settings,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor, Tensor]:
    """L_x, L_u and the class-balance penalty of one step (DivideMix, algorithm 1, lines 12-25).

    x: B labelled samples, u: U unlabelled ones, U from 0 to B, two views of each; clean_prob: (B,).
    Without `unlabelled_loss` only rows that begin with a labelled one are mixed, with partners of
    both kinds, and L_u is 0 (Clothing1M).
    """
    noisy_targets = one_hot(train_set.noisy_labels[x.index], train_set.num_classes)
    targets = guess_targets(peer, other, x, u, noisy_targets, clean_prob, settings)

    ranks, parts = peer.ranks, [part for part in (x, u) if len(part.index)]
    rows = torch.cat([ranks.gather(view, len(part.index)) for part in parts for view in part.views])
    partner = torch.randperm(len(rows), device=rows.device, generator=generator)
    count = 2 * len(x.index)
    labelled, unlabelled = torch.arange(len(rows), device=rows.device).tensor_split((count,))
    mixed = [labelled, unlabelled] if settings.unlabelled_loss and len(unlabelled) else [labelled]
    own = [ranks.part(kind) for kind in mixed]  # batch normalisation sees both on every rank
    peer.net.train()
    with peer.autocast():
        own_logits = peer.trained_net(mixup(rows, partner, coefficient, torch.cat(own)))
    each_own = own_logits.split([len(kind) for kind in own])
    logits = [whole(part, len(kind), ranks) for part, kind in zip(each_own, mixed)]
    targets = mixup(targets, partner, coefficient, torch.cat(mixed))
    unlabelled_loss = (
        squared_error(logits[1], targets[count:])
        if len(mixed) > 1
        else torch.zeros((), device=rows.device)
    )
    labelled_loss = soft_cross_entropy(logits[0], targets[:count])
    return labelled_loss, unlabelled_loss, class_balance_penalty(torch.cat(logits))


@torch.no_grad()
def guess_targets(
    peer: Peer,
    other: Peer,
    x: Batch,
    u: Batch,
    noisy_targets: Tensor,
    clean_prob: Tensor,
    settings: Settings,
) -> Tensor:
    """Refined labels of the labelled and guessed ones of the unlabelled rows: (2 B + 2 U, C).

    noisy_targets: (B, C); clean_prob: (B,).
    """
    ranks, u_views = peer.ranks, u.views if len(u.index) else []
    # The original guesses in train mode: batch statistics, and each forward pass updates the
    # running ones.
    peer.net.train(not settings.guess_eval)
    other.net.eval()
    with peer.autocast():
        u_logits = [peer.net(view) for view in u_views]
        if u_views:  # in eval mode both augmentations can share one forward pass
            u_logits += other.net(torch.cat(u_views)).chunk(2)
        x_logits = [peer.net(view) for view in x.views]
    refined = co_refine(x_logits, ranks.part(noisy_targets), ranks.part(clean_prob), settings.T)
    targets = [ranks.gather(refined, len(x.index))] * 2
    if u_views:
        targets += [ranks.gather(co_guess(u_logits, settings.T), len(u.index))] * 2
    return torch.cat(targets)


def generative_terms(
    peer: Peer,
    fresh: Batch,
    train_set: TrainingSet,
    settings: Settings,
    generator: torch.Generator,
) -> Sequence[Tensor]:
    """The VAE's terms on 2 B fresh samples, one view of each; they train the classifier too."""
    if peer.vae is None or peer.trained_vae is None:
        return ()
    images, count, ranks = fresh.views[0], len(fresh.index), peer.ranks
    noise = VaeNoise(*map(ranks.part, peer.vae.noise(count, generator)))
    with peer.autocast():
        output = peer.trained_vae(images, peer.trained_net(images), noise)
    return vae_loss(
        images,
        output.reconstruction,
        train_set.noisy_labels[fresh.index],
        whole(output.noisy_label_logits, count, ranks),
        whole(output.label_sample, count, ranks),
        whole(output.mu, count, ranks),
        whole(output.log_var, count, ranks),
        settings.vae_weights,
        settings.numerics,
        partial(ranks.mean, count=count),
    )


def whole(rows: Tensor, count: int, ranks: Ranks) -> Tensor:
    """The rows (count, ...) of all ranks, with a gradient for those of this one, `rows`.

    Alone they stay as they are; of several ranks they are float32.
    """
    if ranks.size == 1:
        return rows
    rows = wide(rows)
    own, start = ranks.own(count), ranks.rows(count).start
    before, behind = (
        rows.new_zeros(size, *rows.shape[1:]) for size in (start, count - start - own)
    )
    return ranks.total(torch.cat([before, rows[:own], behind]))


def update(peer: Peer, loss: Tensor) -> None:
    """One step of SGD on the classifier and of Adam on the VAE."""
    for optimizer in peer.optimizers:
        optimizer.zero_grad()
    loss.backward()
    for optimizer in peer.optimizers:
        optimizer.step()

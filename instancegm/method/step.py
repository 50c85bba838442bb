"""One step of InstanceGM: MixMatch on a split batch (DivideMix), and the generative model.

Shapes: B labelled and U unlabelled samples of a batch, N training samples, C classes.
"""

from collections.abc import Sequence

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
)
from instancegm.method.peers import Peer, TrainingSet
from instancegm.method.settings import Settings


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
    u_views = u.views if len(u.index) else []
    noisy_targets = one_hot(train_set.noisy_labels[x.index], train_set.num_classes)
    targets = guess_targets(peer, other, x.views, u_views, noisy_targets, clean_prob, settings)

    rows = torch.cat(x.views + u_views)
    partner = torch.randperm(len(rows), device=rows.device, generator=generator)
    count = 2 * len(x.index)
    mixed = len(rows) if settings.unlabelled_loss else count
    peer.net.train()
    with peer.autocast():
        logits = peer.net(mixup(rows, partner, coefficient, mixed))
    targets = mixup(targets, partner, coefficient, mixed)
    unlabelled_loss = (
        squared_error(logits[count:], targets[count:])
        if mixed > count
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
    peer: Peer,
    fresh: Batch,
    train_set: TrainingSet,
    settings: Settings,
    generator: torch.Generator,
) -> Sequence[Tensor]:
    """The VAE's terms on 2 B fresh samples, one view of each; they train the classifier too."""
    if peer.vae is None:
        return ()
    images = fresh.views[0]
    with peer.autocast():
        output = peer.vae(images, peer.net(images), generator)
    return vae_loss(
        images,
        output.reconstruction,
        train_set.noisy_labels[fresh.index],
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

"""One epoch of each phase of InstanceGM: warm-up on the noisy labels, co-divide with the generative
losses; prediction.

Shapes: N training samples, B batch, C classes, P peers (networks). Nothing inside an epoch waits
for the device: losses are gathered there and looked at once, when the epoch is over.
"""

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from instancegm.data import (
    DeviceImages,
    endless_batches,
    shuffled_batches,
    stream_seed,
    torch_stream,
)
from instancegm.losses import (
    Numerics,
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
from instancegm.mixture import Split
from instancegm.networks import PreActResNet18
from instancegm.vae import Vae

EVALUATION_BATCH = {
    "cpu": 128,
    "cuda": 1024,
}  # on a CPU, larger activations leave the cache: 128 was 1.3 times 512
Autocast = Callable[[], AbstractContextManager[None]]  # what the networks' forward passes run in


class NonFiniteLossError(RuntimeError):
    """A loss or a prediction is NaN or infinite."""


class TrainingSet(NamedTuple):
    """images: N on the device; noisy_labels: (N,) int64 in [0, C) on the device."""

    images: DeviceImages
    noisy_labels: Tensor
    num_classes: int


@dataclass(frozen=True)
class Settings:
    """The hyper-parameters of an epoch, under the names of the command line."""

    batch_size: int
    warm_up: int
    lambda_u: float
    alpha: float
    temperature: float
    numerics: Numerics
    guess_eval: bool
    seed: int
    autocast: Autocast


@dataclass(frozen=True)
class Peer:
    """One of the two classifiers, with its own generative model (None: DivideMix) and their
    optimizers.
    """

    number: int  # 1 or 2, as the paper counts
    net: PreActResNet18
    net_optimizer: torch.optim.Optimizer
    vae: Vae | None
    vae_optimizer: torch.optim.Optimizer | None

    def state_dict(self) -> dict[str, object]:
        return {name: part.state_dict() for name, part in self._parts()}

    def load_state_dict(self, state: dict[str, dict[str, object]]) -> None:
        for name, part in self._parts():
            part.load_state_dict(state[name])

    def _parts(self) -> Iterable[tuple[str, nn.Module | torch.optim.Optimizer]]:
        for name in ("net", "net_optimizer", "vae", "vae_optimizer"):
            part = getattr(self, name)
            if part is not None:
                yield name, part


def warm_up_epoch(
    peer: Peer, train_set: TrainingSet, settings: Settings, epoch: int
) -> dict[str, float]:
    """Plain cross-entropy on every sample with its noisy label, in batches of 2 B.

    Returns the mean loss.
    """
    images, noisy_labels, _ = train_set
    generator = torch_stream(images.device, settings.seed, epoch, f"warm-up {peer.number}")
    everything = torch.arange(len(images), device=images.device)
    losses = []
    peer.net.train()
    for index in shuffled_batches(everything, 2 * settings.batch_size, generator):
        with settings.autocast():
            logits = peer.net(images.view(index, generator))
        loss = F.cross_entropy(logits.float(), noisy_labels[index])
        peer.net_optimizer.zero_grad()
        loss.backward()
        peer.net_optimizer.step()
        losses.append(loss.detach())
    return _mean_losses(
        torch.stack(losses)[:, None], ("loss",), f"epoch {epoch}, warm-up of network {peer.number}"
    )


def co_divide_epoch(
    peer: Peer, other: Peer, split: Split, train_set: TrainingSet, settings: Settings, epoch: int
) -> dict[str, float]:
    """One epoch of `peer` on the split that the OTHER network's losses made.

    Returns the mean of each loss term.
    """
    images = train_set.images
    device = images.device
    labelled, unlabelled = (
        torch.from_numpy(part).to(device) for part in (split.labelled, split.unlabelled)
    )
    clean_prob = torch.zeros(len(images), device=device)
    clean_prob[labelled] = torch.from_numpy(split.clean_prob).to(device, torch.float32)

    generator = torch_stream(device, settings.seed, epoch, f"co-divide {peer.number}")
    mix_draws = np.random.default_rng(stream_seed(settings.seed, epoch, f"mixup {peer.number}"))
    unlabelled_batches = endless_batches(unlabelled, settings.batch_size, generator)
    ramp_steps = len(labelled) // settings.batch_size + 1

    terms = []
    for step, index in enumerate(shuffled_batches(labelled, settings.batch_size, generator)):
        unlabelled_index = next(unlabelled_batches) if len(unlabelled) else unlabelled
        weight = unlabelled_weight(epoch + step / ramp_steps, settings.warm_up, settings.lambda_u)
        coefficient = mix_draws.beta(settings.alpha, settings.alpha)
        mixmatch = _mixmatch_terms(
            peer,
            other,
            index,
            unlabelled_index,
            clean_prob[index],
            max(coefficient, 1.0 - coefficient),
            train_set,
            settings,
            generator,
        )
        labelled_loss, unlabelled_loss, penalty = mixmatch
        loss = labelled_loss + weight * unlabelled_loss + penalty
        generative = _generative_terms(peer, train_set, settings, generator)
        loss = loss + sum(generative)

        for optimizer in (peer.net_optimizer, peer.vae_optimizer):
            if optimizer is not None:
                optimizer.zero_grad()
        loss.backward()
        for optimizer in (peer.net_optimizer, peer.vae_optimizer):
            if optimizer is not None:
                optimizer.step()
        terms.append(torch.stack([loss, *mixmatch, *generative]).detach())

    names = (
        "loss",
        "labelled_loss",
        "unlabelled_loss",
        "penalty",
        *(VaeLoss._fields if peer.vae else ()),
    )
    return _mean_losses(
        torch.stack(terms), names, f"epoch {epoch}, training of network {peer.number}"
    )


def _mixmatch_terms(
    peer: Peer,
    other: Peer,
    index: Tensor,
    unlabelled_index: Tensor,
    clean_prob: Tensor,
    coefficient: float,
    train_set: TrainingSet,
    settings: Settings,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor, Tensor]:
    """L_x, L_u and the class-balance penalty of one step (DivideMix, algorithm 1, lines 12-25).

    index, clean_prob: (B,).
    """
    images, noisy_labels, num_classes = train_set
    x_views = [images.view(index, generator) for _ in range(2)]
    u_views = (
        [images.view(unlabelled_index, generator) for _ in range(2)]
        if len(unlabelled_index)
        else []
    )

    # The original guesses in train mode: batch statistics, and one update of the running ones for
    # each forward.
    peer.net.train(not settings.guess_eval)
    other.net.eval()
    with torch.no_grad():
        with settings.autocast():
            u_logits = [peer.net(view) for view in u_views]
            if u_views:  # in eval mode both views can share one forward
                u_logits += other.net(torch.cat(u_views)).chunk(2)
            x_logits = [peer.net(view) for view in x_views]
        targets = [
            co_refine(
                x_logits,
                one_hot(noisy_labels[index], num_classes),
                clean_prob,
                settings.temperature,
            )
        ] * 2
        if u_views:
            targets += [co_guess(u_logits, settings.temperature)] * 2

    rows, row_targets = torch.cat(x_views + u_views), torch.cat(targets)
    partner = torch.randperm(len(rows), device=rows.device, generator=generator)
    peer.net.train()
    with settings.autocast():
        logits = peer.net(mixup(rows, partner, coefficient))
    mixed_targets = mixup(row_targets, partner, coefficient)
    count = 2 * len(index)
    unlabelled_loss = (
        squared_error(logits[count:], mixed_targets[count:])
        if u_views
        else torch.zeros((), device=rows.device)
    )
    return (
        soft_cross_entropy(logits[:count], mixed_targets[:count]),
        unlabelled_loss,
        class_balance_penalty(logits),
    )


def _generative_terms(
    peer: Peer, train_set: TrainingSet, settings: Settings, generator: torch.Generator
) -> Sequence[Tensor]:
    """The four VAE terms on 2 B fresh samples of the whole noisy set; they train the classifier as
    well.
    """
    if peer.vae is None:
        return ()
    images, noisy_labels, _ = train_set
    index = torch.randperm(len(images), device=images.device, generator=generator)[
        : 2 * settings.batch_size
    ]
    batch = images.view(index, generator)
    with settings.autocast():
        output = peer.vae(batch, peer.net(batch), generator)
    return vae_loss(
        batch,
        output.reconstruction,
        noisy_labels[index],
        output.noisy_label_logits,
        output.label_sample,
        output.mu,
        output.log_var,
        numerics=settings.numerics,
    )


@torch.no_grad()
def predict(nets: Sequence[nn.Module], images: DeviceImages, autocast: Autocast) -> Tensor:
    """Logits of every network in eval mode on every image, in one pass over the data: (P, N, C)
    float32.
    """
    for net in nets:
        net.eval()
    batch_size = EVALUATION_BATCH.get(images.device.type, EVALUATION_BATCH["cuda"])
    batches = []
    for start in range(0, len(images), batch_size):
        batch = images.plain(slice(start, start + batch_size))
        with autocast():
            batches.append(torch.stack([net(batch).float() for net in nets]))
    logits = torch.cat(batches, dim=1)
    if not logits.isfinite().all():
        raise NonFiniteLossError("the networks predict NaN or infinity")
    return logits


def ensemble_accuracy(logits: Tensor, labels: Tensor) -> float:
    """Top-1 in percent of the SUM of the networks' logits. logits: (P, N, C); labels: (N,)."""
    return 100.0 * int((logits.sum(dim=0).argmax(dim=1) == labels).sum()) / len(labels)


def _mean_losses(terms: Tensor, names: Sequence[str], where: str) -> dict[str, float]:
    """Mean over the steps of an epoch of each named term; raises at the first step that is not
    finite. terms: (steps, T).
    """
    table = terms.float().cpu()
    broken = (~table.isfinite()).any(dim=1).nonzero()
    if len(broken):
        step = int(broken[0])
        values = ", ".join(f"{name} {value:g}" for name, value in zip(names, table[step].tolist()))
        raise NonFiniteLossError(f"{where}, step {step + 1} of {len(table)}: {values}")
    return dict(zip(names, table.double().mean(dim=0).tolist()))

"""The algorithm of SLN+MO+LC, epoch by epoch; CE, SLN and SLN+MO are its special cases.

Chen et al., "Noise against noise", ICLR 2021. Shapes: N training samples, M of them in an epoch, B
batch, C classes. Nothing inside an epoch waits for the device: losses and hits are gathered there
and looked at once, when the epoch is over.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from re_sln.data import Images, in_order, shuffled, stream_seed, torch_stream
from re_sln.ema import MomentumModel
from re_sln.losses import (
    corrected_targets,
    correction_weights,
    one_hot,
    perturb,
    soft_cross_entropy,
)

Row = dict[str, Any]


class NonFiniteLossError(RuntimeError):
    """A loss is NaN or infinite."""


@dataclass(frozen=True)
class Settings:
    """The hyper-parameters of a run."""

    batch_size: int
    n_epochs: int
    learning_rate: Callable[[int], float]  # of an epoch, from 1 on
    sigma: float
    mo: bool  # report the momentum model
    lc_n_epoch: int  # -1: no label correction
    recursive: bool  # label correction scores its own last targets, else always the given labels
    plain_scoring: (
        bool  # label correction scores the images themselves, else random views as in training
    )
    soft_predictions: (
        bool  # label correction mixes in softmax outputs (Clothing1M), else one-hot predictions
    )
    seed: int
    autocast: Callable[[], AbstractContextManager[None]]  # what the networks' forward passes run in


class TrainingSet(NamedTuple):
    """images: N; given: (N, C) noisy one-hot labels; is_noisy: (N,) bool, None where the truth is
    unknown.
    """

    images: Images
    given: Tensor
    is_noisy: Tensor | None
    per_class: int | None = (
        None  # Clothing1M: so many samples of each class in an epoch; None: all samples
    )

    def samples(self, generator: torch.Generator) -> Tensor:
        """The samples of an epoch, (M,) int64 in ascending order."""
        if self.per_class is None:
            return torch.arange(len(self.given), device=self.given.device)
        order = torch.randperm(len(self.given), device=self.given.device, generator=generator)
        labels = self.given.argmax(dim=1)[order]
        parts = [order[labels == k][: self.per_class] for k in range(self.given.shape[1])]
        return torch.cat(parts).sort().values


class EvaluationSet(NamedTuple):
    """images: N; labels: (N,) int64; augmented: show random views, as the original's validation
    does.
    """

    images: Images
    labels: Tensor
    augmented: bool = False


@dataclass
class Learner:
    """All that training changes.

    targets: (N, C) of the last label correction, None before the first.
    """

    net: nn.Module
    average: MomentumModel
    optimizer: torch.optim.Optimizer
    targets: Tensor | None = None

    def state_dict(self) -> dict[str, Any]:
        return {
            "net": self.net.state_dict(),
            "average": self.average.net.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "targets": self.targets,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.net.load_state_dict(state["net"])
        self.average.net.load_state_dict(state["average"])
        fused = self.optimizer.param_groups[0][
            "fused"
        ]  # of this device, not of the one that wrote the checkpoint
        self.optimizer.load_state_dict(state["optimizer"])
        for group in self.optimizer.param_groups:
            group["fused"] = fused
        self.targets = state["targets"]


def epochs(
    learner: Learner,
    train_set: TrainingSet,
    test_sets: dict[str, EvaluationSet],
    settings: Settings,
    first_epoch: int = 1,
) -> Iterator[Row]:
    """Trains from `first_epoch` to the last one and yields a row of figures after each; epochs
    count from 1.
    """
    for epoch in range(first_epoch, settings.n_epochs + 1):
        start = time.perf_counter()
        lr = learner.optimizer.param_groups[0]["lr"] = settings.learning_rate(epoch)
        samples = train_set.samples(
            torch_stream(train_set.images.device, settings.seed, epoch, "samples")
        )

        sigma = settings.sigma
        if 0 < settings.lc_n_epoch <= epoch:
            sigma = 0.0
            learner.targets = correct_labels(learner, train_set, samples, settings, epoch)
        row: Row = {"epoch": epoch, "lr": lr, "sigma": sigma}
        row |= train_epoch(learner, train_set, samples, sigma, settings, epoch)
        seconds = time.perf_counter() - start

        figures = {
            f"{figure}_{name}_{model}": value
            for name, test_set in test_sets.items()
            for model, net in (("base", learner.net), ("ema", learner.average.net))
            for figure, value in evaluate(net, test_set, settings, epoch).items()
        }
        row |= dict(zip(figures, torch.stack(list(figures.values())).tolist()))
        if not all(map(math.isfinite, (row[name] for name in figures))):
            raise NonFiniteLossError(
                f"epoch {epoch}, test: {', '.join(n for n in figures if not math.isfinite(row[n]))}"
            )
        row["accuracy"] = row[f"accuracy_{list(test_sets)[-1]}_{'ema' if settings.mo else 'base'}"]
        row |= {
            "seconds": round(time.perf_counter() - start, 3),
            "images_per_s": round(len(samples) / seconds, 1),
        }
        yield row


def correct_labels(
    learner: Learner, train_set: TrainingSet, samples: Tensor, settings: Settings, epoch: int
) -> Tensor:
    """LC: the targets (N, C) of an epoch; those of `samples` (M,) are mixed anew from given labels
    and predictions.

    The momentum model scores the samples once, in order, through the training augmentation (or not:
    plain_scoring). Their losses are taken against the targets of the last correction, at the first
    one against the given labels: that recursion is what both published codes do. The mix itself
    always starts from the given labels.
    """
    last = (
        learner.targets if settings.recursive and learner.targets is not None else train_set.given
    )
    batches = samples.split(train_set.images.evaluation_batch)
    if settings.plain_scoring:
        images = train_set.images.plain(batches)
    else:
        images = train_set.images.views(
            batches, stream_seed(settings.seed, epoch, "label correction")
        )
    logits = predict(learner.average.net, images, settings)
    predicted = (
        logits.softmax(dim=1)
        if settings.soft_predictions
        else one_hot(logits.argmax(dim=1), logits.shape[1])
    )
    weights = correction_weights(soft_cross_entropy(logits, last[samples]))
    targets = train_set.given.clone()
    targets[samples] = corrected_targets(weights, train_set.given[samples], predicted)
    return targets


def train_epoch(
    learner: Learner,
    train_set: TrainingSet,
    samples: Tensor,
    sigma: float,
    settings: Settings,
    epoch: int,
) -> Row:
    """One pass over `samples` (M,) in random order.

    Returns the mean losses and the accuracy, both in train mode.

    The losses contain the noise of SLN; the accuracy is against the labels without it, after LC the
    corrected ones.
    """
    device = train_set.images.device
    targets = train_set.given if learner.targets is None else learner.targets
    shuffle, noise = (
        torch_stream(device, settings.seed, epoch, name) for name in ("shuffle", "sln")
    )
    batches = shuffled(samples, settings.batch_size, shuffle)
    views = train_set.images.views(batches, stream_seed(settings.seed, epoch, "augmentation"))
    losses, hits = torch.zeros((2, len(targets)), device=device)
    batch_losses = []
    learner.net.train()
    for index, images in zip(batches, views):
        batch_targets = targets[index]
        with settings.autocast():
            logits = learner.net(images)
        per_sample = soft_cross_entropy(logits, perturb(batch_targets, sigma, noise))
        loss = per_sample.mean()
        learner.optimizer.zero_grad()
        loss.backward()
        learner.optimizer.step()
        learner.average.update()
        losses[index] = per_sample.detach()
        hits[index] = (logits.argmax(dim=1) == batch_targets.argmax(dim=1)).float()
        batch_losses.append(loss.detach())
    _check_finite(torch.stack(batch_losses), epoch)
    row = {"loss_train": losses[samples].mean().item()}
    for name, group in (
        ("noisy", train_set.is_noisy),
        ("clean", None if train_set.is_noisy is None else ~train_set.is_noisy),
    ):
        row[f"loss_train_{name}"] = _mean_of(
            losses[samples], None if group is None else group[samples]
        )
    return row | {"accuracy_train": 100 * hits[samples].mean().item()}


# DEVIATION(re_sln): the split losses are sums over the epoch divided by counts; the original
# averages batch means, so that one batch without a noisy sample makes the whole epoch's figure NaN.
def _mean_of(losses: Tensor, group: Tensor | None) -> float | None:
    """Mean loss of the group (M,) bool; None where the group is unknown or empty."""
    return None if group is None or not group.any() else losses[group].mean().item()


def _check_finite(batch_losses: Tensor, epoch: int) -> None:
    finite = torch.isfinite(batch_losses)
    if not finite.all():
        step = int((~finite).nonzero()[0])
        raise NonFiniteLossError(
            f"epoch {epoch}, step {step + 1} of {len(finite)}: loss {batch_losses[step].item()}"
        )


@torch.no_grad()
def predict(net: nn.Module, images: Iterator[Tensor], settings: Settings) -> Tensor:
    """Logits (N, C) float32 in eval mode, of batches of images in order."""
    net.eval()
    logits = []
    for batch in images:
        with settings.autocast():
            logits.append(net(batch).float())
    return torch.cat(logits)


def evaluate(
    net: nn.Module, test_set: EvaluationSet, settings: Settings, epoch: int
) -> dict[str, Tensor]:
    """Mean cross-entropy and accuracy in percent, as scalars on the device."""
    images, labels = test_set.images, test_set.labels
    batches = in_order(len(images), images.evaluation_batch, labels.device)
    batches_of = (
        _augmented(images, batches, settings, epoch)
        if test_set.augmented
        else images.plain(batches)
    )
    logits = predict(net, batches_of, settings)
    accuracy = 100 * (logits.argmax(dim=1) == labels).float().mean()
    return {"loss": F.cross_entropy(logits, labels), "accuracy": accuracy}


def _augmented(
    images: Images, batches: Sequence[Tensor], settings: Settings, epoch: int
) -> Iterator[Tensor]:
    return images.views(batches, stream_seed(settings.seed, epoch, "validation"))

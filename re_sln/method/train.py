"""The algorithm of SLN+MO+LC, epoch by epoch; CE, SLN and SLN+MO are its special cases.

Chen et al., "Noise against noise", ICLR 2021. Shapes: N training samples, M of them in an epoch, B
batch, C classes. Nothing inside an epoch waits for the device: losses and correct predictions are
gathered there and read once, when the epoch is over.

With several ranks (method/ranks.py) a batch is that of all together, and each works on its rows.
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

from re_sln.method.ema import MomentumModel
from re_sln.method.images import Images
from re_sln.method.losses import (
    corrected_targets,
    correction_weights,
    one_hot,
    perturb,
    soft_cross_entropy,
)
from re_sln.method.progress import watched
from re_sln.method.ranks import ALONE, Ranks
from re_sln.method.streams import in_order, shuffled, stream_seed, torch_stream

Row = dict[str, Any]  # the figures of an epoch


class NonFiniteLossError(FloatingPointError):
    """A loss is NaN or infinite."""


@dataclass(frozen=True)
class Settings:
    """The hyper-parameters of the loop."""

    batch_size: int
    n_epochs: int
    learning_rate: Callable[[int], float]  # of an epoch, from 1 on
    sigma: float
    mo: bool  # report the EMA model
    lc_n_epoch: int  # -1: no label correction
    recursive: bool  # label correction scores its own last targets, else always the noisy labels
    plain_scoring: bool  # label correction scores the images themselves, else augmented ones
    soft_predictions: bool  # label correction mixes in softmax outputs, else one-hot predictions
    seed: int
    autocast: Callable[[], AbstractContextManager[Any]]  # what forward passes run in
    ranks: Ranks = ALONE  # the processes that share every batch


class TrainingSet(NamedTuple):
    """The N images with their noisy labels."""

    images: Images
    noisy: Tensor  # (N, C) one-hot
    is_noisy: Tensor | None  # (N,) bool; None where the truth is unknown
    per_class: int | None = None  # samples of each class in an epoch; None: all samples

    def samples(self, generator: torch.Generator) -> Tensor:
        """The samples of an epoch, (M,) int64 in ascending order."""
        if self.per_class is None:
            return torch.arange(len(self.noisy), device=self.noisy.device)
        order = torch.randperm(len(self.noisy), device=self.noisy.device, generator=generator)
        labels = self.noisy.argmax(dim=1)[order]
        parts = [order[labels == k][: self.per_class] for k in range(self.noisy.shape[1])]
        return torch.cat(parts).sort().values


class EvaluationSet(NamedTuple):
    """Images and their labels (N,) int64; augmented: as the original's validation shows them."""

    images: Images
    labels: Tensor
    augmented: bool = False


@dataclass
class Learner:
    """All that training changes."""

    net: nn.Module
    trained: nn.Module  # the same one, in forward passes with gradients: see Ranks.parallel
    ema: MomentumModel
    optimizer: torch.optim.Optimizer
    targets: Tensor | None = None  # (N, C) of the last label correction, None before the first


def epochs(
    learner: Learner,
    train_set: TrainingSet,
    test_sets: dict[str, EvaluationSet],
    settings: Settings,
    first_epoch: int = 1,
) -> Iterator[Row]:
    """Trains from `first_epoch` to the last one; yields the figures of each. Epochs count from 1.

    test_sets: by name; the last one is the reported one. Figures of one without images are None.
    """
    device = train_set.images.device
    for epoch in range(first_epoch, settings.n_epochs + 1):
        start = time.perf_counter()
        lr = learner.optimizer.param_groups[0]["lr"] = settings.learning_rate(epoch)
        samples = train_set.samples(torch_stream(device, settings.seed, epoch, "samples"))
        sigma = settings.sigma
        if 0 < settings.lc_n_epoch <= epoch:
            sigma = 0.0
            learner.targets = correct_labels(learner, train_set, samples, settings, epoch)
        row: Row = {"epoch": epoch, "lr": lr, "sigma": sigma}
        row |= train_epoch(learner, train_set, samples, sigma, settings, epoch)
        settings.ranks.share_buffers(learner.net, learner.ema.net)
        seconds = time.perf_counter() - start

        row |= test(learner, test_sets, settings, epoch)
        row["accuracy"] = row[f"accuracy_{list(test_sets)[-1]}_{'ema' if settings.mo else 'base'}"]
        row["seconds"] = round(time.perf_counter() - start, 3)
        row["images_per_s"] = round(len(samples) / seconds, 1)
        yield row


def train_epoch(
    learner: Learner,
    train_set: TrainingSet,
    samples: Tensor,
    sigma: float,
    settings: Settings,
    epoch: int,
) -> Row:
    """One pass over `samples` (M,) in random order; mean losses and accuracy, in train mode.

    The losses contain the noise of SLN; the accuracy is against the targets without it, which after
    label correction are the corrected ones.
    """
    batch_losses, losses, correct = steps(learner, train_set, samples, sigma, settings, epoch)
    _check_finite(batch_losses, epoch)
    row: Row = {"loss_train": losses[samples].mean().item()}
    noisy = None if train_set.is_noisy is None else train_set.is_noisy[samples]
    row["loss_train_noisy"] = _mean_of(losses[samples], noisy)
    row["loss_train_clean"] = _mean_of(losses[samples], None if noisy is None else ~noisy)
    return row | {"accuracy_train": 100 * correct[samples].mean().item()}


def steps(
    learner: Learner,
    train_set: TrainingSet,
    samples: Tensor,
    sigma: float,
    settings: Settings,
    epoch: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """The steps of `train_epoch`: the loss of each, and each sample's loss (N,) and correctness.

    Correctness is 0 or 1, (N,) float; both are 0 outside `samples`.
    """
    device, ranks = train_set.images.device, settings.ranks
    targets = train_set.noisy if learner.targets is None else learner.targets
    shuffle = torch_stream(device, settings.seed, epoch, "shuffle")
    noise = torch_stream(device, settings.seed, epoch, "sln")
    batches = shuffled(samples, settings.batch_size, shuffle)
    seed = stream_seed(settings.seed, epoch, "augmentation")
    augmented = train_set.images.views(batches, seed, ranks)
    of_samples = torch.zeros((2, len(targets)), device=device)
    losses, correct = of_samples
    batch_losses: list[Tensor] = []
    learner.net.train()
    shown = (f"epoch {epoch}", len(batches), len(samples), lambda: batch_losses[-1])
    for index, images in watched(zip(batches, augmented), *shown):
        batch_targets = targets[index]
        noisy_targets = perturb(batch_targets, sigma, noise)
        with settings.autocast():
            logits = learner.trained(images)
        per_sample = soft_cross_entropy(logits, ranks.part(noisy_targets))
        loss = ranks.mean(per_sample, len(index))
        learner.optimizer.zero_grad()
        loss.backward()
        learner.optimizer.step()
        learner.ema.update()
        is_correct = logits.argmax(dim=1) == ranks.part(batch_targets).argmax(dim=1)
        own = ranks.own(len(index))
        mine = ranks.part(index)[:own]
        losses[mine] = per_sample.detach()[:own]
        correct[mine] = is_correct[:own].float()
        batch_losses.append(loss.detach())
    losses, correct = ranks.total(of_samples)
    return torch.stack(batch_losses), losses, correct


def correct_labels(
    learner: Learner, train_set: TrainingSet, samples: Tensor, settings: Settings, epoch: int
) -> Tensor:
    """LC: the targets (N, C) of an epoch; those of `samples` (M,) mix noisy labels and predictions.

    The EMA model scores the samples once, in order, through the training augmentation (or not:
    plain_scoring). Their losses are taken against the targets of the last correction, at the first
    one against the noisy labels: that recursion is what both published codes do. The mix itself
    always starts from the noisy labels.
    """
    last = train_set.noisy
    if settings.recursive and learner.targets is not None:
        last = learner.targets
    batches = torch.split(samples, train_set.images.evaluation_batch)
    if settings.plain_scoring:
        images = train_set.images.plain(batches, settings.ranks)
    else:
        seed = stream_seed(settings.seed, epoch, "label correction")
        images = train_set.images.views(batches, seed, settings.ranks)
    shown = watched(images, f"epoch {epoch}, label correction", len(batches), len(samples))
    logits = predict(learner.ema.net, shown, batches, settings)
    if settings.soft_predictions:
        predicted = logits.softmax(dim=1)
    else:
        predicted = one_hot(logits.argmax(dim=1), logits.shape[1])
    weights = correction_weights(soft_cross_entropy(logits, last[samples]))
    targets = train_set.noisy.clone()
    targets[samples] = corrected_targets(weights, train_set.noisy[samples], predicted)
    return targets


def test(
    learner: Learner, test_sets: dict[str, EvaluationSet], settings: Settings, epoch: int
) -> Row:
    """Loss and accuracy of both models on every set, `accuracy_test_ema` and so on.

    None where a set has no images.
    """
    figures = {
        f"{figure}_{name}_{model}": value
        for name, test_set in test_sets.items()
        for model, net in (("base", learner.net), ("ema", learner.ema.net))
        for figure, value in evaluate(net, test_set, settings, epoch).items()
    }
    known = {name: value for name, value in figures.items() if value is not None}
    row: Row = dict.fromkeys(figures)
    if known:
        row |= zip(known, torch.stack(list(known.values())).tolist())
    if bad := [name for name in known if not math.isfinite(row[name])]:
        raise NonFiniteLossError(f"epoch {epoch}, test: {', '.join(bad)}")
    return row


def evaluate(
    net: nn.Module, test_set: EvaluationSet, settings: Settings, epoch: int
) -> dict[str, Tensor | None]:
    """Mean cross-entropy and accuracy in percent, as scalars on the device; None without images."""
    images, labels = test_set.images, test_set.labels
    if len(labels) == 0:
        return {"loss": None, "accuracy": None}
    batches = in_order(len(images), images.evaluation_batch, labels.device)
    if test_set.augmented:
        seed = stream_seed(settings.seed, epoch, "validation")
        shown = images.views(batches, seed, settings.ranks)
    else:
        shown = images.plain(batches, settings.ranks)
    shown = watched(shown, f"epoch {epoch}, test", len(batches), len(images))
    logits = predict(net, shown, batches, settings)
    accuracy = 100 * (logits.argmax(dim=1) == labels).float().mean()
    return {"loss": F.cross_entropy(logits, labels), "accuracy": accuracy}


@torch.no_grad()
def predict(
    net: nn.Module, images: Iterator[Tensor], batches: Sequence[Tensor], settings: Settings
) -> Tensor:
    """Logits (N, C) float32 in eval mode, in order, the same on all ranks.

    images: of each batch, an index (B,), the rank's rows.
    """
    net.eval()
    logits = []
    for own in images:
        with settings.autocast():
            logits.append(net(own).float())
    whole = (settings.ranks.gather(own, len(index)) for own, index in zip(logits, batches))
    return torch.cat(list(whole))


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

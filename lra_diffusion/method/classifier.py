"""Plain cross-entropy training of a classifier: the baseline, and the teacher of PMD noise.

Nothing inside an epoch waits for the device: losses and correct predictions are gathered there and
looked at once, when the epoch is over.
Letters: N training images, M test images, B batch, C classes.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lra_diffusion.method.epoch import (
    NonFiniteLossError,
    check_finite,
    in_order,
    shuffled,
    stream_seed,
    torch_stream,
)
from lra_diffusion.method.evaluate import Row
from lra_diffusion.method.images import Autocast, Images
from lra_diffusion.method.networks import SmallResNet
from lra_diffusion.method.optimizers import SGD
from lra_diffusion.method.progress import watched
from lra_diffusion.method.ranks import ALONE, Ranks


@dataclass(frozen=True)
class Settings:
    """The hyper-parameters of a training."""

    batch_size: int
    n_epochs: int
    learning_rate: Callable[[int], float]  # of an epoch, from 1 on
    seed: int
    autocast: Autocast  # what the network's forward passes run in


class LabelledImages(NamedTuple):
    """images: N; labels: (N,) int64 in [0, C) on the images' device."""

    images: Images
    labels: Tensor


@dataclass
class Classifier:
    """All that training changes, and who trains it.

    parallel: the network as training calls it, see `Ranks.parallel`.
    """

    net: nn.Module
    optimizer: torch.optim.Optimizer
    ranks: Ranks
    parallel: nn.Module

    def state_dict(self) -> dict[str, Any]:
        return {"net": self.net.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_networks(self, state: Mapping[str, Any]) -> None:
        """All of a state but the optimizer's part, which depends on the device."""
        self.net.load_state_dict(state["net"])


def build(
    network: str,
    width: int,
    num_classes: int,
    device: torch.device,
    seed: int,
    *,
    nesterov: bool = False,
    ranks: Ranks = ALONE,
    sync_bn: bool = False,
) -> Classifier:
    """A ResNet for 32 x 32 images with weights drawn from `seed`, and SGD with momentum 0.9."""
    torch.manual_seed(seed)
    net = SmallResNet(network, num_classes, width)
    net = net.to(device).to(memory_format=torch.channels_last)
    optimizer = SGD(
        net.parameters(),
        lr=0.0,  # set at the start of every epoch
        momentum=0.9,
        weight_decay=5e-4,
        nesterov=nesterov,
        fused=device.type != "mps",
    )
    return Classifier(net, optimizer, ranks, ranks.parallel(net, sync_bn))


def cosine(peak: float, n_epochs: int) -> Callable[[int], float]:
    """The learning rate of an epoch: half a cosine from `peak` down to nearly nothing."""
    return lambda epoch: peak * 0.5 * (1 + math.cos(math.pi * (epoch - 1) / n_epochs))


def epochs(
    classifier: Classifier,
    train_set: LabelledImages,
    test_sets: Mapping[str, LabelledImages],
    settings: Settings,
    first_epoch: int = 1,
    recorded: Tensor | None = None,
) -> Iterator[Row]:
    """Trains from `first_epoch` to the last one and yields a row of figures after each.

    test_sets: by name; the accuracy on the set `test` is the row's `accuracy`, on any other
    `accuracy_<name>`; None for an empty set. recorded: (N, C) float32, is overwritten in every
    epoch, see `train_epoch`.
    """
    for epoch in range(first_epoch, settings.n_epochs + 1):
        start = time.perf_counter()
        lr = settings.learning_rate(epoch)
        for group in classifier.optimizer.param_groups:
            group["lr"] = lr
        row: Row = {"epoch": epoch, "lr": lr}
        row |= train_epoch(classifier, train_set, settings, epoch, recorded)
        seconds = time.perf_counter() - start
        for name, test_set in test_sets.items():
            accuracy = None
            if len(test_set.labels):
                accuracy = _evaluated(classifier, test_set, settings, f"epoch {epoch}, {name}")
            row["accuracy" if name == "test" else f"accuracy_{name}"] = accuracy
        row |= {
            "seconds": round(time.perf_counter() - start, 3),
            "images_per_s": round(len(train_set.labels) / seconds, 1),
        }
        yield classifier.ranks.each(row)[0]  # by one clock


def train_epoch(
    classifier: Classifier,
    train_set: LabelledImages,
    settings: Settings,
    epoch: int,
    recorded: Tensor | None = None,
) -> Row:
    """One pass in random order over random augmentations.

    Returns mean loss and accuracy on the training labels, both in train mode.

    recorded: (N, C) float32 on the device; row i becomes the softmax output of image i in its
    batch, before the update; for one rank alone.
    """
    images, labels = train_set
    device, ranks = images.device, classifier.ranks
    shuffle = torch_stream(device, settings.seed, epoch, "shuffle")
    batches = shuffled(torch.arange(len(labels), device=device), settings.batch_size, shuffle)
    augmented = images.views(batches, stream_seed(settings.seed, epoch, "augmentation"), ranks)
    figures = torch.zeros((2, len(labels)), device=device)
    losses, correct = figures
    classifier.net.train()
    means: list[Tensor] = []  # the last one is shown now and then
    for index, views in zip(watched(batches, f"epoch {epoch}", losses=means), augmented):
        with settings.autocast():
            logits = classifier.parallel(views)
        logits, rows = logits.float(), ranks.part(index)
        per_sample = F.cross_entropy(logits, labels[rows], reduction="none")
        classifier.optimizer.zero_grad()
        loss = ranks.mean(per_sample, len(index))
        loss.backward()
        means[:] = [loss.detach()]
        classifier.optimizer.step()
        if recorded is not None:
            recorded[rows] = logits.detach().softmax(dim=1)
        own = slice(ranks.own(len(index)))
        losses[rows[own]] = per_sample.detach()[own]
        correct[rows[own]] = (logits.argmax(dim=1) == labels[rows]).float()[own]
    losses, correct = ranks.total(figures)
    ranks.share_buffers(classifier.net)
    check_finite([losses[index].mean() for index in batches], epoch)
    return {"loss": losses.mean().item(), "accuracy_train": 100 * correct.mean().item()}


@torch.no_grad()
def predict(net: nn.Module, images: Images, settings: Settings, ranks: Ranks = ALONE) -> Tensor:
    """Logits (N, C) float32 of the images as at test time, in eval mode."""
    net.eval()
    logits = []
    batches = in_order(len(images), images.evaluation_batch, images.device, ranks)
    for _, batch in zip(watched(batches, "testing"), images.plain(batches)):
        with settings.autocast():
            logits.append(net(batch).float())
    return ranks.gather(torch.cat(logits), len(images))


def _evaluated(
    classifier: Classifier, test_set: LabelledImages, settings: Settings, where: str
) -> float:
    """Accuracy in percent.

    Outputs that are not finite raise: the last update of an epoch has no loss to show that.
    """
    logits = predict(classifier.net, test_set.images, settings, classifier.ranks)
    correct = (logits.argmax(dim=1) == test_set.labels).float().mean()
    finite, accuracy = torch.stack([logits.isfinite().all().float(), 100 * correct]).tolist()
    if not finite:
        raise NonFiniteLossError(f"{where} images: outputs that are not finite")
    return float(accuracy)

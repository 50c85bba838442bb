"""The teacher of confidence-dependent noise: WRN-28-10, trained on the clean labels.

Chen, Ye, Chen, Zhao, Heng, "Beyond class-conditional assumption", AAAI 2021. Its softmax outputs on
the training images, averaged over the epochs, say where a network is least sure of the right label.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from re_sln.method.images import Images
from re_sln.method.optimizers import SGD
from re_sln.method.progress import watched
from re_sln.method.streams import in_order, shuffled, stream_seed, torch_stream
from re_sln.method.train import NonFiniteLossError

BATCH_SIZE = 128


@dataclass
class Teacher:
    """All that its training changes."""

    net: nn.Module
    total: Tensor  # (N, C) float64: sum of the softmax outputs after each epoch
    epoch: int = 0  # finished ones


def epochs(
    teacher: Teacher,
    images: Images,
    labels: Tensor,
    n_epochs: int,
    seed: int,
    autocast: Callable[[], AbstractContextManager[Any]],
) -> Iterator[Teacher]:
    """Trains what is left and yields the teacher after each epoch. labels: (N,) int64, clean."""
    device = images.device
    everything = torch.arange(len(labels), device=device)
    losses = [torch.zeros(())]  # of the last step
    for epoch in range(teacher.epoch + 1, n_epochs + 1):
        # A new one in every epoch, as published: the momentum starts from nothing.
        optimizer = SGD(
            teacher.net.parameters(),
            learning_rate(epoch, n_epochs),
            momentum=0.9,
            weight_decay=5e-4,
        )
        batches = shuffled(everything, BATCH_SIZE, torch_stream(device, seed, epoch, "shuffle"))
        augmented = images.views(batches, stream_seed(seed, epoch, "augmentation"))
        teacher.net.train()
        shown = (f"epoch {epoch}", len(batches), len(labels), lambda: losses[-1])
        for index, batch in watched(zip(batches, augmented), *shown):
            with autocast():
                logits = teacher.net(batch)
            optimizer.zero_grad()
            loss = F.cross_entropy(logits.float(), labels[index])
            loss.backward()
            optimizer.step()
            losses[0] = loss.detach()
        probs = _probabilities(teacher.net, images, autocast)
        if not probs.isfinite().all():
            raise NonFiniteLossError(f"epoch {epoch} of the teacher")
        teacher.total += probs.cpu().double()
        teacher.epoch = epoch
        yield teacher


def learning_rate(epoch: int, n_epochs: int) -> float:
    """0.1, a fifth of it after two fifths of the epochs, a 25th after four fifths."""
    return (
        0.1 * (0.2 if epoch > n_epochs * 2 // 5 else 1) * (0.2 if epoch > n_epochs * 4 // 5 else 1)
    )


@torch.no_grad()
def _probabilities(
    net: nn.Module, images: Images, autocast: Callable[[], AbstractContextManager[Any]]
) -> Tensor:
    """Softmax outputs (N, C) in eval mode on the images themselves."""
    net.eval()
    batches = in_order(len(images), images.evaluation_batch, images.device)
    shown = watched(images.plain(batches), "softmax outputs", len(batches), len(images))
    with autocast():
        return torch.cat([net(batch).float().softmax(dim=1) for batch in shown])

"""The two networks that teach each other, the data they see, and what they predict.

Shapes: N training samples, M test samples, C classes, P peers.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from instancegm.method.images import Images, stream_seed
from instancegm.method.networks import build_classifier
from instancegm.method.optimizers import SGD, Adam
from instancegm.method.ranks import ALONE, Ranks
from instancegm.method.settings import Settings
from instancegm.method.signs import SILENT, SignsOfLife
from instancegm.method.vae import Vae

Autocast = Callable[[], AbstractContextManager[Any]]  # what forward passes run in


class NonFiniteLossError(FloatingPointError):
    """A loss or a prediction is NaN or infinite."""


class TrainingSet(NamedTuple):
    """N images and, on their device, the noisy labels."""

    images: Images
    noisy_labels: Tensor  # (N,) int64 in [0, C)
    num_classes: int
    is_clean: NDArray[np.bool_] | None = None  # (N,), for the log; None where nobody knows


class EvaluationSet(NamedTuple):
    """M images and, on their device, the clean labels."""

    images: Images
    labels: Tensor  # (M,) int64 in [0, C)


@dataclass(frozen=True)
class Peer:
    """One classifier with its own generative model (None: DivideMix) and their optimizers."""

    number: int  # 1 or 2, as the paper counts
    net: nn.Module
    net_optimizer: torch.optim.Optimizer
    vae: Vae | None
    vae_optimizer: torch.optim.Optimizer | None
    trained_net: nn.Module  # what forward passes with gradients call, see `Ranks.parallel`
    trained_vae: nn.Module | None
    autocast: Autocast = nullcontext
    ranks: Ranks = ALONE

    @property
    def optimizers(self) -> list[torch.optim.Optimizer]:
        return [self.net_optimizer] + ([self.vae_optimizer] if self.vae_optimizer else [])

    def share_buffers(self) -> None:
        """Running statistics of the first rank for all, without which they would not agree."""
        self.ranks.share_buffers(self.net, *([self.vae] if self.vae else []))

    def state_dict(self) -> dict[str, Any]:
        return {name: part.state_dict() for name, part in self._parts()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for name, part in self._parts():
            part.load_state_dict(state[name])

    def _parts(self) -> Iterator[tuple[str, nn.Module | torch.optim.Optimizer]]:
        yield "net", self.net
        yield "net_optimizer", self.net_optimizer
        if self.vae is not None and self.vae_optimizer is not None:
            yield "vae", self.vae
            yield "vae_optimizer", self.vae_optimizer


def build_peer(
    settings: Settings,
    number: int,
    num_classes: int,
    device: torch.device,
    autocast: Autocast = nullcontext,
    weights: Path | None = None,
    ranks: Ranks = ALONE,
) -> Peer:
    """A classifier with SGD and, unless it is left out, a VAE with Adam; all ranks together.

    The initial weights follow from the seed and the number; but for the last layer the classifier's
    are those of the file `weights`, if it is given. Raises UserError if these do not fit.
    """
    torch.manual_seed(stream_seed(settings.seed, -1, f"weights {number}"))
    fused = device.type != "mps"
    net = build_classifier(
        settings.network, num_classes, settings.width, weights, normalise=settings.normalise
    )
    net = place(net, device)
    sgd = SGD(
        net.parameters(),
        lr=settings.lr,
        momentum=0.9,
        weight_decay=settings.weight_decay,
        fused=fused,
    )
    trained_net = ranks.parallel(net, settings.sync_bn)
    if settings.method != "instancegm":
        return Peer(number, net, sgd, None, None, trained_net, None, autocast, ranks)
    vae = Vae(num_classes, settings.z_dim, settings.numerics, settings.image_size)
    place(vae, device)
    # DEVIATION(instancegm): --vae_lr is obeyed; the original sets 0.001, on Red Mini-ImageNet
    # 0.0001, again in every step.
    adam = Adam(vae.parameters(), lr=settings.vae_lr, fused=fused)
    trained_vae = ranks.parallel(vae, settings.sync_bn)
    return Peer(number, net, sgd, vae, adam, trained_net, trained_vae, autocast, ranks)


def place(module: nn.Module, device: torch.device) -> nn.Module:
    placed: nn.Module = module.to(device).to(memory_format=torch.channels_last)
    return placed


@torch.no_grad()
def predict(
    nets: Sequence[nn.Module],
    images: Images,
    autocast: Autocast,
    signs: SignsOfLife = SILENT,
    title: str = "predicting",
    index: NDArray[np.int64] | None = None,
    ranks: Ranks = ALONE,
) -> Tensor:
    """Logits of every network in eval mode on every image, in one pass: (P, N, C) float32.

    index: (M,) of some of the images. Each rank looks at its part of them, and gets them all.
    """
    for net in nets:
        net.eval()
    batch_size = images.evaluation_batch
    # DEVIATION(instancegm): no image is dropped; the original's loader of Red Mini-ImageNet leaves
    # out the last incomplete batch, of training losses and of the test set.
    rows = torch.arange(len(images)) if index is None else torch.from_numpy(index)
    indices = torch.split(ranks.part(rows).to(images.index_device), batch_size)
    batches = []
    at_once = batch_size * ranks.size
    for batch in signs.over(images.plain(indices), len(indices), title, at_once):
        with autocast():
            batches.append(torch.stack([net(batch).float() for net in nets]))
    own = torch.cat(batches, dim=1)
    logits = ranks.gather(own.transpose(0, 1), len(rows)).transpose(0, 1)
    if not logits.isfinite().all():
        raise NonFiniteLossError("the networks predict NaN or infinity")
    return logits


def ensemble_accuracy(logits: Tensor, labels: Tensor) -> float:
    """Top-1 in percent of the SUM of the networks' logits. logits: (P, N, C); labels: (N,)."""
    return 100.0 * int((logits.sum(dim=0).argmax(dim=1) == labels).sum()) / len(labels)


def mean_losses(terms: Tensor, names: Sequence[str], where: str) -> dict[str, float]:
    """Mean over the steps of an epoch of each named term. terms: (steps, T).

    Raises NonFiniteLossError, naming the first step that is not finite.
    """
    table = terms.float().cpu()
    broken = (~table.isfinite()).any(dim=1).nonzero()
    if len(broken):
        step = int(broken[0])
        values = ", ".join(f"{name} {value:g}" for name, value in zip(names, table[step].tolist()))
        raise NonFiniteLossError(f"{where}, step {step + 1} of {len(table)}: {values}")
    return dict(zip(names, table.double().mean(dim=0).tolist()))

"""SimCLR pre-training of the 32-pixel encoder f_p: the loss, the two views, an epoch, the features.

Chen, Kornblith, Norouzi & Hinton, "A simple framework for contrastive learning of visual
representations", ICML 2020. Training sees no label.
Letters: B batch, P width of the projection, N training and M test images, D width of the feature.
"""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import kornia.augmentation as kornia
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from lra_diffusion.encoders.networks import SimCLRNet
from lra_diffusion.method.epoch import check_finite, shuffled, stream_seed, torch_stream
from lra_diffusion.method.evaluate import Row
from lra_diffusion.method.images import Autocast, DeviceImages, Normalisation, channels
from lra_diffusion.method.progress import watched

KNN_EVERY = 10  # epochs


@dataclass(frozen=True)
class Settings:
    """The hyper-parameters of a run."""

    batch_size: int
    nepoch: int
    lr: float
    temperature: float
    seed: int
    autocast: Autocast  # what the network's forward passes run in


def nt_xent(first: Tensor, second: Tensor, temperature: float) -> Tensor:
    """Normalised temperature-scaled cross-entropy: the mean of equation 1 over all 2B views.

    first, second: (B, P), the projections of two views of the same images. Of a view's 2B - 1
    similarities to the others, divided by the temperature, that to its partner should be the
    largest.
    """
    count = len(first)
    views = F.normalize(torch.cat([first, second]).float(), dim=1)
    # Differences of similarities are finer than bfloat16.
    with torch.autocast(views.device.type, enabled=False):
        similarity = views @ views.T / temperature
    similarity.fill_diagonal_(-torch.inf)
    partner = torch.arange(2 * count, device=views.device).roll(count)
    return F.cross_entropy(similarity, partner)


def learning_rate(epoch: int, settings: Settings) -> float:
    """Half a cosine from --lr towards 0 over the run, constant within an epoch."""
    return settings.lr * (1 + math.cos(math.pi * (epoch - 1) / settings.nepoch)) / 2


def augmentation(dataset: str, side: int) -> nn.Module:
    """A view (B, 3, side, side) of images (B, 3, H, W) in [0, 1], each by draws of its own."""
    # cropping_mode="resample" warps the whole batch at once; the default cuts image by image.
    if dataset == "digits":  # a mirrored 2 is not a digit, and there are no colours
        return nn.Sequential(
            kornia.RandomResizedCrop((side, side), scale=(0.15, 1.0), cropping_mode="resample"),
            kornia.RandomAffine(15.0, translate=(0.1, 0.1), p=1.0),
        )
    return nn.Sequential(
        kornia.RandomResizedCrop((side, side), scale=(0.08, 1.0), cropping_mode="resample"),
        kornia.RandomHorizontalFlip(p=0.5),
        kornia.ColorJitter(0.4, 0.4, 0.4, 0.1, p=0.8),
        kornia.RandomGrayscale(p=0.2),
    )


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Global random numbers follow from `seed` inside only, since kornia takes no generator."""
    with torch.random.fork_rng([device] if device.type == "cuda" else [], device_type="cuda"):
        torch.manual_seed(seed)
        yield


def two_views(
    pixels: Tensor, augment: nn.Module, normalisation: Normalisation, seed: int
) -> Tensor:
    """Two random views of each image, normalised: (2B, 3, H, W), the first ones in front.

    pixels: (B, 3, H, W) in [0, 1].
    """
    with seeded(seed, pixels.device), torch.no_grad():
        views = torch.cat([augment(pixels), augment(pixels)])
    mean, std = channels(normalisation, pixels.device)
    return ((views - mean) / std).to(memory_format=torch.channels_last)


@dataclass
class Learner:
    """All that training changes."""

    net: SimCLRNet
    optimizer: torch.optim.Optimizer

    def state_dict(self) -> dict[str, Any]:
        return {"net": self.net.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_networks(self, state: dict[str, Any]) -> None:
        """All of a state but the optimizer's part, which depends on the device."""
        self.net.load_state_dict(state["net"])


def train(
    learner: Learner,
    images: DeviceImages,
    augment: nn.Module,
    settings: Settings,
    judge: Callable[[], float | None],
    first_epoch: int = 1,
) -> Iterator[Row]:
    """Trains from `first_epoch` to the last one and yields a row of figures after each.

    judge: the accuracy of nearest neighbours (%), asked in every tenth epoch and the last.
    """
    for epoch in range(first_epoch, settings.nepoch + 1):
        start = time.perf_counter()
        loss = train_epoch(learner.net, learner.optimizer, images, augment, settings, epoch)
        seconds = time.perf_counter() - start
        judged = epoch % KNN_EVERY == 0 or epoch == settings.nepoch
        yield {
            "epoch": epoch,
            "lr": learning_rate(epoch, settings),
            "loss": loss,
            "knn_accuracy": judge() if judged else None,
            "seconds": round(seconds, 3),
            "images_per_s": round(len(images) / seconds, 1),
        }


def train_epoch(
    net: SimCLRNet,
    optimizer: torch.optim.Optimizer,
    images: DeviceImages,
    augment: nn.Module,
    settings: Settings,
    epoch: int,
) -> float:
    """One pass over the images in random order, without a smaller last batch.

    Returns the mean loss.
    """
    net.train()
    optimizer.param_groups[0]["lr"] = learning_rate(epoch, settings)
    everyone = torch.arange(len(images), device=images.device)
    generator = torch_stream(images.device, settings.seed, epoch, "shuffle")
    losses: list[Tensor] = []
    batches = shuffled(everyone, settings.batch_size, generator, drop_last=True)
    for step, index in enumerate(watched(batches, f"epoch {epoch}", losses=losses)):
        seed = stream_seed(settings.seed, epoch, f"views {step}")
        views = two_views(images.pixels(index), augment, images.normalisation, seed)
        with settings.autocast():
            projections = net.project(views)
        first, second = projections.chunk(2)
        loss = nt_xent(first, second, settings.temperature)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    check_finite(losses, epoch)
    return torch.stack(losses).mean().item()


@torch.no_grad()
def features(net: SimCLRNet, images: DeviceImages, rows: Tensor, autocast: Autocast) -> Tensor:
    """(R, D) float32 of unit length: of rows (R,) int64, in eval mode, without augmentation."""
    net.eval()
    found = []
    batches = rows.split(images.evaluation_batch)
    for _, batch in zip(watched(batches, "features"), images.plain(batches)):
        with autocast():
            found.append(net(batch))
    return torch.cat(found)


def linear_probe(
    train: NDArray[Any], train_labels: NDArray[Any], test: NDArray[Any], test_labels: NDArray[Any]
) -> float:
    """Test accuracy (%) of a logistic regression on standardised features (N, D) and (M, D)."""
    from sklearn.linear_model import LogisticRegression  # takes two seconds to import
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(train)
    probe = LogisticRegression(max_iter=200).fit(scaler.transform(train), train_labels)
    return 100 * float(probe.score(scaler.transform(test), test_labels))

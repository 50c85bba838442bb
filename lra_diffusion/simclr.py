"""SimCLR pre-training of the 32-pixel encoder f_p: the loss, the two views, an epoch, and how good
the features are.

Chen, Kornblith, Norouzi & Hinton, "A simple framework for contrastive learning of visual
representations", ICML 2020. Training sees no label. Letters: B batch, P width of the projection, N
training and M test images, D width of the feature.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import kornia.augmentation as kornia
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn
from torch.nn import functional as F

from lra_diffusion.command_line import check_finite
from lra_diffusion.data import DeviceImages, Normalisation, shuffled, stream_seed, torch_stream
from lra_diffusion.encoder_networks import SimCLRNet

Autocast = Callable[[], AbstractContextManager[None]]


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
    """Normalised temperature-scaled cross-entropy, equation 1 of the paper, meaned over all 2B
    views; a scalar, float32.

    first, second: (B, P), the projections of two views of the same images. Of a view's 2B - 1
    similarities to the others, divided by the temperature, that to its partner should be the
    largest.
    """
    count = len(first)
    views = F.normalize(torch.cat([first, second]).float(), dim=1)
    with torch.autocast(
        views.device.type, enabled=False
    ):  # differences of similarities are finer than bfloat16
        similarity = views @ views.T / temperature
    similarity.fill_diagonal_(-torch.inf)
    partner = torch.arange(2 * count, device=views.device).roll(count)
    return F.cross_entropy(similarity, partner)


def learning_rate(epoch: int, settings: Settings) -> float:
    """Half a cosine from --lr towards 0 over the run, constant within an epoch; epochs count from
    1.
    """
    return settings.lr * (1 + math.cos(math.pi * (epoch - 1) / settings.nepoch)) / 2


def augmentation(dataset: str, side: int) -> nn.Module:
    """What makes a view of images (B, 3, H, W) in [0, 1]: (B, 3, side, side), every image by draws
    of its own.
    """
    # cropping_mode="resample" warps the whole batch at once; the default cuts image by image.
    if dataset == "digits":  # a mirrored 2 is no digit, and there are no colours
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
    """Global random numbers follow from `seed` inside, and are as before outside: kornia takes no
    generator.
    """
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
    mean, std = (
        torch.tensor(values, device=pixels.device)[:, None, None] for values in normalisation
    )
    return ((views - mean) / std).to(memory_format=torch.channels_last)


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
    losses = []
    for step, index in enumerate(
        shuffled(everyone, settings.batch_size, generator, drop_last=True)
    ):
        seed = stream_seed(settings.seed, epoch, f"views {step}")
        views = two_views(images.pixels(index), augment, images.normalisation, seed)
        with settings.autocast():
            projections = net.project(views)
        loss = nt_xent(*projections.chunk(2), settings.temperature)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    check_finite(losses, epoch)
    return torch.stack(losses).mean().item()


@torch.no_grad()
def features(net: SimCLRNet, images: DeviceImages, rows: Tensor, autocast: Autocast) -> Tensor:
    """(R, D) float32 of unit length, of these rows (R,) int64, in eval mode and without
    augmentation.
    """
    net.eval()
    found = []
    for batch in images.plain(rows.split(images.evaluation_batch)):
        with autocast():
            found.append(net(batch))
    return torch.cat(found)


def linear_probe(
    train: NDArray[Any], train_labels: NDArray[Any], test: NDArray[Any], test_labels: NDArray[Any]
) -> float:
    """Test accuracy in percent of a logistic regression on standardised features (N, D) and (M, D),
    clean labels.
    """
    scaler = StandardScaler().fit(train)
    probe = LogisticRegression(max_iter=200).fit(scaler.transform(train), train_labels)
    return 100 * float(probe.score(scaler.transform(test), test_labels))

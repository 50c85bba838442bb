"""The generative half of InstanceGM: q(Z|X,Y), p(X|Z,Y) and p(Y~|X,Y) for 32-pixel images.

Shapes: R rows, C classes, Z latent size. Parameter names are those of the published checkpoints.
Parameters with 10 classes and Z = 25: encoder 452,190, decoder 434,787, noisy-label head 411,190.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from instancegm.method.settings import Numerics

TRUNK_CHANNELS = (32, 64, 128, 256)  # each halves the side of the image


def _down(in_channels: int, channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, channels, 3, stride=2, padding=1),
        nn.BatchNorm2d(channels),
        nn.LeakyReLU(),
    )


def _up(in_channels: int, channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.ConvTranspose2d(in_channels, channels, 3, stride=2, padding=1, output_padding=1),
        nn.BatchNorm2d(channels),
        nn.LeakyReLU(),
    )


class _LabelledTrunk(nn.Module):
    """Image and label to features (R, 1024): the label becomes a fourth image channel."""

    def __init__(self, num_classes: int, image_size: int) -> None:
        super().__init__()
        self.embed_class = nn.Linear(num_classes, image_size * image_size)
        self.embed_data = nn.Conv2d(3, 3, 1)
        channels = (4, *TRUNK_CHANNELS)
        self.encoder = nn.Sequential(*map(_down, channels[:-1], channels[1:]))
        self.num_features = channels[-1] * (image_size // 2 ** len(TRUNK_CHANNELS)) ** 2

    def features(self, images: Tensor, label: Tensor) -> Tensor:
        class_map = self.embed_class(label).view(-1, 1, *images.shape[2:])
        stacked = torch.cat([self.embed_data(images), class_map], dim=1)
        return torch.flatten(self.encoder(stacked), start_dim=1)


class LatentEncoder(_LabelledTrunk):
    """q(Z|X,Y): images (R, 3, 32, 32) and label (R, C) to mu, log_var (R, Z)."""

    def __init__(self, num_classes: int, z_dim: int, image_size: int = 32) -> None:
        super().__init__(num_classes, image_size)
        self.fc_mu = nn.Linear(self.num_features, z_dim)
        self.fc_logvar = nn.Linear(self.num_features, z_dim)

    def forward(self, images: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        features = self.features(images, label)
        return self.fc_mu(features), self.fc_logvar(features)


class NoisyLabelHead(_LabelledTrunk):
    """p(Y~|X,Y): images (R, 3, 32, 32) and label (R, C) to logits of the noisy label (R, C)."""

    def __init__(self, num_classes: int, image_size: int = 32) -> None:
        super().__init__(num_classes, image_size)
        self.fc = nn.Linear(self.num_features, num_classes)

    def forward(self, images: Tensor, label: Tensor) -> Tensor:
        logits: Tensor = self.fc(self.features(images, label))
        return logits


class ImageDecoder(nn.Module):
    """p(X|Z,Y): latent (R, Z) and label (R, C) to continuous Bernoulli means (R, 3, 32, 32)."""

    def __init__(self, num_classes: int, z_dim: int) -> None:
        super().__init__()
        self.decoder_input = nn.Linear(z_dim + num_classes, 256 * 2 * 2)
        self.decoder = nn.Sequential(_up(256, 128), _up(128, 64), _up(64, 32))
        self.final_layer = nn.Sequential(*_up(32, 32), nn.Conv2d(32, 3, 3, padding=1), nn.Sigmoid())

    def forward(self, latent: Tensor, label: Tensor) -> Tensor:
        start = self.decoder_input(torch.cat([latent, label], dim=1)).view(-1, 256, 2, 2)
        before_sigmoid = self.final_layer[:-1](self.decoder(start))
        # In float32, since bfloat16 would round what is near 1 to 1.
        return torch.sigmoid(before_sigmoid.float())


class VaeOutput(NamedTuple):
    """What the losses need; all float32."""

    label_sample: Tensor  # (R, C)
    mu: Tensor  # (R, Z)
    log_var: Tensor  # (R, Z)
    reconstruction: Tensor  # (R, 3, H, W)
    noisy_label_logits: Tensor  # (R, C)


class Vae(nn.Module):
    """The three parts around a sampled label and a sampled latent code.

    numerics "original" follows the published code: the latent noise is uniform on [0, 1) and a
    second sigmoid squeezes the reconstruction into (0.5, 0.7311). "paper": standard normal noise,
    one sigmoid.
    """

    def __init__(
        self, num_classes: int, z_dim: int, numerics: Numerics = "original", image_size: int = 32
    ) -> None:
        super().__init__()
        self.numerics = numerics
        # DEVIATION(instancegm): no y_encoder; the original carries and saves 21 million parameters
        # that nothing uses.
        self.z_encoder = LatentEncoder(num_classes, z_dim, image_size)
        self.x_decoder = ImageDecoder(num_classes, z_dim)
        self.t_decoder = NoisyLabelHead(num_classes, image_size)

    def forward(
        self, images: Tensor, class_logits: Tensor, generator: torch.Generator | None = None
    ) -> VaeOutput:
        """images: (R, 3, 32, 32) in [0, 1]; class_logits: (R, C), through which gradients pass."""
        label_sample = gumbel_softmax(class_logits.float(), generator)
        mu, log_var = (part.float() for part in self.z_encoder(images, label_sample))
        draw = torch.rand if self.numerics == "original" else torch.randn
        noise = draw(mu.shape, device=mu.device, generator=generator)
        latent = mu + noise * torch.exp(0.5 * log_var)
        reconstruction = self.x_decoder(latent, label_sample)
        if self.numerics == "original":
            reconstruction = torch.sigmoid(reconstruction)
        noisy_label_logits = self.t_decoder(reconstruction, label_sample).float()
        return VaeOutput(label_sample, mu, log_var, reconstruction, noisy_label_logits)


def gumbel_softmax(logits: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """A relaxed sample of the categorical distribution: softmax(logits + Gumbel noise), (R, C).

    Like `torch.nn.functional.gumbel_softmax` at temperature 1, which takes no generator.
    """
    exponential = torch.empty_like(logits).exponential_(generator=generator)
    return F.softmax(logits - exponential.clamp_min(torch.finfo(logits.dtype).tiny).log(), dim=1)

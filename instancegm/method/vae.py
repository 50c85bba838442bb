"""The generative half of InstanceGM: q(Z|X,Y), p(X|Z,Y) and p(Y~|X,Y).

Shapes: R rows, C classes, Z latent size, S x S pixels: 32 for CIFAR and Red Mini-ImageNet, 64 for
Animal-10N, 224 for Clothing1M. Parameter names are those of the published checkpoints. Parameters
of encoder, decoder and noisy-label head:

    CIFAR-10     S  32, C 10, Z 25:    452,190    434,787    411,190
    Animal-10N   S  64, C 10, Z 64:    959,148    478,915    475,702
    Clothing1M   S 224, C 14, Z 25:  9,701,470  8,942,947  9,406,522
"""

import math
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from instancegm.method.settings import Numerics


class _Up(NamedTuple):
    """A transposed convolution of stride 2."""

    kernel: int
    padding: int
    output_padding: int


class _Geometry(NamedTuple):
    """How images of one size become features, and arise from a latent code."""

    channels: tuple[int, ...]  # of the trunk's convolutions of stride 2; the decoder goes back
    kernel: int  # of the trunk
    features_side: int  # of the trunk's last map
    decoder_side: int  # of the decoder's first map
    up: _Up  # from one number of channels to the one before
    last_up: tuple[_Up, ...]  # between equal numbers of channels, up to the size of the image


GEOMETRY = {  # by the side of the image
    32: _Geometry((32, 64, 128, 256), 3, 2, 2, _Up(3, 1, 1), (_Up(3, 1, 1),)),
    64: _Geometry((32, 64, 128, 256), 3, 4, 2, _Up(3, 1, 1), (_Up(3, 1, 1), _Up(2, 0, 0))),
    224: _Geometry((32, 64, 128, 256, 512), 7, 4, 4, _Up(7, 1, 0), (_Up(9, 1, 1),)),
}


def _down_layer(in_channels: int, channels: int, kernel: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, channels, kernel, stride=2, padding=1),
        nn.BatchNorm2d(channels),
        nn.LeakyReLU(),
    )


def _up_layer(in_channels: int, channels: int, up: _Up) -> nn.Sequential:
    return nn.Sequential(
        nn.ConvTranspose2d(in_channels, channels, up.kernel, 2, up.padding, up.output_padding),
        nn.BatchNorm2d(channels),
        nn.LeakyReLU(),
    )


class _LabelledTrunk(nn.Module):
    """Image and label to features (R, `num_features`): the label becomes a fourth image channel."""

    def __init__(self, num_classes: int, image_size: int) -> None:
        super().__init__()
        geometry = GEOMETRY[image_size]
        self.embed_class = nn.Linear(num_classes, image_size * image_size)
        self.embed_data = nn.Conv2d(3, 3, 1)
        channels = (4, *geometry.channels)
        self.encoder = nn.Sequential(
            *(_down_layer(a, b, geometry.kernel) for a, b in pairwise(channels))
        )
        self.num_features = channels[-1] * geometry.features_side**2

    def features(self, images: Tensor, label: Tensor) -> Tensor:
        class_map = self.embed_class(label).view(-1, 1, *images.shape[2:])
        stacked = torch.cat([self.embed_data(images), class_map], dim=1)
        return torch.flatten(self.encoder(stacked), start_dim=1)


class LatentEncoder(_LabelledTrunk):
    """q(Z|X,Y): images (R, 3, S, S) and label (R, C) to mu, log_var (R, Z)."""

    def __init__(self, num_classes: int, z_dim: int, image_size: int = 32) -> None:
        super().__init__(num_classes, image_size)
        self.fc_mu = nn.Linear(self.num_features, z_dim)
        self.fc_logvar = nn.Linear(self.num_features, z_dim)

    def forward(self, images: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        features = self.features(images, label)
        return self.fc_mu(features), self.fc_logvar(features)


class NoisyLabelHead(_LabelledTrunk):
    """p(Y~|X,Y): images (R, 3, S, S) and label (R, C) to logits of the noisy label (R, C)."""

    def __init__(self, num_classes: int, image_size: int = 32) -> None:
        super().__init__(num_classes, image_size)
        self.fc = nn.Linear(self.num_features, num_classes)

    def forward(self, images: Tensor, label: Tensor) -> Tensor:
        logits: Tensor = self.fc(self.features(images, label))
        return logits


class ImageDecoder(nn.Module):
    """p(X|Z,Y): latent (R, Z) and label (R, C) to continuous Bernoulli means (R, 3, S, S)."""

    def __init__(self, num_classes: int, z_dim: int, image_size: int = 32) -> None:
        super().__init__()
        geometry = GEOMETRY[image_size]
        channels = geometry.channels[::-1]
        self.start_shape = (channels[0], geometry.decoder_side, geometry.decoder_side)
        self.decoder_input = nn.Linear(z_dim + num_classes, math.prod(self.start_shape))
        self.decoder = nn.Sequential(*(_up_layer(a, b, geometry.up) for a, b in pairwise(channels)))
        last = channels[-1]
        self.final_layer = nn.Sequential(
            *(part for up in geometry.last_up for part in _up_layer(last, last, up)),
            nn.Conv2d(last, 3, 3, padding=1),
            nn.Sigmoid(),
        )

    def forward(self, latent: Tensor, label: Tensor) -> Tensor:
        start = self.decoder_input(torch.cat([latent, label], dim=1)).view(-1, *self.start_shape)
        before_sigmoid = self.final_layer[:-1](self.decoder(start))
        # In float32, since bfloat16 would round what is near 1 to 1.
        return torch.sigmoid(before_sigmoid.float())


class VaeNoise(NamedTuple):
    """What is random in a forward pass of R rows."""

    label: Tensor  # (R, C), exponential
    latent: Tensor  # (R, Z)


class VaeOutput(NamedTuple):
    """What the losses need; all float32."""

    label_sample: Tensor  # (R, C)
    mu: Tensor  # (R, Z)
    log_var: Tensor  # (R, Z)
    reconstruction: Tensor  # (R, 3, S, S)
    noisy_label_logits: Tensor  # (R, C)


class Vae(nn.Module):
    """The three parts around a sampled label and a sampled latent code.

    numerics "original" follows the published code: the latent noise is uniform on [0, 1) and a
    second sigmoid squeezes the reconstruction into (0.5, 0.7311). "paper": standard normal noise,
    one sigmoid. image_size: S, the side of the images. Raises ValueError for a size without a
    published geometry.
    """

    def __init__(
        self, num_classes: int, z_dim: int, numerics: Numerics = "original", image_size: int = 32
    ) -> None:
        super().__init__()
        if image_size not in GEOMETRY:
            sizes = ", ".join(map(str, GEOMETRY))
            raise ValueError(f"no VAE for images of {image_size} pixels, only for one of {sizes}")
        self.numerics, self._num_classes, self._z_dim = numerics, num_classes, z_dim
        # DEVIATION(instancegm): no y_encoder; the original carries and saves 21 million parameters
        # that nothing uses.
        self.z_encoder = LatentEncoder(num_classes, z_dim, image_size)
        self.x_decoder = ImageDecoder(num_classes, z_dim, image_size)
        self.t_decoder = NoisyLabelHead(num_classes, image_size)

    def noise(self, count: int, generator: torch.Generator) -> VaeNoise:
        """The random numbers of `count` rows, on the generator's device."""
        device = generator.device
        label = torch.empty(count, self._num_classes, device=device)
        draw = torch.rand if self.numerics == "original" else torch.randn
        return VaeNoise(
            label.exponential_(generator=generator),
            draw(count, self._z_dim, device=device, generator=generator),
        )

    def forward(self, images: Tensor, class_logits: Tensor, noise: VaeNoise) -> VaeOutput:
        """images: (R, 3, S, S) in [0, 1]; class_logits: (R, C), through which gradients pass."""
        label_sample = gumbel_softmax(class_logits.float(), noise.label)
        mu, log_var = (part.float() for part in self.z_encoder(images, label_sample))
        latent = mu + noise.latent * torch.exp(0.5 * log_var)
        reconstruction = self.x_decoder(latent, label_sample)
        if self.numerics == "original":
            reconstruction = torch.sigmoid(reconstruction)
        noisy_label_logits = self.t_decoder(reconstruction, label_sample).float()
        return VaeOutput(label_sample, mu, log_var, reconstruction, noisy_label_logits)


def gumbel_softmax(logits: Tensor, exponential: Tensor) -> Tensor:
    """A relaxed sample of the categorical distribution: softmax(logits + Gumbel noise), (R, C).

    exponential: (R, C), exponentially distributed. Like `torch.nn.functional.gumbel_softmax` at
    temperature 1, which draws that itself.
    """
    return F.softmax(logits - exponential.clamp_min(torch.finfo(logits.dtype).tiny).log(), dim=1)

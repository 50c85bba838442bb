"""The generative part: sizes, names and layers of the published ones at 32, 64 and 224 pixels, and
how its numerics sample.
"""

import pytest
import torch
from torch.nn import functional as F

from instancegm.method.vae import ImageDecoder, LatentEncoder, NoisyLabelHead, Vae, gumbel_softmax

# Of the published checkpoints: each layer's name with the shape of its weight, and its bias next.
TRUNK = {
    32: """embed_class 1024 C, embed_data 3 3 1 1, encoder.0.0 32 4 3 3, encoder.0.1 32,
        encoder.1.0 64 32 3 3, encoder.1.1 64, encoder.2.0 128 64 3 3, encoder.2.1 128,
        encoder.3.0 256 128 3 3, encoder.3.1 256""",
    64: """embed_class 4096 C, embed_data 3 3 1 1, encoder.0.0 32 4 3 3, encoder.0.1 32,
        encoder.1.0 64 32 3 3, encoder.1.1 64, encoder.2.0 128 64 3 3, encoder.2.1 128,
        encoder.3.0 256 128 3 3, encoder.3.1 256""",
    224: """embed_class 50176 C, embed_data 3 3 1 1, encoder.0.0 32 4 7 7, encoder.0.1 32,
        encoder.1.0 64 32 7 7, encoder.1.1 64, encoder.2.0 128 64 7 7, encoder.2.1 128,
        encoder.3.0 256 128 7 7, encoder.3.1 256, encoder.4.0 512 256 7 7, encoder.4.1 512""",
}
FEATURES = {32: 1024, 64: 4096, 224: 8192}
# Of a transposed convolution the second number is that of the outputs.
DECODER = {
    32: """decoder_input 1024 S, decoder.0.0 256 128 3 3, decoder.0.1 128,
        decoder.1.0 128 64 3 3, decoder.1.1 64, decoder.2.0 64 32 3 3, decoder.2.1 32,
        final_layer.0 32 32 3 3, final_layer.1 32, final_layer.3 3 32 3 3""",
    64: """decoder_input 1024 S, decoder.0.0 256 128 3 3, decoder.0.1 128,
        decoder.1.0 128 64 3 3, decoder.1.1 64, decoder.2.0 64 32 3 3, decoder.2.1 32,
        final_layer.0 32 32 3 3, final_layer.1 32, final_layer.3 32 32 2 2, final_layer.4 32,
        final_layer.6 3 32 3 3""",
    224: """decoder_input 8192 S, decoder.0.0 512 256 7 7, decoder.0.1 256,
        decoder.1.0 256 128 7 7, decoder.1.1 128, decoder.2.0 128 64 7 7, decoder.2.1 64,
        decoder.3.0 64 32 7 7, decoder.3.1 32,
        final_layer.0 32 32 9 9, final_layer.1 32, final_layer.3 3 32 3 3""",
}


def layers(module):
    """Names and shapes of a module's weights, in the notation above."""
    return [
        " ".join([name.removesuffix(".weight"), *map(str, parameter.shape)])
        for name, parameter in module.named_parameters()
        if name.endswith(".weight")
    ]


def published(text, **sizes):
    for letter, size in sizes.items():
        text = text.replace(f" {letter}", f" {size}")
    return [layer.strip() for layer in text.split(",")]


@pytest.mark.parametrize("size", [32, 64, 224])
def test_vae_parts_have_the_names_and_shapes_of_published_checkpoints(size):
    with torch.device("meta"):
        vae = Vae(10, 25, image_size=size)
    trunk, features = published(TRUNK[size], C=10), FEATURES[size]
    latent = [f"fc_mu 25 {features}", f"fc_logvar 25 {features}"]
    assert layers(vae.z_encoder) == trunk + latent
    assert layers(vae.t_decoder) == [*trunk, f"fc 10 {features}"]
    assert layers(vae.x_decoder) == published(DECODER[size], S=35)
    for part in (vae.z_encoder, vae.x_decoder, vae.t_decoder):
        names = [name for name, _ in part.named_parameters()]
        assert names[1::2] == [name.replace(".weight", ".bias") for name in names[::2]]


@pytest.mark.parametrize(
    ("classes", "z_dim", "size", "encoder", "decoder", "head"),
    [
        (10, 25, 32, 452_190, 434_787, 411_190),  # CIFAR-10
        (100, 25, 32, 544_350, 526_947, 595_600),  # CIFAR-100
        (100, 64, 32, 624_300, 566_883, 595_600),  # Red Mini-ImageNet
        (10, 64, 64, 959_148, 478_915, 475_702),  # Animal-10N
        (14, 25, 224, 9_701_470, 8_942_947, 9_406_522),  # Clothing1M
    ],
)
def test_vae_parts_have_the_published_size(classes, z_dim, size, encoder, decoder, head):
    with torch.device("meta"):
        parts = [
            LatentEncoder(classes, z_dim, size),
            ImageDecoder(classes, z_dim, size),
            NoisyLabelHead(classes, size),
        ]
    counts = [sum(parameter.numel() for parameter in part.parameters()) for part in parts]
    assert counts == [encoder, decoder, head]


def test_vae_state_has_the_prefixes_of_published_checkpoints():
    prefixes = {name.split(".")[0] for name in Vae(10, 25).state_dict()}
    assert prefixes == {"z_encoder", "x_decoder", "t_decoder"}


def test_the_vae_of_cifar_starts_as_it_always_did():
    """Old runs resume and repeat: the order of the draws is part of the contract."""
    torch.manual_seed(0)
    state = Vae(10, 25).state_dict()
    for name, total in (
        ("z_encoder.embed_class.weight", -2.731136),
        ("x_decoder.decoder.1.0.weight", 1.292110),
        ("t_decoder.fc.weight", 0.513656),
    ):
        assert state[name].double().sum().item() == pytest.approx(total, abs=1e-4)


def activated(x, state, conv, norm, transposed=None):
    """A convolution of stride 2, batch normalisation with stored statistics, leaky ReLU."""
    weight, bias = state[f"{conv}.weight"], state[f"{conv}.bias"]
    if transposed is None:
        x = F.conv2d(x, weight, bias, stride=2, padding=1)
    else:
        padding, output_padding = transposed
        x = F.conv_transpose2d(x, weight, bias, 2, padding, output_padding)
    mean, var = state[f"{norm}.running_mean"], state[f"{norm}.running_var"]
    scale = state[f"{norm}.weight"] / (var + 1e-5).sqrt()
    x = (x - mean[:, None, None]) * scale[:, None, None] + state[f"{norm}.bias"][:, None, None]
    return torch.where(x > 0, x, 0.01 * x)


def with_random_norms(module):
    """In eval mode, each batch normalisation with statistics and weights of its own."""
    for name, value in module.state_dict().items():
        if name.endswith(("running_var", ".1.weight", ".4.weight")):
            value.uniform_(0.5, 2.0)
        elif name.endswith("running_mean"):
            value.normal_(0, 0.1)
    return module.eval()


@pytest.mark.parametrize(("size", "sides"), [(32, 4), (64, 4), (224, 5)])
def test_the_trunk_computes_layer_by_layer_as_specified(size, sides):
    torch.manual_seed(size)
    encoder, head = (
        with_random_norms(part) for part in (LatentEncoder(3, 5, size), NoisyLabelHead(3, size))
    )
    images, label = torch.rand(2, 3, size, size), torch.softmax(torch.randn(2, 3), dim=1)
    features = []
    for part in (encoder, head):
        state = part.state_dict()
        class_map = label @ state["embed_class.weight"].T + state["embed_class.bias"]
        data = F.conv2d(images, state["embed_data.weight"], state["embed_data.bias"])
        x = torch.cat([data, class_map.view(2, 1, size, size)], dim=1)
        for k in range(sides):
            x = activated(x, state, f"encoder.{k}.0", f"encoder.{k}.1")
        features.append(x.flatten(1))
    mu, log_var = encoder(images, label)
    for output, layer, x in (
        (mu, encoder.fc_mu, features[0]),
        (log_var, encoder.fc_logvar, features[0]),
        (head(images, label), head.fc, features[1]),
    ):
        assert torch.allclose(output, x @ layer.weight.T + layer.bias, rtol=1e-4, atol=1e-5)


# Per size: the first map, layers of `decoder` with (padding, output padding) and the sides of the
# maps after them, those of `final_layer` with the index of the convolution.
DECODING = {
    32: ((256, 2), (1, 1), [4, 8, 16], [(0, (1, 1), 32)], 3),
    64: ((256, 2), (1, 1), [4, 8, 16], [(0, (1, 1), 32), (3, (0, 0), 64)], 6),
    224: ((512, 4), (1, 0), [11, 25, 53, 109], [(0, (1, 1), 224)], 3),
}


@pytest.mark.parametrize("size", DECODING)
def test_the_decoder_computes_layer_by_layer_as_specified(size):
    torch.manual_seed(size)
    decoder = with_random_norms(ImageDecoder(3, 5, size))
    state = decoder.state_dict()
    (channels, side), paddings, sides, last, end = DECODING[size]
    latent, label = torch.randn(2, 5), torch.softmax(torch.randn(2, 3), dim=1)
    x = torch.cat([latent, label], dim=1) @ state["decoder_input.weight"].T
    x = (x + state["decoder_input.bias"]).view(2, channels, side, side)
    for k, after in enumerate(sides):
        x = activated(x, state, f"decoder.{k}.0", f"decoder.{k}.1", paddings)
        assert x.shape[-1] == after
    for k, padding, after in last:
        x = activated(x, state, f"final_layer.{k}", f"final_layer.{k + 1}", padding)
        assert x.shape[-1] == after
    weight, bias = state[f"final_layer.{end}.weight"], state[f"final_layer.{end}.bias"]
    expected = 1 / (1 + torch.exp(-F.conv2d(x, weight, bias, padding=1)))
    assert expected.shape == (2, 3, size, size)
    assert torch.allclose(decoder(latent, label), expected, rtol=1e-4, atol=1e-5)


def test_a_size_that_no_script_has_is_refused():
    with pytest.raises(ValueError, match="no VAE for images of 48 pixels, only for one of 32, 64"):
        Vae(10, 25, image_size=48)


def noise(vae, seed=0, count=64):
    return vae.noise(count, torch.Generator().manual_seed(seed))


def test_vae_follows_its_numerics():
    torch.manual_seed(0)
    images, logits = torch.rand(64, 3, 32, 32), torch.randn(64, 10)
    original, paper = Vae(10, 25, "original").eval(), Vae(10, 25, "paper").eval()
    paper.load_state_dict(original.state_dict())
    with torch.no_grad():
        squeezed = original(images, logits, noise(original)).reconstruction
        plain = paper(images, logits, noise(paper)).reconstruction
        label, mu, log_var, reconstruction, noisy = original(images, logits, noise(original, 3))
        again = original(images, logits, noise(original, 3))
    assert squeezed.min() > 0.5
    assert squeezed.max() < 0.7311
    assert plain.min() < 0.5
    assert label.shape == (64, 10)
    assert mu.shape == log_var.shape == (64, 25)
    assert reconstruction.shape == images.shape
    assert noisy.shape == (64, 10)
    assert torch.equal(again.reconstruction, reconstruction)


def test_the_original_latent_noise_is_uniform(monkeypatch):
    """With a decoder that returns the latent code, the noise itself can be seen."""
    vae = Vae(2, 4000, "original")
    seen = {}
    monkeypatch.setattr(
        vae.z_encoder, "forward", lambda images, label: (torch.zeros(1, 4000), torch.zeros(1, 4000))
    )
    decode = vae.x_decoder.forward
    monkeypatch.setattr(vae.x_decoder, "forward", lambda z, y: seen.update(z=z) or decode(z, y))
    for numerics, low in (("original", 0.0), ("paper", -6.0)):
        vae.numerics = numerics
        vae.eval()(torch.rand(1, 3, 32, 32), torch.zeros(1, 2), noise(vae, count=1))
        assert seen["z"].min() >= low
        assert (seen["z"].min() < 0) == (numerics == "paper")
    assert seen["z"].std() == pytest.approx(1.0, abs=0.05)


def test_gumbel_softmax_samples_the_categorical_distribution():
    logits = torch.log(torch.tensor([[0.1, 0.2, 0.7]])).expand(20_000, 3)
    exponential = torch.empty(20_000, 3).exponential_(generator=torch.Generator().manual_seed(0))
    sample = gumbel_softmax(logits, exponential)
    assert torch.allclose(sample.sum(dim=1), torch.ones(20_000), rtol=0, atol=1e-5)
    frequencies = torch.bincount(sample.argmax(dim=1)) / 20_000
    assert frequencies.tolist() == pytest.approx([0.1, 0.2, 0.7], abs=0.015)

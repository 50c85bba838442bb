"""Parameter counts and names of the published networks, and the peculiarities that a count does not
show.
"""

import pytest
import torch
from torch.nn import functional as F

from instancegm.method.networks import PreActBlock, PreActResNet18
from instancegm.method.vae import ImageDecoder, LatentEncoder, NoisyLabelHead, Vae, gumbel_softmax


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(("classes", "parameters"), [(10, 11_171_274), (100, 11_217_444)])
def test_preact_resnet18_has_the_published_size(classes, parameters):
    assert count(PreActResNet18(classes)) == parameters


def test_preact_resnet18_has_the_names_of_published_checkpoints():
    names = [name for name, _ in PreActResNet18(10).named_parameters()]
    assert names[:3] == ["conv1.weight", "bn1.weight", "bn1.bias"]
    assert names[-2:] == ["linear.weight", "linear.bias"]
    assert "layer2.0.shortcut.0.weight" in names
    assert "layer1.0.shortcut.0.weight" not in names
    assert len(names) == 56


def test_a_block_without_projection_adds_the_activated_input():
    block = PreActBlock(4, 4, stride=1).eval()
    x = torch.randn(2, 4, 8, 8)
    activated = F.relu(block.bn1(x))
    expected = block.conv2(F.relu(block.bn2(block.conv1(activated)))) + activated
    assert torch.allclose(block(x), expected, rtol=1e-5, atol=1e-5)


def test_the_network_ends_without_normalisation():
    net = PreActResNet18(3, width=4).eval()
    x = torch.rand(2, 3, 32, 32)
    features = net.layer4(net.layer3(net.layer2(net.layer1(F.relu(net.bn1(net.conv1(x)))))))
    assert features.shape == (2, 32, 4, 4)
    assert torch.allclose(net(x), net.linear(features.mean(dim=(2, 3))), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("classes", "z_dim", "encoder", "decoder", "head"),
    [
        (10, 25, 452_190, 434_787, 411_190),
        (100, 25, 544_350, 526_947, 595_600),
        (100, 64, 624_300, 566_883, 595_600),
    ],
)
def test_vae_parts_have_the_published_size(classes, z_dim, encoder, decoder, head):
    parts = LatentEncoder(classes, z_dim), ImageDecoder(classes, z_dim), NoisyLabelHead(classes)
    assert tuple(map(count, parts)) == (encoder, decoder, head)


def test_vae_state_has_the_prefixes_of_published_checkpoints():
    prefixes = {name.split(".")[0] for name in Vae(10, 25).state_dict()}
    assert prefixes == {"z_encoder", "x_decoder", "t_decoder"}


def test_vae_follows_its_numerics():
    torch.manual_seed(0)
    images, logits = torch.rand(64, 3, 32, 32), torch.randn(64, 10)
    original, paper = Vae(10, 25, "original").eval(), Vae(10, 25, "paper").eval()
    paper.load_state_dict(original.state_dict())
    with torch.no_grad():
        squeezed = original(images, logits).reconstruction
        plain = paper(images, logits).reconstruction
        label, mu, log_var, reconstruction, noisy = original(
            images, logits, torch.Generator().manual_seed(3)
        )
        again = original(images, logits, torch.Generator().manual_seed(3))
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
        vae.eval()(torch.rand(1, 3, 32, 32), torch.zeros(1, 2), torch.Generator().manual_seed(0))
        assert seen["z"].min() >= low
        assert (seen["z"].min() < 0) == (numerics == "paper")
    assert seen["z"].std() == pytest.approx(1.0, abs=0.05)


def test_gumbel_softmax_samples_the_categorical_distribution():
    logits = torch.log(torch.tensor([[0.1, 0.2, 0.7]])).expand(20_000, 3)
    sample = gumbel_softmax(logits, torch.Generator().manual_seed(0))
    assert torch.allclose(sample.sum(dim=1), torch.ones(20_000), rtol=0, atol=1e-5)
    frequencies = torch.bincount(sample.argmax(dim=1)) / 20_000
    assert frequencies.tolist() == pytest.approx([0.1, 0.2, 0.7], abs=0.015)

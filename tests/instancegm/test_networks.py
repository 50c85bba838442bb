"""The classifiers: sizes and names of the published ones, the peculiarities that these do not show,
and how weights get in and out.
"""

import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torchvision import models

from instancegm.method.networks import (
    NETWORKS,
    PreActBlock,
    PreActResNet18,
    build_classifier,
    load_classifier,
    normalised,
    projection,
    vgg19_bn,
)
from instancegm.method.vae import Vae
from shared.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
NARROW = {"preact_resnet18": 2, "vgg19_bn": 4, "resnet50": 2}


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


def narrow(name, classes, **options):
    return build_classifier(name, classes, NARROW[name], **options)


def shapes(module):
    return [(name, tuple(value.shape)) for name, value in module.state_dict().items()]


@pytest.mark.parametrize(
    ("name", "classes", "parameters"),
    [
        ("preact_resnet18", 10, 11_171_274),
        ("preact_resnet18", 100, 11_217_444),
        ("vgg19_bn", 10, 139_622_218),
        ("resnet50", 14, 23_536_718),
    ],
)
def test_classifiers_have_the_published_size(name, classes, parameters):
    with torch.device("meta"):
        assert count(build_classifier(name, classes)) == parameters


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


def test_vgg19_bn_is_that_of_torchvision():
    with torch.device("meta"):
        ours, theirs = vgg19_bn(1000), models.vgg19_bn()
        assert shapes(ours) == shapes(theirs)
        for part in ("features", "avgpool", "classifier"):
            assert str(getattr(ours, part)) == str(getattr(theirs, part))


def test_a_narrow_vgg19_bn_computes_as_torchvisions_does():
    ours = vgg19_bn(5, width=4).eval()
    with torch.device("meta"):
        theirs = models.VGG(ours.features, init_weights=False).eval()
    theirs.classifier = ours.classifier
    images = torch.rand(2, 3, 64, 64)
    assert torch.equal(ours(images), theirs(images))


def test_width_scales_every_layer_of_vgg19_bn():
    with torch.device("meta"):
        wide, slim = shapes(vgg19_bn(10)), shapes(vgg19_bn(10, width=8))
    assert [name for name, _ in wide] == [name for name, _ in slim]
    for (name, full), (_, part) in zip(wide, slim):
        for size, less in zip(full, part):
            fixed = size == 3 or (size == 10 and name.startswith("classifier.6"))  # kernels, ends
            assert less == (size if fixed else size // 8), name


def test_the_head_of_a_narrow_vgg_is_not_fainter_than_the_published_one():
    """Torchvision's 0.01 keeps a signal of 25,088 and 4,096 inputs, and loses one of 512."""
    torch.manual_seed(0)
    for width in (8, 32):
        hidden = vgg19_bn(10, width).classifier[3].weight
        assert hidden.std().item() * hidden.shape[1] ** 0.5 == pytest.approx(0.64, rel=0.02)


def test_width_scales_the_bottlenecks_of_resnet50():
    with torch.device("meta"):
        net = build_classifier("resnet50", 14, width=4)
        assert shapes(build_classifier("resnet50", 1000)) == shapes(models.resnet50())
    stages = [net.layer1, net.layer2, net.layer3, net.layer4]
    assert [stage[0].conv2.out_channels for stage in stages] == [4, 8, 16, 32]
    assert net.fc.in_features == 2048


@pytest.mark.parametrize("name", NETWORKS)
def test_a_state_dict_tells_network_and_width(name):
    torch.manual_seed(0)
    net = narrow(name, 3).eval()
    again = load_classifier(net.state_dict(), 3).eval()
    images = torch.rand(2, 3, 32, 32)
    assert torch.equal(again(images), net(images))


@pytest.mark.parametrize("name", NETWORKS)
def test_a_start_from_weights_replaces_only_the_head(name, tmp_path):
    state = narrow(name, 7).state_dict()
    # Files from before torch 0.4.1, such as the first ones of torchvision, do not count batches.
    old = {key: value for key, value in state.items() if not key.endswith("_tracked")}
    torch.save(old, tmp_path / "w.pth")
    for classes in (3, 7):
        net = narrow(name, classes, weights=tmp_path / "w.pth")
        head = f"{NETWORKS[name].head}."
        for key, value in net.state_dict().items():
            if key.startswith(head):
                assert len(value) == classes
                assert classes == 3 or key.endswith("bias") or not value.equal(state[key])
            else:
                assert value.equal(state[key]), key


def test_weights_that_do_not_fit_are_refused_with_file_and_reason(tmp_path):
    path = tmp_path / "w.pth"

    def refusal(state, name="vgg19_bn", width=4):
        torch.save(state, path)
        with pytest.raises(UserError) as caught:
            build_classifier(name, 3, width, path)
        message = str(caught.value)
        assert str(path) in message
        return message

    vgg = narrow("vgg19_bn", 7).state_dict()
    assert "--width 8: features.0.weight has shape (4, 3, 3, 3), not (8" in refusal(vgg, width=8)
    assert "resnet50 --width 4: it lacks conv1.weight, and" in refusal(vgg, "resnet50")
    fewer = {key: value for key, value in vgg.items() if key != "features.4.running_mean"}
    assert refusal(fewer).endswith("it lacks features.4.running_mean")
    more = {**vgg, "features.53.weight": torch.zeros(1)}  # as those of a deeper network
    assert refusal(more).endswith("features.53.weight is not of this network")
    for foreign in ({"state_dict": vgg}, [1, 2]):
        assert "holds no state dict" in refusal(foreign)


class Trap:
    def __reduce__(self):
        return print, ("the file was executed",)


def test_weights_that_cannot_be_read_are_refused(tmp_path, capsys):
    path = tmp_path / "w.pth"
    torch.save(narrow("vgg19_bn", 7).state_dict(), path)
    whole = path.read_bytes()
    flipped = bytearray(whole)  # a weight
    flipped[len(whole) // 2] ^= 1
    trap = pickle.dumps(Trap(), protocol=2)
    for content in (whole[: len(whole) // 2], flipped, b"no weights", b"", trap):
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"w\.pth: no weights that can be read safely"):
            narrow("vgg19_bn", 3, weights=path)
    assert not capsys.readouterr().out
    with pytest.raises(FileNotFoundError, match=r"none\.pth"):
        narrow("vgg19_bn", 3, weights=tmp_path / "none.pth")


def test_saved_networks_that_do_not_fit_are_refused():
    state = narrow("resnet50", 7).state_dict()
    with pytest.raises(UserError, match=r"resnet50 of 7 classes does not fit 14 classes; is it of"):
        load_classifier(state, 14)
    del state["layer3.1.bn2.weight"]
    with pytest.raises(UserError, match=r"resnet50 is damaged: it lacks layer3\.1\.bn2\.weight"):
        load_classifier(state, 7)
    for foreign in (nn.Linear(2, 2).state_dict(), {"fc.weight": torch.zeros(14, 2048)}):
        with pytest.raises(UserError, match="none of preact_resnet18, vgg19_bn, resnet50"):
            load_classifier(foreign, 14)


@pytest.mark.parametrize("name", NETWORKS)
def test_normalisation_is_of_the_classifier_and_leaves_its_state_alone(name):
    torch.manual_seed(0)
    plain = narrow(name, 3).eval()
    net = load_classifier(plain.state_dict(), 3, normalise=True).eval()
    assert list(net.state_dict()) == list(plain.state_dict())
    images = torch.rand(2, 3, 32, 32)
    normal = torch.stack(
        [
            (images[:, channel] - mean) / std
            for channel, (mean, std) in enumerate([(0.485, 0.229), (0.456, 0.224), (0.406, 0.225)])
        ],
        dim=1,
    )
    assert torch.allclose(net(images), plain(normal), rtol=1e-5, atol=1e-6)
    assert narrow(name, 3, normalise=True).double()(images.double()).dtype == torch.float64
    assert normalised(plain) is plain


@pytest.mark.training
@pytest.mark.parametrize(("name", "size"), [("vgg19_bn", 64), ("resnet50", 224)])
def test_gradients_of_the_vae_reach_the_classifier(name, size):
    torch.manual_seed(0)
    net, vae = narrow(name, 14), Vae(14, 25, image_size=size)
    images = torch.rand(2, 3, size, size)
    output = vae(images, net(images), vae.noise(2, torch.Generator()))
    assert output.reconstruction.shape == images.shape
    (output.reconstruction.mean() + output.noisy_label_logits.mean()).backward()
    for module in (net, vae.x_decoder, vae.t_decoder):
        assert all(parameter.grad.isfinite().all() for parameter in module.parameters())
    head = net.get_submodule(NETWORKS[name].head)
    assert head.weight.grad.abs().max() > 0


@pytest.mark.parametrize("stride", [1, 2])
def test_a_narrow_projection_is_the_convolution(stride):
    torch.manual_seed(0)
    literal = nn.Conv2d(8, 16, 1, stride, bias=False).double()
    ours = projection(8, 16, stride).double()
    ours.load_state_dict(literal.state_dict())
    assert type(ours) is not nn.Conv2d
    images = torch.randn(6, 8, 32, 32).double().to(memory_format=torch.channels_last)
    found = []
    for conv in (literal, ours):
        x = images.clone().requires_grad_()
        out = conv(x)
        out.square().sum().backward()
        found.append((out, x.grad, conv.weight.grad))
    for one, other in zip(*found):
        torch.testing.assert_close(one, other)
    assert type(projection(16, 32, stride)) is nn.Conv2d


@pytest.mark.training
def test_a_narrow_network_survives_many_threads():
    """oneDNN's strided kernel ends the process here, where rows and threads do not divide."""
    code = """
import torch
from instancegm.method.networks import PreActResNet18
torch.set_num_threads(4)
net = PreActResNet18(10, 8).to(memory_format=torch.channels_last)
for _ in range(8):
    images = torch.randn(34, 3, 32, 32).to(memory_format=torch.channels_last)
    net(images).sum().backward()
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr

"""WRN-28-2: size, names, the details that differ from the usual wide residual network."""

import pytest
import torch

from re_sln.method.networks import WideResNet, resnet50, wide_resnet_from
from shared.errors import UserError


@pytest.mark.parametrize(("classes", "parameters"), [(10, 1_469_642), (100, 1_481_252)])
def test_the_network_has_the_published_size_and_names(classes, parameters):
    net = WideResNet(classes)
    state = net.state_dict()
    assert sum(p.numel() for p in net.parameters()) == parameters
    assert (len(list(net.parameters())), len(state)) == (108, 183)
    assert {
        "conv1.bias",
        "layer1.0.shortcut.0.weight",
        "layer2.0.bn1.running_mean",
        "layer3.3.conv2.bias",
        "bn1.weight",
        "linear.bias",
    } <= set(state)
    assert [
        name for name, module in net.named_modules() if getattr(module, "momentum", 0.1) != 0.1
    ] == ["bn1"]
    assert net.bn1.momentum == 0.9
    assert "layer1.1.shortcut.0.weight" not in state


def test_the_stride_is_on_the_second_convolution():
    net = WideResNet(10, depth=10, width=1)
    strides = {
        name: module.stride[0]
        for name, module in net.named_modules()
        if getattr(module, "stride", 1) == (2, 2)
    }
    assert strides == {f"layer{k}.0.{part}": 2 for k in (2, 3) for part in ("conv2", "shortcut.0")}


def test_a_block_is_the_formula_written_out():
    torch.manual_seed(0)
    block = WideResNet(10, depth=10, width=1).layer2[0].eval()
    x = torch.randn(2, 16, 8, 8)
    kept = x.clone()
    hidden = block.conv1(torch.relu(block.bn1(x)))
    expected = block.conv2(torch.relu(block.bn2(hidden))) + block.shortcut[0](x)
    assert torch.allclose(block(x), expected, atol=1e-6)
    assert torch.equal(x, kept)  # the ReLU in place must not touch the input


def test_published_checkpoints_load_also_those_of_several_gpus():
    torch.manual_seed(0)
    net = WideResNet(10, depth=16, width=2).eval()
    images = torch.randn(2, 3, 32, 32)
    for prefix in ("", "module."):
        loaded = wide_resnet_from(
            {prefix + name: value for name, value in net.state_dict().items()}
        ).eval()
        assert torch.equal(loaded(images), net(images))
    with pytest.raises(UserError, match="not those of a WRN"):
        wide_resnet_from({"fc.weight": torch.zeros(10, 3)})


def test_damaged_weights_of_a_resnet_are_refused(tmp_path, monkeypatch):
    import torchvision

    blocks = torchvision.models.resnet.BasicBlock, [1, 1, 1, 1]  # a tenth of the size
    monkeypatch.setattr(torchvision.models, "resnet50", lambda: torchvision.models.ResNet(*blocks))
    path = tmp_path / "w.pth"
    torch.save(torchvision.models.resnet50().state_dict(), path)
    assert resnet50(3, path).fc.out_features == 3
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"w\.pth holds no weights .* does not fit its checksum"):
        resnet50(3, path)

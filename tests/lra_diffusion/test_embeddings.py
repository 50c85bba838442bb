"""Features of whole sets: computed, kept, recomputed when anything changed, or given as .npy."""

import json
from contextlib import nullcontext

import numpy as np
import pytest
import safetensors
import safetensors.torch
import torch
from torch import nn

from lra_diffusion.encoders import embeddings
from lra_diffusion.encoders.embeddings import Parts, cached, embed, from_files
from lra_diffusion.encoders.frozen import Encoder
from lra_diffusion.method.images import CIFAR_NORMALISATION, DeviceImages
from lra_diffusion.run.errors import UsageError

KEY = {
    "split": "train",
    "dataset": "digits",
    "data_sha256": "12ab",
    "encoder": "SimCLR sha256:34cd",
    "transform": "test",
    "dtype": "float32",
}


class Mean(nn.Module):
    """Features that tell images and batches apart; `seen` are the sizes of the batches."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, images):
        self.seen.append(len(images))
        return images.mean(dim=(2, 3))


def encoder(net, largest_batch=1000):
    return Encoder("test", net, 3, "test sha256:0", largest_batch)


def device_images(count=10):
    pixels = np.random.default_rng(0).integers(0, 256, (count, 8, 8, 3), dtype=np.uint8)
    return pixels, DeviceImages(pixels, CIFAR_NORMALISATION, torch.device("cpu"), padding=2)


@pytest.mark.parametrize(("evaluation_batch", "largest_batch"), [(4, 1000), (128, 3), (128, 1000)])
def test_embed_is_the_encoder_on_every_image_in_order(evaluation_batch, largest_batch):
    pixels, images = device_images()
    images.evaluation_batch = evaluation_batch
    net = Mean()
    features = embed(encoder(net, largest_batch), images, nullcontext)
    mean, std = (np.array(values) for values in CIFAR_NORMALISATION)
    expected = ((pixels / 255 - mean) / std).mean(axis=(1, 2))
    np.testing.assert_allclose(features.numpy(), expected, rtol=1e-4, atol=1e-5)
    assert features.dtype == torch.float32
    assert max(net.seen) == min(evaluation_batch, largest_batch, 10)
    assert sum(net.seen) == 10


def test_views_are_other_images_and_follow_the_seed():
    _, images = device_images()
    plain = embed(encoder(Mean()), images, nullcontext)
    one, again, other = (
        embed(encoder(Mean()), images, nullcontext, views_seed=seed) for seed in (3, 3, 4)
    )
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    assert not torch.equal(one, plain)


def test_features_that_are_not_finite_are_refused():
    _, images = device_images()
    net = nn.Sequential(Mean(), nn.Threshold(1e9, torch.nan))
    with pytest.raises(UsageError, match="--amp off"):
        embed(encoder(net), images, nullcontext)


class Fails(Mean):
    """Stops at the third batch, as a kill does."""

    def forward(self, images):
        if len(self.seen) == 2:
            raise KeyboardInterrupt
        return super().forward(images)


@pytest.fixture
def parts(tmp_path, monkeypatch):
    """Makes the parts of a pass; 4 images each, written whenever one is full."""
    monkeypatch.setattr(embeddings, "PART", 4)
    monkeypatch.setattr(embeddings, "SECONDS", 0.0)

    def make(listing="abcdefghij", **more):
        key = {"split": "train", "dataset": "digits", "images": listing}
        return Parts(tmp_path, key, lambda rows: listing[rows.start : rows.stop], **more)

    return make


@pytest.mark.parametrize("seconds", [0.0, 30.0])  # written at once, or when it is interrupted
@pytest.mark.parametrize("views", [None, 3])
def test_what_a_kill_leaves_is_not_computed_again(parts, views, seconds, tmp_path, monkeypatch):
    monkeypatch.setattr(embeddings, "SECONDS", seconds)
    _, images = device_images()
    images.evaluation_batch = 2
    whole = embed(encoder(Mean()), images, nullcontext, views)
    with pytest.raises(KeyboardInterrupt):
        embed(encoder(Fails()), images, nullcontext, views, parts())
    assert len(list(tmp_path.rglob("*.safetensors"))) == 1
    net, again = Mean(), parts()
    assert torch.equal(embed(encoder(net), images, nullcontext, views, again), whole)
    assert sum(net.seen) == 6
    # The features are one file in the end.
    done = cached(tmp_path, {**KEY, "images": "a"}, 10, lambda: whole, again)
    assert torch.equal(done, whole)
    assert [path.parent for path in tmp_path.rglob("*.safetensors")] == [tmp_path]
    assert not again.folder.exists()


def test_an_exchanged_image_loses_its_own_part(parts):
    _, images = device_images()
    images.evaluation_batch = 2
    embed(encoder(Mean()), images, nullcontext, parts=parts())
    net = Mean()
    embed(encoder(net), images, nullcontext, parts=parts("abcdefgXij"))
    assert net.seen == [2, 2]


def test_a_short_pass_writes_no_parts(parts, monkeypatch, tmp_path):
    monkeypatch.setattr(embeddings, "SECONDS", 30.0)
    _, images = device_images()
    embed(encoder(Mean()), images, nullcontext, parts=parts())
    assert not list(tmp_path.iterdir())


class Computer:
    """Gives features and counts how often it was asked."""

    def __init__(self, features):
        self.features, self.calls = features, 0

    def __call__(self):
        self.calls += 1
        return self.features


@pytest.fixture
def compute():
    return Computer(torch.randn(7, 5, generator=torch.Generator().manual_seed(1)))


def test_a_cache_is_read_back_bit_for_bit(tmp_path, compute):
    first = cached(tmp_path, KEY, 7, compute)
    second = cached(tmp_path, dict(reversed(KEY.items())), 7, compute)
    assert compute.calls == 1
    assert torch.equal(first, compute.features)
    assert torch.equal(second, compute.features)
    [path] = tmp_path.iterdir()
    assert path.name.startswith("fp_embed_train_digits_")
    assert len(path.stem.rpartition("_")[2]) == 12
    with safetensors.safe_open(path, framework="pt") as file:
        assert json.loads(file.metadata()["about"])["key"] == KEY


@pytest.mark.parametrize("part", list(KEY))
def test_another_key_is_another_file(tmp_path, compute, part):
    cached(tmp_path, KEY, 7, compute)
    cached(tmp_path, {**KEY, part: "other"}, 7, compute)
    assert compute.calls == 2
    assert len(list(tmp_path.iterdir())) == 2
    cached(tmp_path, KEY, 7, compute)
    assert compute.calls == 2


def flipped(data):
    return data[:-9] + bytes([data[-9] ^ 1]) + data[-8:]


def torn(data):
    return data[:-3]


@pytest.mark.parametrize("damage", [flipped, torn, lambda data: b"", lambda data: b"x" * 50])
def test_a_damaged_cache_is_computed_anew(tmp_path, compute, damage, capsys):
    cached(tmp_path, KEY, 7, compute)
    [path] = tmp_path.iterdir()
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    assert torch.equal(cached(tmp_path, KEY, 7, compute), compute.features)
    assert compute.calls == 2
    assert f"note: {path} is not used" in capsys.readouterr().out
    assert path.read_bytes() == whole


def test_a_cache_of_something_else_under_the_same_name_is_computed_anew(tmp_path, compute, capsys):
    cached(tmp_path, KEY, 7, compute)
    [path] = tmp_path.iterdir()
    with safetensors.safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    wrong = {
        "another encoder": safetensors.torch.save({"features": compute.features}, {"about": "{}"}),
        "for 7 images": safetensors.torch.save(
            {"features": compute.features[:6].clone()}, metadata
        ),
        "torch.float64": safetensors.torch.save({"features": compute.features.double()}, metadata),
        "cannot be read": safetensors.torch.save({"others": compute.features}, metadata),
    }
    for i, (reason, data) in enumerate(wrong.items(), start=2):
        path.write_bytes(data)
        assert torch.equal(cached(tmp_path, KEY, 7, compute), compute.features)
        assert compute.calls == i
        assert reason in capsys.readouterr().out


def test_a_folder_that_cannot_be_written_is_a_note(tmp_path, compute, capsys):
    (tmp_path / "file").write_text("")
    assert torch.equal(cached(tmp_path / "file" / "inside", KEY, 7, compute), compute.features)
    assert "could not be kept" in capsys.readouterr().out
    with pytest.raises(ValueError, match="7 features of 8 images"):
        cached(tmp_path, KEY, 8, compute)


def test_features_of_the_users_own(tmp_path):
    train, test = tmp_path / "train.npy", tmp_path / "test.npy"
    rng = np.random.default_rng(2)
    for dtype in (np.float16, np.float32, np.float64):
        arrays = rng.normal(size=(6, 4)).astype(dtype), rng.normal(size=(3, 4)).astype(dtype)
        for path, array in zip((train, test), arrays):
            np.save(path, array)
        for found, array in zip(from_files(train, test, (6, 3)), arrays):
            assert found.dtype == torch.float32
            np.testing.assert_array_equal(found.numpy(), array.astype(np.float32))


GOOD = np.ones((6, 4), np.float32)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.ones((5, 4), np.float32), "has 5 rows for 6 images: give a row for each image"),
        (np.ones((6, 5), np.float32), "features of 5 numbers and .* of 4"),
        (np.ones((6, 4), np.int64), r"holds \(6, 4\) int64, not \(N, D\) floats"),
        (np.ones((6, 2, 2), np.float32), "not .N, D. floats"),
        (np.where(np.arange(24).reshape(6, 4) == 9, np.nan, 1.0), "row 2 is not finite"),
        (np.where(np.arange(24).reshape(6, 4) == 9, 1e300, 1.0), "row 2 is not finite in float32"),
        (np.array([{}, {}], dtype=object), "cannot be read"),
    ],
)
@pytest.mark.filterwarnings("ignore:overflow")
def test_files_of_features_that_do_not_fit_are_refused(tmp_path, array, message):
    np.save(tmp_path / "train.npy", array, allow_pickle=True)
    np.save(tmp_path / "test.npy", GOOD)
    with pytest.raises(UsageError, match=message):
        from_files(tmp_path / "train.npy", tmp_path / "test.npy", (6, 6))


def test_files_of_features_that_are_none_are_refused(tmp_path):
    np.save(tmp_path / "train.npy", GOOD)
    with pytest.raises(UsageError, match=r"--fp_embed_test .*does not exist"):
        from_files(tmp_path / "train.npy", tmp_path / "nowhere.npy", (6, 6))
    np.savez(tmp_path / "test.npz", a=GOOD, b=GOOD)
    with pytest.raises(UsageError, match="several arrays"):
        from_files(tmp_path / "train.npy", tmp_path / "test.npz", (6, 6))
    (tmp_path / "test.npy").write_bytes(b"text")
    with pytest.raises(UsageError, match="cannot be read"):
        from_files(tmp_path / "train.npy", tmp_path / "test.npy", (6, 6))

"""SimCLR: the loss against the paper's equation, the views, and the script with its run folder."""

import math
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from conftest import SCRIPTS, environment, rows

from lra_diffusion import train_SimCLR
from lra_diffusion.encoders import frozen as encoders
from lra_diffusion.encoders import simclr
from lra_diffusion.encoders.simclr import augmentation, nt_xent, two_views
from lra_diffusion.method.images import CIFAR_NORMALISATION
from lra_diffusion.run import checkpoint
from lra_diffusion.run.tool_config import parse_simclr as parse
from shared import datasets

TINY = [
    "--dataset",
    "digits",
    "--width",
    "4",
    "--batch_size",
    "32",
    "--limit_train",
    "96",
    "--limit_test",
    "30",
    "--nepoch",
    "3",
    "--device",
    "cpu",
]
MODEL = "SimCLR_128_digits.pt"


def cosine(one, other):
    return sum(a * b for a, b in zip(one, other)) / math.hypot(*one) / math.hypot(*other)


def slow_nt_xent(first, second, temperature):
    """Equation 1 of the paper, over views numbered so that 2i and 2i + 1 are of the same image."""
    views = [view for pair in zip(first, second) for view in pair]
    total = 0.0
    for i in range(len(views)):
        partner = i + 1 if i % 2 == 0 else i - 1
        others = sum(
            math.exp(cosine(views[i], views[k]) / temperature) for k in range(len(views)) if k != i
        )
        total -= math.log(math.exp(cosine(views[i], views[partner]) / temperature) / others)
    return total / len(views)


@pytest.mark.parametrize(
    ("count", "width", "temperature"), [(1, 3, 0.5), (2, 2, 0.1), (7, 5, 0.5), (12, 8, 2.0)]
)
def test_nt_xent_is_the_papers_equation(count, width, temperature):
    generator = torch.Generator().manual_seed(count)
    first, second = (torch.randn(count, width, generator=generator) for _ in range(2))
    expected = slow_nt_xent(first.tolist(), second.tolist(), temperature)
    assert nt_xent(first, second, temperature).item() == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_nt_xent_is_float32_whatever_comes_in_and_learns():
    generator = torch.Generator().manual_seed(0)
    first, second = (torch.randn(6, 4, generator=generator).bfloat16() for _ in range(2))
    with torch.autocast("cpu", torch.bfloat16):
        loss = nt_xent(first, second, 0.5)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(
        slow_nt_xent(first.tolist(), second.tolist(), 0.5), rel=1e-4
    )
    far = torch.eye(6) * 5
    assert nt_xent(far, far, 0.1) < nt_xent(far, far.roll(1, 0), 0.1)


@pytest.mark.parametrize("dataset", ["cifar10", "digits", "folder"])
def test_views_follow_the_seed_and_leave_global_random_numbers_alone(dataset):
    pixels = torch.rand(6, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    pixels[3] = pixels[0]
    augment = augmentation(dataset, 32)
    torch.manual_seed(11)
    before = torch.random.get_rng_state()
    views = two_views(pixels, augment, CIFAR_NORMALISATION, 5)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(views, two_views(pixels, augment, CIFAR_NORMALISATION, 5))
    assert not torch.equal(views, two_views(pixels, augment, CIFAR_NORMALISATION, 6))
    assert views.shape == (12, 3, 32, 32)
    assert not torch.equal(views[0], views[6])  # the two views of an image
    # Two images that are equal: the draws are each image's own.
    assert not torch.equal(views[0], views[3])
    mean, std = (torch.tensor(values)[:, None, None] for values in CIFAR_NORMALISATION)
    seen = views * std + mean
    assert seen.min() > -1e-5
    assert seen.max() < 1 + 1e-5


def test_digits_are_neither_mirrored_nor_coloured():
    # Brighter to the right, in every crop of it.
    pixels = torch.linspace(0, 1, 32).expand(200, 3, 32, 32)

    def rises(dataset):
        with simclr.seeded(7, torch.device("cpu")):
            seen = augmentation(dataset, 32)(pixels)
        middle = seen[:, :, 8:24, 8:24]  # further out, what was moved in from outside is black
        return seen, (middle[..., 8:] - middle[..., :8]).mean(dim=(1, 2, 3)) > 0

    seen, rising = rises("digits")
    assert rising.all()
    torch.testing.assert_close(seen[:, 0], seen[:, 1])
    torch.testing.assert_close(seen[:, 0], seen[:, 2])
    assert 0.3 < rises("cifar10")[1].float().mean() < 0.7


def test_a_linear_probe_finds_what_is_linear():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(300, 5)) * [1, 100, 1, 1, 1e-3]
    labels = (features[:, 0] + features[:, 4] * 1e3 > 0).astype(np.int64)
    assert simclr.linear_probe(features[:200], labels[:200], features[200:], labels[200:]) > 95


@pytest.fixture
def main(tmp_path, monkeypatch):
    """The main function of train_SimCLR.py, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DATA_ROOT", raising=False)
    return lambda *flags: train_SimCLR.main([str(flag) for flag in flags])


@pytest.mark.training
def test_the_script_writes_a_run_and_an_encoder_that_is_found(main, tmp_path, capsys):
    assert main(*TINY) == 0
    out = capsys.readouterr().out
    assert "96 training images without their labels" in out
    assert "linear probe accuracy" in out
    assert out.splitlines()[-1] == f"encoder written to model/{MODEL}"
    [run] = (tmp_path / "runs").iterdir()
    names = {path.name for path in run.iterdir() if not path.name.startswith(("events", "."))}
    assert names == {"config.yaml", "metrics.jsonl", "last.ckpt", "SimCLR_128_digits.pt"}
    metrics = rows(run)
    assert [row["epoch"] for row in metrics] == [1, 2, 3]
    assert [row["knn_accuracy"] is None for row in metrics] == [True, True, False]
    assert all(math.isfinite(row["loss"]) for row in metrics)
    encoder = encoders.build(
        "SimCLR", dataset="digits", normalisation=CIFAR_NORMALISATION, image_side=32, device="cpu"
    )
    assert encoder.dim == 32
    state = torch.load(tmp_path / "model" / MODEL, weights_only=True)
    assert {"f.0.weight", "f.6.1.bn2.running_var", "g.3.bias"} <= state.keys()
    trained = checkpoint.load(run / checkpoint.LAST)["net"]
    assert all(torch.equal(trained[name], value) for name, value in state.items())


@pytest.mark.training
def test_labels_play_no_part_in_training(main, tmp_path, monkeypatch):
    assert main(*TINY, "--output_dir", "true") == 0
    load = datasets.load

    def shuffled(name, path=None, **reading):
        data = load(name, path, **reading)
        data.train_labels[:] = np.random.default_rng(0).permutation(data.train_labels)
        return data

    monkeypatch.setattr(datasets, "load", shuffled)
    assert main(*TINY, "--output_dir", "shuffled") == 0
    one, other = (
        torch.load(tmp_path / run / MODEL, weights_only=True) for run in ("true", "shuffled")
    )
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.training
def test_kill_9_at_any_moment_and_resume_gives_the_same_run(main, tmp_path):
    flags = [*TINY, "--nepoch", "6", "--resume", "--output_dir"]
    assert main(*flags, "whole") == 0
    killed = tmp_path / "killed"
    command = [sys.executable, str(SCRIPTS / "train_SimCLR.py"), *flags, str(killed)]
    process = subprocess.Popen(
        command,
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while lines_in(killed / "metrics.jsonl") < 2 and process.poll() is None:
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert 2 <= lines_in(killed / "metrics.jsonl") < 6
    assert not (killed / MODEL).exists()
    assert main(*flags, killed) == 0
    assert_same_run(tmp_path / "whole", killed)


def lines_in(path):
    return path.read_text().count("\n") if path.exists() else 0


def assert_same_run(one, other):
    assert rows(one) == rows(other)
    first, second = (torch.load(run / MODEL, weights_only=True) for run in (one, other))
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.training
def test_resuming_refuses_other_settings_and_never_overwrites(main, tmp_path, capsys):
    assert main(*TINY, "--nepoch", 2, "--output_dir", "run") == 0
    before = (tmp_path / "run" / checkpoint.LAST).read_bytes()
    assert main(*TINY, "--output_dir", "run") == 2
    assert "add --resume" in capsys.readouterr().err
    for flags, message in (
        (["--lr", 0.1], "lr: 0.001 then, 0.1 now"),
        (["--width", 8], "width: 4 then, 8 now"),
        (["--limit_train", 90], "data_sha256"),
        (["--nepoch", 1], "nepoch: 2 then, 1 now"),
    ):
        assert main(*TINY, *flags, "--output_dir", "run", "--resume") == 2
        assert message in capsys.readouterr().err
    assert (tmp_path / "run" / checkpoint.LAST).read_bytes() == before


@pytest.mark.training
def test_resuming_without_a_folder_takes_the_newest_run_of_the_same_settings(
    main, tmp_path, capsys, monkeypatch
):
    def interrupted(net, optimizer, images, augment, settings, epoch):
        if epoch == 2:
            raise KeyboardInterrupt
        return whole(net, optimizer, images, augment, settings, epoch)

    whole = simclr.train_epoch
    with monkeypatch.context() as patch:
        patch.setattr(simclr, "train_epoch", interrupted)
        assert main(*TINY) == 130
    assert "--resume to continue" in capsys.readouterr().err
    assert main(*TINY, "--resume") == 0
    assert "resumed: epoch 1 of 3 is done" in capsys.readouterr().out
    assert len(list((tmp_path / "runs").iterdir())) == 1
    assert main(*TINY, "--nepoch", 1, "--resume", "--seed", 4) == 0
    assert "has no checkpoint; starting from the beginning" in capsys.readouterr().out
    assert len(list((tmp_path / "runs").iterdir())) == 2


def test_the_learning_rate_is_half_a_cosine():
    settings = simclr.Settings(32, 10, 0.4, 0.5, 0, torch.no_grad)
    assert [simclr.learning_rate(epoch, settings) for epoch in (1, 6)] == pytest.approx([0.4, 0.2])
    assert 0 < simclr.learning_rate(10, settings) < 0.02


@pytest.mark.training
def test_a_loss_that_is_not_finite_stops_with_status_3(main, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(
        simclr, "nt_xent", lambda first, second, temperature: (first + second).sum() * torch.nan
    )
    assert main(*TINY, "--output_dir", "run") == 3
    assert "epoch 1, step 1 of 3: loss nan" in capsys.readouterr().err
    assert not (tmp_path / "run" / checkpoint.LAST).exists()


@pytest.mark.training
def test_flags_that_cannot_work_are_refused(main, capsys):
    assert main(*TINY, "--batch_size", 97) == 2
    assert "more than the 96 training images" in capsys.readouterr().err
    for flags, message in (
        (["--temperature", 0], "must be above 0"),
        (["--batch_size", 1], "must be at least 2"),
        (["--nepoch", 0], "must be at least 1"),
    ):
        with pytest.raises(SystemExit):
            main(*TINY, *flags)
        assert message in capsys.readouterr().err


def test_the_presets_are_the_published_size_for_cifar_and_narrow_for_digits():
    args = parse(["--dataset", "cifar100"])
    assert (
        args.arch,
        args.width,
        args.hidden,
        args.batch_size,
        args.temperature,
        args.lr,
        args.nepoch,
    ) == ("resnet50", 64, 512, 512, 0.5, 1e-3, 500)
    assert parse(["--dataset", "digits"]).arch == "resnet18"
    assert parse(["--dataset", "digits", "--width", "8"]).width == 8

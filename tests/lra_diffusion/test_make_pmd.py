"""make_pmd.py: the teacher and what it leaves, the published file, a kill, and what is refused."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from conftest import SCRIPTS, environment

from lra_diffusion import make_pmd
from lra_diffusion.method.epoch import stream_seed, torch_stream
from lra_diffusion.method.networks import SmallResNet
from lra_diffusion.run import checkpoint, pmd_labels, pmd_teacher
from lra_diffusion.run.config import LABELS_FOLDER
from lra_diffusion.run.data import on_device
from lra_diffusion.run.labels import split
from lra_diffusion.run.tool_config import parse_pmd
from shared import datasets
from shared.datasets.image_data import ImageData
from shared.formats import external, noise_file
from shared.formats.alignment import labels_for
from shared.noise import ASYMMETRIC_MAPS, pmd
from shared.run_folder import locked

FEW = ["--dataset", "digits", "--limit_train", "96", "--device", "cpu"]
NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


@pytest.fixture
def main(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return lambda *flags: make_pmd.main([str(flag) for flag in flags])


@pytest.fixture
def cifar(monkeypatch):
    """As many labels as CIFAR-10 has, on images of one pixel, which no teacher sees."""
    labels = np.random.default_rng(0).integers(0, 10, 50_000)
    images = np.zeros((50_000, 1, 1, 3), np.uint8)
    data = ImageData("cifar10", images, labels, images[:10], labels[:10], NAMES, None)
    monkeypatch.setattr(datasets, "load", lambda name, path=None, **reading: data)
    return data


@pytest.fixture
def eta(tmp_path, cifar):
    """Posteriors of a teacher that mostly knows the first 45,000 images of that."""
    probs = (
        np.random.default_rng(1).dirichlet(np.full(10, 0.2), 45_000)
        + 2 * np.eye(10)[cifar.train_labels[:45_000]]
    )
    probs = (probs / probs.sum(axis=1, keepdims=True)).astype(np.float32)
    np.save(tmp_path / "eta.npy", probs)
    return probs


@pytest.mark.training
def test_eta_is_what_a_teacher_written_out_says_just_before_each_update_of_its_last_epoch(
    main, tmp_path
):
    assert main(*FEW, "--epochs", 2, "--amp", "off", "--noise_factor", 1.5, "--seed", 5) == 0
    digits = datasets.load("digits")
    rows = split(digits)[0]
    rows = rows[np.linspace(0, len(rows) - 1, 96).astype(int)]
    labels = torch.tensor(digits.train_labels[rows])
    images = on_device(digits, digits.train_images[rows], torch.device("cpu"))
    torch.manual_seed(5)
    net = SmallResNet("resnet18", 10, 16).to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.SGD(
        net.parameters(), 5e-3, momentum=0.9, nesterov=True, weight_decay=5e-4
    )
    expected = torch.zeros(96, 10)
    for epoch in (1, 2):  # an epoch is one batch of 96 images, below the 128 of PLC
        order = torch.randperm(96, generator=torch_stream("cpu", 5, epoch, "shuffle"))
        (batch,) = images.views([order], stream_seed(5, epoch, "augmentation"))
        logits = net(batch)
        for position, sample in enumerate(order.tolist()):
            expected[sample] = torch.softmax(logits[position].detach(), dim=0)
        optimizer.zero_grad()
        torch.nn.CrossEntropyLoss()(logits, labels[order]).backward()
        optimizer.step()
    saved = np.load(tmp_path / "noise_label/eta_digits_2ep_seed5_n96.npy")
    assert saved.dtype == np.float32
    np.testing.assert_allclose(saved, expected, atol=1e-5)

    (written,) = (tmp_path / "noise_label").glob("*.npz")
    noise = noise_file.read(written)
    assert written.name == f"digits-1-{noise.header.measured_rate:.2f}_n96.npz"
    assert (noise.header.kind, noise.header.nominal_rate, noise.header.seed) == ("pmd", None, 5)
    assert np.array_equal(noise.indices, rows)
    assert np.array_equal(noise.clean_labels, labels)
    best_two = np.argsort(-saved, axis=1)[:, :2]
    assert (noise.noisy_labels[:, None] == best_two).any(axis=1).all()
    labels_for(noise, dataset="digits", clean_labels=digits.train_labels, num_classes=10)


def test_the_command_line_of_plc_runs_unchanged(monkeypatch):
    line = [
        "--dataset",
        "cifar10",
        "--noise_factor",
        "1.2",
        "--epochs",
        "25",
        "--noise_type",
        "1",
        "--gpus",
        "0",
    ]
    config = parse_pmd(line)
    assert (config.network, config.width, config.lr, config.epochs) == ("resnet34", 64, 1e-3, 25)
    assert (config.seed, config.noise_factor, config.output_dir) == (123, 1.2, LABELS_FOLDER)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert pmd_labels.choose(config).type != "cuda"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert pmd_labels.choose(config) == torch.device("cuda:0")
    config = parse_pmd(["--gpus", "1,0", "--network", "preact_resnet34"])
    assert config.network == "resnet34"
    assert pmd_labels.choose(config) == torch.device("cuda:1")
    assert parse_pmd([]).noise_factor == 1.2


@pytest.mark.training
def test_saved_outputs_give_the_published_file_ours_and_the_same_with_noise_on_top(
    main, tmp_path, eta, cifar, capsys
):
    assert main("--eta", "eta.npy", "--rate", 0.35, "--noise_type", 3) == 0
    folder = tmp_path / "noise_label"
    published = np.load(folder / "cifar10-3-0.35.npy", allow_pickle=False)
    clean = cifar.train_labels[:45_000]
    assert published.dtype == np.int64
    assert (published != clean).mean() == pytest.approx(0.35, abs=2e-5)
    factor = pmd.factor_for_rate(eta, 3, 0.35, clean)
    assert np.array_equal(published, pmd.pmd_labels(eta, 3, factor))
    ours = noise_file.read(folder / "cifar10-3-0.35.npz")
    assert np.array_equal(ours.noisy_labels, published)
    assert (ours.header.dataset, ours.header.split, ours.header.nominal_rate) == (
        "cifar10",
        "train",
        0.35,
    )
    assert np.array_equal(external.read_any(folder / "cifar10-3-0.35.npy").indices, ours.indices)

    flags = ("--eta", "eta.npy", "--noise_factor", factor, "--noise_type", 3)
    assert main(*flags, "--uniform", 0.3) == 0
    assert np.array_equal(
        np.load(folder / "cifar10-3-0.35_U_0.3.npy"), pmd.uniform_on_top(published, 0.3, 10)
    )
    assert main(*flags, "--asymmetric", 0.3, "--on_top_seed", 7) == 0
    hybrid = np.load(folder / "cifar10-3-0.35_A_0.3.npy")
    assert np.array_equal(
        hybrid, pmd.asymmetric_on_top(published, 0.3, ASYMMETRIC_MAPS["cifar10"], 10, 7)
    )
    header = noise_file.read(folder / "cifar10-3-0.35_A_0.3.npz").header
    assert (header.kind, header.seed) == ("pmd+asymmetric", 7)

    capsys.readouterr()
    assert main(*flags) == 0  # the same labels, once more
    out = capsys.readouterr().out
    shares = {
        f"{NAMES[a]} -> {NAMES[b]}": (published[clean == a] == b).mean()
        for a in range(10)
        for b in range(10)
        if a != b
    }
    largest = max(shares, key=shares.get)
    assert f"top confusions: {largest} {shares[largest]:.3f}, " in out
    assert "of the PMD noise alone 0.3500" in out

    other = np.where(published == 0, 1, published)
    np.save(folder / "cifar10-3-0.35.npy", other)
    assert main(*flags) == 2
    assert "holds other labels" in capsys.readouterr().err
    assert np.array_equal(np.load(folder / "cifar10-3-0.35.npy"), other)


def test_label_files_are_written_by_one_process_at_a_time(main, tmp_path, eta, capsys):
    folder, flags = tmp_path / "noise_label", ["--eta", "eta.npy", "--rate", 0.35]
    with locked(folder / ".cifar10-1-0.35.npy.lock"):
        assert main(*flags) == 2
    error = capsys.readouterr().err
    assert f"is in use by process {os.getpid()} on " in error
    assert "another --out\n" in error
    assert not list(folder.glob("[!.]*"))
    assert main(*flags) == 0
    assert sorted(path.name for path in folder.glob("*cifar10*")) == [
        "cifar10-1-0.35.npy",
        "cifar10-1-0.35.npz",
    ]
    with locked(tmp_path / ".a.npz.lock"):
        assert main(*flags, "--out", "a.npz") == 2


def test_confusions_are_the_shares_of_each_clean_class():
    clean, noisy = np.array([0, 0, 0, 1, 1, 2]), np.array([0, 1, 1, 1, 0, 2])
    assert pmd_labels.confusions(noisy, clean, 3) == [(0, 1, pytest.approx(2 / 3)), (1, 0, 0.5)]
    assert pmd_labels.confusions(noisy, clean, 3, count=1) == [(0, 1, pytest.approx(2 / 3))]
    assert pmd_labels.confusions(clean, clean, 3) == []


@pytest.mark.training
def test_kill_9_and_resume_give_the_same_teacher_and_a_finished_one_is_used_again(
    main, tmp_path, capsys
):
    flags = [*FEW, "--epochs", "6", "--lr", "0.02", "--output_dir"]
    assert main(*flags, "whole") == 0
    kept = tmp_path / "killed" / "teacher_digits_6ep_seed123_lr0.02_n96.ckpt"
    process = subprocess.Popen(
        [sys.executable, str(SCRIPTS / "make_pmd.py"), *flags, "killed"],
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while not kept.exists() and process.poll() is None:
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    done = checkpoint.load(kept)["epoch"]
    assert 1 <= done < 6
    assert main(*flags, "killed") == 2
    assert f"holds {done} of 6 epochs: add --resume" in capsys.readouterr().err
    assert main(*flags, "killed", "--resume") == 0
    names = sorted(path.name for path in (tmp_path / "whole").glob("[!.]*"))
    assert [name.partition("digits")[0] for name in names] == ["", "eta_", "teacher_"]
    assert (
        sorted(
            path.name for path in (tmp_path / "killed").iterdir() if not path.name.startswith(".")
        )
        == names
    )
    for name in names[:2]:
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "killed" / name).read_bytes()

    assert main(*flags, "whole", "--noise_type", 2) == 0
    assert "trained already" in capsys.readouterr().out
    assert (
        main(
            *flags,
            "whole",
            "--amp",
            "bf16" if not checkpoint.load(kept)["known"]["bf16"] else "off",
        )
        == 2
    )
    assert "the checkpoint belongs to another run (bf16: " in capsys.readouterr().err


@pytest.mark.training
def test_what_cannot_work_is_refused_before_a_teacher_trains(
    main, tmp_path, monkeypatch, capsys, eta
):
    monkeypatch.setattr(pmd_teacher, "posteriors", lambda *_: pytest.fail("trained"))
    (tmp_path / "there.npz").write_bytes(b"")
    wrong = {
        "--rate 0.4 --noise_factor 2": "leave one of them out",
        "--uniform 0.3 --asymmetric 0.3": "leave one of them out",
        "--noise_type 4": "invalid choice",
        "--seed -1": "--seed -1",
        "--epochs 0": "at least 1",
        "--lr nan": "above 0",
        "--gpus 0 --device cpu": "leave one of them out",
        "--eta eta.npy --epochs 3": "--epochs and --eta do not go together",
    }
    for line, message in wrong.items():
        with pytest.raises(SystemExit, match="2"):
            main(*line.split())
        assert message in capsys.readouterr().err
    np.save("short.npy", eta[:100])
    np.save("logits.npy", 5 * eta)
    np.save("mistaken.npy", np.roll(eta, 1, axis=1))
    (tmp_path / "text.npy").write_text("no array")
    refused = {
        "--rate 40": "0.4 means 40 %",
        "--noise_factor 0": "factor 0.0 is no number above 0",
        "--uniform 3": "outside [0, 1]",
        "--on_top_seed -1 --uniform 0.1": "seed -1",
        "--out noise.xlsx": "does not end in one of",
        "--out noise.csv": "cannot say which training images",
        "--out there.npz": "exists: choose another name",
        "--dataset digits --out noise.npy": "write .npz",
        "--gpus all": "give the number of a GPU",
        "--eta none.npy": "does not exist",
        "--eta text.npy": "--eta text.npy",
        "--eta logits.npy": "softmax outputs",
        "--eta short.npy": "has shape (100, 10), but (45000, 10) is needed",
        "--eta eta.npy --limit_train 50": "(50, 10) is needed",
        "--eta mistaken.npy --rate 0.01": "out of reach of type 1",
    }
    for line, message in refused.items():
        assert main(*line.split()) == 2
        assert message in capsys.readouterr().err


@pytest.mark.training
def test_a_teacher_that_diverges_is_status_3_and_its_last_good_epoch_stays(
    main, tmp_path, monkeypatch, capsys
):
    assert main(*FEW, "--epochs", 2, "--lr", "1e30") == 3
    assert "the loss is not finite (epoch 2, step 1 of 1" in capsys.readouterr().err
    assert checkpoint.load(next((tmp_path / "noise_label").glob("teacher*")))["epoch"] == 1

"""label_quality.csv of the real scripts, against a literal recomputation from what the run left."""

import csv
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import TINY
from PIL import Image

from re_sln import train_real
from re_sln.method import disk_images
from re_sln.method.images import normalisation_of
from re_sln.method.networks import wide_resnet_from
from re_sln.method.streams import torch_stream
from re_sln.method.train import epochs
from re_sln.run import checkpoint
from re_sln.run.config import parse
from re_sln.run.experiment import prepare
from re_sln.run.label_quality import _verdict
from shared import datasets
from shared.formats import label_quality, noise_file

pytestmark = pytest.mark.training
FLAGS = [*TINY, "--n_epochs", "4", "--amp", "off"]


def read(run):
    with open(run / "label_quality.csv", newline="") as file:
        return list(csv.DictReader(file))


def column(table, name):
    return [float(row[name]) for row in table]


def network_says(run, part, noise):
    """Softmax outputs (N, C) of a network in the checkpoint, of the images as they are."""
    net = wide_resnet_from(checkpoint.load(run / checkpoint.LAST)[part])
    return network_softmax(net.eval(), noise)


def network_softmax(net, noise):
    data = datasets.load("digits")
    mean, std = normalisation_of(data)
    pixels = (data.train_images[noise.indices] / 255 - mean) / std
    with torch.no_grad():
        logits = net(torch.tensor(pixels, dtype=torch.float32).permute(0, 3, 1, 2))
    return torch.exp(logits) / torch.exp(logits).sum(dim=1, keepdim=True)


@pytest.mark.parametrize(
    ("method", "reported"),
    [("ce", "net"), ("sln", "net"), ("sln_mo", "average"), ("sln_mo_lc", "average")],
)
def test_every_label_gets_the_verdict_of_the_method(method, reported, main, tmp_path):
    assert main(*FLAGS, "--method", method, "--output_dir", "run") == 0
    run = tmp_path / "run"
    table, noise = read(run), noise_file.read(run / "noise.npz")
    assert list(table[0]) == [*label_quality.COLUMNS, "clean_label"]
    assert column(table, "index") == sorted(noise.indices)
    assert column(table, "given_label") == noise.noisy_labels.tolist()
    assert column(table, "clean_label") == noise.clean_labels.tolist()
    assert {row["file"] for row in table} == {""}

    probs, rows = network_says(run, reported, noise).numpy(), np.arange(96)
    confidence = probs[rows, noise.noisy_labels]
    predicted = probs.argmax(axis=1)
    quality, issue = confidence, predicted != noise.noisy_labels
    if method == "sln_mo_lc":
        targets = checkpoint.load(run / checkpoint.LAST)["targets"].numpy()
        quality = targets[rows, noise.noisy_labels]
        issue = quality < 0.5
        assert issue.any()
    assert column(table, "predicted_label") == predicted.tolist()
    assert column(table, "self_confidence") == pytest.approx(confidence, abs=1e-5)
    assert column(table, "label_quality") == pytest.approx(quality, abs=1e-5)
    assert [row["is_label_issue"] for row in table] == [str(each) for each in issue.tolist()]
    assert all(0 <= value <= 1 for value in column(table, "label_quality"))


def test_images_outside_the_last_draw_are_judged_by_the_network(tmp_path, monkeypatch):
    """As Clothing1M has it: equally many of each class in an epoch, and soft predictions."""
    monkeypatch.chdir(tmp_path)
    run = prepare(parse("train_cifar", [*FLAGS, "--method", "sln_mo_lc"]))
    train_set = run.data.train_set._replace(per_class=3)
    run.data = replace(run.data, train_set=train_set)
    settings = replace(run.settings, soft_predictions=True)
    run.rows += epochs(run.learner, train_set, run.data.test_sets, settings)
    drawn = train_set.samples(torch_stream(run.device, run.settings.seed, 4, "samples"))
    outside = np.setdiff1d(np.arange(96), drawn)
    assert len(outside) > 60

    noise = run.data.noise
    probs = network_softmax(run.learner.ema.net.eval(), noise).numpy()
    verdict = _verdict(run, torch.tensor(probs))
    given = noise.noisy_labels
    own, wrong = probs[np.arange(96), given], probs.argmax(axis=1) != given
    share = run.learner.targets.numpy()[np.arange(96), given]
    assert (share[outside] == 1).all()
    assert verdict.quality[outside].tolist() == own[outside].tolist()
    assert verdict.is_issue[outside].tolist() == wrong[outside].tolist()
    touched = drawn[share[drawn] < 1]
    assert len(touched) >= len(drawn) - 1  # the highest loss keeps its label
    assert verdict.quality[touched].tolist() == share[touched].tolist()


def test_a_finished_run_that_is_continued_writes_it_again(run_script, main, tmp_path):
    flags = [*FLAGS, "--method", "sln_mo_lc", "--output_dir", "run"]
    done = run_script("train_cifar.py", *flags)
    assert done.returncode == 0, done.stderr
    table = tmp_path / "run" / "label_quality.csv"
    before = table.read_text()
    table.unlink()
    assert main(*flags, "--resume") == 0
    assert table.read_text() == before


def test_pictures_on_the_disk_have_their_names(tmp_path, monkeypatch):
    import torchvision

    monkeypatch.chdir(tmp_path)
    blocks = torchvision.models.resnet.BasicBlock, [1, 1, 1, 1]
    monkeypatch.setattr(torchvision.models, "resnet50", lambda: torchvision.models.ResNet(*blocks))
    monkeypatch.setattr(disk_images, "SHORTER_SIDE", 40)  # the full size takes a minute
    monkeypatch.setattr(disk_images, "CROP", 32)
    for name in ("cat", "dog"):
        (tmp_path / "mine" / name).mkdir(parents=True)
        for i in range(4):
            pixels = np.random.default_rng(i).integers(0, 256, (40, 50, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "mine" / name / f"{i}.png")
    flags = ["--dataset_name", "folder", "--data_path", "mine", "--batch_size", "4"]
    flags += [
        "--n_epochs",
        "2",
        "--device",
        "cpu",
        "--output_dir",
        "run",
        "--val_fraction",
        "0.25",
    ]
    flags += ["--method", "sln_mo_lc", "--num_workers", "0", "--pretrained", "none"]
    assert train_real.main(flags) == 0
    table, noise = read(tmp_path / "run"), noise_file.read(tmp_path / "run" / "noise.npz")
    names = [f"{name}/{i}.png" for name in ("cat", "dog") for i in range(4)]
    assert [row["file"] for row in table] == [names[row] for row in noise.indices]
    assert [row["given_name"] for row in table] == [row["file"][:3] for row in table]
    targets = checkpoint.load(tmp_path / "run" / checkpoint.LAST)["targets"].numpy()
    quality = targets[np.arange(6), noise.noisy_labels]
    assert column(table, "label_quality") == pytest.approx(quality, abs=1e-5)
    assert list(table[0]) == list(label_quality.COLUMNS)

"""label_quality.csv of the two training scripts, against its definition."""

import math
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from conftest import rows, verdicts

from lra_diffusion.method.images import CIFAR_NORMALISATION
from lra_diffusion.method.networks import SmallResNet, model_of
from lra_diffusion.run import checkpoint
from lra_diffusion.run.report import chosen
from shared import datasets
from shared.formats import noise_file

CLASSES = 10


def check(run: Path, probabilities: torch.Tensor) -> None:
    """The table says of the digits that were trained on what these (N, C) probabilities say."""
    found, noise = verdicts(run), noise_file.read(run / "noise.npz")
    assert [int(row["index"]) for row in found] == noise.indices.tolist()
    assert [int(row["given_label"]) for row in found] == noise.noisy_labels.tolist()
    assert [int(row["clean_label"]) for row in found] == noise.clean_labels.tolist()
    assert {row["file"] for row in found} == {""}
    for row, expected in zip(found, probabilities.tolist()):
        quality, given = float(row["label_quality"]), int(row["given_label"])
        assert 0 <= quality <= 1
        assert quality == pytest.approx(expected[given], abs=1e-5)
        assert row["self_confidence"] == row["label_quality"]
        predicted = int(row["predicted_label"])
        assert expected[predicted] == pytest.approx(max(expected), abs=1e-6)
        assert row["predicted_name"] == str(predicted)
        assert row["is_label_issue"] == str(predicted != given)


def pixels(index: np.ndarray) -> torch.Tensor:
    """The digits (N, 3, 32, 32), normalised."""
    images = torch.tensor(datasets.load("digits").train_images[index]).permute(0, 3, 1, 2) / 255
    mean, std = (torch.tensor(values)[:, None, None] for values in CIFAR_NORMALISATION)
    return (images - mean) / std


@pytest.mark.training
@torch.no_grad()
def test_quality_is_what_the_reverse_process_of_the_reported_model_gives(run_script, tmp_path):
    command = [*tiny.with_features(tmp_path), "--amp", "off", "--nepoch", "11"]
    command += ["--output_dir", "run"]
    done = run_script("train_CIFAR.py", *command)
    assert done.returncode == 0, done.stderr
    run = tmp_path / "run"
    index = noise_file.read(run / "noise.npz").indices
    [path] = run.glob("LRA-diffusion_*.pt")
    predictor, encoder = model_of(checkpoint.load(path, kind=list))
    embedding = encoder.eval()(pixels(index))
    feature = torch.tensor(np.load(tmp_path / "train_features.npy")[index])

    def height(t: int) -> float:
        return math.cos((t / 1000 + 0.008) / 1.008 * math.pi / 2) ** 2

    alpha = np.cumprod([max(height(t + 1) / height(t), 0.001) for t in range(1000)])
    y = torch.zeros(len(index), CLASSES)
    for t in range(901, 0, -100):
        before = max(t - 100, 0)
        noise = predictor.eval()(embedding, y, torch.full((len(index),), t), feature)
        clean = (y - math.sqrt(1 - alpha[t]) * noise) / math.sqrt(alpha[t])
        y = math.sqrt(alpha[before]) * clean + math.sqrt(1 - alpha[before]) * noise
    check(run, torch.softmax(-((y - 1) ** 2), dim=1))

    written = (run / "label_quality.csv").read_bytes()
    (run / "label_quality.csv").unlink()
    again = run_script("train_CIFAR.py", *command, "--resume")
    assert again.returncode == 0, again.stderr
    assert (run / "label_quality.csv").read_bytes() == written


@pytest.mark.training
@torch.no_grad()
def test_of_cross_entropy_it_is_the_self_confidence_at_the_best_epoch(run_script, tmp_path):
    noise = tiny.noisy_digits(tmp_path)
    command = ["--dataset", "digits", "--noise_file", str(noise), "--limit_train", "100"]
    command += ["--limit_test", "30", "--nepoch", "3", "--batch_size", "25", "--width", "4"]
    command += ["--device", "cpu", "--amp", "off", "--output_dir", "run"]
    done = run_script("train_CE.py", *command)
    assert done.returncode == 0, done.stderr
    run = tmp_path / "run"
    state = checkpoint.load(run / checkpoint.BEST)
    assert state["rows"][-1]["epoch"] == chosen(rows(run))["epoch"]
    net = SmallResNet("resnet18", CLASSES, 4)
    net.load_state_dict(state["net"])
    index = noise_file.read(run / "noise.npz").indices
    check(run, net.eval()(pixels(index)).softmax(dim=1))

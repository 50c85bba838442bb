"""Animal-10N and Clothing1M in miniature: what their runs write, and labels of a file."""

import os
import subprocess
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from conftest import ROOT, rows
from PIL import Image

from re_sln import train_real
from re_sln.analysis import finished_runs
from re_sln.run import checkpoint
from re_sln.run.config import parse
from re_sln.run.data import load_data
from re_sln.run.labels import labels_of_files
from shared.datasets.image_data import ImageFiles
from shared.formats import noise_file
from shared.formats.noise_file import NoiseFileError

CPU = torch.device("cpu")


@pytest.fixture
def animal10n(tmp_path):
    rng = np.random.default_rng(0)
    for split, count in (("training", 40), ("testing", 20)):
        folder = tmp_path / "data" / "animal-10n" / split
        folder.mkdir(parents=True)
        for i in range(count):
            Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(
                folder / f"{i % 10}_{i}.jpg"
            )
    return tmp_path / "data"


@pytest.mark.training
def test_animal10n_trains_and_its_published_config_has_no_noise(
    animal10n, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    flags = [
        "--dataset_name",
        "animal-10n",
        "--batch_size",
        "16",
        "--n_epochs",
        "2",
        "--lr",
        "0.001",
        "--sigma",
        "0.5",
        "--mo",
        "--lc_n_epoch",
        "1",
        "--seed",
        "123",
        "--data_path",
        str(animal10n),
        "--depth",
        "10",
        "--cache_dir",
        "cache",
    ]
    assert train_real.main(flags) == 0
    assert list((tmp_path / "cache").iterdir())
    [config] = (tmp_path / "configs").glob("*/config.yml")
    published = yaml.safe_load(config.read_text())
    assert all(
        published[name] is None
        for name in ("noise_mode", "p", "custom_noise", "make_new_custom_noise")
    )
    for name, count in (("training", 40), ("testing", 20)):
        lines = (animal10n / "animal-10n" / f"{name}.csv").read_text().splitlines()
        assert lines[0] == "img_paths,targets"
        assert len(lines) == count + 1
    [run] = (tmp_path / "runs").iterdir()
    assert [path.name for path in run.glob("loss_train_*")] == ["loss_train_all"]
    assert "is not known" in capsys.readouterr().out


def clothing1m(root):
    """Two noisy training images of each of the 14 classes and two more, and one to test on."""
    (root / "annotations").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for split, keys, count in (
        ("noisy_train", "noisy", 30),
        ("clean_val", "clean", 14),
        ("clean_test", "clean", 14),
    ):
        names = [f"images/{split}/{i}.jpg" for i in range(count)]
        (root / "images" / split).mkdir(parents=True)
        for i, name in enumerate(names):
            Image.fromarray(rng.integers(0, 256, (40 + i, 50, 3), dtype=np.uint8)).save(root / name)
        (root / "annotations" / f"{split}_key_list.txt").write_text("\n".join(names) + "\n")
        with open(root / "annotations" / f"{keys}_label_kv.txt", "a") as file:
            file.writelines(f"{name} {i % 14}\n" for i, name in enumerate(names))


@pytest.mark.training
def test_clothing1m_trains_a_resnet50_on_balanced_epochs(tmp_path, monkeypatch, capsys):
    clothing1m(tmp_path / "clothing1M")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("re_sln.method.disk_images.SHORTER_SIDE", 40)  # full size takes a minute
    monkeypatch.setattr("re_sln.method.disk_images.CROP", 32)
    torch.save(resnet50_state(), tmp_path / "resnet50.pth")
    flags = [
        "--dataset_name",
        "clothing1m",
        "--method",
        "sln_mo_lc",
        "--n_epochs",
        "3",
        "--num_workers",
        "2",
        "--data_path",
        str(tmp_path),
        "--pretrained",
        "resnet50.pth",
        "--output_dir",
        "run",
    ]
    monkeypatch.setattr("re_sln.run.label_quality.MOST_UNASKED", 29)
    assert train_real.main(flags) == 0
    out = capsys.readouterr().out
    assert "what the authors report on Clothing1M" in out
    assert "takes a pass over 30 images: `python train_real.py --export run` writes it" in out
    assert not (tmp_path / "run" / "label_quality.csv").exists()
    assert train_real.main(["--export", "run"]) == 0
    assert "run: wrote label_quality.csv" in capsys.readouterr().out
    with (tmp_path / "run" / "label_quality.csv").open() as file:
        assert [line.split(",")[1] for line in file][1:] == [
            f"images/noisy_train/{i}.jpg" for i in range(30)
        ]
    corrected = noise_file.read(tmp_path / "run" / "corrected_labels.npz")
    assert (corrected.header.dataset, corrected.indices.tolist()) == ("clothing1m", [*range(30)])
    metrics = rows(tmp_path / "run")
    assert {"accuracy_val_ema", "accuracy_test_ema", "accuracy_val_base"} <= set(metrics[0])
    targets = checkpoint.load(tmp_path / "run" / checkpoint.LAST)["targets"]
    changed = (targets.max(dim=1).values < 1).sum()
    assert 0 < changed <= 28  # two of each of the 14 classes, mixed with soft predictions
    assert train_real.main([*flags[:-1], "bad", "--pretrained", "run/model.pth"]) == 2
    assert "holds no weights of a ResNet-50" in capsys.readouterr().err


def resnet50_state():
    import torchvision

    torch.manual_seed(0)
    return torchvision.models.resnet50().state_dict()


def test_the_labels_of_animal10n_may_be_those_of_a_file(animal10n, tmp_path, monkeypatch):
    """As corrected_labels.npz of an earlier run is one: of a part of the set, and no truth."""
    monkeypatch.chdir(tmp_path)
    flags = ["--dataset_name", "animal-10n", "--data_path", str(animal10n), "--method", "ce"]
    given = load_data(parse("train_real", flags), CPU, None).noise
    rows_kept = np.arange(0, 40, 2)
    corrected = (given.noisy_labels[rows_kept] + 1) % 10
    known = {"dataset": "animal10n", "num_classes": 10, "kind": "corrected"}
    clean = given.noisy_labels[rows_kept]
    noise = noise_file.make(corrected, indices=rows_kept, clean_labels=clean, **known)
    noise_file.write(tmp_path / "corrected.npz", noise)
    data = load_data(parse("train_real", [*flags, "--noise_file", "corrected.npz"]), CPU, None)
    assert data.train_set.noisy.argmax(dim=1).tolist() == corrected.tolist()
    assert data.train_set.is_noisy is None
    assert (data.noise.clean_labels, data.noise.header.measured_rate) == (None, None)
    assert data.noise.indices.tolist() == rows_kept.tolist()
    noise_file.write(tmp_path / "noise.npz", data.noise)
    run = SimpleNamespace(
        settings={"dataset_name": "animal-10n", "noise_file": "corrected.npz"}, folder=tmp_path
    )
    assert finished_runs.noise_mode(run) == "corrected"  # not averaged with the set's own labels


def test_the_labels_of_clothing1m_may_be_those_of_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = [f"{i}.jpg" for i in range(28)]
    labels, none = np.arange(28) % 14, np.zeros(0, np.int64)
    classes = tuple(map(str, range(14)))
    files = ImageFiles(
        **{"name": "clothing1m", "root": tmp_path, "class_names": classes},
        **{"train_files": names, "train_labels": labels},
        **{"val_files": [], "val_labels": none, "test_files": [], "test_labels": none},
    )
    monkeypatch.setattr("re_sln.run.data.clothing1m.load", lambda root: files)
    corrected = np.roll(labels, 1)[:-1]
    known = {"dataset": "clothing1m", "num_classes": 14, "kind": "corrected"}
    noise = noise_file.make(corrected, indices=np.arange(1, 28), **known)
    noise_file.write(tmp_path / "corrected.npz", noise)
    flags = ["--dataset_name", "clothing1m", "--method", "ce", "--noise_file", "corrected.npz"]
    config = parse("train_real", flags)
    data = load_data(config, CPU, None)
    assert data.train_set.noisy.argmax(dim=1).tolist() == corrected.tolist()
    assert list(data.files) == names[1:]
    assert data.train_set.per_class == 1
    swapped = noise_file.make(labels, clean_labels=labels, open_set=np.arange(28) < 3)
    noise_file.write(tmp_path / "corrected.npz", swapped)
    with pytest.raises(NoiseFileError, match="those of clothing1m stay as they are"):
        labels_of_files(config, files)


def test_the_recipe_of_animal10n_passes_the_file_on():
    command = [ROOT / "re_sln" / "scripts" / "animal10n.sh"]
    variables = {"PATH": os.environ["PATH"], "PYTHON": "echo", "NOISE_FILE": "a/b.npz"}
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=True)
    flags = "--dataset_name animal-10n --method sln_mo_lc --noise_file a/b.npz"
    folder = "runs/re_sln-animal10n-sln_mo_lc-a_b.npz-seed123"
    assert f"{flags} --output_dir {folder}" in done.stdout

"""Pictures of one's own at 224 pixels: train_Food101N.py and train_Clothing1M.py."""

import subprocess
import sys

import numpy as np
import pytest
import tiny
import torch
import yaml
from conftest import SCRIPTS, environment, rows, verdicts
from PIL import Image

from lra_diffusion import compare, plot, train_Clothing1M, train_Food101N
from lra_diffusion.run import experiment
from lra_diffusion.run.config import parse
from shared.datasets import pretrained
from shared.datasets.download import DownloadError
from shared.formats import noise_file

TINY = ["--diff_encoder", "resnet18_l", "--feature_dim", "8", "--device", "cpu", "--k", "3"]
RUN = [*TINY, "--num_workers", "0", "--pretrained", "none", "--nepoch", "2", "--batch_size", "8"]
OWN = ["--dataset", "folder", "--data_path", "own"]


@pytest.fixture
def run(small_crops):
    """Runs a script on the pictures in `own`."""
    return lambda main, *flags: main([*OWN, *RUN, *small_crops, *flags])


@pytest.mark.training
def test_a_folder_with_a_test_set_in_a_process_of_its_own_and_at_full_size(tmp_path):
    names = tiny.own_pictures(tmp_path / "own", "train", "test", count=10)
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.new("RGB", (60, 40)).save(tmp_path / "own" / "train" / "cat" / "99.jpg", exif=turned)
    Image.fromarray(np.full((40, 40), 40_000, np.uint16)).save(
        tmp_path / "own" / "train" / "dog" / "99.png"
    )
    tiny.cc_weights(tmp_path)
    command = [sys.executable, str(SCRIPTS / "train_Clothing1M.py"), *OWN, *RUN, "--nepoch", "1"]
    done = subprocess.run(
        [*command, "--fp_encoder", "CC", "--output_dir", "run"],
        cwd=tmp_path,
        env={**environment(), "DATA_ROOT": str(tmp_path / "data")},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert (
        "LRA-diffusion on folder: 20 training, 2 validation, 20 test images, 2 classes, "
        "224 x 224 pixels\n"
    ) in done.stdout
    assert "an epoch takes 10 images of each class, as many as the smallest has" in done.stdout
    [row] = rows(tmp_path / "run")
    assert row["images"] == 16  # two batches of eight, and the last four are dropped
    assert row["accuracy"] is not None
    assert len([*(tmp_path / "own").rglob("*.png")]) == len(names) + 1
    assert {path.name for path in (tmp_path / "own").iterdir()} == {"train", "test"}


@pytest.mark.training
def test_without_a_test_set_it_is_stopped_and_resumed_bit_for_bit(
    run, tmp_path, capsys, interrupted
):
    tiny.own_pictures(tmp_path / "own", "")
    assert run(train_Food101N.main, "--output_dir", "whole") == 0
    out = capsys.readouterr().out
    assert "22 training, 2 validation images, 2 classes, 32 x 32 pixels" in out
    assert "no test set, so no test accuracy" in out
    metrics = rows(tmp_path / "whole")
    assert [row["accuracy"] for row in metrics] == [None, None]
    assert metrics[-1]["accuracy_val_raw"] is not None
    interrupted(lambda: run(train_Food101N.main, "--output_dir", "halted"))
    assert run(train_Food101N.main, "--output_dir", "halted", "--resume") == 0
    assert rows(tmp_path / "halted") == metrics
    [model] = (tmp_path / "whole").glob("LRA-diffusion_*.pt")
    assert (tmp_path / "halted" / model.name).read_bytes() == model.read_bytes()
    assert plot.main(["whole"]) == 0
    assert compare.main(["whole", "halted"]) == 0
    assert run(train_Food101N.main, "--no_validation", "--output_dir", "all") == 0
    assert plot.main(["all"]) == 0
    assert run(train_Food101N.main, "--eval_only", str(model)) == 0
    assert capsys.readouterr().out.endswith("holds a tenth out to test on\n")
    assert run(train_Food101N.main, "--select", "test") == 2
    assert "--select test: there is no test set" in capsys.readouterr().err


@pytest.mark.training
def test_labels_from_files_broken_pictures_and_a_held_out_part(run, tmp_path, capsys):
    names = tiny.own_pictures(tmp_path / "own", "", count=20)
    (tmp_path / "labels.csv").write_text("".join(f"{name},{name[:3]}\n" for name in names))
    # Of the pictures that are left, counted as `noise make --skip_broken` and 32 pixels do.
    clean = np.repeat([0, 1], 19)
    noisy = np.where(np.arange(38) % 4 == 0, 1 - clean, clean)
    noise_file.write(
        tmp_path / "n.npz",
        noise_file.make(noisy, clean_labels=clean, dataset="folder", num_classes=2),
    )
    (tmp_path / "own" / "cat" / "00.png").write_bytes(b"no picture")
    (tmp_path / "own" / "dog" / "19.png").write_bytes(b"no picture")
    flags = ["--labels", "labels.csv", "--val_fraction", "0.2", "--output_dir", "run"]
    assert run(train_Food101N.main, *flags) == 2
    error = capsys.readouterr().err
    assert "error: 2 images cannot be read: " in error
    assert "own/cat/00.png (cannot identify image file" in error
    flags += ["--noise_file", "n.npz", "--cut_labels", "--skip_broken"]
    assert run(train_Food101N.main, *flags) == 0
    out = capsys.readouterr().out
    assert "note: 2 of 40 images cannot be read and are left out:" in out
    assert "noise: n.npz, measured rate 0." in out
    labels = noise_file.read(tmp_path / "run" / "noise.npz")
    np.testing.assert_array_equal(labels.noisy_labels, noisy[labels.indices])
    np.testing.assert_array_equal(labels.clean_labels, clean[labels.indices])
    readable = [name for name in sorted(names) if name not in ("cat/00.png", "dog/19.png")]
    found = verdicts(tmp_path / "run")
    assert [row["file"] for row in found] == [readable[index] for index in labels.indices]
    assert [int(row["index"]) for row in found] == labels.indices.tolist()
    assert rows(tmp_path / "run")[-1]["drawn_labels_right"] is not None
    assert plot.main(["run"]) == 0
    assert (tmp_path / "run" / "retrieval.png").exists()
    recorded = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert (recorded["val_fraction"], recorded["labels"]) == (0.2, "labels.csv")
    # The configuration brings all of it, the seed that chose the test images among them.
    again = ["--config", "run/config.yaml", "--eval_only", "run/LRA-diffusion_test_resnet_n.pt"]
    capsys.readouterr()
    assert train_Food101N.main(again) == 0
    best = max(rows(tmp_path / "run"), key=lambda row: row["selection"])
    assert f"test accuracy: {best['accuracy']:.2f}% " in capsys.readouterr().out


@pytest.mark.training
def test_an_npz_is_no_folder_of_pictures(run, tmp_path, capsys):
    np.savez(tmp_path / "own", train_images=np.zeros((2, 32, 32, 3), np.uint8))
    (tmp_path / "own.npz").rename(tmp_path / "own")
    assert run(train_Clothing1M.main) == 2
    assert "give a folder of them" in capsys.readouterr().err


# ---- what the diffusion encoder starts from


def test_imagenet_is_another_word_for_the_default_and_a_file_or_none_is_taken(tmp_path):
    own = ["--dataset", "folder", "--data_path", str(tmp_path)]
    assert parse("train_Food101N", own).encoder_weights is None
    assert parse("train_Food101N", [*own, "--pretrained", "imagenet"]).encoder_weights is None
    for spelling in ("--pretrained", "--encoder_weights"):
        assert parse("train_Food101N", [*own, spelling, "none"]).encoder_weights == "none"
        assert parse("train_Food101N", [*own, spelling, "w.pth"]).encoder_weights == "w.pth"


def test_resnet50_starts_from_the_checked_file_below_the_data(tmp_path, monkeypatch):
    monkeypatch.setenv("DATA_ROOT", str(tmp_path / "data"))
    asked = []

    def found(network, path=None, *, flag=None):
        asked.append((network, path, flag))
        file = tmp_path / "resnet50.pth"
        torch.save({"conv1.weight": torch.ones(2)}, file)
        return file

    monkeypatch.setattr(pretrained, "imagenet_weights", found)
    config = parse("train_Food101N", ["--dataset", "folder", "--data_path", "own"])
    state = experiment.imagenet_weights(config)
    assert torch.equal(state["conv1.weight"], torch.ones(2))
    experiment.imagenet_weights(parse("train_Food101N", ["--data_path", "there"]))
    # Nothing is downloaded into a folder of pictures.
    assert [(name, str(path)) for name, path, _ in asked] == [
        ("resnet50", "None"),
        ("resnet50", "there"),
    ]
    assert asked[0][2] == "--pretrained FILE"


def test_missing_weights_are_told_before_anything_is_computed(run, tmp_path, capsys, monkeypatch):
    tiny.own_pictures(tmp_path / "own", "")

    def missing(*_args, **_keywords):
        raise DownloadError("the ImageNet weights of resnet50: no network")

    monkeypatch.setattr(pretrained, "imagenet_weights", missing)
    large = ["--diff_encoder", "resnet50_l", "--pretrained", "imagenet"]
    assert run(train_Food101N.main, *large) == 2
    assert "the ImageNet weights of resnet50: no network" in capsys.readouterr().err
    assert run(train_Food101N.main, "--pretrained", "nowhere.pth") == 2
    assert "nowhere.pth" in capsys.readouterr().err
    assert not (tmp_path / "data").exists()

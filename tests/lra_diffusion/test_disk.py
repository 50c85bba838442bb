"""The scripts for images on disk, tiny: Food-101N, Clothing1M, WebVision and ILSVRC2012 in their
real folder layouts.
"""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
import yaml
from conftest import SCRIPTS, environment, rows, verdicts

from lra_diffusion import test_ILSVRC2012, train_Clothing1M, train_Food101N, train_WebVision
from lra_diffusion.encoders import embeddings
from lra_diffusion.method.networks import LargeResNet
from lra_diffusion.run import checkpoint, image_files
from shared.formats import noise_file

BACKBONE = "test_resnet"  # timm's smallest: a tenth of a megabyte
TINY = [
    "--diff_encoder",
    "resnet18_l",
    "--encoder_weights",
    "none",
    "--feature_dim",
    "8",
    "--nepoch",
    "1",
    "--device",
    "cpu",
    "--num_workers",
    "0",
]
MAINS = {
    "train_Food101N": train_Food101N.main,
    "train_Clothing1M": train_Clothing1M.main,
    "train_WebVision": train_WebVision.main,
    "test_ILSVRC2012": test_ILSVRC2012.main,
}


def write_lines(path: Path, *lines: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))


def pictures(root: Path, names: list[str], labels: list[int]) -> None:
    """A JPEG for each name, its colour after its label; the second is grey, the third CMYK."""
    for i, (name, label) in enumerate(zip(names, labels)):
        tiny.picture(root / name, 2 * label + 5, {1: "L", 2: "CMYK"}.get(i, "RGB"))


def food101n(root: Path, verified: bool = False) -> None:
    """An image of each of the 101 classes and one more to train on, three to test, if `verified`
    two to validate.
    """
    classes = [f"dish_{i}" for i in range(101)]
    meta = root / "Food101N" / "Food-101N_release" / "meta"
    write_lines(meta / "classes.txt", "class_name", *classes)
    train = [f"{name}/{i}.jpg" for i, name in enumerate([*classes, classes[0]])]
    val = [f"{classes[1]}/right.jpg", f"{classes[2]}/too.jpg"] if verified else []
    write_lines(meta / "imagelist.tsv", "class_name/key", *train, *val)
    if verified:
        write_lines(
            meta / "verified_val.tsv",
            "class_name/key\tverification_label",
            *(f"{name}\t1" for name in val),
        )
    pictures(
        root / "Food101N" / "Food-101N_release" / "images", [*train, *val], [*range(101), 0, 1, 2]
    )
    test = [f"{classes[i]}/{i}" for i in (0, 50, 100)]
    write_lines(root / "Food101N" / "food-101" / "meta" / "test.txt", *test)
    pictures(
        root / "Food101N" / "food-101" / "images", [f"{name}.jpg" for name in test], [0, 50, 100]
    )


def clothing1m(root: Path) -> None:
    """An image of each of the 14 classes and one more of the first to train on, two to validate,
    two to test.
    """
    lists = root / "Clothing1M" / "annotations"
    for split, labels in (("cc", [*range(14), 0]), ("clean_val", [0, 13]), ("clean_test", [7, 1])):
        names = [f"images/{split}/{i}.jpg" for i in range(len(labels))]
        pictures(root / "Clothing1M", names, labels)
        if split == "cc":
            write_lines(lists / "cc_select_img.txt", *names)
            write_lines(lists / "cc_select_label.txt", *map(str, labels))
        else:
            write_lines(lists / f"{split}_key_list.txt", *names)
            with (lists / "clean_label_kv.txt").open("a") as file:
                file.writelines(f"{name} {label}\n" for name, label in zip(names, labels))


def webvision(root: Path, ilsvrc2012: bool = True) -> None:
    """An image of each of the first 50 classes and two more of the first; lists name classes beyond
    them too.
    """
    labels = [*range(50), 0, 0]
    train = [f"google/q{label:04}/{i}.jpg" for i, label in enumerate(labels)]
    write_lines(
        root / "WebVision" / "info" / "train_filelist_google.txt",
        *(f"{name} {label}" for name, label in zip(train, labels)),
        "google/q0777/a.jpg 777",
    )
    pictures(root / "WebVision", train, labels)
    write_lines(
        root / "WebVision" / "info" / "val_filelist.txt",
        *(f"val{i}.jpg {i}" for i in (3, 30, 49, 300)),
    )
    pictures(
        root / "WebVision" / "val_images_256", [f"val{i}.jpg" for i in (3, 30, 49)], [3, 30, 49]
    )
    if ilsvrc2012:
        write_lines(
            root / "ILSVRC2012" / "ILSVRC2012_val_label.txt",
            *(
                f"ILSVRC2012_val_{i:08}.JPEG {label} n0{label}"
                for i, label in enumerate((49, 7, 900, 0))
            ),
        )
        names = [f"ILSVRC2012_val_{i:08}.JPEG" for i in (0, 1, 3)]
        pictures(root / "ILSVRC2012" / "ILSVRC2012_img_val", names, [49, 7, 0])


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs a script in this process, in an empty folder, with images of 32 pixels: 224 take a
    minute, and change nothing.
    """
    import timm

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(image_files, "SHORTER_SIDE", 36)
    monkeypatch.setattr(image_files, "CROP", 32)
    torch.manual_seed(0)
    torch.save(timm.create_model(BACKBONE, num_classes=0).state_dict(), "backbone.pth")
    flags = [*TINY, "--data_path", "data", "--fp_encoder", BACKBONE, "--fp_weights", "backbone.pth"]
    # test_ILSVRC2012.py takes it, and needs it not.
    alone = [flag for flag in flags if flag not in ("--nepoch", "1")]

    def main(script: str, *more: str) -> int:
        return MAINS[script]([*(alone if script.startswith("test") else flags), *more])

    return main


@pytest.mark.training
def test_webvision_trains_and_is_tested_on_ilsvrc2012(run, tmp_path, capsys):
    webvision(tmp_path / "data")
    assert run("train_WebVision", "--nepoch", "2", "--batch_size", "16") == 0
    [folder] = (tmp_path / "runs").iterdir()
    metrics = rows(folder)
    # One of each of 50 classes, and the last two are dropped.
    assert [row["images"] for row in metrics] == [48, 48]
    evaluated = {f"accuracy_{name}_{kind}" for name in ("val", "test") for kind in ("raw", "ema")}
    assert all(row[name] is not None for row in metrics for name in evaluated)
    assert {"knn_accuracy_val", "knn_accuracy_test"} <= metrics[0].keys()
    out = capsys.readouterr().out
    assert "LRA-diffusion on webvision: 52 training, 3 validation, 3 test images, 50 classes" in out
    assert "noise: none added; how many of the labels are wrong is not known" in out
    assert (tmp_path / "model" / "LRA-diffusion_WebVision.pt").exists()
    found = verdicts(folder)
    first = [f"WebVision/google/q000{i}/{i}.jpg" for i in range(2)]
    assert [row["file"] for row in found[:2]] == first
    assert [int(row["given_label"]) for row in found] == [*range(50), 0, 0]
    table = (folder / "label_quality.csv").read_bytes()
    assert train_WebVision.main(["--export", str(folder), "--save_probs"]) == 0
    assert (folder / "label_quality.csv").read_bytes() == table
    with np.load(folder / "pred_probs.npz") as file:
        assert (file["pred_probs"].shape, file["test_pred_probs"].shape) == ((52, 50), (3, 50))
    header = noise_file.read(folder / "corrected_labels.npz").header
    assert (header.dataset, header.num_classes, header.kind) == ("webvision", 50, "corrected")
    capsys.readouterr()

    assert run("test_ILSVRC2012") == 0
    best = max(metrics, key=lambda row: row["selection"])
    out = capsys.readouterr().out
    assert f"ILSVRC2012 accuracy: {best['accuracy']:.2f}% (3 images)" in out
    assert f"validation accuracy: {best['selection']:.2f}% (3 images)" in out

    # The first epoch of the same run.
    first = ["--nepoch", "1", "--lr_horizon", "2", "--batch_size", "16"]
    assert (
        run(
            "train_WebVision",
            *first,
            "--num_workers",
            "2",
            "--cache_dir",
            "other",
            "--output_dir",
            "workers",
        )
        == 0
    )
    assert rows(tmp_path / "workers") == metrics[:1]


@pytest.mark.training
def test_webvision_without_ilsvrc2012_reports_its_own_validation_images(run, tmp_path, capsys):
    webvision(tmp_path / "data", ilsvrc2012=False)
    assert run("train_WebVision", "--limit_test", "2") == 0
    out = capsys.readouterr().out
    assert "52 training, 2 validation images" in out
    assert re.search(r"Model saved, update best accuracy at Epoch 1, val acc: [\d.]+\n", out)
    assert re.search(r"^validation accuracy at the best validation accuracy", out, re.MULTILINE)
    assert "test acc" not in out
    assert run("test_ILSVRC2012") == 2
    assert "ILSVRC2012's validation set is missing" in capsys.readouterr().err


@pytest.mark.training
def test_ilsvrc2012_without_a_model_says_to_train_first(run, tmp_path, capsys):
    webvision(tmp_path / "data")
    assert run("test_ILSVRC2012") == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert "model/LRA-diffusion_WebVision.pt" in message
    assert "python train_WebVision.py" in message
    assert run("test_ILSVRC2012", "--eval_only", "elsewhere.pt") == 2
    assert "elsewhere.pt" in capsys.readouterr().err


@pytest.mark.training
def test_food101n_without_its_verified_list_reports_the_last_epoch(run, tmp_path, capsys):
    food101n(tmp_path / "data")
    assert run("train_Food101N", "--batch_size", "50") == 0
    out = capsys.readouterr().out
    assert "LRA-diffusion on food101n: 102 training, 3 test images, 101 classes" in out
    assert "after the last epoch (there is no validation set)" in out
    [folder] = (tmp_path / "runs").iterdir()
    [row] = rows(folder)
    assert row["images"] == 100
    assert (row["weights"], row["selection"]) == ("raw", None)
    assert row["accuracy"] == row["accuracy_test_raw"]
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert (config["fp_queries"], config["exclude_self"], config["k"]) == ("cached", True, 10)
    assert (tmp_path / "model" / "LRA-diffusion_Food101N.pt").exists()


@pytest.mark.training
def test_food101n_legacy_leaves_the_encoder_alone_and_selects_on_test_images(run, tmp_path, capsys):
    food101n(tmp_path / "data", verified=True)
    assert run("train_Food101N", "--batch_size", "50", "--legacy", "--output_dir", "legacy") == 0
    assert "102 training, 2 validation, 3 test images" in capsys.readouterr().out
    [row] = rows(tmp_path / "legacy")
    assert row["accuracy_val_raw"] is not None
    assert row["selection"] == row["accuracy"] == row["accuracy_test_raw"]
    torch.manual_seed(123)
    first = LargeResNet("resnet18", 8)
    _, encoder = checkpoint.load(tmp_path / "legacy" / "LRA-diffusion_Food101N.pt", kind=list)
    assert all(torch.equal(encoder[name], value) for name, value in first.named_parameters())
    # Batches of training and test images.
    assert not torch.equal(encoder["bn1.running_mean"], first.bn1.running_mean)


@pytest.mark.training
def test_clothing1m_in_a_process_of_its_own_and_at_full_size(tmp_path):
    clothing1m(tmp_path / "data")
    tiny.cc_weights(tmp_path)
    command = [
        sys.executable,
        str(SCRIPTS / "train_Clothing1M.py"),
        *TINY,
        "--data_path",
        "data",
        "--k",
        "5",
        "--batch_size",
        "4",
        "--gpu_devices",
        "0",
        "1",
        "2",
        "3",
    ]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    [folder] = (tmp_path / "runs").iterdir()
    [row] = rows(folder)
    assert row["images"] == 12  # one of each of 14 classes, and the last two are dropped
    assert (row["accuracy_val_raw"], row["accuracy_test_raw"]) != (None, None)
    assert re.search(
        r"Model saved, update best accuracy at Epoch 1, val acc: [\d.]+, test acc: [\d.]+",
        done.stdout,
    )
    predictor, encoder = checkpoint.load(
        tmp_path / "model" / "LRA-diffusion_Clothing1M.pt", kind=list
    )
    assert predictor["lin1.lin.weight"].shape == (8, 14 + 128)
    assert {"myfc.weight", "myfc2.weight"} <= encoder.keys()
    caches = {path.name.rpartition("_")[0] for path in (tmp_path / "data" / "embeddings").iterdir()}
    assert caches == {f"fp_embed_{split}_clothing1m" for split in ("train", "val", "test")}


@pytest.mark.training
@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("train_Food101N", "Food-101N is missing"),
        ("train_Clothing1M", "Clothing1M is missing"),
        ("train_WebVision", "WebVision is missing"),
    ],
)
def test_missing_data_is_one_message_and_nothing_is_written(run, tmp_path, capsys, script, message):
    assert run(script) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {message}: ")
    assert "Traceback" not in error
    assert [path.name for path in tmp_path.iterdir()] == ["backbone.pth"]


@pytest.mark.training
def test_a_class_without_an_image_is_refused(run, tmp_path, capsys):
    webvision(tmp_path / "data")
    assert run("train_WebVision", "--limit_train", "49") == 2
    assert "has no image among 49: raise --limit_train" in capsys.readouterr().err


def damage(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.write_bytes(path.read_bytes()[:300])


@pytest.mark.training
@pytest.mark.parametrize("workers", ["0", "1"])
def test_broken_images_are_named_and_counted_and_no_run(run, tmp_path, capsys, workers):
    webvision(tmp_path / "data")
    damage(tmp_path / "data" / "WebVision", "google/q0004/4.jpg", "val_images_256/val30.jpg")
    (tmp_path / "data" / "WebVision" / "google" / "q0000" / "50.jpg").unlink()
    assert run("train_WebVision", "--num_workers", workers) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert error.startswith("error: 3 images cannot be read: ")
    for name in ("q0004/4.jpg (", "val30.jpg (", "q0000/50.jpg ("):
        assert name in error
    assert "Get these files again, or add --skip_broken to leave them out" in error
    assert not (tmp_path / "runs").exists()


@pytest.mark.training
def test_a_repaired_image_costs_one_part_of_the_features(run, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(embeddings, "PART", 10)
    monkeypatch.setattr(image_files.DiskImages, "evaluation_batch", 10)
    webvision(tmp_path / "data")
    damage(tmp_path / "data" / "WebVision", "google/q0004/4.jpg")
    assert run("train_WebVision") == 2
    tiny.picture(tmp_path / "data" / "WebVision" / "google" / "q0004" / "4.jpg", 13)
    capsys.readouterr()
    assert run("train_WebVision") == 0
    out = capsys.readouterr().out
    assert f"{BACKBONE}: features of 42 images were kept" in out  # of 52
    assert f"features, {BACKBONE}: 10 images in 1 steps" in out


@pytest.mark.training
def test_skip_broken_leaves_them_out_the_same_after_a_resume(run, tmp_path, capsys):
    webvision(tmp_path / "data")
    damage(tmp_path / "data" / "WebVision", "google/q0000/50.jpg", "val_images_256/val30.jpg")
    flags = ["--skip_broken", "--batch_size", "16", "--output_dir", "run"]
    assert run("train_WebVision", *flags) == 0
    out = capsys.readouterr().out
    assert "note: 2 of 58 images cannot be read and are left out:\n" in out
    assert "LRA-diffusion on webvision: 51 training, 2 validation, 3 test images" in out
    before = rows(tmp_path / "run")
    assert run("train_WebVision", *flags, "--resume") == 0
    assert "resumed: epoch 1 of 1 is done" in (out := capsys.readouterr().out)
    # Neither is decoded again, and what is left out is still said.
    assert out.count("features of") == 2
    assert "note: 2 of 58 images cannot be read and are left out:\n" in out
    assert rows(tmp_path / "run") == before
    kept = [*range(50), 51]  # the rows of the list
    assert [int(row["index"]) for row in verdicts(tmp_path / "run")] == kept
    assert noise_file.read(tmp_path / "run" / "corrected_labels.npz").indices.tolist() == kept
    assert run("train_WebVision", "--output_dir", "other") == 2
    assert "error: 2 images cannot be read: " in capsys.readouterr().err
    # The only image of a class.
    damage(tmp_path / "data" / "WebVision", "google/q0004/4.jpg")
    assert run("train_WebVision", "--skip_broken", "--output_dir", "other") == 2
    assert "class 4 has no image among 50" in capsys.readouterr().err

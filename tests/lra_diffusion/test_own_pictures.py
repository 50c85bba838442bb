"""Pictures of one's own at 32 pixels: without a test set, with a CSV of labels, held-out images."""

import json
from pathlib import Path

import numpy as np
import pytest
import tiny
import yaml
from conftest import rows, verdicts
from PIL import Image

from lra_diffusion import KNN_test, compare, make_pmd, plot, train_CE, train_CIFAR, train_SimCLR
from lra_diffusion.run import checkpoint
from shared.formats import noise_file

SMALL = ["--nepoch", "2", "--batch_size", "8", "--width", "4", "--device", "cpu", "--amp", "off"]
LRA = [*SMALL, "--diff_encoder", "resnet18", "--feature_dim", "8", "--warmup_epochs", "1"]
NO_TEST_SET = "no test set, so no test accuracy; --val_fraction 0.1 holds a tenth out to test on"
ACCURACIES = ("accuracy", "accuracy_test_raw", "accuracy_test_ema", "knn_accuracy_test")


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    """An empty folder with a tiny SimCLR encoder for own pictures; they go to `own` in it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DATA_ROOT", str(tmp_path / "data"))
    tiny.simclr_weights(tmp_path, "folder")
    return tmp_path


def own(main, *flags: str, data: str = "own") -> int:
    return main(["--dataset", "folder", "--data_path", data, *flags])


def below(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.training
def test_class_folders_alone_train_without_a_test_accuracy(place, capsys, interrupted):
    names = tiny.own_pictures(place / "own", "")
    assert own(train_CIFAR.main, *LRA, "--output_dir", "run") == 0
    out = capsys.readouterr().out
    for line in (
        "LRA-diffusion on folder: 22 training, 2 validation images, 2 classes, 32 x 32 pixels\n",
        "note: validation images keep the labels that came with them, some of which may be wrong\n",
        f"\nnote: {NO_TEST_SET}\n",
        f"\n{NO_TEST_SET}\nmodel: ",
        " % (val)\n",
    ):
        assert line in out
    assert below(place / "own") == {*names}  # features are kept elsewhere
    metrics = rows(place / "run")
    assert [row[name] for row in metrics for name in ACCURACIES] == [None] * 8
    assert metrics[-1]["accuracy_val_raw"] == metrics[-1]["selection"]
    model = place / "run" / "LRA-diffusion_SimCLR_folder.pt"
    assert (place / "run" / checkpoint.BEST).exists()
    found = verdicts(place / "run")
    trained = noise_file.read(place / "run" / "noise.npz").indices.tolist()
    assert [row["file"] for row in found] == [sorted(names)[index] for index in trained]
    assert all(row["file"].split("/")[0] == row["given_name"] for row in found)
    assert "clean_label" not in found[0]

    command = (*LRA, "--output_dir", "halted")
    interrupted(lambda: own(train_CIFAR.main, *command))
    assert own(train_CIFAR.main, *command, "--resume") == 0
    assert "resumed: epoch 1 of 2 is done" in capsys.readouterr().out
    assert rows(place / "halted") == metrics
    assert (place / "halted" / model.name).read_bytes() == model.read_bytes()

    assert own(train_CIFAR.main, "--eval_only", str(model), "--device", "cpu") == 0
    out = capsys.readouterr().out
    assert f"validation accuracy: {metrics[-1]['selection']:.2f}% (2 images)" in out
    assert out.endswith(f"{NO_TEST_SET}\n")
    assert plot.main(["run"]) == 0
    assert (place / "run" / "trajectories.png").exists()
    assert compare.main(["run", "halted", "--plot", "curves.png"]) == 0
    out = capsys.readouterr().out
    assert "test accuracy (%), against given labels" in out
    assert "LRA-diffusion (SimCLR), run" in out
    assert (place / "curves.png").exists()


@pytest.mark.training
def test_without_validation_either_the_last_epoch_is_the_model(place, capsys):
    tiny.own_pictures(place / "own", "train")
    assert own(train_CIFAR.main, *LRA, "--no_validation", "--output_dir", "lra") == 0
    out = capsys.readouterr().out
    assert "LRA-diffusion on folder: 24 training images, 2 classes" in out
    assert "the model is that of epoch 2, the last one (raw weights)" in out
    assert "majority vote" not in out
    assert rows(place / "lra")[-1]["weights"] == "raw"
    assert plot.main(["lra"]) == 0
    ce = [*SMALL, "--diff_encoder", "resnet18"]
    assert own(train_CE.main, *ce, "--no_validation", "--output_dir", "ce") == 0
    assert f"no test set\n{NO_TEST_SET}\nrun folder: ce\n" in capsys.readouterr().out
    assert [row["accuracy"] for row in rows(place / "ce")] == [None, None]
    assert (place / "ce" / checkpoint.LAST).exists()
    assert not (place / "ce" / checkpoint.BEST).exists()  # nothing chooses
    assert [len(verdicts(place / run)) for run in ("lra", "ce")] == [24, 24]
    assert compare.main(["lra", "ce"]) == 0


@pytest.mark.training
def test_a_part_is_held_out_the_same_for_every_method(place, capsys):
    tiny.own_pictures(place / "own", "", count=20)
    held_out = [*SMALL, "--val_fraction", "0.25", "--diff_encoder", "resnet18"]
    assert own(train_CE.main, *held_out, "--output_dir", "ce") == 0
    assert own(train_CIFAR.main, *held_out, *LRA, "--output_dir", "lra") == 0
    out = capsys.readouterr().out
    numbers = [line.split(": ")[1] for line in out.splitlines() if " on folder: " in line]
    assert len(numbers) == 2
    assert numbers[0] == numbers[1]
    assert ", 10 test images" in numbers[0]
    assert "note: validation and test images keep the labels that came with them" in out
    configs = [yaml.safe_load((place / run / "config.yaml").read_text()) for run in ("ce", "lra")]
    for name in ("train_sha256", "val_sha256", "test_sha256", "noisy_labels_sha256"):
        assert configs[0]["identity"][name] == configs[1]["identity"][name]
    assert all(row["accuracy"] is not None for row in rows(place / "ce"))
    assert NO_TEST_SET not in out
    # 40 images less ten, and less every tenth of a class that is not among these.
    labels = noise_file.read(place / "lra" / "noise.npz")
    assert 26 <= len(labels.indices) <= 30

    tiny.own_pictures(place / "tested", "train", "test")
    assert own(train_CE.main, *held_out, data="tested") == 2
    assert "tested has test images: leave out --val_fraction" in capsys.readouterr().err
    assert own(train_CE.main, *held_out, "--val_fraction", "0.99") == 2
    assert "choose at most 0.95" in capsys.readouterr().err


@pytest.mark.training
def test_noise_of_the_whole_folder_leaves_clean_labels_to_test_on(place, capsys):
    tiny.own_pictures(place / "own", "")
    clean = np.repeat([0, 1], 12)
    noisy = np.where(np.arange(24) % 5 == 0, 1 - clean, clean)
    noise_file.write(place / "n.npz", noise_file.make(noisy, clean_labels=clean, num_classes=2))
    command = (*LRA, "--noise_file", "n.npz", "--val_fraction", "0.25", "--output_dir", "run")
    assert own(train_CIFAR.main, *command) == 2
    assert "validate or test with clean labels: add --cut_labels" in capsys.readouterr().err
    assert own(train_CIFAR.main, *command, "--cut_labels") == 0
    out = capsys.readouterr().out
    assert "noise: n.npz, measured rate 0." in out
    assert "keep the labels that came with them" not in out
    assert rows(place / "run")[-1]["drawn_labels_right"] is not None


@pytest.mark.training
def test_a_csv_of_labels_and_broken_pictures_are_understood_by_every_script(place, capsys):
    for i, name in enumerate(tiny.own_pictures(place / "made", "")):
        flat = place / "own" / ("deep/er" if i % 2 else "") / name.replace("/", "_")
        flat.parent.mkdir(parents=True, exist_ok=True)
        (place / "made" / name).rename(flat)
    (place / "own" / "cat_00.png").write_bytes(b"no picture")
    files = sorted((place / "own").rglob("*.png"))
    lines = [f"{file.name},{file.name[:3]}\n" for file in files]
    (place / "labels.csv").write_text("".join(["filename,label\n", *lines]))
    small = ["--batch_size", "8", "--device", "cpu"]
    listed = ["--labels", "labels.csv", "--skip_broken", "--cache_dir", "kept"]
    scripts = {
        train_SimCLR.main: [*small, "--nepoch", "1", "--arch", "resnet18", "--width", "4"],
        train_CE.main: [*SMALL, "--diff_encoder", "resnet18"],
        train_CIFAR.main: [*LRA, "--output_dir", "lra"],
        make_pmd.main: ["--epochs", "1", "--noise_factor", "1", "--network", "resnet18"],
    }
    for main, flags in scripts.items():
        assert own(main, *flags, *listed) == 0
        out, err = capsys.readouterr()
        assert "1 of 24 pictures of own cannot be read and are left out:\n" in err
    assert KNN_test.main(["--data", "folder", "--data_path", "own", *listed]) == 0
    out = capsys.readouterr().out
    assert "the features are judged by 2 validation images" in out
    assert any((place / "kept").glob("fp_embed_train_folder_*"))
    assert own(train_CIFAR.main, *LRA, "--output_dir", "lra", *listed, "--resume") == 0
    assert "resumed: epoch 2 of 2 is done" in capsys.readouterr().out
    assert own(train_CIFAR.main, *LRA, "--labels", "labels.csv") == 2
    assert "leave them out with --skip_broken" in capsys.readouterr().err
    # A folder whose CSV was forgotten: below it is one folder, and that is no class.
    assert own(train_CIFAR.main, *LRA, "--skip_broken") == 2
    assert "has one class, deep, so that there is nothing to learn" in capsys.readouterr().err
    # The list has moved since.
    (place / "labels.csv").rename(place / "moved.csv")
    assert plot.main(["lra", "--labels", "moved.csv"]) == 0


@pytest.mark.training
def test_arrays_without_a_test_set_and_features_of_ones_own(place, capsys):
    rng = np.random.default_rng(0)
    labels = np.arange(24) % 2
    images = rng.integers(0, 255, (24, 32, 32, 3), dtype=np.uint8)
    np.savez(place / "own.npz", train_images=images, train_labels=labels)
    np.save(place / "f.npy", rng.normal(size=(24, 5)).astype(np.float32))
    features = ["--fp_embed_train", "f.npy"]
    assert own(train_CIFAR.main, *LRA, *features, "--output_dir", "run", data="own.npz") == 0
    assert rows(place / "run")[-1]["accuracy"] is None
    held_out = (*LRA, *features, "--val_fraction", "0.2", "--output_dir", "held")
    assert own(train_CIFAR.main, *held_out, data="own.npz") == 0
    assert rows(place / "held")[-1]["accuracy"] is not None
    needless = (*LRA, *features, "--fp_embed_test", "f.npy")
    assert own(train_CIFAR.main, *needless, data="own.npz") == 2
    assert "--fp_embed_test: there are 0 test images; leave it out" in capsys.readouterr().err
    tiny.own_pictures(place / "own", "train", "test")
    assert own(train_CIFAR.main, *LRA, *features) == 2
    assert "--fp_embed_test: there are 24 test images; give" in capsys.readouterr().err


@pytest.mark.training
def test_large_pictures_get_one_line_that_names_the_script_for_them(place, capsys):
    tiny.own_pictures(place / "own", "", side=100)
    assert own(train_CE.main, *SMALL, "--diff_encoder", "resnet18") == 0
    out = capsys.readouterr().out
    line = "note: pictures of about 100 pixels are reduced to 32: `train_Food101N.py --dataset"
    assert out.count(line) == 1
    Image.new("RGB", (40, 40)).save(place / "own" / "cat" / "00.png")
    tiny.own_pictures(place / "small", "", side=90)
    assert own(train_CE.main, *SMALL, "--diff_encoder", "resnet18", data="small") == 0
    assert "are reduced to 32" not in capsys.readouterr().out


@pytest.mark.training
def test_too_few_pictures_for_a_validation_part_are_pretrained_on_but_not_judged(place, capsys):
    tiny.own_pictures(place / "own", "", count=8)
    flags = "--batch_size 8 --nepoch 1 --arch resnet18 --width 4 --device cpu --output_dir simclr"
    assert own(train_SimCLR.main, *flags.split()) == 0
    assert json.loads((place / "simclr" / "metrics.jsonl").read_text())["knn_accuracy"] is None
    assert KNN_test.main(["--data", "folder", "--data_path", "own"]) == 2
    assert "nothing can be judged; add some in test/<class>/" in capsys.readouterr().err

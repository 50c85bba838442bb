"""Pictures of one's own: at the size of each recipe, without a test set, by a table of labels."""

import csv

import numpy as np
import pytest
import torch
import trees
import yaml
from conftest import rows

from instancegm import instanceGM, instanceGM_animal10N, instanceGM_clothing1M
from instancegm.method.signs import SILENT
from instancegm.run.config import parse
from instancegm.run.data import run_data
from shared.datasets.image_data import ImageData
from shared.formats.noise_file import NoiseFileError, make, read, write

SMALL = [
    *("--width", "4", "--batch_size", "8", "--num_epochs", "1", "--warm_up", "1", "--amp", "off"),
    *("--dataset", "folder", "--output_dir", "run"),
]
SCRATCH = ("--width", "8", "--pretrained", "none")
CPU = torch.device("cpu")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return trees.own_pictures(tmp_path / "mine")


def words(folder, *more):
    return [*SMALL, "--data_path", str(folder), *more]


@pytest.mark.training
@pytest.mark.parametrize(
    ("script", "size", "more"),
    [
        (instanceGM, 32, ()),
        (instanceGM_animal10N, 64, ("--width", "8")),
        (
            instanceGM_clothing1M,
            224,
            ("--width", "8", "--pretrained", "none", "--num_workers", "0"),
        ),
    ],
)
def test_each_recipe_takes_them_at_its_size_and_without_a_test_set(
    folder, capsys, script, size, more
):
    assert script.main(words(folder, *more, "--no-vae")) == 0
    output = capsys.readouterr().out
    assert f"24 training images of {size} x {size} pixels, no test images" in output
    assert "no test set, so no accuracy" in output
    table = rows(folder.parent / "run")
    assert [row["accuracy"] for row in table] == [None, None]
    assert read(folder.parent / "run" / "corrected_labels.npz").noisy_labels.shape == (24,)
    assert (folder.parent / "run" / "plots.png").stat().st_size > 10_000
    assert script.main(words(folder, *more, "--no-vae", "--resume", "--num_epochs", "2")) == 0
    assert len(rows(folder.parent / "run")) == 3
    capsys.readouterr()
    assert script.main(["--evaluate", "run"]) == 2
    assert "--val_fraction" in capsys.readouterr().err


@pytest.mark.training
def test_losses_of_different_draws_are_not_averaged(folder):
    noise = ("--r", "0.9", "--noise_mode", "sym")  # the rate at which losses of five epochs are
    draws = ("--num_batches", "1", "--warm_up", "0", "--num_workers", "0", "--no-vae")
    assert instanceGM_clothing1M.main(words(folder, *SCRATCH, *noise, *draws)) == 0
    state = torch.load(folder.parent / "run" / "last.ckpt", weights_only=True)
    assert [len(past) for past in state["losses"]] == [1, 1]


@pytest.mark.training
def test_a_part_can_be_held_out_and_is_tested_on(folder, capsys):
    flags = ("--val_fraction", "0.25", "--no-vae")
    assert instanceGM.main(words(folder, *flags)) == 0
    assert "18 training images of 32 x 32 pixels, 6 test images" in capsys.readouterr().out
    accuracy = rows(folder.parent / "run")[-1]["accuracy"]
    assert yaml.safe_load((folder.parent / "run/config.yaml").read_text())["val_fraction"] == 0.25
    assert instanceGM.main(["--evaluate", "run"]) == 0
    assert f"test accuracy {accuracy:.2f} %" in capsys.readouterr().out
    trees.own_pictures(folder / "test")
    trees.own_pictures(folder / "train")
    assert instanceGM.main(words(folder, *flags, "--output_dir", "other")) == 2
    assert "leave out --val_fraction" in capsys.readouterr().err


def test_held_out_pictures_are_tested_by_their_clean_labels_where_noise_is_added(folder):
    flags = ("--val_fraction", "0.5", "--noise_mode", "sym", "--r", "0.9")
    data = run_data(parse(words(folder, *flags)), CPU, SILENT)
    clean = np.repeat(np.arange(3), 8)
    held_out = np.setdiff1d(np.arange(24), data.noise.indices)
    assert data.tests["test"].labels.tolist() == clean[held_out].tolist()
    assert (data.noise.noisy_labels != clean[data.noise.indices]).mean() > 0.3


@pytest.mark.parametrize(
    ("script", "more"), [("instanceGM", ()), ("instanceGM_clothing1M", SCRATCH)]
)
def test_corrected_labels_are_not_measured_by_the_folders_own(folder, script, more):
    better = (np.repeat(np.arange(3), 8) + np.arange(24) % 2) % 3
    write("better.npz", make(better, kind="corrected", dataset="folder"))
    flags = words(folder, "--val_fraction", "0.25", "--num_workers", "0", *more)
    noise = ("--noise_file", "better.npz")
    data = run_data(parse([*flags, *noise], script), CPU, SILENT)
    assert data.train_set.is_clean is None
    assert (data.noise.clean_labels, data.config.r, data.config.noise_mode) == (None, 0, "none")
    assert data.train_set.noisy_labels.tolist() == better[data.noise.indices].tolist()
    assert data.tests["test"].labels.tolist() == np.delete(better, data.noise.indices).tolist()
    before = run_data(parse(flags, script), CPU, SILENT)  # who held out the same pictures
    assert before.noise.indices.tolist() == data.noise.indices.tolist()
    with pytest.raises(NoiseFileError, match="leave --r out"):
        run_data(parse([*flags, *noise, "--r", "0.4"], script), CPU, SILENT)


def test_a_table_of_labels_says_what_the_pictures_are(folder):
    table = folder.parent / "labels.csv"
    names = [f"class {label}/{k:02}.png" for label in range(3) for k in range(8)]
    with table.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerows(
            [["filename", "label"], *([name, "ab"[k % 2]] for k, name in enumerate(names))]
        )
    data = run_data(parse(words(folder, "--labels", str(table))), CPU, SILENT)
    assert data.class_names == ("a", "b")
    assert data.train_set.noisy_labels.tolist() == [0, 1] * 12


def test_large_pictures_on_a_small_recipe_get_the_name_of_a_better_script(tmp_path, capsys):
    large = trees.own_pictures(tmp_path / "large", classes=2, per_class=2, size=400)
    run_data(parse(words(large)), CPU, SILENT)
    (note,) = [line for line in capsys.readouterr().out.splitlines() if "reduced to 32" in line]
    assert "instanceGM_animal10N.py" in note
    assert "instanceGM_clothing1M.py" in note


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--labels x.csv", "--labels is for --dataset folder"),
        ("--val_fraction 0.1", "--val_fraction is for --dataset folder"),
        ("--dataset folder --data_path x --val_fraction 1.5", "must be in (0, 1)"),
        ("--noise_type worse", "--noise_type is for --dataset cifar10n"),
        ("--dataset cifar10n --r 0.4", "leave out --r"),
    ],
)
def test_flags_that_do_not_fit_are_refused(line, message, capsys):
    with pytest.raises(SystemExit):
        parse(line.split())
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--weights w.pth", "--pretrained imagenet: add that"),
        ("--pretrained none --weights w.pth", "leave out --weights"),
        ("--pretrained imagenet --width 8", "are for --width 64"),
    ],
)
def test_weights_that_do_not_fit_are_refused(line, message, capsys):
    with pytest.raises(SystemExit):
        parse(line.split(), "instanceGM_animal10N")
    assert message in capsys.readouterr().err


@pytest.fixture
def human(tmp_path, monkeypatch):
    """A tiny CIFAR-10 with people's labels, as `make data-cifar10 data-cifar_n` leave them."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    clean = np.arange(200) % 10
    images = rng.integers(0, 256, (200, 32, 32, 3), dtype=np.uint8)
    names = tuple("abcdefghij")
    data = ImageData("cifar10", images, clean, images[:20], clean[:20], names, tmp_path)
    monkeypatch.setattr("shared.datasets.load", lambda *_, **__: data)
    columns = {"clean_label": clean, "worse_label": np.roll(clean, 1), "aggre_label": clean.copy()}
    columns["aggre_label"][:20] = 9 - clean[:20]
    (tmp_path / "label_noisy/cifar_n").mkdir(parents=True)
    torch.save(columns, tmp_path / "label_noisy/cifar_n/CIFAR-10_human.pt")
    return columns


@pytest.mark.training
def test_a_run_on_human_labels_is_named_after_them_and_can_be_repeated(human, tmp_path):
    flags = ["--dataset", "cifar10n", "--noise_type", "aggre", "--data_path", str(tmp_path)]
    flags += ["--width", "1", "--batch_size", "16", "--num_epochs", "0", "--mode", "ce"]
    assert instanceGM.main(flags) == 0
    (run,) = (tmp_path / "runs").iterdir()
    assert run.name == "cifar10n_0.1_aggre_label_ce_seed123"
    assert (read(run / "noise.npz").noisy_labels == human["aggre_label"]).all()
    assert yaml.safe_load((run / "config.yaml").read_text())["lambda_u"] == 0.0
    assert instanceGM.main(["--config", str(run / "config.yaml"), "--output_dir", "again"]) == 0
    assert rows(tmp_path / "again") == rows(run)


def test_human_labels_by_name_bring_a_preset_of_their_own():
    config = parse(["--dataset", "cifar10n", "--noise_type", "aggre"])
    assert (config.lambda_u, config.warm_up, config.noise_mode) == (0.0, 10, "human")
    assert parse(["--dataset", "cifar100n", "--lambda_u", "5"]).lambda_u == 5.0

"""Red Mini-ImageNet, Animal-10N, Clothing1M: their scripts on miniature trees, as users do."""

import importlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import pytest
import torch
import trees
import yaml
from conftest import ROOT, environment, rows

from instancegm.method.networks import build_classifier, load_classifier
from instancegm.run.config import parse

pytestmark = pytest.mark.training

SMALL = ["--width", "8", "--batch_size", "8", "--warm_up", "1", "--amp", "off"]
SETS = {
    "instanceGM_redMini": (trees.red_mini_imagenet, ["--r", "0.4", *SMALL]),
    "instanceGM_animal10N": (trees.animal10n, SMALL),
    "instanceGM_clothing1M": (
        trees.clothing1m,
        [
            *(*SMALL, "--width", "4", "--batch_size", "4", "--num_batches", "2"),
            *("--pretrained", "none", "--num_workers", "1"),
        ],
    ),
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """script -> its miniature tree."""
    return {script: make(tmp_path_factory.mktemp(script)) for script, (make, _) in SETS.items()}


def words(script, data, *flags):
    return ["--data_path", str(data[script]), *SETS[script][1], *map(str, flags)]


def main(script, arguments):
    """The script in this process."""
    return importlib.import_module(f"instancegm.{script}").main(arguments)


@pytest.fixture
def finish(data, tmp_path, monkeypatch, capsys):
    """Runs a script on its set to its end, in an empty folder, and returns what it printed."""
    monkeypatch.chdir(tmp_path)

    def run(script, *flags):
        status = main(script, words(script, data, *flags))
        output = capsys.readouterr()
        assert status == 0, output.err
        return output.out + output.err

    return run


def killed_after_an_epoch(script, arguments, folder):
    """Runs the script and kills it with -9 as soon as there is a checkpoint."""
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "instancegm" / f"{script}.py"), *arguments],
        cwd=folder,
        env=environment(),
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    deadline = time.monotonic() + 240
    while process.poll() is None and time.monotonic() < deadline:
        if (folder / "broken" / "last.ckpt").exists():
            os.killpg(process.pid, signal.SIGKILL)
        time.sleep(0.02)
    assert process.wait() != 0, "it was done before it could be killed"


@pytest.mark.parametrize("script", SETS)
def test_two_epochs_a_kill_and_a_resume_bit_for_bit(script, data, finish, tmp_path, capsys):
    finish(script, "--num_epochs", "1", "--output_dir", "whole")
    broken = ["--num_epochs", "1", "--output_dir", "broken"]
    killed_after_an_epoch(script, words(script, data, *broken), tmp_path)
    assert "resumed: epoch" in finish(script, *broken, "--resume")
    assert rows(tmp_path / "broken") == rows(tmp_path / "whole")
    states = [
        torch.load(tmp_path / name / "last.ckpt", weights_only=True) for name in ("whole", "broken")
    ]
    for one, other in zip(*(state["peers"] for state in states)):
        assert all(torch.equal(value, other["net"][name]) for name, value in one["net"].items())
    assert main(script, ["--evaluate", "whole"]) == 0
    accuracy = rows(tmp_path / "whole")[-1]["accuracy"]
    assert f"test accuracy {accuracy:.2f} %" in capsys.readouterr().out


def test_files_of_animal10n_are_the_published_ones(finish, tmp_path):
    output = finish("instanceGM_animal10N", "--num_epochs", "1", "--output_dir", "run")
    assert "64 x 64 pixels" in output
    assert "vgg19_bn, from scratch" in output
    lines = (tmp_path / "checkpoint/animal10N_0.1_instance_acc.txt").read_text().splitlines()
    assert [line.split()[0] for line in lines] == ["Epoch:0", "Epoch:1"]
    assert (tmp_path / "checkpoint/animal10N_0.1_instance_stats.txt").read_text() == ""
    saved = torch.load(tmp_path / "saved/animal10N/checkpoint.tar", weights_only=True)
    assert {"epoch", "net1_state_dict", "vae2_state_dict", "loss_1"} <= saved.keys()
    assert "classifier.6.weight" in saved["net1_state_dict"]


def test_files_of_red_mini_imagenet_are_the_published_ones(finish, tmp_path):
    output = finish("instanceGM_redMini", "--num_epochs", "1", "--no-vae", "--output_dir", "run")
    assert "not that of wrong labels" in output
    assert "warning: 0.500 of the training images come from the web" in output  # half of the tree
    assert (tmp_path / "checkpoint/red_blue_0.4_instance_dividemix_acc.txt").exists()
    assert (tmp_path / "saved/redBlue/checkpoint__dividemix.tar").exists()


def test_blue_noise_is_not_explained_as_web_images(finish):
    flags = ("--colour", "blue", "--num_epochs", "0", "--mode", "ce", "--output_dir", "run")
    output = finish("instanceGM_redMini", *flags)
    assert "noise: blue, rate 0.4; labels of images were changed by chance" in output
    assert "web images" not in output


def test_files_and_metrics_of_clothing1m_are_the_published_ones(finish, tmp_path, monkeypatch):
    class Logged:
        numbers: ClassVar = []

        def log(self, numbers, step):
            self.numbers.append(numbers)

        def finish(self):
            pass

    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=lambda **_: Logged()))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    flags = ("--num_epochs", "1", "--output_dir", "run", "--wandb")
    output = finish("instanceGM_clothing1M", *flags)
    *epochs, last = (tmp_path / "checkpoint/clothing1m.txt").read_text().splitlines()
    table = rows(tmp_path / "run")
    assert epochs == [
        f"Validation Epoch:{row['epoch']}      Acc1:{row['val_accuracy_1']:.2f}  "
        f"Acc2:{row['val_accuracy_2']:.2f}"
        for row in table
    ]
    assert last == f"Test Accuracy:{table[-1]['accuracy']:.2f}"
    assert "best on the validation set" in output
    for k in (1, 2):
        net = torch.load(tmp_path / f"checkpoint/clothing1m_net{k}.pth.tar", weights_only=True)
        assert net["fc.weight"].shape[0] == trees.CLOTHES
    assert (tmp_path / "saved/clothing1M/checkpoint_resnet152.tar").exists()
    assert {row["unlabelled_loss_1"] for row in table if row["phase"] == "co_divide"} == {0.0}
    first, second = Logged.numbers
    assert {"Loss/Warmup(CE)", "Test/accuracy", "Test/top1.avg", "Test/valid_acc_2"} <= {*first}
    of_a_network = [
        *("Train/net{}/total_loss", "Train/net{}/DivideMix", "Train/net{}/vae_loss"),
        *("Train/DM{}/DivideMix_total", "Train/DM{}/labeled_loss", "Train/DM{}/unlabeled_loss"),
        *("Train/VAE{}/vae_loss_total", "Train/VAE{}/Reconstruction_VAE_x[1*]"),
        *("Train/VAE{}/Noisy_label_CE[1*]", "Train/VAE{}/Uniform_categorical_x[-0.00001*]"),
        "Train/VAE{}/Gaussian_z[-0.0003*]",
    ]
    assert {name.format(k) for name in of_a_network for k in (1, 2)} <= {*second}
    parts = second["Train/net1/DivideMix"] + second["Train/net1/vae_loss"]
    assert second["Train/net1/total_loss"] == pytest.approx(parts)
    assert second["epochs"] == 1


@pytest.mark.parametrize("script", SETS)
def test_plain_cross_entropy_runs_on_every_set(script, finish, tmp_path):
    finish(script, "--num_epochs", "0", "--output_dir", "run", "--mode", "ce")
    assert {row["phase"] for row in rows(tmp_path / "run")} == {"warm_up"}


@pytest.mark.parametrize("workers", ["0", "2"])
def test_broken_and_missing_pictures_are_refused_by_name_or_skipped(
    tmp_path, monkeypatch, capsys, workers
):
    monkeypatch.chdir(tmp_path)
    root = trees.clothing1m(tmp_path / "clothes")
    damaged, missing = (root / f"images/3/{k:02}/noisy_train_3,{k}.jpg" for k in (0, 1))
    damaged.write_bytes(damaged.read_bytes()[:200])
    missing.unlink()
    script = "instanceGM_clothing1M"
    flags = ("--num_epochs", "0", "--num_workers", workers, "--no-vae", "--num_batches", "9")
    arguments = words(script, {script: root}, *flags)
    assert main(script, arguments) == 2
    error = capsys.readouterr().err
    assert "--skip_broken" in error
    assert any(path.name in error for path in (damaged, missing))
    assert main(script, [*arguments, "--skip_broken", "--output_dir", "run"]) == 0
    output = capsys.readouterr()
    assert damaged.name in output.err
    assert missing.name in output.err
    assert "40 training images" in output.out


def test_neither_workers_nor_kept_pictures_change_a_number(finish, tmp_path):
    variants = (("--num_workers", "2"), ("--cache_dir", "kept"), ("--cache_dir", "kept"))
    results = []
    for number, flags in enumerate(variants):
        flags = ("--num_workers", "0", *flags, "--num_epochs", "1", "--output_dir", str(number))
        finish("instanceGM_clothing1M", "--no-vae", *flags)
        results.append(rows(tmp_path / str(number)))
    assert all(each == results[0] for each in results)
    assert len(list((tmp_path / "kept").iterdir())) == 2


@pytest.mark.parametrize("script", SETS)
def test_absent_data_are_explained(script, tmp_path, capsys):
    assert main(script, words(script, {script: tmp_path / "none"})) == 2
    error = capsys.readouterr().err
    assert "is missing" in error
    assert "--data_path" in error


def test_a_missing_file_of_weights_is_said_before_pictures_are_decoded(finish, data, capsys):
    flags = ("--pretrained", "imagenet", "--weights", "none.pth", "--cache_dir", "kept")
    assert main("instanceGM_clothing1M", words("instanceGM_clothing1M", data, *flags)) == 2
    assert "--weights none.pth: no such file" in capsys.readouterr().err
    assert not Path("kept").exists()


def test_a_run_whose_checkpoints_are_torn_starts_from_the_weights_again(finish, tmp_path):
    torch.manual_seed(0)
    torch.save(build_classifier("resnet50", 1000, 4).state_dict(), tmp_path / "w.pth")
    flags = ("--pretrained", "imagenet", "--weights", "w.pth", "--mode", "ce", "--num_epochs", "0")
    finish("instanceGM_clothing1M", *flags, "--output_dir", "run")
    first = rows(tmp_path / "run")
    for name in ("last.ckpt", "best.ckpt"):
        (tmp_path / "run" / name).write_bytes(b"torn")
    finish("instanceGM_clothing1M", *flags, "--output_dir", "run", "--resume")
    assert rows(tmp_path / "run") == first


def test_every_checkpoint_of_a_run_that_normalises_is_scored_so(finish, tmp_path, monkeypatch):
    script = "instanceGM_animal10N"
    finish(script, "--num_epochs", "0", "--normalise", "--output_dir", "run")
    built = []

    def spy(state, num_classes, *, normalise):
        built.append(normalise)
        return load_classifier(state, num_classes, normalise=normalise)

    monkeypatch.setattr("instancegm.run.evaluate.load_classifier", spy)
    bare = torch.load("run/last.ckpt")["peers"][0]["net"]
    torch.save(bare, "run/best_net1.ckpt")  # as with a validation set
    for path in ("run", "saved/animal10N/checkpoint.tar", "run/best_net1.ckpt"):
        finish(script, "--evaluate", path)
    assert built == [True] * 7


def test_labels_from_a_file_have_no_rate_where_nobody_knows_the_truth(finish, tmp_path):
    finish("instanceGM_animal10N", "--num_epochs", "0", "--output_dir", "run")
    flags = ("--noise_file", "run/corrected_labels.npz", "--output_dir", "again")
    output = finish("instanceGM_animal10N", "--num_epochs", "1", *flags)
    assert "labels of run/corrected_labels.npz; how many of the labels are wrong is not" in output
    assert rows(tmp_path / "again")[-1]["auc_1"] is None


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("instanceGM_animal10N", "animal10N, labels as they are, seed"),
        ("instanceGM_clothing1M", "clothing1M, labels as they are, seed"),
        ("instanceGM_redMini", "red_blue, red, rate 0.4, seed"),
    ],
)
def test_pictures_name_no_noise_rate_that_nobody_knows(script, words, finish, monkeypatch):
    titles = []
    monkeypatch.setattr(
        "instancegm.analysis.plots.draw", lambda path, title, *_: titles.append(title)
    )
    finish(script, "--num_epochs", "0", "--mode", "ce", "--output_dir", "run")
    assert words in titles[0]


PUBLISHED = {  # the paper's table of hyper-parameters
    "instanceGM_redMini": {
        **{"dataset": "red_blue", "lr": 0.02, "weight_decay": 5e-4, "batch_size": 64, "r": 0.2},
        **{"num_epochs": 300, "warm_up": 30, "lr_drop": 150, "alpha": 4.0, "lambda_u": 25.0},
        **{"p_threshold": 0.5, "z_dim": 64, "vae_lr": 1e-4, "image_size": 32},
        **{"network": "preact_resnet18", "noisy_label_weight": 1.0},
        **{"label_prior_weight": 3e-4, "latent_prior_weight": 3e-4, "num_batches": None},
    },
    "instanceGM_animal10N": {
        **{"dataset": "animal10N", "lr": 0.002, "weight_decay": 5e-4, "batch_size": 64, "r": 0.08},
        **{"num_epochs": 300, "warm_up": 40, "lr_drop": 50, "alpha": 4.0, "lambda_u": 25.0},
        **{"p_threshold": 0.08, "z_dim": 64, "vae_lr": 1e-3, "image_size": 64, "crop_padding": 0},
        **{"network": "vgg19_bn", "pretrained": "none", "noisy_label_weight": 8e-5},
        **{"label_prior_weight": 8e-5, "latent_prior_weight": 8e-5, "num_batches": None},
    },
    "instanceGM_clothing1M": {
        **{"dataset": "clothing1M", "lr": 0.002, "weight_decay": 1e-3, "batch_size": 32},
        **{"num_epochs": 80, "warm_up": 1, "lr_drop": 40, "alpha": 0.5, "lambda_u": 0.0},
        **{"p_threshold": 0.5, "z_dim": 25, "vae_lr": 1e-3, "image_size": 224, "id": "clothing1m"},
        **{"network": "resnet50", "pretrained": "imagenet", "noisy_label_weight": 1.0},
        **{"label_prior_weight": 6e-6, "latent_prior_weight": 6e-6, "num_batches": 1000},
        **{"confidence_penalty": True, "unlabelled_loss": False},
    },
}


@pytest.mark.parametrize("script", PUBLISHED)
def test_the_presets_are_the_published_ones(script):
    config = parse([], script)
    assert {name: getattr(config, name) for name in PUBLISHED[script]} == PUBLISHED[script]


@pytest.mark.parametrize(
    ("script", "line", "changed"),
    [
        ("instanceGM_animal10N", "--saved False", {"saved": False}),
        ("instanceGM_animal10N", "--saved True", {"saved": True}),
        ("instanceGM_redMini", "--r 0.4", {"r": 0.4}),
        ("instanceGM_redMini", "-r 0.8 --noise_mode instance --gpuid 1", {"r": 0.8, "gpuid": 1}),
        ("instanceGM_clothing1M", "--num_batches 10 --id x", {"num_batches": 10, "id": "x"}),
    ],
)
def test_published_command_lines(script, line, changed):
    config = parse(line.split(), script)
    assert {name: getattr(config, name) for name in changed} == changed


def test_clothing1m_refuses_unknown_flags_and_lets_the_rate_pass(capsys):
    assert parse(["--r", "0.4"], "instanceGM_clothing1M").dataset == "clothing1M"
    assert "ignored --r" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        parse(["--lamda_u", "5"], "instanceGM_clothing1M")
    assert "did you mean --lambda_u?" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        parse(["--saved", "maybe"], "instanceGM_animal10N")
    assert "True or False" in capsys.readouterr().err


def test_a_run_is_repeated_from_its_own_config_by_its_own_script(finish, tmp_path, capsys):
    script = "instanceGM_animal10N"
    finish(script, "--num_epochs", "0", "--mode", "ce", "--output_dir", "run")
    settings = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert settings["script"] == script
    assert main(script, ["--config", "run/config.yaml", "--output_dir", "again"]) == 0
    assert rows(tmp_path / "again") == rows(tmp_path / "run")
    with pytest.raises(SystemExit):
        main("instanceGM", ["--config", "run/config.yaml", "--dataset", "folder"])
    assert f"script: invalid choice: '{script}'" in capsys.readouterr().err
    assert main("instanceGM", ["--evaluate", "run"]) == 2
    assert f"{script}.py" in capsys.readouterr().err

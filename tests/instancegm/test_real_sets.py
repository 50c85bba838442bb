"""Red Mini-ImageNet, Animal-10N, Clothing1M: their scripts on miniature trees, as users do."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch
import trees
import yaml
from conftest import ROOT, environment, rows

from instancegm.run.config import parse

pytestmark = pytest.mark.training

SMALL = ["--width", "8", "--batch_size", "8", "--warm_up", "1", "--amp", "off"]
SETS = {
    "instanceGM_redMini": (trees.red_mini_imagenet, ["--r", "0.4", *SMALL]),
    "instanceGM_animal10N": (trees.animal10n, SMALL),
    "instanceGM_clothing1M": (
        trees.clothing1m,
        [*SMALL, "--num_batches", "2", "--pretrained", "none", "--num_workers", "1"],
    ),
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """script -> its miniature tree."""
    return {script: make(tmp_path_factory.mktemp(script)) for script, (make, _) in SETS.items()}


def command(script, data, *flags):
    fixed = SETS[script][1]
    return [
        *(sys.executable, str(ROOT / "instancegm" / f"{script}.py")),
        *("--data_path", str(data[script]), *fixed, *map(str, flags)),
    ]


def run(words, folder):
    return subprocess.run(
        words, cwd=folder, env=environment(), capture_output=True, text=True, timeout=300
    )


def killed_after_epoch(words, folder, epoch):
    """Runs the command and kills it with -9 as soon as the log has that epoch."""
    process = subprocess.Popen(
        words, cwd=folder, env=environment(), stdout=subprocess.DEVNULL, start_new_session=True
    )
    log = folder / "run" / "metrics.jsonl"
    deadline = time.monotonic() + 240
    while process.poll() is None and time.monotonic() < deadline:
        if log.exists() and len(log.read_text().splitlines()) > epoch:
            os.killpg(process.pid, signal.SIGKILL)
        time.sleep(0.05)
    assert process.wait() != 0, "it was done before it could be killed"


@pytest.mark.parametrize("script", SETS)
def test_two_epochs_a_kill_and_a_resume_bit_for_bit(script, data, tmp_path):
    flags = ["--num_epochs", "2", "--output_dir", "run"]
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    for folder in (whole, broken):
        folder.mkdir()
    result = run(command(script, data, *flags), whole)
    assert result.returncode == 0, result.stderr
    killed_after_epoch(command(script, data, *flags), broken, 0)
    result = run(command(script, data, *flags, "--resume"), broken)
    assert result.returncode == 0, result.stderr
    assert rows(broken / "run") == rows(whole / "run")
    last = torch.load(whole / "run" / "last.ckpt", weights_only=True)
    again = torch.load(broken / "run" / "last.ckpt", weights_only=True)
    for one, other in zip(last["peers"], again["peers"]):
        assert all(torch.equal(value, other["net"][name]) for name, value in one["net"].items())
    evaluated = run([*command(script, data)[:2], "--evaluate", "run"], whole)
    assert evaluated.returncode == 0, evaluated.stderr
    assert f"test accuracy {rows(whole / 'run')[-1]['accuracy']:.2f} %" in evaluated.stdout


@pytest.fixture
def finished(data, tmp_path):
    """Runs a script of a set to its end; returns the folder it ran in."""

    def finish(script, *flags):
        result = run(command(script, data, *flags, "--output_dir", "run"), tmp_path)
        assert result.returncode == 0, result.stderr
        return tmp_path, result.stdout

    return finish


def test_files_of_animal10n_are_the_published_ones(finished):
    folder, output = finished("instanceGM_animal10N", "--num_epochs", "1")
    assert "64 x 64 pixels" in output
    assert "vgg19_bn, from scratch" in output
    lines = (folder / "checkpoint/animal10N_0.1_instance_acc.txt").read_text().splitlines()
    assert [line.split()[0] for line in lines] == ["Epoch:0", "Epoch:1"]
    assert (folder / "checkpoint/animal10N_0.1_instance_stats.txt").read_text() == ""
    saved = torch.load(folder / "saved/animal10N/checkpoint.tar", weights_only=True)
    assert {"epoch", "net1_state_dict", "vae2_state_dict", "loss_1"} <= saved.keys()
    assert "classifier.6.weight" in saved["net1_state_dict"]


def test_files_of_red_mini_imagenet_are_the_published_ones(finished):
    folder, output = finished("instanceGM_redMini", "--num_epochs", "1", "--no-vae")
    assert "not that of wrong labels" in output
    assert (folder / "checkpoint/red_blue_0.4_instance_dividemix_acc.txt").exists()
    assert (folder / "saved/redBlue/checkpoint__dividemix.tar").exists()


def test_files_of_clothing1m_are_the_published_ones(finished):
    folder, output = finished("instanceGM_clothing1M", "--num_epochs", "1")
    *epochs, last = (folder / "checkpoint/clothing1m.txt").read_text().splitlines()
    table = rows(folder / "run")
    assert epochs == [
        f"Validation Epoch:{row['epoch']}      Acc1:{row['val_accuracy_1']:.2f}  "
        f"Acc2:{row['val_accuracy_2']:.2f}"
        for row in table
    ]
    assert last == f"Test Accuracy:{table[-1]['accuracy']:.2f}"
    assert "best on the validation set" in output
    for k in (1, 2):
        net = torch.load(folder / f"checkpoint/clothing1m_net{k}.pth.tar", weights_only=True)
        assert net["fc.weight"].shape[0] == trees.CLOTHES
    assert (folder / "saved/clothing1M/checkpoint_resnet152.tar").exists()
    assert {row["unlabelled_loss_1"] for row in table if row["phase"] == "co_divide"} == {0.0}


@pytest.mark.parametrize("script", SETS)
def test_the_baselines_run_on_every_set(script, data, tmp_path):
    words = command(script, data, "--num_epochs", "0", "--output_dir", "run", "--mode", "ce")
    result = run(words, tmp_path)
    assert result.returncode == 0, result.stderr
    assert {row["phase"] for row in rows(tmp_path / "run")} == {"warm_up"}


def test_broken_and_missing_pictures_are_refused_by_name_or_skipped(tmp_path):
    root = trees.clothing1m(tmp_path / "clothes")
    damaged, missing = (root / f"images/3/{k:02}/noisy_train_3,{k}.jpg" for k in (0, 1))
    damaged.write_bytes(damaged.read_bytes()[:200])
    missing.unlink()
    words = command("instanceGM_clothing1M", {"instanceGM_clothing1M": root}, "--num_epochs", "0")
    result = run(words, tmp_path)
    assert result.returncode == 2
    assert "--skip_broken" in result.stderr
    assert any(path.name in result.stderr for path in (damaged, missing))
    assert "Traceback" not in result.stderr
    result = run([*words, "--skip_broken", "--output_dir", "run"], tmp_path)
    assert result.returncode == 0, result.stderr
    assert damaged.name in result.stderr
    assert missing.name in result.stderr
    assert "40 training images" in result.stdout


def test_decoded_pictures_are_kept_and_give_the_same_numbers(data, tmp_path):
    flags = ["--num_epochs", "1", "--no-vae"]
    results = []
    for name, cache in (("a", []), ("b", ["--cache_dir", "kept"]), ("c", ["--cache_dir", "kept"])):
        words = command("instanceGM_clothing1M", data, *flags, "--output_dir", name, *cache)
        assert run(words, tmp_path).returncode == 0
        results.append(rows(tmp_path / name))
    assert results[0] == results[1] == results[2]
    assert len(list((tmp_path / "kept").iterdir())) == 2


def test_the_number_of_workers_changes_nothing(data, tmp_path):
    results = []
    for workers in ("0", "3"):
        words = command(
            *("instanceGM_clothing1M", data, "--num_epochs", "1", "--no-vae"),
            *("--num_workers", workers, "--output_dir", workers),
        )
        assert run(words, tmp_path).returncode == 0
        results.append(rows(tmp_path / workers))
    assert results[0] == results[1]


@pytest.mark.parametrize("script", SETS)
def test_absent_data_are_explained(script, tmp_path):
    result = run([*command(script, {script: tmp_path / "none"}), "--num_epochs", "0"], tmp_path)
    assert result.returncode == 2
    assert "is missing" in result.stderr
    assert "--data_path" in result.stderr


def test_wandb_gets_the_published_names(data, tmp_path):
    (tmp_path / "wandb.py").write_text(
        "import json\n"
        "class Run:\n"
        "    def log(self, numbers, step): print('LOG', json.dumps(numbers))\n"
        "    def finish(self): pass\n"
        "def init(**_): return Run()\n"
    )
    words = command("instanceGM_clothing1M", data, "--num_epochs", "1", "--wandb")
    result = subprocess.run(
        words,
        cwd=tmp_path,
        env={**environment(), "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr
    first, second = (
        json.loads(line.removeprefix("LOG "))
        for line in result.stdout.splitlines()
        if line.startswith("LOG ")
    )
    assert {"Loss/Warmup(CE)", "Test/accuracy", "Test/top1.avg", "Test/valid_acc_2"} <= first.keys()
    of_a_network = [
        *("Train/net{}/total_loss", "Train/net{}/DivideMix", "Train/net{}/vae_loss"),
        *("Train/DM{}/DivideMix_total", "Train/DM{}/labeled_loss", "Train/DM{}/unlabeled_loss"),
        *("Train/VAE{}/vae_loss_total", "Train/VAE{}/Reconstruction_VAE_x[1*]"),
        *("Train/VAE{}/Noisy_label_CE[1*]", "Train/VAE{}/Uniform_categorical_x[-0.00001*]"),
        "Train/VAE{}/Gaussian_z[-0.0003*]",
    ]
    assert {name.format(k) for name in of_a_network for k in (1, 2)} <= second.keys()
    assert second["Train/net1/total_loss"] == pytest.approx(
        second["Train/net1/DivideMix"] + second["Train/net1/vae_loss"]
    )
    assert second["epochs"] == 1


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


def test_a_run_is_repeated_from_its_own_config(finished, data, tmp_path):
    folder, _ = finished("instanceGM_animal10N", "--num_epochs", "0", "--mode", "ce")
    settings = yaml.safe_load((folder / "run" / "config.yaml").read_text())
    assert settings["script"] == "instanceGM_animal10N"
    words = command("instanceGM_animal10N", data)[:2]
    again = run([*words, "--config", "run/config.yaml", "--output_dir", "again"], folder)
    assert again.returncode == 0, again.stderr
    assert rows(folder / "again") == rows(folder / "run")
    other = run(
        [sys.executable, str(ROOT / "instancegm/instanceGM.py"), "--evaluate", "run"], folder
    )
    assert other.returncode == 2
    assert "instanceGM_animal10N.py" in other.stderr

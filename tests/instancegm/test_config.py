"""The command line: published commands, abbreviations, presets, files, and what is refused."""

import dataclasses
import subprocess
import sys

import pytest
import torch
import yaml
from conftest import SCRIPT, environment

from instancegm.method.settings import VaeWeights
from instancegm.run import config as configuration
from instancegm.run.device import choose_device, use_bfloat16
from instancegm.run.errors import UsageError


def parse(line):
    return configuration.parse(line.split())


@pytest.mark.parametrize("line", ["-r 0.2", "--r 0.2", "--r=0.2"])
def test_the_noise_rate_is_heard_in_every_spelling(line):
    assert parse(line).r == 0.2


def test_defaults_are_the_published_ones():
    config = parse("")
    expected = {
        "batch_size": 64,
        "lr": 0.02,
        "vae_lr": 0.001,
        "noise_mode": "instance",
        "alpha": 4.0,
        "lambda_u": 25.0,
        "p_threshold": 0.5,
        "T": 0.5,
        "num_epochs": 300,
        "r": 0.5,
        "seed": 123,
        "gpuid": 0,
        "dataset": "cifar10",
        "z_dim": 25,
        "warm_up": 10,
        "lr_drop": 150,
        "width": 64,
        "numerics": "original",
        "guess_eval": False,
    }
    assert {name: getattr(config, name) for name in expected} == expected


def test_published_cifar100_command_line():
    config = parse("--num_class 100 --data_path ./cifar-100 --dataset cifar100 --r 0.5")
    assert (config.dataset, config.num_class, str(config.data_path), config.warm_up) == (
        "cifar100",
        100,
        "cifar-100",
        30,
    )


@pytest.mark.parametrize(
    ("line", "name", "value"),
    [
        ("--num_e 5", "num_epochs", 5),
        ("--learning_rate 0.1", "lr", 0.1),
        ("--noise sym", "noise_mode", "sym"),
        ("--p 0.7", "p_threshold", 0.7),
        ("--lam 3", "lambda_u", 3.0),
        ("--vae_learning=1", "vae_lr", 1.0),
    ],
)
def test_published_flags_can_be_abbreviated_as_ever(line, name, value):
    assert getattr(parse(line), name) == value


def test_an_unknown_flag_is_ignored_with_a_warning_and_a_hint(capsys):
    parse("--lamda_u 5")
    assert "ignored '--lamda_u'" in capsys.readouterr().err
    parse("--warmup 5")
    assert "did you mean --warm_up?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("dataset", "mode", "rate", "lambda_u", "p_threshold"),
    [
        ("cifar10", "instance", 0.2, 25, 0.5),
        ("cifar10", "sym", 0.2, 0, 0.5),
        ("cifar10", "sym", 0.5, 25, 0.5),
        ("cifar10", "sym", 0.9, 50, 0.6),
        ("cifar10", "asym", 0.4, 0, 0.5),
        ("cifar100", "sym", 0.2, 25, 0.5),
        ("cifar100", "sym", 0.8, 150, 0.5),
        ("digits", "instance", 0.4, 25, 0.5),
    ],
)
def test_presets_follow_dataset_and_rate(dataset, mode, rate, lambda_u, p_threshold):
    config = parse(f"--dataset {dataset} --noise_mode {mode} --r {rate}")
    assert (config.lambda_u, config.p_threshold) == (lambda_u, p_threshold)


def test_a_given_flag_beats_its_preset():
    config = parse("--noise_mode sym --r 0.2 --lambda_u 7 --warm_up 0")
    assert (config.lambda_u, config.warm_up) == (7, 0)


def test_a_users_folder_keeps_its_own_labels_unless_noise_is_asked_for():
    assert parse("--dataset folder --data_path x").noise_mode == "none"
    assert parse("--dataset folder --data_path x --r 0.3").noise_mode == "instance"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--r 20", "20 percent is --r 0.2"),
        ("--r nan", "noise rate lies in"),
        ("--noise_mode none --r 0.4", "leave out --r"),
        ("--T 0", "in (0, 1]"),
        ("--T 2", "(0, 1]"),
        ("--lr -1", "greater than 0"),
        ("--p_threshold 1", "in [0, 1)"),
        ("--batch_size 0", "at least 1"),
        ("--num_epochs -1", "at least 0"),
        ("--weight_decay -1", "at least 0"),
        ("--limit_train 1", "at least 2"),
        ("--mode ce --no-vae", "leave out --no-vae"),
        ("--no-vae --numerics paper", "drop one of them"),
        ("--noise_file x.pt --noise_mode sym", "drop one of them"),
        ("--dataset folder", "needs --data_path"),
        ("--dataset digits --noise_mode asym", "noise make"),
        ("--dataset mnist", "invalid choice"),
        ("--dataset digits --cache_dir x", "--cache_dir does nothing for digits: leave it out"),
        ("--skip_broken", "--skip_broken does nothing for cifar10: leave it out"),
    ],
)
def test_what_cannot_work_is_refused_with_the_fix(line, message, capsys):
    with pytest.raises(SystemExit) as stop:
        parse(line)
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def test_padding_of_pictures_that_are_cut_out_of_larger_ones_is_refused(capsys):
    flags = ["--dataset", "folder", "--crop_padding", "0", "--pretrained", "none", "--data_path"]
    with pytest.raises(SystemExit):
        configuration.parse([*flags, "mine"], "instanceGM_clothing1M")
    assert "--crop_padding 0 does nothing here" in capsys.readouterr().err
    assert configuration.parse([*flags, "mine.npz"], "instanceGM_clothing1M").crop_padding == 0


def test_a_device_that_is_not_there_is_refused():
    assert choose_device("cpu", 0) == torch.device("cpu")
    absent = "cuda" if torch.backends.mps.is_available() else "mps"
    for name in (absent, "cuda:99", "cpu:1", "abacus"):
        with pytest.raises(UsageError, match="--device"):
            choose_device(name, 0)


def test_bfloat16_follows_the_flag_and_else_the_hardware():
    cpu = torch.device("cpu")
    assert use_bfloat16("bf16", cpu)
    assert not use_bfloat16("off", cpu)
    assert isinstance(use_bfloat16("auto", cpu), bool)


def test_help_and_a_wrong_flag_answer_without_torch():
    for flags, status in ((["--help"], 0), (["--r", "20"], 2)):
        command = [sys.executable, "-X", "importtime", str(SCRIPT), *flags]
        done = subprocess.run(command, env=environment(), capture_output=True, text=True)
        assert done.returncode == status
        assert "instancegm.run.config" in done.stderr
        assert not {"torch", "sklearn", "matplotlib"} & set(done.stderr.split())


def test_the_configuration_cannot_be_changed_and_says_what_it_holds():
    config = parse("--label_prior_weight 0.25")
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.lr = 1.0
    assert config.vae_weights == VaeWeights(1.0, 0.25, 3e-4)
    assert "given" not in config.recorded()


def test_what_follows_from_data_and_noise_is_in_the_configuration_too():
    config = parse("--dataset digits")
    assert (config.flip, config.image_size, config.crop_padding) == (False, 32, 4)
    assert (config.loss_epochs, parse("--r 0.9").loss_epochs) == (1, 5)


def test_a_configuration_file_gives_defaults_and_flags_win(tmp_path):
    first = parse("--dataset digits --r 0.3 --noise_mode sym --lr 0.1 --no-vae --no-plots --id x")
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump({**first.recorded(), "threads": 2, "method": "dividemix"}))
    again = parse(f"--config {path}")
    assert again.recorded() == first.recorded()
    changed = parse(f"--config {path} --lr 0.2")
    assert changed.recorded() == {**first.recorded(), "lr": 0.2}
    path.write_text("learning_rates: 3")
    with pytest.raises(SystemExit):
        parse(f"--config {path}")


def test_a_configuration_file_and_a_flag_may_name_other_sources_of_noise(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("{noise_file: a.npz, noise_mode: file, r: 0.3}")
    assert parse(f"--config {path}").noise_file == "a.npz"
    made = parse(f"--config {path} --r 0.2")
    assert (made.noise_file, made.noise_mode, made.r) == (None, "instance", 0.2)
    path.write_text("{noise_file: null, noise_mode: sym, r: 0.3}")
    given = parse(f"--config {path} --noise_file b.npz")
    assert (given.noise_file, "r" in given.given) == ("b.npz", False)

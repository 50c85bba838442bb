"""The command line: published flags and defaults, absl's spellings, refusals, --config."""

import argparse
import json
import os
import shlex
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import yaml

from ieg.method.settings import PseudoLoss
from ieg.run import config
from ieg.run.flags import PLACES

PUBLISHED = {
    "dataset": "cifar100_uniform_0.8",
    "network_name": "wrn28-10",
    "method": "ieg",
    "mode": "train",
    "checkpoint_path": Path("runs"),
    "restore_step": 0,
    "max_iteration": 200000,
    "max_epoch": None,
    "batch_size": 100,
    "val_batch_size": 100,
    "learning_rate": 0.1,
    "momentum": 0.9,
    "lr_schedule": "cosine",
    "cos_t_mul": 1.5,
    "cos_m_mul": 0.9,
    "decay_steps": (500,),
    "decay_epochs": (1,),
    "decay_rate": 0.1,
    "warmup_epochs": 0,
    "eval_freq": 500,
    "use_ema": True,
    "seed": 12345,
    "probe_dataset_hold_ratio": 0.02,
    "meta_momentum": 0.9,
    "meta_stepsize": 0.1,
    "grad_eps_init": 0.9,
    "ce_factor": 5.0,
    "consistency_factor": 20.0,
    "aug_type": "autoaug",
    "post_batch_mode_autoaug": True,
    "use_imagenet_as_eval": False,
    "ds_include_metadata": False,
    "label_smoothing": 0.0,
    "l2_weight_decay": 0.0004,
    "weight_decay": 5e-4,
    "summary_eval_to_train": True,
    "queue_beta": 0.9,
    "queue_capacity": 2000,
    "queue_bs": 200,
    "queue_metric": "margin",
    "meta_start_epoch": 20,
    "meta_partial_level": 0.0,
    "use_mixup": True,
    "use_pseudo_loss": PseudoLoss("all", 1.0, 0.1, 2.0),
    "clip_meta_weight": True,
    "moving_weight_gamma": 0.0,
    "meta_moving_end_epoch": 0,
    "verbose_finer_log": True,
    "distribution_strategy": "mirrored",
    "tpu": None,
    "xm_exp_id": None,
    "exp_path_pattern": None,
    "pretrained_ckpt": None,
    "pretrained_ckpt_mode": "imagenet",
    "fix_network_features": False,
    "dropout_rate": 0.0,
}
SWITCHES = [
    name
    for name, value in PUBLISHED.items()
    if isinstance(value, bool) and name != "fix_network_features"
]
README = """
--dataset=cifar100_uniform_0.2 --network_name=wrn28-10 --checkpoint_path=P
--dataset=cifar10_asymmetric_0.4 --network_name=resnet29 --probe_dataset_hold_ratio=0.002
--dataset=cifar100_uniform_0.8 --method=l2r
--dataset=cifar100_uniform_0.8 --method=supervised
--dataset=cifar100_uniform_0.8 --network_name=wrn28-10 --mode=evaluation
--dataset=webvisionmini --network_name=resnet50 --ce_factor=4 --consistency_factor=8 --batch_size=8 --use_imagenet_as_eval=true --val_batch_size=50 --eval_freq=10000 --max_iteration=1000000
--dataset=cifar100_uniform_0.4 --network_name=wrn28-10 --method=fsr --max_iteration=63500 --cos_t_mul=2 --probe_dataset_hold_ratio=0 --meta_partial_level=0 --ds_include_metadata=True
""".strip().splitlines()  # noqa: E501


def test_published_defaults():
    flags = asdict(config.parse([]))
    assert {name: flags[name] for name in PUBLISHED} == PUBLISHED
    assert flags["dataset_dir"] is None  # ieg/data is one of the places that are looked at


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_every_published_flag_takes_its_default(name):
    value = {"use_pseudo_loss": "all_1_0.1_2", "decay_steps": "500", "decay_epochs": "1"}.get(
        name, PUBLISHED[name]
    )
    if value is None:
        return
    assert getattr(config.parse([f"--{name}={value}"]), name) == PUBLISHED[name]


@pytest.mark.parametrize("name", SWITCHES)
def test_switches_have_the_spellings_of_absl(name):
    for on in (
        (f"--{name}",),
        (f"--{name}=true",),
        (f"--{name}=True",),
        (f"--{name}=1",),
        (f"--no{name}", f"--{name}"),
    ):
        assert getattr(config.parse(on), name) is True
    for off in (
        (f"--no{name}",),
        (f"--{name}=false",),
        (f"--{name}=False",),
        (f"--{name}=0",),
        (f"--{name}", f"--no{name}"),
    ):
        assert getattr(config.parse(off), name) is False


@pytest.mark.parametrize("command", README)
def test_published_commands_are_accepted(command):
    flags = config.parse(command.split())
    assert flags.use_imagenet_as_eval == ("webvision" in command)
    assert flags.ds_include_metadata == ("fsr" in command)


def test_fsr_forces_its_flags_before_anything_reads_them():
    flags = config.parse(
        ["--method=fsr", "--probe_dataset_hold_ratio=0.1", "--nods_include_metadata"]
    )
    assert (
        flags.probe_dataset_hold_ratio,
        flags.ds_include_metadata,
        flags.meta_partial_level,
    ) == (
        0.0,
        True,
        0.0,
    )
    assert config.parse(["--method=ieg"]).probe_dataset_hold_ratio == 0.02


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--distribution_strategy=tpu", "leave out --distribution_strategy and --tpu"),
        ("--tpu=grpc://1", "leave out --distribution_strategy and --tpu"),
        ("--pretrained_ckpt=x", "leave them out"),
        ("--fix_network_features", "leave them out"),
        ("--dropout_rate=0.3", "leave them out"),
        ("--method=fsr --meta_partial_level=1", "leave it out"),
        ("--queue_metric=loss", "invalid choice"),
        ("--dataset=file", "give one with --noise_file"),
        ("--dataset=file_cifar10", "give one with --noise_file"),
        ("--dataset=digits --noise_file=a.npz", "write --dataset=file"),
        ("--use_pseudo_loss=all", "such as all_1_0.1_2"),
        ("--use_pseudo_loss=some_1_0.1_2", "the type is all or partial"),
        ("--use_pseudo_loss=all_0_0.1_2", "temperature > 0"),
        ("--use_pseudo_loss=all_1_nan_2", "gamma in [0, 1]"),
        ("--use_pseudo_loss=all_1_0.1_inf", "weight"),
        ("--decay_steps=200,100", "rising whole numbers"),
        ("--decay_epochs=", "such as 160,180"),
        ("--lr_schedule=custom_step --decay_epochs=1,2 --max_iteration=6", "give --max_epoch, or"),
        ("--lr_schedule=exponential --decay_steps 5 --max_epoch 3", "give --decay_epochs, or"),
        ("--dataset=webvisionmini --aug_type=randaug", "or give --aug_type=default"),
        ("--dataset=folder --network_name=resnet50 --aug_type=randaug", "images of 32 pixels"),
        ("--learning_rate=0", "must be greater than 0"),
        ("--learning_rate=nan", "must be a finite number"),
        ("--meta_stepsize=inf", "must be a finite number"),
        ("--batch_size=0", "must be at least 1"),
        ("--max_epoch=0", "must be at least 1"),
        ("--eval_freq=0", "must be at least 1"),
        ("--cos_t_mul=0.5", "must be at least 1"),
        ("--probe_dataset_hold_ratio=1", "must be below 1"),
        ("--grad_eps_init=2", "in [0, 1]"),
        ("--seed=2147483648", "must be below 2147483648"),
        ("--seed=-1", "must be at least 0"),
        ("--use_ema=perhaps", "neither true nor false"),
        ("--exp_path_pattern=seed,nonsense", "names no flag 'nonsense'"),
        ("--max_iter=5", "unrecognized arguments"),
        ("--method=sln", "invalid choice"),
        ("--mode=evaluation --save_probs", "leave out --save_probs; --export RUN"),
    ],
)
def test_what_cannot_work_is_refused_with_what_can(capsys, flags, message):
    with pytest.raises(SystemExit, match="2"):
        config.parse(shlex.split(flags))
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    "flags",
    [
        "--decay_steps=7 --max_epoch=3",  # the cosine schedule reads none
        "--lr_schedule=cosine_one --decay_epochs=2",
        "--dataset=folder --network_name=wrn10-1 --aug_type=randaug",
        "--dataset=webvisionmini --method=fsr --aug_type=randaug",
    ],
)
def test_what_no_method_or_schedule_reads_is_let_through(flags):
    config.parse(flags.split())


def test_epochs_beat_steps_with_a_note(capsys):
    assert config.parse(["--max_epoch=3", "--max_iteration=9"]).max_epoch == 3
    assert "--max_iteration=9 is not read" in capsys.readouterr().err


@pytest.mark.parametrize("flag", [*PLACES, "output_dir", "checkpoint_path", "export", "config"])
def test_the_home_folder_is_meant_where_the_shell_leaves_its_sign(tmp_path, monkeypatch, flag):
    monkeypatch.setenv("HOME", str(tmp_path))
    run = tmp_path / "a:b"
    run.mkdir()
    (run / "config.yaml").write_text("seed: 3\nmethod: l2r\nnetwork_name: wrn10-1\n")
    if flag == "config":
        assert config.parse(["--config=~/a:b/config.yaml"]).seed == 3
    else:
        needed = ["--dataset=file"] if flag == "noise_file" else []
        assert str(getattr(config.parse([*needed, f"--{flag}=~/a:b"]), flag)) == str(run)


def test_run_folders():
    def folder(*flags):
        return config.run_folder(
            config.parse(["--checkpoint_path=root", "--dataset=digits", *flags])
        ).as_posix()

    assert folder() == "root/digits/wrn28-10/ieg"
    assert folder("--method=fsr") == "root/digits/wrn28-10/fsr"
    assert folder("--published_layout") == "root/digits/wrn28-10"
    assert folder("--xm_exp_id=17") == "root/17"
    assert (
        folder("--xm_exp_id=17", "--exp_path_pattern=seed,method")
        == "root/id17+seed=12345+method=ieg"
    )
    assert (
        folder("--exp_path_pattern=dataset_dir", "--dataset_dir=/a/b") == "root/id+dataset_dir=_a_b"
    )
    assert (  # as on the command line
        folder("--exp_path_pattern=use_pseudo_loss,decay_steps,max_epoch", "--decay_steps=500,900")
        == "root/id+use_pseudo_loss=all_1_0.1_2+decay_steps=500,900+max_epoch=None"
    )
    assert (
        folder("--exp_path_pattern=use_pseudo_loss", "--use_pseudo_loss=")
        == "root/id+use_pseudo_loss="
    )
    assert folder("--output_dir=mine", "--xm_exp_id=17") == "mine"


def test_flags_that_decide_the_numbers():
    def deciding(*flags):
        return config.deciding(config.parse(flags))

    assert (
        deciding("--max_iteration=5", "--output_dir=x", "--eval_freq=7", "--noverbose_finer_log")
        == deciding()
    )
    for flag in (
        "--seed=1",
        "--method=l2r",
        "--learning_rate=0.2",
        "--limit_train=50",
        "--limit_test=50",  # else accuracies of two test sets stand in one table
        "--cos_m_mul=1",
        "--guess_gradient=stop",
    ):
        assert deciding(flag) != deciding(), flag
    assert deciding("--decay_steps=7") == deciding()  # the cosine schedule reads none
    custom = deciding("--lr_schedule=custom_step", "--max_epoch=9", "--decay_epochs=2")
    assert custom["decay_epochs"] == [2]
    assert "decay_steps" not in custom
    assert deciding("--lr_schedule=cosine_one", "--max_iteration=5") != deciding(
        "--lr_schedule=cosine_one"
    )


def test_help_is_readable(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    with pytest.raises(SystemExit, match="0"):
        config.parse(["--help"])
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 130
    assert "examples:" in text
    helps = {a.option_strings[0]: a.help for a in config.build_parser()._actions}
    hidden = {flag for flag, text in helps.items() if text == argparse.SUPPRESS}
    assert all(flag.startswith("--no") for flag in hidden)
    assert all(helps[flag] for flag in helps)
    for name in PUBLISHED:
        assert f"--{name}" in text


def test_the_examples_of_the_help_are_accepted():
    for line in config.EXAMPLES.splitlines()[1:]:
        config.parse(line.split()[3:])
    assert os.sep not in config.EXAMPLES


# ---- --config


def config_file(folder, **settings):
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(settings))
    return f"--config={path}"


@pytest.mark.parametrize(
    "flags",
    [
        "--method=fsr --queue_bs=50 --nouse_mixup --limit_train=300",
        "--use_pseudo_loss= --max_epoch=3 --lr_schedule=custom_step --decay_epochs=1,2",
        "--dataset=file --noise_file=a.npz:b --dataset_dir=x --use_pseudo_loss=partial_0.5_0.1_2",
        "--learning_rate=1e-05 --seed=3 --nouse_ema",
    ],
)
def test_a_run_is_repeated_from_what_it_recorded(tmp_path, flags):
    first = config.parse([*flags.split(), "--output_dir=old"])
    outcomes = {"data_location": "x", "identity": {"a": 1}, "versions": {"python": "3"}}
    file = config_file(tmp_path, **json.loads(json.dumps(config.recorded(first))), **outcomes)
    again = config.parse([file, "--output_dir=new"])
    assert again == replace(first, output_dir=Path("new"))
    assert config.run_folder(config.parse([file])) != config.run_folder(first)


def test_flags_on_the_command_line_win_over_the_file(tmp_path):
    file = config_file(tmp_path, seed=3, batch_size=7, use_ema=False, max_epoch=4)
    flags = config.parse([file, "--seed", "5", "--use_ema", "--max_iteration=9"])
    assert (flags.seed, flags.batch_size, flags.use_ema) == (5, 7, True)
    assert (flags.max_epoch, flags.max_iteration) == (None, 9)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read"),
        ("- a", "holds no settings"),
        ("!!python/object/apply:os.getcwd []", "cannot be read"),
        ("a: &a [" + "x, " * 9 + "]\nseed: [" + "*a, " * 11 + "]", "references to other places"),
        ("seed: " + "[" * 1000, "nested too deep"),
        ("batchsize: 3", "batchsize is not a flag of this script; did you mean batch_size?"),
        ("batch_size: many", "argument --batch_size: invalid int value: 'many'"),
        ("batch_size: 0", "must be at least 1"),
    ],
)
def test_a_file_that_does_not_work_is_one_message(tmp_path, capsys, content, message):
    if content is not None:
        (tmp_path / "c.yaml").write_text(content)
    with pytest.raises(SystemExit, match="2"):
        config.parse(["--config", str(tmp_path / "c.yaml")])
    assert message in capsys.readouterr().err

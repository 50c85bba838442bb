"""Command lines: the published ones parse, what cannot work is refused before data is read."""

import dataclasses
import shlex
import subprocess
import sys

import pytest
import yaml
from conftest import SCRIPTS, environment

from re_sln.run.checks import SEED_LIMIT
from re_sln.run.config import parse, parse_search, parse_table
from re_sln.run.device import choose_device
from re_sln.run.errors import UsageError
from re_sln.search.paper_grid import trainings
from shared.noise import open_set

README = (
    "--dataset_name {} --batch_size 128 --n_epochs 300 --lr 0.001 {} --lc_n_epoch {} --seed 123"
)


@pytest.mark.parametrize("dataset", ["cifar10", "cifar100"])
@pytest.mark.parametrize(
    "noise",
    [
        "--noise_mode sym --p 0.4",
        "--noise_mode asym --p 0.4 --custom_noise",
        "--noise_mode dependent --p 0.4",
        "--noise_mode sym --p 0.4 --custom_noise --make_new_custom_noise",
    ],
)
@pytest.mark.parametrize(
    ("method", "lc", "name"),
    [
        ("--sigma 0", -1, "ce"),
        ("--sigma 1.0", -1, "sln"),
        ("--sigma 1.0 --mo", -1, "sln_mo"),
        ("--sigma 1.0 --mo", 250, "sln_mo_lc"),
    ],
)
def test_every_published_command_line_parses(dataset, noise, method, lc, name):
    config = parse("train_cifar", shlex.split(README.format(dataset, f"{noise} {method}", lc)))
    assert config.method_name == name
    assert (config.batch_size, config.n_epochs, config.lr, config.seed, config.p) == (
        128,
        300,
        0.001,
        123,
        0.4,
    )
    assert (config.ema_decay, config.depth, config.width, config.lc_form) == (
        0.999,
        28,
        2,
        "recursive",
    )


def test_real_and_tune_command_lines_parse():
    config = parse("train_real", shlex.split(README.format("animal-10n", "--sigma 0.5 --mo", 250)))
    assert (config.method_name, config.noise_mode, config.p) == ("sln_mo_lc", None, None)
    tune = README.format("cifar10", "--noise_mode sym --p 0.4 --val_size 0.1", -1)
    assert parse_search(shlex.split(tune)).held_out.val_size == 0.1


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("--dataset_name cifar10 --noise_mode sym --method ce", (0.0, False, -1)),
        ("--dataset_name cifar10 --noise_mode sym --method sln", (1.0, False, -1)),
        ("--dataset_name cifar10 --noise_mode asym --method sln_mo", (0.5, True, -1)),
        ("--dataset_name cifar100 --noise_mode dependent --method sln_mo_lc", (0.1, True, 250)),
        ("--dataset_name digits --noise_mode sym --sigma 0.3 --mo", (0.3, True, 44)),
        ("--dataset_name cifar10 --noise_mode sym --sigma 0.3", (0.3, False, -1)),
        (
            "--dataset_name cifar10 --noise_mode sym --method sln_mo_lc --sigma 2 --lc_n_epoch 5",
            (2.0, True, 5),
        ),
    ],
)
def test_a_method_sets_what_the_paper_used_unless_given(flags, expected):
    config = parse("train_cifar", shlex.split(flags))
    assert (config.sigma, config.mo, config.lc_n_epoch) == expected


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            "--dataset_name cifar10 --noise_mode dependent --custom_noise --sigma 0",
            "sym, asym and openset",
        ),
        (
            "--dataset_name cifar100 --noise_mode openset --custom_noise --sigma 0",
            "choose one of sym, asym, dependent",
        ),
        ("--dataset_name cifar10 --noise_mode openset --sigma 0", "add --custom_noise"),
        ("--dataset_name cifar10 --noise_mode sym --make_new_custom_noise --sigma 0", "give both"),
        ("--dataset_name digits --noise_mode dependent --sigma 0", "choose one of sym, asym"),
        ("--dataset_name digits --noise_mode sym --custom_noise --sigma 0", "leave it out"),
        (
            "--dataset_name cifar10 --sigma 0",
            "--noise_mode is missing: choose one of sym, asym, openset, dependent",
        ),
        ("--dataset_name cifar10 --noise_mode sym", "--sigma is missing"),
        (
            "--dataset_name cifar10 --noise_mode sym --sigma 0 --mo --lc_n_epoch -1",
            "sln_mo_lc  --sigma above 0",
        ),
        (
            "--dataset_name cifar10 --noise_mode sym --sigma 0 --lc_n_epoch 250",
            "not a valid comb",
        ),
        (
            "--dataset_name cifar10 --noise_mode sym --sigma 1 --lc_n_epoch 250",
            "not a valid comb",
        ),
        (
            "--dataset_name cifar10 --noise_mode sym --sigma 1 --mo --lc_n_epoch 300",
            "between 1 and 299",
        ),
        (
            "--dataset_name cifar10 --noise_mode sym --sigma 1 --mo --lc_n_epoch 0",
            "between 1 and 299",
        ),
        (
            "--dataset_name cifar10 --noise_mode sym --sigma 1 --mo --n_epochs 2 --lc_n_epoch 2",
            "-1 for no label correction",
        ),
        (
            "--dataset_name cifar10 --noise_mode sym --sigma 1 --mo --n_epochs 1",
            "--n_epochs 1: label correction needs an epoch before it",
        ),
        ("--dataset_name cifar10 --noise_mode sym --sigma 1 --method ce", "drop one of them"),
        ("--dataset_name cifar10 --noise_mode sym --p 40 --sigma 0", "40 percent is --p 0.4"),
        (
            "--dataset_name cifar10 --noise_mode sym --noise_file a.npz --sigma 0",
            "drop one of them",
        ),
        ("--dataset_name folder --sigma 0", "needs --data_path"),
        ("--dataset_name folder --data_path x --p 0.2 --sigma 0", "add --noise_mode"),
        ("--dataset_name clothing1m --noise_mode sym --sigma 0", "invalid choice"),
        ("--dataset_name cifar10 --noise_mode sym --sigma -1", "at least 0"),
        ("--dataset_name cifar10 --noise_mode sym --sigma 0 --depth 12", "10, 16, 22"),
        ("--dataset_name cifar10 --noise_mode sym --sigma 0 --lr 0", "greater than 0"),
        ("--dataset_name cifar10 --noise_mode sym --sigma 0 --ema_decay 1", "0.999"),
    ],
)
def test_what_cannot_work_is_refused_with_what_can(capsys, flags, message):
    with pytest.raises(SystemExit, match="2"):
        parse("train_cifar", shlex.split(flags))
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("dataset", "n_epochs", "start"),
    [
        ("digits", 12, 10),
        ("digits", 45, 44),
        ("digits", 44, 37),
        ("cifar10", 60, 50),
        ("cifar10", 250, 208),
        ("cifar10", 251, 250),
        ("cifar10", 300, 250),
        ("cifar10", 2, 1),
        ("clothing1m", 2, 1),
    ],
)
def test_label_correction_of_a_shorter_run_starts_after_five_sixths_of_it(dataset, n_epochs, start):
    noise = "" if dataset == "clothing1m" else "--noise_mode sym"
    script = "train_real" if dataset == "clothing1m" else "train_cifar"
    flags = f"--dataset_name {dataset} {noise} --method sln_mo_lc --n_epochs {n_epochs}"
    assert parse(script, shlex.split(flags)).lc_n_epoch == start
    if dataset in ("digits", "cifar10"):
        table = parse_table(["--dataset_name", dataset, "--n_epochs", str(n_epochs)])
        of_lc = [t for t in trainings(table).values() if t.method_name == "sln_mo_lc"]
        assert {training.lc_n_epoch for training in of_lc} == {start}


def test_devices_that_are_not_there_are_refused():
    with pytest.raises(UsageError, match="leave --device out"):
        choose_device("cuda:77")
    with pytest.raises(UsageError, match="choose auto"):
        choose_device("quantum")


QUESTIONS = {
    "train_cifar": "--help",
    "train_real": "--dataset_name animal-10n --method ce --p 0.4",
    "tune": "--help",
    "table": "--seeds x",
    "results": "--help",
    "plot": "--plot_type none",
    "viz": "--help",
    "make_dependent_noise": "--help",
}


@pytest.mark.parametrize("script", QUESTIONS)
def test_help_and_wrong_flags_are_answered_without_torch(script, tmp_path):
    code = f"""
import runpy, sys
sys.argv[0] = {str(SCRIPTS / script) + ".py"!r}
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
except SystemExit as stop:
    assert stop.code in (0, 2), stop.code
assert not {{"torch", "matplotlib", "ray", "sklearn"}} & set(sys.modules)
"""
    command = [sys.executable, "-c", code, *QUESTIONS[script].split()]
    done = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"{script}.py" in done.stdout + done.stderr


def test_settings_are_frozen_and_a_file_of_them_gives_the_defaults(tmp_path):
    flags = shlex.split("--dataset_name digits --noise_mode sym --method sln_mo_lc --n_epochs 9")
    config = parse("train_cifar", [*flags, "--lc_n_epoch", "4", "--output_dir", "a", "--resume"])
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.sigma = 1.0
    path = tmp_path / "config.yaml"
    known = {k: str(v) if k == "output_dir" else v for k, v in config.record().items()}
    known |= {"method": config.method_name, "identity": config.deciding(), "threads": 1}
    path.write_text(yaml.safe_dump(known))

    def read(*flags):
        return parse("train_cifar", ["--config", str(path), *flags])

    assert read() == dataclasses.replace(config, output_dir=None, resume=False)
    assert read("--n_epochs", "7").n_epochs == 7
    assert (read("--sigma", "0.2").sigma, read("--sigma", "0.2").lc_n_epoch) == (0.2, 4)
    assert read("--method", "ce").method_name == "ce"
    assert read("--noise_file", "x.npz").noise_mode is None
    assert parse_search(["--config", str(path)]).training.lc_n_epoch == 4
    path.write_text("sigmar: 1")
    with pytest.raises(SystemExit, match="2"):
        read()


def test_a_copy_of_a_run_does_not_make_shared_noise_again(tmp_path):
    flags = "--dataset_name cifar10 --noise_mode sym --custom_noise --make_new_custom_noise"
    config = parse("train_cifar", [*flags.split(), "--method", "ce"])
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump({**config.record(), "script": "train_cifar"}))
    (tmp_path / "last.ckpt").touch()
    for words in (["--config", str(path), "--seed", "2"], ["--export", str(tmp_path)]):
        found = parse("train_cifar", words)
        assert (found.custom_noise, found.make_new_custom_noise) == (True, False)
    again = parse("train_cifar", ["--config", str(path), "--make_new_custom_noise"])
    assert again.make_new_custom_noise
    labels = parse("train_cifar", ["--config", str(path), "--noise_file", "x.npz"])
    assert (labels.noise_mode, labels.make_new_custom_noise) == (None, False)


def test_of_clothing1m_and_animal10n_the_file_may_say_what_does_nothing(tmp_path):
    for dataset in ("animal-10n", "clothing1m"):
        config = parse("train_real", ["--dataset_name", dataset, "--method", "sln"])
        path = tmp_path / "config.yaml"
        path.write_text(yaml.safe_dump(config.record()))
        assert parse("train_real", ["--config", str(path)]) == config


def test_the_largest_seed_is_that_of_open_set_noise():
    assert SEED_LIMIT == 2**32 - open_set.DONOR_SEED_OFFSET

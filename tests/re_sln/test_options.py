"""Command lines: the published ones parse, what cannot work is refused before data is read, with
what exists instead.
"""

import shlex

import pytest

from re_sln import options

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
    args = options.parse(
        "train_cifar", shlex.split(README.format(dataset, f"{noise} {method}", lc))
    )
    assert options.method_name(args) == name
    assert (args.batch_size, args.n_epochs, args.lr, args.seed, args.p) == (
        128,
        300,
        0.001,
        123,
        0.4,
    )
    assert (args.ema_decay, args.depth, args.width, args.lc_form) == (0.999, 28, 2, "recursive")


def test_real_and_tune_command_lines_parse():
    args = options.parse(
        "train_real", shlex.split(README.format("animal-10n", "--sigma 0.5 --mo", 250))
    )
    assert (options.method_name(args), args.noise_mode, args.p) == ("sln_mo_lc", None, None)
    tune = README.format("cifar10", "--noise_mode sym --p 0.4 --val_size 0.1", -1)
    assert options.parse("tune", shlex.split(tune)).val_size == 0.1


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
    args = options.parse("train_cifar", shlex.split(flags))
    assert (args.sigma, args.mo, args.lc_n_epoch) == expected


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
        ("--dataset_name cifar10 --noise_mode sym --sigma 0 --lc_n_epoch 250", "is no method"),
        ("--dataset_name cifar10 --noise_mode sym --sigma 1 --lc_n_epoch 250", "is no method"),
        (
            "--dataset_name cifar10 --noise_mode sym --sigma 1 --mo --lc_n_epoch 300",
            "between 1 and 299",
        ),
        (
            "--dataset_name cifar10 --noise_mode sym --sigma 1 --mo --lc_n_epoch 0",
            "between 1 and 299",
        ),
        (
            "--dataset_name cifar10 --noise_mode sym --sigma 1 --mo --n_epochs 2",
            "-1 for no label correction",
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
        ("--dataset_name cifar10 --noise_mode sym --sigma 0 --depth 12", "10, 16, 22, 28"),
        ("--dataset_name cifar10 --noise_mode sym --sigma 0 --lr 0", "greater than 0"),
        ("--dataset_name cifar10 --noise_mode sym --sigma 0 --ema_decay 1", "0.999"),
    ],
)
def test_what_cannot_work_is_refused_with_what_can(capsys, flags, message):
    with pytest.raises(SystemExit, match="2"):
        options.parse("train_cifar", shlex.split(flags))
    assert message in capsys.readouterr().err


def test_devices_that_are_not_there_are_refused():
    with pytest.raises(options.UsageError, match="leave --device out"):
        options.choose_device("cuda:77")
    with pytest.raises(options.UsageError, match="choose auto"):
        options.choose_device("quantum")

"""The command lines: the published ones parse, presets fill in, what cannot work is refused."""

import dataclasses
import shlex

import numpy as np
import pytest
import yaml

from lra_diffusion.encoders.clip_tower import TOWERS
from lra_diffusion.method.diffusion import TIMESTEPS
from lra_diffusion.method.networks import DEPTHS
from lra_diffusion.run import config
from lra_diffusion.run.config import parse, parse_ce
from lra_diffusion.run.record import plain
from lra_diffusion.run.schema import CLIP_TYPES, NETWORKS
from lra_diffusion.run.tool_config import parse_knn, parse_pmd, parse_simclr
from shared.formats.noise_file import make, write
from shared.noise.pmd import ON_TOP_SEED

PUBLISHED = [
    "train_CIFAR --device cuda:0 --noise_type cifar10-1-0.35 --fp_encoder SimCLR --nepoch "
    "1000 --warmup_epochs 20",
    "train_CIFAR --device cuda:0 --noise_type cifar100-1-0.35_U_0.6 --fp_encoder CLIP "
    "--CLIP_type ViT-B/32 --k 8",
    "train_Food101N --device cuda:0 --nepoch 1000 --warmup_epochs 1 --feature_dim 2048",
    "train_Food101N --gpu_devices 0 1 2 3 --nepoch 200 --warmup_epochs 1 --feature_dim 1024",
    "train_Clothing1M --device cuda:0 --nepoch 1000 --warmup_epochs 1 --feature_dim 4096",
    "train_Clothing1M --gpu_devices 0 1 2 3 --nepoch 200 --warmup_epochs 1 --feature_dim 1024",
    "train_WebVision --gpu_devices 0 1 2 3 --nepoch 200 --warmup_epochs 1 --feature_dim 1024",
    "test_ILSVRC2012 --gpu_devices 0 --num_workers 8 --batch_size 512 --diff_encoder "
    "resnet50_l --ddim_n_step 20 --k 50",
]


@pytest.mark.parametrize("line", PUBLISHED)
def test_published_command_lines(line):
    script, *flags = shlex.split(line)
    assert parse(script, flags).script == script


def test_defaults_of_the_paper():
    cifar = parse("train_CIFAR", [])
    assert (
        cifar.noise_type,
        cifar.dataset,
        cifar.nepoch,
        cifar.batch_size,
        cifar.warmup_epochs,
        cifar.feature_dim,
    ) == ("cifar10-1-0.35", "cifar10", 200, 200, 5, 512)
    assert (cifar.k, cifar.ddim_n_step, cifar.fp_encoder, cifar.CLIP_type, cifar.diff_encoder) == (
        10,
        10,
        "SimCLR",
        "ViT-L/14",
        "resnet34",
    )
    assert (cifar.weighted, cifar.exclude_self, cifar.fp_queries, cifar.bank_transform) == (
        True,
        False,
        "augmented",
        "test",
    )
    assert (cifar.freeze_encoder, cifar.lr_horizon, cifar.eval_weights, cifar.select) == (
        False,
        200,
        "best",
        "val",
    )
    food, clothes, web = (
        parse(f"train_{name}", []) for name in ("Food101N", "Clothing1M", "WebVision")
    )
    assert (food.nepoch, food.batch_size, food.k, food.weighted, food.fp_encoder) == (
        100,
        256,
        10,
        True,
        "CLIP",
    )
    assert (food.exclude_self, food.fp_queries, food.per_class) == (True, "cached", None)
    assert (clothes.nepoch, clothes.k, clothes.weighted, clothes.fp_encoder, clothes.per_class) == (
        300,
        20,
        False,
        "CC",
        10_000,
    )
    assert (web.nepoch, web.k, web.weighted, web.per_class, web.num_workers) == (
        300,
        50,
        False,
        500,
        16,
    )
    tested = parse("test_ILSVRC2012", [])
    assert (tested.k, tested.num_workers, tested.diff_encoder) == (50, 16, "resnet50_l")
    assert {food.diff_encoder, clothes.diff_encoder, web.diff_encoder} == {"resnet50_l"}
    assert {food.feature_dim, clothes.feature_dim, web.feature_dim} == {1024}


def test_clip_on_cifar_is_computed_once_as_published():
    assert parse("train_CIFAR", ["--fp_encoder", "CLIP"]).fp_queries == "cached"
    assert (
        parse("train_CIFAR", ["--fp_encoder", "CLIP", "--fp_queries", "augmented"]).fp_queries
        == "augmented"
    )
    assert parse("train_WebVision", []).fp_queries == "augmented"


@pytest.mark.parametrize("flags", ["--CLIP_type ViT-B/16", "--CLIP_activation gelu"])
def test_flags_of_clip_are_refused_with_another_encoder(flags, capsys):
    for parse_flags in (lambda words: parse("train_CIFAR", words), parse_knn):
        assert parse_flags([*flags.split(), "--fp_encoder", "CLIP"]).fp_encoder == "CLIP"
        with pytest.raises(SystemExit):
            parse_flags(flags.split())
        assert "does nothing with --fp_encoder SimCLR" in capsys.readouterr().err
        assert parse_flags(["--CLIP_type", "ViT-L/14"]).fp_encoder == "SimCLR"  # as published


def test_legacy_is_the_published_code():
    args = parse("train_CIFAR", ["--legacy"])
    assert (args.freeze_encoder, args.batch_statistics, args.lr_horizon, args.bank_transform) == (
        True,
        True,
        1000,
        "train",
    )
    assert (args.eval_weights, args.weighted) == ("raw", True)
    food = parse("train_Food101N", ["--legacy", "--warmup_epochs", "1", "--nepoch", "1000"])
    assert (food.warmup_epochs, food.lr_horizon, food.select, food.freeze_encoder) == (
        10,
        200,
        "test",
        True,
    )
    clothes = parse("train_Clothing1M", ["--legacy", "--warmup_epochs", "7", "--nepoch", "50"])
    assert (
        clothes.warmup_epochs,
        clothes.lr_horizon,
        clothes.freeze_encoder,
        clothes.batch_statistics,
    ) == (
        1,
        50,
        False,
        False,
    )


def test_the_name_of_the_noise_names_the_dataset():
    assert parse("train_CIFAR", ["--noise_type", "cifar100-1-0.70_U_0.3"]).dataset == "cifar100"
    assert parse("train_CIFAR", ["--noise_type", "digits-1-0.35"]).width == 16
    assert parse("train_CIFAR", ["--dataset", "folder", "--data_path", "x"]).noise_type is None


@pytest.mark.parametrize(
    ("script", "line", "message"),
    [
        ("train_CIFAR", "--noise_type mnist-1-0.35", "mnist is not a dataset"),
        (
            "train_CIFAR",
            "--noise_type cifar10-1-0.35 --dataset cifar100",
            "is noise of cifar10, not of --dataset cifar100",
        ),
        ("train_CIFAR", "--noise_type cifar10-1-0.35 --noise_file x.npz", "drop one of them"),
        ("train_CIFAR", "--noise_file x.npz", "x.npz does not exist"),
        ("train_CIFAR", "--dataset folder", "needs --data_path"),
        ("train_CIFAR", "--dataset digits", "make_pmd.py --dataset digits --rate 0.35"),
        ("train_CIFAR", "--ddim_n_step 501", "between 1 and 500"),
        ("train_CIFAR", "--k 0", "--k 0: must be at least 1"),
        ("train_CIFAR", "--batch_size 1", "must be at least 2"),
        ("train_CIFAR", "--ema_decay 1", "must lie in"),
        ("train_CIFAR", "--lr 0", "must be greater than 0"),
        ("train_CIFAR", "--seed -1", "--seed -1: must lie in [0, 4294967296)"),
        ("train_Food101N", "--seed 99999999999999999999999", "must lie in [0, 4294967296)"),
        ("train_CIFAR", "--nepoch 20 --lr_horizon 10", "goes beyond --lr_horizon 10"),
        ("train_CIFAR", "--fp_embed_train a.npy", "belong together"),
        ("train_CIFAR", "--cut_labels --no_validation", "drop one of them"),
        ("train_CIFAR", "--encoder_weights none", "leave them out"),
        ("train_CIFAR", "--diff_encoder linear", "invalid choice: 'linear'"),
        ("train_CIFAR", "--fp 3", "unrecognized arguments"),
        ("train_Food101N", "--diff_encoder resnet50", "take resnet50_l"),
        ("train_Food101N", "--fp_embed_train a.npy --fp_embed_test b.npy", "computes its own"),
        ("train_WebVision", "--noise_type cifar10-1-0.35", "unrecognized arguments"),
        ("train_WebVision", "--dataset folder", "unrecognized arguments"),
        ("train_Food101N", "--dataset folder", "needs --data_path"),
        ("train_Food101N", "--dataset clothing1m", "invalid choice"),
        ("train_Food101N", "--labels a.csv", "--labels is for pictures of your own"),
        ("train_Food101N", "--noise_file a.npz", "--noise_file is for pictures of your own"),
        ("train_Clothing1M", "--no_validation", "not for clothing1m: leave it out"),
        ("train_Clothing1M", "--val_fraction .1", "--val_fraction is for pictures of your own"),
        ("train_CIFAR", "--skip_broken", "--skip_broken is for pictures of your own"),
        ("train_CIFAR", "--labels a.csv", "not for cifar10: leave it out"),
        (
            "train_CIFAR",
            "--dataset folder --data_path x --val_fraction 10",
            "a share lies between 0 and 1",
        ),
        (
            "train_CIFAR",
            "--dataset folder --data_path x --fp_embed_test a.npy",
            "belong together",
        ),
    ],
)
def test_what_cannot_work_is_refused(script, line, message, capsys):
    with pytest.raises(SystemExit) as refusal:
        parse(script, shlex.split(line))
    assert refusal.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("parse_tool", "line"),
    [
        (parse_knn, "--skip_broken"),
        (parse_knn, "--data folder"),
        (parse_pmd, "--labels a.csv"),
        (parse_simclr, "--cache_dir a"),
        (config.parse_ce, "--noise_type digits-1-0.35 --cache_dir a"),
    ],
)
def test_what_is_for_own_pictures_is_refused_by_the_other_scripts(parse_tool, line, capsys):
    with pytest.raises(SystemExit, match="2"):
        parse_tool(shlex.split(line))
    flag = "--data " if parse_tool is parse_knn else "--dataset "
    assert f"{flag}folder" in capsys.readouterr().err


def test_own_pictures_are_trained_on_as_the_dataset_of_the_script():
    own = ["--dataset", "folder", "--data_path", "x"]
    for script, same in (("train_Food101N", {}), ("train_Clothing1M", {"fp_encoder": "CLIP"})):
        mine, published = (
            dataclasses.asdict(parse(script, words)) for words in (own, ["--data_path", "x"])
        )
        assert mine == {**published, "dataset": "folder", **same}
    assert parse("train_Food101N", [*own, "--legacy"]).lr_horizon == 200


@pytest.mark.parametrize("script", config.SCRIPTS)
def test_help_explains_every_flag(script, capsys):
    with pytest.raises(SystemExit):
        parse(script, ["--help"])
    assert "example: python" in capsys.readouterr().out
    assert all(action.help for action in config.parser_of(script)._actions)


def test_a_noise_file_with_a_header_names_its_dataset(tmp_path, capsys):
    labels = np.arange(10)
    for dataset in ("digits", "food101n", None):
        noise = make(labels, dataset=dataset, num_classes=10)
        write(tmp_path / f"{dataset}.npz", noise)
    flags = ["--noise_file", str(tmp_path / "digits.npz")]
    assert parse("train_CIFAR", flags).dataset == "digits"
    assert config.parse_ce(flags).width == 16
    for name, message in (("food101n", "is for food101n"), ("None", "does not say which images")):
        with pytest.raises(SystemExit, match="2"):
            parse("train_CIFAR", ["--noise_file", str(tmp_path / f"{name}.npz")])
        assert f"{message}: add --dataset" in capsys.readouterr().err


def test_a_config_file_gives_settings_that_flags_override(tmp_path, capsys):
    file = tmp_path / "config.yaml"
    file.write_text("noise_type: digits-1-0.35\nk: 7\nweighted: false\nidentity: {k: 7}\n")
    found = parse("train_CIFAR", ["--config", str(file)])
    assert (found.noise_type, found.dataset, found.k) == ("digits-1-0.35", "digits", 7)
    assert not found.weighted
    found = parse("train_CIFAR", ["--config", str(file), "--k", "3", "--weighted"])
    assert (found.k, found.weighted) == (3, True)
    found = parse("train_CIFAR", ["--config", str(file), "--noise_type", "cifar10-1-0.35"])
    assert (found.dataset, found.k) == ("cifar10", 7)
    file.write_text("kk: 7\n")
    with pytest.raises(SystemExit, match="2"):
        parse("train_CIFAR", ["--config", str(file)])
    assert "kk is not a flag of this script" in capsys.readouterr().err


def test_settings_of_another_dataset_are_told(tmp_path, capsys):
    file = tmp_path / "config.yaml"
    file.write_text("dataset: digits\nseed: 7\n")
    for parse_tool in (parse_simclr, parse_pmd):
        assert parse_tool(["--config", str(file), "--dataset", "digits"]).seed == 7
        assert capsys.readouterr().err == ""
        parse_tool(["--config", str(file), "--dataset", "cifar10"])
        assert f"note: --dataset is not {file}'s, but all settings" in capsys.readouterr().err

    file.write_text("fp_encoder: SimCLR\nfp_queries: augmented\n")
    assert parse("train_CIFAR", ["--config", str(file), "--fp_encoder", "CLIP"]).k == 10
    assert f"note: --fp_encoder is not {file}'s, but all" in capsys.readouterr().err


def test_the_learning_rate_of_cross_entropy_is_not_taken_over(tmp_path):
    file = tmp_path / "config.yaml"
    recorded = {**dataclasses.asdict(parse_ce(["--noise_type", "digits-1-0.35"])), "seed": 7}
    file.write_text(yaml.safe_dump(plain(recorded)))
    found = parse("train_CIFAR", ["--config", str(file)])
    assert (found.seed, found.dataset, found.lr) == (7, "digits", 5e-3)
    assert parse("train_CIFAR", ["--config", str(file), "--lr", "0.1"]).lr == 0.1
    file.write_text("seed: 7\nlr: 0.1\n")
    assert parse("train_CIFAR", ["--config", str(file)]).lr == 0.1


@pytest.mark.parametrize("script", config.SCRIPTS)
def test_a_recorded_configuration_is_the_parsed_one(script):
    asked = parse(script, ["--ddim_n_step", "5", "--cache_dir", "somewhere"])
    entries = yaml.safe_load(yaml.safe_dump(plain(dataclasses.asdict(asked))))
    assert config.recorded_config(entries) == dataclasses.replace(asked, eval_only=None)


def test_constants_that_are_repeated_to_keep_torch_out_agree():
    assert 2 * config.MAX_DDIM_STEPS == TIMESTEPS
    assert tuple(TOWERS) == CLIP_TYPES
    assert tuple(DEPTHS) == NETWORKS
    assert parse_pmd([]).on_top_seed == ON_TOP_SEED


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_a_seed_that_no_generator_takes_is_refused_by_every_script(seed, capsys):
    for parse_other, *flags in (
        (parse_ce, "--noise_type", "cifar10-1-0.35"),
        (parse_simclr,),
        (parse_pmd, "--rate", "0.35"),
    ):
        with pytest.raises(SystemExit, match="2"):
            parse_other([*flags, "--seed", str(seed)])
        assert f"--seed {seed}: must lie in [0, 4294967296)" in capsys.readouterr().err
        assert parse_other([*flags, "--seed", str(2**32 - 1)]).seed == 2**32 - 1

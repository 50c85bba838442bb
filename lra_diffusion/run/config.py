"""From a command line to a configuration: presets filled in, and refused what cannot work.

The fields are in `run.schema`. Nothing here imports torch, so that --help and a wrong flag answer
at once; a message says what was found, what was expected and what to do, and the exit status is 2.
"""

import argparse
import dataclasses
import importlib.util
import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from .dataset_flags import (
    OF_OWN_FILES,
    OF_OWN_PICTURES,
    check_own_pictures,
    choose_dataset,
)
from .fields import build_parser, check_at_least, check_seed, read, restore
from .presets import HUMAN, IN_MEMORY, LEGACY, OWN_PICTURES, PRESETS
from .schema import CEConfig, LabelConfig, TrainConfig

MAX_DDIM_STEPS = 500  # half of method.diffusion.TIMESTEPS
LABELS_FOLDER = Path("noise_label")  # where LRA-diffusion looks for labels
# What names the dataset, and so the preset; and the encoder, which other settings go with.
DECIDES = ("dataset", "noise_type", "noise_file", "fp_encoder")
WEBVISION_MODEL = Path("model/LRA-diffusion_WebVision.pt")
# What a config.yaml holds besides fields of a configuration.
OUTCOMES = (
    "name",
    "script",
    "method",
    "measured_noise_rate",
    "data_location",
    "device_used",
    "threads",
    "ranks",
    "identity",
    "versions",
    "prolonged",
)
# script -> its datasets, the first by default, what it does, an example
SCRIPTS: dict[str, tuple[tuple[str, ...], str, str]] = {
    "train_CIFAR": (
        (*IN_MEMORY, *HUMAN),
        "Train LRA-diffusion on CIFAR-10, CIFAR-100, digits or your own pictures at 32 pixels "
        "(Chen et al., NeurIPS 2023).",
        "--noise_type cifar10-1-0.35 --fp_encoder SimCLR --nepoch 200 --warmup_epochs 5",
    ),
    "train_Food101N": (
        ("food101n", "folder"),
        "Train LRA-diffusion on Food-101N, tested on Food-101, or on your own pictures at 224 "
        "pixels.",
        "--gpu_devices 0 --nepoch 200 --warmup_epochs 1 --feature_dim 1024",
    ),
    "train_Clothing1M": (
        ("clothing1m", "folder"),
        "Train LRA-diffusion on Clothing1M, on the images that CC selected, or on your own "
        "pictures at 224 pixels.",
        "--gpu_devices 0 --nepoch 200 --warmup_epochs 1 --feature_dim 1024",
    ),
    "train_WebVision": (
        ("webvision",),
        "Train LRA-diffusion on the first 50 classes of WebVision.",
        "--gpu_devices 0 --nepoch 200 --warmup_epochs 1 --feature_dim 1024",
    ),
    "test_ILSVRC2012": (
        ("webvision",),
        "Test a model of train_WebVision.py on the first 50 classes of ILSVRC2012.",
        f"--eval_only {WEBVISION_MODEL}",
    ),
}
_OF_32_PIXELS = ("noise_type", "noise_dir", "width")
_OF_TRAINING = (
    *("weighted", "exclude_self", "fp_queries", "bank_transform", "freeze_encoder", "ema_decay"),
    *("eval_weights", "lr_horizon", "select", "legacy", "lr", "resume", "wandb"),
    *("export", "save_probs", "sync_bn"),
)


# ---- LRA-diffusion


def parser_of(script: str) -> argparse.ArgumentParser:
    """The parser of a script of SCRIPTS."""
    datasets, description, example = SCRIPTS[script]
    presets = {name: _preset(script, name) for name in datasets}
    without: tuple[str, ...] = () if script == "train_CIFAR" else _OF_32_PIXELS
    without += () if "folder" in datasets else ("dataset", *OF_OWN_FILES)
    without += _OF_TRAINING if script == "test_ILSVRC2012" else ()
    example = f"python {script}.py {example}"
    parser = build_parser(script, TrainConfig, description, example, presets, without)
    for action in parser._actions:
        if action.dest == "dataset":
            action.choices = datasets
    return parser


def parse(script: str, argv: Sequence[str] | None) -> TrainConfig:
    """The configuration of a script of SCRIPTS."""
    parser = parser_of(script)

    def recorded(given: Mapping[str, Any]) -> set[str]:
        names = {field.name for field in dataclasses.fields(TrainConfig)}
        flags = {action.dest for action in parser._actions}
        skipped = {*OUTCOMES, *(names - flags)}
        if "nepoch" in given:
            skipped.add("lr_horizon")  # the run's end unless it is asked for
        if _is_of_cross_entropy(given.get("config")):
            skipped.add("lr")  # of SGD, a hundred times Adam's
        return skipped

    alternatives = (("noise_type", "noise_file"), ("noise_type", "dataset"))
    encoders = (("fp_encoder", "fp_embed_train"), ("fp_encoder", "fp_embed_test"))
    values, given = read(
        parser,
        argv,
        recorded=recorded,
        alternatives=(*alternatives, *encoders),
        decides=DECIDES,
    )
    values["script"] = script
    only_theirs: tuple[str, ...] = OF_OWN_FILES
    if script == "train_CIFAR":
        choose_dataset(parser, values)
        only_theirs = (*OF_OWN_PICTURES, "skip_broken")
    values.setdefault("dataset", SCRIPTS[script][0][0])
    check_own_pictures(parser, values, values["dataset"], only_theirs)
    _refuse_idle(parser, values, given)
    config = TrainConfig(**_filled(values))
    _check(parser, config)
    if config.encoder_weights == "imagenet":  # another word for the default
        return dataclasses.replace(config, encoder_weights=None)
    return config


def _is_of_cross_entropy(file: Path | None) -> bool:
    """Is the file of --config that of a run of train_CE.py? One that cannot be read is told of."""
    try:
        return file is not None and "script: train_CE" in file.read_text().splitlines()
    except (OSError, UnicodeDecodeError):
        return False


def recorded_config(entries: Mapping[str, Any]) -> TrainConfig:
    """The configuration in the config.yaml of a run; fields that it lacks have their defaults."""
    values = restore(TrainConfig, entries)
    return TrainConfig(**{**_filled(values), **values, "resume": False, "eval_only": None})


def _recipe(script: str, dataset: str) -> str:
    """The dataset whose settings count: pictures of one's own are trained on as the script's."""
    return SCRIPTS[script][0][0] if dataset == "folder" and script != "train_CIFAR" else dataset


def _preset(script: str, dataset: str) -> dict[str, Any]:
    recipe = _recipe(script, dataset)
    return PRESETS[recipe] | (OWN_PICTURES.get(recipe, {}) if dataset == "folder" else {})


def of_clip(values: Mapping[str, Any]) -> list[str]:
    """What another encoder leaves without effect.

    A published command line may spell out the published CLIP_type, which is therefore none of them.
    """
    published = values.get("CLIP_type") == TrainConfig.CLIP_type
    return ["CLIP_activation"] if published else ["CLIP_type", "CLIP_activation"]


def _refuse_idle(
    parser: argparse.ArgumentParser, values: Mapping[str, Any], given: Collection[str]
) -> None:
    """Flags that others leave without effect, so that nobody believes they had one."""
    preset = _preset(values["script"], values["dataset"])
    encoder = values.get("diff_encoder", preset["diff_encoder"])
    f_p = values.get("fp_encoder", preset["fp_encoder"])
    idle = {
        "--fp_embed_train, which are features already": (
            values.get("fp_embed_train"),
            ("fp_encoder", "fp_weights", "bank_transform", "fp_queries", *of_clip(values)),
        ),
        f"--fp_encoder {f_p}, which is no CLIP": (f_p != "CLIP", of_clip(values)),
        f"--diff_encoder {encoder}, whose width is fixed": (encoder.endswith("_l"), ("width",)),
        "--noise_file": (values.get("noise_file"), ("noise_dir",)),
        "--eval_only, which trains nothing": (
            values.get("eval_only"),
            ("resume", "wandb", "save_probs", "sync_bn"),
        ),
    }
    for what, (condition, names) in idle.items():
        if condition and (useless := [name for name in names if name in given]):
            parser.error(f"--{useless[0]} does nothing with {what}: drop one of them")


def _filled(given: Mapping[str, Any]) -> dict[str, Any]:
    """Sets what was not given: by --legacy, else by the preset of the dataset."""
    values, dataset = dict(given), given["dataset"]
    legacy = LEGACY[_recipe(values["script"], dataset)] if values.get("legacy") else {}
    # The published code ignores these flags where it sets them itself.
    for name in ("warmup_epochs", "lr_horizon"):
        if name in legacy and values.get(name, legacy[name]) != legacy[name]:
            print(
                f"note: --legacy ignores --{name} {values.pop(name)} and takes {legacy[name]}, as "
                "the published code does"
            )
    # DEVIATION(lra_diffusion): validation chooses the model; on Food-101N the original lets the
    # test set do it.
    # DEVIATION(lra_diffusion): features to retrieve from are those of the images themselves; on
    # CIFAR and Food-101N the original computes them on one random augmentation.
    rest: dict[str, Any] = {
        "freeze_encoder": False,
        "bank_transform": "test",
        "select": "val",
        "eval_weights": "raw" if values.get("legacy") else "best",
    }
    # As published: CLIP's features are computed once, SimCLR's on every batch.
    if values.get("fp_encoder") == "CLIP" and values["script"] == "train_CIFAR":
        rest["fp_queries"] = "cached"
    if values.get("fp_embed_train"):
        values["fp_queries"] = "cached"
    values = {**_preset(values["script"], dataset), **rest, **legacy, **values}
    # DEVIATION(lra_diffusion): the cosine of the learning rate ends with the run; the original's
    # ends after 1,000 epochs on CIFAR and 200 on Food-101N, whatever its flags say.
    values.setdefault("lr_horizon", values["nepoch"])
    if values["script"] == "test_ILSVRC2012":
        values.setdefault("eval_only", WEBVISION_MODEL)
    return values


def _check(parser: argparse.ArgumentParser, config: TrainConfig) -> None:
    least = {
        **dict.fromkeys(("nepoch", "feature_dim", "k", "width", "limit_test", "lr_horizon"), 1),
        **dict.fromkeys(("batch_size", "limit_train"), 2),
        **dict.fromkeys(("warmup_epochs", "num_workers"), 0),
    }
    check_at_least(parser, dataclasses.asdict(config), least)
    check_seed(parser, config.seed)
    if not 1 <= config.ddim_n_step <= MAX_DDIM_STEPS:
        parser.error(
            f"--ddim_n_step {config.ddim_n_step}: give a number between 1 and {MAX_DDIM_STEPS}"
        )
    if not config.lr > 0:
        parser.error(f"--lr {config.lr}: must be greater than 0")
    if not 0 <= config.ema_decay < 1:
        parser.error(f"--ema_decay {config.ema_decay}: must lie in [0, 1)")
    trains = config.script != "test_ILSVRC2012"
    if trains and config.nepoch > config.lr_horizon and not config.legacy:
        parser.error(
            f"--nepoch {config.nepoch} goes beyond --lr_horizon {config.lr_horizon}, where the "
            "learning rate ends at 0"
        )
    if trains and config.nepoch > config.warmup_epochs >= config.lr_horizon:
        parser.error(
            f"--warmup_epochs {config.warmup_epochs} leaves nothing of --lr_horizon "
            f"{config.lr_horizon}: give fewer"
        )
    _check_networks(parser, config)
    _check_labels_and_wandb(parser, config)


def _check_networks(parser: argparse.ArgumentParser, config: TrainConfig) -> None:
    large = config.diff_encoder.endswith("_l")
    both = (config.fp_embed_train is None) == (config.fp_embed_test is None)
    if not both and (config.dataset != "folder" or config.fp_embed_train is None):
        parser.error(
            "--fp_embed_train and --fp_embed_test belong together: give both, from the same encoder"
        )
    if config.fp_embed_train is not None and config.on_disk:
        parser.error(
            f"--fp_embed_train is for images in memory (train_CIFAR.py); {config.script}.py "
            "computes its own features and keeps them"
        )
    if config.on_disk and not large:
        parser.error(
            f"--diff_encoder {config.diff_encoder} is for 32-pixel images: "
            f"take {config.diff_encoder}_l"
        )
    if config.encoder_weights is not None and not large:
        parser.error(
            f"--encoder_weights are ImageNet weights, which {config.diff_encoder} does not have: "
            "leave them out"
        )


def _check_labels_and_wandb(parser: argparse.ArgumentParser, config: LabelConfig) -> None:
    if config.no_validation and config.cut_labels:
        parser.error(
            "--no_validation trains on all images, so there are no labels to cut off: drop one "
            "of them"
        )
    if config.wandb and importlib.util.find_spec("wandb") is None:
        parser.error(
            "--wandb needs the package wandb, which is not installed: `pip install wandb`, or "
            "with uv `uv pip install --python .venv/lra_diffusion wandb`"
        )


def noise_name(config: LabelConfig) -> str:
    """The noise as names of runs have it."""
    name = config.noise_type
    if config.dataset in HUMAN:
        return f"{config.dataset}-{name}"
    if not name:
        name = Path(config.noise_file).stem if config.noise_file else config.dataset
    return name.replace(":", "_")


def noise_source(config: LabelConfig) -> str | None:
    """Where the noisy labels are from, as a run says it; None if they are the images' own."""
    human = config.dataset in HUMAN
    return noise_name(config) if human else config.noise_type or config.noise_file


def run_name(config: TrainConfig) -> str:
    """The published name of a model, without its ending: LRA-diffusion_SimCLR_cifar10-1-0.35."""
    titles = {"food101n": "Food101N", "clothing1m": "Clothing1M", "webvision": "WebVision"}
    if config.dataset in titles:
        return f"LRA-diffusion_{titles[config.dataset]}"
    encoder = "embeddings" if config.fp_embed_train else config.fp_encoder.replace("/", "_")
    return f"LRA-diffusion_{encoder}_{noise_name(config)}"


# ---- plain cross-entropy


def usual_presets(presets: Mapping[str, Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """Those that the help shows."""
    return {name: presets[name] for name in ("cifar10", "digits")}


def check_positive(parser: argparse.ArgumentParser, name: str, value: float) -> None:
    if not 0 < value < math.inf:
        parser.error(f"--{name} {value}: must be above 0")


FILLED_FOR_CE = ("nepoch", "batch_size", "diff_encoder", "width")  # by the dataset's preset


def parse_ce(argv: Sequence[str] | None) -> CEConfig:
    """The configuration of train_CE.py."""
    filled = {name: {key: preset[key] for key in FILLED_FOR_CE} for name, preset in PRESETS.items()}
    parser = build_parser(
        "train_CE",
        CEConfig,
        "Train a classifier by plain cross-entropy on noisy labels, to compare LRA-diffusion with.",
        "python train_CE.py --noise_type digits-1-0.35",
        usual_presets(filled),
    )
    alternatives = (("noise_type", "noise_file"), ("noise_type", "dataset"))
    values, _ = read(
        parser, argv, recorded=lambda _: OUTCOMES, alternatives=alternatives, decides=DECIDES
    )
    choose_dataset(parser, values)
    only_theirs = (*OF_OWN_PICTURES, "skip_broken", "cache_dir")
    check_own_pictures(parser, values, values["dataset"], only_theirs)
    for name in FILLED_FOR_CE:
        values.setdefault(name, PRESETS[values["dataset"]][name])
    config = CEConfig(**values)
    ones = ("nepoch", "batch_size", "width", "limit_train", "limit_test")
    check_at_least(parser, values, dict.fromkeys(ones, 1))
    check_seed(parser, config.seed)
    check_positive(parser, "lr", config.lr)
    _check_labels_and_wandb(parser, config)
    return config

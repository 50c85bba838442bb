"""The command line of `python -m ieg.main` as a frozen dataclass.

A flag is one field of `Config`: its name, type, help, limits and default. TensorFlow is not
imported here, so that --help and a wrong flag answer at once.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from ieg.input import names
from ieg.input.own_pictures import MEMORY_SIDE
from ieg.method.schedules import SCHEDULES
from ieg.method.settings import METHODS, PseudoLoss, parse_pseudo_loss
from ieg.run.flags import (
    Aside,
    Flag,
    add_flags,
    check_limits,
    flags_of,
    rising,
    spelled,
    whole_command,
    with_home,
)
from ieg.run.refusals import (
    PRETRAINED,
    WITHOUT_STEPS,
    refuse_randaug_of_large_images,
    refuse_two_units,
    refuse_what_is_not_there,
)

NETWORKS = (
    "wrn28-10, resnet29, resnet32, resnet18, resnet50, wrn<depth>-<width> such as wrn28-2, or "
    "resnet50v1, which is added here"
)
PSEUDO_LOSS = PseudoLoss("all", 1.0, 0.1, 2.0)
# DEVIATION(ieg_fsr): run folders lie in runs/; the original's default is a temporary folder, which
# the next start of the machine, or the end of a container, may empty.
CHECKPOINT_PATH = Path("runs")
EXAMPLES = """examples:
  python -m ieg.main --dataset=digits_uniform_0.6 --network_name=wrn10-1 --method=l2r --max_iteration=400
  python -m ieg.main --dataset=cifar100_uniform_0.4 --network_name=wrn28-10 --checkpoint_path=runs
  python -m ieg.main --dataset=cifar10_asymmetric_0.4 --network_name=resnet29 --probe_dataset_hold_ratio=0.002
  python -m ieg.main --dataset=file --noise_file=noise.npz --network_name=resnet29 --method=l2r"""  # noqa: E501
# Entries of a run's config.yaml that are outcomes, and those that say what becomes of that run: a
# copy of a run must neither resume nor overwrite it.
OUTCOMES = {"data_location", "identity", "versions"}
NOT_TAKEN_OVER = {
    "checkpoint_path",
    "exp_path_pattern",
    "mode",
    "output_dir",
    "published_layout",
    "restore_step",
    "xm_exp_id",
}
GROUPS = {  # the first field of each group in --help
    "dataset": "what to train (published flags)",
    "learning_rate": "optimizer (published flags)",
    "meta_momentum": "re-weighting (published flags)",
    "ds_include_metadata": "published flags of little or no effect",
    "noise_type": "added here",
}


def _pseudo_loss(text: str) -> PseudoLoss | None:
    try:
        return parse_pseudo_loss(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


@dataclass(frozen=True)
class Config:
    """Everything that a command line says, checked. None: left out."""

    dataset: Annotated[str, Flag("data and noise by name; a wrong name lists all")] = (
        "cifar100_uniform_0.8"
    )
    dataset_dir: Annotated[
        Path | None,
        Aside("where the data are", shown="$DATA_ROOT, else ieg/data, else data/ in the root"),
    ] = None
    network_name: Annotated[str, Flag(NETWORKS)] = "wrn28-10"
    method: Annotated[str, Flag("training method", choices=METHODS)] = "ieg"
    mode: Annotated[
        str, Aside("train, or evaluate a checkpoint", choices=("train", "evaluation"))
    ] = "train"
    checkpoint_path: Annotated[
        Path,
        Aside(
            "root of the run folders <dataset>/<network>/<method>",
            shown="runs",
        ),
    ] = CHECKPOINT_PATH
    restore_step: Annotated[int, Aside("checkpoint to resume from; 0: the newest", least=0)] = 0
    max_iteration: Annotated[int, Aside("training steps", least=1)] = 200_000
    max_epoch: Annotated[int | None, Aside("the same in epochs, with --decay_epochs", least=1)] = (
        None
    )
    batch_size: Annotated[int, Flag("samples a step, of each replica", least=1)] = 100
    val_batch_size: Annotated[int, Aside("samples at once in evaluation", least=1)] = 100
    eval_freq: Annotated[int, Aside("steps between evaluations; 500: once an epoch", least=1)] = 500
    seed: Annotated[int, Flag("seed of everything", least=0, below=2**31)] = 12345
    use_ema: Annotated[bool, Flag("also evaluate the EMA model")] = True
    probe_dataset_hold_ratio: Annotated[
        float, Flag("share of images held out as trusted samples; not for fsr", least=0, below=1)
    ] = 0.02
    use_imagenet_as_eval: Annotated[bool, Aside("webvisionmini: evaluate on ImageNet too")] = False

    learning_rate: Annotated[float, Flag("highest learning rate", above=0)] = 0.1
    momentum: Annotated[float, Flag("of the weights' update", least=0)] = 0.9
    lr_schedule: Annotated[str, Flag("cosine: with restarts", choices=SCHEDULES)] = "cosine"
    cos_t_mul: Annotated[float, Flag("each cosine cycle is so much longer", least=1)] = 1.5
    cos_m_mul: Annotated[float, Flag("... and starts so much lower", above=0)] = 0.9
    decay_steps: Annotated[
        tuple[int, ...], Flag("steps of the other schedules", parse=rising, shown="500")
    ] = (500,)
    decay_epochs: Annotated[
        tuple[int, ...], Flag("the same in epochs, with --max_epoch", parse=rising, shown="1")
    ] = (1,)
    decay_rate: Annotated[float, Flag("factor of custom_step", least=0)] = 0.1
    warmup_epochs: Annotated[
        int, Flag("cosine: epochs in which the rate rises from 0", least=0)
    ] = 0
    weight_decay: Annotated[float, Flag("of resnet32 and resnet18 only", least=0)] = 5e-4
    l2_weight_decay: Annotated[float, Flag("of resnet50 and resnet50v1", least=0)] = 4e-4
    label_smoothing: Annotated[float, Flag("supervised and fsr", least=0, below=1)] = 0.0

    meta_momentum: Annotated[float, Flag("of the look-ahead of ieg and fsr", least=0)] = 0.9
    meta_stepsize: Annotated[float, Flag("step of the look-ahead, constant", above=0)] = 0.1
    grad_eps_init: Annotated[
        float, Flag("ieg: share of the noisy label at first, in [0, 1]", least=0)
    ] = 0.9
    ce_factor: Annotated[float, Flag("ieg: weight of the loss on estimated labels", least=0)] = 5.0
    consistency_factor: Annotated[float, Flag("ieg: weight of the consistency loss", least=0)] = (
        20.0
    )
    aug_type: Annotated[
        str,
        Flag(
            "ieg: strong augmentation; default: a second weak one",
            choices=("autoaug", "randaug", "default"),
        ),
    ] = "autoaug"
    queue_capacity: Annotated[
        int, Flag("fsr: places of the queue, a multiple of the classes", least=1)
    ] = 2000
    queue_bs: Annotated[
        int, Flag("fsr: samples drawn for a step, a multiple of the classes", least=1)
    ] = 200
    queue_beta: Annotated[float, Flag("fsr: decay of a sample's averaged margin", least=0)] = 0.9
    queue_metric: Annotated[str, Flag("fsr: what ranks samples", choices=("margin",))] = "margin"
    meta_start_epoch: Annotated[
        int, Flag("fsr: first epoch of weights and pseudo labels", least=0)
    ] = 20
    meta_partial_level: Annotated[float, Flag("look-ahead of fsr on the classifier only: 0")] = 0.0
    use_mixup: Annotated[bool, Flag("fsr: mix the images of a batch")] = True
    use_pseudo_loss: Annotated[
        PseudoLoss | None,
        Flag(
            "fsr: type_temperature_gamma_weight, '' for none",
            parse=_pseudo_loss,
            shown="all_1_0.1_2",
        ),
    ] = PSEUDO_LOSS
    clip_meta_weight: Annotated[
        bool, Flag("fsr: only helpful samples count; off for imbalance")
    ] = True
    moving_weight_gamma: Annotated[
        float, Flag("fsr: decay of weights averaged by class; 0: none", least=0, below=1)
    ] = 0.0
    meta_moving_end_epoch: Annotated[
        int, Flag("fsr: epoch from which these stay; 0: never", least=0)
    ] = 0

    ds_include_metadata: Annotated[
        bool, Flag("ids and clean labels beside the samples; always so")
    ] = False
    post_batch_mode_autoaug: Annotated[bool, Aside("unused, as published")] = True
    summary_eval_to_train: Annotated[bool, Aside("copy evaluations into the training events")] = (
        True
    )
    verbose_finer_log: Annotated[bool, Aside("fsr: histograms and class weights in the events")] = (
        True
    )
    distribution_strategy: Annotated[
        str, Aside("all visible GPUs; tpu is refused", choices=("mirrored", "tpu"))
    ] = "mirrored"
    tpu: Annotated[str | None, Aside("refused: TPUs are not supported here")] = None
    xm_exp_id: Annotated[str | None, Aside("names the run folder below --checkpoint_path")] = None
    exp_path_pattern: Annotated[
        str | None, Aside("flags whose values name the run folder, such as seed,method")
    ] = None
    pretrained_ckpt: Annotated[str | None, Aside("refused: no published network implements it")] = (
        None
    )
    pretrained_ckpt_mode: Annotated[str, Aside("no published network implements it")] = "imagenet"
    fix_network_features: Annotated[bool, Aside("refused: no published network implements it")] = (
        False
    )
    dropout_rate: Annotated[float, Aside("refused: no published network implements it")] = 0.0

    noise_type: Annotated[
        str | None, Aside("cifar10n: whose labels, such as aggre; the same as cifar10n_aggre")
    ] = None
    noise_file: Annotated[
        str | None,
        Aside(
            "--dataset=file: noisy labels of any format; FILE:COLUMN chooses one of several",
            parse=with_home,
        ),
    ] = None
    pretrained: Annotated[
        str | None,
        Flag(f"{PRETRAINED}: start from Keras' ImageNet weights", choices=("imagenet",)),
    ] = None
    labels: Annotated[
        Path | None, Aside("folder: a CSV filename,label for pictures wherever they lie in it")
    ] = None
    val_fraction: Annotated[
        float | None,
        Flag("folder without test images: share to hold out to test on", above=0, below=1),
    ] = None
    skip_broken: Annotated[
        bool, Aside("folder: leave out and name the pictures that cannot be read")
    ] = False
    cache_dir: Annotated[
        Path | None, Aside("folder: keep the pictures there as decoded, 32 pixels wide")
    ] = None
    output_dir: Annotated[Path | None, Aside("the run folder itself")] = None
    save_probs: Annotated[
        bool, Aside("leave pred_probs.npz, which is large, in the run folder")
    ] = False
    export: Annotated[
        Path | None, Aside("write label_quality.csv of a finished run folder again, and stop")
    ] = None
    published_layout: Annotated[bool, Aside("run folders without the method's name")] = False
    limit_train: Annotated[
        int | None, Flag("train on that many images, evenly spread", least=2)
    ] = None
    limit_test: Annotated[int | None, Flag("evaluate on that many, evenly spread", least=1)] = None
    guess_gradient: Annotated[
        str,
        Flag(
            "ieg: gradient of the look-ahead through the label estimate", choices=("flow", "stop")
        ),
    ] = "flow"
    bottleneck_relu: Annotated[
        str,
        Flag(
            "resnet29: without or with the first ReLU of its blocks",
            choices=("published", "restored"),
        ),
    ] = "published"
    jit_compile: Annotated[
        str, Aside("compile with XLA; auto: on a GPU", choices=("auto", "on", "off"))
    ] = "auto"
    tf32: Annotated[bool, Flag("GPUs that can: multiply with 10-bit mantissas, faster")] = False
    mixed_precision: Annotated[
        bool, Flag("bfloat16 in the networks, not in losses and weights")
    ] = False
    cpu_replicas: Annotated[int, Aside("devices to split the CPU into", least=1)] = 1
    deterministic: Annotated[bool, Aside("deterministic kernels on a GPU too (slower)")] = False


# ---- from a command line to a Config


def parse(argv: Sequence[str] | None = None) -> Config:
    """The checked flags; exits with a message if something is wrong.

    Raises DatasetError for a --dataset that has no meaning.
    """
    parser = build_parser()
    given = sys.argv[1:] if argv is None else argv
    values = vars(parser.parse_args(whole_command(parser, given, OUTCOMES | NOT_TAKEN_OVER)))
    del values["config"]
    config = Config(**values)
    check_limits(parser, config)
    if config.grad_eps_init > 1:
        parser.error(f"--grad_eps_init {config.grad_eps_init}: a share, in [0, 1]")
    refuse_what_is_not_there(parser, config)
    # Of the command line alone: a config.yaml has every flag.
    typed = {word.partition("=")[0].removeprefix("--") for word in given}
    refuse_two_units(parser, config, typed)
    if config.mode == "evaluation" and config.save_probs and "save_probs" in typed:
        parser.error(
            "--mode=evaluation writes no file: leave out --save_probs; --export RUN --save_probs "
            "writes the probabilities of a run"
        )
    refuse_randaug_of_large_images(parser, config, picture_side(config))
    labels_from_file = config.dataset.split("_")[0] == "file"
    if labels_from_file and not config.noise_file:
        parser.error("--dataset=file takes its labels from a file: give one with --noise_file")
    if config.noise_file and not labels_from_file:
        parser.error(
            f"--noise_file and --dataset={config.dataset} both say what the labels are: drop one, "
            "or write --dataset=file"
        )
    if config.cache_dir is not None and picture_side(config) > MEMORY_SIDE:
        parser.error(
            f"--cache_dir keeps pictures of {MEMORY_SIDE} pixels, but --network_name="
            f"{config.network_name} takes crops of the files: leave it out"
        )
    if config.pretrained and config.network_name != PRETRAINED:
        parser.error(
            f"--pretrained={config.pretrained}: no published weights fit {config.network_name}; "
            f"give --network_name={PRETRAINED}, Keras' ResNet-50, or leave --pretrained out"
        )
    if config.network_name == PRETRAINED and not config.pretrained and config.mode == "train":
        parser.error(
            f"--network_name={PRETRAINED} is there to start from ImageNet weights: add "
            "--pretrained=imagenet, or train --network_name=resnet50 from scratch"
        )
    # One name for one run, whichever way it was given.
    spec = names.parse(config.dataset, config.noise_type)
    config = replace(config, dataset=spec.name, noise_type=None)
    # DEVIATION(ieg_fsr): what fsr forces is set before the data are read; the original sets it too
    # late, so its users must give --ds_include_metadata and --probe_dataset_hold_ratio=0
    # themselves.
    if config.method == "fsr":
        config = replace(config, probe_dataset_hold_ratio=0.0, ds_include_metadata=True)
    return config


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m ieg.main",
        usage="python -m ieg.main --dataset=NAME --method=METHOD [--flag=value ...]",
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=EXAMPLES,
        description="Train IEG, L2R, FSR or plain cross-entropy on noisy labels, or evaluate "
        "what was trained.",
    )
    add_flags(parser, Config, GROUPS)
    return parser


# ---- what follows from a Config


def picture_side(config: Config) -> int:
    """Pixels of a side that the network is made for, and that a folder of pictures is seen at."""
    return 224 if config.network_name in ("resnet50", "resnet50v1") else MEMORY_SIDE


def recorded(config: Config) -> dict[str, Any]:
    """The settings as config.yaml and checkpoints have them: paths as text, tuples as lists."""
    values = asdict(config)
    for name, value in values.items():
        if isinstance(value, Path):
            values[name] = str(value)
        elif isinstance(value, tuple):
            values[name] = list(value)
    return values


def run_folder(config: Config) -> Path:
    """Where the run lives. Two methods never share a folder, unless --published_layout says so."""
    if config.output_dir is not None:
        return config.output_dir
    if config.exp_path_pattern:
        values, chosen = recorded(config), config.exp_path_pattern.split(",")
        named = "+".join(f"{name}={spelled(name, values[name])}" for name in chosen)
        return config.checkpoint_path / f"id{config.xm_exp_id or ''}+{named}".replace(os.sep, "_")
    if config.xm_exp_id:
        return config.checkpoint_path / config.xm_exp_id
    # DEVIATION(ieg_fsr): the run folder contains the method's name; in the original, methods
    # overwrite one another.
    folder = config.checkpoint_path / config.dataset / config.network_name
    return folder if config.published_layout else folder / config.method


def deciding(config: Config) -> dict[str, Any]:
    """The flags that decide every number of a run.

    A longer run is the same run, but for `cosine_one`, whose rate depends on its end.
    """
    values = recorded(config)
    chosen = {name: values[name] for name, flag, _, _ in flags_of(Config) if flag.decides}
    # The unit of the decay steps follows from --max_epoch, so a longer run must keep it.
    without_steps = config.lr_schedule in WITHOUT_STEPS
    if without_steps or config.max_epoch:
        del chosen["decay_steps"]
    if without_steps or not config.max_epoch:
        del chosen["decay_epochs"]
    if config.lr_schedule == "cosine_one":
        chosen["max_iteration"] = config.max_iteration
    return chosen

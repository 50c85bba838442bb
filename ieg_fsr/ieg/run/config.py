"""The command line of `python -m ieg.main` as a frozen dataclass.

A flag is one field of `Config`: its name, type, help, limits and default. TensorFlow is not
imported here, so that --help and a wrong flag answer at once.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Any

from ieg.input import names
from ieg.method.schedules import SCHEDULES
from ieg.method.settings import METHODS, PseudoLoss, parse_pseudo_loss
from ieg.run.flags import Flag, add_flags, check_limits, flags_of, flags_of_file

NETWORKS = "wrn28-10, resnet29, resnet32, resnet18, resnet50, or wrn<depth>-<width> such as wrn28-2"
PSEUDO_LOSS = PseudoLoss("all", 1.0, 0.1, 2.0)
CHECKPOINT_PATH = Path(tempfile.gettempdir(), "ieg")
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
    "noise_file": "added here",
}


def _rising(text: str) -> tuple[int, ...]:
    """`160,180` as numbers."""
    try:
        values = tuple(int(part) for part in text.split(","))
    except ValueError:
        values = ()
    if not values or values[0] < 1 or values != tuple(sorted(set(values))):
        raise argparse.ArgumentTypeError(
            f"{text!r}: expected rising whole numbers from 1 on, such as 160,180"
        )
    return values


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
        Flag(
            "where the data are",
            decides=False,
            shown="$DATA_ROOT, else ieg/data if it is there, else data/ in the root",
        ),
    ] = None
    network_name: Annotated[str, Flag(NETWORKS)] = "wrn28-10"
    method: Annotated[str, Flag("training method", choices=METHODS)] = "ieg"
    mode: Annotated[
        str, Flag("train, or evaluate a checkpoint", choices=("train", "evaluation"), decides=False)
    ] = "train"
    checkpoint_path: Annotated[
        Path,
        Flag(
            "root of the run folders, which are <dataset>/<network>/<method> below it",
            decides=False,
            shown="ieg in the system's temporary folder",
        ),
    ] = CHECKPOINT_PATH
    restore_step: Annotated[
        int, Flag("resume from this checkpoint; 0: from the newest", least=0, decides=False)
    ] = 0
    max_iteration: Annotated[int, Flag("training steps", least=1, decides=False)] = 200_000
    max_epoch: Annotated[
        int | None,
        Flag("the same in epochs; decay steps are then --decay_epochs", least=1, decides=False),
    ] = None
    batch_size: Annotated[int, Flag("samples a step, of each replica", least=1)] = 100
    val_batch_size: Annotated[
        int, Flag("samples at once in evaluation; changes no result", least=1, decides=False)
    ] = 100
    eval_freq: Annotated[
        int, Flag("steps between evaluations; 500 stands for once an epoch", least=1, decides=False)
    ] = 500
    seed: Annotated[int, Flag("seed of everything", least=0, below=2**31)] = 12345
    use_ema: Annotated[bool, Flag("average the weights over steps and evaluate both")] = True
    probe_dataset_hold_ratio: Annotated[
        float,
        Flag(
            "share of the images held out as trusted samples, with clean labels; fsr has none",
            least=0,
            below=1,
        ),
    ] = 0.02
    use_imagenet_as_eval: Annotated[
        bool, Flag("webvisionmini: evaluate on ImageNet's images of the classes too", decides=False)
    ] = False

    learning_rate: Annotated[float, Flag("highest learning rate", above=0)] = 0.1
    momentum: Annotated[float, Flag("of the weights' update", least=0)] = 0.9
    lr_schedule: Annotated[
        str, Flag("cosine: with restarts, the first after an epoch", choices=SCHEDULES)
    ] = "cosine"
    cos_t_mul: Annotated[float, Flag("each cosine cycle is so much longer", least=1)] = 1.5
    cos_m_mul: Annotated[float, Flag("... and starts so much lower", above=0)] = 0.9
    decay_steps: Annotated[
        tuple[int, ...],
        Flag("comma list of steps for the other schedules", parse=_rising, shown="500"),
    ] = (500,)
    decay_epochs: Annotated[
        tuple[int, ...], Flag("the same in epochs, used with --max_epoch", parse=_rising, shown="1")
    ] = (1,)
    decay_rate: Annotated[float, Flag("factor of custom_step", least=0)] = 0.1
    warmup_epochs: Annotated[
        int, Flag("epochs in which the rate rises from 0, cosine only", least=0)
    ] = 0
    weight_decay: Annotated[float, Flag("of resnet32 and resnet18 only", least=0)] = 5e-4
    l2_weight_decay: Annotated[float, Flag("of resnet50 only", least=0)] = 4e-4
    label_smoothing: Annotated[float, Flag("supervised and fsr", least=0, below=1)] = 0.0

    meta_momentum: Annotated[
        float, Flag("share of the momentum in the look-ahead of ieg and fsr", least=0)
    ] = 0.9
    meta_stepsize: Annotated[float, Flag("step of the look-ahead, constant", above=0)] = 0.1
    grad_eps_init: Annotated[
        float, Flag("ieg: share of the noisy label before its judgement, in [0, 1]", least=0)
    ] = 0.9
    ce_factor: Annotated[float, Flag("ieg: weight of the loss on estimated labels", least=0)] = 5.0
    consistency_factor: Annotated[
        float, Flag("ieg: weight of the consistency of two augmentations", least=0)
    ] = 20.0
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
        int, Flag("fsr: samples drawn from it for a step, a multiple of the classes", least=1)
    ] = 200
    queue_beta: Annotated[float, Flag("fsr: decay of a sample's averaged margin", least=0)] = 0.9
    queue_metric: Annotated[
        str, Flag("fsr: what ranks samples; others were meaningless", choices=("margin",))
    ] = "margin"
    meta_start_epoch: Annotated[
        int, Flag("fsr: weights and pseudo labels count from this epoch on", least=0)
    ] = 20
    meta_partial_level: Annotated[float, Flag("fsr looks ahead of the classifier only: 0")] = 0.0
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
        bool, Flag("fsr: only helpful samples count (label noise); off for imbalance")
    ] = True
    moving_weight_gamma: Annotated[
        float, Flag("fsr: decay of weights averaged by class, 0 for none", least=0, below=1)
    ] = 0.0
    meta_moving_end_epoch: Annotated[
        int, Flag("fsr: epoch from which these averages stay, 0 for never", least=0)
    ] = 0

    ds_include_metadata: Annotated[
        bool, Flag("ids and true labels beside the samples; always so here")
    ] = False
    post_batch_mode_autoaug: Annotated[bool, Flag("unused, as published", decides=False)] = True
    summary_eval_to_train: Annotated[
        bool, Flag("copy the last evaluation into the training events", decides=False)
    ] = True
    verbose_finer_log: Annotated[
        bool, Flag("fsr: histograms and per-class weights in the events", decides=False)
    ] = True
    distribution_strategy: Annotated[
        str, Flag("all visible GPUs; tpu is refused", choices=("mirrored", "tpu"), decides=False)
    ] = "mirrored"
    tpu: Annotated[str | None, Flag("refused: TPUs are not supported here", decides=False)] = None
    xm_exp_id: Annotated[
        str | None, Flag("names the run folder below --checkpoint_path", decides=False)
    ] = None
    exp_path_pattern: Annotated[
        str | None,
        Flag(
            "comma list of flags whose values name the run folder: id<xm_exp_id>+flag=value+...",
            decides=False,
        ),
    ] = None
    pretrained_ckpt: Annotated[
        str | None, Flag("not implemented in the published networks; refused", decides=False)
    ] = None
    pretrained_ckpt_mode: Annotated[
        str, Flag("not implemented in the published networks", decides=False)
    ] = "imagenet"
    fix_network_features: Annotated[
        bool, Flag("not implemented in the published networks; refused", decides=False)
    ] = False
    dropout_rate: Annotated[
        float, Flag("no published network has dropout; refused unless 0", decides=False)
    ] = 0.0

    noise_file: Annotated[
        str | None,
        Flag(
            "with --dataset=file: a file of noisy labels, of any project (.npz .pt .csv .npy "
            ".json); FILE:COLUMN chooses one of several",
            decides=False,
        ),
    ] = None
    output_dir: Annotated[
        Path | None,
        Flag("the run folder itself, instead of one below --checkpoint_path", decides=False),
    ] = None
    published_layout: Annotated[
        bool, Flag("run folders without the method's name, as published", decides=False)
    ] = False
    limit_train: Annotated[
        int | None, Flag("train on that many images, evenly spread over the set", least=2)
    ] = None
    limit_test: Annotated[
        int | None,
        Flag("evaluate on that many images, evenly spread over the set", least=1, decides=False),
    ] = None
    guess_gradient: Annotated[
        str,
        Flag(
            "ieg: the look-ahead's gradient flows through the label estimate, or not",
            choices=("flow", "stop"),
        ),
    ] = "flow"
    bottleneck_relu: Annotated[
        str,
        Flag(
            "resnet29 lacks the first ReLU of its blocks (published), or has it (restored)",
            choices=("published", "restored"),
        ),
    ] = "published"
    jit_compile: Annotated[
        str, Flag("compile with XLA; auto: on a GPU", choices=("auto", "on", "off"), decides=False)
    ] = "auto"
    tf32: Annotated[
        bool,
        Flag(
            "GPUs that can: multiply with 10-bit mantissas, faster; signs of small meta gradients "
            "decide weights"
        ),
    ] = False
    mixed_precision: Annotated[
        bool, Flag("bfloat16 in the networks; logits, losses, weights stay float32")
    ] = False
    cpu_replicas: Annotated[
        int,
        Flag(
            "split the CPU into so many devices, to try several without GPUs",
            least=1,
            decides=False,
        ),
    ] = 1
    deterministic: Annotated[
        bool, Flag("only deterministic kernels on a GPU (slower); on a CPU always", decides=False)
    ] = False


# ---- from a command line to a Config


def parse(argv: Sequence[str] | None = None) -> Config:
    """The checked flags; exits with a message if something is wrong.

    Raises DatasetError for a --dataset that has no meaning.
    """
    parser = build_parser()
    given = list(sys.argv[1:] if argv is None else argv)
    from_file = flags_of_file(parser, given, OUTCOMES | NOT_TAKEN_OVER)
    values = vars(parser.parse_args([*from_file, *given]))
    del values["config"]
    config = Config(**values)
    check_limits(parser, config)
    if config.grad_eps_init > 1:
        parser.error(f"--grad_eps_init {config.grad_eps_init}: a share, in [0, 1]")
    _refuse_what_is_not_there(parser, config)
    labels_from_file = config.dataset.split("_")[0] == "file"
    if labels_from_file and not config.noise_file:
        parser.error("--dataset=file takes its labels from a file: give one with --noise_file")
    if config.noise_file and not labels_from_file:
        parser.error(
            f"--noise_file and --dataset={config.dataset} both say what the labels are: drop one, "
            "or write --dataset=file"
        )
    names.parse(config.dataset)
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


def _refuse_what_is_not_there(parser: argparse.ArgumentParser, config: Config) -> None:
    if config.distribution_strategy == "tpu" or config.tpu:
        parser.error(
            "TPUs are not supported here: leave out --distribution_strategy and --tpu to use "
            "GPUs or the CPU"
        )
    if config.pretrained_ckpt or config.fix_network_features or config.dropout_rate:
        parser.error(
            "--pretrained_ckpt, --fix_network_features and --dropout_rate do nothing in the "
            "published networks: leave them out"
        )
    if config.meta_partial_level != 0:
        parser.error(
            f"--meta_partial_level {config.meta_partial_level:g}: the published code forces 0 for "
            "fsr (the classifier alone is looked ahead), and no other method reads it: leave it out"
        )
    known = {item.name for item in fields(Config)}
    for name in (config.exp_path_pattern or "").split(","):
        if name and name not in known:
            parser.error(
                f"--exp_path_pattern names no flag {name!r}: expected flags without their dashes, "
                "such as seed,method"
            )


# ---- what follows from a Config


def recorded(config: Config) -> dict[str, Any]:
    """The settings as config.yaml and checkpoints have them: paths as text, tuples as lists."""
    return {
        name: str(value)
        if isinstance(value, Path)
        else list(value)
        if isinstance(value, tuple)
        else value
        for name, value in asdict(config).items()
    }


def run_folder(config: Config) -> Path:
    """Where the run lives. Two methods never share a folder, unless --published_layout says so."""
    if config.output_dir is not None:
        return config.output_dir
    if config.exp_path_pattern:
        values = {**recorded(config), "use_pseudo_loss": config.use_pseudo_loss}
        named = "+".join(f"{name}={values[name]}" for name in config.exp_path_pattern.split(","))
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
    without_steps = config.lr_schedule in ("cosine", "cosine_one")
    if without_steps or config.max_epoch:
        del chosen["decay_steps"]
    if without_steps or not config.max_epoch:
        del chosen["decay_epochs"]
    if config.lr_schedule == "cosine_one":
        chosen["max_iteration"] = config.max_iteration
    return chosen

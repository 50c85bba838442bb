"""The command line of `python -m ieg.main`: the published flags, ours beside them, what is refused
before data are read.
"""

import argparse
import math
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ieg.schedules import SCHEDULES

METHODS = ("ieg", "l2r", "supervised", "fsr")
NETWORKS = "wrn28-10, resnet29, resnet32, resnet18, resnet50, or wrn<depth>-<width> such as wrn28-2"
# Flags that do not decide what is computed; all others must be the same for a run to be continued.
# A longer run is the same run, but for `cosine_one`, whose rate depends on its end.
NOT_DECIDING = {
    "mode",
    "checkpoint_path",
    "output_dir",
    "published_layout",
    "restore_step",
    "max_iteration",
    "max_epoch",
    "dataset_dir",
    "noise_file",
    "eval_freq",
    "val_batch_size",
    "summary_eval_to_train",
    "verbose_finer_log",
    "xm_exp_id",
    "exp_path_pattern",
    "jit_compile",
    "limit_test",
    "use_imagenet_as_eval",
    "tpu",
    "distribution_strategy",
    "post_batch_mode_autoaug",
    "pretrained_ckpt",
    "pretrained_ckpt_mode",
    "fix_network_features",
    "dropout_rate",
    "cpu_replicas",
    "deterministic",
}
EXAMPLES = """examples:
  python -m ieg.main --dataset=digits_uniform_0.6 --network_name=wrn10-1 --method=l2r --max_iteration=400
  python -m ieg.main --dataset=cifar100_uniform_0.4 --network_name=wrn28-10 --checkpoint_path=runs
  python -m ieg.main --dataset=cifar10_asymmetric_0.4 --network_name=resnet29 --probe_dataset_hold_ratio=0.002
  python -m ieg.main --dataset=file --noise_file=noise.npz --network_name=resnet29 --method=l2r"""


class PseudoLoss(NamedTuple):
    """The numbers of --use_pseudo_loss, `type_temperature_gamma_weight`."""

    type: str
    temperature: float
    gamma: float
    weight: float


def parse_pseudo_loss(text: str) -> PseudoLoss | None:
    """`all_1_0.1_2` as numbers, None for ''. Raises ValueError that says what is wrong."""
    if not text:
        return None
    kind, *numbers = text.split("_")
    try:
        temperature, gamma, weight = (float(number) for number in numbers)
    except ValueError:
        raise ValueError(
            f"{text!r} is not type_temperature_gamma_weight, such as all_1_0.1_2"
        ) from None
    in_range = 0 < temperature < math.inf and 0 <= gamma <= 1 and 0 <= weight < math.inf
    if kind not in ("all", "partial") or not in_range:
        raise ValueError(
            f"{text!r}: the type is all or partial, temperature > 0, gamma in [0, 1], weight >= 0"
        )
    return PseudoLoss(kind, temperature, gamma, weight)


def build_parser() -> argparse.ArgumentParser:
    """Flags are absl's of the published code: --flag=value, and switches as --flag, --noflag or
    --flag=true.
    """
    parser = argparse.ArgumentParser(
        prog="python -m ieg.main",
        usage="python -m ieg.main --dataset=NAME --method=METHOD [--flag=value ...]",
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=EXAMPLES,
        description="Train IEG, L2R, FSR or plain cross-entropy on noisy labels, or evaluate "
        "what was trained.",
    )
    group = parser.add_argument_group("what to train (published flags)")
    add = group.add_argument
    add(
        "--dataset",
        default="cifar100_uniform_0.8",
        help="data and noise by name (cifar100_uniform_0.8); a wrong name lists all",
    )
    add(
        "--dataset_dir",
        type=Path,
        help="where the data are ($DATA_ROOT, else ieg/data if it is there, else data/ in the "
        "root)",
    )
    add("--network_name", default="wrn28-10", help=f"{NETWORKS} (wrn28-10)")
    add("--method", choices=METHODS, default="ieg", help="training method (ieg)")
    add(
        "--mode",
        choices=("train", "evaluation"),
        default="train",
        help="train, or evaluate a checkpoint (train)",
    )
    add(
        "--checkpoint_path",
        type=Path,
        default=Path(tempfile.gettempdir(), "ieg"),
        help="root of the run folders, which "
        "are <dataset>/<network>/<method> below it (ieg in the system's temporary folder)",
    )
    add(
        "--restore_step",
        type=int,
        default=0,
        help="continue from this checkpoint; 0: from the newest (0)",
    )
    add("--max_iteration", type=int, default=200_000, help="training steps (200000)")
    add("--max_epoch", type=int, help="the same in epochs; decay steps are then --decay_epochs")
    add("--batch_size", type=int, default=100, help="samples a step, of each replica (100)")
    add(
        "--val_batch_size",
        type=int,
        default=100,
        help="samples at once in evaluation; changes no result (100)",
    )
    add(
        "--eval_freq",
        type=int,
        default=500,
        help="steps between evaluations; 500 stands for once an epoch (500)",
    )
    add("--seed", type=int, default=12345, help="seed of everything (12345)")
    add_switch(group, "--use_ema", True, "average the weights over steps and evaluate both")
    add(
        "--probe_dataset_hold_ratio",
        type=float,
        default=0.02,
        help="share of the training images held out as trusted "
        "samples with their clean labels; fsr has none (0.02)",
    )
    add_switch(
        group,
        "--use_imagenet_as_eval",
        False,
        "webvisionmini: evaluate on ImageNet's images of the classes too",
    )

    add = parser.add_argument_group("optimizer (published flags)").add_argument
    add("--learning_rate", type=float, default=0.1, help="highest learning rate (0.1)")
    add("--momentum", type=float, default=0.9, help="of the weights' update (0.9)")
    add(
        "--lr_schedule",
        choices=SCHEDULES,
        default="cosine",
        help="cosine: with restarts, the first after an epoch (cosine)",
    )
    add("--cos_t_mul", type=float, default=1.5, help="each cosine cycle is so much longer (1.5)")
    add("--cos_m_mul", type=float, default=0.9, help="... and starts so much lower (0.9)")
    add("--decay_steps", default="500", help="comma list of steps for the other schedules (500)")
    add("--decay_epochs", default="1", help="the same in epochs, used with --max_epoch (1)")
    add("--decay_rate", type=float, default=0.1, help="factor of custom_step (0.1)")
    add(
        "--warmup_epochs",
        type=int,
        default=0,
        help="epochs in which the rate rises from 0, cosine only (0)",
    )
    add("--weight_decay", type=float, default=5e-4, help="of resnet32 and resnet18 only (0.0005)")
    add("--l2_weight_decay", type=float, default=4e-4, help="of resnet50 only (0.0004)")
    add("--label_smoothing", type=float, default=0.0, help="supervised and fsr (0)")

    group = parser.add_argument_group("re-weighting (published flags)")
    add = group.add_argument
    add(
        "--meta_momentum",
        type=float,
        default=0.9,
        help="share of the momentum in the look-ahead of ieg and fsr (0.9)",
    )
    add("--meta_stepsize", type=float, default=0.1, help="step of the look-ahead, constant (0.1)")
    add(
        "--grad_eps_init",
        type=float,
        default=0.9,
        help="ieg: share of the given label before its judgement (0.9)",
    )
    add(
        "--ce_factor",
        type=float,
        default=5.0,
        help="ieg: weight of the loss on estimated labels (5)",
    )
    add(
        "--consistency_factor",
        type=float,
        default=20.0,
        help="ieg: weight of the consistency of two views (20)",
    )
    add(
        "--aug_type",
        choices=("autoaug", "randaug", "default"),
        default="autoaug",
        help="ieg: strong view; default: a second weak one (autoaug)",
    )
    add(
        "--queue_capacity",
        type=int,
        default=2000,
        help="fsr: places of the queue, a multiple of the classes (2000)",
    )
    add(
        "--queue_bs",
        type=int,
        default=200,
        help="fsr: samples drawn from it for a step, a multiple of the classes (200)",
    )
    add(
        "--queue_beta",
        type=float,
        default=0.9,
        help="fsr: decay of a sample's averaged margin (0.9)",
    )
    add(
        "--queue_metric",
        choices=("margin",),
        default="margin",
        help="fsr: what ranks samples; others were meaningless",
    )
    add(
        "--meta_start_epoch",
        type=int,
        default=20,
        help="fsr: weights and pseudo labels count from this epoch on (20)",
    )
    add(
        "--meta_partial_level",
        type=float,
        default=0.0,
        help="fsr looks ahead of the classifier only: 0 (0)",
    )
    add_switch(group, "--use_mixup", True, "fsr: mix the images of a batch")
    add(
        "--use_pseudo_loss",
        default="all_1_0.1_2",
        help="fsr: type_temperature_gamma_weight, '' for none (all_1_0.1_2)",
    )
    add_switch(
        group,
        "--clip_meta_weight",
        True,
        "fsr: only helpful samples count (label noise); off for imbalance",
    )
    add(
        "--moving_weight_gamma",
        type=float,
        default=0.0,
        help="fsr: decay of weights averaged by class, 0 for none (0)",
    )
    add(
        "--meta_moving_end_epoch",
        type=int,
        default=0,
        help="fsr: epoch from which these averages stay, 0 for never (0)",
    )

    group = parser.add_argument_group("published flags of little or no effect")
    add = group.add_argument
    add_switch(
        group,
        "--ds_include_metadata",
        False,
        "ids and true labels beside the samples; always so here",
    )
    add_switch(group, "--post_batch_mode_autoaug", True, "unused, as published")
    add_switch(
        group, "--summary_eval_to_train", True, "copy the last evaluation into the training events"
    )
    add_switch(
        group, "--verbose_finer_log", True, "fsr: histograms and per-class weights in the events"
    )
    add(
        "--distribution_strategy",
        choices=("mirrored", "tpu"),
        default="mirrored",
        help="all visible GPUs (mirrored); tpu is refused",
    )
    add("--tpu", help="refused: TPUs are not supported here")
    add("--xm_exp_id", help="names the run folder below --checkpoint_path")
    add(
        "--exp_path_pattern",
        help="comma list of flags whose values name the run folder: id<xm_exp_id>+flag=value+...",
    )
    for flag, default in (("--pretrained_ckpt", None), ("--pretrained_ckpt_mode", "imagenet")):
        add(flag, default=default, help="not implemented in the published networks; refused")
    add_switch(
        group, "--fix_network_features", False, "not implemented in the published networks; refused"
    )
    add(
        "--dropout_rate",
        type=float,
        default=0.0,
        help="no published network has dropout; refused unless 0",
    )

    group = parser.add_argument_group("added here")
    add = group.add_argument
    add(
        "--noise_file",
        help="with --dataset=file: noisy labels from a file, of any project: .npz .pt .csv .npy "
        ".json; "
        "FILE:COLUMN chooses one of several",
    )
    add(
        "--output_dir",
        type=Path,
        help="the run folder itself, instead of one below --checkpoint_path",
    )
    add_switch(
        group, "--published_layout", False, "run folders without the method's name, as published"
    )
    add("--limit_train", type=int, help="train on that many images, evenly spread over the set")
    add("--limit_test", type=int, help="evaluate on that many images, evenly spread over the set")
    add(
        "--guess_gradient",
        choices=("flow", "stop"),
        default="flow",
        help="ieg: the look-ahead's gradient flows through "
        "the label estimate (flow, as published), or not (stop)",
    )
    add(
        "--bottleneck_relu",
        choices=("published", "restored"),
        default="published",
        help="resnet29 lacks the first ReLU of its blocks (published), or has it (restored)",
    )
    add(
        "--jit_compile",
        choices=("auto", "on", "off"),
        default="auto",
        help="compile with XLA; auto: on a GPU",
    )
    add_switch(
        group,
        "--tf32",
        False,
        "GPUs that can: multiply with 10-bit mantissas, faster; signs of small meta gradients "
        "decide weights",
    )
    add_switch(
        group,
        "--mixed_precision",
        False,
        "bfloat16 in the networks; logits, losses, weights stay float32",
    )
    add(
        "--cpu_replicas",
        type=int,
        default=1,
        help="split the CPU into so many devices, to try several without GPUs (1)",
    )
    add_switch(
        group,
        "--deterministic",
        False,
        "only deterministic kernels on a GPU (slower); on a CPU always",
    )
    return parser


def add_switch(group: Any, flag: str, default: bool, text: str) -> None:
    """A switch with absl's spellings: --flag, --noflag, --flag=true, --flag=false."""
    help_ = f"{text} ({'on' if default else 'off'})"
    group.add_argument(
        flag, nargs="?", const=True, default=default, type=_truth, metavar="BOOL", help=help_
    )
    group.add_argument(
        f"--no{flag[2:]}", dest=flag[2:], action="store_false", help=argparse.SUPPRESS
    )


def _truth(text: str) -> bool:
    values = {
        "true": True,
        "t": True,
        "1": True,
        "yes": True,
        "false": False,
        "f": False,
        "0": False,
        "no": False,
    }
    if text.lower() not in values:
        raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false")
    return values[text.lower()]


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Flags as a namespace, every combination checked; exits with a message if something is wrong."""
    parser = build_parser()
    args = parser.parse_args(argv)
    for name in ("decay_steps", "decay_epochs"):
        setattr(args, name, _rising(parser, name, getattr(args, name)))
    _check_numbers(parser, args)
    _refuse_what_is_not_there(parser, args)
    if args.dataset.split("_")[0] == "file" and not args.noise_file:
        parser.error("--dataset=file takes its labels from a file: give one with --noise_file")
    if args.noise_file and args.dataset.split("_")[0] != "file":
        parser.error(
            f"--noise_file and --dataset={args.dataset} both say what the labels are: drop one, "
            "or write --dataset=file"
        )
    try:
        args.use_pseudo_loss = parse_pseudo_loss(args.use_pseudo_loss)
    except ValueError as error:
        parser.error(f"--use_pseudo_loss {error}")
    # DEVIATION(ieg_fsr): what fsr forces is set before the data are read; the original sets it too
    # late, so its users must give --ds_include_metadata and --probe_dataset_hold_ratio=0
    # themselves.
    if args.method == "fsr":
        args.probe_dataset_hold_ratio, args.ds_include_metadata, args.meta_partial_level = (
            0.0,
            True,
            0.0,
        )
    if args.max_epoch is not None:
        args.max_iteration = None  # known when the data are
    return args


def _rising(parser: argparse.ArgumentParser, name: str, text: str) -> list[int]:
    try:
        values = [int(part) for part in text.split(",")]
    except ValueError:
        values = []
    if not values or values[0] < 1 or values != sorted(set(values)):
        parser.error(f"--{name} {text}: expected rising whole numbers from 1 on, such as 160,180")
    return values


def _check_numbers(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    for name, value in vars(args).items():
        if isinstance(value, float) and not math.isfinite(value):
            parser.error(f"--{name} {value}: must be a finite number")
    at_least = {
        "batch_size": 1,
        "val_batch_size": 1,
        "max_iteration": 1,
        "max_epoch": 1,
        "eval_freq": 1,
        "seed": 0,
        "restore_step": 0,
        "warmup_epochs": 0,
        "meta_start_epoch": 0,
        "meta_moving_end_epoch": 0,
        "queue_capacity": 1,
        "queue_bs": 1,
        "queue_beta": 0,
        "momentum": 0,
        "meta_momentum": 0,
        "ce_factor": 0,
        "consistency_factor": 0,
        "weight_decay": 0,
        "l2_weight_decay": 0,
        "limit_train": 2,
        "limit_test": 1,
        "cpu_replicas": 1,
        "cos_t_mul": 1,
        "decay_rate": 0,
    }
    for name, low in at_least.items():
        value = getattr(args, name)
        if value is not None and value < low:
            parser.error(f"--{name} {value}: must be at least {low}")
    for name in ("learning_rate", "meta_stepsize", "cos_m_mul"):
        if not getattr(args, name) > 0:
            parser.error(f"--{name} {getattr(args, name)}: must be greater than 0")
    for name in ("probe_dataset_hold_ratio", "label_smoothing", "moving_weight_gamma"):
        if not 0 <= getattr(args, name) < 1:
            parser.error(f"--{name} {getattr(args, name)}: lies in [0, 1)")
    if not 0 <= args.grad_eps_init <= 1:
        parser.error(f"--grad_eps_init {args.grad_eps_init}: a share, in [0, 1]")
    if args.seed >= 2**31:
        parser.error(f"--seed {args.seed}: must be below {2**31}")


def _refuse_what_is_not_there(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    if args.distribution_strategy == "tpu" or args.tpu:
        parser.error(
            "TPUs are not supported here: leave out --distribution_strategy and --tpu to use "
            "GPUs or the CPU"
        )
    if args.pretrained_ckpt or args.fix_network_features or args.dropout_rate:
        parser.error(
            "--pretrained_ckpt, --fix_network_features and --dropout_rate do nothing in the "
            "published networks: "
            "leave them out"
        )
    if args.meta_partial_level != 0:
        parser.error(
            f"--meta_partial_level {args.meta_partial_level:g}: the published code forces 0 for "
            "fsr (the classifier "
            "alone is looked ahead), and no other method reads it: leave it out"
        )
    if args.exp_path_pattern and (
        unknown := [name for name in args.exp_path_pattern.split(",") if name not in vars(args)]
    ):
        parser.error(
            f"--exp_path_pattern names no flag {unknown[0]!r}: expected flags without their "
            "dashes, such as seed,method"
        )


def run_folder(args: argparse.Namespace) -> Path:
    """Where the run lives. Two methods never share a folder, unless --published_layout says so."""
    if args.output_dir is not None:
        return args.output_dir
    if args.exp_path_pattern:
        fields = "+".join(
            f"{name}={getattr(args, name)}" for name in args.exp_path_pattern.split(",")
        )
        return args.checkpoint_path / f"id{args.xm_exp_id or ''}+{fields}".replace(os.sep, "_")
    if args.xm_exp_id:
        return args.checkpoint_path / args.xm_exp_id
    # DEVIATION(ieg_fsr): the run folder contains the method's name; in the original, methods
    # overwrite one another.
    folder = args.checkpoint_path / args.dataset / args.network_name
    return folder if args.published_layout else folder / args.method


def deciding(args: argparse.Namespace) -> dict[str, Any]:
    """The flags that decide every number of a run."""
    chosen = {name: value for name, value in vars(args).items() if name not in NOT_DECIDING}
    # The unit of the decay steps follows from --max_epoch, so a longer run must go on with that.
    unused = "decay_steps" if args.max_epoch else "decay_epochs"
    if args.lr_schedule in ("cosine", "cosine_one"):
        del chosen["decay_steps"], chosen["decay_epochs"]
    else:
        del chosen[unused]
    return chosen | (
        {"max_iteration": args.max_iteration} if args.lr_schedule == "cosine_one" else {}
    )

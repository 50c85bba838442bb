"""The command line of instanceGM.py: the published flags, ours beside them, and the presets that
fill what is not given.
"""

import argparse
import difflib
import importlib.util
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch


class UsageError(ValueError):
    """Flags that do not fit this machine or this data."""


DATASETS = ("cifar10", "cifar100", "digits", "folder")
DEFAULTS = {
    "batch_size": 64,
    "lr": 0.02,
    "vae_lr": 0.001,
    "alpha": 4.0,
    "T": 0.5,
    "r": 0.5,
    "seed": 123,
    "gpuid": 0,
    "z_dim": 25,
    "dataset": "cifar10",
    "amp": "auto",
}
PRESETS: dict[str, dict[str, float]] = {
    "cifar10": {"warm_up": 10, "num_epochs": 300, "lr_drop": 150, "width": 64},
    "cifar100": {"warm_up": 30, "num_epochs": 300, "lr_drop": 150, "width": 64},
    "folder": {"warm_up": 10, "num_epochs": 300, "lr_drop": 150, "width": 64},
    "digits": {
        "warm_up": 10,
        "num_epochs": 24,
        "lr_drop": 18,
        "width": 8,
    },  # three minutes on two cores
}
# DEVIATION(instancegm): lambda_u and p_threshold follow DivideMix for symmetric and asymmetric
# noise; the original leaves them at 25 and 0.5 unless told otherwise. DivideMix (ICLR 2020,
# appendix) tuned lambda_u per rate for symmetric noise and sets 0 for asymmetric noise; the first
# row whose bound the rate does not exceed counts. Instance-dependent noise is InstanceGM's own
# case: 25 at every rate.
SYMMETRIC_LAMBDA_U = {
    "cifar100": ((0.35, 25.0), (1.0, 150.0)),
    "default": ((0.35, 0.0), (0.85, 25.0), (1.0, 50.0)),
}
FAR_END_OF_RATES = (
    0.9  # at this rate DivideMix raises the threshold and averages losses over five epochs
)


def preset(dataset: str, noise_mode: str, rate: float) -> dict[str, float]:
    """Values for the flags that were not given; see PRESETS and SYMMETRIC_LAMBDA_U."""
    lambda_u = 25.0
    if noise_mode == "asym":
        lambda_u = 0.0
    elif noise_mode == "sym":
        bounds = SYMMETRIC_LAMBDA_U.get(dataset, SYMMETRIC_LAMBDA_U["default"])
        lambda_u = next(value for bound, value in bounds if rate <= bound)
    p_threshold = 0.6 if noise_mode == "sym" and rate >= FAR_END_OF_RATES else 0.5
    return {**PRESETS[dataset], "lambda_u": lambda_u, "p_threshold": p_threshold}


def build_parser() -> tuple[argparse.ArgumentParser, dict[str, str], dict[str, str]]:
    """The parser, and two tables flag -> destination: the published flags and ours.

    Published flags default to None, so that a given one can be told from one that a preset fills.
    """
    parser = argparse.ArgumentParser(
        description="InstanceGM (Garg et al., WACV 2023): train on instance-dependent label noise.",
        epilog="Example: python instanceGM.py --dataset digits --r 0.4",
    )
    published: dict[str, str] = {}
    added: dict[str, str] = {}

    def group(title: str, table: dict[str, str]) -> Callable[..., None]:
        arguments = parser.add_argument_group(title)

        def add(*names: str, **settings: Any) -> None:
            action = arguments.add_argument(*names, **settings)
            table.update(dict.fromkeys(action.option_strings, action.dest))

        return add

    add = group("the paper's flags", published)
    add(
        "--dataset",
        choices=DATASETS,
        help="what to train on (cifar10); folder: your own images or .npz",
    )
    add(
        "--data_path",
        type=Path,
        help="where the data is: its folder, a folder above it, or an .npz (./cifar-10, ...)",
    )
    # DEVIATION(instancegm): -r sets the noise rate; the original drops it unseen and trains at 0.5.
    add("--r", "-r", type=float, help="noise rate in [0, 1] (0.5)")
    add(
        "--noise_mode",
        choices=("instance", "sym", "asym", "none"),
        help="noise to put on the labels: instance-dependent (PDN), symmetric or asymmetric as "
        "in DivideMix, or none: "
        "the labels are noisy already (instance; folder: none)",
    )
    add(
        "--num_epochs",
        type=int,
        help="last epoch; counting starts at 0, so 300 means 301 epochs (300; digits: 24)",
    )
    add(
        "--batch_size",
        type=int,
        help="labelled and unlabelled images a step; warm-up and VAE use twice as many (64)",
    )
    add("--lr", "--learning_rate", type=float, help="SGD learning rate of the classifiers (0.02)")
    add(
        "--vae_lr", "--vae_learning_rate", type=float, help="Adam learning rate of the VAEs (0.001)"
    )
    add("--lambda_u", type=float, help="weight of the unlabelled loss after its ramp (25)")
    add(
        "--p_threshold",
        type=float,
        help="clean probability above which a sample counts as labelled (0.5)",
    )
    add("--alpha", type=float, help="Beta parameter of mixup (4)")
    add("--T", type=float, help="sharpening temperature in (0, 1] (0.5)")
    add("--z_dim", type=int, help="size of the VAE's latent code (25)")
    add(
        "--num_class", type=int, help="number of classes; taken from the data, and checked if given"
    )
    add(
        "--seed",
        type=int,
        help="seed of everything but the generated noise, whose seed is always 123 (123)",
    )
    add("--gpuid", type=int, help="which GPU, where there are several (0)")
    add("--id", default="", help="a word for the name of the run folder")

    add = group("added here", added)
    add(
        "--noise_file",
        help="noisy labels from a file, of any project: .npz .pt .csv .npy .json; FILE:COLUMN "
        "chooses one of several",
    )
    add(
        "--mode",
        choices=("instancegm", "ce"),
        default="instancegm",
        help="instancegm, or ce: one network, plain cross-entropy, the baseline",
    )
    add(
        "--no-vae",
        dest="no_vae",
        action="store_true",
        help="leave out the generative part: DivideMix",
    )
    add(
        "--numerics",
        choices=("original", "paper"),
        default="original",
        help="original: VAE arithmetic of the published code; paper: as the formulas intend",
    )
    add(
        "--guess_eval",
        action="store_true",
        help="guess and refine labels in eval mode (the published code does so in train mode)",
    )
    add("--warm_up", type=int, help="epochs of plain cross-entropy at first (10; cifar100: 30)")
    add(
        "--lr_drop",
        type=int,
        help="epoch from which the learning rate is a tenth (150; digits: 18)",
    )
    add("--width", type=int, help="channels of the network's first stage (64; digits: 8)")
    add("--limit_train", type=int, help="train on that many images, evenly spread over the set")
    add("--limit_test", type=int, help="test on that many images, evenly spread over the set")
    add("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps (auto)")
    add(
        "--amp",
        choices=("auto", "off", "bf16"),
        help="bfloat16 autocast; auto: where the hardware has it (auto)",
    )
    add(
        "--output_dir",
        type=Path,
        help="the run folder (runs/<dataset>_<rate>_<noise>_<method>_seed<seed>)",
    )
    add("--resume", action="store_true", help="continue the run in the run folder, if there is one")
    add("--deterministic", action="store_true", help="only deterministic kernels (slower on a GPU)")
    add(
        "--wandb",
        action="store_true",
        help="log to Weights & Biases; offline unless WANDB_MODE says other",
    )
    add(
        "--evaluate",
        type=Path,
        metavar="RUN",
        help="score the checkpoints of a run folder, or one checkpoint file, and stop",
    )
    return parser, published, added


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Flags as a namespace, presets filled in and every value checked; exits with a message if
    something is wrong.
    """
    parser, published, added = build_parser()
    args, unknown = parser.parse_known_args(_expand_abbreviations(argv, published, added))
    for word in (
        unknown
    ):  # the published scripts ignore unknown flags in silence; old command lines must go on to run
        close = difflib.get_close_matches(word.split("=")[0], [*published, *added], n=1)
        hint = f" (did you mean {close[0]}?)" if close else ""
        print(
            f"warning: ignored {word!r}, which is not a flag of this script{hint}", file=sys.stderr
        )

    args.given = {name for name, value in vars(args).items() if value is not None}
    for name, value in DEFAULTS.items():
        _fill(args, name, value)
    own_labels = args.dataset == "folder" and not {"r", "noise_file"} & args.given
    _fill(args, "noise_mode", "none" if own_labels else "instance")
    if args.noise_mode == "none":
        if "r" in args.given and args.r != 0:
            parser.error(f"--noise_mode none puts no noise on the labels: leave out --r {args.r}")
        args.r = 0.0
    _check_rate(parser, args.r)
    fill_presets(args)
    _check(parser, args)
    return args


def fill_presets(args: argparse.Namespace) -> None:
    """Sets the flags that were not given to the preset of the dataset, the kind of noise and its
    rate.
    """
    for name, value in preset(args.dataset, args.noise_mode, args.r).items():
        if name not in args.given:
            setattr(args, name, value)


def _fill(args: argparse.Namespace, name: str, value: object) -> None:
    if getattr(args, name) is None:
        setattr(args, name, value)


def _expand_abbreviations(
    argv: Sequence[str], published: dict[str, str], added: dict[str, str]
) -> list[str]:
    """Published flags may be abbreviated, as ever; a flag added here must not make such an
    abbreviation ambiguous.
    """
    words = []
    for word in argv:
        flag, equals, value = word.partition("=")
        if flag.startswith("--") and flag not in {*published, *added}:
            meant = [name for name in published if name.startswith(flag)]
            if len({published[name] for name in meant}) == 1:
                flag = meant[0]
        words.append(flag + equals + value)
    return words


def _check_rate(parser: argparse.ArgumentParser, rate: float) -> None:
    if not 0.0 <= rate <= 1.0:
        parser.error(f"--r {rate}: a noise rate lies in [0, 1]; 20 percent is --r 0.2")


def _check(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Refuses values and combinations that cannot work, before any data is read."""
    at_least = {
        "num_epochs": 0,
        "batch_size": 1,
        "z_dim": 1,
        "warm_up": 0,
        "lr_drop": 0,
        "width": 1,
        "limit_train": 2,
        "limit_test": 1,
        "gpuid": 0,
        "lambda_u": 0,
        "seed": 0,
    }
    for name, low in at_least.items():
        value = getattr(args, name)
        if value is not None and not value >= low:
            parser.error(f"--{name} {value}: must be at least {low}")
    for name in ("lr", "vae_lr", "alpha", "T"):
        if not getattr(args, name) > 0:
            parser.error(f"--{name} {getattr(args, name)}: must be greater than 0")
    if args.T > 1:
        parser.error(f"--T {args.T}: a sharpening temperature lies in (0, 1]")
    if not 0 <= args.p_threshold < 1:
        parser.error(f"--p_threshold {args.p_threshold}: a probability in [0, 1)")
    if args.mode == "ce":
        idle = [name for name in ("no_vae", "guess_eval") if getattr(args, name)]
        if idle:
            parser.error(
                f"--mode ce has no co-divide phase: leave out --{idle[0].replace('_', '-')}"
            )
    if args.no_vae and args.numerics == "paper":
        parser.error("--numerics concerns the VAE, and --no-vae leaves it out: drop one of them")
    if args.noise_file and "noise_mode" in args.given:
        parser.error(
            "--noise_file and --noise_mode both say where the noise comes from: drop one of them"
        )
    if args.wandb and importlib.util.find_spec("wandb") is None:
        parser.error(
            "--wandb needs the package wandb, which is not installed: `pip install wandb`, or "
            "with uv "
            "`uv pip install --python .venv/instancegm wandb`"
        )
    if args.dataset == "folder" and args.data_path is None and not args.evaluate:
        parser.error(
            "--dataset folder needs --data_path: a folder with train/<class>/ and "
            "test/<class>/, or an .npz"
        )
    if args.dataset not in ("cifar10", "cifar100") and args.noise_mode == "asym":
        parser.error(
            "--noise_mode asym knows the class pairs of cifar10 and cifar100 only; for another "
            "set make a noise "
            "file with `python -m shared noise make` and give it with --noise_file"
        )


def choose_device(name: str, gpuid: int) -> torch.device:
    """The device that `--device` names; auto is the first of cuda, mps, cpu that is there.

    Raises UsageError.
    """
    if name == "auto":
        kind = (
            "cuda"
            if torch.cuda.is_available()
            else "mps"
            if torch.backends.mps.is_available()
            else "cpu"
        )
        name = f"cuda:{gpuid}" if kind == "cuda" else kind
    elif name == "cuda":
        name = f"cuda:{gpuid}"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(
            f"--device {name}: choose auto, cpu, cuda, cuda:<number> or mps"
        ) from error
    count = {
        "cuda": torch.cuda.device_count(),
        "mps": int(torch.backends.mps.is_available()),
        "cpu": 1,
    }
    if (device.index or 0) >= count.get(device.type, 0):
        raise UsageError(
            f"--device {name}: this machine has {count.get(device.type, 0)} devices of that "
            "kind; leave "
            "--device and --gpuid out to take what it has"
        )
    return device


def use_bfloat16(amp: str, device: torch.device) -> bool:
    """What `--amp` comes to on this device; auto asks whether the hardware multiplies bfloat16
    itself.
    """
    # DEVIATION(instancegm): bfloat16 where the hardware has it; the original is float32 throughout.
    # `--amp off` is too.
    if amp != "auto":
        return amp == "bf16"
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu" and hasattr(
        torch.cpu, "get_capabilities"
    ):  # missing from older versions
        capabilities = torch.cpu.get_capabilities()
        return bool(capabilities.get("amx_bf16") or capabilities.get("avx512_bf16"))
    return False


def autocast(amp: str, device: torch.device) -> Callable[[], torch.autocast]:
    """What the networks' forward passes run in: bfloat16 autocast, or nothing."""
    return partial(torch.autocast, device.type, torch.bfloat16, enabled=use_bfloat16(amp, device))


def data_path(args: argparse.Namespace) -> Path | None:
    """Where to look for the data: --data_path, else $DATA_ROOT, else the published ./cifar-10 if it
    is there.
    """
    if args.data_path is not None or "DATA_ROOT" in os.environ:
        return args.data_path
    published = Path(args.dataset.replace("cifar", "cifar-"))
    return published if published.is_dir() else None

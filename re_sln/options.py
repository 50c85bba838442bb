"""The command lines of train_cifar.py, train_real.py and tune.py: the published flags, ours beside
them, what is refused.
"""

import argparse
import importlib.util
import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch

from shared.noise import open_set


class UsageError(ValueError):
    """Flags that do not fit this machine or this data."""


NOISE_MODES = ("sym", "asym", "openset", "dependent")
METHODS = ("ce", "sln", "sln_mo", "sln_mo_lc")
PAPER = {
    "batch_size": 128,
    "n_epochs": 300,
    "lr": 0.001,
    "lc_n_epoch": 250,
    "ema_decay": 0.999,
    "depth": 28,
    "width": 2,
}
PRESETS: dict[str, dict[str, float]] = {
    "cifar10": PAPER,
    "cifar100": PAPER,
    "folder": PAPER,
    "animal-10n": PAPER,
    # The authors' own recipe (they train ResNet-50, so depth and width do not matter).
    "clothing1m": {**PAPER, "batch_size": 32, "n_epochs": 10, "lc_n_epoch": 2},
    # Found by trying: cross-entropy memorises the wrong labels within these epochs, as it does on
    # CIFAR-10 within 300.
    "digits": {
        **PAPER,
        "batch_size": 64,
        "n_epochs": 55,
        "lr": 0.05,
        "lc_n_epoch": 44,
        "ema_decay": 0.99,
        "depth": 10,
        "width": 1,
    },
}
# Of the authors' README and re-sln's runs; elsewhere 0.5.
SIGMAS = {
    ("cifar10", "sym"): 1.0,
    ("cifar100", "sym"): 0.2,
    ("cifar100", "asym"): 0.2,
    ("cifar100", "dependent"): 0.1,
    ("clothing1m", None): 0.2,
}
METHOD_TABLE = """the methods are
  ce         --sigma 0                 --lc_n_epoch -1
  sln        --sigma above 0           --lc_n_epoch -1
  sln_mo     --sigma above 0   --mo    --lc_n_epoch -1
  sln_mo_lc  --sigma above 0   --mo    --lc_n_epoch between 1 and n_epochs - 1"""


def build_parser(script: str) -> argparse.ArgumentParser:
    """The parser of `train_cifar`, `train_real` or `tune`; flags that a preset may fill default to
    None.
    """
    summary = {
        "train_cifar": (
            "Train CE, SLN, SLN+MO or SLN+MO+LC on noisy labels (Chen et al., ICLR 2021)."
        ),
        "train_real": "The same on labels that are noisy by themselves: Animal-10N and Clothing1M.",
        "tune": (
            "Choose sigma among 0.1, 0.2, 0.5, 1.0 by the accuracy on held-out noisy "
            "labels, with Ray Tune."
        ),
    }[script]
    example = {
        "train_cifar": (
            "python train_cifar.py --dataset_name cifar10 --noise_mode sym --p 0.4 "
            "--method sln_mo_lc"
        ),
        "train_real": "python train_real.py --dataset_name animal-10n --method sln_mo_lc",
        "tune": "python tune.py --dataset_name digits --noise_mode sym --p 0.4 --n_epochs 20",
    }[script]
    parser = argparse.ArgumentParser(
        prog=f"{script}.py",
        allow_abbrev=False,
        description=summary,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=f"{METHOD_TABLE}\n\nexample: {example}",
    )
    datasets = (
        ["animal-10n", "clothing1m"]
        if script == "train_real"
        else ["cifar10", "cifar100", "digits", "folder"]
    )
    add = parser.add_argument_group("the original's flags").add_argument
    add(
        "--dataset_name",
        choices=datasets,
        required=True,
        help="what to train on; folder: your own images or .npz"
        if script != "train_real"
        else "what to train on",
    )
    add("--batch_size", type=int, help="images a step (128; digits: 64, clothing1m: 32)")
    add("--n_epochs", type=int, help="epochs, counted from 1 (300; digits: 55, clothing1m: 10)")
    add(
        "--lr",
        type=float,
        help="learning rate, constant (0.001; digits: 0.05); clothing1m: a tenth after epoch 5",
    )
    if script != "train_real":
        add(
            "--noise_mode",
            choices=NOISE_MODES,
            help="kind of noise; not needed with --noise_file, or for folder, whose "
            "labels are then taken as they are",
        )
        add(
            "--p",
            type=float,
            help="noise rate in [0, 1]; the labels of this very rate are read (0.4)",
        )
        add(
            "--custom_noise",
            action="store_true",
            help="read <mode><p>_custom.csv instead of the paper's <mode><p>.csv",
        )
        add(
            "--make_new_custom_noise",
            action="store_true",
            help="make that file anew, from --seed, as re-sln did",
        )
    if script != "tune":
        add(
            "--sigma",
            type=float,
            help="standard deviation of the noise on the targets; 0: cross-entropy",
        )
    add("--mo", action="store_true", help="report the momentum model, an average of the weights")
    add(
        "--lc_n_epoch",
        type=int,
        help="first epoch of label correction, -1: none (with --mo: 250, digits 44, clothing1m 2; "
        "without: -1)",
    )
    add("--seed", type=int, default=0, help="seed of everything (0; the README's commands: 123)")
    if script == "tune":
        add(
            "--val_size",
            type=float,
            default=0.1,
            help="share of the training set held out to choose by (0.1)",
        )

    add = parser.add_argument_group("added here").add_argument
    if script != "tune":
        add(
            "--method",
            choices=METHODS,
            help="sets --sigma, --mo and --lc_n_epoch as in the paper, unless given",
        )
    if script != "train_real":
        add(
            "--noise_file",
            help="noisy labels from a file, of any project: .npz .pt .csv .npy .json; FILE:COLUMN "
            "chooses one of several",
        )
    add(
        "--data_path",
        type=Path,
        help="where the data are ($DATA_ROOT, else data/ beside this script or in the root)",
    )
    add(
        "--lc_form",
        choices=("recursive", "fixed"),
        help="label correction scores the targets it "
        "corrected last (recursive, as published), or always the given labels (fixed)",
    )
    add(
        "--lc_images",
        choices=("augmented", "plain"),
        default="augmented",
        help="label correction scores the images as "
        "training shows them (augmented, as published), or as testing does (plain)",
    )
    add("--ema_decay", type=float, help="alpha of the momentum model (0.999; digits: 0.99)")
    add("--depth", type=int, help="layers of the wide residual network, 6 n + 4 (28; digits: 10)")
    add("--width", type=int, help="its widening factor (2; digits: 1)")
    if script == "train_real":
        add(
            "--pretrained",
            type=Path,
            help="ImageNet weights of clothing1m's ResNet-50 (downloads torchvision's)",
        )
        add("--num_workers", type=int, help="processes that decode clothing1m's images (8)")
    add("--limit_train", type=int, help="train on that many images, evenly spread over the set")
    add("--limit_test", type=int, help="test on that many images, evenly spread over the set")
    add("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps (auto)")
    add(
        "--amp",
        choices=("auto", "off", "bf16"),
        default="auto",
        help="bfloat16 autocast; auto: where the hardware has it",
    )
    add(
        "--compile",
        action="store_true",
        help="torch.compile the network (no gain on a CPU; on a GPU not measured yet)",
    )
    add(
        "--output_dir",
        type=Path,
        help="the run folder (runs/<exp_id>)"
        if script != "tune"
        else "the folder of the search (hp/hp_<time>)",
    )
    add(
        "--resume",
        action="store_true",
        help="continue the run in --output_dir, or the newest one with these settings",
    )
    add("--deterministic", action="store_true", help="only deterministic kernels (slower on a GPU)")
    if script != "tune":
        add(
            "--wandb",
            action="store_true",
            help="log to Weights & Biases; offline unless WANDB_MODE says other",
        )
    return parser


def parse(
    script: str, argv: Sequence[str] | None, parser: argparse.ArgumentParser | None = None
) -> argparse.Namespace:
    """Flags as a namespace, presets filled in and every combination checked; exits with a message
    if something is wrong.
    """
    parser = parser or build_parser(script)
    args = parser.parse_args(argv)
    for name, absent in (
        ("noise_mode", None),
        ("p", None),
        ("custom_noise", None),
        ("make_new_custom_noise", None),
        ("noise_file", None),
        ("method", None),
        ("sigma", None),
        ("pretrained", None),
        ("num_workers", 0),
        ("wandb", False),
    ):
        vars(args).setdefault(name, absent)
    if script == "train_real":
        _refuse_idle(parser, args)
    else:
        check_noise(parser, args)
    if script == "tune":
        args.sigma = 0.5  # any of the grid; each trial has its own
    _fill(parser, args)
    _check_numbers(parser, args)
    if problem := method_problem(args):
        parser.error(problem)
    if args.wandb and importlib.util.find_spec("wandb") is None:
        parser.error(
            "--wandb needs the package wandb, which is not installed: `pip install wandb`, or "
            "with uv "
            "`uv pip install --python .venv/re_sln wandb`"
        )
    return args


def _refuse_idle(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Flags of the other dataset of train_real.py would be ignored in silence."""
    idle = {"animal-10n": ("pretrained", "num_workers"), "clothing1m": ("depth", "width")}[
        args.dataset_name
    ]
    given = [name for name in idle if getattr(args, name) is not None]
    if given:
        parser.error(f"--{given[0]} does nothing for {args.dataset_name}: leave it out")
    args.num_workers = 8 if args.num_workers is None else args.num_workers


def check_noise(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Refuses kinds of noise that do not exist, before any data is read."""
    dataset, mode = args.dataset_name, args.noise_mode
    if args.noise_file and (mode or args.custom_noise or args.make_new_custom_noise):
        parser.error(
            "--noise_file and --noise_mode both say where the noise comes from: drop one of them"
        )
    if dataset == "folder" and args.data_path is None:
        parser.error(
            "--dataset_name folder needs --data_path: a folder with train/<class>/ and "
            "test/<class>/, or an .npz"
        )
    if mode is None and not args.noise_file:
        if dataset != "folder":
            parser.error(
                f"--noise_mode is missing: choose one of {', '.join(_modes(dataset))}, or give "
                "a --noise_file"
            )
        if args.p is not None:
            parser.error(
                f"--p {args.p} says how much noise, but not which: add --noise_mode, or leave "
                "it out for labels "
                "that are noisy already"
            )
    elif mode is not None and mode not in _modes(dataset):
        parser.error(
            f"--noise_mode {mode} does not exist for {dataset}: choose one of "
            f"{', '.join(_modes(dataset))}, or "
            "give a --noise_file"
        )
    if mode is not None and args.p is None:
        args.p = 0.4
    if args.make_new_custom_noise and not args.custom_noise:
        parser.error(
            "--make_new_custom_noise makes the noise that --custom_noise trains on: give both"
        )
    if mode == "dependent" and args.custom_noise:
        parser.error(
            "--custom_noise exists for sym, asym and openset; for dependent noise leave it out "
            "(the paper's "
            "file), or make some with make_dependent_noise.py and give it with --noise_file"
        )
    if mode == "openset" and not args.custom_noise:
        parser.error(
            "the paper's openset noise was never published: add --custom_noise (made from "
            "--seed), or choose "
            "sym, asym or dependent"
        )
    if args.custom_noise and dataset in ("digits", "folder"):
        parser.error(
            f"--custom_noise names a file of CIFAR; for {dataset} --noise_mode makes the "
            "labels: leave it out"
        )
    if args.p is not None and not 0.0 <= args.p <= 1.0:
        parser.error(f"--p {args.p}: a noise rate lies in [0, 1]; 40 percent is --p 0.4")


def _modes(dataset: str) -> tuple[str, ...]:
    return {"cifar10": NOISE_MODES, "cifar100": ("sym", "asym", "dependent")}.get(
        dataset, ("sym", "asym")
    )


def _fill(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Sets what was not given: by --method, else by the preset of the dataset."""
    preset = PRESETS[args.dataset_name]
    for name in ("batch_size", "n_epochs", "lr", "ema_decay", "depth", "width"):
        if getattr(args, name) is None:
            setattr(args, name, preset[name])
    if (
        args.lc_form is None
    ):  # Clothing1M's authors build the set anew in every epoch, with nothing to recur to
        args.lc_form = "fixed" if args.dataset_name == "clothing1m" else "recursive"
    if args.method is not None:
        paper_sigma = 0.0 if args.method == "ce" else sigma_for(args.dataset_name, args.noise_mode)
        args.sigma = paper_sigma if args.sigma is None else args.sigma
        args.mo = args.mo or "mo" in args.method
        if args.lc_n_epoch is None and not args.method.endswith("lc"):
            args.lc_n_epoch = -1
    if args.sigma is None:
        parser.error(
            "--sigma is missing: the standard deviation of the noise on the targets, 0 for "
            "cross-entropy; or "
            f"give --method ({', '.join(METHODS)})"
        )
    if args.lc_n_epoch is None:
        args.lc_n_epoch = preset["lc_n_epoch"] if args.mo else -1


def _check_numbers(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    at_least = {
        "batch_size": 1,
        "n_epochs": 1,
        "sigma": 0,
        "seed": 0,
        "width": 1,
        "limit_train": 2,
        "limit_test": 1,
        "num_workers": 0,
    }
    for name, low in at_least.items():
        value = getattr(args, name)
        if value is not None and not value >= low:
            parser.error(f"--{name} {value}: must be at least {low}")
    if (
        args.seed >= 2**32 - open_set.DONOR_SEED_OFFSET
    ):  # what legacy numpy takes, and open-set noise adds to it
        parser.error(f"--seed {args.seed}: must be below {2**32 - open_set.DONOR_SEED_OFFSET}")
    if not args.lr > 0:
        parser.error(f"--lr {args.lr}: must be greater than 0")
    if not 0 <= args.ema_decay < 1:
        parser.error(f"--ema_decay {args.ema_decay}: lies in [0, 1); the paper has 0.999")
    if args.depth < 10 or (args.depth - 4) % 6:
        parser.error(
            f"--depth {args.depth}: a wide residual network has 6 n + 4 layers: 10, 16, 22, 28, ..."
        )
    if not 0 < getattr(args, "val_size", 0.1) < 1:
        parser.error(f"--val_size {args.val_size}: a share of the training set, between 0 and 1")


def sigma_for(dataset_name: str, noise_mode: str | None) -> float:
    """The paper's sigma; for noise it does not have, 0.2 on CIFAR-100, whose values are all small,
    and 0.5 elsewhere.
    """
    return SIGMAS.get((dataset_name, noise_mode), 0.2 if dataset_name == "cifar100" else 0.5)


def method_problem(args: argparse.Namespace) -> str | None:
    """Why sigma, MO and LC do not make a method, with the ones that exist; None if they do."""
    wanted = f"--sigma {args.sigma:g}{' --mo' if args.mo else ''} --lc_n_epoch {args.lc_n_epoch}"
    if args.lc_n_epoch != -1 and not 0 < args.lc_n_epoch < args.n_epochs:
        return (
            f"--lc_n_epoch {args.lc_n_epoch} is no epoch between 1 and {args.n_epochs - 1} "
            f"(--n_epochs {args.n_epochs}):"
            f" give such a one, or -1 for no label correction; {METHOD_TABLE}"
        )
    if (args.sigma == 0 and (args.mo or args.lc_n_epoch != -1)) or (
        args.lc_n_epoch != -1 and not args.mo
    ):
        return f"{wanted} is no method; {METHOD_TABLE}"
    if args.method is not None and method_name(args) != args.method:
        return f"{wanted} is {method_name(args)}, not --method {args.method}: drop one of them"
    return None


def method_name(args: argparse.Namespace) -> str:
    """ce, sln, sln_mo or sln_mo_lc."""
    return (
        "ce" if args.sigma == 0 else "sln" + "_mo" * bool(args.mo) + "_lc" * (args.lc_n_epoch != -1)
    )


def choose_device(name: str) -> torch.device:
    """The device that `--device` names; auto is the first of cuda, mps, cpu that is there.

    Raises UsageError.
    """
    if name == "auto":
        name = (
            "cuda"
            if torch.cuda.is_available()
            else "mps"
            if torch.backends.mps.is_available()
            else "cpu"
        )
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
            "--device out to take what it has"
        )
    return device


def use_bfloat16(amp: str, device: torch.device) -> bool:
    """What `--amp` comes to on this device; auto asks whether the hardware multiplies bfloat16
    itself.
    """
    # DEVIATION(re_sln): bfloat16 where the hardware has it; the original is float32, its targets
    # and loss even float64.
    if amp != "auto":
        return amp == "bf16"
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)  # from Ampere on
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
    """Where to look for the data: --data_path, else $DATA_ROOT, else the original's data/ beside
    the scripts if it is there.
    """
    if args.data_path is not None or "DATA_ROOT" in os.environ:
        return args.data_path
    published = Path(__file__).parent / "data"
    return published if published.is_dir() else None

"""The command lines of the training scripts: the published flags, ours beside them, presets, what
is refused.
"""

import argparse
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lra_diffusion.command_line import add_flags
from lra_diffusion.diffusion import TIMESTEPS

DIFFUSION_ENCODERS = ("resnet18", "resnet34", "resnet50", "resnet18_l", "resnet34_l", "resnet50_l")
CLIP_TYPES = ("ViT-B/32", "ViT-B/16", "ViT-L/14")
DATASETS = {
    "train_CIFAR": ("cifar10", "cifar100", "digits", "folder"),
    "train_Food101N": ("food101n",),
    "train_Clothing1M": ("clothing1m",),
    "train_WebVision": ("webvision",),
    "test_ILSVRC2012": ("webvision",),
}
# What the method's description and the published scripts set for each dataset. queries: f_p's
# features of the training images are computed on every augmented batch, or once. per_class: images
# of each class in an epoch, None: all of them.
_PAPER: dict[str, Any] = {
    "batch_size": 200,
    "nepoch": 200,
    "warmup_epochs": 5,
    "feature_dim": 512,
    "k": 10,
    "diff_encoder": "resnet34",
    "width": 64,
    "fp_encoder": "SimCLR",
    "ema_decay": 0.9999,
    "weighted": True,
    "exclude_self": False,
    "eval_every": 5,
    "drop_last": False,
    "per_class": None,
    "fp_queries": "augmented",
    "lr": 1e-3,
}
_FILES = {
    **_PAPER,
    "batch_size": 256,
    "nepoch": 300,
    "warmup_epochs": 1,
    "feature_dim": 1024,
    "diff_encoder": "resnet50_l",
    "fp_encoder": "CLIP",
    "eval_every": 1,
    "drop_last": True,
}
PRESETS: dict[str, dict[str, Any]] = {
    "cifar10": _PAPER,
    "cifar100": _PAPER,
    "folder": _PAPER,
    # Found by trying: a narrow network on few images, in less than two minutes on two cores.
    "digits": {
        **_PAPER,
        "batch_size": 32,
        "nepoch": 60,
        "lr": 5e-3,
        "warmup_epochs": 2,
        "feature_dim": 256,
        "width": 16,
        "diff_encoder": "resnet18",
        "ema_decay": 0.99,
        "fp_queries": "cached",
    },
    "food101n": {**_FILES, "nepoch": 100, "fp_queries": "cached", "exclude_self": True},
    "clothing1m": {**_FILES, "k": 20, "fp_encoder": "CC", "weighted": False, "per_class": 10_000},
    "webvision": {**_FILES, "k": 50, "weighted": False, "per_class": 500},
}
# --legacy: what the published code does, whatever its paper says. horizon: epochs of the learning
# rate's cosine.
LEGACY: dict[str, dict[str, Any]] = {
    "cifar": {
        "freeze_encoder": True,
        "batch_statistics": True,
        "lr_horizon": 1000,
        "bank_transform": "train",
    },
    "food101n": {
        "freeze_encoder": True,
        "batch_statistics": True,
        "lr_horizon": 200,
        "bank_transform": "train",
        "warmup_epochs": 10,
        "select": "test",
    },
    "clothing1m": {"warmup_epochs": 1},
    "webvision": {"warmup_epochs": 1},
}
SUMMARIES = {
    "train_CIFAR": (
        "Train LRA-diffusion on CIFAR-10, CIFAR-100, digits or your own images (Chen "
        "et al., NeurIPS 2023)."
    ),
    "train_Food101N": "Train LRA-diffusion on Food-101N, tested on Food-101.",
    "train_Clothing1M": "Train LRA-diffusion on Clothing1M, on the images that CC selected.",
    "train_WebVision": "Train LRA-diffusion on the first 50 classes of WebVision.",
    "test_ILSVRC2012": "Test a model of train_WebVision.py on the first 50 classes of ILSVRC2012.",
}
EXAMPLES = {
    "train_CIFAR": (
        "python train_CIFAR.py --noise_type cifar10-1-0.35 --fp_encoder SimCLR "
        "--nepoch 200 --warmup_epochs 5"
    ),
    "train_Food101N": (
        "python train_Food101N.py --gpu_devices 0 --nepoch 200 --warmup_epochs 1 --feature_dim 1024"
    ),
    "train_Clothing1M": (
        "python train_Clothing1M.py --gpu_devices 0 --nepoch 200 "
        "--warmup_epochs 1 --feature_dim 1024"
    ),
    "train_WebVision": (
        "python train_WebVision.py --gpu_devices 0 --nepoch 200 --warmup_epochs "
        "1 --feature_dim 1024"
    ),
    "test_ILSVRC2012": "python test_ILSVRC2012.py --eval_only model/LRA-diffusion_WebVision.pt",
}


def build_parser(script: str) -> argparse.ArgumentParser:
    """The parser of a script of DATASETS; flags that a preset may fill default to None."""
    parser = argparse.ArgumentParser(
        prog=f"{script}.py",
        allow_abbrev=False,
        description=SUMMARIES[script],
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=f"example: {EXAMPLES[script]}",
    )
    on_cifar = script == "train_CIFAR"
    preset = PRESETS[DATASETS[script][0]]
    other = ", digits {}" if on_cifar else ""
    digits = PRESETS["digits"]
    add = parser.add_argument_group("the original's flags").add_argument

    def add_filled(flag: str, help: str) -> None:
        name = flag.removeprefix("--")
        differs = other.format(digits[name]) if digits[name] != preset[name] else ""
        add(flag, type=int, help=f"{help} ({preset[name]}{differs})")

    if on_cifar:
        add(
            "--noise_type",
            help="noisy labels by the name of their file in noise_label/, without its ending; "
            "what is in "
            "front of the first - names the dataset (cifar10-1-0.35)",
        )
    add_filled("--nepoch", "epochs, counted from 1")
    add_filled("--batch_size", "images a step")
    add(
        "--num_workers",
        type=int,
        default=16 if "WebVision" in script else 4,
        help="processes that decode images; those of "
        "train_CIFAR.py are decoded once, so nothing to do there",
    )
    add_filled(
        "--warmup_epochs",
        "epochs in which the learning rate rises to 0.001; then it falls to 0 as half a cosine",
    )
    add_filled("--feature_dim", "F, width of the diffusion encoder's output and of the predictor")
    add_filled("--k", "neighbours whose labels are drawn from")
    add("--ddim_n_step", type=int, default=10, help="S, steps of the reverse diffusion (10)")
    add(
        "--diff_encoder",
        choices=DIFFUSION_ENCODERS,
        help=f"diffusion encoder, _l: for 224-pixel images "
        f"({preset['diff_encoder']}{other.format(digits['diff_encoder'])})",
    )
    if not on_cifar:
        add(
            "--gpu_devices",
            type=int,
            nargs="+",
            help="GPUs; one process uses the first of them that is there",
        )
    _add_encoder_flags(parser.add_argument_group("the encoder f_p"), preset["fp_encoder"])
    group = parser.add_argument_group("added here")
    add = group.add_argument
    if on_cifar:
        add(
            "--dataset",
            choices=DATASETS[script],
            help="what to train on, if --noise_type does not say it; folder: your own "
            "images or .npz",
        )
        add(
            "--noise_dir",
            type=Path,
            help="folder of --noise_type's files (noise_label/ here, beside the scripts, or what "
            "`make data-pmd-noise` fetched)",
        )
        add_flags(group, "--noise_file")
        add(
            "--cut_labels",
            action="store_true",
            help="the label file covers the whole training set: take the labels of "
            "the images that are trained on (the first 45,000 of CIFAR)",
        )
        add(
            "--no_validation",
            action="store_true",
            help="train on all training images, none held out; the last epoch counts",
        )
        add(
            "--width",
            type=int,
            help="channels of the 32-pixel diffusion encoder's first stage (64, digits 16)",
        )
    add(
        "--eval_only",
        type=Path,
        metavar="MODEL",
        help="test this model, ours or a published one, and stop",
    )
    if script != "test_ILSVRC2012":
        _add_method_flags(group, preset)
        add("--lr", type=float, help="peak learning rate of Adam (0.001, digits 0.005)")
        add_flags(group, "--resume", "--wandb")
    add(
        "--encoder_weights",
        help="ImageNet weights of an _l encoder: a file, or none; else torchvision's are "
        "downloaded",
    )
    add_flags(
        group,
        "--data_path",
        "--seed",
        "--limit_train",
        "--limit_test",
        "--device",
        "--amp",
        "--output_dir",
        "--deterministic",
    )
    return parser


def _add_encoder_flags(group: Any, default: str) -> None:
    add = group.add_argument
    add(
        "--fp_encoder",
        help=f"SimCLR, CLIP, CC, or any image network of torchvision or timm by name ({default})",
    )
    add("--CLIP_type", choices=CLIP_TYPES, default="ViT-L/14", help="which CLIP (ViT-L/14)")
    add(
        "--fp_weights",
        "--clip_weights",
        type=Path,
        help="the encoder's weights, a file or a folder with it (model/ here, "
        "beside the scripts, or below the data; CLIP's and torchvision's are downloaded)",
    )
    add(
        "--fp_embed_train",
        type=Path,
        metavar="NPY",
        help="features (N, D) of all training images, computed elsewhere; then "
        "no encoder is needed",
    )
    add(
        "--fp_embed_test",
        type=Path,
        metavar="NPY",
        help="features (M, D) of the test images, with --fp_embed_train",
    )
    add("--cache_dir", type=Path, help="folder of cached features (embeddings/ below the data)")


def _add_method_flags(group: Any, preset: dict[str, Any]) -> None:
    add = group.add_argument
    flag = argparse.BooleanOptionalAction
    add(
        "--weighted",
        action=flag,
        help=f"a drawn label weighs as often as it is among the candidates ({preset['weighted']})",
    )
    add(
        "--exclude_self",
        action=flag,
        help="retrieve other images only, so that an image's own label counts once "
        f"({preset['exclude_self']})",
    )
    add(
        "--fp_queries",
        choices=("augmented", "cached"),
        help="retrieve for the augmented image, or, once and for all, for the "
        "image itself (augmented; with CLIP on CIFAR, on Food-101N and on digits: cached)",
    )
    add(
        "--bank_transform",
        choices=("test", "train"),
        help="compute the features to retrieve from on the images themselves, "
        "or on one random augmentation (test)",
    )
    add(
        "--freeze_encoder",
        action="store_true",
        default=None,
        help="leave the diffusion encoder at its first weights",
    )
    add("--ema_decay", type=float, help="decay of the average of the weights (0.9999, digits 0.99)")
    add(
        "--eval_weights",
        choices=("best", "raw", "ema"),
        help="which weights count: the network's, their average, or what "
        "is better on the validation images, raw if there are none (best)",
    )
    add("--lr_horizon", type=int, help="epochs of the learning rate's cosine (nepoch)")
    add(
        "--select",
        choices=("val", "test"),
        help="images whose accuracy chooses the best epoch (val)",
    )
    add(
        "--legacy",
        action="store_true",
        help="train and test as the published code does: see README.md",
    )


def parse(script: str, argv: Sequence[str] | None) -> argparse.Namespace:
    """Flags as a namespace, presets filled in and every combination checked; exits with a message
    if something is wrong.
    """
    parser = build_parser(script)
    args = parser.parse_args(argv)
    args.script, given = (
        script,
        {name for name, value in vars(args).items() if value not in (None, False)},
    )
    absent: dict[str, Any] = {
        "noise_type": None,
        "dataset": None,
        "noise_dir": None,
        "noise_file": None,
        "cut_labels": False,
        "no_validation": False,
        "width": None,
        "gpu_devices": None,
        "legacy": False,
        "weighted": None,
        "exclude_self": None,
        "fp_queries": None,
        "bank_transform": None,
        "freeze_encoder": None,
        "ema_decay": None,
        "eval_weights": None,
        "lr_horizon": None,
        "select": None,
        "lr": None,
        "resume": False,
        "wandb": False,
    }
    for name, value in absent.items():
        vars(args).setdefault(name, value)
    choose_dataset(parser, args)
    _refuse_idle(parser, args, given)
    _fill(args)
    _check(parser, args)
    return args


def choose_dataset(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Sets --dataset, from --noise_type where that names it, and refuses noise that contradicts it."""
    if args.script != "train_CIFAR":
        args.dataset = DATASETS[args.script][0]
        return
    if args.noise_type and args.noise_file:
        parser.error(
            "--noise_type and --noise_file both say which labels to train on: drop one of them"
        )
    if args.dataset is None and not args.noise_type and not args.noise_file:
        args.noise_type = "cifar10-1-0.35"
    if args.noise_type:
        named = args.noise_type.split("-")[0]
        if named not in DATASETS["train_CIFAR"]:
            parser.error(
                f"--noise_type {args.noise_type}: {named} is no dataset; a name is "
                "<dataset>-<type>-<rate>, like "
                "cifar10-1-0.35, cifar100-1-0.70_U_0.3 or digits-1-0.35"
            )
        if args.dataset not in (None, named):
            parser.error(
                f"--noise_type {args.noise_type} is noise of {named}, not of --dataset "
                f"{args.dataset}: drop one"
            )
        args.dataset = named
    if args.dataset is None:
        parser.error(
            "--noise_file does not say which images: add --dataset "
            f"({', '.join(DATASETS['train_CIFAR'])})"
        )
    if args.dataset == "folder" and args.data_path is None:
        parser.error(
            "--dataset folder needs --data_path: a folder with train/<class>/ and "
            "test/<class>/, or an .npz"
        )
    if (
        args.dataset != "folder"
        and not args.noise_type
        and not args.noise_file
        and args.eval_only is None
    ):
        parser.error(
            f"which noisy labels? `python make_pmd.py --dataset {args.dataset} --rate 0.35` makes "
            f"--noise_type {args.dataset}-1-0.35; or give any --noise_file"
        )


def _refuse_idle(
    parser: argparse.ArgumentParser, args: argparse.Namespace, given: set[str]
) -> None:
    """Flags that others leave without effect, so that nobody believes they had one."""
    large = (args.diff_encoder or PRESETS[args.dataset]["diff_encoder"]).endswith("_l")
    idle = {
        "--fp_embed_train, which are features already": (
            args.fp_embed_train,
            ["fp_encoder", "fp_weights", "bank_transform", "fp_queries"],
        ),
        f"--diff_encoder {args.diff_encoder}, whose width is fixed": (large, ["width"]),
        "--eval_only, which trains nothing": (args.eval_only, ["resume", "wandb"]),
    }
    for what, (condition, names) in idle.items():
        if condition and (useless := [name for name in names if name in given]):
            parser.error(f"--{useless[0]} does nothing with {what}: drop one of them")


def _fill(args: argparse.Namespace) -> None:
    """Sets what was not given: by --legacy, else by the preset of the dataset."""
    legacy = LEGACY.get(args.dataset, LEGACY["cifar"]) if args.legacy else {}
    # DEVIATION(lra_diffusion): validation chooses the model; on Food-101N the original lets the
    # test set do it.
    # DEVIATION(lra_diffusion): features to retrieve from are those of the images themselves; on
    # CIFAR and Food-101N the original computes them on one random augmentation.
    rest = {
        "freeze_encoder": False,
        "bank_transform": "test",
        "select": "val",
        "eval_weights": "raw" if args.legacy else "best",
    }
    if (args.fp_encoder or "") == "CLIP" and args.script == "train_CIFAR":
        rest["fp_queries"] = (
            "cached"  # as published: CLIP's features are computed once, SimCLR's on every batch
        )
    for name in (
        "warmup_epochs",
        "lr_horizon",
    ):  # the published code ignores these flags where it sets them itself
        if name in legacy and getattr(args, name) is not None:
            print(
                f"note: --legacy ignores --{name} {getattr(args, name)} and takes "
                f"{legacy[name]}, as the published code does"
            )
            setattr(args, name, None)
    for name, value in {**PRESETS[args.dataset], **rest, **legacy}.items():
        if getattr(args, name, None) is None:
            setattr(args, name, value)
    args.batch_statistics = bool(legacy.get("batch_statistics"))
    # DEVIATION(lra_diffusion): the cosine of the learning rate ends with the run; the original's
    # ends after 1,000 epochs on CIFAR and 200 on Food-101N, whatever its flags say.
    if args.lr_horizon is None:
        args.lr_horizon = args.nepoch


def _check(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    at_least = {
        "batch_size": 2,
        "nepoch": 1,
        "warmup_epochs": 0,
        "feature_dim": 1,
        "k": 1,
        "seed": 0,
        "width": 1,
        "limit_train": 2,
        "limit_test": 1,
        "num_workers": 0,
        "lr_horizon": 1,
    }
    for name, low in at_least.items():
        value = getattr(args, name)
        if value is not None and not value >= low:
            parser.error(f"--{name} {value}: must be at least {low}")
    if not 1 <= args.ddim_n_step <= TIMESTEPS // 2:
        parser.error(
            f"--ddim_n_step {args.ddim_n_step}: give a number between 1 and {TIMESTEPS // 2}"
        )
    if not args.lr > 0:
        parser.error(f"--lr {args.lr}: must be greater than 0")
    if not 0 <= args.ema_decay < 1:
        parser.error(f"--ema_decay {args.ema_decay}: lies in [0, 1)")
    if args.nepoch > args.lr_horizon and not args.legacy:
        parser.error(
            f"--nepoch {args.nepoch} goes beyond --lr_horizon {args.lr_horizon}, where the "
            "learning rate ends at 0"
        )
    if (args.fp_embed_train is None) != (args.fp_embed_test is None):
        parser.error(
            "--fp_embed_train and --fp_embed_test belong together: give both, from the same encoder"
        )
    if args.fp_embed_train is not None:
        if args.dataset not in DATASETS["train_CIFAR"]:
            parser.error(
                f"--fp_embed_train is for CIFAR, digits and folders; {args.dataset} computes "
                "its own and keeps them"
            )
        args.fp_queries = "cached"
    on_files = args.dataset not in DATASETS["train_CIFAR"]
    if on_files and not args.diff_encoder.endswith("_l"):
        parser.error(
            f"--diff_encoder {args.diff_encoder} is for 32-pixel images: take {args.diff_encoder}_l"
        )
    if args.encoder_weights is not None and not args.diff_encoder.endswith("_l"):
        parser.error(
            f"--encoder_weights are ImageNet weights, which {args.diff_encoder} does not have: "
            "leave them out"
        )
    if args.warmup_epochs >= args.lr_horizon and args.nepoch > args.warmup_epochs:
        parser.error(
            f"--warmup_epochs {args.warmup_epochs} leaves nothing of --lr_horizon "
            f"{args.lr_horizon}: give fewer"
        )
    if args.no_validation and args.cut_labels:
        parser.error(
            "--no_validation trains on all images, so there are no labels to cut off: drop one "
            "of them"
        )
    if args.script == "test_ILSVRC2012" and args.eval_only is None:
        args.eval_only = Path("model/LRA-diffusion_WebVision.pt")
    if args.wandb and importlib.util.find_spec("wandb") is None:
        parser.error(
            "--wandb needs the package wandb, which is not installed: `pip install wandb`, or "
            "with uv "
            "`uv pip install --python .venv/lra_diffusion wandb`"
        )


def run_name(args: argparse.Namespace) -> str:
    """The published name of a model, without its ending: LRA-diffusion_SimCLR_cifar10-1-0.35."""
    titles = {"food101n": "Food101N", "clothing1m": "Clothing1M", "webvision": "WebVision"}
    if args.dataset in titles:
        return f"LRA-diffusion_{titles[args.dataset]}"
    noise = args.noise_type or (Path(args.noise_file).stem if args.noise_file else args.dataset)
    encoder = "embeddings" if args.fp_embed_train else args.fp_encoder.replace("/", "_")
    return f"LRA-diffusion_{encoder}_{noise.replace(':', '_')}"

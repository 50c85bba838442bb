"""The command lines of tools/train.py, train_stages.py and test.py: mmdetection 2.2's flags, ours
beside them.

Nothing heavy is imported here, so that `--help` and wrong flags are answered at once.
"""

import argparse
import importlib.util
import os
from collections.abc import Sequence
from pathlib import Path

ENVIRONMENT = {
    "slurm": ("SLURM_PROCID", "SLURM_NTASKS"),
    "mpi": ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
}
LAUNCHERS = ("none", "pytorch", "slurm", "mpi")
METRICS = ("bbox", "segm", "proposal")
EVALUATION_OPTIONS = {
    "jsonfile_prefix": "outfile_prefix",
    "classwise": "classwise",
}  # mmdetection 2.2's names -> 3.x's
NEWEST = ""  # --resume without a value
EXAMPLES = {
    "train": "python tools/train.py configs/shapes/mask_rcnn_tiny_shapes_nl_1.py --seed 0",
    "train_stages": "python tools/train_stages.py configs/shapes/mask_rcnn_tiny_shapes_nl_1.py "
    "configs/shapes/mask_rcnn_tiny_shapes_nl_2.py",
    "test": "python tools/test.py configs/shapes/mask_rcnn_tiny_shapes_nl_2.py "
    "work_dirs/mask_rcnn_tiny_shapes_nl_2/epoch_12.pth --eval bbox segm",
}


def train_parser() -> argparse.ArgumentParser:
    """The parser of tools/train.py."""
    parser = _parser("train", "Train Mask R-CNN on a data set with noisy class labels.")
    parser.add_argument("config", type=Path, help="config file")
    original = parser.add_argument_group("the original's flags")
    add = original.add_argument
    add("--work-dir", type=Path, help="the run folder (work_dirs/<name of the config>)")
    add(
        "--resume-from",
        type=Path,
        help="continue from this checkpoint; for stage 2, the last one of stage 1",
    )
    _add_training_flags(original)
    group = parser.add_argument_group("added here")
    add = group.add_argument
    add(
        "--resume",
        nargs="?",
        const=NEWEST,
        metavar="CHECKPOINT",
        help="continue the run in the run folder from its newest intact checkpoint, or from the "
        "one given; in a folder without "
        "any, begin, from --resume-from if that is given",
    )
    add_common_flags(group)
    return parser


def stages_parser() -> argparse.ArgumentParser:
    """The parser of tools/train_stages.py."""
    parser = _parser(
        "train_stages",
        "Train both stages: STAGE1_CONFIG to its end, then STAGE2_CONFIG from stage 1's last "
        "checkpoint on, exactly as two "
        "calls of train.py do. The same command again continues where it was.",
    )
    parser.add_argument(
        "stage1_config", type=Path, help="config of stage 1, plain cross-entropy (..._nl_1.py)"
    )
    parser.add_argument(
        "stage2_config", type=Path, help="the same but for loss_cls and more epochs (..._nl_2.py)"
    )
    original = parser.add_argument_group("the original's flags")
    add = original.add_argument
    add(
        "--work-dir",
        type=Path,
        help="where the two run folders <name of the config> are made (work_dirs)",
    )
    _add_training_flags(original)
    add_common_flags(parser.add_argument_group("added here"))
    return parser


def test_parser() -> argparse.ArgumentParser:
    """The parser of tools/test.py."""
    parser = _parser("test", "Evaluate a checkpoint on the validation set.")
    parser.add_argument("config", type=Path, help="config file")
    parser.add_argument("checkpoint", type=Path, help="checkpoint file, such as epoch_8.pth")
    original = parser.add_argument_group("the original's flags")
    add = original.add_argument
    add("--out", type=Path, help="write all predictions into this .pkl file")
    add(
        "--fuse-conv-bn",
        action="store_true",
        help="merge batch norm into the convolutions, a little faster",
    )
    add(
        "--format-only",
        action="store_true",
        help="write predictions as COCO result files, do not evaluate them",
    )
    add(
        "--eval",
        nargs="+",
        choices=METRICS,
        metavar="METRIC",
        help=f"what to evaluate: {' '.join(METRICS)}",
    )
    add("--show", action="store_true", help="show predictions in a window")
    add("--show-dir", type=Path, help="write pictures with predictions into this folder")
    add(
        "--show-score-thr",
        type=float,
        default=0.3,
        help="lowest score of a prediction that is painted (0.3)",
    )
    add(
        "--gpu-collect",
        action="store_true",
        help="gather the parts of several GPUs over these, not over files",
    )
    add("--tmpdir", type=Path, help="folder in which several processes gather their parts")
    _add_config_and_launch_flags(original)
    group = parser.add_argument_group("added here")
    add = group.add_argument
    add(
        "--work-dir",
        type=Path,
        help="where <checkpoint>.metrics.json and the log, in test/, go (the checkpoint's folder; "
        "the log: work_dirs/<name of the config>)",
    )
    add_common_flags(group, training=False)
    return parser


def _parser(script: str, summary: str) -> argparse.ArgumentParser:
    return argparse.ArgumentParser(
        prog=f"{script}.py",
        description=summary,
        epilog=f"example: {EXAMPLES[script]}",
        allow_abbrev=False,
    )


def _add_training_flags(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--no-validate", action="store_true", help="do not evaluate after the epochs")
    one_of = group.add_mutually_exclusive_group()
    one_of.add_argument(
        "--gpus", type=int, help="number of GPUs; more than one needs tools/dist_train.sh"
    )
    one_of.add_argument(
        "--gpu-ids", type=int, nargs="+", help="which GPU to use; several need tools/dist_train.sh"
    )
    # DEVIATION(noisy_instseg): the seed is 0 unless given; the original draws an unknown one, so no
    # run can be repeated.
    add("--seed", type=int, default=0, help="seed of everything (0)")
    add(
        "--deterministic",
        action="store_true",
        help="deterministic kernels wherever there are any (slower on a GPU)",
    )
    _add_config_and_launch_flags(group)


def _add_config_and_launch_flags(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add(
        "--options",
        "--cfg-options",
        dest="options",
        nargs="+",
        action="extend",
        default=[],
        metavar="K=V",
        help="change "
        "settings of the config, such as train_dataloader.batch_size=2 (--cfg-options is the same)",
    )
    add(
        "--launcher",
        choices=LAUNCHERS,
        default="none",
        help="what started the processes; dist_*.sh say pytorch (none)",
    )
    add(
        "--local_rank",
        "--local-rank",
        type=int,
        default=0,
        help="set by launchers that say it with a flag",
    )


def add_common_flags(group: argparse._ArgumentGroup, training: bool = True) -> None:
    """The flags `experiment.load` knows beside the original's; find_noisy and others take them too."""
    add = group.add_argument
    add(
        "--data_root",
        type=Path,
        help="folder of the data set, in place of the config's data_root ($DATA_ROOT/<set> is "
        "looked for too)",
    )
    if training:
        add(
            "--noise_file",
            type=Path,
            help="train on this COCO annotation file, made by noisy_labels_*.py",
        )
        add("--limit_train", type=int, help="train on the first so many images")
    add("--limit_test", type=int, help="evaluate on the first so many images")
    add(
        "--device",
        choices=("auto", "cpu", "cuda"),
        default="auto",
        help="cpu: even where there is a GPU (auto)",
    )
    if training:
        add(
            "--amp",
            choices=("auto", "off", "bf16"),
            default="auto",
            help="bfloat16 autocast, on a GPU; auto: off, until equal accuracy is measured",
        )
        add(
            "--wandb",
            action="store_true",
            help="log to Weights & Biases; offline unless WANDB_MODE says other",
        )


def parse(parser: argparse.ArgumentParser, argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Flags as a namespace, every combination checked; exits with a message if something is wrong.

    Works for any parser whose group got `add_common_flags`; flags it does not have count as not
    given.
    """
    args = parser.parse_args(argv)
    for flag in ("limit_train", "limit_test", "gpus"):
        if (value := getattr(args, flag, None)) is not None and value < 1:
            parser.error(f"--{flag} {value}: must be at least 1")
    if not 0 <= getattr(args, "seed", 0) < 2**32:
        parser.error(f"--seed {args.seed}: must be in [0, 2^32)")
    for option in getattr(args, "options", []):
        if not option.partition("=")[0].strip() or "=" not in option:
            parser.error(
                f"--options {option}: expected KEY=VALUE, such as train_dataloader.batch_size=2"
            )
    if getattr(args, "resume", None) and getattr(args, "resume_from", None) is not None:
        parser.error(
            "--resume CHECKPOINT and --resume-from both say where to go on: drop one of them"
        )
    if getattr(args, "wandb", False) and importlib.util.find_spec("wandb") is None:
        parser.error(
            "--wandb needs the package wandb, which is not installed: `pip install wandb`, or "
            "with uv "
            "`uv pip install --python .venv/noisy_instseg wandb`"
        )
    _check_devices(parser, args)
    _check_test_flags(parser, args)
    return args


def _check_devices(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    ids = getattr(args, "gpu_ids", None) or []
    wanted = len(ids) or getattr(args, "gpus", None) or 1
    if wanted > 1 and getattr(args, "launcher", "none") == "none":
        parser.error(
            f"{wanted} GPUs need as many processes: tools/dist_train.sh CONFIG {wanted} [flags] "
            "starts them"
        )
    if args.device == "cpu" and (getattr(args, "gpus", None) or ids):
        parser.error("--device cpu and --gpus or --gpu-ids contradict each other: drop one of them")
    if any(identifier < 0 for identifier in ids):
        parser.error(f"--gpu-ids {min(ids)}: GPUs are numbered from 0")


def _check_test_flags(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    if not hasattr(args, "eval"):
        return
    if not (args.out or args.eval or args.format_only or args.show or args.show_dir):
        parser.error(
            "say what to do with the predictions: at least one of --eval bbox segm, --out "
            "FILE.pkl, --format-only, "
            "--show, --show-dir DIR"
        )
    if args.eval and args.format_only:
        parser.error("--eval and --format-only exclude each other: drop one of them")
    if args.out is not None and args.out.suffix not in (".pkl", ".pickle"):
        parser.error(f"--out {args.out}: the predictions are written as a pickle; name it .pkl")
    if not 0 <= args.show_score_thr <= 1:
        parser.error(f"--show-score-thr {args.show_score_thr}: scores lie in [0, 1]")
    if (
        args.show
        and os.name == "posix"
        and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
    ):
        parser.error(
            "--show needs a screen, and there is none here: --show-dir DIR writes the pictures"
        )


def choose_device(args: argparse.Namespace) -> None:
    """--device, --gpu-ids, --launcher, --wandb and --local_rank take effect through the
    environment, before torch is imported.
    """
    launcher = getattr(args, "launcher", "none")
    os.environ.setdefault("LOCAL_RANK", str(getattr(args, "local_rank", 0)))
    for ours, theirs in zip(("RANK", "WORLD_SIZE"), ENVIRONMENT.get(launcher, ())):
        if theirs in os.environ:  # mmengine would set them too, but only after our checks
            os.environ.setdefault(ours, os.environ[theirs])
    if getattr(args, "deterministic", False):
        os.environ.setdefault(
            "CUBLAS_WORKSPACE_CONFIG", ":4096:8"
        )  # else cuBLAS may sum in any order
    if getattr(args, "wandb", False):
        os.environ.setdefault("WANDB_MODE", "offline")
    if args.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    elif ids := getattr(args, "gpu_ids", None):
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        names = visible.split(",") if visible else [str(number) for number in range(max(ids) + 1)]
        if launcher == "none" and ids[0] < len(names):
            os.environ["CUDA_VISIBLE_DEVICES"] = names[ids[0]]

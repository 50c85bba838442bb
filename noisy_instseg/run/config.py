"""The flags of the tools that train and test: mmdetection 2.2's, and those added here.

    flags = flags.parse(TrainFlags)    # of sys.argv; exits with a message if something is wrong
    flags.config, flags.settings.seed

`Settings` are the flags that change a config; every tool offers those of them that mean something
to it. A new flag is a field here, and its use. Nothing heavy is imported, so that `--help` and a
wrong flag are answered at once.
"""

# ruff: noqa: RUF009 - the calls make fields, and no values

import importlib.util
import os
from dataclasses import dataclass, fields
from pathlib import Path
from typing import ClassVar

from noisy_instseg.run.flags import added, offered, original, positional
from shared.errors import UserError

NEWEST = ""  # --resume without a value
RANK_NAMES = {  # of launchers that have names of their own for RANK and WORLD_SIZE
    "slurm": ("SLURM_PROCID", "SLURM_NTASKS"),
    "mpi": ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What flags change in a config; they mean the same in every tool."""

    no_validate: bool = original("do not evaluate after the epochs", False)
    gpus: int | None = original("number of GPUs; more than one needs tools/dist_train.sh")
    gpu_ids: tuple[int, ...] = original(
        "which GPU to use; for several: CUDA_VISIBLE_DEVICES=2,3 tools/dist_train.sh CONFIG 2",
        (),
    )
    # DEVIATION(noisy_instseg): the seed is 0 unless given; the original draws an unknown one, so no
    # run can be repeated.
    seed: int | None = original("seed of everything (0; of a run folder's config, that run's)")
    deterministic: bool = original(
        "deterministic kernels wherever there are any (slower on a GPU)", False
    )
    options: tuple[str, ...] = original(
        "change settings of the config, such as train_dataloader.batch_size=2 (--cfg-options is "
        "the same)",
        (),
        "--options",
        "--cfg-options",
        action="extend",
        metavar="K=V",
    )
    launcher: str = original(
        "what started the processes; dist_*.sh say pytorch (none)",
        "none",
        choices=("none", "pytorch", "slurm", "mpi"),
    )
    local_rank: int = original(
        "set by launchers that say it with a flag", 0, "--local_rank", "--local-rank"
    )
    data_root: Path | None = added(
        "folder of the dataset, in place of the config's data_root ($DATA_ROOT/<set> is looked "
        "for too)"
    )
    noise_file: Path | None = added(
        "COCO annotations of the training set, in place of the config's; noisy_labels_*.py make "
        "them noisy"
    )
    limit_train: int | None = added("use only the first N training images")
    limit_test: int | None = added("use only the first N validation images")
    device: str = added(
        "cpu: even where there is a GPU (auto)", "auto", choices=("auto", "cpu", "cuda")
    )
    amp: str = added(
        "bfloat16 autocast, on a GPU; auto: off, until equal accuracy is measured",
        "auto",
        choices=("auto", "off", "bf16"),
    )
    wandb: bool = added("log to Weights & Biases; offline unless WANDB_MODE says otherwise", False)

    def __post_init__(self) -> None:
        counts = {"limit_train": self.limit_train, "limit_test": self.limit_test, "gpus": self.gpus}
        for name, value in counts.items():
            if value is not None and value < 1:
                raise UserError(f"--{name} {value}: must be at least 1")
        if self.seed is not None and not 0 <= self.seed < 2**32:
            raise UserError(f"--seed {self.seed}: must be in [0, 2^32)")
        for option in self.options:
            if not option.partition("=")[0].strip() or "=" not in option:
                raise UserError(
                    f"--options {option}: expected KEY=VALUE, such as train_dataloader.batch_size=2"
                )
        if self.wandb and importlib.util.find_spec("wandb") is None:
            raise UserError(
                "--wandb needs the package wandb, which is not installed: `pip install wandb`, or "
                "with uv `uv pip install --python .venv/noisy_instseg wandb`"
            )
        self._check_gpus()

    def _check_gpus(self) -> None:
        if self.gpus and self.gpu_ids:
            raise UserError("--gpus: not allowed with --gpu-ids; drop one of them")
        chosen = f"CUDA_VISIBLE_DEVICES={','.join(map(str, self.gpu_ids))}"
        wanted = len(self.gpu_ids) or self.gpus or 1
        if wanted > 1 and self.launcher == "none":
            which = f"{chosen} " if self.gpu_ids else ""
            raise UserError(
                f"{wanted} GPUs need as many processes: {which}tools/dist_train.sh CONFIG {wanted} "
                "[flags] starts them" + (", without --gpu-ids" if self.gpu_ids else "")
            )
        if self.launcher != "none" and self.gpu_ids:
            raise UserError(
                "--gpu-ids: several processes take the GPUs that are there, one each: set "
                f"{chosen} instead"
            )
        if self.launcher != "none" and self.gpus not in (None, self._processes()):
            raise UserError(
                f"--gpus {self.gpus}: the launcher started {self._processes()} process(es), with a "
                "GPU each: leave the flag out, or give tools/dist_train.sh that number"
            )
        if self.device == "cpu" and (self.gpus or self.gpu_ids):
            raise UserError(
                "--device cpu and --gpus or --gpu-ids contradict each other: drop one of them"
            )
        if any(number < 0 for number in self.gpu_ids):
            raise UserError(f"--gpu-ids {min(self.gpu_ids)}: GPUs are numbered from 0")

    def _processes(self) -> int:
        """That the launcher started."""
        _, theirs = RANK_NAMES.get(self.launcher, ("RANK", "WORLD_SIZE"))
        return int(os.environ.get("WORLD_SIZE") or os.environ.get(theirs) or 1)


TRAINING = tuple(one.name for one in fields(Settings))
TRAINING_DATA = ("options", "data_root", "noise_file", "limit_train")
VALIDATION_DATA = ("options", "data_root", "limit_test")


@dataclass(frozen=True, kw_only=True)
class TrainFlags:
    """Train Mask R-CNN on a dataset with noisy class labels."""

    EXAMPLE: ClassVar = "train.py configs/shapes/mask_rcnn_tiny_shapes_nl_1.py --seed 0"
    config: Path = positional("config file")
    work_dir: Path | None = original("the run folder (work_dirs/<name of the config>)")
    resume_from: Path | None = original(
        "continue from this checkpoint; for stage 2, the last one of stage 1"
    )
    resume: str | None = added(
        "continue the run in the run folder from its newest intact checkpoint, or from the one "
        "given; in a folder without any, begin, from --resume-from if that is given",
        nargs="?",
        const=NEWEST,
        metavar="CHECKPOINT",
    )
    settings: Settings = offered(*TRAINING)

    def __post_init__(self) -> None:
        if self.resume and self.resume_from is not None:
            raise UserError(
                "--resume CHECKPOINT and --resume-from both say where to continue: drop one of them"
            )


@dataclass(frozen=True, kw_only=True)
class StagesFlags:
    """Train both stages: STAGE1_CONFIG to its end, then STAGE2_CONFIG from stage 1's last
    checkpoint on, exactly as two calls of train.py do. Re-running the command resumes it.
    """

    EXAMPLE: ClassVar = (
        "train_stages.py configs/shapes/mask_rcnn_tiny_shapes_nl_1.py "
        "configs/shapes/mask_rcnn_tiny_shapes_nl_2.py"
    )
    stage1_config: Path = positional("config of stage 1, plain cross-entropy (..._nl_1.py)")
    stage2_config: Path = positional("the same but for loss_cls and more epochs (..._nl_2.py)")
    work_dir: Path | None = original(
        "where the two run folders <name of the config> are made (work_dirs)"
    )
    settings: Settings = offered(*TRAINING)


@dataclass(frozen=True, kw_only=True)
class EvaluateFlags:
    """Evaluate a checkpoint on the validation set."""

    EXAMPLE: ClassVar = (
        "test.py configs/shapes/mask_rcnn_tiny_shapes_nl_2.py "
        "work_dirs/mask_rcnn_tiny_shapes_nl_2/epoch_12.pth --eval bbox segm"
    )
    config: Path = positional("config file")
    checkpoint: Path = positional("checkpoint file, such as epoch_8.pth")
    out: Path | None = original("write all predictions into this .pkl file")
    fuse_conv_bn: bool = original("merge batch norm into the convolutions, a little faster", False)
    format_only: bool = original(
        "write predictions as COCO result files, do not evaluate them", False
    )
    metrics: tuple[str, ...] = original(
        "what to evaluate: bbox segm proposal",
        (),
        "--eval",
        choices=("bbox", "segm", "proposal"),
        metavar="METRIC",
    )
    show: bool = original("show predictions in a window", False)
    show_dir: Path | None = original("write pictures with predictions into this folder")
    show_score_thr: float = original("lowest score of a prediction that is painted (0.3)", 0.3)
    gpu_collect: bool = original(
        "gather the parts of several GPUs over these, not over files", False
    )
    tmpdir: Path | None = original("folder in which several processes gather their parts")
    work_dir: Path | None = added(
        "where <checkpoint>.metrics.json and the log, in test/, go (the checkpoint's folder; the "
        "log: work_dirs/<name of the config>)",
        None,
        "--work-dir",
    )
    settings: Settings = offered(*VALIDATION_DATA, "device", "launcher", "local_rank")

    def __post_init__(self) -> None:
        if not (self.out or self.metrics or self.format_only or self.show or self.show_dir):
            raise UserError(
                "say what to do with the predictions: at least one of --eval bbox segm, --out "
                "FILE.pkl, --format-only, --show, --show-dir DIR"
            )
        if self.metrics and self.format_only:
            raise UserError("--eval and --format-only exclude each other: drop one of them")
        if self.gpu_collect and self.tmpdir is not None:
            raise UserError("--gpu-collect needs no --tmpdir: drop one of them")
        if self.out is not None and self.out.suffix not in (".pkl", ".pickle"):
            raise UserError(f"--out {self.out}: predictions are written as a pickle; name it .pkl")
        if not 0 <= self.show_score_thr <= 1:
            raise UserError(f"--show-score-thr {self.show_score_thr}: scores lie in [0, 1]")
        screen = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
        if self.show and os.name == "posix" and not screen:
            raise UserError(
                "--show needs a screen, and there is none here: --show-dir DIR writes the pictures"
            )


@dataclass(frozen=True, kw_only=True)
class CheckDataFlags:
    """Check the images and annotations of a config."""

    EXAMPLE: ClassVar = (
        "check_data.py configs/coco/mask_rcnn_r50_fpn_1x_coco_ce.py --data_root data/coco"
    )
    config: Path = positional("config file")
    settings: Settings = offered(*TRAINING_DATA, "limit_test")

"""A training run from start to end: checks, Runner, what came out.

tools/train.py and train_stages.py are its faces.

Everything a user can mend is found before a file is written, and mostly before mmdetection is
imported (seconds).
"""

import argparse
import contextlib
import copy
import gc
import io
import logging
import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mmengine.config import Config

from noisy_instseg import experiment, run_folder
from noisy_instseg.errors import NonFiniteLossError, UserError
from noisy_instseg.options import NEWEST

# where dist_*.sh read the exit status; torch.distributed.run makes 1 of any
STATUS_FILE = "NOISY_INSTSEG_STATUS"
HARMLESS = (
    "`FileClient` will be deprecated",
    "HardDiskBackend",
    "is the alias of",
    "Exp name:",
    "OneDL",
    "Please use io functions",
)


def run_and_report(work: Callable[[], None], interrupted: str = "interrupted") -> int:
    """Runs `work`; what the user can mend is one message.

    Exit status: 0, 2 bad input, 3 a NaN, 130 `interrupted`.
    """
    status = _status_of(work, interrupted)
    if status and run_folder.is_first_process() and (file := os.environ.get(STATUS_FILE)):
        Path(file).write_text(f"{status}\n")
    return status


def _status_of(work: Callable[[], None], interrupted: str) -> int:
    try:
        work()
    except NonFiniteLossError as error:
        _say(
            f"stopped: not finite ({error}). The checkpoints of the epochs before are kept. A "
            "lower learning rate may help: "
            "--cfg-options optim_wrapper.optimizer.lr=... or optim_wrapper.clip_grad.max_norm=10"
        )
        return 3
    except (UserError, OSError) as error:
        _say(f"error: {error}")
        return 2
    except KeyboardInterrupt:
        _say(interrupted)
        return 130
    finally:
        _leave_process_group()
    return 0


def _say(text: str) -> None:
    if run_folder.is_first_process():
        print(text, file=sys.stderr, flush=True)


def _leave_process_group() -> None:
    distributed = sys.modules.get("torch.distributed")
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()


# ---- one run


def train(args: argparse.Namespace) -> None:
    """tools/train.py: a new run, or one that goes on."""
    cfg = experiment.load(args.config, args)
    cfg.work_dir = str(args.work_dir or cfg.get("work_dir") or Path("work_dirs", args.config.stem))
    path = starting_point(args, Path(cfg.work_dir))
    device_and_processes(args)
    if path is not None:
        from noisy_instseg import checkpoints

        epoch = checkpoints.check_same_run(path, experiment.identify(cfg))
        if args.resume == NEWEST and is_done(cfg, epoch):
            return print(f"the run is done: {path}")
        _refuse_idle(cfg, args.config, path, epoch)
        _refuse_overwriting(Path(cfg.work_dir), path, epoch)
    elif cfg.model.roi_head.bbox_head.loss_cls.type == "NewCombinationLoss":
        _say(
            "note: stage 2 without stage 1. The paper's goes on from stage 1's last checkpoint: "
            "give it with --resume-from, or "
            "use train_stages.py"
        )
    start(cfg, path)


def starting_point(args: argparse.Namespace, folder: Path) -> Path | None:
    """The checkpoint to go on from, None for a new run.

    Raises UserError if a run would be overwritten.
    """
    if args.resume_from is None and args.resume is None:
        if run_folder.is_run(folder):
            # DEVIATION(noisy_instseg): A run folder is never overwritten; the original replaces its
            # checkpoints one by one.
            raise UserError(
                f"{folder} already holds a run: continue it with --resume, or choose another "
                "--work-dir"
            )
        return None
    if args.resume == NEWEST:
        if (newest := run_folder.newest_intact(folder)) is not None:
            return newest[1]
        if args.resume_from is None:
            _say(f"note: {folder} holds no intact checkpoint, starting at epoch 1")
            return None
    return run_folder.find((args.resume_from or Path(args.resume)).expanduser())


def _refuse_idle(cfg: Config, config: Path, path: Path, epoch: int) -> None:
    elsewhere = path.absolute().parent != Path(cfg.work_dir).absolute()
    if epoch >= cfg.train_cfg.max_epochs and (elsewhere or is_done(cfg, epoch)):
        second = (
            f": you probably meant {config.stem[:-1]}2.py" if config.stem.endswith("nl_1") else ""
        )
        raise UserError(
            f"nothing to train: {path} has {epoch} epochs behind it, and {config.name} ends "
            "after epoch "
            f"{cfg.train_cfg.max_epochs}{second}"
        )


def _refuse_overwriting(folder: Path, path: Path, epoch: int) -> None:
    newest = run_folder.newest_intact(folder)
    same_folder = path.absolute().parent == folder.absolute()
    if newest is not None and (newest[0] > epoch or not same_folder):
        raise UserError(
            f"{folder} already holds a run up to epoch {newest[0]}, which going on from {path} "
            f"(epoch {epoch}) would "
            "overwrite: continue that one with --resume, or choose another --work-dir"
        )


def is_done(cfg: Config, epoch: int) -> bool:
    """Whether a run whose newest checkpoint is of `epoch` has nothing left to train or to evaluate."""
    rows = [row["epoch"] for row in run_folder.read_rows(Path(cfg.work_dir))]
    return epoch >= cfg.train_cfg.max_epochs and epoch in rows


# ---- two stages


def train_stages(args: argparse.Namespace) -> None:
    """tools/train_stages.py: stage 1 to its end, stage 2 from there, or on from where an earlier
    call was stopped.
    """
    paths = (args.stage1_config, args.stage2_config)
    first, second = (experiment.load(path, args) for path in paths)
    for cfg, path in zip((first, second), paths):
        cfg.work_dir = str((args.work_dir or Path("work_dirs")) / path.stem)
    check_stages(first, second)
    newest = [run_folder.newest_intact(Path(cfg.work_dir)) for cfg in (first, second)]
    device_and_processes(args)
    from noisy_instseg import checkpoints

    for place, cfg in zip(newest, (first, second)):
        if place is not None:
            checkpoints.check_same_run(place[1], experiment.identify(cfg))
    if newest[1] is not None:
        if is_done(second, newest[1][0]):
            return print(f"both stages are done: {newest[1][1]}")
        return start(second, newest[1][1])
    if newest[0] is None or not is_done(first, newest[0][0]):
        start(first, newest[0] and newest[0][1])
    start(second, Path(first.work_dir, f"epoch_{first.train_cfg.max_epochs}.pth"))


def check_stages(first: Config, second: Config) -> None:
    """Stage 2 continues stage 1: all but the loss and the number of epochs has to be the same.

    Raises UserError.
    """
    names = f"{Path(first.work_dir).name} and {Path(second.work_dir).name}"
    if first.work_dir == second.work_dir:
        raise UserError(
            f"{names}: both stages would use one run folder; give the two configs names of "
            "their own"
        )
    before, after = first.train_cfg.max_epochs, second.train_cfg.max_epochs
    if not before < after:
        raise UserError(
            f"stage 1 ends after epoch {before} and stage 2 after epoch {after}, both counted "
            "from the start of "
            "stage 1: stage 2 would train nothing; give its config the larger train_cfg.max_epochs"
        )
    if differences := list(
        run_folder.differing(experiment.identify(first), experiment.identify(second))
    ):
        raise UserError(
            f"{names} differ in more than the loss and the number of epochs: "
            f"{run_folder.some(differences)} "
            f"(then: stage 1, now: stage 2). Make them alike; a scheduler by epoch needs "
            f"end={after} in both, or stage 1 ends it after epoch {before}"
        )


# ---- mmengine


def device_and_processes(args: argparse.Namespace) -> None:
    """The first thing that is slow: imports torch, refuses what this machine has not, joins the
    other processes.
    """
    for category, text in (
        (FutureWarning, ""),
        (DeprecationWarning, ""),
        (UserWarning, "faster_coco_eval"),
    ):
        warnings.filterwarnings("ignore", text, category)
    import torch

    cuda = torch.cuda.is_available()
    if not cuda and (args.device == "cuda" or getattr(args, "gpu_ids", None)):
        raise UserError(
            "no usable GPU: torch.cuda.is_available() is False here; leave out --device cuda "
            "and --gpu-ids to use "
            "the CPU"
        )
    if not cuda and getattr(args, "amp", "auto") == "bf16":
        raise UserError("--amp bf16 needs a GPU: leave it out, float32 is the default")
    from noisy_instseg import checkpoints

    checkpoints.install()
    launcher = getattr(args, "launcher", "none")
    if launcher != "none" and not cuda:
        if launcher != "pytorch":
            raise UserError(
                f"--launcher {launcher} needs GPUs; on CPUs use tools/dist_train.sh, or one process"
            )
        torch.distributed.init_process_group("gloo")


def start(cfg: Config, go_on_from: Path | None) -> None:
    """Trains with mmengine's Runner, from `go_on_from` or from the pretrained weights."""
    from mmengine.runner import Runner

    import_modules(cfg)
    network_without_weights(cfg)  # what is wrong with it is told before the run folder is made
    if go_on_from is None:
        _check_pretrained(cfg)
    else:
        cfg.load_from, cfg.resume = str(go_on_from), True
    wrap_for_cpu(cfg)
    run_folder.remove_unfinished(Path(cfg.work_dir))
    identity = experiment.identify(cfg)  # reads all annotations, so once
    runner = Runner.from_cfg(cfg)
    run_folder.write_record(Path(cfg.work_dir), identity)
    quiet(runner)
    _set_up(runner, cfg, identity)
    runner.train()
    _print_end(Path(cfg.work_dir))
    del runner
    gc.collect()  # the network of stage 1, before that of stage 2 is made


def _set_up(runner: Any, cfg: Config, identity: dict[str, Any]) -> None:
    """What a config cannot say."""
    import torch
    from mmengine.model import is_model_wrapper

    from noisy_instseg.hooks import RunRecordHook

    runner.register_hook(RunRecordHook(identity))
    if cfg.randomness.deterministic:
        # RoIAlign has no deterministic backward pass on a GPU, and mmengine's strict mode would
        # refuse to train
        torch.use_deterministic_algorithms(True, warn_only=True)
    if cfg.get("resume"):  # the checkpoint has all weights: ImageNet's need not be there any more
        network = runner.model.module if is_model_wrapper(runner.model) else runner.model
        network.backbone.init_cfg = None
    _note_batch(runner, cfg)


def import_modules(cfg: Config) -> None:
    """What the config says it needs, mmdetection with it."""
    from mmengine.utils import import_modules_from_strings

    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # mmdetection says twice which optional packages it has not found
        import_modules_from_strings(**cfg.custom_imports)


def network_without_weights(cfg: Config) -> Any:
    """The network of a config, with shapes and no memory.

    Raises UserError if it cannot be built, with the builder's reason.
    """
    import torch
    from mmdet.registry import MODELS

    try:
        with torch.device("meta"):
            return MODELS.build(copy.deepcopy(cfg.model))  # building writes into what it is given
    except Exception as error:  # whatever a wrong setting of any module raises
        raise UserError(
            f"the network cannot be built: {str(error).splitlines()[0]}; see `model` in the config"
        ) from error


def wrap_for_cpu(cfg: Config) -> None:
    """mmengine hands device numbers to DistributedDataParallel, which a CPU has not."""
    import torch

    if cfg.launcher != "none" and not torch.cuda.is_available():
        cfg.model_wrapper_cfg = dict(
            type="MMDistributedDataParallel", device_ids=None, broadcast_buffers=False
        )


def quiet(runner: Any) -> None:
    """Keeps mmengine's words about its own insides out of the log."""
    runner.logger.addFilter(
        lambda record: not any(text in record.getMessage() for text in HARMLESS)
    )


def _check_pretrained(cfg: Config) -> None:
    """ImageNet weights have to be at hand before the run folder is made."""
    from noisy_instseg import checkpoints

    weights = (cfg.model.get("backbone", {}).get("init_cfg") or {}).get("checkpoint")
    if weights and weights.startswith(("torchvision://", "modelzoo://")):
        checkpoints.pretrained(weights)
    elif weights:
        checkpoints.load(Path(weights).expanduser())
    if cfg.get("load_from"):
        path = Path(cfg.load_from).expanduser()
        checkpoints.check_weights(
            network_without_weights(cfg).state_dict(), checkpoints.load(path), path
        )


def _note_batch(runner, cfg: Config) -> None:
    """The learning rate belongs to the published batch; nothing changes either in silence."""
    batch = (
        runner.world_size
        * cfg.train_dataloader.get("batch_size", 1)
        * cfg.optim_wrapper.get("accumulative_counts", 1)
    )
    published = (cfg.get("auto_scale_lr") or {}).get("base_batch_size", batch)
    line = (
        f"batch: {runner.world_size} process(es) x "
        f"{cfg.train_dataloader.get('batch_size', 1)} image(s) = {batch} a step"
    )
    if batch != published:
        line += (
            f"; the learning rate is made for {published}. To train as published: --cfg-options "
            f"train_dataloader.batch_size={max(1, published // runner.world_size)}"
        )
    runner.logger.log(logging.INFO if batch == published else logging.WARNING, line)


def _print_end(folder: Path) -> None:
    rows = [row for row in run_folder.read_rows(folder) if row.get("segm_mAP") is not None]
    if rows and run_folder.is_first_process():
        best = max(rows, key=lambda row: row["segm_mAP"])
        last = rows[-1]
        print(
            f"mask AP (COCO, IoU 0.50:0.95): {100 * last['segm_mAP']:.1f} % in the last epoch, "
            f"{last['epoch']} (what the paper "
            f"reports); best {100 * best['segm_mAP']:.1f} %, in epoch {best['epoch']}. Run "
            f"folder: {folder}"
        )

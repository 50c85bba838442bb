"""What tools/train.py and train_stages.py do: where a run starts, its Runner, what came out.

    cfg = experiment.load(config, settings)
    with run_folder.locked(place(cfg, flags)):
        runner = build(cfg, start_of(cfg, flags).checkpoint)
        runner.train()                                      # mmengine's loop over epochs and steps
        report(cfg)

Everything a user can fix is found before a file is written, and mostly before mmdetection is
imported (seconds).
"""

import contextlib
import copy
import gc
import io
import logging
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config

from noisy_instseg.run import experiment, identity, run_folder
from noisy_instseg.run.config import NEWEST, Settings, StagesFlags, TrainFlags
from noisy_instseg.run.datasets import parts_of
from noisy_instseg.run.device import choose_device, is_first_process, join_processes
from noisy_instseg.run.errors import say
from shared.errors import UserError
from shared.files import remove_unfinished

HARMLESS = (
    "`FileClient` will be deprecated",
    "HardDiskBackend",
    "is the alias of",
    "Exp name:",
    "OneDL",
    "Please use io functions",
)


@dataclass(frozen=True)
class Start:
    """Where a run begins: a checkpoint, or nothing but pretrained weights."""

    checkpoint: Path | None = None
    is_done: bool = False  # nothing is left to train or to evaluate


# ---- one run


def place(cfg: Config, flags: TrainFlags) -> Path:
    """The run folder; sets cfg.work_dir."""
    folder = Path(flags.work_dir or cfg.get("work_dir") or Path("work_dirs", flags.config.stem))
    cfg.work_dir = str(folder)
    return folder


def start_of(cfg: Config, flags: TrainFlags) -> Start:
    """Where the run of these flags, in cfg.work_dir, begins. Raises UserError."""
    path = _checkpoint_of(Path(cfg.work_dir), flags)
    load_torch(flags.settings)
    if path is not None:
        # the published --resume-from may lead from stage 1 to stage 2 in one folder, too
        epoch = _check_same_run(path, cfg, goes_on=flags.resume is not None)
        if flags.resume == NEWEST and is_done(cfg, epoch):
            return Start(path, is_done=True)
        _refuse_idle(cfg, flags.config, path, epoch)
        _refuse_overwriting(Path(cfg.work_dir), path, epoch)
    elif cfg.model.roi_head.bbox_head.loss_cls.type == "NewCombinationLoss":
        say(
            "note: stage 2 without stage 1. The paper's continues from stage 1's last checkpoint: "
            "give it with --resume-from, or use train_stages.py"
        )
    return Start(path)


def _check_same_run(path: Path, cfg: Config, goes_on: bool = True) -> int:
    """The epochs a checkpoint has behind it. Raises UserError if it is of another run.

    The loss and the validation set may change where a run begins from another's checkpoint, not
    where it goes on in its folder.
    """
    from noisy_instseg.run import checkpoints

    goes_on = goes_on and _lies_in(path, Path(cfg.work_dir))
    own = identity.loss_and_validation(cfg) if goes_on else {}
    return checkpoints.check_same_run(path, identity.identify(cfg), own)


def _lies_in(path: Path, folder: Path) -> bool:
    return path.absolute().parent == folder.absolute()


def _checkpoint_of(folder: Path, flags: TrainFlags) -> Path | None:
    """The checkpoint to continue from, None for a new run.

    Raises UserError if a run would be overwritten.
    """
    if flags.resume_from is None and flags.resume is None:
        if run_folder.is_run(folder):
            # DEVIATION(noisy_instseg): A run folder is never overwritten; the original replaces its
            # checkpoints one by one.
            raise UserError(
                f"{folder} already holds a run: continue it with --resume, or choose another "
                "--work-dir"
            )
        return None
    if flags.resume == NEWEST:
        if (newest := run_folder.newest_intact(folder)) is not None:
            return newest[1]
        if flags.resume_from is None:
            say(f"note: {folder} holds no intact checkpoint, starting at epoch 1")
            return None
    return run_folder.find((flags.resume_from or Path(flags.resume or "")).expanduser())


def _refuse_idle(cfg: Config, config: Path, path: Path, epoch: int) -> None:
    elsewhere = not _lies_in(path, Path(cfg.work_dir))
    if epoch >= cfg.train_cfg.max_epochs and (elsewhere or is_done(cfg, epoch)):
        second = (
            f": you probably meant {config.stem[:-1]}2.py" if config.stem.endswith("nl_1") else ""
        )
        raise UserError(
            f"nothing to train: {path} has {epoch} epochs behind it, and {config.name} ends after "
            f"epoch {cfg.train_cfg.max_epochs}{second}"
        )


def _refuse_overwriting(folder: Path, path: Path, epoch: int) -> None:
    newest = run_folder.newest_intact(folder)
    if newest is not None and (newest[0] > epoch or not _lies_in(path, folder)):
        raise UserError(
            f"{folder} already holds a run up to epoch {newest[0]}, which continuing from {path} "
            f"(epoch {epoch}) would overwrite: continue that one with --resume, or choose another "
            "--work-dir"
        )


def is_done(cfg: Config, epoch: int) -> bool:
    """Whether a run with a checkpoint of `epoch` has nothing left to train or to evaluate."""
    rows = [row["epoch"] for row in run_folder.read_rows(Path(cfg.work_dir))]
    return epoch >= cfg.train_cfg.max_epochs and epoch in rows


# ---- two stages


@contextlib.contextmanager
def stages_of(flags: StagesFlags) -> Iterator[Iterator[tuple[Config, Path | None]]]:
    """What is left to train, each with the checkpoint it continues from; both folders are locked.

    Stage 1 to its end, then stage 2 from there; the caller trains one before it asks for the next.
    """
    paths = (flags.stage1_config, flags.stage2_config)
    stages = [experiment.load(path, flags.settings, trains=path == paths[0]) for path in paths]
    for cfg, path in zip(stages, paths):
        cfg.work_dir = str((flags.work_dir or Path("work_dirs")) / path.stem)
    check_stages(*stages)
    with contextlib.ExitStack() as locks:
        for cfg in stages:
            locks.enter_context(run_folder.locked(Path(cfg.work_dir)))
        yield _left_to_train(flags, *stages)


def _left_to_train(
    flags: StagesFlags, first: Config, second: Config
) -> Iterator[tuple[Config, Path | None]]:
    stages = first, second
    newest = [run_folder.newest_intact(Path(cfg.work_dir)) for cfg in stages]
    load_torch(flags.settings)
    for cfg, found in zip(stages, newest):
        if found is not None:
            _check_same_run(found[1], cfg)
    at_first, at_second = newest
    if at_second is None:
        if at_first is None or not is_done(first, at_first[0]):
            yield first, at_first and at_first[1]
        yield second, Path(first.work_dir, f"epoch_{first.train_cfg.max_epochs}.pth")
    elif is_done(second, at_second[0]):
        print(f"both stages are done: {at_second[1]}")
    else:
        yield second, at_second[1]


def check_stages(first: Config, second: Config) -> None:
    """Stage 2 continues stage 1: all but the loss and the number of epochs has to be the same.

    Raises UserError.
    """
    names = f"{Path(first.work_dir).name} and {Path(second.work_dir).name}"
    if first.work_dir == second.work_dir:
        raise UserError(
            f"{names}: both stages would use one run folder; give the two configs different names"
        )
    before, after = first.train_cfg.max_epochs, second.train_cfg.max_epochs
    if not before < after:
        raise UserError(
            f"stage 1 ends after epoch {before} and stage 2 after epoch {after}, both counted from "
            "the start of stage 1: stage 2 would train nothing; give its config the larger "
            "train_cfg.max_epochs"
        )
    found = run_folder.differing(identity.identify(first), identity.identify(second))
    if differences := list(found):
        raise UserError(
            f"{names} differ in more than the loss and the number of epochs: "
            f"{run_folder.some(differences)} (then: stage 1, now: stage 2). Make them alike; a "
            f"scheduler by epoch needs end={after} in both, or stage 1 ends it after epoch {before}"
        )


# ---- mmengine


def load_torch(settings: Settings) -> None:
    """The first thing that is slow: imports torch, joins the other processes, makes files safe."""
    join_processes(settings)
    from noisy_instseg.run import checkpoints

    checkpoints.install()


def build(cfg: Config, checkpoint: Path | None) -> Any:
    """mmengine's Runner, from a checkpoint or from the pretrained weights; makes the run folder."""
    from mmengine.runner import Runner

    from noisy_instseg.run.hooks import ProgressHook, RunRecordHook
    from noisy_instseg.run.trial_build import check_settings

    gc.collect()  # the network of stage 1, before that of stage 2 is made
    import_modules(cfg)
    # what is wrong with any of it is told before the run folder is made
    check_settings(cfg, network_without_weights(cfg))
    if checkpoint is None:
        _check_pretrained(cfg)
    else:
        cfg.load_from, cfg.resume = str(checkpoint), True
    wrap_for_cpu(cfg)
    remove_unfinished(Path(cfg.work_dir))
    same = identity.identify(cfg)  # reads all annotations, so once
    own = identity.loss_and_validation(cfg)
    runner = Runner.from_cfg(cfg)
    run_folder.write_record(Path(cfg.work_dir), same)
    quiet(runner)
    runner.register_hook(RunRecordHook(same, own))
    runner.register_hook(ProgressHook())
    _set_up(runner, cfg)
    return runner


def _set_up(runner: Any, cfg: Config) -> None:
    """What a config cannot say."""
    import torch
    from mmengine.model import is_model_wrapper

    if cfg.randomness.deterministic:
        # RoIAlign has no deterministic backward pass on a GPU, and mmengine's strict mode would
        # refuse to train
        torch.use_deterministic_algorithms(True, warn_only=True)
    if cfg.get("resume"):  # the checkpoint has all weights: ImageNet's need not be there any more
        network = runner.model.module if is_model_wrapper(runner.model) else runner.model
        network.backbone.init_cfg = None
    _note_batch(runner, cfg)


def import_modules(cfg: Config) -> None:
    """What the config says it needs, mmdetection with it. Raises UserError."""
    from mmengine.utils import import_modules_from_strings

    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        # mmdetection says twice which optional packages it has not found
        warnings.simplefilter("ignore")
        try:
            import_modules_from_strings(**cfg.custom_imports)
        except ImportError as error:
            raise UserError(
                f"custom_imports of the config: {error} ({error.__context__}): correct the name, "
                "or say with PYTHONPATH where the module is"
            ) from error


def network_without_weights(cfg: Config) -> Any:
    """The network of a config, with shapes and no memory. Raises UserError with the reason."""
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
    """mmengine hands device numbers to DistributedDataParallel, which a CPU does not have."""
    if cfg.launcher != "none" and choose_device("auto").type == "cpu":
        cfg.model_wrapper_cfg = dict(
            type="MMDistributedDataParallel", device_ids=None, broadcast_buffers=False
        )


def quiet(runner: Any) -> None:
    """Keeps mmengine's words about its own insides out of the log."""
    # no traceback for a line on a full disk: the next checkpoint or row ends the run with a message
    logging.raiseExceptions = False
    runner.logger.addFilter(
        lambda record: not any(text in record.getMessage() for text in HARMLESS)
    )


def _check_pretrained(cfg: Config) -> None:
    """ImageNet weights have to be at hand before the run folder is made."""
    from noisy_instseg.run import checkpoints

    weights = (cfg.model.get("backbone", {}).get("init_cfg") or {}).get("checkpoint")
    if weights and weights.startswith(("torchvision://", "modelzoo://")):
        checkpoints.pretrained(weights)
    elif weights:
        checkpoints.load(Path(weights).expanduser())
    if cfg.get("load_from"):
        path = Path(cfg.load_from).expanduser()
        expected = network_without_weights(cfg).state_dict()
        state = checkpoints.load(path)
        checkpoints.check_weights(expected, state, path)
        names, part = checkpoints.class_names(state), next(parts_of(cfg, ["train"]))
        if names is not None and names != part.classes:
            say(
                f"note: {path} was trained on the classes {', '.join(names[:8])}, in this order, "
                "and its last layer begins with the weights of those"
            )


def _note_batch(runner: Any, cfg: Config) -> None:
    """In the log; on the terminal it stands first, see `experiment.load`."""
    line, is_published = experiment.describe_batch(cfg, runner.world_size)
    runner.logger.log(logging.INFO if is_published else logging.WARNING, line)


def report(cfg: Config) -> None:
    """Prints the mask AP of the last and of the best epoch."""
    folder = Path(cfg.work_dir)
    rows = [row for row in run_folder.read_rows(folder) if row.get("segm_mAP") is not None]
    if rows and is_first_process():
        best, last = max(rows, key=lambda row: float(row["segm_mAP"])), rows[-1]
        print(
            f"mask AP (COCO, IoU 0.50:0.95): {100 * last['segm_mAP']:.1f} % in the last epoch, "
            f"{last['epoch']} (what the paper reports); best {100 * best['segm_mAP']:.1f} %, in "
            f"epoch {best['epoch']}. Run folder: {folder}"
        )

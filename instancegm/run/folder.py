"""The folder of a run in progress: one process's alone, written epoch by epoch."""

from collections.abc import Sequence
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from instancegm.run import checkpoint, published
from instancegm.run.classes import few_samples
from instancegm.run.errors import CheckpointError
from instancegm.run.experiment import Experiment, refuse_to_overwrite
from instancegm.run.record import Metrics, Row, start_wandb, write_config
from shared.datasets.red_mini_imagenet import RATE_MEANING
from shared.files import remove_unfinished
from shared.formats.noise_file import write
from shared.run_folder import RunFolderError, is_locked, locked, naming


class RunFolder:
    """Locks the run folder, resumes the run in it if --resume says so, and brings it up to date.

    with RunFolder(run) as folder:
        folder.record(row)

    With --export it only reads. Of several ranks the first one does it, and gives the others the
    state.
    """

    def __init__(self, run: Experiment) -> None:
        self._run = run

    def __enter__(self) -> Self:
        run = self._run
        with ExitStack() as stack:
            run.folder = run.ranks.same(lambda: _claim(run, stack))
            stack.enter_context(naming(run.folder))
            if run.config.resume:
                _resume(run)
            if run.config.export and not run.rows:
                raise CheckpointError(f"{run.folder} has no checkpoint to export: train it first")
            if run.ranks.is_first and not run.config.export:
                self._open(stack)
            self._stack = stack.pop_all()
        return self

    def _open(self, stack: ExitStack) -> None:
        run = self._run
        remove_unfinished(run.folder)
        config = _recorded(run)
        write_config(run.folder, config, **{"scikit-learn": version("scikit-learn")})
        write(run.folder / "noise.npz", run.noise)
        _print_start(run)
        self._wandb = start_wandb("instanceGM", run.folder, config) if run.config.wandb else None
        if self._wandb is not None:
            stack.callback(self._wandb.finish)
        self._events = SummaryWriter(str(run.folder / "tensorboard"), purge_step=run.next_epoch)
        stack.callback(self._events.close)
        self._metrics = Metrics(run.folder, run.rows)
        published.write_logs(run.data_word, run.config, run.noise_word, run.rows)

    def record(self, row: Row) -> None:
        """Logs an epoch and saves the state after it."""
        run = self._run
        if not run.ranks.is_first:
            return
        is_best = improves(row, run.rows, "val_accuracy" if "val" in run.tests else "accuracy")
        self._metrics.append(row)
        published.write_logs(run.data_word, run.config, run.noise_word, run.rows)
        numbers = {name: value for name, value in row.items() if isinstance(value, int | float)}
        for name, value in numbers.items():
            self._events.add_scalar(name, value, row["epoch"])
        self._events.flush()
        if self._wandb is not None:
            self._wandb.log(published.wandb_metrics(row, run.config), step=row["epoch"])
        alone = len(run.peers) == 1
        for peer in run.peers:
            name = "val_accuracy" if alone else f"val_accuracy_{peer.number}"
            if improves(row, run.rows[:-1], name):
                published.save_best_network(run.folder, run.config, peer)
        # In this order: the last one counts.
        names = [checkpoint.BEST, checkpoint.LAST] if is_best else [checkpoint.LAST]
        checkpoint.save(run.state_dict(), *(run.folder / name for name in names))
        shown = "no test set" if row["accuracy"] is None else f"Accuracy: {row['accuracy']:.2f}%"
        tqdm.write(f"| Test Epoch #{row['epoch']}\t {shown}\t ({row['seconds']:.1f} s)")

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        folder = self._run.folder
        if isinstance(error, FloatingPointError):
            checkpoint.note_last_good(error, folder)
        self._stack.__exit__(kind, error, trace)


def improves(row: Row, earlier: Sequence[Row], name: str) -> bool:
    """Whether this epoch's figure is above those of all earlier ones; not where there is none."""
    value = row.get(name)
    return value is not None and value > max((past[name] for past in earlier), default=-1.0)


def _claim(run: Experiment, stack: ExitStack) -> Path:
    """The run folder, locked until the stack is closed.

    --output_dir, or runs/<name>, with a number where a run is there that is not continued, or is in
    progress. Without --output_dir --resume continues the last one of these settings.
    """
    config = run.config
    if config.output_dir is not None:
        stack.enter_context(locked(config.output_dir))
        refuse_to_overwrite(config.output_dir, config.resume)
        return config.output_dir
    numbered = [run.folder.with_name(f"{run.folder.name}-{number}") for number in range(2, 1000)]
    candidates = [run.folder, *numbered]
    taken = [path for path in candidates if (path / checkpoint.LAST).exists() or is_locked(path)]
    if config.resume and taken:
        path = next((path for path in reversed(taken) if _is_the_same(run, path)), taken[-1])
        stack.enter_context(locked(path))
        return path
    for path in candidates:
        if path not in taken:
            try:
                stack.enter_context(locked(path))
                return path
            except RunFolderError:  # another process was quicker
                continue
    raise RunFolderError(f"{run.folder} and its numbers are all taken: give an --output_dir")


def _is_the_same(run: Experiment, folder: Path) -> bool:
    """Whether a run of these settings is in the folder, and no process; tensors are not read."""
    state = None if is_locked(folder) else checkpoint.load_newest(folder, "meta")
    saved = {} if state is None else state.get("identity", {})
    names = {*saved, *run.identity}
    return all(saved.get(name) == run.identity.get(name) for name in names)


def _resume(run: Experiment) -> None:
    state = run.ranks.same(lambda: checkpoint.load_newest(run.folder, "cpu"))
    if state is None:
        print(f"note: {run.folder} has no checkpoint; starting from the beginning")
    else:
        run.load_state_dict(state)


def _recorded(run: Experiment) -> dict[str, Any]:
    """What config.yaml says: the settings, and what they came to."""
    return {
        **run.config.recorded(),
        "method": run.config.method,
        "measured_noise_rate": run.noise.header.measured_rate,
        **{name: run.identity[name] for name in ("bf16", "data_sha256", "noisy_labels_sha256")},
        "data_location": None if run.data_location is None else run.data_location.resolve(),
        "device_used": str(run.device),
        "threads": torch.get_num_threads(),
        "ranks": run.ranks.size,
    }


def _print_start(run: Experiment) -> None:
    config, known = run.config, run.noise.header
    sizes = [f"{len(part.images)} {name} images" for name, part in run.tests.items()]
    print(
        f"{config.method} on {config.dataset}: {len(run.train_set.images)} training images of "
        f"{config.image_size} x {config.image_size} pixels, {', '.join(sizes) or 'no test images'}"
    )
    if config.dataset == "red_blue":
        meaning = (
            RATE_MEANING if config.colour == "red" else "labels of images were changed by chance"
        )
        print(f"noise: {config.colour}, rate {config.r:g}; {meaning}")
    elif known.measured_rate is None:
        source = f"labels of {config.noise_file}" if config.noise_file else "none added"
        print(f"noise: {source}; how many of the labels are wrong is not known")
    else:
        nominal = "" if known.nominal_rate is None else f"nominal rate {known.nominal_rate:g}, "
        source = config.noise_file or config.noise_mode
        print(f"noise: {source}, {nominal}measured {known.measured_rate:.4f}")
    print(
        f"preset (override with the flags): num_epochs {config.num_epochs}, warm_up "
        f"{config.warm_up}, lr_drop {config.lr_drop}, lambda_u {config.lambda_u:g}, p_threshold "
        f"{config.p_threshold:g}, width {config.width}, batch_size {config.batch_size}"
    )
    if config.network != "preact_resnet18":
        start = "from scratch" if config.pretrained == "none" else "from ImageNet weights"
        print(f"classifiers: {config.network}, {start}")
    few = few_samples(run.noise.noisy_labels, run.class_names, config.batch_size)
    if few is not None and config.mode != "ce":
        print(f"warning: {few}")
    precision = "bfloat16 autocast" if run.identity["bf16"] else "float32"
    several = f"{run.ranks.size} processes, " if run.ranks.size > 1 else ""
    print(f"{several}{run.device}, {precision}; run folder {run.folder}")
    if run.next_epoch:
        print(f"resumed: epoch {run.next_epoch - 1} of {config.num_epochs} is done")

"""The folder of a run: found or made, never another run's, resumed, and written after every epoch.

The run folder of every project of this repository looks alike: config.yaml, metrics.jsonl,
TensorBoard events, last.ckpt, best.ckpt.
"""

import filecmp
import glob
import io
import json
import math
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from lra_diffusion.method.ranks import ALONE, Ranks
from shared import run_folder
from shared.files import remove_unfinished, write_atomically
from shared.formats.noise_file import NoiseFile, write

from . import checkpoint
from .errors import CheckpointError
from .record import Metrics, Row, read_config, start_wandb, write_config
from .report import chosen
from .schema import RunConfig

RUNS = Path("runs")
# What a longer run of the same settings has otherwise: epochs, and where the cosine ends with them.
PROLONGED = ("nepoch", "lr_horizon")


class Learner(Protocol):
    """What training changes."""

    optimizer: torch.optim.Optimizer

    def state_dict(self) -> dict[str, Any]: ...

    def load_networks(self, state: dict[str, Any]) -> None: ...


class RunFolder:
    """A run on disk.

    rows: the figures of the epochs that are done. identity: all that decides the numbers of a run;
    a checkpoint of another one is refused, but for one of fewer epochs, which is prolonged.
    path: held by this run alone, see `claimed`. Of several ranks the first one reads and writes.
    """

    def __init__(
        self,
        config: RunConfig,
        name: str,
        identity: dict[str, Any],
        path: Path,
        ranks: Ranks = ALONE,
    ) -> None:
        self.name, self.identity, self.path, self.ranks = name, identity, path, ranks
        self.rows: list[Row] = []
        self._ranks_before = ranks.size
        # Each time: epochs that were done, and where the learning rate ended before, and does now.
        self.prolonged: list[dict[str, int]] = []
        self.published_at = self.path if config.output_dir else Path("model")

    @property
    def next_epoch(self) -> int:
        return len(self.rows) + 1

    @property
    def nepoch(self) -> int:
        return int(self.identity["nepoch"])

    def resumed_lines(self) -> list[str]:
        """What is said at the start of a run that was resumed, or prolonged."""
        done = len(self.rows)
        lines = [f"resumed: epoch {done} of {self.nepoch} is done"] if done else []
        if self._ranks_before != self.ranks.size:
            lines.append(
                f"note: the checkpoint is of {self._ranks_before} processes, now there are "
                f"{self.ranks.size}: batch normalisation takes its statistics from other rows, so "
                "the result is not that of a run in one go"
            )
        hint = "; --lr_horizon in the first command leaves room for more"
        hint = hint if "lr_horizon" in self.identity else ""
        for times in self.prolonged:
            lines.append(
                f"note: prolonged: the learning rate of epochs 1 to {times['done']} was one that "
                f"ends at epoch {times['before']}, from epoch {times['done'] + 1} on one that ends "
                f"at epoch {times['now']}; so the result is not that of a run in one go{hint}"
            )
        return lines

    def open(
        self,
        learner: Learner,
        config: RunConfig,
        entries: Mapping[str, Any],
        noise: NoiseFile | None = None,
    ) -> None:
        """Resumes the run if that is asked for, then writes what it is of and opens the logs.

        entries: of config.yaml; noise: the labels trained on.
        """
        self._learner = learner
        if config.resume:
            self._resume()
        if not self.ranks.is_first:
            return
        self.path.mkdir(parents=True, exist_ok=True)
        remove_unfinished(self.path)
        prolonged = {"prolonged": self.prolonged} if self.prolonged else {}
        write_config(self.path, {**entries, **prolonged})
        self._metrics = Metrics(self.path, self.rows)
        self._events = SummaryWriter(str(self.path), purge_step=self.next_epoch)
        wandb = entries.get("wandb")
        self._wandb = start_wandb("lra-diffusion", self.path, entries) if wandb else None
        if noise is not None:
            write(self.path / "noise.npz", noise)

    def read(self, learner: Learner) -> None:
        """Loads a run that does not go on: nothing is written. Raises CheckpointError."""
        self._learner = learner
        self._resume()
        if not self.rows:
            raise CheckpointError(f"{self.path} has no checkpoint to export: train it first")

    def _resume(self) -> None:
        state = self.ranks.same(lambda: checkpoint.load_newest(self.path, "cpu"))
        if state is None:
            print(f"note: {self.path} has no checkpoint; starting from the beginning")
        else:
            self.load_state_dict(state)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if "identity" not in state:
            raise CheckpointError(
                "the checkpoint is not one of this script: choose another --output_dir"
            )
        saved, rows = dict(state["identity"]), list(state["rows"])
        self.prolonged = list(state.get("prolonged", ()))
        if _is_prolonged(saved, self.identity):
            before = saved.get("lr_horizon", saved["nepoch"])
            now = self.identity.get("lr_horizon", self.nepoch)
            if before != now:
                times = {"done": len(rows), "before": before, "now": now}
                self.prolonged = [*self.prolonged, times]
            saved |= {key: self.identity[key] for key in PROLONGED if key in saved}
        checkpoint.refuse_other_run(saved, self.identity)
        self._learner.load_networks(state)
        checkpoint.load_optimizer(self._learner.optimizer, state["optimizer"])
        self.rows, self._ranks_before = rows, state.get("ranks", 1)

    def progress(self, rows: Iterable[Row], total: int) -> Iterator[Row]:
        """The rows with a progress bar; the logs are closed after them, whatever happens."""
        try:
            yield from tqdm(rows, "epochs", total, initial=len(self.rows), disable=None)
        finally:
            if self.ranks.is_first:
                with suppress(OSError):  # of a full disk, which `log` has told
                    self._events.close()
                if self._wandb is not None:
                    self._wandb.finish()

    def log(self, row: Row) -> bool:
        """Adds an epoch to metrics.jsonl and the events; True if it is the best one so far."""
        if not self.ranks.is_first:
            self.rows.append(row)
            return False
        best = chosen(self.rows)
        numbers = {name: value for name, value in row.items() if name != "epoch" and _shown(value)}
        try:
            self._metrics.append(row)
            for name, value in numbers.items():
                self._events.add_scalar(name, value, row["epoch"])
            self._events.flush()
        except OSError as error:  # a full disk, found when the line is flushed, names no file
            log = error.filename or str(self.path / "metrics.jsonl")
            raise OSError(error.errno, error.strerror, log) from error
        if self._wandb is not None:
            self._wandb.log(numbers, step=row["epoch"])
        return chosen(self.rows) is not best

    def save(self, is_best: bool) -> None:
        """Writes the checkpoints; the last one counts, so it comes last."""
        if not self.ranks.is_first:
            return
        state = {**self._learner.state_dict(), "rows": self.rows, "identity": self.identity}
        state |= {"prolonged": self.prolonged} if self.prolonged else {}
        state |= {"ranks": self.ranks.size} if self.ranks.size > 1 else {}
        names = [checkpoint.BEST, checkpoint.LAST] if is_best else [checkpoint.LAST]
        checkpoint.save(state, *(self.path / name for name in names))

    def places(self, file_name: str) -> tuple[Path, Path]:
        """A file in the run folder, and where the published scripts have it."""
        return self.path / file_name, self.published_at / file_name


@contextmanager
def reserved(config: RunConfig, ranks: Ranks = ALONE) -> Iterator[None]:
    """Keeps other processes out of --output_dir, if it is given, before anything is computed.

    Raises RunFolderError if one is in it, CheckpointError if it holds a run that is not to be
    resumed.
    """
    folder = config.output_dir
    if folder is None or not ranks.is_first:
        yield
        return
    with run_folder.locked(folder):
        if not config.resume and (folder / checkpoint.LAST).exists():
            raise CheckpointError(
                f"{folder} holds a run already: add --resume to continue it, or choose another "
                "--output_dir"
            )
        yield


@contextmanager
def claimed(
    config: RunConfig, name: str, identity: dict[str, Any], ranks: Ranks = ALONE
) -> Iterator[RunFolder]:
    """The folder of a run, which processes of others are kept out of until the run ends."""
    with ExitStack() as locks:
        path = ranks.same(lambda: _held(config, name, identity, locks))
        locks.enter_context(run_folder.naming(path))
        try:
            yield RunFolder(config, name, identity, path, ranks)
        except FloatingPointError as error:
            checkpoint.note_last_good(error, path)
            raise


def _held(config: RunConfig, name: str, identity: dict[str, Any], locks: ExitStack) -> Path:
    """The path of a run's folder, locked; one that another process holds is passed over."""
    if config.output_dir is not None:
        return config.output_dir  # which is locked already, see `reserved`
    for path in _earlier(name, identity) if config.resume else ():
        with suppress(run_folder.RunFolderError):
            locks.enter_context(run_folder.locked(path))
            return path
    path = RUNS / f"{name}_{datetime.now():%Y-%m-%d_%H-%M-%S.%f}"
    locks.enter_context(run_folder.locked(path))
    return path


def _is_prolonged(saved: Mapping[str, Any], current: Mapping[str, Any]) -> bool:
    """Is this the same run with more epochs?"""
    keys = {*saved, *current} - {*PROLONGED}
    same = all(saved.get(key) == current.get(key) for key in keys)
    return same and 0 < saved.get("nepoch", 0) < current.get("nepoch", 0)


def _shown(value: object) -> bool:
    """Is it a number that a curve can show?"""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _earlier(name: str, identity: dict[str, Any]) -> Iterator[Path]:
    """The runs of the same identity, the newest first, then those that it prolongs."""
    folders = sorted(RUNS.glob(f"{glob.escape(name)}_*"), reverse=True)  # of any file's name
    known = [(folder, (read_config(folder) or {}).get("identity") or {}) for folder in folders]
    yield from (folder for folder, found in known if found == identity)
    yield from (folder for folder, found in known if _is_prolonged(found, identity))


# ---- the file of a model, in the run folder and where the published scripts look for it


ABOUT = "archive/about.json"  # beside the parts of a model in its zip archive


def encode(*nets: nn.Module, as_list: bool = True, about: Mapping[str, Any] | None = None) -> bytes:
    """The bytes of a file of state dicts, in main memory as published checkpoints have them.

    about: what the model is of, plain values; kept where no reader of state dicts sees it.
    """
    states = [
        {name: value.detach().cpu().contiguous() for name, value in net.state_dict().items()}
        for net in nets
    ]
    buffer = io.BytesIO()
    torch.save(states if as_list else states[0], buffer)
    if about is not None:
        with zipfile.ZipFile(buffer, "a") as archive:  # ZipInfo: dated 1980, so equal bytes
            archive.writestr(zipfile.ZipInfo(ABOUT), json.dumps(dict(about), sort_keys=True))
    return buffer.getvalue()


def read_about(path: Path) -> dict[str, Any] | None:
    """What `encode` was told of a model; None for a published file, which says nothing."""
    try:
        with zipfile.ZipFile(path) as archive:
            about = json.loads(archive.read(ABOUT))
    except (KeyError, OSError, ValueError, zipfile.BadZipFile):
        return None
    return about if isinstance(about, dict) else None


def publish(own: Path, published: Path, data: bytes) -> bool:
    """Writes a run's file in its folder, and in the published place unless another run's is there.

    Returns whether `published` now holds the data. Both are written all or nothing.
    """
    # DEVIATION(lra_diffusion): a model in model/ is never replaced by one of another run; the
    # original's first epoch writes over whatever good model is there. After a kill between the two,
    # the repeated epoch finds its own bytes in the published place, which is written first.
    free = may_publish(own, published) or published.read_bytes() == data
    for path in (published, own) if free else (own,):
        write_atomically(path, data)
    return free


def may_publish(own: Path, published: Path) -> bool:
    """Is the published place free, or does it hold what this run wrote there?"""
    return not published.exists() or (own.exists() and filecmp.cmp(own, published, shallow=False))

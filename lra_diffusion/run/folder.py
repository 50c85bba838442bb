"""The folder of a run: found or made, never another run's, resumed, and written after every epoch.

The run folder of every project of this repository looks alike: config.yaml, metrics.jsonl,
TensorBoard events, last.ckpt, best.ckpt.
"""

import filecmp
import io
import json
import math
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from shared.files import remove_unfinished, write_atomically

from . import checkpoint
from .errors import CheckpointError
from .record import Metrics, Row, read_config, start_wandb, write_config
from .report import chosen
from .schema import RunConfig

RUNS = Path("runs")


class Learner(Protocol):
    """What training changes."""

    optimizer: torch.optim.Optimizer

    def state_dict(self) -> dict[str, Any]: ...

    def load_networks(self, state: dict[str, Any]) -> None: ...


class RunFolder:
    """A run on disk.

    rows: the figures of the epochs that are done. identity: all that decides the numbers of a run;
    a checkpoint of another one is refused.
    """

    def __init__(self, config: RunConfig, name: str, identity: dict[str, Any]) -> None:
        self.name, self.identity = name, identity
        self.rows: list[Row] = []
        self.path = _find(config, name, identity)
        self.published_at = self.path if config.output_dir else Path("model")

    @property
    def next_epoch(self) -> int:
        return len(self.rows) + 1

    def open(
        self, learner: Learner, config: RunConfig, entries: Mapping[str, Any], wandb: bool = False
    ) -> None:
        """Resumes the run if that is asked for, then writes config.yaml and opens the logs.

        entries: of config.yaml.
        """
        self._learner = learner
        if config.resume:
            device = learner.optimizer.param_groups[0]["params"][0].device
            checkpoint.resume(self, self.path, device)
        self.path.mkdir(parents=True, exist_ok=True)
        remove_unfinished(self.path)
        write_config(self.path, entries)
        self._metrics = Metrics(self.path, self.rows)
        self._events = SummaryWriter(str(self.path), purge_step=self.next_epoch)
        self._wandb = start_wandb("lra-diffusion", self.path, entries) if wandb else None

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if "identity" not in state:
            raise CheckpointError(
                "the checkpoint is not one of this script: choose another --output_dir"
            )
        checkpoint.refuse_other_run(state["identity"], self.identity)
        self._learner.load_networks(state)
        checkpoint.load_optimizer(self._learner.optimizer, state["optimizer"])
        self.rows = list(state["rows"])

    def progress(self, rows: Iterable[Row], total: int) -> Iterator[Row]:
        """The rows with a progress bar; the logs are closed after them, whatever happens."""
        try:
            yield from tqdm(rows, "epochs", total, initial=len(self.rows), disable=None)
        finally:
            self._events.close()
            if self._wandb is not None:
                self._wandb.finish()

    def log(self, row: Row) -> bool:
        """Adds an epoch to metrics.jsonl and the events; True if it is the best one so far."""
        best = chosen(self.rows)
        self._metrics.append(row)
        numbers = {name: value for name, value in row.items() if name != "epoch" and _shown(value)}
        for name, value in numbers.items():
            self._events.add_scalar(name, value, row["epoch"])
        self._events.flush()
        if self._wandb is not None:
            self._wandb.log(numbers, step=row["epoch"])
        return chosen(self.rows) is not best

    def save(self, is_best: bool) -> None:
        """Writes the checkpoints; the last one counts, so it comes last."""
        state = {**self._learner.state_dict(), "rows": self.rows, "identity": self.identity}
        names = [checkpoint.BEST, checkpoint.LAST] if is_best else [checkpoint.LAST]
        checkpoint.save(state, *(self.path / name for name in names))

    def places(self, file_name: str) -> tuple[Path, Path]:
        """A file in the run folder, and where the published scripts have it."""
        return self.path / file_name, self.published_at / file_name


def refuse_to_overwrite(config: RunConfig) -> None:
    """Raises CheckpointError if --output_dir holds a run that is not to be resumed."""
    folder = config.output_dir
    if folder is not None and not config.resume and (folder / checkpoint.LAST).exists():
        raise CheckpointError(
            f"{folder} holds a run already: add --resume to continue it, or choose another "
            "--output_dir"
        )


def _shown(value: object) -> bool:
    """Is it a number that a curve can show?"""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _find(config: RunConfig, name: str, identity: dict[str, Any]) -> Path:
    """--output_dir; with --resume else the newest run of the same identity, else a new folder."""
    if config.output_dir is not None:
        return config.output_dir
    if config.resume:
        for folder in sorted(RUNS.glob(f"{name}_*"), reverse=True):
            if (read_config(folder) or {}).get("identity") == identity:
                return folder
    return RUNS / f"{name}_{datetime.now():%Y-%m-%d_%H-%M-%S.%f}"


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

"""What lies in a run folder: checkpoints whole or torn, rows of metrics.jsonl, what a run is.

All of it is read without torch, so that wrong input is told before anything slow is imported.
"""

import contextlib
import json
import platform
import re
import sys
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from noisy_instseg.run.device import is_first_process
from shared import run_folder as shared_run_folder
from shared.errors import UserError
from shared.files import write_atomically

METRICS = "metrics.jsonl"
PACKAGES = (
    "torch",
    "torchvision",
    "numpy",
    "onedl-mmcv",
    "onedl-mmengine",
    "onedl-mmdetection",
    "pycocotools",
)


# ---- checkpoints


def epochs_in(folder: Path) -> list[tuple[int, Path]]:
    """(epoch, file) of the checkpoints in a run folder, the newest first, torn ones included."""
    found = [
        (int(match[1]), path)
        for path in folder.glob("epoch_*.pth")
        if (match := re.fullmatch(r"epoch_(\d+)\.pth", path.name))
    ]
    return sorted(found, reverse=True)


def newest_intact(folder: Path) -> tuple[int, Path] | None:
    """(epoch, file) of the newest whole checkpoint; torn ones are named on stderr and skipped."""
    for epoch, path in epochs_in(folder):
        if (problem := tear(path)) is None:
            return epoch, path
        if is_first_process():
            print(f"warning: {path} is skipped: {problem}", file=sys.stderr)
    return None


def find(path: Path) -> Path:
    """The checkpoint a user names.

    `latest.pth`, the link that mmdetection 2.2 made, is the newest intact one of its folder.
    """
    if path.name == "last_checkpoint" or (path.name == "latest.pth" and not path.is_file()):
        newest = newest_intact(path.parent)
        if newest is None:
            raise UserError(f"{path}: {path.parent} holds no intact checkpoint epoch_<N>.pth")
        return newest[1]
    return path


def tear(path: Path) -> str | None:
    """Why a file is no whole checkpoint; None if it is.

    torch.load does not verify the archive's checksums itself.
    """
    try:
        if not zipfile.is_zipfile(path):
            return "the file is torn, or no checkpoint of torch 1.6 or newer"
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except (zipfile.BadZipFile, OSError, EOFError) as error:
        return f"the file is torn ({error})"
    return None if damaged is None else f"the file is damaged: {damaged} does not fit its checksum"


# ---- the folder


@contextlib.contextmanager
def locked(folder: Path, flag: str = "--work-dir") -> Iterator[None]:
    """Keeps other runs out of the folder, which is made, for the whole life of this one.

    A run that is refused, or ends before it has written anything, leaves nothing. Of several
    processes, the first one locks. flag: that names the folder. Raises UserError, naming who is in
    it.
    """
    if not is_first_process():
        yield
        return
    made = [one for one in (folder, *folder.parents) if not one.exists()]  # the deepest first
    lock = folder / shared_run_folder.LOCK
    was_there, keep = lock.exists(), True
    try:
        with shared_run_folder.locked(folder, flag), shared_run_folder.naming(folder):
            yield  # mmengine writes logs and configs, whose errors name no file
    except UserError:
        keep = False
        raise
    finally:
        keep = was_there or (keep and is_run(folder)) or shared_run_folder.is_locked(folder)
        if not keep:
            lock.unlink(missing_ok=True)
        for one in made:
            with contextlib.suppress(OSError):  # there is something in it
                one.rmdir()


def is_run(folder: Path) -> bool:
    """Whether a folder holds what a training run left."""
    return bool(epochs_in(folder)) or (folder / METRICS).exists()


def write_record(folder: Path, identity: Mapping[str, Any]) -> None:
    """run.json: what the run is, with the command and the versions that made it."""
    if is_first_process():
        versions = {"python": platform.python_version()} | {
            name: metadata.version(name) for name in PACKAGES
        }
        record = {"command": sys.argv, "versions": versions, **identity}
        write_atomically(folder / "run.json", (json.dumps(record, indent=2) + "\n").encode())


def read_rows(folder: Path) -> list[dict[str, Any]]:
    """The rows of metrics.jsonl, none without one; a last line that a kill cut off is left out.

    Raises UserError for a log that two runs wrote.
    """
    if not (folder / METRICS).is_file():
        return []
    return shared_run_folder.read_rows(folder)


def append_row(folder: Path, row: Mapping[str, Any]) -> None:
    """By the first process alone. An OSError names the file."""
    if is_first_process():
        path = folder / METRICS
        try:
            with path.open("a") as file:
                file.write(json.dumps(row) + "\n")
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(path)) from error


def plain_metrics(metrics: Mapping[str, Any], kinds: Iterable[str]) -> dict[str, float | None]:
    """mmdetection's metrics without their prefix. kinds: what was measured, bbox and segm.

    mmdetection leaves out the AP when nothing is detected: that is 0. COCO's -1, for sizes that no
    annotation has, is None.
    """
    named = {f"{kind}_mAP": 0.0 for kind in kinds if kind in ("bbox", "segm")}
    return named | {
        name.removeprefix("coco/"): None if value == -1 else value
        for name, value in metrics.items()
    }


# ---- what a run is


def differing(then: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """`seed: 0 then, 1 now` for everything in which two nested dicts differ."""
    before, after = dict(_leaves(then)), dict(_leaves(now))
    for name in [*after, *(name for name in before if name not in after)]:
        if before.get(name) != after.get(name):
            yield f"{name}: {before.get(name)} then, {after.get(name)} now"


def _leaves(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    items = value.items() if isinstance(value, Mapping) else enumerate(value)
    for key, item in items:
        name = f"{prefix}.{key}" if prefix else str(key)
        if isinstance(item, Mapping | list | tuple) and item:
            yield from _leaves(item, name)
        else:
            yield name, item if not isinstance(item, tuple) else list(item)


def some(differences: list[str], most: int = 4) -> str:
    """The first few of them, for a message."""
    more = f"; and {len(differences) - most} more" if len(differences) > most else ""
    return "; ".join(differences[:most]) + more

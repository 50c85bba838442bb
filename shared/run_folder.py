"""Run folders: one process at a time writes into one, and a broken log is refused.

    with run_folder.locked(Path("runs/a")):
        ...                                     # the whole life of the run

The operating system holds the lock, so that a killed process leaves none behind, on network file
systems too. `.lock` is what is locked, `.holder` says who holds it.
"""

import json
import os
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from shared.errors import UserError
from shared.files import write_atomically

LOCK, HOLDER = ".lock", ".holder"


class RunFolderError(UserError):
    """Another process works in the run folder, or its log is not one run's."""


@contextmanager
def locked(folder: Path, flag: str = "--output_dir") -> Iterator[None]:
    """Keeps other processes out of the run folder, which is made if missing, until the block ends.

    flag: that names another place. Raises RunFolderError, naming the process and its host, where
    another one is in it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(blocking=False)
    except Timeout as error:
        raise RunFolderError(
            f"{folder} is in use by {_holder(folder)}: wait until it is done, stop it, or choose "
            f"another {flag}"
        ) from error
    except NotImplementedError:  # a file system without locks
        print(f"note: {folder} cannot be locked, so take care to start one run at a time in it")
        yield
        return
    try:
        write_atomically(folder / HOLDER, json.dumps(_this_process()).encode())
        yield
    finally:
        (folder / HOLDER).unlink(missing_ok=True)
        lock.release()


@contextmanager
def naming(folder: Path) -> Iterator[None]:
    """Errors of open files, whose name the system does not say, get that of their folder.

    TensorBoard's thread prints no traceback of its own: what waits for it has the same error.
    """
    usual = threading.excepthook

    def hook(args: threading.ExceptHookArgs) -> None:
        if not issubclass(args.exc_type, OSError):
            usual(args)

    threading.excepthook = hook
    try:
        yield
    except OSError as error:
        if error.filename is None and not isinstance(error, ConnectionError):
            error.filename = str(folder)
        raise
    finally:
        threading.excepthook = usual


def is_locked(folder: Path) -> bool:
    """Whether a living process, of this machine or another, holds the folder."""
    if not (folder / LOCK).exists():
        return False
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        return True
    except NotImplementedError:
        return False
    lock.release()
    return False


def _this_process() -> dict[str, Any]:
    now = datetime.now().astimezone().isoformat(sep=" ", timespec="seconds")
    command = " ".join(sys.argv)[:200]
    return {"pid": os.getpid(), "host": socket.gethostname(), "since": now, "command": command}


def _holder(folder: Path) -> str:
    try:
        known = json.loads((folder / HOLDER).read_text())
        return f"process {known['pid']} on {known['host']} since {known['since']}"
    except (OSError, ValueError, KeyError, TypeError):  # it has just begun, or just ended
        return "another process"


def read_rows(folder: Path, step: str = "epoch") -> list[dict[str, Any]]:
    """The rows of a run folder's metrics.jsonl, without a last line that a kill cut off.

    step: the entry that counts from row to row. Raises RunFolderError for a file that is missing,
    damaged, or written by two runs at once.
    """
    path = folder / "metrics.jsonl"
    try:
        lines = path.read_text().split("\n")[:-1]
        rows = [json.loads(line) for line in lines]
        falls = [(a, b) for a, b in pairwise(row[step] for row in rows) if not b > a]
    except OSError as error:
        raise RunFolderError(
            f"{path} cannot be read ({error.strerror}): give the folder of a run"
        ) from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise RunFolderError(
            f"{path} holds a line that is no row with {step!r}: {error}"
        ) from error
    if falls:
        before, after = falls[0]
        raise RunFolderError(
            f"{path}: {step} {after} follows {step} {before}: two runs wrote into one folder. "
            "Train again into another folder"
        )
    return rows

"""What ends a command with a message instead of a traceback, and with which exit status."""

import contextlib
import logging
import os
import re
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from noisy_instseg.run.device import is_first_process, leave_process_group, world_size
from shared.errors import UserError, explain, printable

NON_FINITE, INTERRUPTED = 3, 130
PATIENCE = 30  # seconds in which the first of several processes comes to the same end
# where dist_*.sh read the exit status; torch.distributed.run makes 1 of any
STATUS_FILE = "NOISY_INSTSEG_STATUS"
LOST = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "Read error")
UNREADABLE = re.compile(r"failed to load image: (.+)")  # mmcv's assertion, from a worker or not


class NonFiniteLossError(FloatingPointError):
    """A loss or a weight is NaN or infinite."""


def exit_status(
    work: Callable[[], int | None], interrupted: str = "interrupted", again: str = ""
) -> int:
    """Runs `work`. 0 or what it returns; 2 for input that cannot work; 3 for a NaN; 130 for Ctrl-C.

    interrupted: what to say then; again: how to go on once a full disk has space.
    """
    status, message, is_done = 0, "", False
    # A full disk that strikes mmengine's log strikes what is written next, which tells it in words.
    logging.raiseExceptions = False
    try:
        status = work() or 0
        is_done = status == 0
    except NonFiniteLossError as error:
        status, message = NON_FINITE, f"stopped: {error}"
    except UserError as error:
        status, message = 2, f"error: {error}"
    except OSError as error:  # such as a full disk
        status, message = 2, f"error: {explain(error, again or 'run the same command again')}"
    except AssertionError as error:
        if not (found := UNREADABLE.search(str(error))):
            raise
        status = 2
        message = (
            f"error: {found[1]} cannot be decoded, it is damaged or no picture: get the file "
            f"again, then {again or 'run the same command again'}"
        )
    except RuntimeError as error:  # of gloo or NCCL, and of any process that is left
        if world_size() == 1 or not any(words in str(error) for words in LOST):
            raise
        print(
            "error: another process of this run has ended, see its message; after that "
            f"{again or 'run the same command again'}",
            file=sys.stderr,
            flush=True,
        )
        return 2
    except KeyboardInterrupt:
        status, message = INTERRUPTED, interrupted
    finally:
        leave_process_group(together=is_done)
    if status not in (0, INTERRUPTED) and not is_first_process():
        time.sleep(PATIENCE)  # the first process says the same, and its end ends this one
        print(printable(message), file=sys.stderr, flush=True)
    elif message:
        say(message)
    if status and is_first_process() and (file := os.environ.get(STATUS_FILE)):
        Path(file).write_text(f"{status}\n")
    return status


def leave(status: int) -> NoReturn:
    """Ends the process: what a command that runs in several processes calls in place of sys.exit.

    One of several skips the end of the interpreter. A thread of gloo may still have to let go of
    the last tensor it sent, and aborts an interpreter that is ending (pytorch issue 190489).
    """
    if world_size() > 1:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)


def say(text: str) -> None:
    """On stderr, by the first process alone."""
    if is_first_process():
        print(printable(text), file=sys.stderr, flush=True)


def check_output(flag: str, path: Path | None, *suffixes: str) -> None:
    """Raises UserError if a file cannot be written there, before hours are spent on its content."""
    if path is None:
        return
    if suffixes and path.suffix.lower() not in suffixes:
        raise UserError(f"{flag} {path}: the file's name must end in {' or '.join(suffixes)}")
    if path.is_dir():
        raise UserError(f"{flag} {path}: is a folder, expected the name of a file")
    try:
        _try_to_write(path.absolute().parent)
    except OSError as error:
        raise UserError(
            f"{flag} {path}: nothing can be written there ({error.strerror or error}); choose a "
            "name in a folder that is yours to write to"
        ) from error


def _try_to_write(folder: Path) -> None:
    """Makes the folder and a file in it, and removes both again.

    Permissions alone do not tell: file systems can be read-only.
    """
    missing = [one for one in (folder, *folder.parents) if not one.exists()]  # the deepest first
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.NamedTemporaryFile(dir=folder, prefix=".").close()
    finally:
        for made in missing:
            with contextlib.suppress(OSError):  # it was not made, or somebody else uses it already
                made.rmdir()

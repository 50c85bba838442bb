"""What ends a command with a message instead of a traceback, and with which exit status."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from shared.errors import UserError, explain


class UsageError(UserError):
    """Flags that do not fit this data or this machine."""


class CheckpointError(UserError):
    """A checkpoint is missing, torn, or of another run."""


def exit_status(work: Callable[[], object]) -> int:
    """Runs `work`. 0, or 2: input that cannot work, 3: a loss that is not finite, 130: Ctrl-C.

    Notes added to an exception are printed behind its message: what is kept of a run.
    """
    try:
        work()
    except FloatingPointError as error:
        # A learning rate decides the numbers of a run, so this folder would refuse another one.
        return _said(
            3,
            error,
            f"stopped: the loss is not finite ({error})",
            "Start again in another --output_dir with a lower --learning_rate or --meta_stepsize, "
            "or without --mixed_precision",
        )
    except UserError as error:
        return _said(2, error, f"error: {error}")
    except OSError as error:
        return _said(2, error, f"error: {explain(error)}")
    except KeyboardInterrupt as error:
        return _said(130, error, "interrupted")
    return 0


@contextmanager
def importing() -> Iterator[None]:
    """Ctrl-C in here ends the process at once, with nothing to clean up.

    As an exception it can get lost inside of the import of a large library, which then goes on.
    """

    def stop(number: int, frame: object) -> None:
        print("interrupted", file=sys.stderr, flush=True)
        os._exit(130)

    before = signal.getsignal(signal.SIGINT)
    in_main = threading.current_thread() is threading.main_thread()
    if not in_main or before is not signal.default_int_handler:  # ignored, or somebody else's
        yield
        return
    signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _said(status: int, error: BaseException, message: str, way_on: str = "") -> int:
    parts = [message, *getattr(error, "__notes__", ()), *([way_on] if way_on else [])]
    print(". ".join(parts), file=sys.stderr)
    return status

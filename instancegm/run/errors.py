"""What ends a command with a message instead of a traceback, and with which exit status.

Kept byte-identical in every torch project.
"""

import os
import socket
import sys
from collections.abc import Callable
from typing import NoReturn

from shared.errors import UserError, explain


class UsageError(UserError):
    """Flags that do not fit this machine, this data or each other."""


class CheckpointError(UserError):
    """A checkpoint is missing, torn, or of another run."""


class PeerError(UserError):
    """Another process of the same run has ended."""


def of_rank() -> str:
    """Which of torchrun's processes this is, for messages; "" of a single one."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return ""
    rank, size = os.environ.get("RANK", "?"), os.environ["WORLD_SIZE"]
    return f"rank {rank} of {size} on {socket.gethostname()}: "


def exit_status(work: Callable[[], int | None], *, trains: bool = True) -> int:
    """Runs `work`. Its status, else 0; 2: bad input; 3: a loss that is not finite; 130: Ctrl-C.

    trains: the command has --lr, --amp and --resume, which messages may then recommend. Notes
    added to an exception are printed behind its message.
    """
    again = "run the same command with --resume" if trains else "run the same command again"
    try:
        return work() or 0
    except FloatingPointError as error:
        message = [f"stopped: the loss is not finite ({error})", *getattr(error, "__notes__", ())]
        fix = ["Lower --lr or try --amp off, in another --output_dir"] if trains else []
        print(of_rank() + ". ".join([*message, *fix]), file=sys.stderr)
        return 3
    except UserError as error:
        print(f"{of_rank()}error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"{of_rank()}error: {explain(error, again)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        if os.environ.get("RANK", "0") == "0":
            print(f"interrupted; {again}{' to continue' if trains else ''}", file=sys.stderr)
        return 130


def leave(status: int) -> NoReturn:
    """Ends the process: what a script that trains by ranks calls in place of sys.exit.

    One of several ranks skips the end of the interpreter. A thread of gloo may still have to let go
    of the last tensor it sent, and aborts an interpreter that is ending (pytorch issue 190489).
    """
    if of_rank():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)

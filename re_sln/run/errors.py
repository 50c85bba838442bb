"""What ends a command with a message instead of a traceback, and with which exit status.

Kept byte-identical in every torch project.
"""

import sys
from collections.abc import Callable

from shared.errors import UserError


class UsageError(UserError):
    """Flags that do not fit this machine, this data or each other."""


class CheckpointError(UserError):
    """A checkpoint is missing, torn, or of another run."""


def exit_status(work: Callable[[], object]) -> int:
    """Runs `work`. 0; 2 for input that cannot work; 3 for a loss that is not finite; 130 for Ctrl-C."""
    try:
        work()
    except FloatingPointError as error:
        print(
            f"stopped: the loss is not finite ({error}). The checkpoint of the last good epoch is "
            "kept. Lower --lr, or try --amp off",
            file=sys.stderr,
        )
        return 3
    except (UserError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(
            "interrupted; the same command with --resume continues after the last whole epoch",
            file=sys.stderr,
        )
        return 130
    return 0

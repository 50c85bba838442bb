"""What ends a command with a message instead of a traceback, and with which exit status."""

import sys
from collections.abc import Callable

from shared.errors import UserError


class UsageError(UserError):
    """Flags that do not fit this data or this machine."""


class CheckpointError(UserError):
    """A checkpoint is missing, torn, or of another run."""


def exit_status(work: Callable[[], object]) -> int:
    """Runs `work`. 0, or 2: input that cannot work, 3: a loss that is not finite, 130: Ctrl-C."""
    try:
        work()
    except FloatingPointError as error:
        return _said(
            3,
            f"stopped: the loss is not finite ({error}). The last checkpoint is kept. Lower "
            "--learning_rate or --meta_stepsize, or leave out --mixed_precision",
        )
    except (UserError, OSError) as error:
        return _said(2, f"error: {error}")
    except KeyboardInterrupt:
        return _said(130, "interrupted; the same command resumes from the last checkpoint")
    return 0


def _said(status: int, message: str) -> int:
    print(message, file=sys.stderr)
    return status

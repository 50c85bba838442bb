"""What the tools beside training share: messages instead of tracebacks."""

import contextlib
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from noisy_instseg.errors import NonFiniteLossError, UserError
from shared.coco.classes import CocoError


def report_errors(work: Callable[[], None]) -> int:
    """Runs `work`; what ends it is one message.

    Exit status: 0, 2 what the user can mend, 3 a NaN, 130 interrupted.
    """
    try:
        work()
    except NonFiniteLossError as error:
        print(f"stopped: {error}", file=sys.stderr)
        return 3
    except (UserError, CocoError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:  # such as a full disk
        print(
            f"error: {error}: check that the place exists, is yours to use and has room",
            file=sys.stderr,
        )
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return 0


def check_output(flag: str, path: Path | None, suffix: str) -> None:
    """Raises UserError if a file cannot be written there; asked before hours are spent on what goes
    into it.
    """
    if path is None:
        return
    if path.suffix.lower() != suffix:
        raise UserError(f"{flag} {path}: the file's name must end in {suffix}")
    if path.is_dir():
        raise UserError(f"{flag} {path}: is a folder, expected the name of a file")
    try:
        _try_to_write(path.absolute().parent)
    except OSError as error:
        raise UserError(
            f"{flag} {path}: nothing can be written there ({error.strerror or error}); choose a "
            "name in a folder that is "
            "yours to write to"
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

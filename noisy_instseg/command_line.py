"""What the tools beside training share: messages instead of tracebacks."""

import sys
from collections.abc import Callable
from pathlib import Path

from noisy_instseg.errors import NonFiniteLossError, UserError
from shared.coco_classes import CocoError


def report_errors(work: Callable[[], None]) -> int:
    """Runs `work`. Exit status: 0; 2 for what the user can mend, with one message; 3 for a loss that is not finite."""
    try:
        work()
    except NonFiniteLossError as error:
        print(f"stopped: {error}", file=sys.stderr)
        return 3
    except (UserError, CocoError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def check_output(flag: str, path: Path | None, suffix: str) -> None:
    """Raises UserError if a file cannot be written there; asked before hours are spent on what goes into it."""
    if path is None:
        return
    if path.suffix.lower() != suffix:
        raise UserError(f"{flag} {path}: the file's name must end in {suffix}")
    if path.is_dir():
        raise UserError(f"{flag} {path}: is a folder, expected the name of a file")
    place = next(folder for folder in path.absolute().parents if folder.exists())
    if not place.is_dir():
        raise UserError(f"{flag} {path}: {place} is a file, so nothing can be written below it; choose another name")

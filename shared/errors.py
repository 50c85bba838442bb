"""What a command answers with a message instead of a traceback, and how to fix it."""

import errno
import os
import sys
from types import TracebackType

AGAIN = "run the same command again"

_SPACE = "free some space, then {again}"
_YOURS = (
    "choose another folder, or make this one yours (`mkdir` it before a container does, `chown`, "
    "or docker's `--user`)"
)
_DISK = "check the disk, or choose a folder on another one, then {again}"
_BUSY = "wait until no other program uses it, then {again}"
_SERVER = "check the connection to its file server, then {again}"
_FILES = "close other programs or raise the limit (`ulimit -n`), then {again}"
_NAME = "choose another name"

# What helps against each error of a file system: the only such table.
_FIXES = {
    errno.ENOSPC: _SPACE,
    errno.EDQUOT: _SPACE,
    errno.EFBIG: "choose another file system, or raise the limit (`ulimit -f`), then {again}",
    errno.EACCES: _YOURS,
    errno.EPERM: _YOURS,
    errno.EROFS: _YOURS,
    errno.EIO: _DISK,
    errno.ENXIO: _DISK,
    errno.ENODEV: _DISK,
    errno.EBUSY: _BUSY,
    errno.ETXTBSY: _BUSY,
    errno.ESTALE: _SERVER,
    errno.ETIMEDOUT: _SERVER,
    errno.EHOSTDOWN: _SERVER,
    errno.EMFILE: _FILES,
    errno.ENFILE: _FILES,
    errno.ENOENT: "check the name, or choose another folder",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.EEXIST: _NAME,
    errno.EISDIR: _NAME,
    errno.ENOTDIR: _NAME,
    errno.ELOOP: _NAME,
    errno.EINVAL: _NAME,
}


def printable(text: str) -> str:
    """`text` with what a terminal would obey, such as escape sequences, spelled out.

    Names and headers come from other people's files. Line breaks and tabs stay.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in "\n\t" else ascii(c)[1:-1] for c in text)


class UserError(ValueError):
    """Input that cannot work; the text says what was found, what was expected and how to fix it."""

    def __init__(self, message: object = "") -> None:
        super().__init__(printable(str(message)))


def fix_for(error: OSError, again: str = AGAIN) -> str:
    """What helps where a file cannot be read or written.

    again: how to continue then.
    """
    fix = _FIXES.get(error.errno or 0, "choose another folder, or repair this one, then {again}")
    return fix.format(again=again)


def explain(error: OSError, again: str = AGAIN) -> str:
    """What a file that could not be read or written means to a user, and the way on.

    again: how to continue then.
    """
    if error.errno not in _FIXES:  # of a network, or of another library
        return f"{error}: fix that, then {again}"
    place, fix = error.filename, fix_for(error, again)
    place = "a file" if place is None else str(place)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"no space left to write {place}: {fix}"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"{place} is not accessible to user {os.getuid()} ({error.strerror}): {fix}"
    return f"{place} cannot be used ({error.strerror}): {fix}"


def say_interrupted(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """A sys.excepthook: one line for Ctrl-C before `exit_status` runs, while a project loads."""
    if not issubclass(kind, KeyboardInterrupt):
        return sys.__excepthook__(kind, error, trace)
    print(f"interrupted; {AGAIN}", file=sys.stderr, flush=True)
    os._exit(130)

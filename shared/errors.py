"""The one error that a command answers with a message instead of a traceback."""

import errno
import os


class UserError(ValueError):
    """Input that cannot work; the text says what was found, what was expected and how to fix it."""


def explain(error: OSError, again: str = "run the same command again") -> str:
    """What a file that could not be read or written means to a user, and the way on.

    again: how to continue once there is space.
    """
    place = "a file" if error.filename is None else str(error.filename)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"no space left to write {place}: free some space, then {again}"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return (
            f"{place} is not accessible to user {os.getuid()} ({error.strerror}): choose another "
            "folder, or make this one yours (`mkdir` it before a container does, `chown`, or "
            "docker's `--user`)"
        )
    return str(error)

"""The one error that a command answers with a message instead of a traceback."""

import errno
import os


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

"""The one error that a command answers with a message instead of a traceback."""


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

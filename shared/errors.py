"""The one error that a command answers with a message instead of a traceback."""


class UserError(ValueError):
    """Input that cannot work; the text says what was found, what was expected and how to fix it."""

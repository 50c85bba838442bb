"""What ends a run with a message instead of a traceback."""


class UserError(Exception):
    """Input that cannot work: the message says what was found, what was expected and what mends it.

    Exit status 2.
    """


class NonFiniteLossError(Exception):
    """A loss or a weight is NaN or infinite; the checkpoint of the last good epoch is kept.

    Exit status 3.
    """

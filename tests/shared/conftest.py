"""Fixtures that run commands of `python -m shared`."""

import pytest
from hypothesis import settings

from shared.__main__ import main

# Other processes may take the time of an example.
settings.register_profile("shared", deadline=None)
settings.load_profile("shared")


@pytest.fixture
def run(capsys):
    """Runs a command; returns (exit code, stdout, stderr)."""

    def call(*arguments):
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as stop:  # argparse
            code = stop.code
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return call


@pytest.fixture
def make(run):
    def call(out, *arguments, kind="symmetric", rate=0.4):
        return run(
            "noise",
            "make",
            "--dataset",
            "digits",
            "--kind",
            kind,
            "--rate",
            rate,
            "--out",
            out,
            *arguments,
        )

    return call

"""What all commands share: how a parser is made, and how text is printed."""

import argparse
from typing import TypeAlias

from shared.errors import printable

SubParsers: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def add_command(
    commands: SubParsers, name: str, summary: str, description: str, epilog: str
) -> argparse.ArgumentParser:
    """A command under `commands`, whose examples are printed as they are."""
    return commands.add_parser(
        name,
        help=summary,
        description=description,
        epilog=epilog,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def say(text: object) -> None:
    """Print, without what a terminal would obey: names in files are other people's."""
    print(printable(str(text)))


def given(flags: dict[str, object]) -> list[str]:
    """The flags that were given; None where one was not."""
    return [flag for flag, value in flags.items() if value is not None]

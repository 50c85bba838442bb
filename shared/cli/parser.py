"""What the parsers of all commands share."""

import argparse
from typing import TypeAlias

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

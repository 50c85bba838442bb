"""The command line: `python -m shared noise make|add|info|convert|compare` and `... data`.

From any other folder: `python /path/to/shared ...`.
"""

import argparse
import sys
from pathlib import Path

# The repository, so that it runs from any folder.
sys.path.insert(0, str(Path(__file__).absolute().parents[1]))

from shared.errors import AGAIN, explain, printable

EPILOG = """\
examples:
  python -m shared data list
  python -m shared data cifar10
  python -m shared data pmd-noise          (all noise files of LRA-diffusion and PLC)
  python -m shared noise make --dataset cifar10 --kind pdn --rate 0.5 --out 0.5_pdn.npz
  python -m shared noise info 0.5_pdn.npz
`python -m shared noise make --help` explains the kinds of noise.
"""


def main(arguments: list[str] | None = None) -> int:
    """Run one command; 0, or 2 with one message on stderr for what the user can fix."""
    try:
        args = build_parser().parse_args(arguments)
        args.run(args)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader of our output, such as `head`, has seen enough
        sys.stdout = None  # else Python complains at exit
        return 0
    except OSError as error:
        print(f"error: {printable(explain(error))}", file=sys.stderr)
        return 2
    except ValueError as error:  # all errors of this package are ValueErrors
        print(f"error: {printable(str(error))}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"interrupted; {AGAIN}", file=sys.stderr)
        return 130
    return 0


def build_parser() -> argparse.ArgumentParser:
    """All commands with their options; each sets `run`."""
    from shared.cli import data, noise  # here, where Ctrl-C has one line already

    parser = argparse.ArgumentParser(
        prog="python -m shared",
        description="Label noise and datasets, for every project of this repository.",
        epilog=EPILOG,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    noise.add_parser(commands)
    data.add_parser(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())

"""Settings from a file: `--config config.yaml` of an earlier run, or any part of one.

Kept byte-identical in every torch project.
"""

import argparse
import difflib
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import yaml

# Of this command alone: a copy of an old run must neither continue nor overwrite that run.
NOT_TAKEN_OVER = ("config", "evaluate", "eval_only", "help", "output_dir", "resume")


def add_config_flag(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="settings from a run's config.yaml, or a part of one; flags on the command line win",
    )


def expand_config(
    parser: argparse.ArgumentParser,
    argv: Sequence[str],
    *,
    recorded: Collection[str] = (),
    alternatives: Sequence[Collection[str]] = (),
) -> list[str]:
    """The command line with the entries of `--config FILE` in front of it, spelled as flags.

    recorded: entries of a config.yaml that are outcomes of a run and no flags. alternatives:
    groups of flags of which one makes the others meaningless: where the command line has one, the
    file's entries of that group do not count. Exits with a message for a file that does not work.
    """
    known = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    known.add_argument("--config", type=Path)
    path = known.parse_known_args(argv)[0].config
    if path is None:
        return list(argv)
    actions = {action.dest: action for action in parser._actions if action.option_strings}
    words = {word.partition("=")[0] for word in argv}
    given = {name for name, action in actions.items() if words & {*action.option_strings}}
    flags: list[str] = []
    for name, value in _read(parser, path).items():
        overruled = any(name in group and given & {*group} for group in alternatives)
        if name in NOT_TAKEN_OVER or name in recorded or overruled:
            continue
        if name not in actions:
            close = difflib.get_close_matches(name, actions, n=1)
            hint = f"; did you mean {close[0]}?" if close else ""
            parser.error(f"--config {path}: {name} is not a flag of this script{hint}")
        flags += _spelled(actions[name], value)
    return [*flags, *argv]


def _read(parser: argparse.ArgumentParser, path: Path) -> dict[str, Any]:
    try:
        settings = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        parser.error(f"--config {path} cannot be read ({error}): give the config.yaml of a run")
    if not isinstance(settings, dict):
        parser.error(f"--config {path} holds no settings: give the config.yaml of a run")
    return settings


def _spelled(action: argparse.Action, value: Any) -> list[str]:
    """The words on a command line that set this flag to the value; none for null."""
    flag = action.option_strings[0]
    if value is None:
        return []
    if isinstance(action, argparse.BooleanOptionalAction):
        return [action.option_strings[0 if value else -1]]
    if action.nargs == 0:
        return [flag] if value else []
    if isinstance(value, list):
        return [flag, *map(str, value)]
    return [f"{flag}={value}"]

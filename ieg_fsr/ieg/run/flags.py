"""Flags from the fields of a dataclass, in absl's spelling as in the published code.

    batch_size: Annotated[int, Flag("samples a step", least=1)] = 100

makes --batch_size=100. Switches are --flag, --noflag, --flag=true or --flag=false.
"""

import argparse
import difflib
import math
import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_type_hints

import yaml

from shared import plain_yaml
from shared.runs.methods import IEG, recognised
from shared.runs.run import RunError

# Where things are, which --export takes beside the run's settings: run or data may have been moved.
PLACES = ("dataset_dir", "noise_file", "labels", "cache_dir")


@dataclass(frozen=True)
class Flag:
    """What a field says about its flag, besides name, type and default."""

    text: str  # the help, to which the default is added
    choices: Sequence[str] | None = None
    least: float | None = None  # limits, inclusive
    above: float | None = None  # and exclusive
    below: float | None = None
    decides: bool = True  # the run's numbers, so a run is not resumed with another value
    parse: Callable[[str], Any] | None = None  # text to value, where the type does not do it
    shown: str | None = None  # the default as the help has it


@dataclass(frozen=True)
class Aside(Flag):
    """A flag that does not change the numbers of a run."""

    decides: bool = False


def flags_of(config: type[Any]) -> Iterator[tuple[str, Flag, Any, Any]]:
    """Name, flag, type and default of every field of a dataclass."""
    hints = get_type_hints(config, include_extras=True)
    for item in fields(config):
        kind, flag = get_args(hints[item.name])
        yield item.name, flag, kind, item.default


def add_flags(
    parser: argparse.ArgumentParser, config: type[Any], groups: Mapping[str, str]
) -> None:
    """A flag for every field, and --config. groups: first field and title of each group."""
    group: Any = parser
    for name, flag, kind, default in flags_of(config):
        if name in groups:
            group = parser.add_argument_group(groups[name])
        if kind is bool:
            _add_switch(group, name, default, flag.text)
            continue
        shown = flag.shown or (None if default is None else f"{default}")
        group.add_argument(
            f"--{name}",
            default=default,
            type=flag.parse or _plain(kind),
            choices=flag.choices,
            help=flag.text + (f" ({shown})" if shown else ""),
        )
    group.add_argument(
        "--config",
        type=_path,
        metavar="FILE",
        help="settings from a run's config.yaml, or a part of one, but for where that run is "
        "written; flags on the command line win",
    )


def _plain(kind: Any) -> Any:
    """int of `int | None`; of a path what expands its ~."""
    plain = next(part for part in (*get_args(kind), kind) if part is not NoneType)
    return _path if plain is Path else plain


def with_home(text: str) -> str:
    """A path whose ~ is the user's folder: the shell leaves that of --flag=~/folder as it is."""
    return os.path.expanduser(text)


def _path(text: str) -> Path:
    return Path(with_home(text))


def rising(text: str) -> tuple[int, ...]:
    """`160,180` as numbers."""
    try:
        values = tuple(int(part) for part in text.split(","))
    except ValueError:
        values = ()
    if not values or values[0] < 1 or values != tuple(sorted(set(values))):
        raise argparse.ArgumentTypeError(
            f"{text!r}: expected rising whole numbers from 1 on, such as 160,180"
        )
    return values


def _add_switch(group: Any, name: str, default: Any, text: str) -> None:
    """A switch with absl's spellings: --flag, --noflag, --flag=true, --flag=false."""
    help_ = f"{text} ({'on' if default else 'off'})"
    group.add_argument(
        f"--{name}", nargs="?", const=True, default=default, type=_truth, metavar="BOOL", help=help_
    )
    group.add_argument(f"--no{name}", dest=name, action="store_false", help=argparse.SUPPRESS)


def _truth(text: str) -> bool:
    if text.lower() in ("true", "t", "1", "yes"):
        return True
    if text.lower() in ("false", "f", "0", "no"):
        return False
    raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false")


def whole_command(
    parser: argparse.ArgumentParser, argv: Sequence[str], left_out: Collection[str]
) -> list[str]:
    """The command line with what `--config FILE` or `--export RUN` stands for.

    left_out: entries of FILE that are no settings of another run. Exits with a message for what
    does not work.
    """
    run, others = _found("--export", argv)
    if run is not None:
        _check_beside_export(parser, others)
        _check_whose(run, parser)
        here = [f"--config={run / 'config.yaml'}", f"--output_dir={run}", f"--export={run}"]
        argv = [*here, *others]
    path, _ = _found("--config", argv)
    return list(argv) if path is None else [*_flags_of(path, parser, argv, left_out), *argv]


def _check_beside_export(parser: argparse.ArgumentParser, argv: Sequence[str]) -> None:
    """Exits with a message for flags that could change the run."""
    finder = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for name in PLACES:
        finder.add_argument(f"--{name}")
    _add_switch(finder, "save_probs", False, "")
    if finder.parse_known_args(argv)[1]:
        parser.error(
            "--export takes every setting from the run: leave out all other flags but --save_probs "
            f"and those that say where things are now ({', '.join(f'--{n}' for n in PLACES)})"
        )


def _check_whose(run: Path, parser: argparse.ArgumentParser) -> None:
    """Exits with a message where the folder has no run of this program."""
    if not (run / "config.yaml").is_file():
        parser.error(f"--export {run} has no config.yaml: give the folder of a run")
    try:
        method = recognised(_settings(run / "config.yaml", parser))
    except RunError as error:
        parser.error(f"--export {run}: {error}: give the folder of a run of this program")
    if method.project != IEG:
        parser.error(
            f"--export {run}: a run of {method.project} ({method.title}), which this program "
            "cannot load: give --export to the script that trained it"
        )


def _found(flag: str, argv: Sequence[str]) -> tuple[Path | None, list[str]]:
    """The value of a flag, and what else is on the command line."""
    finder = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    finder.add_argument(flag, type=_path, dest="path")
    known, others = finder.parse_known_args(argv)
    return known.path, others


def _flags_of(
    path: Path, parser: argparse.ArgumentParser, argv: Sequence[str], left_out: Collection[str]
) -> list[str]:
    """The entries of a config.yaml as flags."""
    settings = _settings(path, parser)
    known = {action.dest for action in parser._actions} - {"config", "help"}
    given = {word.partition("=")[0].removeprefix("--") for word in argv}
    if "max_iteration" in given:
        settings.pop("max_epoch", None)  # else the file's epochs would win over the flag
    flags = []
    for name, value in settings.items():
        if name in left_out or (value is None and name != "use_pseudo_loss"):
            continue
        if name not in known:
            close = difflib.get_close_matches(str(name), known, n=1)
            hint = f"; did you mean {close[0]}?" if close else ""
            parser.error(f"--config {path}: {name} is not a flag of this script{hint}")
        flags.append(f"--{name}={spelled(name, value)}")
    return flags


def _settings(path: Path, parser: argparse.ArgumentParser) -> dict[Any, Any]:
    """The entries of a config.yaml."""
    try:
        settings = plain_yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        parser.error(f"--config {path} cannot be read ({error}): give the config.yaml of a run")
    if not isinstance(settings, dict):
        parser.error(f"--config {path} holds no settings: give the config.yaml of a run")
    return settings


def spelled(name: str, value: Any) -> str:
    """A value of config.yaml as it is written on a command line."""
    of_pseudo_loss = name == "use_pseudo_loss"
    if isinstance(value, list):
        parts = (str(part).removesuffix(".0") for part in value)
        return ("_" if of_pseudo_loss else ",").join(parts)
    return "" if of_pseudo_loss and value is None else str(value)


def check_limits(parser: argparse.ArgumentParser, config: Any) -> None:
    """Exits with a message where a number is outside its flag's limits."""
    values = asdict(config)
    for name, flag, _, _ in flags_of(type(config)):
        value = values[name]
        if isinstance(value, bool) or not isinstance(value, int | float):
            continue
        if not math.isfinite(value):
            parser.error(f"--{name} {value}: must be a finite number")
        if flag.least is not None and value < flag.least:
            parser.error(f"--{name} {value}: must be at least {flag.least}")
        if flag.above is not None and value <= flag.above:
            parser.error(f"--{name} {value}: must be greater than {flag.above}")
        if flag.below is not None and value >= flag.below:
            parser.error(f"--{name} {value}: must be below {flag.below}")

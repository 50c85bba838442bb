"""Flags from the fields of a configuration: `flag` declares one, `read` reads a command line.

    @dataclass(frozen=True, kw_only=True)
    class Config:
        k: int = flag("--k", help="neighbours")

A field's type is its flag's type. What a command line does not give comes from the file of
`--config`, then from the preset, then from the field's default.
"""

import argparse
import dataclasses
import sys
import types
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args, get_type_hints

from .flags import add_config_flag, expand_config, expand_export

PUBLISHED, ENCODER, OURS = "the original's flags", "the encoder f_p", "added here"


def flag(
    *spelled: str, help: str, default: Any = dataclasses.MISSING, group: str = OURS, **options: Any
) -> Any:
    """A field of a configuration that a command line can set.

    help: {} in it stands for the default or the presets; options: of argparse's add_argument.
    """
    metadata = {"spelled": spelled, "help": help, "group": group, "options": options}
    if default is dataclasses.MISSING:
        return dataclasses.field(metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def build_parser(
    script: str,
    config: type,
    description: str,
    example: str,
    presets: Mapping[str, Mapping[str, Any]],
    without: Collection[str] = (),
) -> argparse.ArgumentParser:
    """The parser of a script, with a flag for each field of `config` but those in `without`.

    presets: values by dataset, the first one that of the script's default dataset; for the help.
    """
    parser = argparse.ArgumentParser(
        prog=f"{script}.py",
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=f"example: {example}",
    )
    groups = {title: parser.add_argument_group(title) for title in (PUBLISHED, ENCODER, OURS)}
    types_of = get_type_hints(config)
    for field in dataclasses.fields(config):
        if "spelled" not in field.metadata or field.name in without:
            continue
        group, spelled = groups[field.metadata["group"]], field.metadata["spelled"]
        options = {**_options(types_of[field.name]), **field.metadata["options"]}
        text = field.metadata["help"].format(_shown(field, presets))
        group.add_argument(*spelled, dest=field.name, help=text, **options)
    if "resume" not in without and "resume" in types_of:  # the scripts that train
        add_config_flag(groups[OURS])
    return parser


def _options(annotation: Any) -> dict[str, Any]:
    """What argparse needs to know of a type: int, Path | None, tuple[int, ...] | None, bool."""
    kinds = [kind for kind in get_args(annotation) if kind is not types.NoneType]
    if isinstance(annotation, types.UnionType):
        return _options(kinds[0])
    if annotation is bool:
        return {"action": "store_true"}
    if kinds:
        return {"type": kinds[0], "nargs": "+"}
    return {} if annotation is str else {"type": annotation}


def _shown(field: "dataclasses.Field[Any]", presets: Mapping[str, Mapping[str, Any]]) -> str:
    """The default of a field, or its preset and in which datasets it differs."""
    values = {name: preset.get(field.name, field.default) for name, preset in presets.items()}
    usual = next(iter(values.values()), field.default)
    differing = [f"{name} {value}" for name, value in values.items() if value != usual]
    return ", ".join([f"{usual}", *differing])


def read(
    parser: argparse.ArgumentParser,
    argv: Sequence[str] | None,
    *,
    recorded: Callable[[Mapping[str, Any]], Collection[str]] = lambda given: (),
    alternatives: Sequence[Collection[str]] = (),
    decides: Collection[str] = ("dataset",),
) -> tuple[dict[str, Any], frozenset[str]]:
    """Values by field, and the fields that the command line itself gives.

    recorded: from what the command line gives, the entries of a config.yaml that are to be skipped;
    alternatives, decides: see `flags.expand_config`.
    """
    argv = expand_export(parser, sys.argv[1:] if argv is None else argv)
    given = vars(parser.parse_args(argv))
    skipped = recorded(given)
    argv = expand_config(parser, argv, recorded=skipped, alternatives=alternatives, decides=decides)
    values = vars(parser.parse_args(argv))
    values.pop("config", None)
    return {
        name: tuple(value) if isinstance(value, list) else value for name, value in values.items()
    }, frozenset(given)


def restore(config: type, recorded: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a configuration as a config.yaml has them."""
    types_of = get_type_hints(config)
    values: dict[str, Any] = {}
    for field in dataclasses.fields(config):
        if field.name in recorded:
            value, kinds = recorded[field.name], get_args(types_of[field.name])
            is_path = Path in (types_of[field.name], *kinds) and value is not None
            value = Path(value) if is_path else value
            values[field.name] = tuple(value) if isinstance(value, list) else value
    return values


def check_seed(parser: argparse.ArgumentParser, seed: int | None) -> None:
    """Exits with a message for a seed that numpy or torch does not take."""
    if seed is not None and not 0 <= seed < 2**32:
        parser.error(f"--seed {seed}: must lie in [0, {2**32})")


def check_at_least(
    parser: argparse.ArgumentParser, values: Mapping[str, Any], least: Mapping[str, float]
) -> None:
    """Exits with a message for a value that is too small; None and absent ones pass."""
    for name, low in least.items():
        value = values.get(name)
        if value is not None and not value >= low:
            parser.error(f"--{name} {value}: must be at least {low}")

"""Frozen dataclasses as command lines: a field is a flag, its type says how it is read.

    @dataclass(frozen=True, kw_only=True)
    class Flags:
        '''What --help says first.'''
        EXAMPLE: ClassVar = "tool.py config.py --rate 0.2"
        config: Path = positional("config file")
        rate: float = added("noise rate (0.4)", 0.4)      # --rate
        work_dir: Path | None = original("run folder")    # --work-dir, as mmdetection spells it

    flags = parse(Flags)       # of sys.argv; exits with a message if something is wrong

What contradicts itself is refused by __post_init__ with a UserError. argparse stays in this file.
"""

import argparse
from collections.abc import Sequence
from dataclasses import Field, field, fields
from types import UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from shared.errors import UserError

GROUPS = ("the original's flags", "added here")
T = TypeVar("T")


def original(help: str, default: Any = None, *names: str, **how: Any) -> Any:
    """A flag of mmdetection 2.2. names: spellings other than --<field>; how: for argparse."""
    return field(default=default, metadata={"group": 0, "help": help, "names": names, "how": how})


def added(help: str, default: Any = None, *names: str, **how: Any) -> Any:
    """A flag of this project, as `original` describes it."""
    return field(default=default, metadata={"group": 1, "help": help, "names": names, "how": how})


def positional(help: str, **how: Any) -> Any:
    return field(metadata={"help": help, "how": how})


def offered(*names: str) -> Any:
    """A dataclass of flags inside another one; flags that are not named keep their defaults."""
    return field(metadata={"offered": names})


def parse(kind: type[T], argv: Sequence[str] | None = None, **known: Any) -> T:
    """The flags of a command line (sys.argv). known: fields that are no flags.

    Exits with a message, status 2, if something is wrong.
    """
    words = (kind.__doc__ or "").split()
    example = getattr(kind, "EXAMPLE", "")
    parser = argparse.ArgumentParser(
        prog=example.split()[0],
        description=" ".join(words),
        epilog=f"example: python tools/{example}",
        allow_abbrev=False,
    )
    groups = [parser.add_argument_group(title) for title in GROUPS]
    for one, owner in _flags_of(kind):
        place = groups[one.metadata["group"]] if "group" in one.metadata else parser
        place.add_argument(*_names(one), **_how(one, get_type_hints(owner)[one.name]))
    values = vars(parser.parse_args(argv)) | known
    try:
        return _filled(kind, values)
    except UserError as error:
        parser.error(str(error))


def _flags_of(kind: Any) -> list[tuple[Field[Any], Any]]:
    """Each flag with the dataclass it stands in."""
    found: list[tuple[Field[Any], Any]] = []
    for one in fields(kind):
        if names := one.metadata.get("offered"):
            inner = get_type_hints(kind)[one.name]
            found += [pair for pair in _flags_of(inner) if pair[0].name in names]
        elif one.metadata:
            found.append((one, kind))
    return found


def _names(one: Field[Any]) -> tuple[str, ...]:
    if "group" not in one.metadata:
        return (one.name,)
    spelled = one.name if one.metadata["group"] else one.name.replace("_", "-")
    return one.metadata["names"] or (f"--{spelled}",)


def _how(one: Field[Any], annotation: Any) -> dict[str, Any]:
    """The arguments of add_argument: those that the type implies, then those of the field."""
    if isinstance(annotation, UnionType):  # X | None
        annotation = get_args(annotation)[0]
    how: dict[str, Any] = {"help": one.metadata["help"]}
    if "group" in one.metadata:
        how |= {"dest": one.name, "default": one.default}
    if annotation is bool:
        return {**how, "action": "store_true"}
    if get_origin(annotation) is tuple:
        how["nargs"] = "+"
        if "default" in how:
            how["default"] = [*how["default"]]
        annotation = get_args(annotation)[0]
    return {**how, "type": annotation, **one.metadata["how"]}


def _filled(kind: type[T], values: dict[str, Any]) -> T:
    filled: dict[str, Any] = {}
    for one in fields(kind):  # type: ignore[arg-type]
        if names := one.metadata.get("offered"):
            inner = get_type_hints(kind)[one.name]
            filled[one.name] = _filled(inner, {name: values[name] for name in names})
        elif one.name in values:
            value = values[one.name]
            filled[one.name] = tuple(value) if isinstance(value, list) else value
    return kind(**filled)

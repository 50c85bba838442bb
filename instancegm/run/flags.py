"""Settings from a file: `--config config.yaml` of an earlier run, or any part of one.

And `--export RUN`: all settings of a run that is there.

Kept byte-identical in every torch project.
"""

import argparse
import copy
import difflib
import sys
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import yaml

from shared import plain_yaml

# Of this command alone: a copy of an old run must neither continue nor overwrite that run.
NOT_TAKEN_OVER = ("config", "evaluate", "eval_only", "export", "help", "output_dir", "resume")
# Where things are, which --export takes beside the run's settings: run or data may have been moved.
PLACES = (
    *("data_path", "labels", "noise_file", "cache_dir", "device"),
    *("fp_weights", "fp_embed_train", "fp_embed_test"),
)
NOISE = "noise.npz"  # of a run folder: the labels that it trained on


def add_config_flag(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="settings from a run's config.yaml, or a part of one; flags on the command line win, "
        "but a switch that the file turns on stays on",
    )


def expand_export(parser: argparse.ArgumentParser, argv: Sequence[str]) -> list[str]:
    """The command line that continues the run of `--export RUN`; without the flag as it is.

    A noise file that has gone is replaced by the run's own. Exits with a message for flags that
    could change the run, and where there is nothing to export.
    """
    given, unknown = _given(parser, argv)
    if "export" not in given or {"-h", "--help"} & {*argv}:
        return list(argv)
    known = {action.dest for action in parser._actions}
    places = [name for name in PLACES if name in known]
    if unknown or given.keys() - {"export", "save_probs", *places}:
        others = ", ".join(f"--{name}" for name in places)
        parser.error(
            "--export takes every setting from the run: leave out all other flags but --save_probs "
            f"and those that say where things are now ({others})"
        )
    run = Path(given["export"])
    settings = run / "config.yaml"
    if not settings.is_file() or not any(run.glob("*.ckpt")):
        parser.error(
            f"--export {run}: needs config.yaml and a checkpoint there: give the folder of a run"
        )
    found = _read(parser, settings)
    script, noise_file = found.get("script"), found.get("noise_file")
    if script is not None and f"{script}.py" != parser.prog:
        parser.error(f"--export {run}: a run of {script}.py: export it with that script")
    words = [f"--config={settings}", f"--export={run}", f"--output_dir={run}", "--resume"]
    words += [f"--{name}={given[name]}" for name in places if name in given]
    if noise_file and "noise_file" not in given and not _is_there(noise_file):
        words.append(f"--noise_file={run / NOISE}")
    return [*words, *(["--save_probs"] if "save_probs" in given else [])]


def _is_there(noise_file: str) -> bool:
    """Whether FILE or FILE:COLUMN is."""
    return Path(noise_file).exists() or Path(noise_file.rpartition(":")[0]).is_file()


def expand_config(
    parser: argparse.ArgumentParser,
    argv: Sequence[str],
    *,
    recorded: Collection[str] = (),
    alternatives: Sequence[Collection[str]] = (),
    decides: Collection[str] = (),
) -> list[str]:
    """The command line with the entries of `--config FILE` in front of it, spelled as flags.

    recorded: entries of a config.yaml, `name` or `name=value`, that are outcomes of a run and no
    flags. alternatives: groups of flags of which one makes the others meaningless: where the
    command line has one, the file's entries of that group do not count. decides: flags that choose
    a preset; where one differs from the file, a note says so. Exits with a message for a bad file.
    """
    given, _ = _given(parser, argv)
    path = given.get("config")
    if path is None:
        return list(argv)
    actions = {action.dest: action for action in parser._actions if action.option_strings}
    found = _read(parser, path)
    settings = {
        name: value
        for name, value in found.items()
        if name not in NOT_TAKEN_OVER
        and not {name, f"{name}={value}"} & {*recorded}
        and not any(name in group and given.keys() & {*group} for group in alternatives)
    }
    if unknown := [name for name in settings if name not in actions]:
        close = difflib.get_close_matches(unknown[0], actions, n=1)
        hint = f" (did you mean {close[0]}?)" if close else ""
        more = ". Is the file of another project?" if len(unknown) > 2 else ""
        parser.error(f"--config {path}: {unknown[0]} is not a flag of this script{hint}{more}")
    flags = [
        word
        for name, value in settings.items()
        for word in _spelled(parser, f"--config {path}: {name}", actions[name], value)
    ]
    _check(parser, path, flags)
    for name in decides:
        if found.get(name) is not None and str(given.get(name, found[name])) != str(found[name]):
            print(
                f"note: --{name} is not {path}'s, but all settings that no flag names are; they "
                "may not suit it",
                file=sys.stderr,
            )
    return [*flags, *argv]


def _given(
    parser: argparse.ArgumentParser, argv: Sequence[str]
) -> tuple[dict[str, Any], list[str]]:
    """What the command line itself sets, unchecked: destination -> word; and unknown words."""
    probe = copy.deepcopy(parser)
    for action in probe._actions:
        action.required, action.default = False, argparse.SUPPRESS
        action.type = action.choices = None
    words = [word for word in argv if word not in ("-h", "--help")]
    known, unknown = probe.parse_known_args(words)
    return vars(known), unknown


def _check(parser: argparse.ArgumentParser, path: Path, flags: Sequence[str]) -> None:
    """Blames wrong values on the file, not on a flag that nobody typed."""

    class Probe(argparse.ArgumentParser):
        def error(self, message: str) -> Any:
            parser.error(f"--config {path}: {message}")

    probe = copy.deepcopy(parser)
    probe.__class__ = Probe
    for action in probe._actions:
        action.required = False
    probe.parse_known_args(flags)


def _read(parser: argparse.ArgumentParser, path: Path) -> dict[str, Any]:
    try:
        settings = plain_yaml.safe_load(Path(path).read_text())
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        parser.error(
            f"--config {path} is not YAML (line {line}: {error.problem}): give the config.yaml of "
            "a run"
        )
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = getattr(error, "strerror", None) or error
        parser.error(f"--config {path} cannot be read ({reason}): give the config.yaml of a run")
    if not isinstance(settings, dict):
        parser.error(f"--config {path} holds no settings: give the config.yaml of a run")
    return {str(name): value for name, value in settings.items()}


def _spelled(
    parser: argparse.ArgumentParser, where: str, action: argparse.Action, value: Any
) -> list[str]:
    """The words on a command line that set this flag to the value; none for null."""
    flag = action.option_strings[0]
    if value is None:
        return []
    if action.nargs == 0:
        if not isinstance(value, bool):
            parser.error(f"{where} is {value!r}: give true or false, without quotes")
        if isinstance(action, argparse.BooleanOptionalAction):
            return [action.option_strings[0 if value else -1]]
        return [flag] if value else []
    if isinstance(value, dict) or (isinstance(value, list) and action.nargs is None):
        parser.error(f"{where} is {value!r}: give one value")
    return [flag, *map(str, value)] if isinstance(value, list) else [f"{flag}={value}"]

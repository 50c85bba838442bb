"""Reading the small text files of a run folder that anybody may have written."""

import json
import math
import stat
from pathlib import Path
from typing import Any

import yaml

from shared import plain_yaml, run_folder
from shared.errors import explain
from shared.formats.safe_arrays import UnsafeArrayError, read_limited
from shared.runs.run import RunError

MAX_SETTINGS_BYTES = 2**20  # ours have some 3 KB, mmengine's 20
MAX_LOG_BYTES = 128 * 2**20  # some thousand epochs are 10 MB
LOG = "metrics.jsonl"


def read_text(path: Path, limit: int, what: str) -> str:
    """Raises RunError for a file that is missing, too large, no file or no text."""
    try:
        return read_limited(path, limit, what).decode("utf-8-sig")
    except OSError as error:
        raise RunError(explain(error)) from error
    except UnsafeArrayError as error:
        raise RunError(f"{path}: {error}") from error
    except UnicodeDecodeError as error:
        raise RunError(f"{path} is no text in UTF-8 ({error.reason}): copy it again") from error


def read_settings(path: Path) -> dict[str, Any]:
    """A YAML file of settings by name."""
    text = read_text(path, MAX_SETTINGS_BYTES, "settings")
    try:
        settings = plain_yaml.safe_load(text)
    except yaml.YAMLError as error:
        said = " ".join(str(error).split())[:200]
        raise RunError(f"{path} is no YAML ({said}): copy it from the run again") from error
    if not isinstance(settings, dict) or not all(isinstance(name, str) for name in settings):
        raise RunError(f"{path} does not hold settings by name: it is no config of a run")
    return settings


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file with entries by name."""
    text = read_text(path, MAX_SETTINGS_BYTES, "settings")
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RunError(f"{path} is no JSON: copy it from the run again") from error
    if not isinstance(found, dict):
        raise RunError(f"{path} does not hold entries by name: it is no record of a run")
    return found


def read_log(folder: Path, step: str = "epoch") -> list[dict[str, Any]]:
    """The rows of metrics.jsonl, at least one, each with numbers `step` and `epoch`.

    A last line that a kill cut off, or that is being written, is left out.
    """
    path = folder / LOG
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise RunError(f"{path} is not a file: give the folder of a run")
        if status.st_size > MAX_LOG_BYTES:
            raise RunError(
                f"{path} is larger than {MAX_LOG_BYTES >> 20} MiB, too large for the log of a run"
            )
        rows = run_folder.read_rows(folder, step)
    except FileNotFoundError as error:
        raise RunError(
            f"{folder}: no epoch is finished yet (there is no {LOG}): wait for the first one, or "
            "give the folder of a run"
        ) from error
    except OSError as error:
        raise RunError(explain(error)) from error
    except run_folder.RunFolderError as error:
        raise RunError(str(error)) from error
    if not rows:
        raise RunError(f"{folder}: no epoch is finished yet ({LOG} has no row): wait for the first")
    for row in rows:
        for name in (step, "epoch"):
            if number(row.get(name)) is None:
                found = repr(row.get(name))[:40]
                raise RunError(f"{path}: {name} {found} is not a number: is it of another program?")
    return rows


def number(value: object) -> float | None:
    """The value if it is a finite number, else None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return value if math.isfinite(value) else None
    except OverflowError:  # an integer that no float holds
        return None

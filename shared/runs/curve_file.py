"""Curves kept as .csv, such as those in the projects' results/.

    # seed: 1
    epoch,accuracy,seconds
    1,10.5,0.9

Lines with # are remarks; those at the head may be settings in YAML.
"""

import csv
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

from shared import plain_yaml
from shared.runs import methods
from shared.runs.files import MAX_LOG_BYTES, number, read_text
from shared.runs.run import Run, RunError

_EXPECTED = "give a .csv with the columns epoch and accuracy, an epoch in every row"


def read_curve_file(path: Path) -> Run:
    """A curve with the columns epoch and accuracy. Raises RunError.

    rows: finite numbers by column, None where a cell holds none. Where the remarks are the settings
    of a run it is of that method, else of none, and its title is the file's name.
    """
    lines = read_text(path, MAX_LOG_BYTES, "a curve").splitlines()
    settings = _settings([line[1:].removeprefix(" ") for line in lines if line.startswith("#")])
    rows = _rows(path, [line for line in lines if line.strip() and not line.startswith("#")])
    try:
        method = methods.recognised(settings)
    except RunError:
        method = methods.Method("", "", path.stem)
    return methods.classifier_run(path, method, settings, rows)


def _settings(remarks: list[str]) -> dict[str, Any]:
    """{} for ordinary remarks."""
    try:
        settings = plain_yaml.safe_load("\n".join(remarks))
    except yaml.YAMLError:
        return {}
    return settings if isinstance(settings, dict) else {}


def _rows(path: Path, lines: list[str]) -> list[dict[str, Any]]:
    try:
        table = csv.DictReader(lines)
        rows = [{name: _cell(text) for name, text in row.items() if name} for row in table]
        columns = table.fieldnames or []
    except csv.Error as error:
        raise RunError(f"{path} is no curve ({error}): {_EXPECTED}") from error
    if missing := [name for name in ("epoch", "accuracy") if name not in columns]:
        raise RunError(f"{path} is no curve (no {' and no '.join(missing)}): {_EXPECTED}")
    epochs = [epoch for row in rows if (epoch := row["epoch"]) is not None]
    if not rows or len(epochs) < len(rows):
        raise RunError(f"{path} is no curve (a line has no epoch): {_EXPECTED}")
    for before, after in pairwise(epochs):
        if after <= before:
            raise RunError(
                f"{path}: epoch {after:g} follows epoch {before:g}: are two runs in one file? Give "
                "each a file of its own"
            )
    return rows


def _cell(text: Any) -> float | None:
    try:
        return number(float(text))
    except (TypeError, ValueError):  # a word, nothing, or a line with too many cells
        return None

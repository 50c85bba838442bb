"""The table at the end: each method over its seeds, and whether all saw the same labels.

Letters: N samples.
"""

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

import numpy as np

from compare.methods import METHODS
from compare.spread import Spread, span, spread
from shared.errors import UserError
from shared.files import save
from shared.formats import noise_file
from shared.formats.noise_file import NoiseFile
from shared.runs.labels import differing
from shared.runs.reader import Run, Unread
from shared.runs.settings import told_apart

CSV = "table.csv"
ACCURACIES = ("last", "best", "last_10_mean")
_NAME = re.compile(rf"({'|'.join(METHODS)})-seed\d+")  # of a run's folder, see `plan`


@dataclass(frozen=True)
class Row:
    """A method over its finished seeds, all with the same settings, named where others differ.

    Accuracies are in percent, None without a test set.
    """

    title: str
    seeds: int
    accuracies: dict[str, Spread | None]  # by ACCURACIES
    reported: str  # which of them the paper reports; "" where it does not say
    seconds: float  # mean over the seeds
    samples: int | None  # labels trained on
    differs: str  # from the other methods


def rows(runs: Sequence[Run], differences: Mapping[str, str]) -> list[Row]:
    """One for each method and settings of it, in the order of METHODS.

    differences: by key of METHODS.
    """
    groups: dict[tuple[str, str], list[Run]] = {}
    for key in METHODS:
        found = [run for run in runs if run.folder.name.partition("-")[0] == key]
        for settings, run in zip(told_apart(found), found):
            groups.setdefault((key, settings), []).append(run)
    return [
        _row(alike, settings, differences.get(key, "")) for (key, settings), alike in groups.items()
    ]


def _row(runs: Sequence[Run], settings: str, differs: str) -> Row:
    summaries = [summary for run in runs if (summary := run.summary()) is not None]
    found = {name: spread([getattr(summary, name) for summary in summaries]) for name in ACCURACIES}
    samples = [len(noise.noisy_labels) for run in runs if (noise := _noise(run)) is not None]
    return Row(
        f"{runs[0].title} ({settings})" if settings else runs[0].title,
        len(runs),
        found,
        runs[0].which,
        sum(run.seconds for run in runs) / len(runs),
        samples[0] if samples else None,
        differs,
    )


def text(table: Sequence[Row]) -> str:
    """The table for a terminal, what differs below it."""
    head = ("method", "seeds", "last", "best", "last 10", "paper reports", "time", "trained on")
    cells = [
        (
            row.title,
            str(row.seeds),
            *(found.text() if (found := row.accuracies[name]) else "-" for name in ACCURACIES),
            row.reported or "not said",
            span(row.seconds),
            "?" if row.samples is None else f"{row.samples:,}",
        )
        for row in table
    ]
    widths = [max(map(len, column)) for column in zip(head, *cells)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip()
        for line in (head, *cells)
    ]
    return "\n".join([*lines, *(f"{row.title}: {row.differs}" for row in table if row.differs)])


def write_csv(table: Sequence[Row], path: Path) -> None:
    """The same as a file, a column for each mean and deviation, empty where there is none."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    numbers = [column for name in ACCURACIES for column in (name, f"{name}_deviation")]
    writer.writerow(["method", "seeds", *numbers, "paper_reports", "seconds", "samples", "differs"])
    for row in table:
        spreads = [row.accuracies[name] for name in ACCURACIES]
        pairs = [astuple(each) if each else (None, None) for each in spreads]
        found = ["" if value is None else f"{value:.2f}" for pair in pairs for value in pair]
        rest = [row.reported, round(row.seconds), row.samples or "", row.differs]
        writer.writerow([row.title, row.seeds, *found, *rest])
    save(path, stream.getvalue().encode())


def of_this_comparison(runs: Sequence[Run], folder: Path) -> tuple[list[Run], list[Unread]]:
    """The finished runs, and the others with the reason; copies are no further seeds."""
    finished, left_out = [], []
    for run in runs:
        if run.folder.parent != folder or not _NAME.fullmatch(run.folder.name):
            left_out.append(
                Unread(run.folder, "not a run of this comparison, by its place or name")
            )
        elif not run.is_finished:
            reason = f"trained {run.epochs:g} of {run.epochs_planned or 0:g} epochs"
            left_out.append(Unread(run.folder, reason))
        else:
            finished.append(run)
    return finished, left_out


def check_labels(runs: Iterable[Run], expected: Path | None) -> str:
    """A sentence on whether the runs saw the same labels, or UserError naming one that did not.

    expected: the noise file of all; without it they are compared with one another. A run that
    trained on a part of the samples, by their indices, must have the same labels of that part.
    """
    others = [] if expected is None else [(expected, noise_file.read(expected))]  # and their names
    checked = 0
    for run in runs:
        if (noise := _noise(run)) is None:
            continue
        for name, other in others:
            wrong = differing(noise, other).tolist()
            if expected is not None:
                wrong += np.setdiff1d(noise.rows, other.rows).tolist()
            if wrong:
                whose = "that folder" if expected else "the folder whose labels are out of date"
                raise UserError(
                    f"{run.folder} was trained on another label of sample {wrong[0]} than {name} "
                    f"({len(wrong)} differ): delete {whose} and run the same command again"
                )
        if expected is None:
            others.append((run.folder, noise))
        checked += 1
    if checked == 0:
        return "no run recorded its labels, so that none could be compared"
    if checked == 1 and expected is None:
        return "one run recorded its labels, and there are no others to compare them with"
    if checked == 1:
        return "the labels of the one run are those of the noise file, sample by sample"
    return f"the labels of {checked} runs were compared, sample by sample: all the same"


def _noise(run: Run) -> NoiseFile | None:
    return None if run.noise_path is None else noise_file.read(run.noise_path)

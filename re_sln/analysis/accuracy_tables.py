"""Which runs belong together, and the tables of their accuracies.

Pure functions of runs; accuracies in percent. A cell is one method on one kind of noise; it holds
runs that differ in their seed or in who made the noise.
"""

import csv
import hashlib
import io
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from textwrap import indent
from typing import Any

import numpy as np

from re_sln.analysis.finished_runs import MODES, Run, noise_mode
from re_sln.method.train import Row
from re_sln.run.presets import METHODS, PAPER_RATE, PRESETS, sigma_for
from re_sln.run.report import summary
from shared.formats.noise_file import Header
from shared.runs.labels import read_noise
from shared.runs.methods import RE_SLN
from shared.runs.reader import Run as OtherRun

COLUMNS = ("sym", "asym", "dependent", "openset")  # the paper's order
AS_GIVEN = "as given"  # nobody added noise
# Runs that differ in one of these are of another kind, and are not averaged with each other.
RECIPE = (
    *("n_epochs", "limit_train", "limit_test", "batch_size", "lr"),
    *("ema_decay", "depth", "width", "network", "lc_images", "pretrained", "val_fraction"),
)
OWN = "folder"  # --dataset_name of own pictures
Rows = Sequence[Row]


@dataclass(frozen=True)
class Result:
    """What a finished run says to a table."""

    dataset: str
    noise: str  # column
    method: str
    sigma: float
    lc: tuple[int, str]  # first epoch of label correction, and its form
    recipe: tuple[Any, ...]  # by RECIPE
    rows: Rows
    seed: int = 0
    borrowed: bool = False  # the network itself in a run of SLN+MO, taken as a run of SLN
    project: str = RE_SLN

    @property
    def group(self) -> tuple[str, str]:
        """Runs of other projects have recipes of their own; only those of ours must be alike."""
        return self.dataset, "" if self.project == RE_SLN else self.method

    @property
    def last(self) -> float:
        return summary(self.rows)["last"]

    @property
    def variant(self) -> tuple[float, tuple[int, str]]:
        return self.sigma, self.lc


Cells = dict[tuple[str, str], list[Result]]  # by method and noise


def set_name(dataset: str, settings: Mapping[str, Any]) -> str:
    """The data set; of own pictures with the name of their folder, and a hash of its place."""
    place = settings.get("data_path") or settings.get("data_location")
    if dataset != OWN or place is None:
        return dataset
    parts = [place, settings.get("labels")]
    where = "\n".join(str(Path(part).absolute()) for part in parts if part is not None)
    name = re.sub(r"[^A-Za-z0-9.-]+", "-", Path(place).stem)
    return f"{OWN}_{name}_{hashlib.sha256(where.encode()).hexdigest()[:8]}"


def shortly_named(results: Sequence[Result]) -> list[Result]:
    """The same; where all own pictures are of one set, it is called `folder`."""
    own = {each.dataset for each in results if each.dataset.startswith(f"{OWN}_")}
    return [replace(each, dataset=OWN) if own == {each.dataset} else each for each in results]


def _preset(dataset: str) -> Mapping[str, float]:
    """What the usual run of `set_name` has."""
    return PRESETS.get(OWN if dataset.startswith(f"{OWN}_") else dataset, {})


def result_of(run: Run, rows: Rows) -> Result:
    settings = run.settings
    dataset = set_name(settings["dataset_name"], settings)
    mode, rate = noise_mode(run), settings.get("p")
    noise = AS_GIVEN if mode is None else mode
    if mode is not None and rate not in (None, PAPER_RATE):
        noise += f" {rate:g}"
    preset: dict[str, Any] = {**_preset(dataset), "lc_images": "augmented"}
    if dataset == "clothing1m":  # runs older than the flag
        preset["pretrained"] = "imagenet"
    recipe = tuple(
        settings.get(name) if settings.get(name) is not None else preset.get(name)
        for name in RECIPE
    )
    lc = (int(settings["lc_n_epoch"]), str(settings.get("lc_form") or "recursive"))
    sigma, seed = float(settings["sigma"]), int(settings["seed"])
    return Result(dataset, noise, settings["method"], sigma, lc, recipe, rows, seed)


def result_of_other(run: OtherRun) -> Result:
    """Of another project's finished run, with the accuracy that it reports."""
    noise = read_noise(run.folder)
    known = Header() if noise is None else noise.header
    dataset = set_name(known.dataset or run.config.get("dataset") or "unknown", run.config)
    kind = AS_GIVEN if known.kind is None else MODES.get(known.kind, known.kind)
    of_file = run.config.get("noise_file") is not None  # as for our runs, whose rate is not named
    if not of_file and known.nominal_rate not in (None, PAPER_RATE):
        kind += f" {known.nominal_rate:g}"
    method = f"{run.title} ({run.project})"
    rows = [one._asdict() for one in run.evaluations]
    recipe, lc = (run.epochs_planned,), (-1, "")
    return Result(dataset, kind, method, 0.0, lc, recipe, rows, run.seed or 0, project=run.project)


def comparable(results: Iterable[Result]) -> tuple[dict[str, list[Result]], list[str]]:
    """By dataset, the finished runs of the longest recipe, of those the most used; and remarks."""
    groups = defaultdict(list)
    for result in results:
        groups[result.group].append(result)
    kept: dict[str, list[Result]] = {}
    remarks = []
    for (dataset, other), runs in groups.items():
        finished = [run for run in runs if other or len(run.rows) >= run.recipe[0]]
        if unfinished := len(runs) - len(finished):
            remarks.append(f"{dataset}: left out {unfinished} unfinished {_runs(unfinished)}")
        if not finished:
            continue
        count = Counter(run.recipe for run in finished)
        recipe = max(count, key=lambda known: (known[0], count[known]))
        alike = [run for run in finished if run.recipe == recipe]
        if not other:
            alike = [replace(run, rows=run.rows[: recipe[0]]) for run in alike]
        kept[dataset] = [*kept.get(dataset, []), *alike]
        if others := len(finished) - len(alike):
            said = ", ".join(
                f"{name} {value}" for name, value in zip(RECIPE, recipe) if value is not None
            )
            name = f"{dataset}, {other}" if other else dataset
            remarks.append(
                f"{name}: left out {others} {_runs(others)} of other settings than {said}"
            )
    return kept, remarks


def cells(dataset: str, results: Sequence[Result]) -> tuple[Cells, list[str]]:
    """The runs of each cell: of the published sigma and label correction, else the most used."""
    results = [*results, *borrowed(results)]
    by_cell = defaultdict(list)
    for result in results:
        by_cell[result.method, result.noise].append(result)
    chosen: Cells = {}
    remarks = []
    for (method, noise), runs in sorted(by_cell.items(), key=lambda item: _place(*item[0])):
        count = Counter(run.variant for run in runs)
        mode = None if noise == AS_GIVEN else noise.split()[0]
        lc = (_preset(dataset).get("lc_n_epoch"), "recursive")
        merits = {
            known: (known[0] == sigma_for(dataset, mode), known[1] == lc, times)
            for known, times in count.items()
        }
        variant = max(count, key=merits.__getitem__)
        chosen[method, noise] = [run for run in runs if run.variant == variant]
        cell = f"{dataset}, {shown(method)} on {noise}: "
        if others := sorted({known[0] for known in count} - {variant[0]}):
            remarks.append(
                f"{cell}the runs with sigma {variant[0]:g}; there are others with {_list(others)}"
            )
        if others := sorted({known[1][0] for known in count} - {variant[1][0]}):
            remarks.append(
                f"{cell}label correction from epoch {variant[1][0]}; there are others from "
                f"{_list(others)}"
            )
        if any(run.borrowed for run in chosen[method, noise]):
            remarks.append(
                f"{cell}the network itself in runs of sln-mo, for there is no run of sln"
            )
    return chosen, remarks


def borrowed(results: Sequence[Result]) -> list[Result]:
    """Runs of SLN where there are none: the network itself in those of SLN+MO, trained alike."""
    known = {(run.noise, run.sigma) for run in results if run.method == "sln"}
    return [
        replace(
            run,
            method="sln",
            borrowed=True,
            rows=[{**row, "accuracy": row["accuracy_test_base"]} for row in run.rows],
        )
        for run in results
        if run.method == "sln_mo"
        and (run.noise, run.sigma) not in known
        and all(row.get("accuracy_test_base") is not None for row in run.rows)
    ]


def by_sigma(results: Sequence[Result], noise: str) -> dict[float, list[float]]:
    """Last accuracies of plain SLN on that noise by sigma; 0: cross-entropy."""
    found = defaultdict(list)
    for run in results:
        if run.method in ("ce", "sln") and run.noise == noise:
            found[run.sigma].append(run.last)
    return dict(sorted(found.items()))


# ---- text


def cell_text(values: Sequence[float]) -> str:
    """Mean ± population standard deviation, of a single value itself; two decimals."""
    spread = f" ± {np.std(values):.2f}" if len(values) > 1 else ""
    return f"{np.mean(values):.2f}{spread}"


def columns_of(chosen: Cells) -> list[str]:
    return sorted({noise for _, noise in chosen}, key=lambda noise: _place("", noise))


def table(chosen: Cells, text_of: Callable[[list[Result]], str]) -> list[list[str]]:
    """Rows are methods, columns kinds of noise, named in the first row; empty without a run."""
    columns = columns_of(chosen)
    lines = [["method", *columns]]
    others = sorted({method for method, _ in chosen if method not in METHODS})
    for method in (*METHODS, *others):
        found = [chosen.get((method, noise)) for noise in columns]
        if any(found):
            texts = [text_of(cell) if cell else "" for cell in found]
            lines.append([shown(method), *texts])
    return lines


def shown(method: str) -> str:
    """Our methods are written as in re-sln's tables."""
    return method.replace("_", "-") if method in METHODS else method


def last_text(cell: list[Result]) -> str:
    return cell_text([run.last for run in cell])


def printed(chosen: Cells) -> str:
    """Three tables: last, last-10 mean and best accuracy.

    An asterisk: see the note on where the runs come from.
    """

    def text(name: str) -> Callable[[list[Result]], str]:
        return lambda cell: (
            cell_text([summary(run.rows)[name] for run in cell]) + "*" * cell[0].borrowed
        )

    def counted(cell: list[Result]) -> str:
        return f"{text('last')(cell)} ({len(cell)})"

    parts = {
        "last epoch (number of runs)": counted,
        "mean of the last 10 epochs": text("last_10_mean"),
        "best epoch": text("best"),
    }
    return "\n".join(
        f"  {name}\n{indent(aligned(table(chosen, of)), '    ')}" for name, of in parts.items()
    )


def aligned(lines: Sequence[Sequence[str]]) -> str:
    """Lines of columns as text."""
    widths = [max(map(len, column)) for column in zip(*lines)]
    return "\n".join(
        "  ".join(text.ljust(width) for text, width in zip(line, widths)).rstrip() for line in lines
    )


def csv_text(lines: Iterable[Sequence[str]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(lines)
    return text.getvalue().encode()


def sigma_table(accuracies: Mapping[float, Sequence[float]]) -> list[list[str]]:
    return [["sigma", "accuracy", "runs"]] + [
        [f"{sigma:g}", cell_text(values), str(len(values))] for sigma, values in accuracies.items()
    ]


def _place(method: str, noise: str) -> tuple[int, str, str]:
    """For sorting: by the paper's order of noise and methods, what it does not have behind."""
    mode = noise.split()[0]
    return (
        COLUMNS.index(mode) if mode in COLUMNS else len(COLUMNS),
        noise,
        str(METHODS.index(method)) if method in METHODS else method,
    )


def _runs(count: int) -> str:
    return "run" if count == 1 else "runs"


def _list(values: Iterable[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)

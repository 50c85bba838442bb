"""The tables of the report as texts, with the values that they are sorted by."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from compare.report import statistics
from compare.report.collect import Method, Samples
from compare.report.held_out import HeldOut, of_run
from compare.report.statistics import Detection
from compare.spread import Spread, span, spread
from shared.runs.reader import Run

REPORTED = ("last", "best", "last 10")  # the columns of accuracies, as `Run.which` names them
UNKNOWN = "–"


@dataclass(frozen=True)
class Cell:
    """One cell; value: what it is sorted by, None where nothing is known."""

    text: str
    value: float | None
    reported: bool = False  # the accuracy that the paper reports


@dataclass(frozen=True)
class MethodRow:
    """A method in the first table."""

    title: str
    runs: int
    seeds: str
    scores: tuple[Cell, Cell, Cell]  # in the order of REPORTED
    epochs: float
    epochs_text: str
    seconds: float
    time: str
    is_finished: bool  # every run, as far as is known
    has_clean: bool  # some run was told true labels
    remark: str


def methods(found: Sequence[Method], samples: Samples) -> list[MethodRow]:
    """Of the methods with runs, the highest last accuracy first."""
    rows = [_method(each, samples) for each in found if each.runs]
    return sorted(rows, key=lambda row: _or_lowest(row.scores[0].value), reverse=True)


def _or_lowest(value: float | None) -> float:
    return -np.inf if value is None else value


def _method(method: Method, samples: Samples) -> MethodRow:
    """Of its finished runs, or of all where none is: half a run would move every mean."""
    unfinished = [run for run in method.runs if _is_unfinished(run)]
    runs = [run for run in method.runs if not _is_unfinished(run)] or unfinished
    held_out = [each for run in runs if (each := of_run(run, samples.knows_truth)) is not None]
    summaries = [summary for run in runs if (summary := run.summary())]
    values = (
        [each.last for each in summaries],
        [each.best for each in summaries],
        [each.last_10_mean for each in summaries],
    )
    scores = [_score(spread(each), name == runs[0].which) for name, each in zip(REPORTED, values)]
    seconds = float(np.mean([run.seconds for run in runs]))
    seeds = ", ".join(str(run.seed) for run in runs if run.seed is not None)
    return MethodRow(
        title=method.title,
        runs=len(runs),
        seeds=seeds,
        scores=(scores[0], scores[1], scores[2]),
        epochs=float(np.mean([run.epochs for run in runs])),
        epochs_text=" to ".join(sorted({f"{round(run.epochs, 1):g}" for run in runs}, key=float)),
        seconds=seconds,
        time=span(seconds),
        is_finished=runs is not unfinished,
        has_clean=any(each.are_clean for each in held_out),
        remark="; ".join(_remarks(method, runs, unfinished, held_out, len(samples.index))),
    )


def _score(found: Spread | None, reported: bool) -> Cell:
    return Cell(UNKNOWN, None) if found is None else Cell(found.text(), found.mean, reported)


def _is_unfinished(run: Run) -> bool:
    return run.epochs_planned is not None and not run.is_finished


def _remarks(
    method: Method,
    runs: Sequence[Run],
    unfinished: Sequence[Run],
    held_out: Sequence[HeldOut],
    count: int,
) -> list[str]:
    """What has to be known to compare the method with the others. runs: those of its row."""
    remarks = []
    if unfinished:
        shares = ", ".join(f"{run.epochs:g} of {run.epochs_planned:g}" for run in unfinished)
        left_out = "" if runs is unfinished else " and not counted"
        remarks.append(f"not finished{left_out}: {shares} epochs")
    trained = {int(number) for number in method.trained_on if 0 < number < count}
    if trained:
        numbers = " or ".join(f"{number:,}" for number in sorted(trained))
        remarks.append(f"trained on {numbers} of the {count:,} labels")
    if held_out:
        remarks.append(" or ".join(sorted({each.text for each in held_out})))
    if runs[0].averaged:
        remarks.append("accuracy of averaged weights")
    if not any(run.evaluations for run in runs):
        remarks.append("never tested")
    return remarks


# ---- labels


def classes(
    samples: Samples, found: Sequence[Method]
) -> tuple[list[str], list[tuple[str, list[int]]]]:
    """Headings and rows: of each class the given, clean and corrected labels, and the flagged."""
    count = len(samples.class_names)

    def each_class(labels: Any) -> list[int]:
        return np.bincount(labels[labels >= 0], minlength=count).tolist()  # type: ignore[no-any-return]

    columns = {"Given": each_class(samples.given)}
    if samples.knows_truth:
        columns["True"] = each_class(samples.clean)
    for method in (method for method in found if method.has_opinion):
        columns[f"Flagged by {method.title}"] = each_class(samples.given[method.flagged])
    rows = [
        (name, [column[label] for column in columns.values()])
        for label, name in enumerate(samples.class_names)
    ]
    return ["Class", *columns], rows


def detections(method: Method, samples: Samples) -> list[Detection]:
    """Of each run that judged labels whose truth is known, where some are wrong and some right."""
    known = samples.known
    found = []
    for quality in method.quality:
        rows = known & ~np.isnan(quality)
        if rows.any() and (each := statistics.detection(quality[rows], samples.wrong[rows])):
            found.append(each)
    return found


def detection(
    methods: Sequence[Method], found: Sequence[Sequence[Detection]], samples: Samples
) -> list[tuple[str, list[Cell]]]:
    """AUC, precision, flagged, wrong ones of these and recall, means over the runs; best first."""
    rows = []
    for method, runs in zip(methods, found):
        if not runs:
            continue
        area = spread([each.auc for each in runs])
        first = spread([each.precision_at_k for each in runs])
        assert area is not None
        assert first is not None
        known = method.judged & samples.known
        flagged, wrong = method.flagged & known, samples.wrong & known
        hits = int((flagged & wrong).sum())
        number = int(flagged.sum())
        rows.append(
            (
                method.title,
                [
                    Cell(area.text(3), area.mean),
                    Cell(first.text(3), first.mean),
                    Cell(f"{number:,}", number),
                    _share(hits, number),
                    _share(hits, int(wrong.sum())),
                ],
            )
        )
    return sorted(rows, key=lambda row: row[1][0].value or 0.0, reverse=True)


def _share(part: int, whole: int) -> Cell:
    return Cell(f"{part / whole:.1%}", part / whole) if whole else Cell(UNKNOWN, None)

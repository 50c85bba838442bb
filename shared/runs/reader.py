"""The reader of run folders, the one place that knows all projects: files only, no framework.

    runs, unread = find_runs([Path("runs")])          # of any project, at or below the place
    run = read_run(Path("runs/digits_0.4_sln"))
    run.title, run.summary(), run.noise_sha256
    read_label_quality(run.label_quality_path)

Nothing that is read is executed, and nothing is written: a run may be in progress.
"""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from shared.errors import explain
from shared.runs import detectors, methods
from shared.runs.curve_file import read_curve_file
from shared.runs.files import LOG, number, read_log, read_settings
from shared.runs.label_table import LabelQuality, read_label_quality
from shared.runs.labels import noise_hash
from shared.runs.run import Evaluation, Run, RunError, Summary

__all__ = [
    "Evaluation",
    "LabelQuality",
    "Run",
    "RunError",
    "Summary",
    "Unread",
    "find_runs",
    "read_curve_file",
    "read_label_quality",
    "read_run",
]
CONFIG = "config.yaml"
OTHERS = ("wandb", "tensorboard")  # folders inside a run that are not ours


class Unread(NamedTuple):
    """A folder that was left out."""

    folder: Path
    reason: str


def read_run(folder: Path) -> Run:
    """The run of a folder. Raises RunError, saying what is missing and how to fix it."""
    try:
        return _read(folder)
    except OSError as error:
        raise RunError(explain(error)) from error


def _read(folder: Path) -> Run:
    if not folder.is_dir():
        raise RunError(f"{folder}: no such folder; give the run folder that training wrote")
    if (folder / CONFIG).exists():
        return _of_classifier(folder)
    own, config = read_log(folder), detectors.read_config(folder)
    if not detectors.is_detector(own, config):
        raise RunError(
            f"{folder}: no {CONFIG}, so nobody knows of which method it is: copy that file from "
            "the run too"
        )
    return _of_detector(folder, own, config)


def _of_classifier(folder: Path) -> Run:
    config = read_settings(folder / CONFIG)
    try:
        method = methods.recognised(config)
    except RunError as error:
        raise RunError(f"{folder / CONFIG}: {error}") from error
    rows = read_log(folder, "iteration" if method.project == methods.IEG else "epoch")
    return methods.classifier_run(folder, method, config, rows, noise_hash(folder))


def _of_detector(folder: Path, own: list[detectors.Row], config: dict[str, Any]) -> Run:
    project, key, title = detectors.method_of(config, own)
    rows = detectors.whole_log(folder, own, config)
    return Run(
        folder=folder,
        project=project,
        method=key,
        title=title,
        config=config,
        rows=rows,
        evaluations=[
            Evaluation(row["epoch"], 100 * share)
            for row in rows
            if (share := number(row.get("segm_mAP"))) is not None
        ],
        epochs=methods.trained(rows),
        epochs_planned=detectors.planned(config),
        averaged=False,
        which=methods.WHICH[project],
        seconds=sum(number(row.get("seconds")) or 0.0 for row in rows),
        seed=detectors.seed_of(folder),
        noise_sha256=None,
        metric="mask AP",
    )


def find_runs(places: Iterable[Path]) -> tuple[list[Run], list[Unread]]:
    """The runs at or below the places, each once, and what was left out, and why.

    In the order of the places, below each sorted by folder. places: folders, or curves as .csv.
    Neither links to folders nor hidden folders are entered unless they are a place themselves.
    """
    runs: list[Run] = []
    unread: list[Unread] = []
    seen: set[Path] = set()
    for place in places:
        found = 0
        for folder, reason in _candidates(place):
            found += 1
            if reason is not None:
                unread.append(Unread(folder, reason))
            elif (real := folder.resolve()) not in seen:
                seen.add(real)
                try:
                    runs.append(read_curve_file(folder) if folder.is_file() else read_run(folder))
                except RunError as error:
                    unread.append(Unread(folder, _less(folder, str(error))))
        if not found:
            unread.append(Unread(place, "no run folder is in it or below it"))
    return runs, list(dict.fromkeys(unread))


def runs_to_compare(places: Iterable[Path]) -> tuple[list[Run], list[str]]:
    """The runs with a test accuracy, and a line on each folder that was left out.

    Raises RunError, with those lines, if no run is left.
    """
    runs, unread = find_runs(places)
    tested = [run for run in runs if run.evaluations]
    lines = [f"{folder}: {reason}" for folder, reason in unread]
    lines += [
        f"{run.folder} has no test accuracy: it has no test set, or was not tested yet"
        for run in runs
        if not run.evaluations
    ]
    if not tested:
        raise RunError("\n".join(lines))
    return tested, lines


def _candidates(place: Path) -> Iterator[tuple[Path, str | None]]:
    """Folders that look like runs, and folders that are not entered, with the reason."""
    try:
        if place.is_file():
            yield place, None
            return
        if not place.is_dir():
            yield place, "no such folder: check the name"
            return
    except OSError as error:
        yield place, explain(error)
        return
    errors: list[OSError] = []
    for name, folders, files in os.walk(place, onerror=errors.append):
        folder = Path(name)
        is_run = LOG in files or CONFIG in files
        folders.sort()
        for inner in list(folders):
            reason = _not_entered(folder / inner)
            if reason is not None:
                yield folder / inner, reason
            if reason is not None or (is_run and inner in OTHERS):
                folders.remove(inner)
        trials = [inner for inner in folders if (folder / inner / "params.json").is_file()]
        if trials:
            yield folder, "a search for sigma, not a run: re_sln/results.py makes its table"
            folders[:] = [inner for inner in folders if inner not in trials]
        if LOG in files or (is_run and not trials):
            yield folder, None
    for closed in errors:
        yield Path(closed.filename), explain(closed)


def _less(folder: Path, reason: str) -> str:
    """The reason without the folder that is named beside it."""
    return reason.removeprefix(f"{folder}: ").removeprefix(f"{folder}{os.sep}")


def _not_entered(folder: Path) -> str | None:
    if folder.is_symlink():
        return "a link, which is not followed: give the folder that it leads to"
    if folder.name.startswith("."):
        return "a hidden folder, which is not entered: give it itself if it holds runs"
    return None

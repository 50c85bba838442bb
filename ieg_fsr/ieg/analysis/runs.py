"""What is said of finished runs, of this project and others: their names, weights and a table."""

from collections.abc import Sequence

from shared.runs.files import number
from shared.runs.methods import IEG
from shared.runs.reader import Run

COUNTED = 0.5  # the part of a run, its end, whose weights are averaged


def weight(run: Run, kind: str) -> float | None:
    """Mean weight of `clean` or `noisy` samples in the second half; None without weights."""
    start = COUNTED * run.rows[-1]["epoch"]
    late = [number(row.get(f"weight_{kind}")) for row in run.rows if row["epoch"] > start]
    found = [one for one in late if one is not None]
    return sum(found) / len(found) if found else None


def is_raw(run: Run) -> bool:
    """Whether a run of this project reports the weights themselves, not their average."""
    return run.project == IEG and not run.averaged


def labels_of(runs: Sequence[Run]) -> list[str]:
    """What to call the runs: by method, of several of a method also by folder; raw is marked."""
    methods = [run.title for run in runs]
    return [
        run.title
        + (f" {run.folder.name}" if methods.count(run.title) > 1 else "")
        + (" (raw)" if is_raw(run) else "")
        for run in runs
    ]


def table(runs: Sequence[Run]) -> str:
    """One line for each run."""
    columns = ("accuracy %", 12), ("best %", 9), ("weight of clean", 18), ("of noisy samples", 19)
    names = labels_of(runs)
    first = max(12, 2 + max(map(len, names)))
    head = f"{'method':<{first}}" + "".join(f"{title:>{width}}" for title, width in columns)
    lines = [head, "-" * len(head)]
    for run, name in zip(runs, names):
        best, _, last, _ = run.summary() or (None,) * 4
        figures = [last, best, weight(run, "clean"), weight(run, "noisy")]
        cells = ("-" if value is None else f"{value:.2f}" for value in figures)
        row = "".join(f"{cell:>{width}}" for cell, (_, width) in zip(cells, columns))
        lines.append(f"{name:<{first}}{row}")
    lines.append(
        "accuracy: of the last evaluation, of the averaged weights (of the raw ones where marked); "
        "best: of all evaluations; weight: 1 is uniform, mean of the second half of the run"
    )
    if others := [name for run, name in zip(runs, names) if run.project != IEG]:
        lines.append(f"of other projects, as each reports it: {', '.join(others)}")
    if masks := [name for run, name in zip(runs, names) if run.metric != "accuracy"]:
        lines.append(f"mask AP instead of accuracy: {', '.join(masks)}")
    return "\n".join(lines)

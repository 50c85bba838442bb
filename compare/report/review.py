"""How a review becomes a noise file: the command, with the labels that it corrects."""

import shlex
from pathlib import Path

from compare.question import NOISE, read_task
from compare.report.collect import Collected
from shared.errors import UserError

PYTHON = ".venv/compare/bin/python"  # from the root of the repository, where `make report` runs


def command(found: Collected, review: str) -> str:
    """What turns the file `review` into better.npz, for a shell."""
    words = f"{PYTHON} -m shared noise convert {review} better.npz --onto"
    return f"{words} {shlex.quote(str(labels(found) or NOISE))}"


def labels(found: Collected) -> Path | None:
    """The noise file of all labels: the comparison's, else that of a run that trained on all.

    None where only tables were given, or each run held some images out.
    """
    runs = [
        (run, count == len(found.samples.index))
        for method in found.methods
        for run, count in zip(method.runs, method.trained_on.tolist())
    ]
    for folder in (run.folder.parent for run, _ in runs):
        if _has_noise(folder) and (folder / NOISE).is_file():
            return folder / NOISE
    return next((run.noise_path for run, is_whole in runs if is_whole and run.noise_path), None)


def _has_noise(folder: Path) -> bool:
    """Whether it is a comparison on a noise file; a plan before this one may have left another."""
    try:
        return read_task(folder).noise_file is not None
    except UserError:  # no comparison
        return False

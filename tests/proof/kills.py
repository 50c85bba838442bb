"""Kills at random moments: a run that was killed and resumed ends with the bits of a whole one.

A run is killed between the moment it holds its folder and its end, by SIGKILL to its whole process
group, of two ranks to one of them or both; the same command then resumes it, and may be killed
again. When one comes to its end before its kill, it is compared, and the next run begins in a new
folder, until there were enough kills.
"""

import random
import shutil
from functools import partial
from pathlib import Path

from tests.proof import process, ranks
from tests.proof.process import HANGS, KILLED, Ended, digest_of
from tests.proof.projects import RUN, Project, fresh
from tests.proof.report import Row

TWO_RANKS = "two ranks"


def part(project: Project, way: str, kills: int, seed: int, scratch: Path) -> Row:
    """Kills a project's runs so often, and compares those that end with one that was left alone.

    way: a precision, or TWO_RANKS, which is two processes in float32.
    """
    moments = random.Random(f"{seed} {project.name} {way}")
    if way == TWO_RANKS:
        words = [*project.command(scratch / "inputs"), *project.of_ranks]
        run_until = partial(ranks.run_until, moments=moments)
    else:
        words = project.command(scratch / "inputs", way)
        run_until = process.run_until
    whole = run_until(words, fresh(scratch / way), HANGS)
    what = f"{project.name}, {way}: SIGKILL, resumed"
    if whole.status:
        return Row(what, 0, (f"the run itself ended with {whole.status}: {whole.errors[-500:]}",))
    expected = digest_of(project, scratch / way)
    landed = compared = in_training = 0
    failures: list[str] = []
    while landed < kills:
        folder = fresh(scratch / "killed")
        ended = Ended(KILLED, "", 0.0)
        while ended.status == KILLED:
            delay = moments.uniform(0, whole.seconds) if landed < kills else HANGS
            ended = run_until(words, folder, delay)
            landed += ended.status == KILLED
            in_training += ended.status == KILLED and has_rows(folder)
        compared += 1
        failures += differences(project, folder, expected, ended)
        shutil.rmtree(folder)
    remarks = f"{compared} runs compared, {in_training} kills after the first epoch was logged"
    return Row(what, landed, tuple(failures), remarks)


def has_rows(folder: Path) -> bool:
    log = folder / RUN / "metrics.jsonl"
    return log.exists() and "\n" in log.read_text()


def differences(
    project: Project, folder: Path, expected: dict[str, str] | str, ended: Ended
) -> list[str]:
    """What is wrong with a run that came to its end."""
    if ended.status:
        return [f"the resumed run ended with {ended.status}: {ended.errors[-500:]}"]
    found = digest_of(project, folder)
    parts = [path.name for path in (folder / RUN).glob(".*tmp*")]
    wrong = f"the whole run's hashes are {expected}, those of the resumed one {found}"
    return [wrong] * (found != expected) + [f"left {parts}"] * bool(parts)

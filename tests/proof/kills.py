"""Kills at random moments: a run that was killed and resumed ends with the bits of a whole one.

A run is killed between the moment it holds its folder and its end, by SIGKILL to its whole process
group; the same command then resumes it, and may be killed again. When one comes to its end before
its kill, it is compared, and the next run begins in a new folder, until there were enough kills.
"""

import random
import shutil
from pathlib import Path

from tests.proof.process import HANGS, KILLED, Ended, digest_of, run_until
from tests.proof.projects import RUN, Project, fresh
from tests.proof.report import Row


def part(project: Project, precision: str, kills: int, seed: int, scratch: Path) -> Row:
    """Kills a project's runs so often, and compares those that end with one that was left alone."""
    moments = random.Random(f"{seed} {project.name} {precision}")
    words = project.command(scratch / "inputs", precision)
    whole = run_until(words, fresh(scratch / precision), HANGS)
    what = f"{project.name}, {precision}: SIGKILL, resumed"
    if whole.status:
        return Row(what, 0, (f"the run itself ended with {whole.status}: {whole.errors[-500:]}",))
    expected = digest_of(project, scratch / precision)
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

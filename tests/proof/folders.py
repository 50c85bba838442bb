"""Two processes in one run folder: one trains as if it were alone, and one is refused."""

import random
import time
from pathlib import Path

from tests.proof.process import digest_of, run, start
from tests.proof.projects import Project, fresh
from tests.proof.report import Row

LATEST = 1.5  # seconds between the two starts


def part(project: Project, tries: int, seed: int, scratch: Path) -> Row:
    """Starts two equal commands shortly after each other, so often."""
    moments = random.Random(f"{seed} {project.name}")
    words = project.command(scratch / "inputs")
    what = f"{project.name}: two processes in one folder"
    alone = run(words, fresh(scratch / "alone"))
    if alone.status:
        return Row(what, 0, (alone.errors[-500:],))
    expected, failures, refused = digest_of(project, scratch / "alone"), [], 0
    for number in range(tries):
        folder = fresh(scratch / str(number))
        first, begun = start(words, folder), time.monotonic()
        time.sleep(moments.uniform(0, LATEST))
        ends = [one.ended(begun) for one in (start(words, folder), first)]
        messages = [one.last_line for one in ends if one.status == 2]
        refused += len(messages)
        if sorted(one.status for one in ends) != [0, 2] or "is in use by" not in messages[0]:
            failures.append(f"they ended with {[(one.status, one.errors[-300:]) for one in ends]}")
        if digest_of(project, folder) != expected:
            failures.append("the one that went on gave another result")
    return Row(what, tries, tuple(failures), f"{refused} refused, the other's result unchanged")

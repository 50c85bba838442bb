"""The parts that need a project, in its environment; a row a line, as JSON.

.venv/re_sln/bin/python -m tests.proof.in_project kills re_sln 20 0     # tries, seed
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from tests.proof import checkpoints, corruption, disk, folders, kills, mutations, process
from tests.proof.projects import PROJECTS, ROOT, environment, fresh
from tests.proof.report import Row


def run_in_project(part: str, name: str, tries: int, seed: int) -> Iterator[Row]:
    """Rows as they come. What the project's process says on stderr is shown."""
    words = [str(PROJECTS[name].python), "-m", "tests.proof.in_project", part, name]
    with subprocess.Popen(
        [*words, str(tries), str(seed)],
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            yield Row(**{**(known := json.loads(line)), "failures": tuple(known["failures"])})
    if process.returncode:
        yield Row(f"{name}: {part}", 0, (f"the proof itself ended with {process.returncode}",))


def rows(part: str, name: str, tries: int, seed: int, scratch: Path) -> Iterator[Row]:
    project = PROJECTS[name]
    if part == "checkpoints":
        yield checkpoints.part(project, tries, seed)
    elif part == "annotations":
        yield from mutations.training_sets(tries, seed)
    else:
        project.inputs(fresh(scratch / "inputs"))
        process.import_what_it_does(project.command(scratch / "inputs"), fresh(scratch / "first"))
        if part == "kills":
            for precision in project.precisions:
                yield kills.part(project, precision, tries, seed, scratch)
        elif part == "ranks":
            yield kills.part(project, kills.TWO_RANKS, tries, seed, scratch)
        elif part == "corruption":
            yield from corruption.part(project, tries, seed, scratch)
        elif part == "disk":
            yield from disk.run_part(project, tries, seed, scratch)
        else:
            yield folders.part(project, tries, seed, scratch)


if __name__ == "__main__":
    part, name, tries, seed = sys.argv[1:]
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # libraries print what they want, rows alone go to stdout
    with tempfile.TemporaryDirectory(prefix="proof-") as folder:
        for row in rows(part, name, int(tries), int(seed), Path(folder)):
            print(json.dumps(asdict(row)), file=answer, flush=True)

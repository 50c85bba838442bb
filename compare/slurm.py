"""The jobs as files: one command a line, and a Slurm array that runs one line in each task."""

import os
import shlex
from collections.abc import Sequence
from pathlib import Path

from compare.plan import Job
from shared.files import save

COMMANDS, ARRAY = "commands.txt", "array.sbatch"
_SBATCH = """\
#!/usr/bin/env bash
#SBATCH --job-name="{name}"
#SBATCH --array=1-{count}
#SBATCH --gpus=1
#SBATCH --cpus-per-task=4
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output="{folder}/slurm-%a.txt"
# `sbatch {file}` runs line %a of {commands} as task %a, on a cluster that shares these folders.
# Submitted again it continues; `python -m compare table {place}` makes the table.
# Where no GPUs are it is refused unless you say `sbatch --gpus=0`.
: "${{SLURM_ARRAY_TASK_ID:?run this with sbatch}}"
exec bash -c "$(sed -n "${{SLURM_ARRAY_TASK_ID}}p" {commands})"
"""


def write(jobs: Sequence[Job], folder: Path) -> None:
    """commands.txt and array.sbatch in the folder, which is absolute."""
    save(folder / COMMANDS, "".join(f"{job.line}\n" for job in jobs).encode())
    script = _SBATCH.format(
        name=folder.name,
        count=len(jobs),
        folder=folder,
        place=shlex.quote(str(folder)),
        file=shlex.quote(str(folder / ARRAY)),
        commands=shlex.quote(str(folder / COMMANDS)),
    )
    save(folder / ARRAY, script.encode())
    os.chmod(folder / ARRAY, 0o755)

"""The jobs as files: one command a line, and a Slurm array that runs one of them in each task."""

import os
import shlex
from collections.abc import Sequence
from pathlib import Path

from compare.plan import Job
from compare.question import ARRAY
from shared.files import save

COMMANDS = "commands.txt"
# The commands stand in the script, which Slurm keeps a copy of: later files change no pending task.
_SBATCH = """\
#!/usr/bin/env bash
#SBATCH --job-name="{name}"
#SBATCH --array=1-{count}
#SBATCH --gpus=1
#SBATCH --cpus-per-task=4
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output="{folder}/slurm-%A_%a.txt"
# `sbatch {file}` runs each of these as a task, on a cluster that shares these folders.
# Submitted again it continues; `python -m compare table {place}` makes the table.
# Where no GPUs are it is refused unless you say `sbatch --gpus=0`.
case "${{SLURM_ARRAY_TASK_ID:?run this with sbatch}}" in
{tasks}
*)
  echo "error: there is no task $SLURM_ARRAY_TASK_ID, only 1 to {count}" >&2
  exit 2
  ;;
esac
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
        tasks="\n".join(f"{number}) {job.line} ;;" for number, job in enumerate(jobs, start=1)),
    )
    save(folder / ARRAY, script.encode())
    os.chmod(folder / ARRAY, 0o755)

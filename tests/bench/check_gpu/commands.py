"""How `check-gpu` starts commands, and ends them in time."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.bench.check_gpu.projects import PROJECTS, Project

ROOT = Path(__file__).resolve().parents[3]
# Seconds of one command, longer where --minutes is; what takes longer is reported as such.
LIMIT, SHARE = 240.0, 0.4  # at least, of all the time
ROWS = 2  # of metrics.jsonl before a run is killed: then there is a checkpoint to resume from


class Failed(Exception):
    """A command ended with an error; the text is its last line."""


class NotRun(Exception):
    """The text says why."""


class Deadline:
    """Of the whole check, so many minutes from now."""

    def __init__(self, minutes: float) -> None:
        self._end = time.monotonic() + 60 * minutes
        self._most = max(LIMIT, SHARE * 60 * minutes)
        self._over = NotRun(f"the {minutes:g} minutes are over")

    def seconds(self) -> float:
        """That the next command may take. Raises NotRun."""
        if (left := self._end - time.monotonic()) <= 0:
            raise self._over
        return min(self._most, left)

    def missed(self) -> Exception:
        """What to raise for a command that took them all."""
        if time.monotonic() >= self._end:
            return self._over
        return Failed(f"took more than {self._most:.0f} s")


@dataclass(frozen=True)
class Check:
    """A project on a device, and a folder for what it leaves."""

    name: str
    folder: Path
    device: str
    deadline: Deadline

    @property
    def project(self) -> Project:
        return PROJECTS[self.name]

    def lacks(self, part: str) -> str | None:
        """Why the project has no such part here."""
        on_cpu = self.project.lacks_on_cpu if self.device == "cpu" else {}
        return self.project.lacks.get(part) or on_cpu.get(part)

    def python(self, *words: str) -> list[str]:
        """A command in the project's environment."""
        filled = (word.format(folder=self.folder, device=self.device) for word in words)
        return [f".venv/{self.name}/bin/python", *filled]

    def command(self, run_name: str, *more: str) -> list[str]:
        """The project's run into the folder of this name."""
        project = self.project
        size = project.on_cpu if self.device == "cpu" else ()
        place = f"{project.folder_flag}={{folder}}/{run_name}"
        words = (*project.run, *size, place, *more)
        return self.python(f"{self.name}/{project.script}", *words)

    def run(self, words: Sequence[str]) -> str:
        """What it prints. Raises Failed or NotRun."""
        seconds = self.deadline.seconds()
        with started(words) as process:
            try:
                output, errors = process.communicate(timeout=seconds)
            except subprocess.TimeoutExpired as error:
                raise self.deadline.missed() from error
        if process.returncode:
            lines = [line for line in errors.splitlines() if line.strip()]
            raise Failed(lines[-1] if lines else f"exit status {process.returncode}")
        return output

    def kill_after_rows(self, words: Sequence[str], folder: Path) -> bool:
        """Starts it and kills it by SIGKILL after ROWS; False where it had ended before."""
        until = time.monotonic() + self.deadline.seconds()
        path = folder / "metrics.jsonl"
        with started(words, subprocess.DEVNULL) as process:
            while process.poll() is None:
                if path.exists() and path.read_bytes().count(b"\n") >= ROWS:
                    return True
                if time.monotonic() > until:
                    raise self.deadline.missed()
                time.sleep(0.02)
        return False


@contextmanager
def started(
    words: Sequence[str], output: int = subprocess.PIPE
) -> Iterator["subprocess.Popen[str]"]:
    """A process in a group of its own: what is left of the group at the end is killed, since the
    workers of a loader outlive a run that is killed.
    """
    with subprocess.Popen(
        words,
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        text=True,
        process_group=0,
    ) as process:
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)

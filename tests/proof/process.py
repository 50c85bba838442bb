"""Starts a project's script without the seconds that importing its framework takes.

This process, in the project's environment, imports once what the script does, and is forked for
every run; the forked process then runs the script's file as Python would. It computes nothing with
the framework itself, which could start threads that a forked process lacks.
"""

import contextlib
import importlib
import json
import os
import runpy
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any

from tests.proof import digest
from tests.proof.projects import RUN, Project

HANGS = 900.0  # seconds after which a run hangs
HELD = ".holder"  # what a process writes into the run folder that it holds
KILLED = -signal.SIGKILL


@dataclass(frozen=True)
class Ended:
    """How a run ended. status: KILLED if it was; seconds: since it held its folder."""

    status: int
    errors: str
    seconds: float

    @property
    def last_line(self) -> str:
        return (self.errors.strip().splitlines() or [""])[-1]


@dataclass(frozen=True)
class Started:
    """A run in its own process group. errors: what it says on stderr, in no folder that is full."""

    pid: int
    errors: IO[str]

    def is_over(self) -> bool:
        """Whether it ended, which leaves it to be waited for."""
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def wait(self, seconds: float, pause: float = 0.002) -> bool:
        """Whether it ended within this time."""
        end = time.monotonic() + seconds
        while not (over := self.is_over()) and time.monotonic() < end:
            time.sleep(pause)
        return over

    def ended(self, since: float, seconds: float = HANGS) -> Ended:
        """Its end, by a kill after this time."""
        if not self.wait(seconds):
            os.killpg(self.pid, signal.SIGKILL)
        status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        with contextlib.suppress(ProcessLookupError):  # workers that are left
            os.killpg(self.pid, signal.SIGKILL)
        with self.errors as errors:
            errors.seek(0)
            return Ended(status, errors.read(), time.monotonic() - since)


def start(
    words: Sequence[str],
    folder: Path,
    prepare: Callable[[], None] = lambda: None,
    variables: Mapping[str, str] = MappingProxyType({}),
) -> Started:
    """Runs [python, script, flags ...] from the folder. prepare: what its process does before;
    variables: more of the environment.
    """
    errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed by Started.ended
    child = os.fork()
    if child:
        return Started(child, errors)
    status = 1
    try:
        os.setsid()
        os.chdir(folder)
        os.environ.update(variables)
        nowhere = os.open(os.devnull, os.O_RDWR)
        for number, target in ((nowhere, 0), (nowhere, 1), (errors.fileno(), 2)):
            os.dup2(number, target)
        sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")  # a test has others
        prepare()
        status = _run_script(words)
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError):
            sys.stderr.flush()
        os._exit(status)


def _run_script(words: Sequence[str]) -> int:
    sys.argv, sys.path[0] = list(words[1:]), str(Path(words[1]).parent)
    try:
        runpy.run_path(words[1], run_name="__main__")
    except SystemExit as end:
        if end.code is not None and not isinstance(end.code, int):
            print(end.code, file=sys.stderr)
            return 1
        return end.code or 0
    return 0


def run(words: Sequence[str], folder: Path, prepare: Callable[[], None] = lambda: None) -> Ended:
    """Runs a command to its end."""
    return start(words, folder, prepare).ended(time.monotonic())


def run_until(words: Sequence[str], folder: Path, delay: float) -> Ended:
    """Runs a command, and kills it `delay` seconds after it holds the run folder in `folder`."""
    holder = folder / RUN / HELD
    holder.unlink(missing_ok=True)  # of a process that was killed
    started, begun = start(words, folder), time.monotonic()
    while not started.is_over() and not holder.exists() and time.monotonic() < begun + HANGS:
        time.sleep(0.002)
    return started.ended(time.monotonic(), delay)


# ---- this process


def call(function: Callable[[], Any]) -> Any:
    """What a function returns in a forked process, of JSON's types; a text starting with Traceback
    where it raises.
    """
    reader, answer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            found = function()
        except BaseException:
            found = traceback.format_exc()[-600:]
        with os.fdopen(answer, "w") as pipe:
            pipe.write(json.dumps(found))
        os._exit(0)
    os.close(answer)
    with os.fdopen(reader) as pipe:
        text = pipe.read()
    os.waitpid(child, 0)
    return json.loads(text)


def digest_of(project: Project, folder: Path) -> dict[str, str] | str:
    """Part of a run folder -> its hash; the run has ended."""
    found: dict[str, str] | str = call(lambda: digest.of(project.name, folder / RUN))
    return found


def import_what_it_does(words: Sequence[str], folder: Path) -> None:
    """Imports here what a run of this command imports, in the same order."""
    names: list[str] = call(lambda: [_run_script_quietly(words, folder), list(sys.modules)])[1]
    for name in names:
        with contextlib.suppress(Exception):  # of modules that are made, and not imported
            importlib.import_module(name)


def _run_script_quietly(words: Sequence[str], folder: Path) -> int:
    os.chdir(folder)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(nowhere, number)
    return _run_script(words)

"""Reads a file in a process of its own, with limits: what came out, how much memory, how long.

The process is forked, so that thousands take no longer than reading does. Its address space may
grow by LIMIT over that of the parent; a clock ends it. What is counted is the processor's time,
since other programs may run beside.
"""

import contextlib
import os
import resource
import signal
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from shared.errors import UserError

LIMIT = 256 * 2**20
SECONDS, PATIENCE = 2.0, 60


@dataclass(frozen=True)
class Outcome:
    """accepted: it was read; problem: it was neither read nor refused, or took too much."""

    accepted: bool
    problem: str
    megabytes: float
    seconds: float


def read(action: Callable[[], object], baseline_kib: int = 0) -> Outcome:
    """Calls `action` in a forked process. baseline_kib: memory of one that does nothing."""
    reader, answer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        os._exit(_answer(action, answer))
    os.close(answer)
    with os.fdopen(reader) as pipe:
        text = pipe.read()
    _, status, usage = os.wait4(child, 0)
    megabytes = (usage.ru_maxrss - baseline_kib) / 1024
    seconds = usage.ru_utime + usage.ru_stime
    code = os.waitstatus_to_exitcode(status)
    problem = "" if code in (0, 2) else text or f"ended by signal {-code}"
    if not problem and megabytes > LIMIT / 2**20:
        problem = f"took {megabytes:.0f} MB"
    if not problem and seconds > SECONDS:
        problem = f"took {seconds:.1f} seconds"
    return Outcome(code == 0, problem, megabytes, seconds)


def baseline() -> int:
    """Memory of a forked process that does nothing, in KiB."""
    return round(read(lambda: None).megabytes * 1024)


def _answer(action: Callable[[], object], answer: int) -> int:
    """0: done, 2: refused with a message, 1: anything else, told through the pipe."""
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + LIMIT, size + LIMIT))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(PATIENCE)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    try:
        action()
    except UserError as error:
        return 2 if str(error) else 1  # a refusal says why
    except BaseException:
        with contextlib.suppress(BaseException):
            os.write(answer, traceback.format_exc()[-800:].encode())
        return 1
    return 0

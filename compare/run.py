"""Run jobs one after the other on this machine; `ray_backend` runs the same ones elsewhere.

What a script prints goes to `log.txt` of its run folder. A finished run is left alone. A failed one
is tried once more, from its checkpoint, unless its script refused its input or its loss was not
finite: then the others go on, and the failure is told at the end.
"""

import os
import re
import shutil
import signal
import subprocess
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from compare.methods import Method
from compare.plan import ROOT, SET_HERE, Command, Job, asked_of, python_of
from compare.spread import span
from shared.errors import UserError
from shared.runs.reader import RunError, read_run

ATTEMPTS = 2
HOPELESS = (2, 3)  # exit status of refused input, and of a loss that is not finite
LOG, LAST_LINES = "log.txt", 5
PATIENCE = 30  # seconds that an interrupted script has to end by itself


@dataclass(frozen=True)
class Outcome:
    """How a job ended.

    status: exit status of its script, None for a run that was finished before; reason: why it
    failed, where its log does not say.
    """

    job: Job
    status: int | None
    seconds: float
    reason: str = ""

    @property
    def failed(self) -> bool:
        return bool(self.status)


def is_finished(job: Job) -> bool:
    """Whether its run needs nothing more; what a run says of its labels is the last it writes."""
    try:
        run = read_run(job.folder)
    except RunError:  # there is none yet
        return False
    return run.is_finished and run.label_quality_path is not None


def check_flags(further: Mapping[str, list[str]], methods: Sequence[Method]) -> None:
    """Refuses further flags that a method's script does not have, before any of them trains.

    Some scripts ignore such flags, as their originals did. further: see `plan.further_flags`.
    Raises UserError.
    """
    for method in methods:
        for script, words in asked_of(method, further).items():
            flags = [word.partition("=")[0] for word in words if word.startswith("--")]
            known = _flags_of(python_of(method.project), ROOT / script) if flags else ""
            for flag in flags:
                # Some may be abbreviated; absl's switches have a --no form that help leaves out.
                spellings = (flag, flag.replace("--no", "--", 1))
                if known and not any(f" {spelling}" in known for spelling in spellings):
                    raise UserError(
                        f"--args (make: ARGS) has {flag}, which {script} does not know "
                        f"({method.title}): correct it, or give it only to methods that know it, "
                        "behind their names as in `sln: --n_epochs 20`"
                    )


@cache
def _flags_of(python: Path, script: Path) -> str:
    """What a script says of its flags; empty where it cannot say it, as it will when it runs."""
    if not python.exists():
        return ""
    said = subprocess.run(
        [python, script, "--help"], capture_output=True, text=True, errors="replace", check=False
    )
    return said.stdout if said.returncode == 0 else ""


def run_jobs(jobs: Sequence[Job], say: Callable[[str], None] = print) -> list[Outcome]:
    """All of them in their order, with a line before and after each."""
    outcomes = []
    for number, job in enumerate(jobs, start=1):
        say(f"[{number}/{len(jobs)}] {job.title}: {estimate(job)}; {job.folder / LOG}")
        outcomes.append(run_job(job))
        for line in (told(outcomes[-1]), *warnings(outcomes[-1])):
            say(f"      {line}")
    return outcomes


def run_job(job: Job) -> Outcome:
    """One run, unless it is finished; tried again where that may help."""
    if is_finished(job):
        return Outcome(job, None, 0)
    job.folder.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    for _ in range(ATTEMPTS):
        status = _commands(job.commands, job.folder / LOG)
        if status == 0 or status in HOPELESS:
            break
    return Outcome(job, status, time.monotonic() - started)


def estimate(job: Job) -> str:
    return "time not measured" if job.seconds is None else f"about {span(job.seconds)} on two cores"


def told(outcome: Outcome) -> str:
    """One line on how a job ended."""
    if outcome.status is None:
        return "finished before"
    if outcome.failed:
        return f"failed with exit status {outcome.status} after {span(outcome.seconds)}"
    return f"done in {span(outcome.seconds)}"


def warnings(outcome: Outcome) -> list[str]:
    """What the script of a run that was made now warned of, each warning once."""
    if outcome.status != 0:
        return []
    with (outcome.job.folder / LOG).open(errors="replace") as file:
        return list(dict.fromkeys(line.rstrip() for line in file if line.startswith("warning: ")))


def failures(outcomes: Sequence[Outcome]) -> list[str]:
    """What is told at the end of jobs that failed: the last lines of their logs, and the way on."""
    lines = []
    for outcome in outcomes:
        if outcome.failed:
            log = outcome.job.folder / LOG
            lines.append(f"{outcome.job.title} {told(outcome)}; the end of {log}:")
            end = [line for line in [*_end_of(log), outcome.reason] if line]
            lines += [f"    {line}" for line in end]
            lines += _flags_here(end)
    return lines


def _flags_here(end: Sequence[str]) -> list[str]:
    """What the flags of a script that its error names are called here."""
    text = "\n".join(line for line in end if "error: " in line and "unrecognized" not in line)
    return [
        f"    (its --{flag} is {here} here)"
        for flag, here in SET_HERE.items()
        if re.search(rf"--{flag}\b", text)
    ]


def counted(number: int, what: str) -> str:
    """`1 run` or `2 runs`."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def _commands(commands: Sequence[Command], log: Path) -> int:
    """Run one after the other until one fails; its exit status, or 0."""
    for command in commands:
        with log.open("ab") as output:
            if status := _command(command, output.fileno()):
                return status
    return 0


def _command(command: Command, output: int) -> int:
    """Run a command; Ctrl-C here ends it first, and it never outlives this process (on Linux)."""
    # In a group of its own, so that Ctrl-C reaches it once, from here, and it can save and end.
    process = subprocess.Popen(
        [*_dying_with_this_process(), *command],
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
        start_new_session=True,
    )
    try:
        return process.wait()
    except BaseException:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(PATIENCE)
        finally:
            process.kill()
        raise


def _dying_with_this_process() -> list[str]:
    """In front of a command, lets the system kill it with us, even by kill -9, where it can."""
    return ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []


def _end_of(log: Path) -> list[str]:
    try:
        with log.open(errors="replace") as file:
            return [line.rstrip() for line in deque(file, LAST_LINES)]
    except OSError as error:
        return [f"cannot be read: {error.strerror}"]

"""A full disk: whatever file it strikes, one clear message, nothing half written, and a way on.

The disk is a tmpfs that is filled up to a random number of free pages, where this may be mounted;
elsewhere a limit on the size of a file stands for it.
"""

import contextlib
import os
import random
import re
import resource
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any

from shared.datasets import shapes
from tests.proof.process import Ended, digest_of, import_what_it_does, run
from tests.proof.projects import ROOT, Project, fresh
from tests.proof.report import Row

PAGE = 4096
FILLER = ".filler"  # the file that fills a disk
WRITES = os.O_WRONLY | os.O_RDWR
NAMELESS = " a file: "  # what `explain` says where an error names none
FULL = ("No space left", "no space left", "File too large")
SHARED = (sys.executable, str(ROOT / "shared/__main__.py"))
MADE = ("noise", "make", "--dataset", "digits", "--kind", "symmetric", "--rate", "0.3", "--out")


@dataclass(frozen=True)
class Moment:
    """When a disk gets full: with so many bytes free, from the start or as a file is opened.

    name: of that file, as `plain_name` says it; turn: which time it is opened to be written.
    """

    free: int
    name: str = ""
    turn: int = 1

    def prepare(self, folder: Path, mounts: bool) -> None:
        """In the process that is to find its disk full."""
        if not self.name:
            return fill(folder, self.free, mounts)
        opened: Counter[str] = Counter()

        def strike(name: str) -> None:
            opened[name] += 1
            if name == self.name and opened[name] == self.turn:
                fill(folder, self.free, mounts)

        watch(folder, strike)


def can_mount() -> bool:
    with tempfile.TemporaryDirectory() as folder:
        words = ["mount", "-t", "tmpfs", "-o", f"size={PAGE}", "tmpfs", folder]
        if shutil.which("mount") is None or subprocess.run(words, capture_output=True).returncode:
            return False
        subprocess.run(["umount", folder], check=True)
        return True


@contextlib.contextmanager
def disk(needed: Sequence[Path], mounts: bool) -> Iterator[Path]:
    """A folder, if it may be on a small disk of its own, on which these files have ample place."""
    with tempfile.TemporaryDirectory() as name:
        if not mounts:
            yield Path(name)
            return
        size = 4 * pages(needed) * PAGE + (1 << 20)
        words = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", name]
        subprocess.run(words, check=True)
        try:
            yield Path(name)
        finally:
            subprocess.run(["umount", name], check=True)


def fill(folder: Path, free: int, mounts: bool) -> None:
    """Leaves the disk so many bytes; without a disk of its own, every file of this process."""
    if mounts:
        there = os.statvfs(folder)
        with contextlib.suppress(OSError):  # something else took space meanwhile: it is full
            (folder / FILLER).write_bytes(bytes(max(0, there.f_bavail * there.f_frsize - free)))
    else:
        resource.setrlimit(resource.RLIMIT_FSIZE, (free, free))


def at_random(needed: Sequence[Path], moments: random.Random, mounts: bool) -> Moment:
    """From the start some of what these files take has no place."""
    if mounts:
        return Moment(moments.randrange(pages(needed)) * PAGE)
    return Moment(moments.randrange(max(path.stat().st_size for path in needed)))


def pages(files: Sequence[Path]) -> int:
    return sum(-(-path.stat().st_size // PAGE) for path in files)


def watch(folder: Path, act: Callable[[str], None]) -> None:
    """From now on `act` is called with each file in the folder that Python opens to write."""

    def hook(event: str, details: tuple[Any, ...]) -> None:
        if event != "open" or isinstance(details[0], int) or not details[2] & WRITES:
            return
        path = Path(os.path.abspath(os.fsdecode(details[0])))
        if path.is_relative_to(folder) and path.name != FILLER:
            act(plain_name(path.name))

    sys.addaudithook(hook)


def plain_name(name: str) -> str:
    """Without what differs from run to run: a name while it is written, moments, processes."""
    return re.sub(r"\.[0-9a-f]{8}\.tmp$|\d{8}_\d{6}|(?<=tfevents).*", "", name)


def how(mounts: bool) -> str:
    return "tmpfs" if mounts else "RLIMIT_FSIZE"


def unclear(done: Ended) -> list[str]:
    """What is wrong with the answer to a full disk."""
    last = done.last_line
    if done.status != 2 or not any(words in last for words in FULL) or NAMELESS in last:
        return [f"status {done.status}, {done.errors[-300:]!r}"]
    return ["a traceback on stderr"] if "Traceback" in done.errors else []


def files_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and path.name != FILLER]


# ---- what `shared` writes


def shared_commands() -> dict[str, list[str]]:
    """Every command of `python -m shared` that writes files, in a folder with the `inputs`."""
    coco = ("--dataset", "coco_format", "--kind", "symmetric", "--rate", "0.2", "--format", "coco")
    commands = {
        f"noise make .{ending}": [*MADE, f"a.{ending}"] for ending in ("npz", "csv", "pt", "npy")
    }
    commands |= {
        "noise make .json": [*MADE, "a.json"],
        "noise add": ["noise", "add", "inputs/a.npz", "--kind", "uniform", "--rate", "0.3"],
        "noise convert": ["noise", "convert", "inputs/a.npz", "b.csv"],
        "noise info --plot": ["noise", "info", "inputs/a.npz", "--plot", "b.png"],
        "noise make, COCO": ["noise", "make", *coco, "--ann", "inputs/ann.json", "--out", "c.json"],
        "data shapes": ["data", "shapes", "--path", "data"],
    }
    commands["noise add"] += ["--out", "b.npz"]
    return {name: [*SHARED, *words] for name, words in commands.items()}


def shared_part(
    commands: Mapping[str, list[str]], tries: int, seed: int, scratch: Path
) -> list[Row]:
    """Each of the commands, on disks with random free space."""
    mounts, inputs = can_mount(), fresh(scratch / "inputs")
    make = [*SHARED, *MADE, str(inputs / "a.npz")]
    done = run(make, ROOT)
    import_what_it_does([*make, "--force"], ROOT)
    if done.status:
        return [Row("shared: full disk", 0, (done.errors[-500:],))]
    shapes.write(inputs / "shapes", train=64, val=1, size=64)
    shutil.move(inputs / "shapes/annotations/instances_train.json", inputs / "ann.json")
    rows = []
    for name, words in commands.items():
        moments, whole = random.Random(f"{seed} {name}"), fresh(scratch / name.replace(" ", "_"))
        (whole / "inputs").symlink_to(inputs)
        done = run(words, whole)
        expected = contents(whole)
        failures = [f"status {done.status}: {done.errors[-300:]}"] * bool(done.status)
        for _ in range(0 if failures else tries):
            with disk(files_in(whole), mounts) as folder:
                moment = at_random(files_in(whole), moments, mounts)
                prepare = partial(moment.prepare, folder, mounts)
                failures += shared_try(folder, prepare, words, inputs, expected)
        rows.append(Row(f"shared {name}: full disk", tries, tuple(failures), how(mounts)))
    return rows


def contents(folder: Path) -> dict[str, bytes]:
    """Name -> bytes of all files but hidden ones and the inputs."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in files_in(folder)
        if "inputs" not in path.relative_to(folder).parts
    }


def shared_try(
    folder: Path,
    prepare: Callable[[], None],
    words: list[str],
    inputs: Path,
    expected: dict[str, bytes],
) -> list[str]:
    (folder / "inputs").symlink_to(inputs)
    failures = unclear(run(words, folder, prepare))
    there = contents(folder)
    parts = [name for name, data in there.items() if expected.get(name) != data]
    failures += [f"left {parts}"] * bool(parts)
    (folder / FILLER).unlink(missing_ok=True)
    done = run(words, folder)
    if done.status or contents(folder) != expected:
        failures.append(f"with space again: status {done.status}, {done.errors[-300:]!r}")
    return failures


# ---- what a run writes


def run_part(project: Project, tries: int, seed: int, scratch: Path) -> Iterator[Row]:
    """A project's run on disks that get full; with space again it ends as it should.

    Full from the start with random free space, which mostly strikes the largest file, and then
    once at each file that it writes. tries: of the first.
    """
    mounts, moments = can_mount(), random.Random(f"{seed} {project.name}")
    words, whole = project.command(scratch / "inputs"), fresh(scratch / "whole")
    with tempfile.TemporaryFile("w+") as log:
        record = partial(_note, log)
        done = run(words, whole, partial(watch, whole, record))
        log.seek(0)
        opened = Counter(log.read().splitlines())
    if done.status:
        yield Row(f"{project.name}: full disk", 0, (done.errors[-500:],))
        return
    expected, needed = digest_of(project, whole), files_in(whole)
    for when, several in (
        ("at a random size", [at_random(needed, moments, mounts) for _ in range(tries)]),
        ("at each file", at_each(opened, needed, moments, mounts)),
    ):
        failures: list[str] = []
        struck: Counter[str] = Counter()
        for moment in several:
            with disk(needed, mounts) as folder:
                done = run(words, folder, partial(moment.prepare, folder, mounts))
                if done.status:
                    failures += unclear(done)
                struck[struck_file(done.last_line) if done.status else "none"] += 1
                parts = [path.name for path in files_in(folder) if "tmp" in path.name]
                failures += [f"left {parts}"] * bool(parts)
                (folder / FILLER).unlink(missing_ok=True)
                again = run(words, folder)
                if again.status or digest_of(project, folder) != expected:
                    failures.append(
                        f"with space again: status {again.status}, {again.errors[-300:]!r}"
                    )
        names = ", ".join(f"{name} {count}" for name, count in sorted(struck.items()))
        what = f"{project.name}: full disk {when}, then space and the same command"
        yield Row(what, len(several), tuple(failures), f"{how(mounts)}; struck: {names}")


def _note(log: IO[str], name: str) -> None:
    os.write(log.fileno(), f"{name}\n".encode())  # at once: the process ends without flushing


def at_each(
    opened: Mapping[str, int], needed: Sequence[Path], moments: random.Random, mounts: bool
) -> list[Moment]:
    """Of each file a random one of the times that it is opened."""
    found = []
    for name, count in opened.items():
        files = [path for path in needed if plain_name(path.name) == name]
        size = max((path.stat().st_size for path in files), default=0)
        turn, free = moments.randint(1, count), moments.randrange(max(1, size))
        found.append(Moment(free // PAGE * PAGE if mounts else free, name, turn))
    return found


def struck_file(message: str) -> str:
    """Which file the message names."""
    names = re.findall(r"[\w./-]*[/.][\w./-]*\w|(?<=to write )\w+", message)
    return names[0].rpartition("/")[2] if names else "a file without name"

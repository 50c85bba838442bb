"""A full disk: whatever file it strikes, one clear message, nothing half written, and a way on.

The disk is a tmpfs that is filled up to a random number of free pages, where this may be mounted;
elsewhere a limit on the size of a file stands for it.
"""

import contextlib
import random
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from shared.datasets import shapes
from tests.proof.process import Ended, digest_of, import_what_it_does, run
from tests.proof.projects import ROOT, Project, fresh
from tests.proof.report import Row

PAGE = 4096
NAMELESS = " a file: "  # what `explain` says where an error names none
FULL = ("No space left", "no space left", "File too large")
SHARED = (sys.executable, str(ROOT / "shared/__main__.py"))
MADE = ("noise", "make", "--dataset", "digits", "--kind", "symmetric", "--rate", "0.3", "--out")


@dataclass(frozen=True)
class Disk:
    """A folder with little space. limit: bytes of a file, where a limit stands for the disk."""

    folder: Path
    limit: int | None
    filler: Path

    def free(self) -> "Disk":
        """The same with space."""
        self.filler.unlink(missing_ok=True)
        return Disk(self.folder, None, self.filler)

    def run(self, words: Sequence[str]) -> Ended:
        return run(words, self.folder, self.limit)


def can_mount() -> bool:
    with tempfile.TemporaryDirectory() as folder:
        words = ["mount", "-t", "tmpfs", "-o", f"size={PAGE}", "tmpfs", folder]
        if shutil.which("mount") is None or subprocess.run(words, capture_output=True).returncode:
            return False
        subprocess.run(["umount", folder], check=True)
        return True


@contextlib.contextmanager
def disk(needed: Sequence[Path], moments: random.Random, mounts: bool) -> Iterator[Disk]:
    """A disk on which some of what these files take has no place."""
    sizes = [path.stat().st_size for path in needed]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if not mounts:
            yield Disk(folder, moments.randrange(max(sizes)), folder / ".filler")
            return
        pages = sum(-(-size // PAGE) for size in sizes)
        size = 4 * pages * PAGE + (1 << 20)
        words = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", name]
        subprocess.run(words, check=True)
        try:
            free = moments.randrange(pages) * PAGE
            (folder / ".filler").write_bytes(bytes(size - free))
            yield Disk(folder, None, folder / ".filler")
        finally:
            subprocess.run(["umount", name], check=True)


def how(mounts: bool) -> str:
    return "tmpfs" if mounts else "RLIMIT_FSIZE"


def unclear(done: Ended) -> list[str]:
    """What is wrong with the answer to a full disk."""
    last = done.last_line
    if done.status != 2 or not any(words in last for words in FULL) or NAMELESS in last:
        return [f"status {done.status}, {done.errors[-300:]!r}"]
    return ["a traceback on stderr"] if "Traceback" in done.errors else []


def files_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and path.name != ".filler"]


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
            with disk(files_in(whole), moments, mounts) as small:
                failures += shared_try(small, words, inputs, expected)
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
    small: Disk, words: list[str], inputs: Path, expected: dict[str, bytes]
) -> list[str]:
    (small.folder / "inputs").symlink_to(inputs)
    failures = unclear(small.run(words))
    there = contents(small.folder)
    parts = [name for name, data in there.items() if expected.get(name) != data]
    failures += [f"left {parts}"] * bool(parts)
    done = small.free().run(words)
    if done.status or contents(small.folder) != expected:
        failures.append(f"with space again: status {done.status}, {done.errors[-300:]!r}")
    return failures


# ---- what a run writes


def run_part(project: Project, tries: int, seed: int, scratch: Path) -> Row:
    """A project's run on disks with random free space; with space again it ends as it should."""
    mounts, moments = can_mount(), random.Random(f"{seed} {project.name}")
    words, whole = project.command(scratch / "inputs"), fresh(scratch / "whole")
    done = run(words, whole)
    what = f"{project.name}: full disk, then space and the same command"
    if done.status:
        return Row(what, 0, (done.errors[-500:],))
    expected, failures = digest_of(project, whole), []
    struck: Counter[str] = Counter()
    for _ in range(tries):
        with disk(files_in(whole), moments, mounts) as small:
            done = small.run(words)
            if done.status:
                failures += unclear(done)
            struck[struck_file(done.last_line) if done.status else "none"] += 1
            parts = [path.name for path in files_in(small.folder) if "tmp" in path.name]
            failures += [f"left {parts}"] * bool(parts)
            again = small.free().run(words)
            if again.status or digest_of(project, small.folder) != expected:
                failures.append(f"with space again: status {again.status}, {again.errors[-300:]!r}")
    names = ", ".join(f"{name} {count}" for name, count in sorted(struck.items()))
    return Row(what, tries, tuple(failures), f"{how(mounts)}; struck: {names}")


def struck_file(message: str) -> str:
    """Which file the message names."""
    names = re.findall(r"[\w./-]*[/.][\w./-]*\w", message)
    return names[0].rpartition("/")[2] if names else "a file without name"

"""Proof that nothing is lost: kills, full disks, damaged files, counted.

    .venv/tests/bin/python -m tests.proof                       # all: three to four hours
    .venv/tests/bin/python -m tests.proof downloads kills --projects re_sln
    .venv/tests/bin/python -m tests.proof --short               # a few of each

Each part prints its table and, unless it is short, puts it into tests/proof/NOTES.md.
Exit status 1 if anything failed.
"""

import argparse
import os
import shlex
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # before numpy is imported: a forked process has one thread

from tests.proof import disk, downloads, mutations, report
from tests.proof.in_project import run_in_project
from tests.proof.projects import PROJECTS
from tests.proof.report import Row

NOTES = Path(__file__).with_name("NOTES.md")


@dataclass(frozen=True)
class Sizes:
    """How often each part tries each thing."""

    downloads: int = 50
    mutations: int = 5_000
    annotations: int = 1_000
    checkpoints: int = 200  # kills, of each project
    kills: int = 20  # of each project and precision
    ranks: int = 20  # kills of two processes, of each project
    folders: int = 3  # pairs of processes
    disk: int = 4  # disks of a random size, of each writer
    corruption: int = 4  # bits, of each file


PARTS = ("downloads", "mutations", "checkpoints", "folders", "disk", "corruption", "kills", "ranks")
SHORT = Sizes(6, 200, 50, 20, 2, 1, 1, 1, 1)


def rows_of(
    part: str, projects: Sequence[str], sizes: Sizes, tries: int | None, seed: int
) -> Iterator[Row]:
    """What a part counts: here, then in each project's environment. tries: not those of sizes."""
    times = tries or getattr(sizes, part)
    if part == "downloads":
        yield from downloads.part(times, seed)
    elif part == "mutations":
        yield from mutations.noise_part(times, seed)
        yield from run_in_project("annotations", "noisy_instseg", sizes.annotations, seed)
    else:
        if part == "disk" and len(projects) == len(PROJECTS):  # `shared` belongs to none
            with tempfile.TemporaryDirectory(prefix="proof-") as folder:
                commands = disk.shared_commands()
                yield from disk.shared_part(commands, times, seed, Path(folder))
        for name in projects:
            yield from run_in_project(part, name, times, seed)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.proof",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; all")
    parser.add_argument("--projects", nargs="+", choices=PROJECTS, default=list(PROJECTS))
    parser.add_argument("--short", action="store_true", help="a few of each, in minutes")
    parser.add_argument("--tries", type=int, help="of each thing, not as many as is usual")
    parser.add_argument("--seed", type=int, default=0, help="of all random moments and bytes (0)")
    args = parser.parse_args(arguments)
    if unknown := set(args.parts) - set(PARTS):
        parser.error(f"no part {unknown.pop()}: choose of {', '.join(PARTS)}")
    rows: list[Row] = []
    sizes = SHORT if args.short else Sizes()
    for part in args.parts or PARTS:
        start, found = time.monotonic(), []
        for row in rows_of(part, args.projects, sizes, args.tries, args.seed):
            found.append(row)
            print(f"{row.what}: {row.tried:,} tried, {len(row.failures)} failed", flush=True)
            print("".join(f"  {failure}\n" for failure in row.failures), end="", flush=True)
        rows += found
        if not args.short:
            some = [] if args.projects == list(PROJECTS) else ["--projects", *args.projects]
            words = ["python", "-m", "tests.proof", part, *some, "--seed", str(args.seed)]
            words += ["--tries", str(args.tries)] if args.tries else []
            seconds = time.monotonic() - start
            title = " ".join([part, *some[1:]])
            text = report.section(title, shlex.join(words), seconds, found)
            report.replace_section(NOTES, text)
    print(f"\n{report.table(rows)}")
    return 1 if any(row.failures for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())

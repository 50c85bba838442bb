"""What a GPU does with every project, in ten minutes: the first thing to run on a new card.

    make check-gpu                        # one table, and check-gpu.json
    make check-gpu ARGS="--projects re_sln lra_diffusion --without speed"

Per project: a run repeated and a run killed and resumed, both with --deterministic, equal bit for
bit in figures and weights; steps that wait for the device; the speed of a step and the peak memory,
as `make bench-<project>` has them; bfloat16 beside float32 over the same short run. Everything runs
through the published scripts, on digits and shapes that need no download. Figures that differ are
reported, not judged. What tells most comes first: when the ten minutes are over, the rest is not
run.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.bench.check_gpu.commands import ROOT, Check, Deadline, Failed, NotRun
from tests.bench.check_gpu.projects import PROJECTS

CLOCK = ("seconds", "per_s")  # in names of figures that no two runs have alike
FAILED = "FAILED: "
Result = tuple[str, dict[str, Any]]


@dataclass
class Found:
    """A line of the table."""

    project: str
    part: str
    result: str
    seconds: float = 0.0
    figures: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.project:<15}{self.part:<9}{self.seconds:>6.1f} s  {self.result}"


def rows(folder: Path) -> list[dict[str, Any]]:
    """The figures of a run, less what a clock decides."""
    return [
        {k: v for k, v in json.loads(line).items() if not any(word in k for word in CLOCK)}
        for line in (folder / "metrics.jsonl").read_text().splitlines()
    ]


# ---- the parts, each on one project


def repeat(check: Check) -> Result:
    for words in check.project.first:
        check.run(check.python(*words))
    for run_name in ("whole", "again"):
        check.run(check.command(run_name, "--deterministic"))
    return compared(check, "again"), {}


def resume(check: Check) -> Result:
    """After `repeat`, whose run is the one that was not interrupted."""
    words = check.command("killed", "--deterministic")
    killed = check.kill_after_rows(words, check.folder / "killed")
    check.run([*words, *check.project.resumes])
    result = compared(check, "killed")
    return result if killed else f"{result} (it was done before it could be killed)", {}


def compared(check: Check, run_name: str) -> str:
    """A run beside the whole one: the first figure that differs, else the files that do."""
    folders = check.folder / "whole", check.folder / run_name
    for one, other in zip(*map(rows, folders)):
        for name in one:
            if one[name] != other.get(name):
                return f"DIFFER, first in {name}: {one[name]} and {other.get(name)}"
    module = "tests.bench.check_gpu.bits"
    lines = check.run(check.python("-m", module, check.name, *map(str, folders))).splitlines()
    whole, found = map(json.loads, lines)
    if names := [name for name in whole if whole[name] != found.get(name)]:
        return f"DIFFER in {', '.join(names)}"
    return f"equal, bit for bit: {', '.join(whole)}"


def waiting(check: Check) -> Result:
    python, *words = check.command("waiting")
    check.run([python, "-m", "tests.bench.check_gpu.waiting", *words])
    return "no step waits for the device", {}


def speed(check: Check) -> Result:
    path = check.folder / "bench.json"
    bench = f"tests.bench.{check.name}"
    text = check.run(check.python("-m", bench, f"--json={path}", *check.project.bench))
    print("\n" + text, end="")
    figures = json.loads(path.read_text())
    peak = next((v for k, v in figures.items() if k.startswith("peak GPU memory")), None)
    return "see above" + (f"; peak GPU memory {peak:.2f} GiB" if peak else ""), figures


def bf16(check: Check) -> Result:
    project = check.project
    last: dict[str, dict[str, Any]] = {}
    for kind, flag in (("bf16", project.bf16), ("float32", project.float32)):
        check.run(check.command(kind, flag))
        last[kind] = rows(check.folder / kind)[-1]
    shown = [f"{kind} {row[project.figure]:.4g}" for kind, row in last.items()]
    return f"{project.figure} at the end: {', '.join(shown)}", last


# What tells most is first: bits and steps that wait are right or wrong, the accuracies of two short
# runs tell least.
PARTS: dict[str, Callable[[Check], Result]] = {
    "repeat": repeat,
    "resume": resume,
    "waiting": waiting,
    "speed": speed,
    "bf16": bf16,
}
AFTER_REPEAT = {"resume", "waiting", "bf16"}  # they use what it makes


def checks(
    projects: Sequence[str], parts: Sequence[str], device: str, minutes: float
) -> Iterator[Found]:
    """Part by part, so that every project has had the first before any has the next."""
    deadline, broken = Deadline(minutes), set[str]()
    with tempfile.TemporaryDirectory() as temporary:
        for part in parts:
            for name in projects:
                check = Check(name, Path(temporary, name), device, deadline)
                check.folder.mkdir(exist_ok=True)
                start = time.monotonic()
                figures: dict[str, Any] = {}
                try:
                    if reason := check.lacks(part):
                        raise NotRun(reason)
                    if name in broken and part in AFTER_REPEAT:
                        raise NotRun("repeat failed")
                    result, figures = PARTS[part](check)
                except NotRun as why:
                    result = f"not run: {why}"
                except Failed as error:
                    result = f"{FAILED}{error}"
                    broken |= {name} if part == "repeat" else set()
                yield Found(name, part, result, round(time.monotonic() - start, 1), figures)


def gpu_name() -> str | None:
    try:
        query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv"]
        lines = subprocess.run(query, capture_output=True, text=True, check=True).stdout
        return lines.splitlines()[1]
    except (OSError, subprocess.CalledProcessError, IndexError):
        return None


def main() -> int:
    """Exit status: 0, also where figures differ or time is over; 1 where a command failed; 2
    without a GPU.
    """
    parser = argparse.ArgumentParser(prog="check-gpu", description=(__doc__ or "").split("\n")[0])
    add = parser.add_argument
    add("--projects", nargs="+", choices=PROJECTS, default=list(PROJECTS), help="some (all)")
    add("--without", nargs="+", choices=PARTS, default=[], help="parts to leave out")
    add("--device", default="cuda", help="cpu: to try this check itself, on less data (cuda)")
    add("--minutes", type=float, default=10, help="what has not ended by then is not run (10)")
    add("--json", type=Path, default=Path("check-gpu.json"), help="figures (check-gpu.json)")
    args = parser.parse_args()
    gpu = gpu_name()
    if gpu is None and args.device != "cpu":
        print(
            "error: no GPU here (nvidia-smi finds none); ARGS=--device=cpu tries the check itself"
        )
        return 2
    parts = [part for part in PARTS if part not in args.without]
    if "repeat" not in parts and AFTER_REPEAT & {*parts}:
        parser.error("without repeat there is only speed: the others use what it makes")
    os.environ["PYTHONPATH"] = str(ROOT)
    if args.device == "cpu":
        gpu, os.environ["CUDA_VISIBLE_DEVICES"] = None, ""  # TensorFlow has no flag for it
    print(f"{gpu or 'CPU'}; {', '.join(args.projects)}: {', '.join(parts)}", flush=True)
    found = []
    for each in checks(args.projects, parts, args.device, args.minutes):
        found.append(each)
        print(each, flush=True)
        report = {"gpu": gpu, "device": args.device, "found": [vars(line) for line in found]}
        args.json.write_text(json.dumps(report, indent=2) + "\n")
    print(f"\n{'project':<15}{'part':<9}{'seconds':>8}  result", *found, sep="\n")
    print(f"figures: {args.json}")
    return int(any(each.result.startswith(FAILED) for each in found))


if __name__ == "__main__":
    sys.exit(main())

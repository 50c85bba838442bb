"""What a GPU does with every project, in ten minutes: the first thing to run on a new card.

    make check-gpu                        # one table, and check-gpu.json
    make check-gpu ARGS="--projects re_sln lra_diffusion --without speed"

Per project: a run repeated and a run killed and resumed, both with --deterministic, equal bit for
bit; bfloat16 beside float32 over the same short run; steps that wait for the device; then the speed
of a step and, where `make bench-<project>` has it, the peak memory. Everything runs through the
published scripts, on the digits that are embedded. Figures that differ are reported, not judged.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
PARTS = ("repeat", "resume", "bf16", "waiting", "speed")
LIMIT = 240  # seconds of one command; what takes longer is reported as such
CLOCK = ("seconds", "per_s")  # in names of figures that no two runs have alike
NO_RESULT = "not run"


@dataclass(frozen=True)
class Project:
    """The script and the short run that stands for it; {folder} is the project's."""

    script: str
    run: tuple[str, ...]
    folder_flag: str = "--output_dir"
    device_flag: str | None = "--device"
    bf16: str = "--amp=bf16"
    float32: str = "--amp=off"
    has_steps_in_torch: bool = True
    bench: tuple[str, ...] = ()
    resumes: tuple[str, ...] = ("--resume",)
    first: tuple[tuple[str, ...], ...] = ()  # scripts that make what the run needs


PROJECTS = {
    "instancegm": Project(
        "instanceGM.py",
        ("--dataset=digits", "--r=0.4", "--width=16", "--num_epochs=4", "--warm_up=2"),
        bench=("--steps=5", "--pictures=500"),
    ),
    "re_sln": Project(
        "train_cifar.py",
        (
            *("--dataset_name=digits", "--noise_mode=sym", "--p=0.4", "--method=sln_mo_lc"),
            *("--n_epochs=6", "--lc_n_epoch=4"),
        ),
        bench=("--steps=3",),
    ),
    "lra_diffusion": Project(
        "train_CIFAR.py",
        (
            *("--dataset=digits", "--noise_file={folder}/noise.npz", "--cut_labels"),
            *("--fp_weights={folder}/simclr", "--cache_dir={folder}/embeddings"),
            *("--nepoch=4", "--warmup_epochs=1"),
        ),
        bench=("--turns=2", "--only", "retrieval", "training"),
        first=(
            ("make_pmd.py", "--dataset=digits", "--rate=0.35", "--out={folder}/noise.npz"),
            ("train_SimCLR.py", "--dataset=digits", "--nepoch=2", "--output_dir={folder}/simclr"),
        ),
    ),
    "ieg_fsr": Project(
        "ieg/main.py",
        (
            *("--dataset=digits_uniform_0.4", "--method=ieg", "--network_name=wrn10-1"),
            *("--max_iteration=60", "--eval_freq=20"),
        ),
        folder_flag="--checkpoint_path",
        device_flag=None,
        bf16="--mixed_precision",
        float32="--nomixed_precision",
        has_steps_in_torch=False,
        bench=("--steps=5",),
        resumes=(),
    ),
    "noisy_instseg": Project("", ()),  # speed alone
}


@dataclass
class Found:
    """A line of the table."""

    project: str
    part: str
    result: str
    seconds: float
    figures: dict[str, Any] = field(default_factory=dict)


class Failed(Exception):
    """A command ended with an error; the text is its last line."""


def command(name: str, folder: Path, device: str, *more: str) -> list[str]:
    """The project's run into a folder."""
    project = PROJECTS[name]
    flags = [flag.format(folder=folder.parent) for flag in project.run]
    return script(name, project.script, device, *flags, f"{project.folder_flag}={folder}", *more)


def script(name: str, file: str, device: str, *flags: str) -> list[str]:
    words = [f".venv/{name}/bin/python", f"{name}/{file}", *flags]
    return [*words, f"--device={device}"] if PROJECTS[name].device_flag else words


def run(words: Sequence[str]) -> str:
    """Its output. Raises Failed."""
    try:
        done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=LIMIT)
    except subprocess.TimeoutExpired as error:
        raise Failed(f"took more than {LIMIT} s") from error
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        raise Failed(lines[-1] if lines else f"exit status {done.returncode}")
    return done.stdout


def metrics(folder: Path) -> Path | None:
    return next(iter(sorted(folder.rglob("metrics.jsonl"))), None)


def rows(folder: Path) -> list[dict[str, Any]]:
    """The figures of a run, less what a clock decides."""
    path = metrics(folder)
    lines = path.read_text().splitlines() if path else []
    return [
        {k: v for k, v in json.loads(line).items() if not any(word in k for word in CLOCK)}
        for line in lines
    ]


def killed_after_a_row(words: Sequence[str], folder: Path) -> bool:
    """Starts it and kills it by SIGKILL once figures are there; False where it was quicker."""
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(words, cwd=ROOT, stdout=quiet, stderr=quiet)
    until = time.monotonic() + LIMIT
    while process.poll() is None and time.monotonic() < until:
        path = metrics(folder)
        if path is not None and path.stat().st_size:
            process.send_signal(signal.SIGKILL)
        time.sleep(0.02)
    process.kill()
    return process.wait() == -signal.SIGKILL


def differing(one: list[dict[str, Any]], other: list[dict[str, Any]]) -> str:
    """Where two runs first differ, or that they do not."""
    for a, b in zip(one, other):
        if names := [name for name in a if a[name] != b.get(name)]:
            return f"DIFFER, first in {names[0]}: {a[names[0]]} and {b.get(names[0])}"
    return "equal, bit for bit" if len(one) == len(other) and one else "DIFFER in length"


# ---- the parts, each on one project


def repeat(name: str, folder: Path, device: str) -> tuple[str, dict[str, Any]]:
    for file, *flags in PROJECTS[name].first:
        run(script(name, file, device, *(flag.format(folder=folder) for flag in flags)))
    for run_name in ("whole", "again"):
        run(command(name, folder / run_name, device, "--deterministic"))
    return differing(rows(folder / "whole"), rows(folder / "again")), {}


def resume(name: str, folder: Path, device: str) -> tuple[str, dict[str, Any]]:
    """After `repeat`, whose run is the one that was not interrupted."""
    words = command(name, folder / "killed", device, "--deterministic")
    killed = killed_after_a_row(words, folder / "killed")
    run([*words, *PROJECTS[name].resumes])
    result = differing(rows(folder / "whole"), rows(folder / "killed"))
    return result if killed else f"{result} (it was done before it could be killed)", {}


def bf16(name: str, folder: Path, device: str) -> tuple[str, dict[str, Any]]:
    last: dict[str, dict[str, Any]] = {}
    for kind, flag in (("bf16", PROJECTS[name].bf16), ("float32", PROJECTS[name].float32)):
        run(command(name, folder / kind, device, flag))
        last[kind] = rows(folder / kind)[-1]
    shown = [f"{kind} {row['accuracy']:.2f} %" for kind, row in last.items()]
    return f"test accuracy at the end: {', '.join(shown)}", last


def waiting(name: str, folder: Path, device: str) -> tuple[str, dict[str, Any]]:
    python, *words = command(name, folder / "waiting", device)
    run([python, "-m", "tests.bench.check_gpu.waiting", *words])
    return "no step waits for the device", {}


def speed(name: str, folder: Path, device: str) -> tuple[str, dict[str, Any]]:
    project, path = PROJECTS[name], folder / "bench.json"
    words = [f".venv/{name}/bin/python", "-m", f"tests.bench.{name}", f"--json={path}"]
    words += [f"--device={device}"] if project.device_flag else []
    text = run([*words, *project.bench])
    print("\n" + text, end="")
    figures = json.loads(path.read_text())
    peak = next((v for k, v in figures.items() if k.startswith("peak") and "GPU" in k), None)
    return "see above" + (f"; peak GPU memory {peak:.2f} GiB" if peak else ""), figures


WORK: dict[str, Callable[[str, Path, str], tuple[str, dict[str, Any]]]] = {
    "repeat": repeat,
    "resume": resume,
    "bf16": bf16,
    "waiting": waiting,
    "speed": speed,
}


def why_not(name: str, part: str, device: str) -> str | None:
    """Why a project has no such part."""
    if part != "speed" and not PROJECTS[name].script:
        return "its region operators have no deterministic kernels on a GPU"
    if part == "waiting" and not PROJECTS[name].has_steps_in_torch:
        return "a step is one call of a graph (a test counts them)"
    if part == "waiting" and device == "cpu":
        return "nothing to wait for on a CPU (tests/*/test_no_waiting.py stands in)"
    return None


def checks(projects: Sequence[str], parts: Sequence[str], device: str) -> Iterator[Found]:
    for name in projects:
        with tempfile.TemporaryDirectory() as temporary:
            for part in parts:
                start = time.monotonic()
                figures: dict[str, Any] = {}
                if reason := why_not(name, part, device):
                    result = f"{NO_RESULT}: {reason}"
                else:
                    try:
                        result, figures = WORK[part](name, Path(temporary), device)
                    except Failed as error:
                        result = f"FAILED: {error}"
                yield Found(name, part, result, round(time.monotonic() - start, 1), figures)


def gpu_name() -> str | None:
    try:
        query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv"]
        lines = subprocess.run(query, capture_output=True, text=True, check=True).stdout
        return lines.splitlines()[1]
    except (OSError, subprocess.CalledProcessError, IndexError):
        return None


def main() -> int:
    """Exit status: 0, also where figures differ; 1 where a command failed; 2 without a GPU."""
    parser = argparse.ArgumentParser(prog="check-gpu", description=(__doc__ or "").split("\n")[0])
    add = parser.add_argument
    add("--projects", nargs="+", choices=PROJECTS, default=list(PROJECTS), help="some (all)")
    add("--without", nargs="+", choices=PARTS, default=[], help="parts to leave out")
    add("--device", default="cuda", help="cpu: to try this check itself (cuda)")
    add("--json", type=Path, default=Path("check-gpu.json"), help="figures (check-gpu.json)")
    args = parser.parse_args()
    gpu = gpu_name()
    if gpu is None and args.device != "cpu":
        print(
            "error: no GPU here (nvidia-smi finds none); ARGS=--device=cpu tries the check itself"
        )
        return 2
    os.environ["PYTHONPATH"] = str(ROOT)
    parts = [part for part in PARTS if part not in args.without]
    if "repeat" not in parts and {"resume", "bf16", "waiting"} & {*parts}:
        parser.error("without repeat there is only speed: the others use what it makes")
    print(f"{gpu or 'CPU'}; {', '.join(args.projects)}: {', '.join(parts)}", flush=True)
    found = []
    for each in checks(args.projects, parts, args.device):
        found.append(each)
        print(f"{each.project:<15}{each.part:<9}{each.seconds:>6.1f} s  {each.result}", flush=True)
        report = {"gpu": gpu, "device": args.device, "found": [vars(line) for line in found]}
        args.json.write_text(json.dumps(report, indent=2) + "\n")
    print(f"\n{'project':<15}{'part':<9}result")
    for each in found:
        print(f"{each.project:<15}{each.part:<9}{each.result}")
    print(f"figures: {args.json}")
    return int(any(each.result.startswith("FAILED") for each in found))


if __name__ == "__main__":
    sys.exit(main())

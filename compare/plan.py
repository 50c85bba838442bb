"""From a task to jobs: one run of each method and seed, as commands that stand alone.

A job's commands are run one after the other (LRA-diffusion needs its encoder first), from any
folder; run again they continue, and a finished run stays as it is. Jobs do not need one another, so
that they may run in any order and side by side.
"""

import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from compare.methods import ENCODER, ENCODER_FLAGS, ENCODER_SCRIPT, METHODS, NEEDS_TRUST, Method
from compare.question import Task
from shared.errors import UserError

ROOT = Path(__file__).absolute().parents[1]
Command = tuple[str, ...]
# What the comparison itself says to every script, and where else it is asked for
SET_HERE = {
    "seed": "--seeds (make: SEEDS)",
    "noise_file": "--noise_file (make: NOISE_FILE)",
    **dict.fromkeys(("dataset", "dataset_name"), "--dataset (make: DATASET)"),
    **dict.fromkeys(("data_path", "dataset_dir"), "--data (make: DATA)"),
    "labels": "--labels (make: LABELS)",
    "output_dir": "--folder (make: FOLDER)",
}


@dataclass(frozen=True)
class Job:
    """One run.

    folder: its run folder, absolute. seconds: what it takes on two cores; None: not measured.
    """

    method: Method
    seed: int
    commands: tuple[Command, ...]
    folder: Path
    seconds: float | None

    @property
    def title(self) -> str:
        return f"{self.method.title}, seed {self.seed}"

    @property
    def line(self) -> str:
        """The commands for a shell, in one line."""
        return " && ".join(map(shlex.join, self.commands))


def jobs(
    task: Task, methods: Sequence[Method], seeds: Sequence[int], further: str, folder: Path
) -> list[Job]:
    """All runs, seed by seed. further: see `further_flags`; folder: absolute, holds the runs.

    Raises UserError for a class that is too small for one of the methods.
    """
    flags = further_flags(further)
    _check_classes(task, methods)
    return [_job(task, method, seed, flags, folder) for seed in seeds for method in methods]


def further_flags(text: str) -> dict[str, list[str]]:
    """Flags by method, those for all of them at "".

    "--limit_test 100 ce: --num_epochs 2 sln:--n_epochs 2" gives all the limit, two of them epochs;
    "simclr:" stands before those of LRA-diffusion's encoder.
    Raises UserError.
    """
    found: dict[str, list[str]] = {"": []}
    current = ""
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise UserError(f"--args {text}: {error}; close the quotation marks") from error
    for word in words:
        name, colon, behind = word.partition(":")
        if colon and not name.startswith("-") and (not behind or behind.startswith("-")):
            if name not in (*METHODS, ENCODER):
                raise UserError(
                    f"--args (make: ARGS) names {name}:, which is no method: before flags for one "
                    f"method write its name, one of {' '.join(METHODS)}, and a colon"
                )
            current, word = name, behind
            found.setdefault(current, [])
            if not word:
                continue
        flag = word.lstrip("-").partition("=")[0]
        if word.startswith("-") and flag in SET_HERE:
            raise UserError(
                f"--args (make: ARGS) has --{flag}, which the comparison sets: give it as "
                f"{SET_HERE[flag]}"
            )
        found[current].append(word)
    return found


def asked_of(method: Method, further: Mapping[str, list[str]]) -> dict[str, list[str]]:
    """By script of the method (two of LRA-diffusion), its flags among those by `further_flags`."""
    names = {method.script: method.key}
    if method.key == "lra":
        names[ENCODER_SCRIPT] = ENCODER
    return {script: further[""] + further.get(name, []) for script, name in names.items()}


def _names_encoder(flags: Iterable[str]) -> bool:
    """Whether LRA-diffusion is told what to retrieve with, so that none is trained for it."""
    return any(flag.partition("=")[0] in ("--fp_encoder", "--fp_weights") for flag in flags)


def _check_classes(task: Task, methods: Sequence[Method]) -> None:
    """What L2R and IEG need before they train; they would say it after the others have trained."""
    needy = [method.title for method in methods if method.key in NEEDS_TRUST]
    if needy and task.sizes.smallest < 2:
        others = " ".join(method.key for method in methods if method.key not in NEEDS_TRUST)
        few = "1 picture" if task.sizes.smallest else "no picture"
        raise UserError(
            f"class {task.smallest_class!r} has {few} to train on, and {' and '.join(needy)} need "
            "one to trust and one to train on in every class: give it more pictures, or choose "
            f"other --methods (make: METHODS={shlex.quote(others or 'fsr')})"
        )


def differences(task: Task, methods: Iterable[Method]) -> dict[str, str]:
    """By method, what it trains on that others do not, and the reverse; methods alike are out."""
    whose = "given" if task.noise_file is None else "clean"
    trusted = task.sizes.trusted_per_class
    validation = (
        f"the last 5,000 images validate, with {whose} labels"
        if task.dataset.startswith("cifar")
        else f"every tenth image of a class validates, with its {whose} label"
    )
    known = {"lra": f"{validation}; its encoder saw none of these labels"}
    for key in NEEDS_TRUST:
        images = "1 image" if trusted == 1 else f"{trusted} images"
        known[key] = f"trusts {images} of each class with {whose} labels, held out"
    return {method.key: known[method.key] for method in methods if method.key in known}


def _job(task: Task, method: Method, seed: int, further: dict[str, list[str]], folder: Path) -> Job:
    place = folder / f"{method.key}-seed{seed}"
    sizes, asked = task.sizes, asked_of(method, further)
    flags = sizes.fill(method.flags[task.preset]) + asked[method.script]
    write = _ieg_fsr if method.project == "ieg_fsr" else _torch
    commands = [write(task, method, seed, flags, place)]
    if method.key == "lra":
        commands[0] += ("--cache_dir", str(folder / "embeddings"))
        if not _names_encoder(asked[method.script]):
            encoder = folder / f"{ENCODER}-seed{seed}"
            own = sizes.fill(ENCODER_FLAGS[task.preset]) + asked[ENCODER_SCRIPT]
            commands.insert(0, _encoder(task, method, seed, own, encoder))
            commands[1] += ("--fp_weights", str(encoder))
    # Further flags may make a run longer or shorter.
    known = None if any(asked.values()) else method.seconds.get(task.preset)
    seconds = None if known is None else known * task.samples / 1000
    return Job(method, seed, tuple(commands), place, seconds)


def python_of(project: str) -> Path:
    """The interpreter of its environment, which `make setup-<project>` installs."""
    return ROOT / ".venv" / project / "bin" / "python"


def _start(method: Method, script: str) -> list[str]:
    return [str(python_of(method.project)), str(ROOT / script)]


def _given(**flags: object) -> list[str]:
    """Those flags that have a value, as words."""
    known = ((f"--{name}", str(value)) for name, value in flags.items() if value is not None)
    return [word for pair in known for word in pair]


def _torch(task: Task, method: Method, seed: int, flags: list[str], place: Path) -> Command:
    return (
        *_start(method, method.script),
        *("--dataset_name" if method.project == "re_sln" else "--dataset", task.dataset),
        *_given(data_path=task.data_path, labels=task.labels, noise_file=task.noise_file),
        *(["--cut_labels"] if method.key == "lra" and task.noise_file is not None else []),
        *("--seed", str(seed)),
        *flags,
        *("--output_dir", str(place), "--resume"),
    )


def _encoder(task: Task, method: Method, seed: int, flags: list[str], place: Path) -> Command:
    return (
        *_start(method, ENCODER_SCRIPT),
        *("--dataset", task.dataset),
        *_given(data_path=task.data_path, labels=task.labels),
        *("--seed", str(seed)),
        *flags,
        *("--output_dir", str(place), "--resume"),
    )


def _ieg_fsr(task: Task, method: Method, seed: int, flags: list[str], place: Path) -> Command:
    """A run of it continues without being told."""
    return (
        *_start(method, method.script),
        *("--dataset", task.dataset if task.noise_file is None else f"file_{task.dataset}"),
        *_given(dataset_dir=task.data_path, labels=task.labels, noise_file=task.noise_file),
        *("--seed", str(seed)),
        *flags,
        *("--output_dir", str(place)),
    )

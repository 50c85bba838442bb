"""Mask AP by noise rate: the noise of each rate and seed, a run of each method, a table, a picture.

Trains by tools/train.py and train_stages.py, one run after the other, in OUT/runs. Re-running the
command skips what is finished and resumes what is not, so that a stop costs an epoch at most;
further rates, seeds and methods are added to the table. The noise is that of `--mode exact`: never
the class that was there, and the same for all methods of a rate and seed.

Plain cross-entropy continues from the checkpoint of stage 1 where nl is trained as well: until then
both are the same run, with the same seed, loss and learning rates, so this is exact and saves half
of its time. The column `seconds` counts stage 1 for both.
"""

import contextlib
import csv
import hashlib
import io
import json
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from noisy_instseg.analysis.config import METHODS, RobustnessFlags
from noisy_instseg.run import run_folder
from noisy_instseg.run.errors import NON_FINITE, NonFiniteLossError
from shared.cli import coco as coco_noise_cli
from shared.coco import manifest as coco_manifest
from shared.coco import noise as coco_noise
from shared.errors import UserError
from shared.files import write_atomically
from shared.runs.reader import read_run

TOOLS = Path(__file__).absolute().parents[1] / "tools"
COLUMNS = ("method", "rate", "realised_rate", "seed", "segm_mAP", "bbox_mAP", "epochs", "seconds")

Row = dict[str, Any]


@dataclass(frozen=True)
class Trial:
    """One training run."""

    rate: float
    seed: int
    method: str  # of METHODS

    def __str__(self) -> str:
        return f"rate {self.rate:g}, seed {self.seed}, {self.method}"


@dataclass(frozen=True)
class Study:
    """What all trials have in common, and where their files are."""

    family: Path  # configs/shapes/mask_rcnn_tiny_shapes, without _ce.py and the like
    annotations: Path  # clean training annotations
    kind: str
    out: Path
    flags: tuple[str, ...]  # for tools/train.py

    @property
    def dataset(self) -> str:
        """Whose rules of noise apply: those of the configs' folder, if it is one of the paper's."""
        folder = self.family.absolute().parent.name
        return folder if folder in coco_noise.DATASETS else "coco_format"

    def config(self, name: str) -> Path:
        """The config of nl_1, nl_2, ce, sce or gce."""
        return self.family.with_name(f"{self.family.name}_{name}.py")

    def noise_file(self, trial: Trial) -> Path:
        return self.out / "noise" / f"{self.kind}_{trial.rate:g}_seed{trial.seed}.json"

    def folder(self, trial: Trial, name: str | None = None) -> Path:
        """The run folder of a trial; name: as in `config`, such as nl_1 for the first stage."""
        name = name or ("nl_2" if trial.method == "nl" else trial.method)
        noise = f"{self.kind}_{trial.rate:g}_seed{trial.seed}"
        return self.out / "runs" / noise / self.config(name).stem


# ---- training


def command(study: Study, trial: Trial) -> list[str]:
    """The command line that begins a trial, or resumes it."""
    folder = study.folder(trial)
    common = ["--noise_file", str(study.noise_file(trial)), "--seed", str(trial.seed), *study.flags]
    if trial.method == "nl":
        stages = [str(study.config(name)) for name in ("nl_1", "nl_2")]
        return [str(TOOLS / "train_stages.py"), *stages, "--work-dir", str(folder.parent), *common]
    stage_1 = study.folder(trial, "nl_1")
    if run_folder.epochs_in(folder):
        begin = ["--resume"]
    elif trial.method == "ce" and run_folder.read_rows(stage_1) and read_run(stage_1).is_finished:
        begin = ["--resume-from", str(run_folder.epochs_in(stage_1)[0][1])]
    else:
        begin = ["--resume"] if run_folder.is_run(folder) else []  # stopped in its first epoch
    config = str(study.config(trial.method))
    return [str(TOOLS / "train.py"), config, "--work-dir", str(folder), *begin, *common]


def is_done(study: Study, trial: Trial) -> bool:
    """Whether a trial has its last epoch, evaluated."""
    folder = study.folder(trial)
    return bool(run_folder.read_rows(folder)) and read_run(folder).is_finished


def make_noise(study: Study, trial: Trial) -> float:
    """Makes the noise of a trial, or checks that what is there is it; the share of wrong labels."""
    out = study.noise_file(trial)
    files = ["--ann", str(study.annotations), "--out", str(out)]
    amount = ["--rate", str(trial.rate), "--seed", str(trial.seed)]
    said = io.StringIO()  # its report, which the manifest repeats
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        status = coco_noise_cli.script_main(study.kind, study.dataset, [*files, *amount])
    if status:
        raise UserError(said.getvalue().strip().removeprefix("error: "))
    return coco_manifest.read_manifest(coco_manifest.default_path(out)).realised_rate


def train(study: Study, trial: Trial) -> None:
    """Trains one trial to its end. Raises UserError or NonFiniteLossError that names the log."""
    log = study.folder(trial).parent / f"{trial.method}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a") as output:
        status = subprocess.run(
            [sys.executable, *command(study, trial)], stdout=output, stderr=output
        ).returncode
    if status:
        last = log.read_text(errors="replace").strip().splitlines()[-1:]
        error = NonFiniteLossError if status == NON_FINITE else UserError
        raise error(
            f"{trial}: training ended with status {status}: {''.join(last)} (all of it: {log}); "
            "re-running the command resumes it"
        )
    if not is_done(study, trial):
        raise UserError(
            f"{trial}: training ended before its last epoch, or without evaluation; see {log}"
        )


def check_settings(study: Study) -> None:
    """Raises UserError if the folder holds another study; else writes down which one it is."""
    path = study.out / "settings.json"
    digest = hashlib.sha256(study.annotations.read_bytes()).hexdigest()
    now = {
        "configs": study.family.name,
        "annotations (SHA-256)": digest,
        "kind": study.kind,
        "flags": list(study.flags),
    }
    if path.is_file():
        then = json.loads(path.read_text())
        different = [key for key in now if then.get(key) != now[key]]
        if words := [f"{key}: {then.get(key)} then, {now[key]} now" for key in different]:
            raise UserError(
                f"{study.out} holds another study ({'; '.join(words)}): choose another --out"
            )
    write_atomically(path, (json.dumps(now, indent=1) + "\n").encode())


# ---- results


def result(study: Study, trial: Trial, realised_rate: float) -> Row:
    """A line of the table."""
    run = read_run(study.folder(trial))
    last = run.rows[-1]
    return {
        "method": trial.method,
        "rate": trial.rate,
        "realised_rate": round(realised_rate, 6),
        "seed": trial.seed,
        "segm_mAP": round(last["segm_mAP"], 4),
        "bbox_mAP": round(last["bbox_mAP"], 4),
        "epochs": last["epoch"],
        "seconds": round(run.seconds, 1),
    }


def write_results(out: Path, rows: Sequence[Row], kind: str) -> None:
    """robustness.csv and robustness.png."""
    from noisy_instseg.analysis import figures

    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(out / "robustness.csv", buffer.getvalue().encode())
    figure = figures.draw_rates(f"Mask AP of the last epoch by {kind} noise", curves(rows))
    write_atomically(out / "robustness.png", figures.png(figure))


def curves(rows: Sequence[Row]) -> dict[str, list[tuple[float, list[float]]]]:
    """By method: (mean realised rate, mask APs of the seeds) for each nominal rate, ascending."""
    points: dict[str, list[tuple[float, list[float]]]] = {}
    for method in (name for name in METHODS if any(row["method"] == name for row in rows)):
        own = [row for row in rows if row["method"] == method]
        for rate in sorted({float(row["rate"]) for row in own}):
            at = [row for row in own if float(row["rate"]) == rate]
            realised = sum(float(row["realised_rate"]) for row in at) / len(at)
            points.setdefault(METHODS[method], []).append(
                (realised, [float(row["segm_mAP"]) for row in at])
            )
    return points


def read_results(out: Path) -> list[Row]:
    """The rows of an earlier robustness.csv. Raises UserError."""
    path = out / "robustness.csv"
    if not path.is_file():
        raise UserError(f"{path}: no such file; run without --plot-only first")
    with path.open(newline="") as file:
        rows: list[Row] = list(csv.DictReader(file))
    if not rows or set(rows[0]) != set(COLUMNS):
        raise UserError(
            f"{path}: expected the columns {', '.join(COLUMNS)} and a row at least; run without "
            "--plot-only again"
        )
    return rows


def others_of(out: Path, planned: Sequence[Trial]) -> list[Row]:
    """The rows of an earlier robustness.csv, if there is one, but for those of planned trials."""
    rows: list[Row] = []
    with contextlib.suppress(UserError):  # none yet
        rows = read_results(out)
    trials = [Trial(float(row["rate"]), int(row["seed"]), row["method"]) for row in rows]
    return [row for row, trial in zip(rows, trials) if trial not in planned]


# ---- the study


def run(flags: RobustnessFlags) -> None:
    """All of it. Raises UserError, before anything is trained if the input cannot work."""
    if flags.plot_only:
        write_results(flags.out, read_results(flags.out), kind_of(flags.out) or flags.kind)
        return print(f"wrote {flags.out / 'robustness.png'}")
    study = checked_study(flags)
    with run_folder.locked(flags.out, "--out"):
        _run(study, flags)


def _run(study: Study, flags: RobustnessFlags) -> None:
    check_settings(study)
    # so that subprocess.run ends the training as well
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))
    planned = list(trials(flags.rates, flags.seeds, flags.methods))
    # all noise before hours are spent
    rates = {trial: make_noise(study, trial) for trial in planned}
    earlier = others_of(study.out, planned)
    for number, trial in enumerate(planned, start=1):
        head = f"[{number}/{len(planned)}] {trial}"
        if not is_done(study, trial):
            print(f"{head}: training, see {study.folder(trial).parent}", flush=True)
            train(study, trial)
        done = [other for other in planned if is_done(study, other)]
        rows = [*earlier, *(result(study, other, rates[other]) for other in done)]
        write_results(study.out, rows, study.kind)
        row = result(study, trial, rates[trial])
        ap, seconds = 100 * row["segm_mAP"], row["seconds"]
        print(f"{head}: mask AP {ap:.1f} % ({seconds:.0f} s)", flush=True)
    print(f"wrote {study.out / 'robustness.csv'} and {study.out / 'robustness.png'}")


def trials(rates: Sequence[float], seeds: Sequence[int], methods: Sequence[str]) -> Iterator[Trial]:
    """In the order they are trained."""
    for seed in dict.fromkeys(seeds):
        for rate in sorted(set(rates)):
            yield from (Trial(rate, seed, method) for method in METHODS if method in methods)


def checked_study(flags: RobustnessFlags) -> Study:
    """Raises UserError for files that are not there."""
    assert flags.ann is not None  # the flags were refused otherwise
    assert flags.dataset_config is not None
    if not flags.ann.is_file():
        raise UserError(
            f"--ann {flags.ann}: no such file; give the clean COCO annotations of the training set"
        )
    study = Study(flags.dataset_config, flags.ann, flags.kind, flags.out, flags.train_flags)
    stages = {"nl": ("nl_1", "nl_2")}
    names = [name for method in flags.methods for name in stages.get(method, (method,))]
    if missing := [str(study.config(name)) for name in names if not study.config(name).is_file()]:
        raise UserError(
            f"--dataset-config {flags.dataset_config}: there is no {missing[0]}; give the path up "
            "to _ce.py, such as configs/shapes/mask_rcnn_tiny_shapes"
        )
    return study


def kind_of(out: Path) -> str | None:
    """The kind of noise of the study in a folder."""
    path = out / "settings.json"
    settings: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    return settings.get("kind")

"""Mask AP by noise rate: for each rate and seed the noise is made, each method trained, and a table
and a picture written.

    python tools/robustness.py --dataset-config configs/shapes/mask_rcnn_tiny_shapes \\
        --ann data/shapes/annotations/instances_train.json --rates 0 0.2 0.4 --methods ce nl --out robustness

Trains by tools/train.py and train_stages.py, one run after the other, in OUT/runs. The same command
again skips what is finished and goes on with what is not, so that a stop costs an epoch at most;
further rates, seeds and methods may be added. The noise is that of `--mode exact`: never the class
that was there, and the same for all methods of a rate and seed.

Plain cross-entropy goes on from the checkpoint of stage 1 where nl is trained as well: until then
both are the same run, with the same seed, loss and learning rates, so this is exact and saves half
of its time. The column `seconds` counts stage 1 for both.
"""

import argparse
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

from noisy_instseg import past_runs, run_folder
from noisy_instseg.errors import NonFiniteLossError, UserError
from noisy_instseg.past_runs import Row
from shared.cli import coco as coco_noise_cli
from shared.coco import noise as coco_noise
from shared.files import write_atomically

TOOLS = Path(__file__).absolute().parent / "tools"
METHODS = {
    "nl": "two stages: CE, then NewCombinationLoss",
    "ce": "CE",
    "sce": "SCE",
    "gce": "GCE",
}  # nl first: ce uses its stage 1
COLUMNS = ("method", "rate", "realised_rate", "seed", "segm_mAP", "bbox_mAP", "epochs", "seconds")
NON_FINITE = 3  # exit status of tools/train.py


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
        """Whose rules of noise apply: those of the configs' folder, where it is a data set of the
        paper.
        """
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
        return (
            self.out
            / "runs"
            / f"{self.kind}_{trial.rate:g}_seed{trial.seed}"
            / self.config(name).stem
        )


# ---- training


def command(study: Study, trial: Trial) -> list[str]:
    """The command line that begins a trial, or goes on with it."""
    folder = study.folder(trial)
    common = ["--noise_file", str(study.noise_file(trial)), "--seed", str(trial.seed), *study.flags]
    if trial.method == "nl":
        stages = [str(study.config(name)) for name in ("nl_1", "nl_2")]
        return [str(TOOLS / "train_stages.py"), *stages, "--work-dir", str(folder.parent), *common]
    stage_1 = study.folder(trial, "nl_1")
    if run_folder.epochs_in(folder):
        begin = ["--resume"]
    elif trial.method == "ce" and run_folder.read_rows(stage_1) and past_runs.read(stage_1).is_done:
        begin = ["--resume-from", str(run_folder.epochs_in(stage_1)[0][1])]
    else:
        begin = ["--resume"] if run_folder.is_run(folder) else []  # stopped in its first epoch
    return [
        str(TOOLS / "train.py"),
        str(study.config(trial.method)),
        "--work-dir",
        str(folder),
        *begin,
        *common,
    ]


def is_done(study: Study, trial: Trial) -> bool:
    """Whether a trial has its last epoch, evaluated."""
    folder = study.folder(trial)
    return bool(run_folder.read_rows(folder)) and past_runs.read(folder).is_done


def make_noise(study: Study, trial: Trial) -> float:
    """Makes the noise of a trial, or checks that what is there is it.

    The share of annotations that changed.
    """
    out = study.noise_file(trial)
    recipe = coco_noise.Recipe(study.dataset, study.kind, trial.rate, trial.seed)
    made = argparse.Namespace(
        **vars(recipe), ann=study.annotations, out=out, manifest=None, force=False
    )
    with contextlib.redirect_stdout(
        io.StringIO()
    ):  # the report of `noise make`, which its manifest repeats
        coco_noise_cli.run_make(made)
    return coco_noise.read_manifest(coco_noise_cli.coco_manifest.default_path(out)).realised_rate


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
            "the same command goes on "
            "where this one stopped"
        )
    if not is_done(study, trial):
        raise UserError(
            f"{trial}: training ended before its last epoch, or without evaluation; see {log}"
        )


def check_settings(study: Study) -> None:
    """Raises UserError if the folder holds runs of another study; else writes down which study it
    is.
    """
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
        if different := [
            f"{key}: {then.get(key)} then, {now[key]} now"
            for key in now
            if then.get(key) != now[key]
        ]:
            raise UserError(
                f"{study.out} holds another study ({'; '.join(different)}): choose another --out"
            )
    write_atomically(path, (json.dumps(now, indent=1) + "\n").encode())


# ---- results


def result(study: Study, trial: Trial, realised_rate: float) -> Row:
    """A line of the table."""
    run = past_runs.read(study.folder(trial))
    last = run.rows[-1]
    return dict(
        zip(
            COLUMNS,
            (
                trial.method,
                trial.rate,
                round(realised_rate, 6),
                trial.seed,
                round(last["segm_mAP"], 4),
                round(last["bbox_mAP"], 4),
                last["epoch"],
                round(run.seconds, 1),
            ),
        )
    )


def write_results(out: Path, rows: Sequence[Row], kind: str) -> None:
    """robustness.csv and robustness.png."""
    from noisy_instseg import figures

    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(out / "robustness.csv", buffer.getvalue().encode())
    write_atomically(
        out / "robustness.png",
        figures.ap_by_rate(f"Mask AP of the last epoch by {kind} noise", curves(rows)),
    )


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
        rows = list(csv.DictReader(file))
    if not rows or set(rows[0]) != set(COLUMNS):
        raise UserError(
            f"{path}: expected the columns {', '.join(COLUMNS)} and a row at least; run without "
            "--plot-only again"
        )
    return rows


# ---- command line


def parser() -> argparse.ArgumentParser:
    """The parser of tools/robustness.py."""
    made = argparse.ArgumentParser(
        prog="robustness.py",
        allow_abbrev=False,
        usage="robustness.py --dataset-config FAMILY --ann TRAIN.json --out DIR [flags] [-- "
        "flags of tools/train.py]",
        description="Mask AP by noise rate: make the noise, train every method at every rate "
        "and seed, write OUT/robustness.csv "
        "and OUT/robustness.png. The same command again goes on where it was.",
        epilog="Flags after -- go to every tools/train.py, such as -- --data_root data/mine "
        "--device cpu. "
        "example: python tools/robustness.py --dataset-config configs/shapes/mask_rcnn_tiny_shapes "
        "--ann data/shapes/annotations/instances_train.json --rates 0 0.2 0.4 --out robustness",
    )
    add = made.add_argument
    add(
        "--dataset-config",
        type=Path,
        metavar="FAMILY",
        help="path of the configs up to _ce.py, _nl_1.py and so on; a folder "
        "named cityscapes, coco or voc means the noise of that data set, else that of coco_format",
    )
    add("--ann", type=Path, metavar="TRAIN.json", help="clean COCO annotations of the training set")
    add(
        "--rates",
        type=float,
        nargs="+",
        default=[0.0, 0.2, 0.4, 0.6],
        help="noise rates in [0, 1] (0 0.2 0.4 0.6)",
    )
    add(
        "--kind",
        choices=coco_noise.KINDS,
        default=coco_noise.KINDS[0],
        help="kind of noise (%(default)s)",
    )
    add("--seeds", type=int, nargs="+", default=[0], help="seeds, of noise and training (0)")
    add(
        "--methods",
        nargs="+",
        choices=sorted(METHODS),
        default=["ce", "nl"],
        help="ce, nl: the paper's two stages, sce, gce (ce nl)",
    )
    add(
        "--out",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder of the runs, the noise and the results",
    )
    add("--plot-only", action="store_true", help="only draw OUT/robustness.csv again")
    return made


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The flags before `--`, and as `flags` those behind it."""
    end = argv.index("--") if "--" in argv else len(argv)
    return argparse.Namespace(**vars(parser().parse_args(argv[:end])), flags=list(argv[end + 1 :]))


def run(args: argparse.Namespace) -> None:
    """All of it. Raises UserError, before anything is trained if the flags or files cannot work."""
    if args.plot_only:
        settings: dict[str, Any] = _settings_of(args.out)
        write_results(args.out, read_results(args.out), settings.get("kind", args.kind))
        print(f"wrote {args.out / 'robustness.png'}")
        return
    study = checked_study(args)
    check_settings(study)
    signal.signal(
        signal.SIGTERM, lambda *_: sys.exit("terminated")
    )  # so that subprocess.run ends the training as well
    planned = list(trials(args))
    rates = {
        trial: make_noise(study, trial) for trial in planned
    }  # all of it before hours are spent
    for number, trial in enumerate(planned, start=1):
        if not is_done(study, trial):
            print(
                f"[{number}/{len(planned)}] {trial}: training, see {study.folder(trial).parent}",
                flush=True,
            )
            train(study, trial)
        done = [other for other in planned if is_done(study, other)]
        write_results(study.out, [result(study, other, rates[other]) for other in done], study.kind)
        row = result(study, trial, rates[trial])
        print(
            f"[{number}/{len(planned)}] {trial}: mask AP {100 * row['segm_mAP']:.1f} % "
            f"({row['seconds']:.0f} s)",
            flush=True,
        )
    print(f"wrote {study.out / 'robustness.csv'} and {study.out / 'robustness.png'}")


def trials(args: argparse.Namespace) -> Iterator[Trial]:
    """In the order they are trained."""
    for seed in dict.fromkeys(args.seeds):
        for rate in sorted(set(args.rates)):
            yield from (Trial(rate, seed, method) for method in METHODS if method in args.methods)


def checked_study(args: argparse.Namespace) -> Study:
    """Raises UserError for flags that cannot work."""
    if args.dataset_config is None or args.ann is None:
        raise UserError(
            "--dataset-config FAMILY and --ann TRAIN.json are needed, except with --plot-only"
        )
    if bad := [rate for rate in args.rates if not 0 <= rate <= 1]:
        raise UserError(f"--rates {bad[0]:g}: a noise rate lies in [0, 1]")
    if bad := [seed for seed in args.seeds if not 0 <= seed < 2**32]:
        raise UserError(f"--seeds {bad[0]}: must be in [0, 2^32)")
    if not args.ann.is_file():
        raise UserError(
            f"--ann {args.ann}: no such file; give the clean COCO annotations of the training set"
        )
    study = Study(args.dataset_config, args.ann, args.kind, args.out, tuple(args.flags))
    names = [
        name
        for method in args.methods
        for name in (("nl_1", "nl_2") if method == "nl" else (method,))
    ]
    if missing := [str(study.config(name)) for name in names if not study.config(name).is_file()]:
        raise UserError(
            f"--dataset-config {args.dataset_config}: there is no {missing[0]}; give the path "
            "up to _ce.py, such as "
            "configs/shapes/mask_rcnn_tiny_shapes"
        )
    if clash := {
        "--noise_file",
        "--seed",
        "--work-dir",
        "--resume",
        "--resume-from",
        "--no-validate",
    } & set(args.flags):
        raise UserError(f"{min(clash)} behind --: robustness.py decides that itself; leave it out")
    return study


def _settings_of(out: Path) -> dict[str, Any]:
    path = out / "settings.json"
    return json.loads(path.read_text()) if path.is_file() else {}

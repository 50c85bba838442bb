"""How well label_quality.csv finds wrong labels, beside cleanlab's confident learning.

    make bench-labels RUNS="runs/re_sln-digits-0.4-seed123/*"
    make bench-labels RUNS="runs/compare-*/*" ARGS="--folds 5 --json labels.json"

RUNS are finished runs whose clean labels are known. For each: the area under the ROC curve of
`label_quality` (1: every wrong label ranks before every clean one), the precision among the first
r N (r: the true noise rate), and precision and recall of `is_label_issue`.

Beside the methods of a project stands cleanlab on the project's own cross-entropy: for every run of
plain cross-entropy among RUNS its settings are trained again once per fold, on the other folds'
noisy labels, and the probabilities of the held-out images are what cleanlab judges. cleanlab is
under the AGPL: it has an environment of its own, and no project imports it.

The folds are pictures of one's own to the scripts, so that all but InstanceGM's mirror and shift
them, digits too, on which cross-entropy is worse for it: compare on CIFAR, or on InstanceGM's.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from cleanlab.filter import find_label_issues
from cleanlab.rank import get_label_quality_scores
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedKFold

from compare.report.statistics import detection
from shared import datasets
from shared.errors import UserError
from shared.files import write_atomically
from shared.formats.label_quality import PROBS
from shared.runs.labels import read_noise
from shared.runs.reader import Run, RunError, find_runs, read_label_quality

ROOT = Path(__file__).resolve().parents[3]


@dataclass(frozen=True)
class Baseline:
    """How a project trains plain cross-entropy on arrays."""

    method: str
    script: str
    dataset: str  # the flag
    place: str  # the flag
    resume: tuple[str, ...] = ("--resume",)


BASELINES = {
    "instancegm": Baseline("ce", "instancegm/instanceGM.py", "dataset", "data_path"),
    "re_sln": Baseline("ce", "re_sln/train_cifar.py", "dataset_name", "data_path"),
    "lra_diffusion": Baseline("ce", "lra_diffusion/train_CE.py", "dataset", "data_path"),
    "ieg_fsr": Baseline("supervised", "ieg_fsr/ieg/main.py", "dataset", "dataset_dir", ()),
}
# Entries of config.yaml about the labels and the images, which the folds bring along.
OF_THE_DATA = (
    *("noise_file", "noise_mode", "noise_type", "custom_noise", "cut_labels", "r", "p", "rate"),
    *("limit_train", "limit_test", "val_fraction", "labels", "save_probs"),
)


@dataclass(frozen=True)
class Score:
    """How well one ranking of N labels finds the wrong ones."""

    name: str
    wrong: float  # share of the labels
    auc: float
    precision_at_rate: float  # among the first r N
    flagged: float  # share that is called an issue
    precision: float
    recall: float


def score(
    name: str,
    quality: NDArray[np.float64],
    is_issue: NDArray[np.bool_],
    is_wrong: NDArray[np.bool_],
) -> Score:
    """All arrays: (N,). The figures of the report's page, which ties do not move."""
    ranking = detection(quality, is_wrong)
    assert ranking is not None  # `scores_of` has seen wrong and right ones
    found = (is_issue & is_wrong).sum()
    return Score(
        name,
        wrong=float(is_wrong.mean()),
        auc=ranking.auc,
        precision_at_rate=ranking.precision_at_k,
        flagged=float(is_issue.mean()),
        precision=float(found / max(1, is_issue.sum())),
        recall=float(found / is_wrong.sum()),
    )


def scores_of(run: Run) -> Score | None:
    """Of the run's own table; None without one that knows wrong labels and right ones."""
    if run.label_quality_path is None:
        return None
    table = read_label_quality(run.label_quality_path)
    if table.clean is None:
        return None
    is_wrong = table.given != table.clean
    if is_wrong.all() or not is_wrong.any():
        return None
    return score(f"{run.project}, {run.title}", table.quality, table.is_issue, is_wrong)


def cleanlab_scores(run: Run, folds: int, work: Path) -> list[Score]:
    """Of confident learning on cross-validated probabilities of the run's network and settings.

    work: where the folds of all runs are trained, and found again.
    """
    assert run.label_quality_path is not None  # `scores_of` has read it
    table, noise = read_label_quality(run.label_quality_path), read_noise(run.folder)
    assert table.clean is not None
    if noise is None:
        raise RunError("no noise.npz, so that nobody knows of which data set it is")
    place, labels = run.config.get("data_location"), run.config.get("labels")
    data = datasets.load(str(noise.header.dataset), place, labels=labels and Path(labels))
    images = data.train_images[table.index]
    # Runs of many names and labels may be in one folder of folds.
    parts = run.folder.resolve(), run.noise_sha256, yaml.safe_dump(run.config), folds
    key = hashlib.sha256(repr(parts).encode()).hexdigest()[:8]
    work /= f"{run.project}-{run.folder.name}-{key}"
    work.mkdir(parents=True, exist_ok=True)
    splits = StratifiedKFold(folds, shuffle=True, random_state=run.seed or 0)
    probs = np.zeros((len(images), len(data.class_names)))
    for fold, (rest, held_out) in enumerate(splits.split(images, table.given)):
        arrays = work / f"fold{fold}.npz"
        np.savez(
            arrays,
            train_images=images[rest],
            train_labels=table.given[rest],
            test_images=images[held_out],
            test_labels=table.given[held_out],
            class_names=np.array(data.class_names),
        )
        probs[held_out] = _train(run, arrays, work / f"fold{fold}")
    is_wrong, title = table.given != table.clean, f"{run.project}, cleanlab on {folds} folds"
    is_issue = find_label_issues(table.given, probs)
    return [
        score(
            f"{title}, {method}",
            get_label_quality_scores(table.given, probs, method=method),
            is_issue,
            is_wrong,
        )
        for method in ("self_confidence", "normalized_margin")
    ]


def _train(run: Run, arrays: Path, folder: Path) -> NDArray[np.floating[Any]]:
    """Probabilities (M, C) of the held-out images, by the project's own script and environment."""
    baseline = BASELINES[run.project]
    settings = {name: value for name, value in run.config.items() if name not in OF_THE_DATA}
    settings |= {baseline.dataset: "folder", baseline.place: str(arrays)}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "settings.yaml").write_text(yaml.safe_dump(settings))
    python = ROOT / ".venv" / run.project / "bin/python"
    words = [
        *(f"--config={folder / 'settings.yaml'}", "--save_probs", f"--output_dir={folder / 'run'}"),
        *baseline.resume,
    ]
    if not (folder / "run" / PROBS).exists():
        done = subprocess.run(
            [python, ROOT / baseline.script, *words],
            cwd=folder,  # where some write files of their own
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )
        if done.returncode:
            sys.exit(f"{run.folder}: the training of {arrays.name} ended with {done.returncode}")
    with np.load(folder / "run" / PROBS) as found:
        return found["test_pred_probs"]


def table(scores: Sequence[Score]) -> str:
    """A line a ranking; shares in percent."""
    width = max(map(len, (each.name for each in scores)))
    lines = [
        f"{'ranking':<{width}}  {'wrong %':>7}  {'AUC':>5}  {'precision at r N %':>18}  "
        f"{'issues %':>8}  {'precision %':>11}  {'recall %':>8}"
    ]
    for each in scores:
        shares = each.wrong, each.precision_at_rate, each.flagged, each.precision, each.recall
        wrong, first, flagged, precision, recall = (f"{100 * share:.1f}" for share in shares)
        lines.append(
            f"{each.name:<{width}}  {wrong:>7}  {each.auc:5.3f}  {first:>18}  {flagged:>8}  "
            f"{precision:>11}  {recall:>8}"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench-labels", description=__doc__.split("\n")[0])
    parser.add_argument("runs", type=Path, nargs="+", help="run folders, or folders that hold such")
    parser.add_argument("--folds", type=int, default=3, help="of the cross-validation; 0: none")
    parser.add_argument(
        "--work", type=Path, default=Path("runs/bench-labels"), help="the folds' runs"
    )
    parser.add_argument("--json", type=Path, help="the figures, to be kept")
    args = parser.parse_args()
    if args.folds == 1 or args.folds < 0:
        parser.error(f"--folds {args.folds}: give 2 or more, or 0 for none")
    runs, unread = find_runs(args.runs)
    for each in unread:
        print(f"note: {each.folder}: {each.reason}", file=sys.stderr)
    scores = []
    for run in runs:
        try:
            own = scores_of(run)
            if own is None:
                raise RunError("no label_quality.csv with clean labels")
            scores.append(own)
            baseline = BASELINES.get(run.project)
            if args.folds and baseline and run.method == baseline.method:
                scores += cleanlab_scores(run, args.folds, args.work.resolve())
        except (UserError, OSError) as error:  # the others are measured all the same
            print(f"note: {run.folder}: {error}", file=sys.stderr)
    if not scores:
        sys.exit("no run has a label_quality.csv with clean labels")
    print(table(scores))
    if args.json:
        write_atomically(args.json, json.dumps([asdict(each) for each in scores]).encode())


if __name__ == "__main__":
    main()

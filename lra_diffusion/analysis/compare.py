"""A table and a picture of several runs on the same noisy labels, of this project and others.

The majority vote of the k nearest neighbours' labels, which LRA-diffusion's runs measure, is a row
of its own: it is what retrieval gives without diffusion.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from lra_diffusion.analysis.figures import accuracy_curves
from lra_diffusion.run.errors import UsageError
from lra_diffusion.run.presets import HUMAN
from shared.files import write_atomically
from shared.runs.files import number
from shared.runs.labels import same_labels
from shared.runs.methods import LRA
from shared.runs.reader import Run, find_runs

VOTE = "knn_accuracy_test"  # of a row or of config.yaml
SAME_IMAGES = {**HUMAN, "webvisionmini": "webvision"}  # two names of one dataset


def vote_of(run: Run) -> tuple[str, float] | None:
    """What the vote is called, and its accuracy (%); None where the run did not measure it."""
    accuracy = number(run.rows[-1].get(VOTE, run.config.get(VOTE)))
    return (
        None if accuracy is None else (f"vote of {run.config.get('k', 'k')} neighbours", accuracy)
    )


def last_10_epochs(run: Run) -> str:
    """First and last of the ten epochs that were tested last; not every epoch is tested."""
    tested = [one.epoch for one in run.evaluations[-10:]]
    return "-".join(f"{round(epoch, 1):g}" for epoch in sorted({*tested[:1], *tested[-1:]})) or "-"


def at_best_validation(run: Run) -> float | None:
    """Test accuracy (%) of the epoch that validation chooses; None without validation."""
    tested = dict(run.evaluations)
    chosen = {
        row["epoch"]: figure
        for row in run.rows
        if row["epoch"] in tested and (figure := number(row.get("selection"))) is not None
    }
    return tested[max(chosen, key=chosen.__getitem__)] if chosen else None


def named(runs: Sequence[Run]) -> dict[str, Run]:
    """The runs by method; where two have the same one the folder is added, or its whole path."""
    methods = [str(run.config["method"]) if run.project == LRA else run.title for run in runs]
    with_folder = [f"{method}, {run.folder.name}" for method, run in zip(methods, runs)]
    for names in (methods, with_folder):
        if len(set(names)) == len(names):
            return dict(zip(names, runs))
    return {f"{method}, {run.folder}": run for method, run in zip(methods, runs)}


def votes(runs: dict[str, Run]) -> dict[str, float]:
    """The votes that the runs measured, each once, with the run's name where they differ."""
    found = {name: vote for name, run in runs.items() if (vote := vote_of(run)) is not None}
    once = dict(found.values())
    if len(set(found.values())) == len(once):
        return once
    return {f"{vote[0]}, {name}": vote[1] for name, vote in found.items()}


def table(runs: dict[str, Run]) -> str:
    """Accuracies in percent and seconds of training and testing, a line a method."""
    baselines = votes(runs)
    width = max(len("method"), *map(len, (*runs, *baselines)))
    lines = [
        f"test accuracy (%), against {labels_tested(runs)} labels",
        f"{'method':<{width}}  {'last':>6}  {'mean of last 10 tested':>22}  {'of epochs':>9}  "
        f"{'best':>6}  {'by validation':>13}  {'seconds':>7}",
    ]
    for name, run in runs.items():
        best, _, last, last_10_mean = run.summary() or (None,) * 4
        lines.append(
            f"{name:<{width}}  {_shown(last):>6}  {_shown(last_10_mean):>22}  "
            f"{last_10_epochs(run):>9}  {_shown(best):>6}  {_shown(at_best_validation(run)):>13}  "
            f"{run.seconds:7.0f}"
        )
    none = "  ".join(f"{'-':>{column}}" for column in (22, 9, 6, 13, 7))
    lines += [f"{name:<{width}}  {vote:6.2f}  {none}" for name, vote in baselines.items()]
    if masks := [name for name, run in runs.items() if run.metric != "accuracy"]:
        lines.append(f"mask AP instead of accuracy: {', '.join(masks)}")
    return "\n".join(lines)


def labels_tested(runs: dict[str, Run]) -> str:
    """What the labels of the test sets are: those of own pictures may be wrong."""
    own = any(dataset_of(run) == "folder" for run in runs.values())
    return "given" if own else "clean"


def dataset_of(run: Run) -> str | None:
    """The name that the run's project has for its dataset."""
    dataset: str | None = run.config.get("dataset") or run.config.get("dataset_name")
    return dataset


def plain_dataset_of(run: Run) -> str | None:
    """What all projects call the run's dataset, without noise; None where the run does not say."""
    name = (dataset_of(run) or "").partition("_")[0]  # IEG's cifar10_uniform_0.4 is cifar10
    return None if name in ("", "file") else SAME_IMAGES.get(name, name)


def _shown(accuracy: float | None) -> str:
    return "-" if accuracy is None else f"{accuracy:.2f}"


def noise_of(runs: Sequence[Run]) -> str:
    """The noise in a title; a warning goes to stderr when the runs had different images or labels.

    Curves of a .csv have no labels, but the name of their dataset.
    """
    datasets = sorted({name for run in runs if (name := plain_dataset_of(run)) is not None})
    if len(datasets) > 1:
        print(
            f"warning: these runs were trained on different datasets ({', '.join(datasets)}), so "
            "their accuracies do not compare",
            file=sys.stderr,
        )
        return "different datasets"
    if not same_labels(runs):
        print(
            "warning: these runs were trained on different noisy labels (by their noise.npz), so "
            "their accuracies do not compare",
            file=sys.stderr,
        )
        return "different noisy labels"
    config = runs[0].config
    rate = config.get("measured_noise_rate")
    source = config.get("noise_file") or dataset_of(runs[0]) or "noisy labels"
    name = str(config.get("noise_type") or Path(source).stem)
    name = f"{source}-{name}" if source in HUMAN else name
    return name if rate is None else f"{name}, {100 * rate:.1f} % of the labels wrong"


def compare(places: Sequence[Path], plot: Path | None) -> None:
    """Prints the table, and draws the curves if asked to. Raises UsageError."""
    found, unread = find_runs(places)
    if not found:
        raise UsageError("\n".join(f"{folder}: {reason}" for folder, reason in unread))
    for folder, reason in unread:
        print(f"note: left out: {folder}: {reason}", file=sys.stderr)
    runs, noise = named(found), noise_of(found)
    print(f"{noise}\n{table(runs)}")
    if plot is not None:
        curves = {name: [one._asdict() for one in run.evaluations] for name, run in runs.items()}
        title = f"Test accuracy by epoch: {noise}"
        picture = accuracy_curves(title, curves, votes(runs), labels_tested(runs))
        write_atomically(plot, picture)
        print(f"curves: {plot}")

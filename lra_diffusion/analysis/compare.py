"""A table and a picture of several runs on the same noisy labels.

The majority vote of the k nearest neighbours' labels, which LRA-diffusion's runs measure, is a row
of its own: it is what retrieval gives without diffusion.
"""

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lra_diffusion.analysis.figures import accuracy_curves
from lra_diffusion.run.errors import UsageError
from lra_diffusion.run.presets import HUMAN
from lra_diffusion.run.record import read_config
from lra_diffusion.run.report import Row, summary
from shared.files import write_atomically
from shared.run_folder import read_rows

VOTE = "knn_accuracy_test"  # of a row or of config.yaml


@dataclass(frozen=True)
class Run:
    """What is left of a run."""

    folder: Path
    config: dict[str, Any]
    rows: list[Row]

    @property
    def method(self) -> str:
        return str(self.config.get("method") or self.folder.name)

    @property
    def labels_hash(self) -> str | None:
        sha256: str | None = self.config["identity"].get("noisy_labels_sha256")
        return sha256

    @property
    def vote(self) -> tuple[str, float] | None:
        """What the vote is called, and its accuracy (%); None where the run did not measure it."""
        accuracy = self.rows[-1].get(VOTE, self.config.get(VOTE))
        if accuracy is None:
            return None
        return f"vote of {self.config.get('k', 'k')} neighbours", float(accuracy)

    @property
    def last_10_epochs(self) -> str:
        """First and last of the ten epochs that were tested last; not every epoch is tested."""
        tested = [row["epoch"] for row in self.rows if row.get("accuracy") is not None][-10:]
        return "-".join(str(epoch) for epoch in sorted({*tested[:1], *tested[-1:]})) or "-"

    @property
    def at_best_validation(self) -> float | None:
        """Test accuracy (%) of the epoch that validation chooses; None without validation."""
        rows = (row for row in self.rows if row.get("accuracy") is not None)
        chosen = [row for row in rows if row.get("selection") is not None]
        return max(chosen, key=lambda row: row["selection"])["accuracy"] if chosen else None


def read_run(folder: Path) -> Run:
    """Raises OSError or ValueError, saying what is missing.

    Accuracies that are no numbers count as epochs that were not tested.
    """
    config = read_config(folder)
    if config is None or not isinstance(config.get("identity"), dict):
        raise ValueError("no config.yaml of a training script")
    rows = [_checked(row) for row in read_rows(folder)]
    if not rows:
        raise ValueError("no epoch is finished yet")
    # Own pictures may have no test set.
    if config.get("dataset") != "folder" and all(row.get("accuracy") is None for row in rows):
        raise ValueError("no epoch has a test accuracy")
    return Run(folder, config, rows)


def _checked(row: Row) -> Row:
    return {
        name: None
        if name.startswith(("accuracy", "selection", VOTE)) and not _is_number(value)
        else value
        for name, value in row.items()
    }


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def named(runs: Sequence[Run]) -> dict[str, Run]:
    """The runs by method; where two have the same one the folder is added, or its whole path."""
    methods = [run.method for run in runs]
    for names in (methods, [f"{run.method}, {run.folder.name}" for run in runs]):
        if len(set(names)) == len(names):
            return dict(zip(names, runs))
    return {f"{run.method}, {run.folder}": run for run in runs}


def votes(runs: dict[str, Run]) -> dict[str, float]:
    """The votes that the runs measured, each once, with the run's name where they differ."""
    found = {name: run.vote for name, run in runs.items() if run.vote is not None}
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
        result, chosen = summary(run.rows), run.at_best_validation
        seconds = sum(row.get("seconds") or 0 for row in run.rows)
        lines.append(
            f"{name:<{width}}  {_shown(result['last']):>6}  {_shown(result['last_10_mean']):>22}  "
            f"{run.last_10_epochs:>9}  {_shown(result['best']):>6}  {_shown(chosen):>13}  "
            f"{seconds:7.0f}"
        )
    none = "  ".join(f"{'-':>{column}}" for column in (22, 9, 6, 13, 7))
    lines += [f"{name:<{width}}  {vote:6.2f}  {none}" for name, vote in baselines.items()]
    return "\n".join(lines)


def labels_tested(runs: dict[str, Run]) -> str:
    """What the labels of the test sets are: those of own pictures may be wrong."""
    own = any(run.config.get("dataset") == "folder" for run in runs.values())
    return "given" if own else "clean"


def _shown(accuracy: float | None) -> str:
    return "-" if accuracy is None or math.isnan(accuracy) else f"{accuracy:.2f}"


def noise_of(runs: Sequence[Run]) -> str:
    """The noise in a title; a warning goes to stderr when the runs had different labels."""
    if len({run.labels_hash for run in runs}) > 1:
        print(
            "warning: these runs were trained on different noisy labels (noisy_labels_sha256 "
            "differs), so their accuracies do not compare",
            file=sys.stderr,
        )
        return "different noisy labels"
    config = runs[0].config
    rate = config.get("measured_noise_rate")
    source = config.get("noise_file") or config.get("dataset") or "noisy labels"
    name = str(config.get("noise_type") or Path(source).stem)
    name = f"{source}-{name}" if source in HUMAN else name
    return name if rate is None else f"{name}, {100 * rate:.1f} % of the labels wrong"


def compare(folders: Sequence[Path], plot: Path | None) -> None:
    """Prints the table, and draws the curves if asked to. Raises UsageError."""
    found = []
    for folder in folders:
        try:
            found.append(read_run(folder))
        except (OSError, ValueError) as error:
            raise UsageError(
                f"{folder} holds no run ({error}): give the --output_dir of a training script"
            ) from error
    runs, noise = named(found), noise_of(found)
    print(f"{noise}\n{table(runs)}")
    if plot is not None:
        curves = {name: run.rows for name, run in runs.items()}
        title = f"Test accuracy by epoch: {noise}"
        picture = accuracy_curves(title, curves, votes(runs), labels_tested(runs))
        write_atomically(plot, picture)
        print(f"curves: {plot}")

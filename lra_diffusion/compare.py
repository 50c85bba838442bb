"""A table and a picture of several runs on the same noisy labels.

    python compare.py RUN [RUN ...] --plot comparison.png

A RUN is a run folder of train_CIFAR.py, train_CE.py or another training script. The majority vote
of the k nearest neighbours' labels, which LRA-diffusion's runs measure, is a row of its own: it is
what retrieval gives without diffusion.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(
    0, str(Path(__file__).absolute().parents[1])
)  # the repository: the script runs from any folder

from lra_diffusion.figures import accuracy_curves
from lra_diffusion.report import Row, read_config, read_rows, summary
from shared.files import write_atomically

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
        return self.config["identity"].get("noisy_labels_sha256")

    @property
    def vote(self) -> tuple[str, float] | None:
        """What the vote is called, and its accuracy in percent; None where the run did not measure
        it.
        """
        accuracy = self.rows[-1].get(VOTE, self.config.get(VOTE))
        return (
            None
            if accuracy is None
            else (f"vote of {self.config.get('k', 'k')} neighbours", float(accuracy))
        )

    @property
    def at_best_validation(self) -> float | None:
        """Test accuracy of the epoch that validation chooses, in percent; None without validation."""
        chosen = [
            row
            for row in self.rows
            if row.get("selection") is not None and row.get("accuracy") is not None
        ]
        return max(chosen, key=lambda row: row["selection"])["accuracy"] if chosen else None


def read_run(folder: Path) -> Run:
    """Raises OSError or ValueError, saying what is missing."""
    config = read_config(folder)
    if config is None:
        raise ValueError("no config.yaml of a training script")
    rows = read_rows(folder)
    if not rows:
        raise ValueError("no epoch is finished yet")
    if all(row.get("accuracy") is None for row in rows):
        raise ValueError("no epoch has a test accuracy")
    return Run(folder, config, rows)


def named(runs: Sequence[Run]) -> dict[str, Run]:
    """The runs by method; where two have the same one, the folder is added, and where that does not
    help, its whole path.
    """
    for name_of in (lambda run: run.method, lambda run: f"{run.method}, {run.folder.name}"):
        names = [name_of(run) for run in runs]
        if len(set(names)) == len(names):
            return dict(zip(names, runs))
    return {f"{run.method}, {run.folder}": run for run in runs}


def votes(runs: dict[str, Run]) -> dict[str, float]:
    """The neighbours' votes that the runs measured, each once, with the run's name where they
    differ.
    """
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
        "test accuracy (%), against clean labels",
        f"{'method':<{width}}  {'last':>6}  {'mean of last 10':>15}  {'best':>6}  "
        f"{'by validation':>13}  {'seconds':>7}",
    ]
    for name, run in runs.items():
        result, chosen = summary(run.rows), run.at_best_validation
        seconds = sum(row.get("seconds") or 0 for row in run.rows)
        lines.append(
            f"{name:<{width}}  {result['last']:6.2f}  {result['last_10_mean']:15.2f}  "
            f"{result['best']:6.2f}  "
            f"{'-' if chosen is None else f'{chosen:.2f}':>13}  {seconds:7.0f}"
        )
    for name, accuracy in baselines.items():
        lines.append(f"{name:<{width}}  {accuracy:6.2f}  {'-':>15}  {'-':>6}  {'-':>13}  {'-':>7}")
    return "\n".join(lines)


def noise_of(runs: Sequence[Run]) -> str:
    """The noise in a title; a warning goes to stderr when the runs were trained on different
    labels.
    """
    if len({run.labels_hash for run in runs}) > 1:
        print(
            "warning: these runs were trained on different noisy labels (noisy_labels_sha256 "
            "differs), so their "
            "accuracies do not compare",
            file=sys.stderr,
        )
        return "different noisy labels"
    config = runs[0].config
    rate = config.get("measured_noise_rate")
    name = (
        config.get("noise_type")
        or Path(config.get("noise_file") or config.get("dataset") or "noisy labels").stem
    )
    return name if rate is None else f"{name}, {100 * rate:.1f} % of the labels wrong"


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0, or 2 for a folder without a run."""
    parser = argparse.ArgumentParser(
        prog="compare.py",
        allow_abbrev=False,
        description="A table of the accuracies of several runs, and their curves.",
    )
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="run folder")
    parser.add_argument("--plot", type=Path, metavar="PNG", help="picture of the curves to write")
    args = parser.parse_args(argv)
    if args.plot is not None and args.plot.suffix.lower() != ".png":
        parser.error(f"--plot {args.plot}: the picture is a PNG, so let its name end in .png")
    found = []
    for folder in args.runs:
        try:
            found.append(read_run(folder))
        except (OSError, ValueError) as error:
            print(
                f"error: {folder} holds no run ({error}): give the --output_dir of a training "
                "script",
                file=sys.stderr,
            )
            return 2
    runs = named(found)
    noise = noise_of(found)
    print(f"{noise}\n{table(runs)}")
    if args.plot is not None:
        curves = {name: run.rows for name, run in runs.items()}
        try:
            write_atomically(
                args.plot, accuracy_curves(f"Test accuracy by epoch: {noise}", curves, votes(runs))
            )
        except OSError as error:
            print(
                f"error: {args.plot} cannot be written ({error.strerror or error})", file=sys.stderr
            )
            return 2
        print(f"curves: {args.plot}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

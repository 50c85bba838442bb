"""A table and a picture of several runs on the same noisy labels: accuracy, and which samples the
weights trust.

    python -m ieg.compare RUN [RUN ...] --plot comparison.png

A RUN is a run folder of `python -m ieg.main`. Weights are in units of the uniform weight: 1 is what
every sample has where nothing judges it, and a method that finds the noise gives noisy samples
less.
"""

import argparse
import io
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(
    0, str(Path(__file__).absolute().parents[1])
)  # where the package is, to be run by path from anywhere

import yaml
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ieg.summary import summary
from shared.files import write_atomically

NAMES = {"supervised": "supervised", "l2r": "L2R", "ieg": "IEG", "fsr": "FSR"}
# Okabe & Ito's colours, which colour-blind readers tell apart; each curve also has a line style of
# its own, for print.
LOOKS = {
    "supervised": ("0.45", ":"),
    "l2r": ("#0072B2", "-."),
    "ieg": ("#D55E00", "-"),
    "fsr": ("#009E73", "--"),
}
CLEAN, NOISY = "#0072B2", "#D55E00"
COUNTED = 0.5  # the part of a run, its end, whose weights are averaged


@dataclass(frozen=True)
class Run:
    """What is left of a run."""

    folder: Path
    config: dict[str, Any]
    rows: list[dict[str, Any]]

    @property
    def method(self) -> str:
        return str(self.config["method"])

    @property
    def accuracy_name(self) -> str:
        return "accuracy_ema" if self.config["use_ema"] else "accuracy"

    def weight(self, kind: str) -> float | None:
        """Mean weight of the `clean` or `noisy` samples over the second half of the run; None
        without weights.
        """
        late = [
            row[f"weight_{kind}"]
            for row in self.rows
            if row["iteration"] > COUNTED * self.rows[-1]["iteration"]
            and row.get(f"weight_{kind}") is not None
        ]
        return sum(late) / len(late) if late else None


def read_run(folder: Path) -> Run:
    """Raises OSError or ValueError, saying what is missing."""
    config = yaml.safe_load((folder / "config.yaml").read_text())
    if not isinstance(config, dict) or config.get("method") not in NAMES:
        raise ValueError(f"{folder / 'config.yaml'} is not of a run of ieg.main")
    lines = (
        (folder / "metrics.jsonl").read_text().split("\n")[:-1]
    )  # a kill can leave a part of a line at the end
    rows = [json.loads(line) for line in lines]
    if not rows:
        raise ValueError(f"{folder} has no evaluation yet")
    return Run(folder, config, rows)


def table(runs: Sequence[Run]) -> str:
    """One line for each run."""
    head = f"{'method':<12}{'accuracy %':>12}{'best %':>9}{'weight of clean':>18}{'of noisy samples':>19}"
    lines = [head, "-" * len(head)]
    for run in runs:
        result = summary(run.rows, run.accuracy_name)
        weights = [run.weight(kind) for kind in ("clean", "noisy")]
        clean, noisy = ("-" if weight is None else f"{weight:.2f}" for weight in weights)
        lines.append(
            f"{NAMES[run.method]:<12}{result['last']:>12.2f}{result['best']:>9.2f}{clean:>18}{noisy:>19}"
        )
    return "\n".join(
        [
            *lines,
            "accuracy: after the last step, of the averaged weights where there are; weight: 1 "
            "is uniform, "
            "mean of the second half of the run",
        ]
    )


def picture(runs: Sequence[Run]) -> bytes:
    """Accuracy by epoch, and the mean weight of clean and of noisy samples, as a PNG."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    config = runs[0].config
    labels = f" {Path(config['noise_file']).name}" if config.get("noise_file") else ""
    figure.suptitle(f"{config['dataset']}{labels}, {config['network_name']}, seed {config['seed']}")
    for run in runs:
        colour, style = LOOKS[run.method]
        epochs = [row["epoch"] for row in run.rows]
        left.plot(
            epochs,
            [row[run.accuracy_name] for row in run.rows],
            style,
            color=colour,
            label=NAMES[run.method],
        )
    left.set(title="Accuracy of the averaged weights", xlabel="epoch", ylabel="test accuracy (%)")
    left.grid(alpha=0.3)
    left.legend()
    weighed = [run for run in runs if run.weight("clean") is not None]
    _bars(right, weighed)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=150)
    return buffer.getvalue()


def _bars(axes: Axes, runs: Sequence[Run]) -> None:
    for offset, kind, colour, hatch in ((-0.2, "clean", CLEAN, ""), (0.2, "noisy", NOISY, "//")):
        heights = [run.weight(kind) or 0.0 for run in runs]
        bars = axes.bar(
            [i + offset for i in range(len(runs))],
            heights,
            0.38,
            color=colour,
            hatch=hatch,
            label=f"{kind} samples",
        )
        axes.bar_label(bars, fmt="%.2f")
    axes.margins(y=0.1)
    axes.axhline(1.0, color="0.3", linewidth=0.8, linestyle="--")
    axes.set_xticks(range(len(runs)), [NAMES[run.method] for run in runs])
    axes.set(title="Mean weight, second half of training", ylabel="weight (1 = uniform)")
    axes.legend()


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0; 2 for runs that cannot be read or compared, with a message."""
    parser = argparse.ArgumentParser(
        prog="python -m ieg.compare",
        allow_abbrev=False,
        description="A table and a picture of several runs on the same noisy labels.",
    )
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="run folders")
    parser.add_argument("--plot", type=Path, help="write the picture here (PNG)")
    args = parser.parse_args(argv)
    try:
        runs = [read_run(folder) for folder in args.runs]
        if (
            len(
                {
                    (run.config["dataset"], run.config.get("noise_file"), run.config["seed"])
                    for run in runs
                }
            )
            > 1
        ):
            print("warning: the runs differ in dataset, noise file or seed", file=sys.stderr)
        print(table(runs))
        if args.plot:
            write_atomically(args.plot, picture(runs))
            print(f"picture: {args.plot}")
    except (OSError, ValueError, KeyError, yaml.YAMLError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())

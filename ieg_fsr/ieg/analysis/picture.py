"""The picture of several runs: accuracy by epoch, and the weights of clean and of noisy samples."""

import io
from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ieg.analysis.runs import Run

# Okabe & Ito's colours, which colour-blind readers tell apart; each curve also has a line style of
# its own, for print.
LOOKS = {
    "supervised": ("0.45", ":"),
    "L2R": ("#0072B2", "-."),
    "IEG": ("#D55E00", "-"),
    "FSR": ("#009E73", "--"),
}
BARS = ((-0.2, "clean", "#0072B2", ""), (0.2, "noisy", "#D55E00", "//"))


def picture(runs: Sequence[Run]) -> bytes:
    """A PNG."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    config = runs[0].config
    labels = f" {Path(config['noise_file']).name}" if config.get("noise_file") else ""
    figure.suptitle(f"{config['dataset']}{labels}, {config['network_name']}, seed {config['seed']}")
    _curves(left, runs)
    _bars(right, [run for run in runs if run.weight("clean") is not None])
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=150)
    return buffer.getvalue()


def _curves(axes: Axes, runs: Sequence[Run]) -> None:
    for run in runs:
        colour, style = LOOKS[run.name]
        epochs, accuracies = zip(*((row["epoch"], row[run.accuracy_name]) for row in run.rows))
        axes.plot(epochs, accuracies, style, color=colour, label=run.name)
    axes.set(title="Accuracy of the averaged weights", xlabel="epoch", ylabel="test accuracy (%)")
    axes.grid(alpha=0.3)
    axes.legend()


def _bars(axes: Axes, runs: Sequence[Run]) -> None:
    for offset, kind, colour, hatch in BARS:
        heights = [run.weight(kind) or 0.0 for run in runs]
        places = [i + offset for i in range(len(runs))]
        label = f"{kind} samples"
        bars = axes.bar(places, heights, 0.38, color=colour, hatch=hatch, label=label)
        axes.bar_label(bars, fmt="%.2f")
    axes.margins(y=0.1)
    axes.axhline(1.0, color="0.3", linewidth=0.8, linestyle="--")
    axes.set_xticks(range(len(runs)), [run.name for run in runs])
    axes.set(title="Mean weight, second half of training", ylabel="weight (1 = uniform)")
    axes.legend()

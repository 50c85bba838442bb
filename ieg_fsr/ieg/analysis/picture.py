"""The picture of several runs: accuracy by epoch, and the weights of clean and of noisy samples."""

import io
import math
from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ieg.analysis.runs import Run, labels_of

# Okabe & Ito's colours, which colour-blind readers tell apart; each method also has a line style of
# its own, for print, and each run a marker, which shows runs of one evaluation and equal figures.
LOOKS = {
    "supervised": ("0.45", ":"),
    "L2R": ("#0072B2", "-."),
    "IEG": ("#D55E00", "-"),
    "FSR": ("#009E73", "--"),
}
MARKERS = "o^sDv*Xp"
MARKED = 40  # evaluations; more of them make a curve, and markers a smear
BARS = ((-0.2, "clean", "#0072B2", ""), (0.2, "noisy", "#D55E00", "//"))
CHARACTERS = 13  # of the legend in an inch
NAMES_WIDTH = 48  # characters that fit below the bars without turning


def picture(runs: Sequence[Run]) -> bytes:
    """A PNG."""
    buffer = io.BytesIO()
    drawn(runs).savefig(buffer, format="png", dpi=150)
    return buffer.getvalue()


def drawn(runs: Sequence[Run]) -> Figure:
    """Without weights, as of supervised runs alone, the right half is left out."""
    weighted = [run for run in runs if run.weight("clean") is not None]
    figure = Figure(figsize=(10 if weighted else 5.5, 4.6), layout="constrained")
    axes = figure.subplots(1, 2 if weighted else 1, squeeze=False)[0]
    config = runs[0].config
    labels = f" {Path(config['noise_file']).name}" if config.get("noise_file") else ""
    figure.suptitle(f"{config['dataset']}{labels}, {config['network_name']}, seed {config['seed']}")
    _curves(axes[0], runs)
    if weighted:
        _bars(axes[1], weighted)
    # Below the axes, where it covers nothing.
    longest = max(map(len, [*labels_of(runs), "noisy samples"]))
    columns = max(1, min(6, int(CHARACTERS * figure.get_figwidth()) // (longest + 6)))
    figure.legend(loc="outside lower center", ncols=columns, fontsize="small", frameon=False)
    return figure


def _curves(axes: Axes, runs: Sequence[Run]) -> None:
    tested = False
    for number, (run, label) in enumerate(zip(runs, labels_of(runs))):
        colour, style = LOOKS[run.name]
        marker = MARKERS[number % len(MARKERS)] if len(run.rows) <= MARKED else None
        epochs = [row["epoch"] for row in run.rows]
        accuracies = run.accuracies()
        tested = tested or not all(map(math.isnan, accuracies))
        axes.plot(epochs, accuracies, style, color=colour, label=label, marker=marker, mfc="none")
    if not tested:
        axes.text(0.5, 0.5, "no test set", transform=axes.transAxes, ha="center")
    raw = {run.accuracy_name for run in runs}
    of = "" if len(raw) > 1 else " of the averaged weights" if "accuracy_ema" in raw else " (raw)"
    axes.set(title=f"Accuracy{of}", xlabel="epoch", ylabel="test accuracy (%)")
    last = max(1, *(row["epoch"] for run in runs for row in run.rows))
    # An accuracy is in [0, 100]: runs that all stay the same look so.
    axes.set(xlim=(-0.03 * last, 1.03 * last), ylim=(-2, 102))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)


def _bars(axes: Axes, runs: Sequence[Run]) -> None:
    for offset, kind, colour, hatch in BARS:
        heights = [run.weight(kind) or 0.0 for run in runs]
        places = [i + offset for i in range(len(runs))]
        label = f"{kind} samples"
        bars = axes.bar(places, heights, 0.38, color=colour, hatch=hatch, label=label)
        axes.bar_label(bars, fmt="%.3g", fontsize="small")
    axes.margins(y=0.1)
    axes.axhline(1.0, color="0.3", linewidth=0.8, linestyle="--")
    names = labels_of(runs)
    axes.set_xticks(range(len(runs)), names)
    if sum(map(len, names)) > NAMES_WIDTH:
        axes.tick_params(axis="x", rotation=30)
        for name in axes.get_xticklabels():
            name.set_horizontalalignment("right")
    axes.set(title="Mean weight, second half of training", ylabel="weight (1 = uniform)")

"""The picture of several runs: accuracy by epoch, and the weights of clean and of noisy samples."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ieg.analysis.runs import is_raw, labels_of, weight
from shared.runs.reader import Run

# Okabe & Ito's colours, which colour-blind readers tell apart; each method also has a line style of
# its own, for print, and each run a marker, which shows runs of one evaluation and equal figures.
LOOKS = {
    "Supervised": ("0.45", ":"),
    "L2R": ("#0072B2", "-."),
    "IEG": ("#D55E00", "-"),
    "FSR": ("#009E73", "--"),
}
OTHERS = ("#CC79A7", "#E69F00", "#56B4E9", "#F0E442", "black")  # of other projects' methods
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
    weighted = [run for run in runs if weight(run, "clean") is not None]
    figure = Figure(figsize=(10 if weighted else 5.5, 4.6), layout="constrained")
    axes = figure.subplots(1, 2 if weighted else 1, squeeze=False)[0]
    figure.suptitle(_title(runs[0].config))
    _curves(axes[0], runs)
    if weighted:
        _bars(axes[1], weighted)
    # Below the axes, where it covers nothing.
    longest = max(map(len, [*labels_of(runs), "noisy samples"]))
    columns = max(1, min(6, int(CHARACTERS * figure.get_figwidth()) // (longest + 6)))
    figure.legend(loc="outside lower center", ncols=columns, fontsize="small", frameon=False)
    return figure


def _title(config: Mapping[str, Any]) -> str:
    """Of a run of any project, as far as its settings say it."""
    labels = f" {Path(config['noise_file']).name}" if config.get("noise_file") else ""
    dataset = config.get("dataset") or config.get("dataset_name") or "runs"
    network = f", {config['network_name']}" if config.get("network_name") else ""
    seed = f", seed {config['seed']}" if config.get("seed") is not None else ""
    return f"{dataset}{labels}{network}{seed}"


def _curves(axes: Axes, runs: Sequence[Run]) -> None:
    others = list(dict.fromkeys(run.title for run in runs if run.title not in LOOKS))
    for number, (run, label) in enumerate(zip(runs, labels_of(runs))):
        if run.title in LOOKS:
            colour, style = LOOKS[run.title]
        else:
            colour, style = OTHERS[others.index(run.title) % len(OTHERS)], "-"
        marker = MARKERS[number % len(MARKERS)] if len(run.evaluations) <= MARKED else None
        epochs, accuracies = zip(*run.evaluations) if run.evaluations else ((), ())
        axes.plot(epochs, accuracies, style, color=colour, label=label, marker=marker, mfc="none")
    if not any(run.evaluations for run in runs):
        axes.text(0.5, 0.5, "no test set", transform=axes.transAxes, ha="center")
    averaged, raw = all(run.averaged for run in runs), all(map(is_raw, runs))
    of = " of the averaged weights" if averaged else " (raw)" if raw else ""
    axes.set(title=f"Accuracy{of}", xlabel="epoch", ylabel="test accuracy (%)")
    last = max(1, *(row["epoch"] for run in runs for row in run.rows))
    # An accuracy is in [0, 100]: runs that all stay the same look so.
    axes.set(xlim=(-0.03 * last, 1.03 * last), ylim=(-2, 102))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)


def _bars(axes: Axes, runs: Sequence[Run]) -> None:
    for offset, kind, colour, hatch in BARS:
        heights = [weight(run, kind) or 0.0 for run in runs]
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

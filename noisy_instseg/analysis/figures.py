"""Pictures of runs and annotations: mask AP by epoch and by noise rate, losses of the labels.

Pure functions of rows and arrays, PNG bytes out. A mask AP (segm mAP, COCO style) is in [0, 1]
where it is given and in percent where it is drawn, as in the paper's tables.
"""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

DPI = 150
# Okabe & Ito's colours, which colour-blind readers tell apart; each curve also has a line style of
# its own, for print.
BLUE, VERMILION, GREEN = "#0072B2", "#D55E00", "#009E73"
ORANGE, PURPLE, SKY = "#E69F00", "#CC79A7", "#56B4E9"
CURVES: tuple[tuple[str, Any], ...] = (
    (BLUE, "-"),
    (VERMILION, "--"),
    (GREEN, "-."),
    (PURPLE, (0, (5, 1, 1, 1, 1, 1))),
    (ORANGE, (0, (3, 1))),
    (SKY, "-"),
)
MARKERS = "osD^vP"
BARS = 30


def png(figure: Figure) -> bytes:
    """The picture as a file's content."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI)
    return buffer.getvalue()


def loss_histogram(
    title: str, losses: NDArray[np.float64], changed: NDArray[np.bool_] | None
) -> bytes:
    """How the losses of annotations are spread.

    losses: (N,); changed: (N,) the label was made wrong; None: not known.
    """
    figure = Figure(figsize=(7.5, 4.5), layout="constrained")
    axes = figure.subplots()
    edges = np.linspace(0, max(float(losses.max(initial=0)), 1e-3), BARS + 1)
    parts = (
        [(np.ones(len(losses), bool), BLUE, "", "all annotations")]
        if changed is None
        else [
            (~changed, BLUE, "///", "label as it was"),
            (changed, VERMILION, "\\\\\\", "label changed"),
        ]
    )
    for chosen, colour, hatch, label in parts:
        heights = np.histogram(losses[chosen], edges)[0]
        axes.stairs(heights, edges, fill=True, alpha=0.35, color=colour)
        axes.stairs(
            heights,
            edges,
            edgecolor=colour,
            hatch=hatch,
            linewidth=1.2,
            label=f"{label} ({chosen.sum():,})",
        )
    # most losses are close to 0: on a linear scale nothing else would be seen
    axes.set_yscale("symlog", linthresh=10)
    axes.set(
        title=title,
        xlabel="classification loss at the annotation's own box (nats)",
        ylabel="number of annotations",
        ylim=(0, None),
    )
    axes.grid(alpha=0.3)
    axes.legend()
    return png(figure)


def ap_by_epoch(
    title: str, runs: Mapping[str, Mapping[int, float]], switches: Mapping[str, float]
) -> bytes:
    """Mask AP after the epochs.

    runs: epoch -> AP in [0, 1], by name; switches: where a run's second stage begins, by name.
    """
    figure = Figure(figsize=(7.5, 4.8), layout="constrained")
    axes = figure.subplots()
    for number, (name, values) in enumerate(runs.items()):
        colour, style = CURVES[number % len(CURVES)]
        percent = [100 * value for value in values.values()]
        axes.plot(
            list(values),
            percent,
            color=colour,
            linestyle=style,
            marker="o" if len(values) <= 40 else None,
            markersize=3,
            label=f"{name}: last {percent[-1]:.1f}",
        )
    for place in sorted(set(switches.values())):
        axes.axvline(
            place,
            color="black",
            linestyle=":",
            linewidth=1,
            label=f"second stage, from epoch {place + 0.5:.0f} on",
        )
    _percent_axes(axes, title, "epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.legend(
        loc="outside lower center",
        ncols=1 if len(runs) < 3 or max(map(len, runs)) > 36 else 2,
        fontsize=8,
    )
    return png(figure)


def ap_by_rate(title: str, points: Mapping[str, Sequence[tuple[float, Sequence[float]]]]) -> bytes:
    """Mask AP by noise rate.

    points: per method (noise rate in [0, 1], the APs in [0, 1] of all seeds), by ascending rate.
    """
    figure = Figure(figsize=(7, 4.8), layout="constrained")
    axes = figure.subplots()
    for number, (name, of_method) in enumerate(points.items()):
        colour, style = CURVES[number % len(CURVES)]
        rates = [100 * rate for rate, _ in of_method]
        values = [100 * np.array(aps) for _, aps in of_method]
        means = np.array([value.mean() for value in values])
        spread = [
            means - [value.min() for value in values],
            [value.max() for value in values] - means,
        ]
        counts = {len(value) for value in values}
        seeds = f"{min(counts)} to {max(counts)}" if len(counts) > 1 else f"{max(counts)}"
        label = (
            name if counts == {1} else f"{name} (mean of {seeds} seeds; bars: least and greatest)"
        )
        axes.errorbar(
            rates,
            means,
            yerr=None if counts == {1} else spread,
            capsize=3,
            color=colour,
            linestyle=style,
            label=label,
            marker=MARKERS[number % len(MARKERS)],
            markersize=5,
        )
    _percent_axes(axes, title, "training annotations with a changed class label (%)")
    axes.set_ylim(bottom=0)
    figure.legend(loc="outside lower center", fontsize=9)
    return png(figure)


def _percent_axes(axes: Axes, title: str, below: str) -> None:
    axes.set(title=title, xlabel=below, ylabel="mask AP, clean validation labels (%)")
    axes.grid(alpha=0.3)

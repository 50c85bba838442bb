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
LONGEST_NAME = 90  # letters of a legend's line


def png(figure: Figure) -> bytes:
    """The picture as a file's content."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI)
    return buffer.getvalue()


def draw_losses(
    title: str, losses: NDArray[np.float64], changed: NDArray[np.bool_] | None
) -> Figure:
    """The share of annotations with a loss above each value, a curve each for right and wrong.

    Bars would need a logarithmic axis, on which neither areas nor sums can be read. losses: (N,);
    changed: (N,) the label was made wrong; None: not known.
    """
    figure = Figure(figsize=(7.5, 4.8), layout="constrained")
    axes = figure.subplots()
    everything: NDArray[np.bool_] = np.ones(len(losses), np.bool_)
    parts = [(everything, "all annotations")]
    if changed is not None:
        parts = [(~changed, "label as it was"), (changed, "label changed")]
    finite = np.isfinite(losses)
    end = max(1.05 * float(losses[finite].max(initial=0)), 1.0)
    for (chosen, label), (colour, style) in zip(parts, CURVES):
        values = np.sort(losses[chosen & finite])
        if not len(values):
            continue
        above = 100 * (1 - np.arange(1, len(values) + 1) / len(values))
        axes.step(
            np.concatenate([[0], values, [end]]),
            np.concatenate([[100], above, [0]]),
            where="post",
            color=colour,
            linestyle=style,
            label=f"{label} ({len(values):,})",
        )
    axes.set(
        title=title,
        xlabel="classification loss at the annotation's own box (nats)",
        ylabel="annotations with a larger loss (%)",
        xlim=(0, end),
        ylim=(0, 102),
    )
    axes.grid(alpha=0.3)
    figure.legend(loc="outside lower center", ncols=2, fontsize=9)
    return figure


def draw_epochs(
    title: str, runs: Mapping[str, Mapping[float, float]], switches: Mapping[str, float]
) -> Figure:
    """Mask AP after the epochs. A legend below covers no curve, and a single epoch is a dot.

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
            label=f"{_short(name)}: last {percent[-1]:.1f}",
        )
    for place in sorted(set(switches.values())):
        axes.axvline(
            place,
            color="black",
            linestyle=":",
            linewidth=1,
            label=f"second stage, from epoch {place + 0.5:.0f} on",
        )
    epochs = [epoch for values in runs.values() for epoch in values]
    _percent_axes(axes, title, "epoch", [ap for values in runs.values() for ap in values.values()])
    axes.set_xlim(min(epochs) - 0.6, max(epochs) + 0.6)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    figure.legend(
        loc="outside lower center",
        ncols=1 if len(runs) < 3 or max(map(len, runs)) > 36 else 2,
        fontsize=8,
    )
    return figure


def draw_rates(title: str, points: Mapping[str, Sequence[tuple[float, Sequence[float]]]]) -> Figure:
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
    found = [ap for of_method in points.values() for _, aps in of_method for ap in aps]
    _percent_axes(axes, title, "training annotations with a changed class label (%)", found)
    rates = [100 * rate for of_method in points.values() for rate, _ in of_method]
    axes.set_xlim(min(rates) - 2, max(rates) + 2)
    figure.legend(loc="outside lower center", fontsize=9)
    return figure


def _percent_axes(axes: Axes, title: str, below: str, aps: Sequence[float]) -> None:
    """aps: all that are drawn, in [0, 1]; the axis begins just below 0, and ends above 1 %."""
    axes.set(title=title, xlabel=below, ylabel="mask AP, clean validation labels (%)")
    top = max(1.0, 108 * max((ap for ap in aps if np.isfinite(ap)), default=0.0))
    axes.set_ylim(-0.02 * top, top)  # a curve of zeros lies on no frame
    axes.grid(alpha=0.3)


def _short(name: str) -> str:
    """A long path keeps its end, which tells runs apart."""
    return name if len(name) <= LONGEST_NAME else f"...{name[-LONGEST_NAME:]}"

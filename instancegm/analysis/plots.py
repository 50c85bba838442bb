"""plots.png of a run: accuracy, the mixture that splits the data, and how well it does so."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter
from numpy.typing import NDArray
from scipy.stats import norm
from sklearn.metrics import auc, roc_curve

from instancegm.analysis.figures import legend_below, marker_size, save, show_epochs
from instancegm.analysis.runs import Row, summary
from instancegm.method.mixture import CleanFit

BINS = [k / 60 for k in range(61)]
EMPTY = 0.6  # where the logarithmic axis of counts begins: below a single sample


def draw(
    path: Path,
    title: str,
    rows: Sequence[Row],
    fits: Sequence[CleanFit],
    is_clean: NDArray[np.bool_] | None,
) -> None:
    """Writes the picture.

    fits: one per network, of the final losses; is_clean: (N,), None where the truth is unknown.
    """
    save(picture(title, rows, fits, is_clean), path)


def picture(
    title: str,
    rows: Sequence[Row],
    fits: Sequence[CleanFit],
    is_clean: NDArray[np.bool_] | None,
) -> Figure:
    figure = plt.figure(figsize=(15, 5), layout="constrained")
    figure.suptitle(title)
    thirds = figure.add_gridspec(1, 3)
    parts = [figure.add_subfigure(thirds[k]) for k in range(3)]
    axes = [part.add_subplot() for part in parts]
    _accuracy(axes[0], rows)
    _loss_histogram(axes[1], fits[0], is_clean)
    _roc(axes[2], fits, is_clean)
    for part in parts:
        legend_below(part)
    return figure


def _accuracy(axes: Axes, rows: Sequence[Row]) -> None:
    epochs = [row["epoch"] for row in rows]
    size = marker_size(epochs)
    for key, label in (("accuracy_1", "network 1"), ("accuracy_2", "network 2")):
        if key in rows[0]:
            values = [row[key] for row in rows]
            axes.plot(
                epochs, values, marker="o", markersize=size, linewidth=0.8, alpha=0.6, label=label
            )
    axes.plot(
        epochs,
        [np.nan if row["accuracy"] is None else row["accuracy"] for row in rows],
        linewidth=2,
        marker="o",
        markersize=size,
        color="black",
        label="both (reported)" if "accuracy_1" in rows[0] else "the network",
    )
    known = [row for row in rows if row["accuracy"] is not None and np.isfinite(row["accuracy"])]
    if known:
        best = summary(known)
        axes.plot(
            best["best_epoch"],
            best["best"],
            "o",
            markersize=9,
            fillstyle="none",
            color="tab:red",
            label=f"best: {best['best']:.2f}",
        )
    else:
        axes.set_ylim(0.0, 100.0)
        if all(row["accuracy"] is None for row in rows):
            axes.text(0.5, 0.5, "no test set", ha="center", transform=axes.transAxes)
    warm_up = sum(row["phase"] == "warm_up" for row in rows)
    if 0 < warm_up < len(rows):
        axes.axvline(epochs[warm_up] - 0.5, color="grey", linestyle=":", label="end of warm-up")
    axes.set_title("Test accuracy")
    show_epochs(axes, epochs)


def _loss_histogram(axes: Axes, fit: CleanFit, is_clean: NDArray[np.bool_] | None) -> None:
    """Outlines, each counted from the bottom: stacked bars on a logarithmic axis mislead."""
    kinds = {"training samples": (fit.losses, "tab:grey")}
    if is_clean is not None:
        kinds = {
            "label is correct": (fit.losses[is_clean], "tab:blue"),
            "label is wrong": (fit.losses[~is_clean], "tab:orange"),
        }
    highest = 1.0
    for name, (losses, color) in kinds.items():
        counts, _ = np.histogram(losses, BINS)
        highest = max(highest, counts.max())
        shown = np.maximum(counts, EMPTY)
        axes.stairs(shown, BINS, baseline=EMPTY, fill=True, color=color, alpha=0.2)
        axes.stairs(shown, BINS, baseline=EMPTY, color=color, linewidth=1.5, label=name)
    if fit.mixture is not None:
        grid = np.linspace(0.0, 1.0, 400)
        scale = len(fit.losses) * (BINS[1] - BINS[0])  # density to count per bin
        order = fit.mixture.means_.ravel().argsort()
        for component, name, style in zip(
            order, ("clean component", "noisy component"), ("-", "--")
        ):
            deviation = np.sqrt(fit.mixture.covariances_.ravel()[component])
            density = fit.mixture.weights_[component] * norm.pdf(
                grid, fit.mixture.means_.ravel()[component], deviation
            )
            expected = scale * density
            highest = max(highest, expected.max())
            # Tails far below a sample would decide the range of the axis.
            expected[expected < EMPTY] = np.nan
            axes.plot(grid, expected, style, color="black", linewidth=1.2, label=name)
    axes.set_yscale("log")
    axes.set_ylim(EMPTY, 2 * highest)
    if highest < 20:  # a power of ten alone would be one tick
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set(
        title="Loss on the noisy label, network 1",
        xlabel="normalised cross-entropy",
        ylabel="training samples in a bin",
    )


def _roc(axes: Axes, fits: Sequence[CleanFit], is_clean: NDArray[np.bool_] | None) -> None:
    axes.set(
        title="Finding clean labels by clean probability",
        xlabel="false positive rate",
        ylabel="true positive rate",
    )
    if is_clean is None or is_clean.all() or not is_clean.any():
        reason = "no clean labels known" if is_clean is None else "only one kind of label"
        axes.text(
            0.5, 0.5, f"{reason}:\nno ROC curve", ha="center", va="center", transform=axes.transAxes
        )
        return
    for number, fit in enumerate(fits, start=1):
        false_positive, true_positive, _ = roc_curve(is_clean, fit.clean_prob)
        area = auc(false_positive, true_positive)
        axes.plot(false_positive, true_positive, label=f"network {number}, AUC {area:.3f}")
    axes.plot([0, 1], [0, 1], ":", color="grey", label="chance")

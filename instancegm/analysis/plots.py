"""plots.png of a run: accuracy, the mixture that splits the data, and how well it does so."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")  # no display

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from scipy.stats import norm
from sklearn.metrics import auc, roc_curve

from instancegm.analysis.compare import Row
from instancegm.method.mixture import CleanFit


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
    figure, axes = plt.subplots(1, 3, figsize=(15, 4.2), layout="constrained")
    figure.suptitle(title)
    _accuracy(axes[0], rows)
    _loss_histogram(axes[1], fits[0], is_clean)
    _roc(axes[2], fits, is_clean)
    temporary = path.with_suffix(".tmp.png")
    figure.savefig(temporary, dpi=120)
    plt.close(figure)
    temporary.replace(path)


def _accuracy(axes: Axes, rows: Sequence[Row]) -> None:
    epochs = [row["epoch"] for row in rows]
    for key, label in (("accuracy_1", "network 1"), ("accuracy_2", "network 2")):
        if key in rows[0]:
            axes.plot(epochs, [row[key] for row in rows], linewidth=0.8, alpha=0.6, label=label)
    accuracies = [row["accuracy"] for row in rows]
    axes.plot(
        epochs,
        accuracies,
        linewidth=2,
        marker="o",
        markersize=2.5,
        color="black",
        label="both (reported)" if "accuracy_1" in rows[0] else "the network",
    )
    best = int(np.argmax(accuracies))
    axes.annotate(
        f"best {accuracies[best]:.2f}",
        (epochs[best], accuracies[best]),
        xytext=(0, -14),
        textcoords="offset points",
        ha="right" if best > len(rows) / 2 else "left",
        fontsize=8,
    )
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    warm_up = sum(row["phase"] == "warm_up" for row in rows)
    if warm_up < len(rows):
        axes.axvline(epochs[warm_up] - 0.5, color="grey", linestyle=":", label="end of warm-up")
    axes.set(title="Test accuracy", xlabel="epoch", ylabel="top-1 (%)")
    axes.legend(loc="lower right", fontsize=8)


def _loss_histogram(axes: Axes, fit: CleanFit, is_clean: NDArray[np.bool_] | None) -> None:
    bins = [k / 60 for k in range(61)]
    if is_clean is None:
        axes.hist(fit.losses, bins=bins, color="tab:grey", alpha=0.7, label="training samples")
    else:
        parts = [fit.losses[is_clean], fit.losses[~is_clean]]
        axes.hist(
            parts,
            bins=bins,
            stacked=True,
            color=["tab:blue", "tab:orange"],
            alpha=0.7,
            label=["label is correct", "label is wrong"],
        )
    if fit.mixture is not None:
        grid = np.linspace(0.0, 1.0, 400)
        scale = len(fit.losses) * (bins[1] - bins[0])  # density to count per bin
        order = fit.mixture.means_.ravel().argsort()
        for component, name, style in zip(
            order, ("clean component", "noisy component"), ("-", "--")
        ):
            deviation = np.sqrt(fit.mixture.covariances_.ravel()[component])
            density = fit.mixture.weights_[component] * norm.pdf(
                grid, fit.mixture.means_.ravel()[component], deviation
            )
            axes.plot(grid, scale * density, style, color="black", linewidth=1.2, label=name)
    axes.set_yscale("log")
    axes.set_ylim(bottom=0.5)  # an empty bin has no logarithm
    axes.set(
        title="Loss on the noisy label, network 1",
        xlabel="normalised cross-entropy",
        ylabel="training samples",
    )
    axes.legend(fontsize=8)


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
    axes.legend(loc="lower right", fontsize=8)

"""Pictures of LRA-diffusion: retrieved labels, reverse diffusion, accuracies by epoch.

Pure functions of arrays and rows, PNG bytes out.
Letters: N training samples, M test images, C classes, K neighbours, k of them retrieved, S steps of
the reverse diffusion, H W pixels.
"""

import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, ScalarFormatter
from numpy.typing import NDArray

from lra_diffusion.run.report import Row

DPI = 150
# Okabe & Ito's colours, which colour-blind readers tell apart; each curve also has a line style of
# its own, for print.
BLUE, VERMILION, GREEN = "#0072B2", "#D55E00", "#009E73"
ORANGE, PURPLE, SKY = "#E69F00", "#CC79A7", "#56B4E9"
CURVES = (
    (BLUE, "-"),
    (VERMILION, "--"),
    (GREEN, "-."),
    (PURPLE, (0, (5, 1, 1, 1, 1, 1))),
    (ORANGE, (0, (3, 1))),
    (SKY, "-"),
)
GREY = "0.45"
FEW = 40  # points that are marked; a curve of one point is nothing else
NAME = 14  # characters of a class's name above a picture
NEAR = 8.0  # |y| beyond which the axis of the reverse diffusion becomes logarithmic

Labels = NDArray[np.int64]


def png(figure: Figure) -> bytes:
    """The picture as a file's content."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI)
    return buffer.getvalue()


# ---- retrieved labels


def retrieval_shares(
    neighbour_labels: Labels, own: Labels, clean: Labels, ks: Sequence[int]
) -> dict[str, NDArray[np.float64]]:
    """Share of correct labels by k, (len(ks),) each: drawn, drawn and weighted, majority vote.

    neighbour_labels: (N, K) noisy labels of the nearest neighbours, nearest first; own: (N,) noisy
    labels; clean: (N,). The candidates are the k nearest and the sample's own label. Drawn labels
    weigh as often as they are among the candidates, so that their influence is proportional to the
    square of that; of equal counts the lowest class wins.
    """
    rows = np.arange(len(own))
    num_classes = int(max(neighbour_labels.max(), own.max(), clean.max())) + 1
    counts = np.zeros((len(own), num_classes), np.int64)
    counts[rows, own] = 1
    shares: dict[str, list[float]] = {"drawn": [], "weighted": [], "vote": []}
    for k in range(1, max(ks) + 1):
        counts[rows, neighbour_labels[:, k - 1]] += 1
        if k in ks:
            right = counts[rows, clean]
            shares["drawn"].append(float(right.mean() / (k + 1)))
            shares["weighted"].append(float((right**2).sum() / (counts**2).sum()))
            shares["vote"].append(float((counts.argmax(axis=1) == clean).mean()))
    return {name: np.array(values) for name, values in shares.items()}


def retrieval_quality(
    title: str, neighbour_labels: Labels, own: Labels, clean: Labels, k: int
) -> bytes:
    """How many of the labels that training draws from are right, by the number of neighbours.

    neighbour_labels: (N, K) noisy labels, nearest first, K at least k; own: (N,) noisy labels;
    clean: (N,); k: the number of neighbours of the run.
    """
    ks = range(1, neighbour_labels.shape[1] + 1)
    shares = retrieval_shares(neighbour_labels, own, clean, ks)
    figure, (left, right) = _two_panels(title)
    left.axhline(100 * (own == clean).mean(), color=GREY, linestyle=":", label="noisy labels")
    names = {
        "drawn": "label drawn from the candidates",
        "weighted": "the same, weighted as in the loss",
        "vote": "majority vote of the candidates",
    }
    marker = "o" if len(ks) <= FEW else None
    for (name, label), (colour, style) in zip(names.items(), CURVES):
        how: dict[str, Any] = {
            "color": colour,
            "linestyle": style,
            "marker": marker,
            "markersize": 3,
        }
        left.plot(ks, 100 * shares[name], label=label, **how)
    left.axvline(k, color="black", linewidth=0.8, alpha=0.5, label=f"k = {k}, as in this run")
    left.set(
        title="Correct labels among training samples",
        xlabel="k, retrieved neighbours",
        ylabel="correct (%)",
    )
    left.set_xlim(0, max(ks) + 1)
    _whole_numbers(left)
    _percent(left)
    _legend_below(left)
    _agreement(right, (neighbour_labels[:, :k] == clean[:, None]).mean(axis=1), own == clean, k)
    return png(figure)


def agreement_histogram(
    agreement: NDArray[np.float64], k: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Percent of the samples in each bar (b,), and the bars' edges in percent (b + 1,).

    agreement: (N,) shares of k neighbours; a bar for each of the k + 1 possible ones, for large k
    21 in all.
    """
    bars = min(k + 1, 21)
    half = 0.5 / (bars - 1)
    edges = np.linspace(-half, 1 + half, bars + 1)
    return 100 * np.histogram(agreement, edges)[0] / len(agreement), 100 * edges


def _agreement(
    axes: Axes, agreement: NDArray[np.float64], is_clean: NDArray[np.bool_], k: int
) -> None:
    """Histograms of the share of neighbours with the clean label, (N,), of two kinds of samples."""
    kinds = (
        (is_clean, BLUE, "///", "noisy label is right"),
        (~is_clean, VERMILION, "\\\\\\", "noisy label is wrong"),
    )
    for chosen, colour, hatch, label in kinds:
        if chosen.any():
            heights, edges = agreement_histogram(agreement[chosen], k)
            centres, width = (edges[:-1] + edges[1:]) / 2, min(edges[1] - edges[0], 10.0)
            axes.bar(centres, heights, width, alpha=0.35, color=colour)
            outline: dict[str, Any] = {
                "edgecolor": colour,
                "facecolor": "none",
                "linewidth": 1.2,
                "hatch": hatch,
            }
            text = f"{label} ({chosen.sum():,})"
            axes.bar(centres, heights, width, label=text, **outline)
    axes.set(
        title=f"Neighbours with the true class as their label, k = {k}",
        xlabel="share of the neighbours (%)",
        ylabel="share of the samples of a kind (%)",
        xticks=range(0, 101, 20),
        xlim=(-6, 106),
        ylim=(0, None),
    )
    _legend_below(axes)


# ---- reverse diffusion


def ddim_trajectories(
    title: str,
    images: NDArray[np.uint8],
    points: NDArray[np.floating],
    times: Sequence[int],
    true: Labels,
    predicted: Labels,
    class_names: Sequence[str],
    truth: str = "true",
) -> bytes:
    """The label of each test image on its way back from the start to a class, beside the image.

    images: (M, H, W, 3); points: (S + 1, M, C) of y, the start first; times: (S + 1,) diffusion
    times of the points, falling; true, predicted: (M,) in [0, C); class_names: C; truth: what is
    known of `true`, else "given".
    """
    figure = Figure(figsize=(9, 0.9 + 1.55 * len(images)), layout="constrained")
    figure.suptitle(title)
    grid = figure.subplots(len(images), 2, width_ratios=(1, 5), squeeze=False)
    for row, (picture, axes) in enumerate(grid):
        picture.imshow(images[row], interpolation="nearest")
        picture.set(xticks=[], yticks=[])
        words = ("right", "wrong") if truth == "true" else ("as given", "other")
        verdict = words[int(predicted[row] != true[row])]
        names = [_short(class_names[label[row]]) for label in (true, predicted)]
        picture.set_title(f"{truth} {names[0]}\npredicted {names[1]}\n({verdict})", fontsize=7.5)
        _label_curves(axes, points[:, row], times, int(true[row]), int(predicted[row]), truth)
        if row < len(images) - 1:
            axes.tick_params(labelbottom=False)
    grid[-1, 1].set_xlabel("diffusion time t (steps of the forward process)")
    handles: dict[str, Artist] = {}
    for axes in grid[:, 1]:
        handles |= {label: handle for handle, label in zip(*axes.get_legend_handles_labels())}
    figure.legend([*handles.values()], [*handles], loc="outside lower center", ncols=4, fontsize=8)
    return png(figure)


def _label_curves(
    axes: Axes,
    points: NDArray[np.floating],
    times: Sequence[int],
    true: int,
    predicted: int,
    truth: str,
) -> None:
    """One image's y by time. points: (S + 1, C)."""
    others = [c for c in range(points.shape[1]) if c not in (true, predicted)]
    axes.axhline(1, color="black", linestyle=":", linewidth=0.8, label="1: the closest wins")
    lines = axes.plot(times, points[:, others], color="0.7", linewidth=0.8)
    if lines:
        lines[0].set_label("other classes")
    axes.plot(
        times,
        points[:, true],
        color=BLUE,
        linewidth=2,
        marker="o",
        markersize=3,
        label=f"{truth} class",
    )
    if predicted != true:
        axes.plot(
            times,
            points[:, predicted],
            color=VERMILION,
            linestyle="--",
            linewidth=2,
            marker="s",
            markersize=3,
            label="predicted instead",
        )
    axes.set(xlim=(1010, -10), ylabel="y (no unit)")
    finite = points[np.isfinite(points)]
    if len(finite) and np.abs(finite).max() > NEAR:  # or the dotted line would be all one sees
        axes.set_yscale("symlog", linthresh=2)
        top = 10.0 ** math.ceil(math.log10(np.abs(finite).max()))
        axes.set(ylim=(-2 * top, 2 * top), yticks=(-top, 0, top))
        axes.minorticks_off()


# ---- accuracies


def accuracy_curves(
    title: str,
    runs: Mapping[str, Sequence[Row]],
    votes: Mapping[str, float],
    labels: str = "clean",
) -> bytes:
    """Test accuracy by epoch.

    runs: rows of each run by name, epochs without evaluation left out; votes: accuracies (%);
    labels: what those of the test set are.
    """
    long = max(map(len, (*runs, *votes)), default=0) > 30
    lines = len(runs) + len(votes)
    columns = 1 if long else 2
    height = 4.2 + 0.2 * -(-lines // columns)  # the legend, below, takes nothing of the curves'
    figure = Figure(figsize=(7.5, max(4.8, height)), layout="constrained")
    axes = figure.subplots()
    for number, (name, rows) in enumerate(runs.items()):
        colour, style = CURVES[number % len(CURVES)]
        style = style if number < len(CURVES) else (0, (1 + number // len(CURVES), 1))
        evaluated = [
            (row["epoch"], row["accuracy"])
            for row in rows
            if row.get("accuracy") is not None and np.isfinite(row["accuracy"])
        ]
        epochs, accuracies = zip(*evaluated) if evaluated else ((), ())
        axes.plot(
            epochs,
            accuracies,
            color=colour,
            linestyle=style,
            marker="o" if len(epochs) <= FEW else None,
            markersize=3,
            label=f"{name}: last {accuracies[-1]:.2f} %" if evaluated else f"{name}: not tested",
        )
    for number, (name, accuracy) in enumerate(votes.items()):
        style = (":", (0, (1, 3)), (0, (4, 4)))[number % 3]
        axes.axhline(
            accuracy,
            color="black",
            linestyle=style,
            linewidth=1.2,
            label=f"{name}: {accuracy:.2f} %",
        )
    axes.set(xlabel="epoch", ylabel=f"test accuracy, {labels} labels (%)")
    axes.set_title(title, fontsize=12 if len(title) < 60 else 9, wrap=True)
    last = max((row["epoch"] for rows in runs.values() for row in rows), default=1)
    axes.set_xlim(0, last + max(1, 0.03 * last))
    _whole_numbers(axes)
    _percent(axes)
    axes.grid(alpha=0.3)
    figure.legend(loc="outside lower center", ncols=columns, fontsize=9)
    return png(figure)


def _short(name: str) -> str:
    return name if len(name) <= NAME else f"{name[: NAME - 3]}..."


def _percent(axes: Axes) -> None:
    """Between 0 and 100 with some air, at least two points high, with plain numbers."""
    if not any(np.size(line.get_xdata()) for line in axes.get_lines()):  # nothing was tested
        axes.set_ylim(-2, 102)
    low, high = axes.get_ylim()
    middle, half = (low + high) / 2, max((high - low) / 2, 1.0)
    axes.set_ylim(max(-2.0, middle - half), min(102.0, middle + half))
    plain = ScalarFormatter(useOffset=False)
    plain.set_scientific(False)
    axes.yaxis.set_major_formatter(plain)


def _legend_below(axes: Axes) -> None:
    """Beside the data, which a legend inside the axes would cover somewhere."""
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2, fontsize=8)


def _two_panels(title: str) -> tuple[Figure, tuple[Axes, Axes]]:
    figure = Figure(figsize=(11, 5.0), layout="constrained")
    figure.suptitle(title)
    left, right = figure.subplots(1, 2)
    for axes in (left, right):
        axes.grid(alpha=0.3)
    return figure, (left, right)


def _whole_numbers(axes: Axes) -> None:
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))

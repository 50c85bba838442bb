"""Pictures of samples: what a trained network makes of right and wrong labels. PNG bytes out.

Shapes: N samples, C classes, K intervals, D = 2 dimensions of a map.
"""

import io
from collections.abc import Sequence

import matplotlib

matplotlib.use("Agg")  # no display

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

DPI = 100  # sizes in pixels are part of what re-sln publishes
EDGES = np.linspace(0.0, 1.0, 100)
# Bottom to top: name, colour, and of which samples: (the noisy label is right, the prediction is).
DISSECTION = (
    ("label wrong, prediction wrong", "blue", (False, False)),
    ("label wrong, prediction right", "yellow", (False, True)),
    ("label right, prediction wrong", "green", (True, False)),
    ("label right, prediction right", "red", (True, True)),
)
# Where nobody knows which labels are right, a prediction can only be compared with the noisy label.
UNKNOWN_TRUTH = (
    ("prediction is not the noisy label", "green", (True, False)),
    ("prediction is the noisy label", "red", (True, True)),
)


def png(figure: Figure, dpi: int = DPI) -> bytes:
    """The picture as a file's content; closes the figure."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    plt.close(figure)
    return buffer.getvalue()


# ---- what plot.py draws


def probability_counts(
    confidence: NDArray[np.floating], chosen: NDArray[np.bool_]
) -> NDArray[np.int64]:
    """Counts (99,) of the chosen samples between EDGES.

    confidence: (N,) largest softmax outputs; chosen: (N,).
    """
    return np.histogram(confidence[chosen], bins=EDGES)[0]


def prediction_probabilities(
    title: str, confidence: NDArray[np.floating], is_clean: NDArray[np.bool_] | None
) -> bytes:
    """Histograms of the largest softmax output of clean and noisy samples.

    is_clean: (N,), None where unknown.
    """
    if is_clean is None:
        parts = [("Training samples", "grey", np.ones(len(confidence), bool))]
    else:
        parts = [("Clean", "blue", is_clean), ("Noisy", "red", ~is_clean)]
    figure, axes = _small(title)
    for name, colour, chosen in parts:
        axes.stairs(
            probability_counts(confidence, chosen),
            EDGES,
            fill=True,
            color=colour,
            alpha=0.5,
            linewidth=0,
            label=name,
        )
    axes.set(
        xlabel="Prediction probability", ylabel="Number of samples", xticks=[0, 0.25, 0.5, 0.75, 1]
    )
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid()
    figure.legend(loc="outside lower center", ncols=2, fontsize=8)
    return png(figure)


def interval_size(count: int) -> int:
    """Samples in an interval of `dissection_stairs`: 1,000 as published, of few a fiftieth."""
    return 1000 if count >= 5000 else max(1, count // 50)


def dissection_stairs(
    losses: NDArray[np.floating],
    label_right: NDArray[np.bool_],
    prediction_right: NDArray[np.bool_],
    size: int,
) -> NDArray[np.int64]:
    """Heights (4, K) of the areas of DISSECTION, stacked, in intervals of `size` samples by loss.

    All inputs: (N,). The samples are sorted by loss, smallest first; K = ceil(N / size), the last
    interval may be shorter.
    """
    starts = np.arange(0, len(losses), size)
    order = np.argsort(losses, kind="stable")
    kinds = [
        (label_right == label) & (prediction_right == prediction)
        for _, _, (label, prediction) in DISSECTION
    ]
    return np.cumsum(
        [np.add.reduceat(kind[order].astype(np.int64), starts) for kind in kinds], axis=0
    )


def sample_dissection(
    title: str,
    losses: NDArray[np.floating],
    label_right: NDArray[np.bool_] | None,
    prediction_right: NDArray[np.bool_],
) -> bytes:
    """What share of samples is labelled and predicted rightly, by loss.

    All inputs: (N,); label_right: None where unknown, prediction_right is then against the noisy
    label.
    """
    size = interval_size(len(losses))
    known = np.ones(len(losses), bool) if label_right is None else label_right
    stairs = dissection_stairs(losses, known, prediction_right, size)
    names = {
        colour: name
        for name, colour, _ in (DISSECTION if label_right is not None else UNKNOWN_TRUTH)
    }
    figure, axes = _small(title)
    edges, below = np.arange(stairs.shape[1] + 1), np.zeros(stairs.shape[1])
    for (_, colour, _), heights in zip(DISSECTION, stairs):
        if colour in names:
            axes.stairs(
                heights, edges, baseline=below, fill=True, color=colour, label=names[colour]
            )
            below = heights
    intervals = "Intervals" if size == 1000 else f"Intervals of {size} samples"
    axes.set(
        xlim=(0, stairs.shape[1]),
        ylim=(0, size),
        xlabel=f"{intervals} (loss ↑)",
        ylabel="Number of samples",
    )
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles[::-1], labels[::-1], loc="outside lower center", ncols=2, fontsize=6.5)
    return png(figure)


def feature_map(
    title: str,
    points: NDArray[np.floating],
    labels: NDArray[np.int64],
    names: Sequence[str],
    *,
    tested: bool = True,
) -> bytes:
    """Samples as dots, coloured by class. points: (N, 2); labels: (N,) in [0, C); names: C.

    tested: they are test samples with their classes, else training samples with their noisy labels.
    """
    samples, class_kind = ("test", "true class") if tested else ("training", "noisy label")
    figure, axes = plt.subplots(figsize=(7, 5.5), layout="constrained")
    figure.suptitle(title)
    few = len(names) <= 20
    colours = plt.get_cmap("tab10" if len(names) <= 10 else "tab20" if few else "turbo", len(names))
    dots = axes.scatter(
        points[:, 0], points[:, 1], c=labels, s=6, cmap=colours, vmin=-0.5, vmax=len(names) - 0.5
    )
    if few:
        for label, name in enumerate(names):
            axes.scatter([], [], color=colours(label), s=30, label=name)
        axes.legend(title=class_kind, loc="center left", bbox_to_anchor=(1, 0.5))
    else:
        figure.colorbar(dots, label=f"{class_kind}, by number")
    axes.set(
        title=f"{len(points)} {samples} samples: features before the classifier, t-SNE",
        xticks=[],
        yticks=[],
    )
    axes.set(xlabel="t-SNE 1 (no unit)", ylabel="t-SNE 2 (no unit)")
    return png(figure)


def _small(title: str) -> tuple[Figure, Axes]:
    """re-sln's 4 x 4 inches. The title spans the picture, for it may be wider than the axes."""
    figure, axes = plt.subplots(figsize=(4, 4), layout="constrained")
    figure.suptitle(title, fontsize=9)
    return figure, axes


# ---- what viz.py draws


def panels(images: Sequence[NDArray[np.uint8] | None], titles: Sequence[str]) -> bytes:
    """32 images (H, W, 3) in four rows of eight, 2400 x 800 pixels; None leaves a place empty."""
    figure, grid = plt.subplots(4, 8, figsize=(24, 8), layout="tight")
    for axes, image, title in zip(grid.flat, images, titles):
        axes.axis("off")
        if image is not None:
            axes.imshow(image)
            axes.set_title(title)
    return png(figure)

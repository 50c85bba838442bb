"""How pictures are laid out and written, and the curves of several runs."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")  # no display

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.ticker import MaxNLocator

from instancegm.run.errors import UsageError
from shared.files import write_atomically
from shared.runs.run import Evaluation

SHORT = 25  # characters of a label, up to which two stand side by side
FEW = 40  # epochs, up to which each has a marker
STYLES = ("-", "--", ":", "-.")  # the colours repeat after ten runs


def show_epochs(axes: Axes, epochs: Sequence[float]) -> None:
    """An axis of epochs with ticks at whole numbers, and room around a single one."""
    room = max(0.5, 0.03 * (max(epochs) - min(epochs)))
    axes.set_xlim(min(epochs) - room, max(epochs) + room)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set(xlabel="epoch", ylabel="top-1 (%)")


def marker_size(epochs: Sequence[float]) -> float:
    """Of the points of a curve: one alone has no line beside it, and hundreds need no marker."""
    return 6.0 if len(epochs) == 1 else 3.0 if len(epochs) <= FEW else 0.0


def legend_below(part: Figure | SubFigure) -> None:
    """A legend outside the axes, where it hides nothing."""
    handles, labels = part.axes[0].get_legend_handles_labels()
    if not labels:
        return
    columns = 2 if len(labels) > 1 and max(map(len, labels)) <= SHORT else 1
    part.legend(handles, labels, loc="outside lower center", ncols=columns, fontsize=8)


def save(figure: Figure, path: Path) -> None:
    """Writes the picture and closes it. The suffix says the format; .png without one."""
    try:
        formats = figure.canvas.get_supported_filetypes()
        suffix = path.suffix[1:].lower() or "png"
        if suffix not in formats:
            raise UsageError(f"{path}: a picture ends in .{', .'.join(sorted(formats))}")
        picture = io.BytesIO()
        figure.savefig(picture, format=suffix, dpi=120)
    finally:
        plt.close(figure)
    write_atomically(path, picture.getvalue())


def curves(runs: Mapping[str, Sequence[Evaluation]]) -> Figure:
    """Test accuracy of each run, which has at least one, by epoch."""
    height = 4.0 + 0.2 * len(runs)  # the legend has a line for each
    figure = plt.figure(figsize=(7, height), layout="constrained")
    axes = figure.add_subplot()
    for number, (name, evaluations) in enumerate(runs.items()):
        epochs, accuracies = zip(*evaluations)
        axes.plot(
            epochs,
            accuracies,
            STYLES[number // 10 % len(STYLES)],
            marker="o",
            markersize=marker_size(epochs),
            linewidth=1.2,
            label=f"{name}: last {accuracies[-1]:.2f}",
        )
    axes.set_title("Test accuracy on clean labels, trained on noisy ones")
    show_epochs(axes, [one.epoch for evaluations in runs.values() for one in evaluations])
    legend_below(figure)
    return figure

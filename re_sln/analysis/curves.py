"""Pictures of whole runs: figures by epoch, accuracy by sigma. PNG bytes out.

Rows are those of metrics.jsonl: one an epoch, accuracies in percent, None (or nothing) where a
figure is not known.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import matplotlib

matplotlib.use("Agg")  # no display

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from re_sln.analysis.sample_figures import png
from re_sln.method.train import Row
from re_sln.run.report import summary

Rows = Sequence[Row]
FEW = 30  # values of a line that are dots too
ZOOMED = 3  # the last third of the epochs
COLOURS = {"sym": "tab:blue", "asym": "tab:orange", "dependent": "tab:green", "openset": "tab:red"}
SPARE_COLOURS = ["tab:purple", "tab:brown", "tab:pink", "tab:olive", "tab:cyan", "black"]
LOSS_PARTS = (
    ("clean samples", "loss_train_clean", "-"),
    ("noisy samples", "loss_train_noisy", "--"),
)


def column(rows: Rows, name: str) -> NDArray[np.float64]:
    """A figure by epoch, (E,); NaN where it is not known."""
    return np.array([np.nan if row.get(name) is None else row[name] for row in rows], float)


def mean_and_std(
    runs: Sequence[Rows], name: str
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Epochs (E,), mean (E,) and population standard deviation (E,) over runs of E epochs each."""
    values = np.stack([column(rows, name) for rows in runs])
    return np.array([row["epoch"] for row in runs[0]]), values.mean(axis=0), values.std(axis=0)


def _drawn(
    axes: Axes, epochs: Any, values: NDArray[np.float64], style: str = "-", **of: Any
) -> Any:
    """A line through the known values; few of them are dots too, for a single one has no line."""
    known = ~np.isnan(values)
    marker = "o" if known.sum() == 1 else "." if known.sum() < FEW else None
    return axes.plot(np.asarray(epochs)[known], values[known], style, marker=marker, **of)[0]


def compare(runs: Mapping[str, Rows]) -> bytes:
    """Test accuracy, training loss and training accuracy of several runs, by name."""
    figure, (tested, loss, trained) = plt.subplots(1, 3, figsize=(16, 5), layout="constrained")
    styles: dict[str, str] = {}
    for name, rows in runs.items():
        epochs = [row["epoch"] for row in rows]
        accuracies = column(rows, "accuracy")
        label = f"{name}: no test set"
        if not np.isnan(accuracies).all():
            label = f"{name}: last {summary(rows)['last']:.2f} %"
        line = _drawn(tested, epochs, accuracies, label=label)
        last_base = rows[-1].get("accuracy_test_base")
        if "mo" in name.split("-") and last_base is not None:  # it is SLN, without its average
            base, label = column(rows, "accuracy_test_base"), "its network, without averaging"
            label += f": last {last_base:.2f} %"
            _drawn(tested, epochs, base, ":", color=line.get_color(), linewidth=1, label=label)
        _drawn(trained, epochs, column(rows, "accuracy_train"), color=line.get_color())
        styles |= _losses(loss, epochs, rows, line.get_color())
    tested.set(title="Test accuracy, against the labels of the test set", ylabel="top-1 (%)")
    if all(np.isnan(column(rows, "accuracy")).all() for rows in runs.values()):
        tested.text(0.5, 0.5, "no test set", transform=tested.transAxes, ha="center")
        tested.set(yticks=[])
    loss.set(title="Training loss", ylabel="cross-entropy, noise of SLN included")
    trained.set(
        title="Training accuracy, against the noisy labels\n(after label correction: the "
        "corrected ones)",
        ylabel="top-1 (%)",
    )
    _name_styles(loss, styles)
    for axes in (tested, loss, trained):
        _epochs_below(axes)
    shown = [axes.get_legend_handles_labels() for axes in (tested, loss)]
    handles, labels = (first + second for first, second in zip(*shown))
    ncols = 2 if len(labels) < 9 else 3
    figure.legend(handles, labels, loc="outside lower center", ncols=ncols, fontsize=9)
    return png(figure)


def accuracy_by_epoch(title: str, groups: Mapping[str, Sequence[Rows]], zoom: bool) -> bytes:
    """Test accuracy of groups of runs, mean ± standard deviation; zoom: the last third only."""
    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    drawn: list[float] = []
    colours = _colours(groups)
    for name, runs in groups.items():
        epochs, mean, std = mean_and_std(runs, "accuracy")
        shown = slice(-max(2, len(epochs) // ZOOMED), None) if zoom else slice(None)
        label = _counted(name, runs, "mean ± std")
        line = _drawn(
            axes, epochs[shown], mean[shown], label=label, color=colours[name], linewidth=1.2
        )
        if len(runs) > 1:
            axes.fill_between(
                epochs[shown],
                (mean - std)[shown],
                (mean + std)[shown],
                color=line.get_color(),
                alpha=0.2,
            )
        drawn += mean[shown][~np.isnan(mean[shown])].tolist()
    if zoom and drawn:
        margin = max(0.5, 0.05 * (max(drawn) - min(drawn)))
        axes.set_ylim(min(drawn) - margin, max(drawn) + margin)
    last = len(next(iter(groups.values()))[0])
    axes.set(
        title=title
        + (f", epochs {last - max(2, last // ZOOMED) + 1} to {last}" if zoom and last > 2 else ""),
        ylabel="test accuracy (%)",
    )
    _epochs_below(axes)
    _legend_below(figure)
    return png(figure)


def loss_by_epoch(title: str, groups: Mapping[str, Sequence[Rows]]) -> bytes:
    """Training loss of groups of runs, clean samples solid, noisy ones dashed, unknown dotted."""
    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    colours = _colours(groups)
    styles: dict[str, str] = {}
    for name, runs in groups.items():
        means = {
            key: mean_and_std(runs, key)[1]
            for key in ("loss_train", *(key for _, key, _ in LOSS_PARTS))
        }
        epochs = [row["epoch"] for row in runs[0]]
        rows = [{key: values[i] for key, values in means.items()} for i in range(len(epochs))]
        axes.plot([], [], color=colours[name], label=_counted(name, runs, "mean"))
        styles |= _losses(axes, epochs, rows, colours[name])
    axes.set(title=title, ylabel="training loss, SLN's noise included")
    _name_styles(axes, styles)
    _epochs_below(axes)
    _legend_below(figure)
    return png(figure)


def accuracy_by_sigma(title: str, accuracies: Mapping[float, Sequence[float]]) -> bytes:
    """Last test accuracy by sigma, mean ± standard deviation; the best mean is marked."""
    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    sigmas = sorted(accuracies)
    means, stds = (np.array([f(accuracies[sigma]) for sigma in sigmas]) for f in (np.mean, np.std))
    runs = max(len(values) for values in accuracies.values())
    axes.errorbar(
        sigmas,
        means,
        yerr=stds,
        marker="o",
        capsize=3,
        label=f"mean ± std, up to {runs} runs" if runs > 1 else "one run each",
    )
    best = int(means.argmax())
    axes.plot(
        sigmas[best],
        means[best],
        "*",
        color="tab:red",
        markersize=14,
        label=f"best: σ = {sigmas[best]:g}, {means[best]:.2f} %",
    )
    axes.set(
        title=title,
        xlabel="σ of stochastic label noise (0: cross-entropy)",
        ylabel="test accuracy, last epoch (%)",
    )
    axes.grid(alpha=0.3)
    _legend_below(figure)
    return png(figure)


def sigma_search(title: str, results: Mapping[float, Rows], best: float) -> bytes:
    """Validation accuracies of a search by epoch, and the last ones by sigma; best: is marked."""
    figure, (by_epoch, by_sigma) = plt.subplots(1, 2, figsize=(11, 4.5), layout="constrained")
    figure.suptitle(title)
    for sigma, rows in sorted(results.items()):
        epochs = [row["training_iteration"] for row in rows]
        accuracies = column(rows, "accuracy_val")
        _drawn(by_epoch, epochs, accuracies, label=f"sigma = {sigma:g}")
    by_epoch.set(title="during training", xlabel="epoch", ylabel="validation accuracy (fraction)")
    _whole_epochs(by_epoch)
    last = {sigma: rows[-1]["accuracy_val"] for sigma, rows in sorted(results.items())}
    by_sigma.plot(list(last), list(last.values()), marker="o", label="last epoch")
    chosen = f"chosen: sigma = {best:g}, {last[best]:.4f}"
    by_sigma.plot(best, last[best], "r*", markersize=16, label=chosen)
    by_sigma.set_xscale("log")
    by_sigma.set_xticks(list(last), [f"{sigma:g}" for sigma in last])
    by_sigma.minorticks_off()
    by_sigma.set(title="after training", xlabel="sigma", ylabel="validation accuracy (fraction)")
    figure.legend(loc="outside lower center", ncols=3, fontsize=8)
    return png(figure, dpi=120)


def _losses(axes: Axes, epochs: Sequence[int], rows: Rows, colour: object) -> dict[str, str]:
    """Draws the training loss by kind of sample, if known; the kinds drawn, with their styles."""
    parts = {kind: (column(rows, name), style) for kind, name, style in LOSS_PARTS}
    if all(np.isnan(values).all() for values, _ in parts.values()):
        parts = {"all samples": (column(rows, "loss_train"), ":")}
    for values, style in parts.values():
        _drawn(axes, epochs, values, style, color=colour, linewidth=1.2)
    return {kind: style for kind, (_, style) in parts.items()}


def _name_styles(axes: Axes, styles: Mapping[str, str]) -> None:
    """Entries for the legend: which line is which kind of sample."""
    for kind, style in styles.items():
        axes.plot([], [], style, color="black", label=kind)


def _counted(name: str, runs: Sequence[Rows], what: str) -> str:
    return name if len(runs) == 1 else f"{name} ({what} of {len(runs)} runs)"


def _colours(names: Iterable[str]) -> dict[str, str]:
    """A colour for each name: the usual one for the paper's kinds of noise, else a spare one."""
    spare = iter(SPARE_COLOURS * 10)
    return {name: COLOURS.get(name) or next(spare) for name in names}


def _epochs_below(axes: Axes) -> None:
    axes.set_xlabel("epoch")
    _whole_epochs(axes)
    axes.grid(alpha=0.3)


def _legend_below(figure: Figure) -> None:
    """A legend that hides no curve: under the axes, in as many columns as its names leave room."""
    labels = [label for axes in figure.axes for label in axes.get_legend_handles_labels()[1]]
    ncols = 2 if max(map(len, labels), default=0) < 36 else 1
    figure.legend(loc="outside lower center", ncols=ncols, fontsize=8)


def _whole_epochs(axes: Axes) -> None:
    """Ticks at whole epochs; a single one is in the middle, half an epoch to each side."""
    first, last = axes.dataLim.intervalx
    if last > first:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    else:  # or no epoch at all, whose limits are infinite
        middle = round(first) if np.isfinite(first) else 1
        axes.set(xlim=(middle - 0.5, middle + 0.5), xticks=[middle])

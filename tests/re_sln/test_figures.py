"""Every figure on extreme input: everything is visible, ticks fit, legends hide nothing."""

import warnings
from collections.abc import Iterator
from itertools import pairwise

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from re_sln.analysis import curves, sample_figures


@pytest.fixture
def figures(monkeypatch) -> Iterator[list[Figure]]:
    """What is drawn; a warning of numpy or matplotlib fails the test."""
    drawn: list[Figure] = []

    def keep(figure: Figure, dpi: int = 100) -> bytes:
        drawn.append(figure)  # `check` draws it
        return b""

    for module in (curves, sample_figures):
        monkeypatch.setattr(module, "png", keep)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield drawn
    plt.close("all")


def row(epoch, accuracy=50.0, loss=1.0, **more):
    parts = {"loss_train_clean": loss, "loss_train_noisy": loss}
    known = {"accuracy_train": accuracy, "accuracy_val": accuracy, "training_iteration": epoch}
    return {"epoch": epoch, "accuracy": accuracy, "loss_train": loss, **parts, **known, **more}


RUNS = {
    "one epoch": [row(1)],
    "two equal epochs": [row(1), row(2)],
    "huge range": [row(1, 0.0, 1e-9), row(2, 100.0, 1e12), row(3, 50.0, -1e6)],
    "300 epochs": [row(epoch, epoch / 3, 1 / epoch) for epoch in range(1, 301)],
    "evaluated every fifth": [row(e, 10.0 * e if e % 5 == 0 else None) for e in range(1, 11)],
    "unknown truth": [row(1, loss_train_clean=None, loss_train_noisy=None)],
}


def check(figure: Figure) -> None:
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    renderer = canvas.get_renderer()
    assert all(axes.get_legend() is None or is_outside(axes, renderer) for axes in figure.axes)
    for legend in figure.legends:
        box = legend.get_window_extent(renderer)
        assert box.x0 >= 0
        assert box.y0 >= 0
        assert box.x1 <= figure.bbox.x1
        for axes in figure.axes:
            assert not box.overlaps(axes.get_tightbbox(renderer)), "a legend lies over axes"
    for axes in figure.axes:
        if not axes.axison:
            continue
        assert np.isfinite([*axes.get_xlim(), *axes.get_ylim()]).all()
        for line in axes.get_lines():
            points = line.get_xydata()
            points = points[np.isfinite(points).all(axis=1)]
            assert len(points) != 1 or line.get_marker() not in ("None", None, ""), "invisible"
            x, y = sorted(axes.get_xlim()), sorted(axes.get_ylim())
            if axes.get_title() and "epochs" not in axes.get_title():
                assert all(x[0] <= px <= x[1] and y[0] <= py <= y[1] for px, py in points)
        if axes.get_xlabel() == "epoch":
            low, high = axes.get_xlim()
            ticks = [tick for tick in axes.get_xticks() if low <= tick <= high]
            assert ticks
            assert all(tick == round(tick) for tick in ticks)


def is_outside(axes, renderer) -> bool:
    box = axes.get_legend().get_window_extent(renderer)
    return not box.overlaps(axes.get_window_extent(renderer))


@pytest.mark.parametrize("name", RUNS)
def test_curves_by_epoch(figures, name):
    runs = RUNS[name]
    curves.compare({"digits-sln-mo": [{**each, "accuracy_test_base": 1.0} for each in runs]})
    curves.accuracy_by_epoch("title", {"sym": [runs, runs], "asym": [runs]}, False)
    curves.accuracy_by_epoch("title", {"sym": [runs]}, True)
    curves.loss_by_epoch("title", {"sym": [runs, runs], "asym": [runs]})
    curves.sigma_search("title", {0.1: runs, 1.0: runs}, 1.0)
    assert len(figures) == 5
    for figure in figures:
        check(figure)


def test_many_runs_and_long_names(figures):
    names = [f"cifar100-sln-mo-lc-dependent-paper-0.4 (runs/number {i})" for i in range(9)]
    curves.compare({name: RUNS["300 epochs"] for name in names})
    curves.accuracy_by_epoch("title", {name: [RUNS["one epoch"]] for name in names[:6]}, False)
    for figure in figures:
        check(figure)


@pytest.mark.parametrize("accuracies", [{0.0: [50.0]}, {0.0: [0.0, 100.0], 0.1: [50.0], 9.0: [1]}])
def test_accuracy_by_sigma(figures, accuracies):
    curves.accuracy_by_sigma("title", accuracies)
    curves.sigma_search("title", {0.1: [row(1, 0.5)]}, 0.1)
    for figure in figures:
        check(figure)
    ticks = figures[1].axes[1].get_xticklabels()
    assert [tick.get_text() for tick in ticks] == ["0.1"]


ALL, NONE = np.ones(60, bool), np.zeros(60, bool)


@pytest.mark.parametrize("count", [1, 7, 60])
@pytest.mark.parametrize("flags", [ALL, NONE, None], ids=["all", "none", "unknown"])
def test_probabilities_and_losses_of_samples(figures, count, flags):
    known = None if flags is None else flags[:count]
    for confidence in (np.ones(count), np.linspace(0, 1, count)):
        sample_figures.prediction_probabilities("a-title-as-long-as-they-get", confidence, known)
    for losses in (np.ones(count), np.logspace(-9, 9, count), np.full(count, np.nan)):
        sample_figures.sample_dissection("title", losses, known, ALL[:count])
    for figure in figures:
        check(figure)
        (axes,) = figure.axes
        assert axes.get_ylim()[1] > 0
        ticks = {*axes.get_yticks(), *(axes.get_xticks() if figure in figures[2:] else ())}
        assert all(tick == round(tick) for tick in ticks)


@pytest.mark.parametrize("classes", [1, 10, 20, 100])
def test_a_feature_map(figures, classes):
    names = [f"class_with_a_name_{k}" for k in range(classes)]
    for points in (np.zeros((5, 2)), np.array([[0, 0], [1e6, 1e-6]] * 3)):
        sample_figures.feature_map("title", points, np.arange(len(points)) % classes, names)
    for figure in figures:
        check(figure)


def test_titles_of_panels_do_not_touch(figures):
    images = [np.zeros((32, 32, 3), np.uint8)] * 32
    sample_figures.panels(images, ["dirty:pickup_truck (lawn_mower)", "clean:cat"] * 16)
    (figure,) = figures
    FigureCanvasAgg(figure).draw()
    boxes = [axes.title.get_window_extent() for axes in figure.axes]
    assert not any(a.overlaps(b) for a, b in pairwise(boxes))

"""The figures behind the pictures against counting by hand; that pictures come out is checked by
their size.
"""

import struct
from collections import Counter

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from lra_diffusion.analysis import figures


def size_of(png):
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    return struct.unpack(">II", png[16:24])


@pytest.fixture
def labels():
    """Of 30 samples: labels of 12 neighbours, given and clean labels in [0, 4)."""
    rng = np.random.default_rng(0)
    clean = rng.integers(0, 4, 30)
    near = np.where(rng.random((30, 12)) < 0.6, clean[:, None], rng.integers(0, 4, (30, 12)))
    return near, np.where(rng.random(30) < 0.5, clean, (clean + 1) % 4), clean


def test_shares_of_correct_labels_are_what_counting_gives(labels):
    near, own, clean = labels
    shares = figures.retrieval_shares(near, own, clean, (1, 5, 12))
    for position, k in enumerate((1, 5, 12)):
        drawn, right_weight, weight, votes = 0, 0, 0, 0
        for i in range(len(own)):
            candidates = [*near[i, :k].tolist(), int(own[i])]
            drawn += sum(label == clean[i] for label in candidates) / (k + 1)
            # Each is drawn with the same probability and then weighs as its count.
            for label in candidates:
                weight += candidates.count(label)
                right_weight += candidates.count(label) * (label == clean[i])
            counts = Counter(candidates)
            votes += min(counts, key=lambda label: (-counts[label], label)) == clean[i]
        assert shares["drawn"][position] == pytest.approx(drawn / len(own))
        assert shares["weighted"][position] == pytest.approx(right_weight / weight)
        assert shares["vote"][position] == votes / len(own)


@pytest.mark.training  # slow
def test_pictures_of_retrieval(labels):
    near, own, clean = labels
    assert size_of(figures.retrieval_quality("noise", near, own, clean, 10)) == (1650, 750)
    figures.retrieval_quality("no label is wrong, one neighbour", near[:, :1], clean, clean, 1)
    agreement = figures.agreement_histogram(np.array([0.0, 0.5, 0.5, 1.0]), 2)
    assert [share.tolist() for share in agreement] == [
        [25.0, 50.0, 25.0],
        [-25.0, 25.0, 75.0, 125.0],
    ]


@pytest.mark.training  # slow
@pytest.mark.parametrize(("images", "classes"), [(1, 2), (2, 20)])
def test_pictures_of_trajectories(images, classes):
    rng = np.random.default_rng(0)
    points = rng.normal(size=(4, images, classes))
    true, names = np.arange(images) % classes, [f"class {c}" for c in range(classes)]
    pixels = rng.integers(0, 256, (images, 32, 32, 3)).astype(np.uint8)
    picture = figures.ddim_trajectories(
        "y", pixels, points, (667, 334, 1, 0), true, (true + 1) % classes, names
    )
    width, height = size_of(picture)
    assert width == 1350
    assert height == pytest.approx(150 * (0.9 + 1.55 * images), abs=1)


@pytest.fixture
def drawn(monkeypatch):
    """The figures that were drawn, instead of their files."""
    found = []

    def keep(figure):
        FigureCanvasAgg(figure).draw()
        found.append(figure)
        return b""

    monkeypatch.setattr(figures, "png", keep)
    return found


def check(figure):
    """Finite limits, whole ticks where they count something, and no legend over the axes."""
    renderer = figure.canvas.get_renderer()
    boxes = [legend.get_window_extent(renderer) for legend in figure.legends]
    for axes in figure.axes:
        assert np.isfinite([*axes.get_xlim(), *axes.get_ylim()]).all()
        if axes.get_xlabel().startswith(("epoch", "k,")):
            assert all(float(tick).is_integer() for tick in axes.get_xticks())
        if "%" in axes.get_ylabel() and "kind" not in axes.get_ylabel():
            assert -2 <= axes.get_ylim()[0] < axes.get_ylim()[1] <= 102
        if (legend := axes.get_legend()) is not None:
            boxes.append(legend.get_window_extent(renderer))
        for curve in axes.get_lines():
            if len(curve.get_xdata()) == 1:  # a curve of one point is only its marker
                assert curve.get_marker() not in ("None", None, "")
    for box in boxes:
        assert 0 <= box.x0 <= box.x1 <= figure.bbox.width
        assert not any(box.overlaps(axes.get_window_extent(renderer)) for axes in figure.axes)


def accuracies(*values):
    return [{"epoch": epoch, "accuracy": value} for epoch, value in enumerate(values, start=1)]


EXTREME = {
    "one epoch": ({"CE": accuracies(70.0)}, {"vote": 70.0}),
    "no number": ({"CE": accuracies(None, float("nan")), "LRA": accuracies(50.0)}, {}),
    "nothing tested": ({"CE": accuracies(None, None)}, {}),
    "all equal": ({"CE": accuracies(100.0, 100.0, 100.0)}, {}),
    "from 0 to 100": ({"CE": accuracies(0.0, 100.0)}, {"vote": 0.0}),
    "many long names": (
        {f"LRA-diffusion (SimCLR), a long folder name {i}": accuracies(50 + i) for i in range(13)},
        {},
    ),
}


@pytest.mark.parametrize("kind", EXTREME)
def test_accuracies_of_extreme_runs(kind, drawn):
    figures.accuracy_curves("a title " * 12, *EXTREME[kind])
    check(drawn[0])
    if kind == "many long names":  # each can be told from the others
        styles = {
            (line.get_color(), line._dash_pattern[1] and tuple(line._dash_pattern[1]))
            for line in drawn[0].axes[0].get_lines()
        }
        assert len(styles) == 13


@pytest.mark.parametrize(("k", "classes"), [(1, 1), (1, 4), (60, 2)])
def test_retrieval_of_extreme_sets(k, classes, drawn):
    rng = np.random.default_rng(0)
    clean, near = rng.integers(0, classes, 30), rng.integers(0, classes, (30, k))
    figures.retrieval_quality("a title", near, clean, clean, k)
    check(drawn[0])
    left, right = drawn[0].axes
    assert left.get_xlim() == (0, k + 1)
    assert -10 <= right.get_xlim()[0] < right.get_xlim()[1] <= 110


def test_trajectories_of_a_diverged_predictor(drawn):
    rng = np.random.default_rng(0)
    points = rng.normal(size=(4, 3, 2))
    points[:, 1] *= 1e12
    points[2, 2] = np.nan
    names = ["a class with quite a long name", "b"]
    labels = np.array([0, 1, 0])
    pixels = np.zeros((3, 32, 32, 3), np.uint8)
    figures.ddim_trajectories("y", pixels, points, (667, 334, 1, 0), labels, 1 - labels, names)
    check(drawn[0])
    diverged = drawn[0].axes[3]
    assert len(diverged.get_yticks()) == 3
    width = drawn[0].axes[1].get_window_extent().x0  # the curves begin right of the picture's title
    assert drawn[0].axes[0].title.get_window_extent().x1 < width


def test_pictures_of_accuracies_leave_out_what_was_not_evaluated():
    rows = [
        {"epoch": epoch, "accuracy": None if epoch % 2 else 50.0 + epoch} for epoch in range(1, 9)
    ]
    many = {f"run {number}": rows for number in range(8)}
    assert size_of(figures.accuracy_curves("curves", many, {"vote": 62.5, "other vote": 40.0})) == (
        1125,
        780,
    )
    figures.accuracy_curves("nothing evaluated", {"run": rows[:1]}, {"vote": 62.5})

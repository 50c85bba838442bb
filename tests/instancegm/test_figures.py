"""Pictures of extreme runs: axes that show the data, legends that hide none of it."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from instancegm.analysis import figures, plots
from instancegm.method.mixture import fit_clean_prob, normalise
from shared.runs.run import Evaluation

RNG = np.random.default_rng(0)
NAN = float("nan")


def fit(losses):
    return fit_clean_prob(normalise(np.asarray(losses, dtype=np.float32)), seed=0)


def rows(accuracies, warm_up=1):
    return [
        {
            "epoch": epoch,
            "phase": "warm_up" if epoch < warm_up else "co_divide",
            "accuracy_1": accuracy,
            "accuracy_2": accuracy,
            "accuracy": accuracy,
        }
        for epoch, accuracy in enumerate(accuracies)
    ]


TWO_BUMPS = np.concatenate([RNG.gamma(0.3, 0.05, 700), RNG.normal(4, 0.6, 400)])
RUNS = {
    "usual": (rows(np.linspace(20, 99, 25), 10), fit(TWO_BUMPS), np.arange(1100) < 700),
    "one epoch": (rows([10.0]), fit(TWO_BUMPS), None),
    "no warm-up": (rows([10.0, 12.0], 0), fit(TWO_BUMPS), None),
    "equal losses": (rows([10.0, 10.0]), fit(np.ones(50)), np.arange(50) < 25),
    "huge range": (rows(np.arange(301) / 3), fit([*RNG.random(49_000), 1e30]), None),
    "one kind of label": (rows([50.0, 60.0]), fit(RNG.random(8)), np.ones(8, bool)),
    "no accuracy": (rows([NAN, NAN]), fit(RNG.random(3)), np.array([True, True, False])),
    "no test set": (rows([None, None]), fit(RNG.random(30)), None),
    "some accuracy": (rows([NAN, 50.0]), fit(RNG.random(3)), None),
}


def drawn(figure):
    figure.draw_without_rendering()
    return figure.axes


def assert_nothing_is_hidden(figure):
    """No legend reaches into any axes."""
    parts = [figure, *figure.subfigs]
    legends = [legend.get_window_extent() for part in parts for legend in part.legends]
    assert legends
    for axes in figure.axes:
        box = axes.get_window_extent()
        assert box.width > 100
        assert box.height > 100
        assert not any(box.overlaps(legend) for legend in legends)
        texts = [text.get_text() for text in axes.texts]
        assert texts in ([], ["no test set"]) or axes.get_title().startswith("Finding")


def assert_ticks_are_whole(axes, epochs):
    low, high = axes.get_xlim()
    assert low < min(epochs)
    assert high > max(epochs)
    ticks = [tick for tick in axes.get_xticks() if low <= tick <= high]
    assert ticks
    assert all(tick == int(tick) for tick in ticks)


QUICK = ("one epoch", "huge range")  # laying out a figure takes a second
SLOW = [pytest.param(name, marks=pytest.mark.training) for name in RUNS if name not in QUICK]


@pytest.mark.parametrize("name", [*QUICK, *SLOW])
def test_the_picture_of_a_run(name):
    log, clean_fit, is_clean = RUNS[name]
    figure = plots.picture("a run", log, [clean_fit, clean_fit], is_clean)
    accuracy, losses, _ = drawn(figure)
    assert_nothing_is_hidden(figure)
    assert_ticks_are_whole(accuracy, [row["epoch"] for row in log])
    reported = next(line for line in accuracy.lines if "reported" in line.get_label())
    assert len(log) > 40 or reported.get_markersize() > 0  # a single epoch has no line
    low, high = losses.get_ylim()
    assert low == plots.EMPTY
    fullest = np.histogram(clean_fit.losses, plots.BINS)[0].max()
    assert fullest / 2 < high <= 40 * fullest  # of a mixture's tails nothing
    labels = [tick.get_text() for tick in losses.get_yticklabels(which="both")]
    shown = [label for label in labels if label]
    assert shown
    assert all(label.replace(",", "").isdigit() for label in shown)
    plt.close(figure)


def curve(epochs):
    return [Evaluation(epoch, 10.0 + epoch) for epoch in epochs]


@pytest.mark.parametrize(
    "runs",
    [
        {"one epoch": curve([0])},
        {"fractions": curve([0.2, 0.4, 0.6]), "a_long_name_of_a_run_" * 3: curve([0])},
        {f"run {k}": curve(range(300)) for k in range(12)},
    ],
    ids=["one", "fractions", "many"],
)
def test_the_curves_of_several_runs(runs):
    figure = figures.curves(runs)
    (axes,) = drawn(figure)
    assert_nothing_is_hidden(figure)
    assert_ticks_are_whole(axes, [one.epoch for run in runs.values() for one in run])
    lines = axes.get_lines()
    assert all(line.get_markersize() > 0 for line in lines if len(line.get_xdata()) == 1)
    assert len({(line.get_color(), line.get_linestyle()) for line in lines}) == len(runs)
    plt.close(figure)


def test_a_picture_is_written_whole_or_not_at_all(tmp_path):
    figures.save(figures.curves({"a": curve([0])}), tmp_path / "new" / "curves")
    assert (tmp_path / "new" / "curves").read_bytes().startswith(b"\x89PNG")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["curves"]
    assert not plt.get_fignums()

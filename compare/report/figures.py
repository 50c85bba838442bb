"""The figures of the report, as Plotly's JSON; colours of text and background are the page's.

Every method has a colour and a dash of its own, so that it is told apart without colour. Letters: N
samples, M methods, C classes.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go

from compare.report import statistics
from compare.report.collect import Method, Samples
from compare.report.statistics import Detection, Floats
from compare.spread import spread

# Okabe and Ito's colours, which the colour-blind tell apart, on white and on black
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C6BB1", "#7F7F7F")
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
MOST_CLASSES = 60  # that a matrix shows
MOST_NUMBERS = 12  # classes up to which a matrix has its numbers in its cells
SCALE = [[0, "rgba(0,114,178,0)"], [1, "rgba(0,114,178,1)"]]  # from the page's background on


@dataclass(frozen=True)
class Figure:
    """A figure for the page: `json` is what Plotly.newPlot takes."""

    name: str  # of its place in the page
    title: str
    json: str


def _figure(name: str, title: str, figure: go.Figure) -> Figure:
    figure.update_layout(template="none")
    return Figure(name, title, json.dumps(json.loads(figure.to_json()), allow_nan=False))


def _style(number: int) -> dict[str, str]:
    return {
        "color": COLOURS[number % len(COLOURS)],
        "dash": DASHES[number % len(DASHES)],
    }


def _line(number: int, method: Method, run: int, x: Any, y: Any, **more: Any) -> go.Scatter:
    """One run's line; the legend names the method once and hides all its runs together."""
    seed = method.runs[run].seed if run < len(method.runs) else None
    label = method.title if seed is None else f"{method.title}, seed {seed}"
    return go.Scatter(
        x=np.round(x, 4).tolist(),
        y=np.round(y, 4).tolist(),
        mode="lines",
        line={**_style(number), "width": 2},
        legendgroup=str(number),
        name=_escaped(more.pop("legend", method.title)),
        showlegend=more.pop("first", True),
        hoverlabel={"namelength": -1},
        meta=_escaped(label),
        **more,
    )


def _escaped(text: str) -> str:
    """Plotly reads some HTML in texts; names are none."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def accuracy(methods: Sequence[Method], unit: str) -> Figure | None:
    """Test accuracy over the share of the run; None where no run was tested."""
    figure = go.Figure()
    for number, method in enumerate(methods):
        tested = [(row, run) for row, run in enumerate(method.runs) if run.evaluations]
        for row, run in tested:
            whole = max(run.epochs_planned or 0, run.epochs, 1e-9)
            epochs = np.array([each.epoch for each in run.evaluations])
            done = epochs + run.epochs - run.rows[-1]["epoch"]  # some count from 0
            scores = np.array([each.accuracy for each in run.evaluations])
            line = _line(
                *(number, method, row, 100 * done / whole, scores),
                first=row == tested[0][0],
                customdata=np.round(epochs, 2).tolist(),
                hovertemplate="%{meta}<br>epoch %{customdata}: %{y:.2f} %<extra></extra>",
            )
            figure.add_trace(line)
    if not figure.data:
        return None
    figure.update_layout(
        xaxis={"title": "share of the run's epochs (%)", "range": [0, 101]},
        yaxis={"title": f"test {unit}"},
    )
    return _figure("accuracy", f"Test {unit} during training", figure)


# ---- wrong labels found


def roc(methods: Sequence[Method], found: Sequence[Sequence[Detection]]) -> Figure:
    """found: of each method, of each of its runs that judged."""
    figure = go.Figure(
        go.Scatter(
            x=[0, 1],
            y=[0, 1],
            mode="lines",
            line={"color": "gray", "width": 1, "dash": "dot"},
            name="by chance (AUC 0.5)",
            hoverinfo="skip",
        )
    )
    for number, (method, runs) in enumerate(zip(methods, found)):
        area = spread([each.auc for each in runs])
        for row, each in enumerate(runs):
            assert area is not None
            line = _line(
                *(number, method, row, each.false_positive_rate, each.true_positive_rate),
                legend=f"{method.title} (AUC {area.mean:.3f})",
                first=row == 0,
                hovertemplate="%{meta}<br>%{y:.1%} of the wrong labels found with "
                "%{x:.1%} of the right ones<extra></extra>",
            )
            figure.add_trace(line)
    figure.update_layout(
        xaxis={"title": "share of the right labels looked at", "range": [0, 1]},
        yaxis={"title": "share of the wrong labels found", "range": [0, 1.01]},
    )
    return _figure("roc", "ROC of the label quality", figure)


def precision(
    methods: Sequence[Method], found: Sequence[Sequence[Detection]], wrong: int
) -> Figure:
    """Share of wrong labels among the first k, for every k; wrong: how many there are in all."""
    figure = go.Figure()
    for number, (method, runs) in enumerate(zip(methods, found)):
        for row, each in enumerate(runs):
            line = _line(
                *(number, method, row, each.first, each.precision),
                first=row == 0,
                hovertemplate="%{meta}<br>%{y:.1%} of the first %{x:,} are wrong<extra></extra>",
            )
            figure.add_trace(line)
    figure.add_vline(x=wrong, line={"color": "gray", "dash": "dot"})
    figure.add_annotation(
        text=f"{wrong:,} wrong labels",
        x=np.log10(max(wrong, 1)),  # of texts, not of lines, a logarithmic axis takes the logarithm
        y=0,
        xanchor="right",
        yanchor="bottom",
        showarrow=False,
    )
    figure.update_layout(
        xaxis={"title": "labels looked at, the most suspicious first", "type": "log"},
        yaxis={"title": "share of wrong labels", "range": [0, 1.02]},
    )
    return _figure("precision", "Precision of the label quality", figure)


# ---- matrices


def transitions(samples: Samples, methods: Sequence[Method]) -> list[Figure]:
    """Of the noise, where the truth is known, and of what each method believes."""
    names, found = samples.class_names, []
    count = len(names)
    chosen = _most_doubted(samples, methods)
    pairs = []
    if samples.knows_truth:
        pairs.append(("The noise: clean → given", samples.clean, samples.given, "clean", "given"))
    for method in (each for each in methods if each.has_opinion):
        corrected = np.where(method.flagged, method.voted, samples.given)
        corrected = np.where(method.judged, corrected, -1)
        pairs += [
            (
                f"{method.title}: corrected → given, the noise it believes in",
                *(corrected, samples.given, "corrected", "given"),
            ),
            (
                f"{method.title}: given → predicted",
                *(samples.given, method.voted, "given", "predicted"),
            ),
        ]
        if samples.knows_truth:
            pairs.append(
                (
                    f"{method.title}: clean → corrected, what would be left",
                    *(samples.clean, corrected, "clean", "corrected"),
                )
            )
    for number, (title, before, after, row, column) in enumerate(pairs):
        counts = statistics.transition(before, after, count)
        shares = statistics.row_shares(counts)[np.ix_(chosen, chosen)]
        shown = counts[np.ix_(chosen, chosen)]
        labels = [names[label] for label in chosen]
        hover = f"{row} %{{y}}, {column} %{{x}}<br>%{{customdata:,}} samples, %{{z:.1%}} of the row"
        figure = _heat_map(labels, shares, hover, shown.tolist())
        figure.update_layout(xaxis={"title": f"{column} label"}, yaxis={"title": f"{row} label"})
        found.append(_figure(f"transition-{number}", title, figure))
    return found


def _most_doubted(samples: Samples, methods: Sequence[Method]) -> list[int]:
    """The classes a matrix shows: all, or the MOST_CLASSES with most samples that are doubted."""
    count = len(samples.class_names)
    doubted = np.bincount(samples.given[samples.wrong], minlength=count).astype(float)
    for method in methods:
        doubted += np.bincount(samples.given[method.flagged], minlength=count)
    return sorted(np.argsort(-doubted, kind="stable")[:MOST_CLASSES].tolist())


def agreement(methods: Sequence[Method]) -> list[Figure]:
    """Of the methods that judged, at least two: of their issues, and of their rankings."""
    titles = [method.title for method in methods]
    issues = statistics.agreement([m.flagged for m in methods], [m.judged for m in methods])
    order = statistics.rank_correlation([method.mean_quality for method in methods])
    return [
        _figure(name, title, _heat_map(titles, values, hover, None, every_number=True))
        for name, title, values, hover in (
            (
                "agreement",
                "Share of labels on which both say the same (issue or none)",
                *(issues, "%{y} and %{x}<br>agree on %{z:.1%}"),
            ),
            (
                "correlation",
                "Rank correlation of the label quality (Spearman)",
                *(order, "%{y} and %{x}<br>%{z:.3f}"),
            ),
        )
    ]


def _heat_map(
    names: Sequence[str],
    values: Floats,
    hover: str,
    customdata: Any,
    every_number: bool = False,
) -> go.Figure:
    """A square matrix with names on both sides, the first row on top; NaN is left empty."""
    labels = _different(names)
    numbers = every_number or len(names) <= MOST_NUMBERS
    figure = go.Figure(
        go.Heatmap(
            z=[[None if np.isnan(v) else round(v, 4) for v in row] for row in values.tolist()],
            x=labels,
            y=labels,
            customdata=customdata,
            zmin=0,
            zmax=1,
            colorscale=SCALE,
            xgap=1,
            ygap=1,
            texttemplate="%{z:.2f}" if numbers else None,
            hovertemplate=f"{hover}<extra></extra>",
            showscale=not numbers,
            colorbar={"thickness": 12},
        )
    )
    figure.update_xaxes(type="category", side="bottom", constrain="domain")
    figure.update_yaxes(type="category", autorange="reversed", scaleanchor="x", constrain="domain")
    return figure


def _different(names: Sequence[str]) -> list[str]:
    """Short names for an axis, on which equal ones would be one row."""
    short = [_escaped(name if len(name) <= 24 else f"{name[:23]}…") for name in names]
    return [
        f"{name} ({number})" if short.count(name) > 1 else name for number, name in enumerate(short)
    ]

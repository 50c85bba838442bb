"""The suspicious samples, for the page and for Label Studio. Letters: N samples, M methods."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from compare.report import statistics
from compare.report.collect import Method, Samples
from compare.report.statistics import Floats, Labels


class Opinion(NamedTuple):
    """What one method, or all of them together, say of N samples."""

    ranking: Floats  # (N,) shares in (0, 1], the lowest is the most suspicious; NaN: nothing
    predicted: Labels  # (N,), -1: nothing
    flags: Labels  # (N,) how many methods say that it is an issue


class Ranking(NamedTuple):
    """Samples to look at, the worst first."""

    rows: Labels  # (n,) positions in the samples
    by_all: Opinion  # by the mean of the methods' ranks
    by_method: tuple[Opinion, ...]  # (M,)


def ranked(methods: Sequence[Method], samples: Samples, first: int) -> Ranking:
    """The `first` most suspicious ones of each method, and of all together."""
    by_method = tuple(
        Opinion(statistics.ranks(each.mean_quality), each.voted, each.flagged.astype(np.int64))
        for each in methods
    )
    if not by_method:
        nothing = np.full(len(samples.index), -1)
        by_all = Opinion(np.full(len(samples.index), np.nan), nothing, np.zeros_like(nothing))
        return Ranking(np.zeros(0, np.int64), by_all, ())
    by_all = Opinion(
        statistics.mean_over(np.stack([each.ranking for each in by_method])),
        statistics.vote(np.stack([each.predicted for each in by_method]), len(samples.class_names)),
        np.sum([each.flags for each in by_method], axis=0),
    )
    rankings = [*(each.ranking for each in by_method), by_all.ranking]
    return Ranking(statistics.worst(rankings, first), by_all, by_method)


def for_page(
    ranking: Ranking, methods: Sequence[Method], samples: Samples, pictures: Sequence[str | None]
) -> dict[str, Any]:
    """The gallery as JSON: see `template/page.js`. pictures: (n,) data URIs."""
    annotations = samples.annotation_ids
    return {
        "classes": list(samples.class_names),
        "methods": [method.title for method in methods],
        "count": int((~np.isnan(ranking.by_all.ranking)).sum()),  # judged by any method
        "judged": [int(method.judged.sum()) for method in methods],
        "samples": [
            {
                "index": int(samples.index[row]),
                "file": samples.files[row],
                "annotation": "" if annotations is None else str(annotations[row]),
                "given": int(samples.given[row]),
                "clean": int(samples.clean[row]),
                "picture": picture,
                "all": _said(ranking.by_all, row),
                "by": [_said(each, row) for each in ranking.by_method],
            }
            for row, picture in zip(ranking.rows.tolist(), pictures)
        ],
    }


def _said(opinion: Opinion, row: int) -> dict[str, Any] | None:
    if np.isnan(opinion.ranking[row]):
        return None
    return {
        "rank": round(float(opinion.ranking[row]), 6),
        "predicted": int(opinion.predicted[row]),
        "flags": int(opinion.flags[row]),
    }

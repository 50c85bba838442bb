"""Label retrieval: the labels of the k nearest training images in the feature space of f_p.

Chen et al., NeurIPS 2023, section 1.4 of the method. Distances are Euclidean, exact, in float32.
Letters: N rows of the bank, Q queries, B batch, k neighbours, D features, C classes.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from lra_diffusion.method.progress import watched
from lra_diffusion.method.ranks import ALONE, Ranks

CHUNK_BYTES = 384 * 2**20  # scores held at a time
SPARE = 14  # candidates beyond the k asked for: what rounding may put in the wrong order
ROUNDING = 2.0**-8  # relative error of bfloat16, with room to spare
TEMPERATURE = 0.5  # of the votes by which KNN_test.py judges a feature space


class Neighbours(NamedTuple):
    """distances: (Q, k) float32, ascending; index: (Q, k) int64, rows of the bank."""

    distances: Tensor
    index: Tensor  # type: ignore[assignment]  # hides tuple.index, which nobody asks for


class Bank:
    """Features of the training images (N, D) float32, ready to be searched.

    Products in float32 decide which rows are candidates, direct differences their order; so rows
    may change places only if their squared distances differ by less than about a millionth of the
    squared norms of the centred features. bfloat16: choose the candidates by bfloat16 products,
    whose error is bounded: where the bound cannot prove that none is missing, the products are made
    again in float32. The result is the same, on a CPU with such hardware in half the time.
    """

    def __init__(self, features: Tensor, bfloat16: bool = False) -> None:
        self.mean = features.mean(dim=0)
        self.features = features - self.mean  # smaller numbers lose less where products cancel
        self.half_norms = self.features.square().sum(dim=1) / 2
        self._scores: dict[torch.dtype, Tensor] = {}
        self._rounded: Tensor | None = None
        if bfloat16:
            self._rounded = _with_norms(self.features, self.half_norms)
            self._norm = (2 * self.half_norms.max()).sqrt()
            self._residual = (self.features - self.features.bfloat16().float()).norm(dim=1).max()
            self._offset = (self.half_norms + self._rounded[:, -2:].float().sum(dim=1)).abs().max()

    def __len__(self) -> int:
        return len(self.features)

    def nearest(
        self, queries: Tensor, k: int, own_rows: Tensor | None = None, progress: bool = False
    ) -> Neighbours:
        """The k nearest rows of each query, nearest first; of equal distances the lower row first.

        queries: (Q, D); own_rows: (Q,) int64 rows of the bank that are left out, each of its own
        query. Memory is bounded whatever Q and N are. Raises ValueError for k beyond the number of
        rows, or features of another width.
        """
        available = len(self) - (own_rows is not None)
        if not 1 <= k <= available:
            raise ValueError(
                f"--k {k}: there are {available} images to retrieve from; "
                "give a number between 1 and that"
            )
        if queries.shape[1] != self.features.shape[1]:
            raise ValueError(
                f"queries have {queries.shape[1]} features, the bank {self.features.shape[1]}: "
                "take both from the same encoder"
            )
        chunk = max(1, CHUNK_BYTES // (4 * len(self)))
        rounded = self._rounded is not None
        parts, unproven = [], []
        chunks: Sequence[range] = [
            range(start, min(start + chunk, len(queries)))
            for start in range(0, len(queries), chunk)
        ]
        for part in watched(chunks, "neighbours", announced=True) if progress else chunks:
            start, stop = part.start, part.stop
            rows = queries[start:stop] - self.mean
            own = None if own_rows is None else own_rows[start:stop]
            if rounded:
                found, proven = self._search_rounded(rows, k, own)
                unproven.append(start + (~proven).nonzero()[:, 0])
                # If not, these features are too close together for rounding.
                rounded = len(unproven[-1]) < len(rows) / 2
            else:
                found = self._search(rows, k, own)
            parts.append(found)
        distances, index = (torch.cat(column) for column in zip(*parts))
        for again in torch.cat(unproven).split(chunk) if unproven else ():
            own = None if own_rows is None else own_rows[again]
            distances[again], index[again] = self._search(queries[again] - self.mean, k, own)
        return Neighbours(distances, index)

    def nearest_rows(
        self, queries: Tensor, k: int, own_rows: Tensor | None = None, ranks: Ranks = ALONE
    ) -> Tensor:
        """The index (Q, k) of `nearest`, of many queries: each rank searches for its part."""
        mine = ranks.rows(len(queries))
        own = None if own_rows is None else own_rows[mine]
        found = self.nearest(queries[mine], k, own, progress=True)
        return ranks.gather(found.index, len(queries))

    def _search(self, queries: Tensor, k: int, own: Tensor | None) -> Neighbours:
        scores = self._buffer(len(queries), torch.float32, queries.device)
        torch.addmm(-self.half_norms, queries, self.features.T, out=scores)
        return self._ordered(queries, scores.topk(min(len(self), k + SPARE)).indices, k, own)

    def _search_rounded(
        self, queries: Tensor, k: int, own: Tensor | None
    ) -> tuple[Neighbours, Tensor]:
        """The neighbours by bfloat16 products; (Q,) bool: are they proven to be the nearest?"""
        assert self._rounded is not None
        scores = self._buffer(len(queries), torch.bfloat16, queries.device)
        rounded = queries.bfloat16()
        extended = torch.cat([rounded, torch.ones_like(rounded[:, :2])], dim=1)
        torch.mm(extended, self._rounded.T, out=scores)
        best = scores.topk(min(len(self), k + SPARE))
        found = self._ordered(queries, best.indices, k, own)
        # Every row left out scores at most `bound`; the k-th found must score no less (a score is
        # (|q|^2 - distance^2) / 2).
        worst = best.values[:, -1].float()
        error = (
            (queries - rounded.float()).norm(dim=1) * self._norm
            + queries.norm(dim=1) * self._residual
            + self._offset
        )
        bound = worst + error * (1 + ROUNDING) + ROUNDING * worst.abs()
        score = (queries.square().sum(dim=1) - found.distances[:, -1].square()) / 2
        return found, (score >= bound) | (best.indices.shape[1] == len(self))

    def _buffer(self, rows: int, dtype: torch.dtype, device: torch.device) -> Tensor:
        """Room for the scores (rows, N), kept between calls.

        Fresh memory costs a CPU as much time as the products.
        """
        kept = self._scores.get(dtype)
        if kept is None or len(kept) < rows:
            self._scores[dtype] = kept = torch.empty(rows, len(self), dtype=dtype, device=device)
        return kept[:rows]

    def _ordered(
        self, queries: Tensor, candidates: Tensor, k: int, own: Tensor | None
    ) -> Neighbours:
        """The k nearest of the candidates (Q, m), by differences, which do not cancel."""
        candidates = candidates.sort(dim=1).values  # of equal distances the lower row comes first
        parts = []
        for rows, index in zip(queries.split(64), candidates.split(64)):
            differences = self.features[index]
            parts.append(differences.sub_(rows[:, None]).square_().sum(dim=-1))
        squared = torch.cat(parts)
        if own is not None:
            squared = squared.masked_fill(candidates == own[:, None], torch.inf)
        squared, order = squared.sort(dim=1, stable=True)
        return Neighbours(squared[:, :k].sqrt(), candidates.gather(1, order[:, :k]))


def _with_norms(features: Tensor, half_norms: Tensor) -> Tensor:
    """(N, D + 2) bfloat16: features and minus half their squared norm in two parts.

    Their product with (q, 1, 1) is the score.
    """
    high = half_norms.bfloat16()
    low = (half_norms - high.float()).bfloat16()
    return torch.cat([features.bfloat16(), -high[:, None], -low[:, None]], dim=1)


def candidate_labels(
    index: Tensor, bank_labels: Tensor, own_labels: Tensor | None = None
) -> Tensor:
    """The labels to draw from: those of the neighbours, then the query's own, (B, k + 1) or (B, k).

    index: (B, k) rows of the bank; bank_labels: (N,) int64; own_labels: (B,) int64. A query that is
    a row of the bank finds itself first, so its own label normally counts twice; that is the
    method.
    """
    labels = bank_labels[index]
    return labels if own_labels is None else torch.cat([labels, own_labels[:, None]], dim=1)


class Drawn(NamedTuple):
    """labels: (B,) int64; weights: (B,) float32, sum 1."""

    labels: Tensor
    weights: Tensor


def draw_labels(candidates: Tensor, generator: torch.Generator, weighted: bool) -> Drawn:
    """One of the candidate labels (B, m) of each sample, drawn uniformly.

    weighted: a sample weighs as its label's multiplicity c among the candidates, w_b = c_b / sum c;
    the expected influence of a label is then proportional to c^2, a soft majority vote. Else w_b =
    1 / B.
    """
    count, places = candidates.shape
    position = torch.randint(0, places, (count,), generator=generator, device=generator.device)
    labels = candidates.gather(1, position[:, None].to(candidates.device))[:, 0]
    if weighted:
        multiplicity = (candidates == labels[:, None]).sum(dim=1).float()
    else:
        multiplicity = torch.ones_like(labels).float()
    return Drawn(labels, multiplicity / multiplicity.sum())


def label_shares(candidates: Tensor, num_classes: int) -> Tensor:
    """Share of each class among the candidate labels (B, m), (B, C) float32."""
    return F.one_hot(candidates, num_classes).float().mean(dim=1)


def majority_vote(candidates: Tensor, num_classes: int) -> Tensor:
    """The most frequent label of each row (B, m), of equally frequent ones the lowest, (B,)."""
    return label_shares(candidates, num_classes).argmax(dim=1)


# ---- how good a feature space is, with clean labels: KNN_test.py


# DEVIATION(lra_diffusion): KNN_test weights near neighbours more; the original's sign is wrong,
# exp(+d/0.5), so that farther ones count more.
def weighted_votes(distances: Tensor, labels: Tensor, num_classes: int) -> Tensor:
    """Sums of exp(-d / 0.5) by class, up to a factor for each row: (Q, C).

    distances: (Q, k); labels: (Q, k) int64.
    """
    # The nearest one counts 1: features that are not of unit length lie so far apart that all would
    # underflow to 0.
    weights = torch.exp(-(distances - distances[:, :1]) / TEMPERATURE)
    votes = torch.zeros(len(labels), num_classes, device=labels.device)
    return votes.scatter_add_(1, labels, weights)


def knn_predictions(
    bank: Tensor, bank_labels: Tensor, queries: Tensor, k: int, num_classes: int
) -> Tensor:
    """Classes (Q,) int64 that the k nearest rows of the bank (N, D), or all of it, vote for."""
    distances, index = Bank(bank).nearest(queries, min(k, len(bank)))
    return weighted_votes(distances, bank_labels[index], num_classes).argmax(dim=1)


def knn_accuracy(
    bank: Tensor, bank_labels: Tensor, queries: Tensor, labels: Tensor, k: int = 10
) -> float:
    """In percent. bank_labels: (N,), labels: (Q,), int64."""
    num_classes = int(torch.maximum(bank_labels.max(), labels.max())) + 1
    predicted = knn_predictions(bank, bank_labels, queries, k, num_classes)
    return 100 * (predicted == labels).float().mean().item()

"""Retrieval against all distances in float64, and the rules by which a label is drawn."""

import numpy as np
import pytest
import torch

from lra_diffusion.method import retrieval
from lra_diffusion.method.retrieval import (
    Bank,
    candidate_labels,
    draw_labels,
    label_shares,
    majority_vote,
)


def nearest(queries, bank, k):
    return Bank(bank).nearest(queries, k)


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def literal_neighbours(queries, bank, k, own=None):
    distances = ((queries.double()[:, None] - bank.double()[None]) ** 2).sum(-1).sqrt().numpy()
    if own is not None:
        distances[np.arange(len(queries)), own] = np.inf
    index = np.argsort(distances, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(distances, index, axis=1), index


def clusters(count, width, spread, seed=0):
    """Points around five far centres: what rounded products confuse."""
    centres = 10 * random(5, width, seed=seed)
    return centres[torch.arange(count) % 5] + spread * random(count, width, seed=seed + 1)


@pytest.mark.parametrize("bfloat16", [False, True])
@pytest.mark.parametrize(
    "bank",
    [random(300, 16), 100 + random(300, 16), clusters(300, 16, 1.0), clusters(300, 16, 0.2)],
    ids=["random", "far from zero", "clusters", "narrow clusters"],
)
def test_the_nearest_are_exact(bank, bfloat16, monkeypatch):
    monkeypatch.setattr(retrieval, "CHUNK_BYTES", 4 * 300 * 7)  # seven queries at a time
    for queries in (bank, bank[:40] + 0.1 * random(40, 16, seed=5)):
        found = Bank(bank, bfloat16).nearest(queries, 6)
        distances, index = literal_neighbours(queries, bank, 6)
        np.testing.assert_array_equal(found.index.numpy(), index)
        np.testing.assert_allclose(found.distances.numpy(), distances, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("bfloat16", [False, True])
def test_own_rows_are_left_out(bfloat16):
    bank, own = random(60, 8), torch.arange(60).flip(0)
    found = Bank(bank, bfloat16).nearest(bank.flip(0), 5, own)
    assert not (found.index == own[:, None]).any()
    np.testing.assert_array_equal(
        found.index.numpy(), literal_neighbours(bank.flip(0), bank, 5, own.numpy())[1]
    )


def test_of_equal_distances_the_lower_row_comes_first():
    bank = random(10, 4).repeat(4, 1)  # four copies of each
    assert nearest(bank[:10], bank, 4).index.tolist() == [
        [i, i + 10, i + 20, i + 30] for i in range(10)
    ]


def test_all_rows_can_be_asked_for_and_no_more():
    bank = random(5, 3)
    assert sorted(nearest(bank[:1], bank, 5).index[0].tolist()) == [0, 1, 2, 3, 4]
    with pytest.raises(
        ValueError,
        match="--k 6: there are 5 images to retrieve from; give a number between 1 and that",
    ):
        nearest(bank, bank, 6)
    with pytest.raises(ValueError, match="--k 5: there are 4 images"):
        Bank(bank).nearest(bank, 5, torch.arange(5))
    with pytest.raises(
        ValueError, match="queries have 4 features, the bank 3: take both from the same encoder"
    ):
        nearest(random(2, 4), bank, 1)


def test_features_that_rounding_cannot_tell_apart_are_searched_in_float32(monkeypatch):
    bank = clusters(400, 16, 0.2)
    search, searched = Bank._search, []
    monkeypatch.setattr(
        Bank,
        "_search",
        lambda self, queries, *rest: searched.append(len(queries)) or search(self, queries, *rest),
    )
    found = Bank(bank, bfloat16=True).nearest(bank, 5)
    assert sum(searched) > 0
    np.testing.assert_array_equal(found.index.numpy(), literal_neighbours(bank, bank, 5)[1])


def test_candidates_are_the_neighbours_labels_then_the_own_one():
    labels = torch.tensor([3, 1, 2, 0])
    index = torch.tensor([[0, 2], [3, 1]])
    assert candidate_labels(index, labels, torch.tensor([1, 1])).tolist() == [[3, 2, 1], [0, 1, 1]]
    assert candidate_labels(index, labels).tolist() == [[3, 2], [0, 1]]


@pytest.mark.parametrize("weighted", [False, True])
def test_drawing_a_label_and_its_weight(weighted):
    candidates = torch.randint(0, 4, (9, 7), generator=torch.Generator().manual_seed(2))
    drawn = draw_labels(candidates, torch.Generator().manual_seed(11), weighted)
    positions = torch.randint(0, 7, (9,), generator=torch.Generator().manual_seed(11)).tolist()
    labels = [candidates[b, position].item() for b, position in enumerate(positions)]
    counts = [
        candidates[b].tolist().count(label) if weighted else 1 for b, label in enumerate(labels)
    ]
    assert drawn.labels.tolist() == labels
    assert drawn.weights.tolist() == pytest.approx([count / sum(counts) for count in counts])


def test_expected_influence_of_a_label_grows_with_the_square_of_its_count():
    candidates = torch.tensor([[0, 0, 0, 1]]).repeat(40_000, 1)
    drawn = draw_labels(candidates, torch.Generator().manual_seed(0), weighted=True)
    influence = [drawn.weights[drawn.labels == label].sum().item() for label in (0, 1)]
    assert influence[0] / influence[1] == pytest.approx(9, rel=0.05)


def test_shares_and_majority():
    candidates = torch.tensor([[2, 2, 1, 0], [1, 0, 0, 1]])
    assert label_shares(candidates, 3).tolist() == [[0.25, 0.25, 0.5], [0.5, 0.5, 0.0]]
    assert majority_vote(candidates, 3).tolist() == [2, 0]

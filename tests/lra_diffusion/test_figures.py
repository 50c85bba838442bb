"""The figures behind the pictures against counting by hand; that pictures come out is checked by
their size.
"""

import struct
from collections import Counter

import numpy as np
import pytest

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


def test_pictures_of_retrieval(labels):
    near, own, clean = labels
    assert size_of(figures.retrieval_quality("noise", near, own, clean, 10)) == (1650, 660)
    figures.retrieval_quality("no label is wrong, one neighbour", near[:, :1], clean, clean, 1)
    agreement = figures.agreement_histogram(np.array([0.0, 0.5, 0.5, 1.0]), 2)
    assert [share.tolist() for share in agreement] == [
        [25.0, 50.0, 25.0],
        [-25.0, 25.0, 75.0, 125.0],
    ]


@pytest.mark.parametrize(("images", "classes"), [(1, 2), (4, 100)])
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


def test_pictures_of_accuracies_leave_out_what_was_not_evaluated():
    rows = [
        {"epoch": epoch, "accuracy": None if epoch % 2 else 50.0 + epoch} for epoch in range(1, 9)
    ]
    many = {f"run {number}": rows for number in range(8)}
    assert size_of(figures.accuracy_curves("curves", many, {"vote": 62.5, "other vote": 40.0})) == (
        1125,
        720,
    )
    figures.accuracy_curves("nothing evaluated", {"run": rows[:1]}, {"vote": 62.5})

"""Class-balanced draws against a literal walk, and what the epochs of Clothing1M take."""

import numpy as np
import pytest

from instancegm.method import draws
from instancegm.method.settings import Settings

LABELS = np.random.default_rng(0).choice(5, 400, p=[0.5, 0.2, 0.15, 0.1, 0.05])


def walk(order, labels, count, classes):
    """The published walk over the shuffled samples, one after the other."""
    taken, kept = [0] * classes, []
    for sample in order:
        if taken[labels[sample]] < count / classes and len(kept) < count:
            taken[labels[sample]] += 1
            kept.append(sample)
    return kept


@pytest.mark.parametrize("seed", range(40))
def test_a_draw_takes_what_the_published_walk_takes(seed):
    random = np.random.default_rng(seed)
    labels = random.integers(0, random.integers(1, 5), random.integers(1, 60))
    count = int(random.integers(1, 70))
    order = np.random.default_rng(seed).permutation(len(labels))
    drawn = draws.class_balanced(labels, count, 4, seed)
    assert sorted(drawn) == sorted(walk(order, labels, count, 4))


def test_a_draw_is_shuffled_and_follows_from_its_seed():
    first, second, other = (draws.class_balanced(LABELS, 100, 5, seed) for seed in (1, 1, 2))
    assert (first == second).all()
    assert sorted(first) != sorted(other)
    assert np.bincount(LABELS[first]).max() == 20
    assert (np.diff(LABELS[first]) != 0).sum() > 40  # not class by class


@pytest.mark.parametrize("number", [1, 2])
def test_networks_and_epochs_draw_for_themselves_and_the_vaes_keep_one_draw(number):
    chosen = Settings(batch_size=4, num_batches=5)
    warm_up = [draws.warm_up_draw(LABELS, 5, chosen, epoch, number) for epoch in (0, 1)]
    judged = [draws.judged_draw(LABELS, 5, chosen, epoch, number) for epoch in (0, 1)]
    assert [len(each) for each in (*warm_up, *judged)] == [40, 40, 20, 20]
    assert len({tuple(sorted(each)) for each in (*warm_up, *judged)}) == 4
    kept = draws.vae_draw(LABELS, 5, chosen, 7)
    assert (kept == draws.warm_up_draw(LABELS, 5, chosen, 0, 2)).all()
    anew = draws.vae_draw(LABELS, 5, Settings(batch_size=4, num_batches=5, redraw_vae=True), 7)
    assert sorted(anew) != sorted(kept)


def test_without_draws_an_epoch_is_the_whole_set_in_order():
    for draw in (draws.warm_up_draw, draws.judged_draw):
        assert (draw(LABELS, 5, Settings(), 3, 1) == np.arange(400)).all()
    assert (draws.vae_draw(LABELS, 5, Settings(), 3) == np.arange(400)).all()

"""FSR's queue: whom it ranks first, what it draws, and what it holds."""

import numpy as np
import pytest
import tensorflow as tf

from ieg.input.image_sources import ArraySource
from ieg.method import reward_queue
from ieg.method.reward_queue import (
    RewardQueue,
    balanced_sample,
    last_of_each,
    lowest_rates,
    updated_rates,
)
from shared.datasets.image_data import DatasetError

# ---- ranking and rates


def ranked_by_sorting(labels, rates, per_class, num_classes):
    """Python's sort keeps the order of ties, so the lower id comes first."""
    chosen = []
    for label in range(num_classes):
        of_class = [i for i in range(len(labels)) if labels[i] == label]
        chosen += sorted(of_class, key=lambda i: rates[i])[:per_class]
    return chosen


@pytest.mark.parametrize("per_class", [1, 3, 50])
def test_the_lowest_rates_of_each_class_come_first(per_class):
    draw = np.random.default_rng(per_class)
    labels = draw.integers(-1, 3, 60)  # -1: no step has met the sample
    rates = np.round(draw.normal(size=60), 1).astype(np.float32)  # with ties
    found = lowest_rates(labels, rates, per_class, 3)
    assert found.tolist() == ranked_by_sorting(labels.tolist(), rates.tolist(), per_class, 3)


def test_ties_unseen_samples_and_short_classes_by_hand():
    labels = np.array([0, 1, 0, -1, 0, 1, 0, -1])
    rates = np.array([0.5, 0.0, -1.0, -9.0, -1.0, -0.1, 0.5, 0.0], np.float32)
    assert lowest_rates(labels, rates, 3, 3).tolist() == [2, 4, 0, 5, 1]


@pytest.mark.parametrize(
    ("beta", "expected"),
    [
        (0.9, [1.0, 0.9 * 2.0 - 0.1 * 0.5, 3.0, 0.9 * 4.0 + 0.1 * 2.0]),
        (0.0, [1.0, -0.5, 3.0, 2.0]),
        (1.0, [1.0, 2.0 - 0.5, 3.0, 4.0 + 2.0]),
        (2.0, [1.0, 2.0 - 1.0, 3.0, 4.0 + 4.0]),
    ],
)
def test_rates_move_towards_the_negative_margin(beta, expected):
    rates = tf.constant([1.0, 2.0, 3.0, 4.0])
    found = updated_rates(rates, tf.constant([3, 1], tf.int64), tf.constant([-2.0, 0.5]), beta)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


# ---- balanced draws


def test_draws_are_those_of_the_legacy_generator():
    labels = np.array([0, 1, 2, 2, 1, 0, 0, 1, 2])
    random, reference = np.random.RandomState(12345), np.random.RandomState(12345)
    for count in (3, 6, 9):  # one after another from the same generator
        expected = []
        for label in range(3):
            positions = [i for i in range(9) if labels[i] == label]
            expected += reference.choice(positions, count // 3, replace=False).tolist()
        assert balanced_sample(labels, count, 3, random).tolist() == expected


def test_a_class_that_is_short_is_drawn_with_replacement_and_a_note(capsys):
    labels = np.array([0, 0, 0, 0, 1])
    reference = np.random.RandomState(3)
    expected = [
        *reference.choice([0, 1, 2, 3], 3, replace=False),
        *reference.choice([4], 3, replace=True),
    ]
    found = balanced_sample(labels, 6, 2, np.random.RandomState(3))
    assert "note: class 1 has 1 samples for 3 places" in capsys.readouterr().out
    assert found.tolist() == expected
    assert len(set(found[:3].tolist())) == 3


@pytest.mark.parametrize(
    ("count", "message"), [(5, "choose a multiple"), (6, "class 1 has no sample")]
)
def test_what_cannot_be_balanced_is_an_error(count, message):
    with pytest.raises(DatasetError, match=message):
        balanced_sample(np.zeros(8, np.int64), count, 2, np.random.RandomState(0))


# ---- the queue. Every sample's pixels are its id, so the images tell which samples are there.

CLASSES, SAMPLES, CAPACITY, DRAWN = 3, 30, 12, 6


def source(labels=None, gold=None):
    images = np.broadcast_to(
        np.arange(SAMPLES, dtype=np.uint8)[:, None, None, None], (SAMPLES, 4, 4, 3)
    )
    return ArraySource(
        images, np.arange(SAMPLES) % CLASSES if labels is None else labels, view="digits", gold=gold
    )


def queue_of(images, seed=1, capacity=CAPACITY, beta=0.9):
    return RewardQueue(
        images, num_classes=CLASSES, capacity=capacity, batch=DRAWN, beta=beta, seed=seed
    )


def shown(queue, places):
    """The ids that the images at these places are of."""
    images = queue._source.unscale(queue.images_at(tf.constant(places))).numpy()
    assert (images == images[:, :1, :1, :1]).all()
    return images[:, 0, 0, 0].tolist()


def assert_in_order(queue):
    """Each class has its places, and images and ids agree."""
    ids = queue.ids.numpy()
    each = len(ids) // CLASSES
    assert queue._source.labels[ids].tolist() == [
        label for label in range(CLASSES) for _ in range(each)
    ]
    assert shown(queue, np.arange(len(ids))) == ids.tolist()


def record(queue, ids, margins):
    ids = np.array(ids, np.int64)
    labels = queue._source.labels[ids].astype(np.int32)
    queue.record(tf.constant(ids), tf.constant(labels), tf.constant(margins, tf.float32))


def test_the_start_reads_no_more_than_it_needs_in_whole_batches():
    order = np.random.RandomState(0).permutation(SAMPLES)
    queue = queue_of(source())
    queue.fill(order)
    assert_in_order(queue)
    # Literally: batches of DRAWN in the order of training until every class has 4, then a balanced
    # draw.
    read = []
    while (
        min(sum(i % CLASSES == label for i in read) for label in range(CLASSES))
        < CAPACITY // CLASSES
    ):
        read += order[len(read) : len(read) + DRAWN].tolist()
    random, expected = np.random.RandomState(1), []
    for label in range(CLASSES):
        positions = [k for k, i in enumerate(read) if i % CLASSES == label]
        expected += [read[k] for k in random.choice(positions, CAPACITY // CLASSES, replace=False)]
    assert queue.ids.numpy().tolist() == expected


def test_the_start_takes_a_rare_class_several_times(capsys):
    labels = np.where(np.arange(SAMPLES) < 2, 2, np.arange(SAMPLES) % 2)
    queue = queue_of(source(labels))
    queue.fill(np.arange(SAMPLES))
    assert "class 2 has 2 samples" in capsys.readouterr().out
    assert_in_order(queue)


def test_a_draw_is_balanced_and_a_function_of_seed_and_step():
    queues = [queue_of(source(), seed) for seed in (1, 1, 2)]
    for queue in queues:
        queue.fill(np.arange(SAMPLES))
    drawn = [[queue.draw(step) for step in (0, 1, 0)] for queue in queues]
    for queue, batches in zip(queues, drawn):
        for batch in batches:
            assert batch["queue_labels"].tolist() == [0, 0, 1, 1, 2, 2]
            assert batch["queue_labels"].dtype == np.int32
            assert len(set(batch["queue_places"].tolist())) == DRAWN
            assert [i % CLASSES for i in shown(queue, batch["queue_places"])] == batch[
                "queue_labels"
            ].tolist()
    places = [[batch["queue_places"].tolist() for batch in batches] for batches in drawn]
    assert places[0][0] == places[0][2] == places[1][0]
    assert places[0][0] != places[0][1]
    assert places[0][0] != places[2][0]


def test_a_refresh_takes_the_samples_whose_loss_fell_most():
    queue = queue_of(source())
    queue.fill(np.arange(SAMPLES))
    margins = np.random.default_rng(0).normal(size=SAMPLES)
    for ids in np.random.default_rng(1).permutation(SAMPLES).reshape(5, 6):
        record(queue, ids, margins[ids])
    queue.refresh(1)
    assert_in_order(queue)
    expected = [
        sorted(range(label, SAMPLES, CLASSES), key=lambda i: -margins[i])[:4]
        for label in range(CLASSES)
    ]
    assert queue.ids.numpy().reshape(CLASSES, -1).tolist() == expected
    np.testing.assert_allclose(queue.rates.numpy(), -0.1 * margins, rtol=1e-5)
    assert queue.seen_labels.numpy().tolist() == queue._source.labels.tolist()


def test_a_class_that_is_short_keeps_older_samples_in_its_own_places():
    queue = queue_of(source())
    queue.fill(np.arange(SAMPLES))
    before = queue.ids.numpy().reshape(CLASSES, -1).copy()
    seen = [27, 24, 21, 18, 28]  # four of class 0, one of class 1, none of class 2
    record(queue, seen, [4.0, 3.0, 2.0, 1.0, 5.0])
    queue.refresh(1)
    assert_in_order(queue)
    after = queue.ids.numpy().reshape(CLASSES, -1)
    assert after[0].tolist() == seen[:4]
    assert after[1].tolist() == [*before[1][:3], 28]
    assert after[2].tolist() == before[2].tolist()


def test_more_images_than_are_read_at_once_end_up_at_their_places(monkeypatch):
    monkeypatch.setattr(reward_queue, "READ_AT_ONCE", 5)
    queue = queue_of(source())
    queue.fill(np.arange(SAMPLES)[::-1])
    assert_in_order(queue)


def test_purity_is_the_share_of_the_queue_that_is_labelled_truly():
    gold = np.arange(SAMPLES) % CLASSES
    gold[:15] = (gold[:15] + 1) % CLASSES  # the first half is labelled wrongly
    queue = queue_of(source(gold=gold))
    queue.fill(np.arange(SAMPLES))
    assert queue.purity() == pytest.approx(np.mean(queue.ids.numpy() >= 15))
    record(queue, range(SAMPLES), np.arange(SAMPLES, dtype=np.float32))  # later ids help more
    queue.refresh(1)
    assert queue.purity() == 1.0
    assert queue_of(source()).purity() is None  # where nobody knows the truth


def test_the_state_for_users_names_samples_and_labels():
    queue = queue_of(source())
    queue.fill(np.arange(SAMPLES))
    record(queue, [4], [2.0])
    state = queue.state()
    assert state["queue_labels"].tolist() == (state["queue_ids"] % CLASSES).tolist()
    assert np.flatnonzero(state["ds_labels"] != -1).tolist() == [4]
    assert state["ds_rates"][4] == pytest.approx(-0.2)


def test_of_equal_ids_the_last_is_kept():
    ids = [4, 2, 4, 7, 2, 4]
    assert last_of_each(tf.constant(ids, tf.int64)).numpy().tolist() == [3, 4, 5]
    assert last_of_each(tf.constant([3, 1, 2], tf.int64)).numpy().tolist() == [0, 1, 2]

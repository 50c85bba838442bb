"""The stream of batches is a function of seed, step and replica.

Every sample comes once per pass, the probe in its order.
"""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from ieg.input.batches import evaluation_batches, pass_order, train_stream, view_seeds
from ieg.input.image_sources import ArraySource
from ieg.input.tasks import Task


def small_task(samples=23, probe=7, view="cifar"):
    images = np.random.default_rng(0).integers(0, 256, (samples + probe, 32, 32, 3), dtype=np.uint8)
    labels = np.arange(samples + probe) % 3
    train = ArraySource(
        images,
        labels[:samples],
        view=view,
        rows=np.arange(samples),
        gold=(labels[:samples] + 1) % 3,
    )
    held = (
        ArraySource(images, labels[samples:], view=view, rows=np.arange(samples, samples + probe))
        if probe
        else None
    )
    return Task("tiny", 3, ("a", "b", "c"), train, held, train, None, None, None)


def elements(task, count, **options):
    given = {
        "batch_size": 4,
        "seed": 5,
        "first_step": 0,
        "strong": None,
        "probe": task.probe is not None,
        **options,
    }
    return [
        {k: v.numpy() for k, v in e.items()}
        for e in itertools.islice(train_stream(task, **given), count)
    ]


def assert_equal(one, other):
    assert len(one) == len(other)
    for left, right in zip(one, other):
        assert left.keys() == right.keys()
        for key in left:
            np.testing.assert_array_equal(left[key], right[key])


@pytest.mark.parametrize(("samples", "batch_size"), [(23, 4), (8, 8), (3, 8), (12, 5)])
def test_every_pass_sees_every_sample_once_and_batches_cross_its_end(samples, batch_size):
    task = small_task(samples, probe=0)
    steps = -(-4 * samples // batch_size)
    ids = np.concatenate([e["ids"] for e in elements(task, steps, batch_size=batch_size)])
    assert len(ids) == steps * batch_size
    for number in range(4):
        one_pass = ids[number * samples : (number + 1) * samples]
        np.testing.assert_array_equal(one_pass, pass_order(samples, 5, number))
        np.testing.assert_array_equal(np.sort(one_pass), np.arange(samples))


def test_passes_and_seeds_have_orders_of_their_own():
    orders = [tuple(pass_order(50, seed, number)) for seed in (1, 2) for number in (0, 1)]
    assert len(set(orders)) == 4


@pytest.mark.training  # compiles for seconds
@pytest.mark.parametrize("first_step", [1, 6, 13])
def test_a_stream_from_a_later_step_has_the_same_elements(first_step):
    task = small_task()
    assert_equal(
        elements(task, 3, first_step=first_step, strong="default"),
        elements(task, first_step + 3, strong="default")[first_step:],
    )


@pytest.mark.training  # compiles for seconds
@pytest.mark.parametrize("strong", ["autoaug", "randaug"])
def test_strong_views_are_repeated_by_a_resumed_run_too(strong):
    task = small_task()
    assert_equal(
        elements(task, 1, first_step=2, strong=strong), elements(task, 3, strong=strong)[2:]
    )


def test_an_element_has_what_belongs_to_its_ids():
    task = small_task()
    for element in elements(task, 5, strong="default"):
        assert set(element) == {
            "ids",
            "images",
            "labels",
            "gold",
            "strong",
            "probe_images",
            "probe_labels",
        }
        np.testing.assert_array_equal(element["labels"], task.train.labels[element["ids"]])
        np.testing.assert_array_equal(element["gold"], task.train.gold[element["ids"]])
        for key in ("images", "strong", "probe_images"):
            assert element[key].shape == (4, 32, 32, 3)
            assert element[key].dtype == np.float32
            assert -1 <= element[key].min() <= element[key].max() <= 1
        assert (
            element["labels"].dtype
            == element["gold"].dtype
            == element["probe_labels"].dtype
            == np.int32
        )
        assert element["ids"].dtype == np.int64
    plain = elements(small_task(probe=0), 1)[0]
    assert set(plain) == {"ids", "images", "labels", "gold"}


def test_static_shapes_are_known():
    spec = train_stream(
        small_task(), batch_size=4, seed=0, first_step=0, strong="autoaug", probe=True
    ).element_spec
    assert {key: tuple(value.shape) for key, value in spec.items()} == {
        "ids": (4,),
        "labels": (4,),
        "gold": (4,),
        "probe_labels": (4,),
        "images": (4, 32, 32, 3),
        "strong": (4, 32, 32, 3),
        "probe_images": (4, 32, 32, 3),
    }


def test_true_labels_that_nobody_knows_are_the_given_ones():
    task = small_task(probe=0)
    task.train.gold = None
    element = elements(task, 1)[0]
    np.testing.assert_array_equal(element["gold"], element["labels"])


@pytest.mark.training  # compiles for seconds
@pytest.mark.parametrize(("replicas", "split"), [(2, (1, 1)), (3, (3,)), (4, (1, 2, 1))])
def test_replicas_share_the_global_batch(replicas, split):
    task, steps = small_task(samples=40), 4
    whole = elements(task, steps, batch_size=4 * replicas)
    hosts, first = [], 0
    for local in split:
        own = elements(
            task, steps * local, num_replicas=replicas, first_replica=first, local_replicas=local
        )
        hosts.append([own[step * local : (step + 1) * local] for step in range(steps)])
        first += local
    for step in range(steps):
        parts = [element for host in hosts for element in host[step]]
        for key in ("ids", "labels", "probe_labels"):
            np.testing.assert_array_equal(
                np.concatenate([part[key] for part in parts]), whole[step][key]
            )
        assert len({part["images"].tobytes() for part in parts}) == replicas


def test_the_probe_is_not_shuffled_and_runs_on():
    task = small_task(view="digits")  # whose views are the images themselves
    labels = np.concatenate([e["probe_labels"] for e in elements(task, 6, first_step=2)])
    positions = np.arange(8, 8 + 24) % 7
    np.testing.assert_array_equal(labels, task.probe.labels[positions])
    images = np.concatenate([e["probe_images"] for e in elements(task, 6, first_step=2)])
    np.testing.assert_array_equal(images, task.probe.plain(tf.constant(positions)))


def test_views_differ_between_steps_replicas_kinds_and_seeds():
    seeds = [
        tuple(row)
        for seed in (0, 1)
        for step in (0, 1)
        for replica in (0, 1)
        for row in view_seeds(seed, step, replica)
    ]
    assert len(set(seeds)) == 2 * 2 * 2 * 3
    task = small_task(samples=4)
    one, two = elements(task, 2)
    order = [np.argsort(e["ids"]) for e in (one, two)]
    assert not np.array_equal(one["images"][order[0]], two["images"][order[1]])


def test_a_missing_probe_and_replicas_that_do_not_exist_are_refused():
    with pytest.raises(ValueError, match="without a probe"):
        elements(small_task(probe=0), 1, probe=True)
    with pytest.raises(ValueError, match="not among 2"):
        elements(small_task(), 1, num_replicas=2, first_replica=1, local_replicas=2)


@pytest.mark.parametrize(("batch_size", "sizes"), [(10, [10, 10, 3]), (23, [23]), (100, [23])])
def test_evaluation_is_one_pass_in_order(batch_size, sizes):
    source = small_task().train
    for _ in range(2):  # every pass begins anew
        batches = list(evaluation_batches(source, batch_size))
        assert [len(images) for images, _ in batches] == sizes
        np.testing.assert_array_equal(
            np.concatenate([labels for _, labels in batches]), source.labels
        )
        np.testing.assert_array_equal(
            np.concatenate([images for images, _ in batches]),
            source.plain(tf.range(23, dtype=tf.int64)),
        )

"""Seeds depend on run, step, purpose and replica, and on nothing else."""

import itertools

import numpy as np
import tensorflow as tf

from ieg.method.seeds import stream_seed, tensor_seed


def test_every_argument_gives_another_seed_of_numpy():
    cases = list(itertools.product((0, 1, 12345), (0, 1, 200_000), ("queue", "mixup")))
    seeds = [stream_seed(*case) for case in cases]
    assert len(set(seeds)) == len(cases)
    assert all(0 <= seed < 2**32 for seed in seeds)  # what RandomState takes
    assert seeds == [stream_seed(*case) for case in cases]


def test_every_argument_gives_another_seed_of_tensorflow():
    cases = list(itertools.product((0, 12345), (0, 1, 200_000), ("order", "mixup"), (0, 1)))
    seeds = [tuple(tensor_seed(*case).numpy().tolist()) for case in cases]
    assert len(set(seeds)) == len(cases)


def test_seeds_are_the_same_in_other_processes_and_versions():
    """These numbers are part of what a seed means: a run of an older version must resume."""
    assert [stream_seed(12345, step, "queue") for step in (0, 1)] == [1301532543, 1438734014]
    assert tensor_seed(12345, 7, "mixup", 1).numpy().tolist() == [-603704276, 1]


def test_step_and_replica_may_be_tensors_of_a_graph():
    compiled = tf.function(lambda step, replica: tensor_seed(1, step, "mixup", replica))
    for step, replica in ((0, 0), (5, 3)):
        found = compiled(tf.constant(step), tf.constant(replica))
        np.testing.assert_array_equal(found, tensor_seed(1, step, "mixup", replica))

"""Gradients with several terms are added two at a time, whatever TensorFlow would like to do."""

import subprocess
import sys

import pytest
from conftest import environment

CODE = """
import sys
sys.path.insert(0, sys.argv[1])
import tensorflow as tf
from ieg.run.devices import add_in_order

@tf.function
def gradient(x):
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = tf.sin(x) + tf.exp(x) + x * x + tf.cos(x)
    return tape.gradient(y, x)

def operations():
    graph = gradient.get_concrete_function(tf.TensorSpec((3,))).graph
    return [operation.type for operation in graph.get_operations()]

x = tf.constant([0.1, 0.2, 0.3])
before, first = operations(), gradient(x)
add_in_order()
gradient = tf.function(gradient.python_function)
same = bool(tf.reduce_all(tf.abs(gradient(x) - first) < 1e-6))
print("AddN" in before, "AddN" in operations(), same,
      tf.config.optimizer.get_experimental_options()["arithmetic_optimization"])
"""


@pytest.mark.training
def test_no_sum_of_many_terms_is_left():
    # In a process of its own, because it changes TensorFlow for good. The first word says whether
    # it is needed at all.
    package = str(
        next(path for path in sys.path if path.endswith("ieg_fsr") and "tests" not in path)
    )
    run = subprocess.run(
        [sys.executable, "-c", CODE, package],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.stdout.split() == ["True", "False", "True", "False"], run.stderr[-2000:]

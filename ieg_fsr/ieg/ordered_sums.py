"""Sums in the order of the program, so that two runs on several threads have the same bits.

TensorFlow's AddN begins with the input whose memory happens to be free, which differs from run to
run, and rounds accordingly; `enable_op_determinism` knows nothing of it. GradientTape uses it
wherever a tensor has several gradients, and the graph optimizer makes it out of ordinary sums.
"""

import functools
from collections.abc import Sequence

import tensorflow as tf
from tensorflow import Tensor
from tensorflow.python.ops import (
    gen_math_ops,  # GradientTape takes its AddN from here; there is no public way to it
)


def add_in_order() -> None:
    """Makes gradients, and sums of every kind, add two terms at a time from now on; costs no time
    that was measurable.
    """
    gen_math_ops.add_n = _add_in_order
    tf.config.optimizer.set_experimental_options({"arithmetic_optimization": False})


def _add_in_order(inputs: Sequence[Tensor], name: str | None = None) -> Tensor:
    return functools.reduce(gen_math_ops.add_v2, inputs)

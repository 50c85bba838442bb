"""What L2R and IEG make of every sample: how often it has a weight in the last part of training.

Their meta gradient gives no weight to a sample whose loss falls against that of the trusted ones.
How large a weight is says less: once a clean sample is learnt its gradient is small, and so is its
weight. Of the wrong labels of NOTES.md the share finds more than the mean weight does.

Counts are kept on the device, so that no step waits for them; checkpoints have them. Shapes: N
training samples, B samples of a step.
"""

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from tensorflow import Tensor


class WeightCounts(tf.Module):  # type: ignore[misc]  # TensorFlow has no types
    """From `restart` on, in how many steps each of N samples was, and had a weight above 0."""

    def __init__(self, count: int) -> None:
        """count: N."""
        super().__init__()
        self.started = tf.Variable(0.0, trainable=False)  # 1 from `restart` on
        self.drawn = tf.Variable(tf.zeros(count), trainable=False)
        self.weighted = tf.Variable(tf.zeros(count), trainable=False)

    def restart(self) -> None:
        """Forgets everything and counts from here on."""
        self.started.assign(1.0)
        for variable in (self.drawn, self.weighted):
            variable.assign(tf.zeros_like(variable))

    def record(self, ids: Tensor, weights: Tensor) -> None:
        """Takes note of a step's samples; runs inside a tf.function.

        ids: (B,) int64, all different, so that the counts are right on a GPU; weights: (B,) >= 0.
        """
        for variable, new in (
            (self.drawn, tf.ones_like(weights)),
            (self.weighted, tf.cast(weights > 0, tf.float32)),
        ):
            known = tf.gather(variable, ids)
            variable.scatter_nd_update(ids[:, None], known + self.started * new)

    def shares(self) -> NDArray[np.float32]:
        """(N,) in [0, 1]: of its steps, those with weight; NaN for samples that no step has met."""
        drawn, weighted = self.drawn.numpy(), self.weighted.numpy()
        shares: NDArray[np.float32] = np.full_like(drawn, np.nan)
        np.divide(weighted, drawn, out=shares, where=drawn > 0)
        return shares

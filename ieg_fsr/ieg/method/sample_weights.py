"""What the weights of L2R and IEG say of every sample: their mean over the last part of training.

The mean counts in units of the uniform weight and is kept on the device, so that no step waits for
it; checkpoints have it. Shapes: N training samples, B samples of a step.
"""

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from tensorflow import Tensor


class SampleWeights(tf.Module):  # type: ignore[misc]  # TensorFlow has no types
    """Sums of the weights of all N samples, and of how many, from `restart` on."""

    def __init__(self, count: int, batch_size: int) -> None:
        """count: N; batch_size: B of one replica, whose weights sum to 1."""
        super().__init__()
        self._batch_size = batch_size
        self.started = tf.Variable(0.0, trainable=False)  # 1 from `restart` on
        self.sums = tf.Variable(tf.zeros(count), trainable=False)
        self.times = tf.Variable(tf.zeros(count), trainable=False)

    def restart(self) -> None:
        """Forgets everything and counts from here on."""
        self.started.assign(1.0)
        for variable in (self.sums, self.times):
            variable.assign(tf.zeros_like(variable))

    def record(self, ids: Tensor, weights: Tensor) -> None:
        """Takes note of a step's samples; runs inside a tf.function.

        ids: (B,) int64, all different, so that the sums have the same bits on a GPU; weights: (B,).
        """
        for variable, new in (
            (self.sums, self._batch_size * weights),
            (self.times, tf.ones_like(weights)),
        ):
            known = tf.gather(variable, ids)
            variable.scatter_nd_update(ids[:, None], known + self.started * new)

    def means(self) -> NDArray[np.float32]:
        """(N,) mean weights, 1 for the uniform one; NaN for samples that no step has met."""
        sums, times = self.sums.numpy(), self.times.numpy()
        means: NDArray[np.float32] = np.full_like(sums, np.nan)
        np.divide(sums, times, out=means, where=times > 0)
        return means

"""Random numbers that are functions of (seed, step, purpose).

So a resumed run draws what an uninterrupted one does.
"""

import zlib

import numpy as np
import tensorflow as tf
from tensorflow import Tensor


# DEVIATION(ieg_fsr): every random number follows from --seed, step and purpose; the original seeds
# the split of the data only, and no two runs of it are alike.
def stream_seed(seed: int, step: int, stream: str) -> int:
    """A 32-bit seed that depends on all three arguments."""
    sequence = np.random.SeedSequence([seed, step, zlib.crc32(stream.encode())])
    return int(sequence.generate_state(1)[0])


def tensor_seed(seed: int, step: int | Tensor, stream: str, replica: int | Tensor = 0) -> Tensor:
    """The same as a seed (2,) int32 for TensorFlow's stateless generators."""
    key = tf.constant([stream_seed(seed, 0, stream) & 0x7FFFFFFF, 0], tf.int32)
    key = tf.random.experimental.stateless_fold_in(key, tf.cast(step, tf.int32))
    return tf.random.experimental.stateless_fold_in(key, tf.cast(replica, tf.int32))

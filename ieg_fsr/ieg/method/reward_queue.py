"""FSR's queue: training samples that stand in for reward data.

Zhang & Pfister, "Learning Fast Sample Re-weighting Without Reward Data", ICCV 2021, section 3.3.

Every sample has a rate, the moving average of its negative margin: how little its loss fell at the
classifier's virtual step. After each epoch the queue takes the samples of lowest rate of each
class; every step draws a class-balanced batch from it. Shapes: N training samples, S places of the
queue, Q samples drawn for a step, C classes.
"""

from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from tensorflow import Tensor

from ieg.input.image_sources import Source
from ieg.method.seeds import stream_seed, tensor_seed
from ieg.method.signs import watched
from shared.datasets.image_data import DatasetError

UNSEEN = -1  # the recorded label of a sample that no step has met
READ_AT_ONCE = 100  # images


def balanced_sample(
    labels: NDArray[np.int64], count: int, num_classes: int, random: np.random.RandomState
) -> NDArray[np.int64]:
    """Positions (count,) of a class-balanced draw from labels (S,), class after class.

    Without replacement, or with it from a class that has too few. Raises DatasetError where a class
    is missing.
    """
    if count % num_classes:
        raise DatasetError(
            f"{count} samples cannot be balanced over {num_classes} classes: choose a multiple of "
            "them"
        )
    each, drawn = count // num_classes, []
    for label in range(num_classes):
        positions = np.flatnonzero(labels == label)
        if len(positions) == 0:
            raise DatasetError(
                f"class {label} has no sample at all, so FSR's queue cannot be balanced over "
                "the classes"
            )
        if len(positions) < each:
            print(
                f"note: class {label} has {len(positions)} samples for {each} places of FSR's "
                "queue: some are taken twice"
            )
        drawn.append(random.choice(positions, each, replace=len(positions) < each))
    return np.concatenate(drawn)


def lowest_rates(
    labels: NDArray[np.int64], rates: NDArray[np.float32], per_class: int, num_classes: int
) -> NDArray[np.int64]:
    """Ids of the `per_class` samples of lowest rate of each class, rates ascending.

    labels: (N,) the noisy ones, UNSEEN where no step has met the sample; a class may be short.
    rates: (N,).
    """
    chosen = []
    for label in range(num_classes):
        ids = np.flatnonzero(labels == label)
        chosen.append(ids[np.argsort(rates[ids], kind="stable")[:per_class]])
    return np.concatenate(chosen)


def last_of_each(ids: Tensor) -> Tensor:
    """Positions (k,) of the last of equal ids (B,).

    A batch that crosses the end of a pass may have a sample twice.
    """
    same = tf.linalg.band_part(tf.equal(ids[:, None], ids), 0, -1)
    same_later = tf.linalg.set_diag(same, tf.zeros_like(ids, tf.bool))
    return tf.where(~tf.reduce_any(same_later, axis=1))[:, 0]


def updated_rates(rates: Tensor, ids: Tensor, margins: Tensor, beta: float) -> Tensor:
    """Rates (N,) after a step that gave margins (B,) to different samples ids (B,).

    beta >= 1 sums the scores instead of averaging them.
    """
    old, score = tf.gather(rates, ids), -margins
    new = beta * old + (1.0 - beta) * score if beta < 1.0 else old + beta * score
    return tf.tensor_scatter_nd_update(rates, ids[:, None], new)


# DEVIATION(ieg_fsr): the queue keeps images as bytes; the original keeps floats. CIFAR's views only
# move pixels and lose nothing, WebVision's are rounded to 1/255, for a quarter of the memory.
# DEVIATION(ieg_fsr): queued images are part of the checkpoint; the original draws others when it
# resumes.
class RewardQueue(tf.Module):  # type: ignore[misc]  # TensorFlow has no types
    """Rates of all N samples, and the S places with their images."""

    def __init__(
        self, source: Source, *, num_classes: int, capacity: int, batch: int, beta: float, seed: int
    ) -> None:
        super().__init__()
        self._source, self._num_classes, self._batch = source, num_classes, batch
        self._beta, self._seed = beta, seed
        count, image = len(source.labels), source.image_shape
        unseen = tf.fill((count,), tf.constant(UNSEEN, tf.int64))
        self.rates = tf.Variable(tf.zeros(count), trainable=False)
        self.seen_labels = tf.Variable(unseen, trainable=False)
        self.images = tf.Variable(tf.zeros((capacity, *image), tf.uint8), trainable=False)
        with tf.device("CPU"):  # read by the host at every step, which must not wait for the device
            self.ids = tf.Variable(tf.zeros(capacity, tf.int64), trainable=False)

    def fill(self, order: NDArray[np.int64]) -> None:
        """The start: reads samples until every class can fill its places, and draws from them.

        order: (N,) ids.
        """
        capacity, labels = self.ids.shape[0], self._source.labels[order]
        needed = capacity // self._num_classes
        ends = [
            np.flatnonzero(labels == label)[needed - 1 : needed]
            for label in range(self._num_classes)
        ]
        read = 1 + max(end[0] for end in ends) if all(len(end) for end in ends) else len(order)
        read = -(-read // self._batch) * self._batch  # whole batches
        random = np.random.RandomState(self._seed)
        drawn = order[balanced_sample(labels[:read], capacity, self._num_classes, random)]
        self._store(np.arange(capacity), drawn, epoch=0)

    def draw(self, step: int) -> dict[str, NDArray[Any]]:
        """Q places of the queue for a step, balanced over the classes, and the labels there, int32.

        A function of the seed, the step and what is in the queue.
        """
        random = np.random.RandomState(stream_seed(self._seed, step, "queue"))
        labels = self._source.labels[self.ids.numpy()]
        places = balanced_sample(labels, self._batch, self._num_classes, random)
        return {"queue_places": places, "queue_labels": labels[places].astype(np.int32)}

    def images_at(self, places: Tensor) -> Tensor:
        """Images (Q, H, W, 3) float32; runs inside a tf.function."""
        return self._source.scale(tf.gather(self.images, places))

    def record(self, ids: Tensor, labels: Tensor, margins: Tensor) -> None:
        """Takes note of a step's samples, all different; runs inside a tf.function.

        ids, labels, margins: (B,).
        """
        self.rates.assign(updated_rates(self.rates, ids, margins, self._beta))
        self.seen_labels.assign(
            tf.tensor_scatter_nd_update(self.seen_labels, ids[:, None], tf.cast(labels, tf.int64))
        )

    # DEVIATION(ieg_fsr): a class with too few samples keeps older ones in its own places of the
    # queue; in the original they stay at its front, whatever their class, and the queue is no
    # longer balanced.
    def refresh(self, epoch: int) -> None:
        """The end of an epoch: the most helpful samples of each class take its places."""
        each = self.ids.shape[0] // self._num_classes
        ids = lowest_rates(self.seen_labels.numpy(), self.rates.numpy(), each, self._num_classes)
        counts = np.bincount(self._source.labels[ids], minlength=self._num_classes)
        ends = each * (1 + np.arange(self._num_classes))
        places = [np.arange(end - count, end) for end, count in zip(ends, counts)]
        self._store(np.concatenate(places), ids, epoch)

    def purity(self) -> float | None:
        """The share of clean labels in the queue, None where nobody knows; only shown."""
        ids, clean = self.ids.numpy(), self._source.gold
        return None if clean is None else float(np.mean(self._source.labels[ids] == clean[ids]))

    def known_rates(self) -> NDArray[np.float32]:
        """(N,) rates; NaN for samples that no step has met."""
        return np.where(self.seen_labels.numpy() == UNSEEN, np.nan, self.rates.numpy())

    def state(self) -> dict[str, NDArray[Any]]:
        """Arrays for users; the first two are what the published code keeps in queue_info.npy."""
        ids = self.ids.numpy()
        return {
            "ds_labels": self.seen_labels.numpy(),
            "ds_rates": self.rates.numpy(),
            "queue_ids": ids,
            "queue_labels": self._source.labels[ids],
        }

    def _store(self, places: NDArray[np.int64], ids: NDArray[np.int64], epoch: int) -> None:
        """Puts newly augmented samples ids (k,) at these places (k,)."""
        seed = tensor_seed(self._seed, epoch, "queue")

        def views(number: Tensor, ids: Tensor) -> Tensor:
            return self._source.unscale(
                self._source.weak(ids, tf.random.experimental.stateless_fold_in(seed, number))
            )

        parts = tf.data.Dataset.from_tensor_slices(ids).batch(READ_AT_ONCE).enumerate()
        images = parts.map(views, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        starts = range(0, len(ids), READ_AT_ONCE)
        for part, first in zip(watched(images, "FSR's queue", len(starts)), starts):
            self.images.scatter_nd_update(places[first : first + READ_AT_ONCE, None], part)
        self.ids.scatter_nd_update(places[:, None], ids)

"""The stream of training batches, and evaluation in order.

Every element is a function of (seed, step, replica) alone: a resumed run asks for the stream from
its step and gets the same elements, so there is no iterator state to keep. Samples come as one
random permutation per pass, passes joined and cut into batches that may cross the end of a pass
(shuffle -> repeat -> batch). The probe is never shuffled: its samples come class by class in turn,
so that a batch holds every class.

Shapes: N training samples, B batch of one replica, P probe samples, C classes.
"""

import zlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from ieg.input.image_sources import Source
from ieg.input.tasks import Task

STREAMS = ("weak", "strong", "probe")
Element = dict[str, tf.Tensor]


# DEVIATION(ieg_fsr): every pass is a full permutation; the original's shuffle buffers of 1,000 to
# 4,096 samples mix locally.
def pass_order(samples: int, seed: int, number: int) -> NDArray[np.int64]:
    """The permutation (N,) int64 of pass `number`, counted from 0."""
    return np.random.default_rng([seed, zlib.crc32(b"order"), number]).permutation(samples)


# DEVIATION(ieg_fsr): every random number follows from --seed, step and purpose; the original's
# crops and shuffles do not.
def view_seeds(seed: int, step: int, replica: int) -> NDArray[np.int32]:
    """Seeds (3, 2) of the three kinds of random views, in the order of STREAMS."""
    words = [
        np.random.SeedSequence([seed, zlib.crc32(stream.encode()), step, replica])
        for stream in STREAMS
    ]
    return np.stack([sequence.generate_state(2).view(np.int32) for sequence in words])


class _Order:
    """Positions in the joined passes to sample ids; consecutive batches share a permutation."""

    def __init__(self, samples: int, seed: int) -> None:
        self._samples, self._seed = samples, seed
        self._number, self._ids = -1, np.zeros(0, np.int64)

    def ids(self, start: int, count: int) -> NDArray[np.int64]:
        """Ids (count,) of the positions from `start` on."""
        parts, stop = [], start + count
        while start < stop:
            number, offset = divmod(start, self._samples)
            if number != self._number:
                self._number, self._ids = number, pass_order(self._samples, self._seed, number)
            parts.append(self._ids[offset : offset + stop - start])
            start += len(parts[-1])
        return np.concatenate(parts)


def train_stream(
    task: Task,
    *,
    batch_size: int,
    seed: int,
    first_step: int,
    strong: str | None,
    num_replicas: int = 1,
    first_replica: int = 0,
    local_replicas: int = 1,
    probe: bool,
) -> tf.data.Dataset:
    """Endless batches from step `first_step` (counted from 0) on; local replicas take turns.

    batch_size: B; strong: the kind of strong augmentation, None for none; num_replicas: of all
    machines, each takes its block of a batch; the local ones are first_replica ... first_replica +
    local_replicas - 1; probe: add probe batches.

    An element has `ids` (B,) int64, `images` (B, H, W, 3) float32, `labels` (B,) int32, which are
    noisy, `gold` (B,) int32, the clean ones (the noisy ones where nobody knows), and if asked for
    `strong` like images, `probe_images`, `probe_labels`.
    """
    if probe and task.probe is None:
        raise ValueError(f"{task.name} was loaded without a probe: give a probe ratio above 0")
    if local_replicas < 1 or not 0 <= first_replica <= num_replicas - local_replicas:
        raise ValueError(
            f"{local_replicas} replicas from {first_replica} on are not among {num_replicas}"
        )
    probe_source = task.probe if probe else None
    if probe_source is not None and len(probe_source.labels) == 0:
        raise ValueError(f"the probe of {task.name} is empty")

    def numbers() -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int32]]]:
        order, step = _Order(len(task.train.labels), seed), first_step
        while True:
            for replica in range(first_replica, first_replica + local_replicas):
                start = (step * num_replicas + replica) * batch_size
                positions = np.arange(start, start + batch_size)
                probe_ids = (
                    positions % len(probe_source.labels) if probe_source is not None else positions
                )
                yield order.ids(start, batch_size), probe_ids, view_seeds(seed, step, replica)
            step += 1

    ids = tf.TensorSpec((batch_size,), tf.int64)
    signature = (ids, ids, tf.TensorSpec((len(STREAMS), 2), tf.int32))
    stream = tf.data.Dataset.from_generator(numbers, output_signature=signature)
    return _parallel(stream, _element_maker(task.train, probe_source, strong, batch_size))


def _element_maker(
    train: Source, probe: Source | None, strong: str | None, batch_size: int
) -> Callable[..., Element]:
    labels, gold = _int32(train.labels), _int32(train.labels if train.gold is None else train.gold)
    probe_labels = _int32(probe.labels) if probe is not None else None

    def batch_of(images: tf.Tensor) -> tf.Tensor:  # static shapes, for XLA
        return tf.ensure_shape(images, (batch_size, *train.image_shape))

    def element(ids: tf.Tensor, probe_ids: tf.Tensor, seeds: tf.Tensor) -> Element:
        weak_seed, strong_seed, probe_seed = tf.unstack(seeds, num=len(STREAMS))
        images = batch_of(train.weak(ids, weak_seed))
        made = {
            "ids": ids,
            "images": images,
            "labels": tf.gather(labels, ids),
            "gold": tf.gather(gold, ids),
        }
        if strong is not None:
            made["strong"] = batch_of(train.strong(ids, images, strong_seed, strong))
        if probe is not None:
            made["probe_images"] = batch_of(probe.weak(probe_ids, probe_seed))
            made["probe_labels"] = tf.gather(probe_labels, probe_ids)
        return made

    return element


# DEVIATION(ieg_fsr): the last, smaller batch of an evaluation counts; the original drops it for L2R
# and FSR.
def evaluation_batches(source: Source, batch_size: int) -> tf.data.Dataset:
    """Images (b, H, W, 3) float32 and labels (b,) int32 of all samples in order, once.

    The last batch may be smaller.
    """
    labels = _int32(source.labels)
    ids = tf.data.Dataset.range(len(source.labels)).batch(batch_size)
    return _parallel(ids, lambda batch: (source.plain(batch), tf.gather(labels, batch)))


def _parallel(stream: tf.data.Dataset, make: Callable[..., Any]) -> tf.data.Dataset:
    return stream.map(make, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True).prefetch(
        tf.data.AUTOTUNE
    )


def _int32(labels: NDArray[np.int64]) -> tf.Tensor:
    # Where the input pipeline runs; a constant on the GPU would come back for every batch.
    with tf.device("CPU"):
        return tf.constant(labels, tf.int32)

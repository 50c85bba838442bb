"""What test_devices.py looks at, in a process of its own.

TensorFlow splits its CPU only once, when it starts.

    python two_devices.py FOLDER

writes FOLDER/found.json and the run folders of short runs on two devices.
"""

import json
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import conftest  # the path and the number of threads
import keras
import numpy as np
import tensorflow as tf

from ieg import main, networks
from ieg.method import trainer
from ieg.method.reward_queue import RewardQueue
from ieg.networks.batch_norm import BatchNorm
from ieg.run import config, experiment

# Several strategies in one process number their collective operations alike and hang or fail; a run
# has one.
mirrored = cache(tf.distribute.MirroredStrategy)
tf.distribute.MirroredStrategy = lambda devices: mirrored(tuple(devices))
CLASSES, BATCH, SAMPLES, SHAPE, RATE = 3, 4, 24, (4, 4, 3), 0.25
QUEUE_PLACES, QUEUE_BATCH = 6, 3


class Images:
    """A source of random images."""

    image_shape, gold = SHAPE, None

    def __init__(self) -> None:
        self.labels = np.arange(SAMPLES) % CLASSES
        self.pixels = tf.random.stateless_uniform((SAMPLES, *SHAPE), (1, 2), -1.0, 1.0)

    def weak(self, ids: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        return tf.gather(self.pixels, ids)

    def scale(self, images: tf.Tensor) -> tf.Tensor:
        return tf.cast(images, tf.float32) / 127.5 - 1.0

    def unscale(self, images: tf.Tensor) -> tf.Tensor:
        return tf.cast(tf.round((images + 1.0) * 127.5), tf.uint8)


def network(norm: bool) -> keras.Model:
    """A small one; its features are those of a hidden layer."""
    first, second, third = (keras.initializers.GlorotUniform(seed) for seed in (1, 2, 3))
    images = keras.Input(SHAPE)
    x = keras.layers.Conv2D(4, 3, kernel_initializer=first)(images)
    x = BatchNorm()(x) if norm else x
    features = keras.layers.Dense(8, "tanh", kernel_initializer=second)(keras.layers.Flatten()(x))
    return keras.Model(
        images, [features, keras.layers.Dense(CLASSES, kernel_initializer=third)(features)]
    )


def made(method: str, strategy: tf.distribute.Strategy, norm: bool = True) -> trainer.Trainer:
    """A trainer of the small network; FSR without mixup, whose draws differ between replicas."""
    flags = config.parse(
        [
            f"--method={method}",
            "--nouse_mixup",
            "--use_pseudo_loss=all_1_0.1_2",
            "--meta_start_epoch=0",
        ]
    )
    settings = experiment.settings_of(flags, CLASSES, strategy.num_replicas_in_sync, 3)
    with strategy.scope():
        model = network(norm)
    decay = [lambda weights: networks.regularisation("wrn10-1", weights)] * 2
    queue = None
    if method == "fsr":
        queue = RewardQueue(
            Images(),
            num_classes=CLASSES,
            capacity=QUEUE_PLACES,
            batch=QUEUE_BATCH,
            beta=0.9,
            seed=1,
        )
        queue.fill(np.arange(SAMPLES))
    return trainer.Trainer(
        method,
        model,
        trainer.network_of(model, *decay),
        settings,
        strategy,
        momentum_rate=0.9,
        seed=1,
        jit_compile=False,
        queue=queue,
        pseudo_samples=SAMPLES if method == "fsr" else 0,
    )


def batch_of(ids: np.ndarray) -> dict[str, tf.Tensor]:
    """A batch of these samples; label noise on some."""
    source = Images()
    images = tf.gather(source.pixels, ids)
    labels = tf.constant((source.labels[ids] + (ids % 5 == 0)) % CLASSES, tf.int32)
    return {
        "ids": tf.constant(ids),
        "images": images,
        "strong": images[:, ::-1],
        "labels": labels,
        "gold": tf.constant(source.labels[ids], tf.int32),
        "probe_images": -images,
        "probe_labels": labels,
    }


def train(
    made: trainer.Trainer, halves: Callable[[int], list[dict[str, tf.Tensor]]], steps: int = 3
) -> dict[str, Any]:
    """Weights, metrics of the last step and what FSR recorded after a few steps.

    halves(step): a batch for each replica.
    """
    for step in range(steps):
        parts = halves(step)
        batch = (
            parts[0]
            if len(parts) == 1
            else made.strategy.experimental_distribute_values_from_function(
                lambda context, parts=parts: parts[context.replica_id_in_sync_group]
            )
        )
        shared = {"iteration": tf.constant(step), "learning_rate": tf.constant(RATE)}
        if made.queue is not None:
            shared |= {name: tf.constant(value) for name, value in made.queue.draw(step).items()}
        metrics, samples = made.step(batch, shared)
    state = {
        name: [tf.convert_to_tensor(v).numpy().ravel().tolist() for v in getattr(made, name)]
        for name in ("weights", "moving", "accumulators", "averages")
    }
    found = {
        **state,
        "metrics": {name: float(value) for name, value in metrics.items()},
        "samples": {name: value.numpy().tolist() for name, value in samples.items()},
    }
    if made.queue is not None:
        found |= {
            "rates": made.queue.rates.numpy().tolist(),
            "seen": made.queue.seen_labels.numpy().tolist(),
        }
    return found


def compared() -> dict[str, Any]:
    """The small network on one device and on two, with the same half, or two halves of a batch."""
    one, two = tf.distribute.get_strategy(), tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])

    def ids(step: int) -> np.ndarray:
        return np.arange(2 * BATCH) + 2 * BATCH * (step % 3)

    found: dict[str, Any] = {"same": {}}
    # The same draws for all replicas, else each draws its own.
    draws_of = trainer.draws_of
    trainer.draws_of = lambda method, batch, seed, replica: draws_of(method, batch, seed, 0)
    for method in conftest.METHODS:
        single = train(made(method, one), lambda step: [batch_of(ids(step)[:BATCH])])
        double = train(made(method, two), lambda step: [batch_of(ids(step)[:BATCH])] * 2)
        found["same"][method] = [single, double]
    trainer.draws_of = draws_of
    found["joint"] = [
        train(made("supervised", one, norm=False), lambda step: [batch_of(ids(step))]),
        train(
            made("supervised", two, norm=False),
            lambda step: [batch_of(ids(step)[:BATCH]), batch_of(ids(step)[BATCH:])],
        ),
    ]
    found["queue"] = train(
        made("fsr", two), lambda step: [batch_of(ids(step)[:BATCH]), batch_of(ids(step)[BATCH:])], 1
    )
    found["queue_labels"] = batch_of(np.arange(SAMPLES))["labels"].numpy().tolist()
    return found


def runs(folder: Path) -> dict[str, int]:
    """The program itself on two devices: every method, and FSR in two parts. Exit statuses."""
    flags = [
        *conftest.TINY,
        "--cpu_replicas=2",
        "--batch_size=10",
        "--meta_start_epoch=0",
        "--eval_freq=2",
    ]

    def status(method: str, name: str, steps: int) -> int:
        return main.main(
            [
                *flags,
                f"--method={method}",
                f"--max_iteration={steps}",
                f"--output_dir={folder / name}",
            ]
        )

    found = {method: status(method, method, 4) for method in conftest.METHODS}
    return {
        **found,
        "first part": status("fsr", "parts", 2),
        "second part": status("fsr", "parts", 4),
    }


if __name__ == "__main__":
    target = Path(sys.argv[1])
    statuses = runs(target)  # first, since it splits the CPU
    (target / "found.json").write_text(json.dumps({**compared(), "statuses": statuses}))

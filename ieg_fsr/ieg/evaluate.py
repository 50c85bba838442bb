"""Accuracy of the weights and of their averages on a validation set."""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from ieg.input import evaluation_batches
from ieg.sources import Source
from ieg.trainer import Trainer


def evaluate(trainer: Trainer, source: Source, batch_size: int, averages: bool) -> dict[str, float]:
    """One pass: accuracy, accuracy_top5 (percent), loss, count; with `averages` also accuracy_ema
    and accuracy_top5_ema.

    Averaged weights meet the statistics of batch normalisation of the others, as published. Labels
    that the network does not know are left out.
    """
    found = _one_pass(trainer, trainer.weights, source, batch_size)
    if averages:
        average = _one_pass(trainer, trainer.averages, source, batch_size)
        found |= {
            "accuracy_ema": average["accuracy"],
            "accuracy_top5_ema": average["accuracy_top5"],
        }
    return found


def _one_pass(
    trainer: Trainer, weights: Sequence[tf.Variable], source: Source, batch_size: int
) -> dict[str, float]:
    point, moving = (
        [tf.convert_to_tensor(v) for v in group] for group in (weights, trainer.moving)
    )
    sums = [
        trainer.evaluate_batch(point, moving, images, labels)
        for images, labels in evaluation_batches(source, batch_size)
    ]
    count, top1, top5, loss = np.sum([s.numpy() for s in sums], axis=0, dtype=np.float64)
    return {
        "accuracy": 100.0 * top1 / count,
        "accuracy_top5": 100.0 * top5 / count,
        "loss": loss / count,
        "count": count,
    }

"""The training loop of all four methods, and the evaluation of what it trains.

A step is in trainer.py, which draws the random numbers and moves the weights, and in
step_supervised.py, step_l2r.py, step_ieg.py and step_fsr.py, which are the papers' update rules.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from tensorflow import Tensor

from ieg.input.batches import evaluation_batches
from ieg.input.image_sources import Source
from ieg.method.schedules import Plan
from ieg.method.signs import watched
from ieg.method.step import Batch
from ieg.method.trainer import Trainer

READ_EVERY = 10  # steps whose figures are read at once: the device is not waited for at every step
READ_SECONDS = 30.0  # or, of slow steps, those of half a minute
Figures = dict[str, float]


class NonFiniteLossError(FloatingPointError):
    """A loss is NaN or infinite; the message names the step."""


class TrainedStep(NamedTuple):
    """What a step was like."""

    iteration: int  # from 1 on
    learning_rate: float
    figures: Figures  # the step's metrics
    samples: dict[str, Tensor]  # a row for each sample of all replicas


@dataclass(frozen=True)
class Progress:
    """What has happened since the last one."""

    steps: list[TrainedStep]  # one at least
    queue_refreshed: bool
    evaluations: dict[str, Figures] | None  # by the name of the set; None where none was due
    timing: Figures  # seconds and steps of training since the last evaluation

    @property
    def iteration(self) -> int:
        """Steps done."""
        return self.steps[-1].iteration


# DEVIATION(ieg_fsr): FSR's queue is filled before the first step; in the original that step sees a
# batch of zeros.
def train(
    trainer: Trainer,
    batches: Iterator[Batch],
    plan: Plan,
    evaluate_all: Callable[[], dict[str, Figures]],
    *,
    done: int,
    queue_order: NDArray[np.int64],
) -> Iterator[Progress]:
    """Trains from step `done` to the plan's end; yields every ten steps and at every evaluation.

    Steps that take seconds are handed on earlier.

    batches: from step `done` on. evaluate_all: figures of every evaluation set. queue_order: (N,)
    ids in the order in which FSR's queue first meets them. Raises NonFiniteLossError before ruined
    weights could be saved. Without an evaluation set, evaluations are empty when they are due.
    """
    queue = trainer.queue
    if queue is not None and not done:
        queue.fill(queue_order)
    counts = trainer.weight_counts
    judged_from = plan.judged_from
    if counts is not None and not counts.started.numpy():
        judged_from = max(judged_from, done)  # resumed for fewer steps than were planned before
    unread: list[tuple[int, float, Batch, Batch]] = []
    since = last_read = time.perf_counter()
    timed = 0
    for iteration in range(done + 1, plan.max_iteration + 1):
        if counts is not None and iteration == judged_from + 1:
            counts.restart()
        learning_rate = plan.learning_rate(iteration - 1)
        shared = {
            "iteration": tf.constant(iteration - 1),
            "learning_rate": tf.constant(learning_rate, tf.float32),
        }
        if queue is not None:
            drawn = queue.draw(iteration - 1)
            shared |= {name: tf.constant(value) for name, value in drawn.items()}
        metrics, samples = trainer.step(next(batches), shared)
        unread.append((iteration, learning_rate, metrics, samples))
        timed += 1

        due, refreshed = iteration in plan.evaluations, False
        if queue is not None and iteration % plan.iter_epoch == 0:
            queue.refresh(iteration // plan.iter_epoch)
            refreshed = True
        slow = time.perf_counter() - last_read > READ_SECONDS
        if not (due or refreshed or slow or iteration == 1 or iteration % READ_EVERY == 0):
            continue
        steps, unread = read(unread), []
        last_read = time.perf_counter()
        timing = {"seconds": last_read - since, "steps": timed}
        evaluations = None
        if due:
            evaluations = finite(iteration, evaluate_all())
            if not evaluations:
                check_weights(iteration, trainer.weights)
        yield Progress(steps, refreshed, evaluations, timing)
        if due:
            since, timed = time.perf_counter(), 0


def read(unread: Sequence[tuple[int, float, Batch, Batch]]) -> list[TrainedStep]:
    """Waits for the device and reads the metrics of some steps.

    Raises NonFiniteLossError, naming the first bad step.
    """
    names = list(unread[0][2])
    table = tf.stack([tf.stack([metrics[name] for name in names]) for _, _, metrics, _ in unread])
    steps = []
    for (iteration, learning_rate, _, samples), numbers in zip(unread, table.numpy()):
        figures = dict(zip(names, numbers.tolist()))
        for name in names:
            if name.startswith("loss") and not np.isfinite(figures[name]):
                raise NonFiniteLossError(f"iteration {iteration}: {name} {figures[name]}")
        steps.append(TrainedStep(iteration, learning_rate, figures, samples))
    return steps


def finite(iteration: int, evaluations: dict[str, Figures]) -> dict[str, Figures]:
    """The evaluations, if their losses are finite; else the last step has ruined the weights."""
    for name, figures in evaluations.items():
        if not np.isfinite(figures["loss"]):
            raise NonFiniteLossError(
                f"iteration {iteration}, evaluation ({name}): loss {figures['loss']}"
            )
    return evaluations


def check_weights(iteration: int, weights: Sequence[tf.Variable]) -> None:
    """What no evaluation shows: whether the last step has ruined the weights."""
    if not all(np.isfinite(weight.numpy()).all() for weight in weights):
        raise NonFiniteLossError(f"iteration {iteration}: weights that are not finite")


def evaluate(trainer: Trainer, source: Source, batch_size: int, averages: bool) -> Figures:
    """One pass over a validation set: accuracy, accuracy_top5 (percent), loss, count.

    averages: also accuracy_ema and accuracy_top5_ema, of the EMA of the weights. They meet the
    statistics of batch normalisation of the weights themselves, as published. Labels that the
    network does not know are left out.
    """
    found = _one_pass(trainer, trainer.weights, source, batch_size)
    if averages:
        average = _one_pass(trainer, trainer.averages, source, batch_size)
        found |= {f"{name}_ema": average[name] for name in ("accuracy", "accuracy_top5")}
    return found


def _one_pass(
    trainer: Trainer, weights: Sequence[tf.Variable], source: Source, batch_size: int
) -> Figures:
    point, moving = _tensors(weights), _tensors(trainer.moving)
    batches = evaluation_batches(source, batch_size)
    sums = [
        trainer.evaluate_batch(point, moving, images, labels)
        for images, labels in watched(batches, "evaluation", -(-len(source.labels) // batch_size))
    ]
    count, top1, top5, loss = np.array([s.numpy() for s in sums], np.float64).sum(axis=0)
    return {
        "accuracy": 100.0 * top1 / count,
        "accuracy_top5": 100.0 * top5 / count,
        "loss": loss / count,
        "count": count,
    }


def predict(
    trainer: Trainer, source: Source, batch_size: int, averages: bool
) -> NDArray[np.float32]:
    """Probabilities (N, C) of the images without augmentation, in order.

    averages: of the EMA of the weights, which meet the same statistics as in `evaluate`.
    """
    point = _tensors(trainer.averages if averages else trainer.weights)
    moving, batches = _tensors(trainer.moving), evaluation_batches(source, batch_size)
    shown = watched(batches, "predictions", -(-len(source.labels) // batch_size))
    return np.concatenate(
        [trainer.predict_batch(point, moving, images).numpy() for images, _ in shown]
    )


def _tensors(variables: Sequence[tf.Variable]) -> list[Tensor]:
    return [tf.convert_to_tensor(v) for v in variables]

"""The variables of a run and the compiled functions that change them.

One step: read the variables, draw the random numbers, run the method (a pure function, compiled by
XLA where that is faster), sum gradients over the replicas, then move weights, momentum, averages
and statistics. Every replica assigns the same values, so any of them is the state.

Weights move by TensorFlow 1's momentum rule. Keras' SGD keeps the learning rate inside its
velocity; the two differ whenever the rate changes, which is at every step here, and the look-ahead
of IEG and FSR needs the accumulator in the scale of gradients.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import keras
import tensorflow as tf
from tensorflow import Tensor

from ieg.method import losses, step_fsr, step_ieg, step_l2r, step_supervised
from ieg.method.reward_queue import RewardQueue, last_of_each
from ieg.method.seeds import tensor_seed
from ieg.method.settings import Settings
from ieg.method.step import Batch, Network, Passed, Values
from ieg.method.weight_counts import WeightCounts

EMA_DECAY = 0.999
GATHERED = ("weights", "meta_gradients", "margin", "pseudo_rows")  # from all replicas at every step
STEPS = {
    "supervised": step_supervised.step,
    "l2r": step_l2r.step,
    "ieg": step_ieg.step,
    "fsr": step_fsr.step,
}


def network_of(
    model: keras.Model,
    regularisation: Callable[..., Tensor],
    meta_regularisation: Callable[..., Tensor],
) -> Network:
    """The model, whose outputs are features and logits, as functions of its weights."""

    def forward(weights: Sequence[Tensor], moving: Sequence[Tensor], images: Tensor) -> Passed:
        (features, logits), moved = model.stateless_call(weights, moving, images, training=True)
        return Passed(features, logits, list(moved))

    return Network(forward, regularisation, meta_regularisation)


def descend(
    weight: tf.Variable,
    accumulator: tf.Variable,
    gradient: Tensor,
    learning_rate: Tensor,
    momentum: float,
) -> None:
    """Accumulator a <- momentum a + g, in the scale of gradients, then theta <- theta - lr a.

    One operation, which goes through the 36 million weights of wrn28-10 once instead of four times.
    """
    tf.raw_ops.ResourceApplyMomentum(
        var=weight.handle,
        accum=accumulator.handle,
        lr=learning_rate,
        grad=gradient,
        momentum=momentum,
    )


def follow(average: tf.Variable, weight: tf.Variable, share: Tensor) -> None:
    """Moves the average e of a weight by the share of its way: e <- e - share (e - theta)."""
    tf.raw_ops.ResourceApplyGradientDescent(var=average.handle, alpha=share, delta=average - weight)


def share_of(step: Tensor) -> Tensor:
    """Of an average's way to its weight, 1 - min(0.999, (1 + step) / (10 + step))."""
    step = tf.cast(step, tf.float32)
    return 1.0 - tf.minimum(EMA_DECAY, (1.0 + step) / (10.0 + step))


class Trainer:
    """State and steps of one method on one network.

    queue: FSR's, else None. pseudo_samples: N where FSR keeps a table of averaged logits (N, C),
    else 0. weight_counts: how often L2R and IEG give each sample a weight, else None.
    """

    def __init__(
        self,
        method: str,
        model: keras.Model,
        network: Network,
        settings: Settings,
        strategy: tf.distribute.Strategy,
        *,
        momentum_rate: float,
        seed: int,
        jit_compile: bool,
        queue: RewardQueue | None = None,
        pseudo_samples: int = 0,
        weight_counts: WeightCounts | None = None,
    ) -> None:
        self.model, self.queue, self.strategy = model, queue, strategy
        self.weight_counts = weight_counts
        self._method, self._network, self._settings, self._seed = method, network, settings, seed
        self._momentum = momentum_rate
        with strategy.scope():
            self.weights = [v.value for v in model.trainable_variables]
            self.moving = [v.value for v in model.non_trainable_variables]
            self.accumulators = [_variable(tf.zeros(v.shape)) for v in self.weights]
            self.averages = [_variable(tf.convert_to_tensor(v)) for v in self.weights]
        classes = settings.num_classes
        self.pseudo_logits = self.class_weights = None
        if pseudo_samples:
            self.pseudo_logits = _variable(tf.zeros((pseudo_samples, classes)))
        if method == "fsr" and settings.moving_weight_gamma > 0:
            uniform = 1.0 / (settings.batch_size * settings.num_replicas)
            self.class_weights = _variable(tf.fill([classes], uniform))
        # Nothing here branches on the value of a tensor, and AutoGraph would take up to three
        # seconds at the start to rewrite the code.
        compiled = partial(tf.function, autograph=False, jit_compile=jit_compile or None)
        self._compute = compiled(self._method_step)
        self.step = tf.function(self._step, autograph=False)
        self.evaluate_batch = compiled(self._evaluate_batch, reduce_retracing=True)
        self.predict_batch = compiled(self._predict_batch, reduce_retracing=True)

    def state(self) -> dict[str, Any]:
        """Everything that changes, for a checkpoint."""
        named = {
            "weights": self.weights,
            "moving": self.moving,
            "accumulators": self.accumulators,
            "averages": self.averages,
            "queue": self.queue,
            "pseudo_logits": self.pseudo_logits,
            "class_weights": self.class_weights,
            "weight_counts": self.weight_counts,
        }
        return {name: value for name, value in named.items() if value is not None}

    # ---- one step

    def _step(self, batch: Any, shared: Batch) -> tuple[Batch, Batch]:
        """Trains on one batch for each replica.

        shared: what all replicas get: iteration (steps done), learning_rate, and for FSR
        queue_places and queue_labels. Returns scalar metrics, mean over replicas, and a row for
        each sample of all replicas.
        """
        if self.queue is not None:
            shared = {**shared, "queue_images": self.queue.images_at(shared["queue_places"])}
        if self.class_weights is not None:
            shared = {**shared, "class_weights": self.class_weights.read_value()}
        elif self._method == "fsr":
            shared = {**shared, "class_weights": tf.zeros(self._settings.num_classes)}
        metrics, samples = self.strategy.run(self._replica_step, args=(batch, shared))
        # Gathered or averaged over the replicas, so each of them has the same.
        metrics, samples = tf.nest.map_structure(
            lambda v: self.strategy.experimental_local_results(v)[0], (metrics, samples)
        )
        # DEVIATION(ieg_fsr): the samples of all devices reach FSR's queue; in the original those of
        # the last one alone.
        last = last_of_each(samples["ids"])
        kept = {name: tf.gather(rows, last) for name, rows in samples.items()}
        if self.weight_counts is not None:
            self.weight_counts.record(kept["ids"], kept["weights"])
        if self.queue is not None:
            self.queue.record(kept["ids"], kept["labels"], kept["margin"])
            if self.pseudo_logits is not None:
                self.pseudo_logits.scatter_nd_update(kept["ids"][:, None], kept["pseudo_rows"])
        if self.class_weights is not None:
            self.class_weights.assign(metrics["class_weights"])
        metrics.pop("class_weights", None)
        return metrics, samples

    def _replica_step(self, batch: Batch, shared: Batch) -> tuple[Batch, Batch]:
        context = tf.distribute.get_replica_context()
        batch = {**batch, **shared}
        if self.pseudo_logits is not None:
            batch["pseudo_rows"] = tf.gather(self.pseudo_logits, batch["ids"])
        elif self._method == "fsr":
            batch["pseudo_rows"] = tf.zeros((batch["labels"].shape[0], self._settings.num_classes))
        draws = draws_of(self._method, batch, self._seed, context.replica_id_in_sync_group)
        held = (self.weights, self.moving, self.accumulators)
        values = Values(*([tf.identity(v) for v in group] for group in held))
        gradients, moving, metrics, samples = self._compute(values, batch, draws)
        if "class_weights" in samples:
            metrics["class_weights"] = samples.pop("class_weights")
        samples = {name: samples[name] for name in GATHERED if name in samples}
        samples |= {name: batch[name] for name in ("ids", "labels")}
        if context.num_replicas_in_sync > 1:
            gradients = context.all_reduce(tf.distribute.ReduceOp.SUM, gradients)
            moving, metrics = context.all_reduce(tf.distribute.ReduceOp.MEAN, (moving, metrics))
            samples = {name: gather(context, rows) for name, rows in samples.items()}
        self._update(gradients, moving, batch)
        return metrics, samples

    def _method_step(self, values: Values, batch: Batch, draws: Batch) -> tuple[Any, ...]:
        outcome = STEPS[self._method](self._network, values, batch, draws, self._settings)
        return outcome.gradients, outcome.moving, outcome.metrics, outcome.samples

    def _update(self, gradients: Sequence[Tensor], moving: Sequence[Tensor], batch: Batch) -> None:
        """Moves weights, accumulators, averages and statistics, alike on all replicas."""
        # As published: supervised training averages the weights before they move, one step behind;
        # IEG after.
        behind = self._method == "supervised"
        share = share_of(batch["iteration"] + (0 if behind else 1))

        def move(weight: tf.Variable, *args: Any) -> None:
            accumulator, average, gradient, learning_rate, share = args
            if behind:
                follow(average, weight, share)
            descend(weight, accumulator, gradient, learning_rate, self._momentum)
            if not behind:
                follow(average, weight, share)

        def update(strategy: tf.distribute.Strategy, *values: Any) -> None:
            gradients, moving, learning_rate, share = values
            trained = zip(self.weights, self.accumulators, self.averages, gradients)
            for weight, *others in trained:
                strategy.extended.update(weight, move, (*others, learning_rate, share), group=False)
            for statistic, value in zip(self.moving, moving):
                strategy.extended.update(statistic, lambda v, x: v.assign(x), (value,))

        values = (list(gradients), list(moving), batch["learning_rate"], share)
        tf.distribute.get_replica_context().merge_call(update, values)

    # ---- evaluation

    def _evaluate_batch(
        self, weights: list[Tensor], moving: list[Tensor], images: Tensor, labels: Tensor
    ) -> Tensor:
        """Sums over the samples whose label the network knows.

        These are how many, correct, correct in the first five, cross-entropy.
        """
        classes = self._settings.num_classes
        logits = self._logits(weights, moving, images)
        known = tf.cast(labels < classes, tf.float32)
        rows = [
            tf.ones_like(known),
            losses.correct(labels, logits, 1),
            losses.correct(labels, logits, min(5, classes)),
            losses.cross_entropy(tf.one_hot(labels, classes), logits),
        ]
        return tf.stack([tf.reduce_sum(known * row) for row in rows])

    def _predict_batch(self, weights: list[Tensor], moving: list[Tensor], images: Tensor) -> Tensor:
        """Probabilities (b, C) of images (b, H, W, 3)."""
        return tf.nn.softmax(self._logits(weights, moving, images))

    def _logits(self, weights: list[Tensor], moving: list[Tensor], images: Tensor) -> Tensor:
        return self.model.stateless_call(weights, moving, images, training=False)[0][1]


def _variable(value: Tensor) -> tf.Variable:
    return tf.Variable(value, trainable=False)


def draws_of(method: str, batch: Batch, seed: int, replica: int | Tensor) -> Batch:
    """The random numbers of a step, made outside the compiled method.

    So they do not depend on the compiler.
    """

    def uniform(count: int, stream: str) -> Tensor:
        return tf.random.stateless_uniform(
            (count,), tensor_seed(seed, batch["iteration"], stream, replica)
        )

    size = batch["labels"].shape[0]
    if method == "fsr":
        return {
            "mix_uniform": uniform(size, "mixup"),
            "mix_order": tf.argsort(uniform(size, "order")),
        }
    if method == "ieg":
        probes = batch["probe_labels"].shape[0]
        return {
            "mix_uniform": uniform(3 * size, "mixup"),
            "mix_order": tf.argsort(uniform(3 * size, "order")),
            "probe_choice": tf.cast(uniform(size, "probe") * probes, tf.int32),
        }
    return {}


def gather(context: tf.distribute.ReplicaContext, rows: Tensor) -> Tensor:
    """The rows (B, ...) of all replicas, one after another.

    A sum of blocks that are zero elsewhere; the context's own all_gather fails on machines with one
    device each.
    """
    blocks = tf.zeros((context.num_replicas_in_sync, *rows.shape), rows.dtype)
    blocks = tf.tensor_scatter_nd_update(blocks, [[context.replica_id_in_sync_group]], rows[None])
    return tf.reshape(context.all_reduce(tf.distribute.ReduceOp.SUM, blocks), (-1, *rows.shape[1:]))

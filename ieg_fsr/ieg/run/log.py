"""metrics.jsonl with a row for each evaluation, and the published TensorBoard tags.

Accuracies of a row are in percent; TensorBoard's are fractions, as published. Events have every
tenth step of supervised training and FSR, and every step of L2R and IEG.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow import Tensor

from ieg.method.reward_queue import RewardQueue
from ieg.method.train import READ_EVERY, Figures, Progress, TrainedStep
from ieg.run.checkpoint import Record
from shared.files import write_atomically

Row = dict[str, Any]
TIMING = ("seconds", "images_per_s")  # the only fields of a row that differ between two equal runs
CLASSES_SHOWN = 10
# Means over the steps since the last evaluation: name in the row, metric, factor.
ROW_MEANS = {
    "loss": ("loss/net", 1.0),
    "accuracy_train": ("acc/train", 100.0),
    "loss_meta": ("loss/meta", 1.0),
    "accuracy_meta": ("acc/meta", 100.0),
    "loss_pseudo": ("loss/pseudo", 1.0),
    "loss_mixup": ("loss/xemin", 1.0),
    "loss_consistency": ("loss/consistency", 1.0),
    "zero_weights": ("weights/zeroratio", 1.0),
}
# Ratios of two sums: tag, sums above and below the line.
RATIOS = {
    "weights/clean": ("sum/clean_weight", "sum/clean"),
    "weights/noisy": ("sum/noisy_weight", "sum/noisy"),
    "weights/purity": ("sum/used_clean", "sum/used"),
    "loss/clean": ("sum/clean_loss", "sum/clean"),
    "loss/noisy": ("sum/noisy_loss", "sum/noisy"),
    "loss_margin/clean": ("sum/clean_margin", "sum/clean"),
    "loss_margin/noisy": ("sum/noisy_margin", "sum/noisy"),
    "loss/masked_clean": ("sum/masked_clean_loss", "sum/masked_clean"),
    "loss/unmasked_noisy": ("sum/unmasked_noisy_loss", "sum/unmasked_noisy"),
}
EVALUATION_TAGS = {
    "accuracy": "eval",
    "accuracy_top5": "top5_eval",
    "accuracy_ema": "ema_eval",
    "accuracy_top5_ema": "top5_ema_eval",
}


def unknown(averages: bool) -> dict[str, None]:
    """The figures of a row where there is no evaluation set. averages: those of the EMA model too.

    The names are those of `ieg.method.train.evaluate`.
    """
    names = [name for name in EVALUATION_TAGS if averages or not name.endswith("_ema")]
    return dict.fromkeys([*names, "loss_eval"])


class Log:
    """metrics.jsonl and the TensorBoard events of a run.

    Opening it rewrites metrics.jsonl with the rows of `record`, so that nothing is logged twice.

    record: of the checkpoints, to whose rows `write` appends. method: one of the four. uniform: 1
    over the samples of a step of one replica, the weight of every sample before any judgement.
    truth_known: whether it is known which labels are wrong.
    """

    def __init__(
        self,
        folder: Path,
        record: Record,
        *,
        method: str,
        iter_epoch: int,
        uniform: float,
        num_classes: int,
        truth_known: bool,
        finer: bool,
        copy_evaluation: bool,
    ) -> None:
        self.rows, self._path = record.rows, folder / "metrics.jsonl"
        self._method, self._iter_epoch = method, iter_epoch
        self._uniform, self._truth_known = uniform, truth_known
        self._finer, self._copy = finer and method == "fsr", copy_evaluation
        self._class_weights = record.class_weights
        if not self._class_weights and num_classes <= CLASSES_SHOWN:
            self._class_weights += [uniform] * num_classes
        self._sums: Figures = {}  # of the metrics of the steps since the last evaluation
        self._steps = 0
        write_atomically(self._path, "".join(map(_line, self.rows)).encode())
        self._train, self._eval = (
            tf.summary.create_file_writer(str(folder / name)) for name in ("train", "eval")
        )

    def write(self, progress: Progress, **more: float | None) -> Row | None:
        """Takes note of some steps; the new row of metrics.jsonl if they end in an evaluation.

        more: further figures of the row.
        """
        for step in progress.steps:
            self._steps += 1
            for name, value in step.figures.items():
                self._sums[name] = self._sums.get(name, 0.0) + value
            if self._finer:
                self._follow_classes(step.samples)
            evaluated = progress.evaluations is not None and step.iteration == progress.iteration
            every = self._method in ("l2r", "ieg") or step.iteration % READ_EVERY == 0
            if every or evaluated or step.iteration == 1:
                self._write_step(step)
        if progress.evaluations is None:
            return None
        return self._row(progress, list(progress.evaluations.values()), more)

    def _row(
        self, progress: Progress, evaluations: Sequence[Figures], more: Mapping[str, float | None]
    ) -> Row:
        iteration, learning_rate = progress.steps[-1][:2]
        row: Row = {
            "iteration": iteration,
            "epoch": iteration / self._iter_epoch,
            "learning_rate": learning_rate,
        }
        for name, (metric, factor) in ROW_MEANS.items():
            if metric in self._sums:
                row[name] = factor * self._sums[metric] / self._steps
        row |= self._weight_figures()
        for number, figures in enumerate(evaluations):
            prefix = "" if number == 0 else "imagenet_"
            for name, value in figures.items():
                if name != "count":
                    row[f"{prefix}{'loss_eval' if name == 'loss' else name}"] = value
        row |= more
        self._sums, self._steps = {}, 0
        self.rows.append(row)
        with open(self._path, "a") as file:
            file.write(_line(row))
        self._write_evaluations(iteration, evaluations)
        return row

    def close(self) -> None:
        self._train.close()
        self._eval.close()

    # ---- figures

    def _weight_figures(self) -> dict[str, float | None]:
        """Mean weight of clean and of noisy samples, 1 for the uniform one, and purity.

        Purity is the share of clean samples among those with weight.
        """
        if not self._truth_known or "sum/clean_weight" not in self._sums:
            return {}
        clean, noisy, purity = (
            _ratio(self._sums, *RATIOS[f"weights/{name}"]) for name in ("clean", "noisy", "purity")
        )
        return {
            "weight_clean": None if clean is None else clean / self._uniform,
            "weight_noisy": None if noisy is None else noisy / self._uniform,
            "weights_purity": purity,
        }

    def _follow_classes(self, samples: Mapping[str, Tensor]) -> None:
        """Moving averages, decay 0.9, of each class's mean weight."""
        if not self._class_weights:
            return
        weights, labels = samples["weights"].numpy(), samples["labels"].numpy()
        for label in np.unique(labels):
            mean = float(weights[labels == label].mean())
            self._class_weights[label] = 0.9 * self._class_weights[label] + 0.1 * mean

    # ---- events

    def _write_step(self, step: TrainedStep) -> None:
        figures = step.figures
        scalars = {tag: value for tag, value in figures.items() if not tag.startswith("sum/")}
        scalars["acc/train"] = self._sums["acc/train"] / self._steps  # since the last evaluation
        scalars["epoch"] = step.iteration // self._iter_epoch
        scalars["learningrate"] = step.learning_rate
        if self._truth_known and "sum/clean_weight" in figures:
            for tag, (above, below) in RATIOS.items():
                if above in figures and (ratio := _ratio(figures, above, below)) is not None:
                    scalars[tag] = ratio
            total = figures["sum/clean_weight"] + figures["sum/noisy_weight"]
            scalars["weights/ratio"] = figures["sum/clean_weight"] / total if total > 0 else 0.0
        with self._train.as_default(step=step.iteration):
            _write_scalars(scalars)
            if self._finer:
                tf.summary.histogram("weights/value", step.samples["weights"])
                tf.summary.histogram("weights/grad", step.samples["meta_gradients"])
                classes = enumerate(self._class_weights)
                _write_scalars({f"weights/class{label}": value for label, value in classes})

    def _write_evaluations(self, iteration: int, found: Sequence[Figures]) -> None:
        with self._eval.as_default(step=iteration):
            for figures, suffix in zip(found, ("", "_test")):
                fractions = {
                    f"acc{suffix}/{tag}": figures[name] / 100
                    for name, tag in EVALUATION_TAGS.items()
                    if name in figures
                }
                _write_scalars(fractions)
                tf.summary.scalar(f"acc{suffix}/error", 100 - figures["accuracy"])
                if "accuracy_ema" in figures:
                    tf.summary.scalar(f"acc{suffix}/ema_error", 100 - figures["accuracy_ema"])
                tf.summary.scalar(f"loss{suffix}/eval", figures["loss"])
        if self._copy and found:
            self._copy_to_train(iteration, found[0])
        self._train.flush()
        self._eval.flush()

    def _copy_to_train(self, iteration: int, figures: Figures) -> None:
        """--summary_eval_to_train: the main evaluation among the training events."""
        time = "time" if self._method == "fsr" else ""
        top1, top5 = (
            figures.get(f"{name}_ema", figures[name]) for name in ("accuracy", "accuracy_top5")
        )
        with self._train.as_default(step=iteration):
            tf.summary.scalar(f"acc/eval_on_train{time}", top1 / 100)
            tf.summary.scalar(f"acc/eval_on_train{time}_top5", top5 / 100)
            tf.summary.scalar("acc/num_eval", figures["count"])

    def queue(self, iteration: int, queue: RewardQueue) -> None:
        """FSR's queue after it was refreshed."""
        state = queue.state()
        with self._train.as_default(step=iteration):
            if (purity := queue.purity()) is not None:
                tf.summary.scalar("queue/purity", purity)
            tf.summary.scalar("queue/capacity", len(state["queue_ids"]))
            tf.summary.histogram("queue/indices", state["queue_ids"])
            tf.summary.histogram("queue/labels", state["queue_labels"])


def _write_scalars(scalars: Mapping[str, float]) -> None:
    for tag, value in scalars.items():
        tf.summary.scalar(tag, value)


def _ratio(values: Mapping[str, float], above: str, below: str) -> float | None:
    return values[above] / values[below] if values[below] > 0 else None


def _line(row: Row) -> str:
    return json.dumps(row) + "\n"

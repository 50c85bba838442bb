"""What a run leaves behind: config.yaml, metrics.jsonl with a row for each evaluation, and the
published TensorBoard tags.

Scalars of a step stay tensors until ten steps are done, so that the device is not waited for at
every step. Accuracies of a row are in percent; TensorBoard's are fractions, as published.
"""

import json
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
import yaml
from tensorflow import Tensor

from ieg.checkpoint import Record
from ieg.reward_queue import RewardQueue
from shared.files import write_atomically

Row = dict[str, Any]
TIMING = ("seconds", "images_per_s")  # the only fields of a row that differ between two equal runs
EVERY = (
    10  # steps between two summaries of supervised training and FSR; L2R and IEG write every step
)
CLASSES_SHOWN = 10
# What a row has of the mean over the steps since the last evaluation: name in the row, metric,
# factor.
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


class NonFiniteLossError(RuntimeError):
    """A loss is NaN or infinite."""


def write_config(folder: Path, config: Mapping[str, Any]) -> None:
    """config.yaml: everything needed to repeat the run."""
    plain = json.loads(json.dumps(config, default=str))
    versions = {
        "python": platform.python_version(),
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
        "numpy": np.__version__,
    }
    write_atomically(
        folder / "config.yaml",
        yaml.safe_dump({**plain, "versions": versions}, sort_keys=False).encode(),
    )


class Report:
    """The log of a run.

    Starting with `rows` rewrites metrics.jsonl, so that nothing is logged twice.

    record: of the checkpoints, to whose rows `log` appends. method: one of the four. uniform: 1
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
        self.rows, self._folder, self._method, self._iter_epoch = (
            record.rows,
            folder,
            method,
            iter_epoch,
        )
        self._uniform, self._truth_known = uniform, truth_known
        self._finer, self._copy = finer and method == "fsr", copy_evaluation
        self._class_weights = record.class_weights
        if not self._class_weights and num_classes <= CLASSES_SHOWN:
            self._class_weights += [uniform] * num_classes
        self._waiting: list[tuple[int, float, dict[str, Tensor], dict[str, Tensor]]] = []
        self._sums: dict[str, float] = {}  # of the metrics of the steps since the last evaluation
        self._steps = 0
        write_atomically(
            folder / "metrics.jsonl", "".join(_line(row) for row in self.rows).encode()
        )
        self._train, self._eval = (
            tf.summary.create_file_writer(str(folder / name)) for name in ("train", "eval")
        )

    def step(
        self,
        iteration: int,
        learning_rate: float,
        metrics: dict[str, Tensor],
        samples: dict[str, Tensor],
    ) -> None:
        """Takes note of a step; reads what has gathered every ten steps.

        Raises NonFiniteLossError.
        """
        self._waiting.append((iteration, learning_rate, metrics, samples))
        if iteration % EVERY == 0 or iteration == 1:
            self.flush()

    def flush(self, at_evaluation: bool = False) -> None:
        """Reads the steps that wait and writes their summaries.

        Raises NonFiniteLossError, naming the first bad step.
        """
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return
        names = list(waiting[0][2])
        table = tf.stack(
            [tf.stack([metrics[name] for name in names]) for _, _, metrics, _ in waiting]
        ).numpy()
        last = waiting[-1][0]
        for (iteration, learning_rate, _, samples), numbers in zip(waiting, table):
            values = dict(zip(names, numbers.tolist()))
            if bad := [
                name for name in names if name.startswith("loss") and not np.isfinite(values[name])
            ]:
                raise NonFiniteLossError(f"iteration {iteration}: {bad[0]} {values[bad[0]]}")
            self._steps += 1
            self._sums = {name: self._sums.get(name, 0.0) + value for name, value in values.items()}
            if self._finer:
                self._follow_classes(samples)
            if (
                self._method in ("l2r", "ieg")
                or iteration in (1, at_evaluation and last)
                or iteration % EVERY == 0
            ):
                self._write_step(iteration, learning_rate, values, samples)

    def log(
        self, iteration: int, learning_rate: float, found: dict[str, dict[str, float]], more: Row
    ) -> Row:
        """A row for an evaluation.

        found: what evaluate() gave, by the name of the set, the main one first.

        Raises NonFiniteLossError where the last step has ruined the weights, so that they are not
        saved.
        """
        self.flush()
        for name, figures in found.items():
            if not np.isfinite(figures["loss"]):
                raise NonFiniteLossError(
                    f"iteration {iteration}, evaluation ({name}): loss {figures['loss']}"
                )
        row: Row = {
            "iteration": iteration,
            "epoch": iteration / self._iter_epoch,
            "learning_rate": learning_rate,
        }
        for name, (metric, factor) in ROW_MEANS.items():
            if metric in self._sums:
                row[name] = factor * self._sums[metric] / self._steps
        row |= self._weight_figures()
        for number, figures in enumerate(found.values()):
            prefix = "" if number == 0 else "imagenet_"
            row |= {
                f"{prefix}{'loss_eval' if name == 'loss' else name}": value
                for name, value in figures.items()
                if name != "count"
            }
        row |= more
        self._sums, self._steps = {}, 0
        self.rows.append(row)
        with open(self._folder / "metrics.jsonl", "a") as file:
            file.write(_line(row))
        self._write_evaluation(iteration, found)
        return row

    def close(self) -> None:
        self._train.close()
        self._eval.close()

    # ---- figures

    def _weight_figures(self) -> dict[str, float | None]:
        """Mean weight of clean and of noisy samples in units of the uniform weight, and the share
        of clean among the used.
        """
        if not self._truth_known or "sum/clean_weight" not in self._sums:
            return {}
        ratio = {
            tag: _ratio(self._sums, *RATIOS[tag])
            for tag in ("weights/clean", "weights/noisy", "weights/purity")
        }
        in_units = {
            tag: None if value is None else value / self._uniform for tag, value in ratio.items()
        }
        return {
            "weight_clean": in_units["weights/clean"],
            "weight_noisy": in_units["weights/noisy"],
            "weights_purity": ratio["weights/purity"],
        }

    def _follow_classes(self, samples: dict[str, Tensor]) -> None:
        """Moving averages, decay 0.9, of each class's mean weight."""
        if not self._class_weights:
            return
        weights, labels = samples["weights"].numpy(), samples["labels"].numpy()
        for label in np.unique(labels):
            mean = float(weights[labels == label].mean())
            self._class_weights[label] = 0.9 * self._class_weights[label] + 0.1 * mean

    # ---- events

    def _write_step(
        self,
        iteration: int,
        learning_rate: float,
        values: dict[str, float],
        samples: dict[str, Tensor],
    ) -> None:
        scalars = {name: value for name, value in values.items() if not name.startswith("sum/")}
        scalars["acc/train"] = self._sums["acc/train"] / self._steps  # since the last evaluation
        scalars |= {"epoch": iteration // self._iter_epoch, "learningrate": learning_rate}
        if self._truth_known and "sum/clean_weight" in values:
            ratios = {
                tag: _ratio(values, *sums) for tag, sums in RATIOS.items() if sums[0] in values
            }
            scalars |= {tag: ratio for tag, ratio in ratios.items() if ratio is not None}
            total = values["sum/clean_weight"] + values["sum/noisy_weight"]
            scalars["weights/ratio"] = values["sum/clean_weight"] / total if total > 0 else 0.0
        with self._train.as_default(step=iteration):
            for tag, value in scalars.items():
                tf.summary.scalar(tag, value)
            if self._finer:
                tf.summary.histogram("weights/value", samples["weights"])
                tf.summary.histogram("weights/grad", samples["meta_gradients"])
                for label, value in enumerate(self._class_weights):
                    tf.summary.scalar(f"weights/class{label}", value)

    def _write_evaluation(self, iteration: int, found: dict[str, dict[str, float]]) -> None:
        with self._eval.as_default(step=iteration):
            for number, figures in enumerate(found.values()):
                suffix = "" if number == 0 else "_test"
                tags = {
                    "accuracy": "eval",
                    "accuracy_top5": "top5_eval",
                    "accuracy_ema": "ema_eval",
                    "accuracy_top5_ema": "top5_ema_eval",
                }
                for name, tag in tags.items():
                    if name in figures:
                        tf.summary.scalar(f"acc{suffix}/{tag}", figures[name] / 100)
                tf.summary.scalar(f"acc{suffix}/error", 100 - figures["accuracy"])
                if "accuracy_ema" in figures:
                    tf.summary.scalar(f"acc{suffix}/ema_error", 100 - figures["accuracy_ema"])
                tf.summary.scalar(f"loss{suffix}/eval", figures["loss"])
        if self._copy:
            best = next(iter(found.values()))
            time = "time" if self._method == "fsr" else ""
            with self._train.as_default(step=iteration):
                top1, top5 = (
                    best.get("accuracy_ema", best["accuracy"]),
                    best.get("accuracy_top5_ema", best["accuracy_top5"]),
                )
                tf.summary.scalar(f"acc/eval_on_train{time}", top1 / 100)
                tf.summary.scalar(f"acc/eval_on_train{time}_top5", top5 / 100)
                tf.summary.scalar("acc/num_eval", best["count"])
        self._train.flush()
        self._eval.flush()

    def queue(self, iteration: int, queue: RewardQueue) -> None:
        """FSR's queue after it was refreshed."""
        state = queue.state()
        with self._train.as_default(step=iteration):
            if (purity := queue.purity()) is not None:
                tf.summary.scalar("queue/purity", purity)
            tf.summary.scalar("queue/capacity", len(state["queue_ids"]))
            tf.summary.histogram("queue/indices", state["queue_ids"])
            tf.summary.histogram("queue/labels", state["queue_labels"])


def _ratio(values: Mapping[str, float], above: str, below: str) -> float | None:
    return values[above] / values[below] if values[below] > 0 else None


def _line(row: Row) -> str:
    return json.dumps(row) + "\n"

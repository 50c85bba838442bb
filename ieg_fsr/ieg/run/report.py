"""What a run prints, and what it comes to; without TensorFlow, so that tables are there at once."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from ieg.method.schedules import Plan
    from ieg.run.experiment import Experiment


def known(value: float | None) -> bool:
    """Whether a figure is a number: it may be missing, null or NaN."""
    return value is not None and math.isfinite(value)


def summary(rows: Sequence[dict[str, Any]], name: str) -> dict[str, float | None]:
    """The last figure `name`, the mean of the last ten, the best one and its iteration.

    Rows without the figure do not count; None where no row has it. The last row's is "last".
    """
    found = [(row[name], row["iteration"]) for row in rows if known(row.get(name))]
    figures = [figure for figure, _ in found]
    best, best_iteration = max(found, key=itemgetter(0)) if found else (None, None)
    return {
        "last": rows[-1][name] if known(rows[-1].get(name)) else None,
        "last_10_mean": sum(figures[-10:]) / len(figures[-10:]) if found else None,
        "best": best,
        "best_iteration": best_iteration,
    }


def print_start(run: Experiment, done: int) -> None:
    task, config, plan = run.task, run.config, run.plan
    labels = f" with the labels of {Path(config.noise_file).name}" if config.noise_file else ""
    probe = "" if task.probe is None else f", {len(task.probe.labels):,} trusted images"
    height, width = task.train.image_shape[:2]
    tested = "no test set"
    if task.evaluation is not None:
        tested = f"{len(task.evaluation.labels):,} to evaluate on"
    print(
        f"{config.method} on {task.name}{labels}: {len(task.train.labels):,} training images of "
        f"{height} x {width} pixels{probe}, {tested}, {task.num_classes} classes"
    )
    if task.train.gold is None:
        print("noise: how many of the labels are wrong is not known")
    else:
        print(f"noise: measured rate {np.mean(task.train.labels != task.train.gold):.4f}")
    replicas = run.strategy.num_replicas_in_sync
    devices = f" x {replicas} devices" if replicas > 1 else ""
    how = (", XLA" if run.jit_compile else "") + (", bfloat16" if config.mixed_precision else "")
    print(
        f"{config.network_name}, {config.batch_size} images a step{devices}, {plan.iter_epoch} "
        f"steps an epoch, {plan.max_iteration} steps{how}; run folder {run.folder}",
        flush=True,
    )
    if done:
        print(f"resumed: iteration {done} of {plan.max_iteration} is done", flush=True)
    if config.method == "fsr" and plan.max_iteration <= config.meta_start_epoch * plan.iter_epoch:
        mixup = " with mixup" if config.use_mixup else ""
        print(
            f"note: all steps come before epoch {config.meta_start_epoch} (--meta_start_epoch), "
            f"from which on FSR's weights and pseudo labels count: this is cross-entropy{mixup} "
            "alone",
            flush=True,
        )


def step_line(iteration: int, plan: Plan, loss: float, images_per_s: float) -> str:
    """A sign of life between two evaluations."""
    epoch, step = divmod(iteration - 1, plan.iter_epoch)
    return (
        f"epoch {epoch}: step {step + 1} of {plan.iter_epoch}, iteration {iteration} of "
        f"{plan.max_iteration}, loss {loss:.4f}, {images_per_s:.0f} images/s"
    )


def line(row: Mapping[str, Any]) -> str:
    """A row of metrics.jsonl in words."""
    parts = [
        f"iteration {row['iteration']} (epoch {row['epoch']:.1f})",
        f"loss {row['loss']:.4f}",
        f"training accuracy {row['accuracy_train']:.2f} %",
    ]
    if row["accuracy"] is not None:
        parts.append(f"accuracy {row['accuracy']:.2f} %")
    if row.get("accuracy_ema") is not None:
        parts.append(f"of averaged weights {row['accuracy_ema']:.2f} %")
    clean, noisy = row.get("weight_clean"), row.get("weight_noisy")
    if clean is not None and noisy is not None:
        parts.append(f"weight of clean {clean:.2f}, of noisy {noisy:.2f}")
    return ", ".join([*parts, f"{row['images_per_s']:.0f} images/s"])


def print_end(run: Experiment) -> None:
    if run.task.evaluation is None:
        print(
            f"{run.config.method}: {run.plan.max_iteration} steps are done; no test set, so there "
            f"are no accuracies; the run is in {run.folder}"
        )
        return
    averaged = run.config.use_ema
    result = summary(run.record.rows, "accuracy_ema" if averaged else "accuracy")
    print(
        f"{run.config.method} accuracy{' of the averaged weights' if averaged else ''}: "
        f"last {result['last']:.2f} % (what the papers report), mean of the last 10 evaluations "
        f"{result['last_10_mean']:.2f} %, best {result['best']:.2f} % "
        f"(iteration {result['best_iteration']})"
    )


def print_evaluation(run: Experiment, done: int) -> None:
    """The accuracies of a checkpoint in the published words; nothing is written.

    The averaged weights are what is published, under the plain name; those of the network itself
    have another.
    """
    kinds = (("_ema", ""), ("", "_raw")) if run.config.use_ema else (("", ""),)
    for name, found in run.evaluate().items():
        for suffix, kind in kinds:
            top1, top5 = (found[f"{figure}{suffix}"] for figure in ("accuracy", "accuracy_top5"))
            print(
                f"Evaluation ({name}{kind}): lr {0.0:.5f} global_step {done} total "
                f"{found['count']:.0f} acc {top1 / 100:.4f} (top-5 {top5 / 100:.4f})"
            )

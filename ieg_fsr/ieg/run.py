"""The training loop, and what a run prints; evaluation of a checkpoint."""

import argparse
import io
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from ieg import checkpoint, report
from ieg.evaluate import evaluate
from ieg.experiment import Experiment, UsageError, prepare
from ieg.report import NonFiniteLossError, Row
from ieg.summary import summary
from shared.datasets import DatasetError
from shared.files import write_atomically
from shared.formats.noise_file import NoiseFileError, write

BAD_INPUT = (UsageError, DatasetError, NoiseFileError, checkpoint.CheckpointError, OSError)
EVALUATED = ("weights", "moving", "averages")  # the part of the state that evaluation needs
# Flags that evaluation needs as they were; the published command gives no others.
SAME_TO_EVALUATE = ("dataset", "network_name", "method", "bottleneck_relu")
KEEP = {"supervised": 5, "ieg": 4, "l2r": 4, "fsr": 3}  # checkpoints, as published


def run_and_report(args: argparse.Namespace) -> int:
    """Trains or evaluates; every error that the user can mend is one message.

    Exit status as main.py documents it.
    """
    try:
        (train if args.mode == "train" else evaluate_only)(prepare(args))
    except NonFiniteLossError as error:
        print(
            f"stopped: the loss is not finite ({error}). The last checkpoint is kept. Lower "
            "--learning_rate or "
            "--meta_stepsize, or leave out --mixed_precision",
            file=sys.stderr,
        )
        return 3
    except BAD_INPUT as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except tf.errors.ResourceExhaustedError as error:
        print(
            f"error: out of memory ({_short(error)}): lower --batch_size, or try --mixed_precision",
            file=sys.stderr,
        )
        return 2
    except tf.errors.OpError as error:  # of the input pipeline, such as a file that is no image
        print(f"error: {_short(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from the last checkpoint", file=sys.stderr)
        return 130
    return 0


def _short(error: tf.errors.OpError) -> str:
    """What TensorFlow says, without the places in its graph."""
    lines = [line.strip() for line in error.message.splitlines() if line.strip()]
    return next(
        (line for line in reversed(lines) if "not a JPEG or PNG" in line),
        lines[0] if lines else str(error),
    )[:300]


# DEVIATION(ieg_fsr): every method goes on from the newest checkpoint of its run folder; the
# original's L2R starts anew.
def train(run: Experiment) -> None:
    """Continues or starts a run, and trains until --max_iteration."""
    done = checkpoint.restore(run.folder, run.trainer.state(), run.record, run.args.restore_step)
    if done > run.max_iteration:
        raise UsageError(
            f"the run has done {done} iterations already: --max_iteration={run.max_iteration} "
            "cannot shorten it"
        )
    queue = run.trainer.queue
    if not done and queue is not None:
        # DEVIATION(ieg_fsr): FSR's queue is filled before the first step; in the original that step
        # sees a batch of zeros.
        queue.fill(run.queue_order())
    with (
        tempfile.TemporaryDirectory() as elsewhere
    ):  # of several machines only one writes the run folder
        folder = run.folder if run.is_chief else Path(elsewhere)
        _write_start(run, folder)
        _print_start(run, done)
        args = run.args
        log = report.Report(
            folder,
            run.record,
            method=args.method,
            iter_epoch=run.iter_epoch,
            uniform=1.0 / args.batch_size,
            num_classes=run.task.num_classes,
            finer=args.verbose_finer_log,
            truth_known=run.task.train.gold is not None,
            copy_evaluation=args.summary_eval_to_train,
        )
        try:
            _train(run, log, done, folder)
        finally:
            log.close()
    _print_end(run)


def _train(run: Experiment, log: report.Report, done: int, folder: Path) -> None:
    rate, due, queue = run.learning_rates(), set(run.evaluations()), run.trainer.queue
    batches, clock = run.batches(done), _Clock()
    for iteration in tqdm(
        range(done + 1, run.max_iteration + 1),
        "steps",
        initial=done,
        total=run.max_iteration,
        disable=None,
    ):
        learning_rate = rate(iteration - 1)
        shared = {
            "iteration": tf.constant(iteration - 1),
            "learning_rate": tf.constant(learning_rate, tf.float32),
        }
        if queue is not None:
            shared |= {
                name: tf.constant(value) for name, value in queue.draw(iteration - 1).items()
            }
        metrics, samples = run.trainer.step(next(batches), shared)
        log.step(iteration, learning_rate, metrics, samples)
        clock.steps += 1
        if queue is not None and iteration % run.iter_epoch == 0:
            queue.refresh(iteration // run.iter_epoch)
            log.queue(iteration, queue)
        if iteration in due:
            # Waits for the device, and stops at a loss that is not finite before anything is saved.
            log.flush(at_evaluation=True)
            timing = clock.stop(run.args.batch_size * run.strategy.num_replicas_in_sync)
            found = {
                name: evaluate(run.trainer, source, run.args.val_batch_size, run.args.use_ema)
                for name, source in run.evaluation_sets().items()
            }
            row = log.log(
                iteration,
                learning_rate,
                found,
                ({"queue_purity": queue.purity()} if queue else {}) | timing,
            )
            if queue is not None:
                # DEVIATION(ieg_fsr): FSR's queue_info is an .npz without pickles; the original's is
                # a pickled .npy.
                write_atomically(folder / "queue_info.npz", _packed(queue.state()))
            checkpoint.save(
                folder, iteration, run.trainer.state(), run.record, KEEP[run.args.method]
            )
            tqdm.write(_line(run, row))
            clock.start()


class _Clock:
    """Seconds and images/s of training alone, between two evaluations."""

    def __init__(self) -> None:
        self.start()

    def start(self) -> None:
        self.steps, self._since = 0, time.perf_counter()

    def stop(self, images_per_step: int) -> dict[str, float]:
        seconds = time.perf_counter() - self._since
        return {"seconds": seconds, "images_per_s": self.steps * images_per_step / seconds}


def evaluate_only(run: Experiment) -> None:
    """Prints the accuracies of a checkpoint, in the published words, and writes nothing."""
    state = {name: value for name, value in run.trainer.state().items() if name in EVALUATED}
    done = checkpoint.restore(
        run.folder, state, run.record, run.args.restore_step, SAME_TO_EVALUATE
    )
    if not done:
        flags = ", ".join(f"--{name}" for name in SAME_TO_EVALUATE)
        raise checkpoint.CheckpointError(
            f"{run.folder} has no checkpoint to evaluate: train first, with the same {flags}"
        )
    for name, source in run.evaluation_sets().items():
        found = evaluate(run.trainer, source, run.args.val_batch_size, run.args.use_ema)
        # The averaged weights are what is published, under the plain name; those of the network
        # itself have another.
        for suffix, kind in (("_ema", ""), ("", "_raw")) if run.args.use_ema else (("", ""),):
            print(
                f"Evaluation ({name}{kind}): lr {0.0:.5f} global_step {done} total "
                f"{found['count']:.0f} "
                f"acc {found[f'accuracy{suffix}'] / 100:.4f} (top-5 "
                f"{found[f'accuracy_top5{suffix}'] / 100:.4f})"
            )


def _write_start(run: Experiment, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for unfinished in folder.glob(".*.tmp*"):  # left by a kill in the middle of writing
        shutil.rmtree(unfinished) if unfinished.is_dir() else unfinished.unlink()
    report.write_config(
        folder,
        {**vars(run.args), "data_location": run.task.location, "identity": run.record.identity},
    )
    if run.task.noise is not None:
        write(folder / "noise.npz", run.task.noise)


def _packed(arrays: Mapping[str, np.ndarray]) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


# ---- what is printed


def _print_start(run: Experiment, done: int) -> None:
    task, args = run.task, run.args
    labels = f" with the labels of {Path(args.noise_file).name}" if args.noise_file else ""
    probe = "" if task.probe is None else f", {len(task.probe.labels)} trusted images"
    print(
        f"{args.method} on {task.name}{labels}: {len(task.train.labels)} training images{probe}, "
        f"{len(task.evaluation.labels)} to evaluate on, {task.num_classes} classes"
    )
    if task.train.gold is None:
        print("noise: how many of the labels are wrong is not known")
    else:
        print(f"noise: measured rate {np.mean(task.train.labels != task.train.gold):.4f}")
    devices = run.strategy.num_replicas_in_sync
    print(
        f"{args.network_name}, {args.batch_size} images a "
        f"step{f' x {devices} devices' if devices > 1 else ''}, "
        f"{run.iter_epoch} steps an epoch, {run.max_iteration} "
        f"steps{', XLA' if run.jit_compile else ''}"
        f"{', bfloat16' if args.mixed_precision else ''}; run folder {run.folder}"
    )
    if done:
        print(f"resumed: iteration {done} of {run.max_iteration} is done")


def _line(run: Experiment, row: Row) -> str:
    parts = [
        f"iteration {row['iteration']} (epoch {row['epoch']:.1f})",
        f"loss {row['loss']:.4f}",
        f"training accuracy {row['accuracy_train']:.2f} %",
        f"accuracy {row['accuracy']:.2f} %",
    ]
    if "accuracy_ema" in row:
        parts.append(f"of averaged weights {row['accuracy_ema']:.2f} %")
    if row.get("weight_noisy") is not None and row.get("weight_clean") is not None:
        parts.append(
            f"weight of clean {row['weight_clean']:.2f}, of noisy {row['weight_noisy']:.2f}"
        )
    return ", ".join([*parts, f"{row['images_per_s']:.0f} images/s"])


def _print_end(run: Experiment) -> None:
    name = "accuracy_ema" if run.args.use_ema else "accuracy"
    result = summary(run.rows, name)
    of = " of the averaged weights" if run.args.use_ema else ""
    print(
        f"{run.args.method} accuracy{of}: last {result['last']:.2f} % "
        "(what the papers report), mean of the last 10 evaluations "
        f"{result['last_10_mean']:.2f} %, "
        f"best {result['best']:.2f} % (iteration {result['best_iteration']})"
    )

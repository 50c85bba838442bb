"""How long a training step of each method takes, against double back-propagation.

    make bench-ieg_fsr
    make bench-ieg_fsr ARGS="--json b.json --steps 20 --network_name wrn28-10 --batch_size 100"

The first is CIFAR-10's shapes, resnet29, batch 50: about five minutes on two cores. A step is what
training does for a batch that is there: forward and backward passes, the meta step, the update, for
FSR the draw from its queue. The literal form differentiates through the virtual step as the papers
write it (ieg_fsr_literal.py); all else is the same. The forms take turns, so that a machine whose
speed drifts slows all: the ratios are the figures to trust. Random images of CIFAR-10's shape: the
arithmetic does not depend on what is in them.
"""

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # as main.py does
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "ieg_fsr"))

import numpy as np
import tensorflow as tf

from ieg.input.batches import train_stream
from ieg.input.image_sources import ArraySource
from ieg.input.tasks import Task
from ieg.method import trainer
from ieg.run import experiment
from ieg.run.config import Config
from ieg.run.devices import add_in_order
from tests.bench import ieg_fsr_literal as literal

CLASSES, SAMPLES, VIEWS = 10, 2000, 100
NAMES = {"supervised": "supervised", "l2r": "L2R", "ieg": "IEG", "fsr": "FSR"}
TARGETS = {"l2r": 3.2, "ieg": 9.0, "fsr": 2.2}  # times a supervised step, at most
PEAK = "peak GPU memory, GiB"
LEARNING_RATE = 0.01  # random labels at the usual 0.1 may end in a loss that is not finite


@dataclass(frozen=True)
class Workload:
    """What is timed."""

    network_name: str
    batch_size: int
    xla: bool
    mixed_precision: bool
    turns: int  # that are timed
    repeat: int  # steps of a turn


class Form:
    """One way to compute the steps of a method, ready to run on the same batch again and again."""

    def __init__(self, method: str, is_literal: bool, work: Workload, task: Task) -> None:
        size, strategy = work.batch_size, tf.distribute.get_strategy()
        settings = Config(
            method=method,
            network_name=work.network_name,
            mixed_precision=work.mixed_precision,
            batch_size=size,
            queue_bs=2 * size,
            meta_start_epoch=0,
            seed=1,
        )
        self.trainer = experiment.build_trainer(settings, task, strategy, SAMPLES // size, work.xla)
        self._literal, self._repeat, self._step = is_literal, work.repeat, 0
        if self.trainer.queue is not None:
            self.trainer.queue.fill(np.arange(SAMPLES))
        stream = train_stream(
            task, batch_size=size, seed=1, first_step=0, strong="default", probe=True
        )
        self._batch = next(iter(stream))

    def first_step(self) -> float:
        """The loss of the first step, which is traced, and compiled if need be."""
        with literal_steps() if self._literal else as_trained():
            return self._run()

    def seconds(self) -> float:
        """Of one step; several, if they are short, with nothing to wait for in between."""
        start = time.perf_counter()
        for _ in range(self._repeat - 1):
            self._run(wait=False)
        self._run()
        return (time.perf_counter() - start) / self._repeat

    def _run(self, wait: bool = True) -> float:
        shared = {"iteration": tf.constant(self._step), "learning_rate": tf.constant(LEARNING_RATE)}
        if self.trainer.queue is not None:
            shared |= {
                name: tf.constant(value)
                for name, value in self.trainer.queue.draw(self._step).items()
            }
        metrics, _ = self.trainer.step(self._batch, shared)
        self._step += 1
        if not wait:
            return 0.0
        self.trainer.averages[-1].numpy()
        return float(metrics["loss/net"])


@contextmanager
def literal_steps() -> Iterator[None]:
    """Trainers that trace their step in here take the literal one."""
    ours = dict(trainer.STEPS)
    trainer.STEPS.update(literal.STEPS)
    try:
        yield
    finally:
        trainer.STEPS.update(ours)


@contextmanager
def as_trained() -> Iterator[None]:
    yield


def random_task() -> Task:
    draw = np.random.default_rng(0)
    images = draw.integers(0, 256, (SAMPLES, 32, 32, 3), dtype=np.uint8)
    labels = draw.permutation(np.arange(SAMPLES) % CLASSES)
    source = ArraySource(images, labels, view="cifar")
    return Task(
        "random", CLASSES, tuple(map(str, range(CLASSES))), source, source, source, None, None, None
    )


def step_times(work: Workload, task: Task) -> dict[tuple[str, bool], list[float]]:
    """Seconds of each (method, literal or not) in each turn; the first turn is not counted."""
    kinds = [
        (method, is_literal)
        for method in NAMES
        for is_literal in (False, True)
        if method in TARGETS or not is_literal
    ]
    forms = {kind: Form(*kind, work, task) for kind in kinds}
    losses = {kind: form.first_step() for kind, form in forms.items()}
    for method in TARGETS:
        ours, theirs = losses[method, False], losses[method, True]
        if not abs(ours - theirs) < 1e-2 * abs(theirs):
            raise SystemExit(
                f"the two forms of {method} differ in their first loss, {ours} and {theirs}: "
                "they cannot be compared"
            )
    times: dict[tuple[str, bool], list[float]] = {kind: [] for kind in kinds}
    for turn in range(work.turns + 1):
        for kind, form in forms.items():
            elapsed = form.seconds()
            if turn:
                times[kind].append(elapsed)
    return times


def ratio(times: list[float], others: list[float]) -> float:
    """Median over the turns of time / other time."""
    return median(a / b for a, b in zip(times, others))


def step_report(times: dict[tuple[str, bool], list[float]]) -> dict[str, dict[str, Any]]:
    supervised, found = times["supervised", False], {}
    for method in NAMES:
        ours, theirs = times[method, False], times.get((method, True))
        found[method] = {"ms": 1000 * median(ours), "times supervised": ratio(ours, supervised)}
        if theirs is not None:
            found[method] |= {
                "target": TARGETS[method],
                "literal ms": 1000 * median(theirs),
                "literal times supervised": ratio(theirs, supervised),
                "literal / ours": ratio(theirs, ours),
            }
    return found


def show_steps(found: dict[str, dict[str, Any]]) -> None:
    columns = (
        "ms",
        "times supervised",
        "target",
        "literal ms",
        "literal times supervised",
        "literal / ours",
    )
    titles = ("ms a step", "x supervised", "target", "literal, ms", "x supervised", "literal/ours")
    print(f"{'':<12}" + "".join(f"{title:>14}" for title in titles))
    for method, row in found.items():
        cells = (
            f"{row[name]:14.{1 if name.endswith('ms') else 2}f}" if name in row else f"{'':14}"
            for name in columns
        )
        print(f"{NAMES[method]:<12}" + "".join(cells).rstrip())


def milliseconds_of_views(task: Task, batches: int) -> float:
    """For a batch of VIEWS images, weakly augmented and by AutoAugment, as IEG trains on them."""
    stream = iter(
        train_stream(task, batch_size=VIEWS, seed=1, first_step=0, strong="autoaug", probe=False)
    )
    for _ in range(20):  # what lies ready, and the time that tf.data takes to find its parallelism
        next(stream)
    start = time.perf_counter()
    for _ in range(batches):
        next(stream)
    return 1000 * (time.perf_counter() - start) / batches


def hardware() -> str:
    if gpus := tf.config.list_physical_devices("GPU"):
        return str(tf.config.experimental.get_device_details(gpus[0]).get("device_name", "GPU"))
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    return next(
        (line.split(":")[1].strip() for line in lines if line.startswith("model name")), "CPU"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description="Benchmark of IEG, FSR and L2R at CIFAR's shapes.")
    add = parser.add_argument
    add("--network_name", default="resnet29", help="as of ieg.main (resnet29)")
    add(
        "--batch_size",
        type=int,
        default=50,
        help="a multiple of 5; FSR's queue gives twice as many (50)",
    )
    add("--steps", type=int, default=5, help="timed turns of each form (5)")
    add("--threads", type=int, default=2, help="threads that a CPU computes with (2)")
    add(
        "--jit_compile",
        choices=("auto", "on", "off"),
        default="auto",
        help="compile with XLA; auto: on a GPU",
    )
    add("--mixed_precision", action="store_true", help="as of ieg.main: bfloat16")
    add("--json", type=Path, help="also write the figures to this file")
    args = parser.parse_args()
    if args.batch_size < 5 or args.batch_size % 5 or args.batch_size > SAMPLES // 2:
        parser.error(
            f"--batch_size {args.batch_size}: a multiple of 5 up to {SAMPLES // 2}, so that "
            "FSR's queue is balanced"
        )
    if args.steps < 1 or args.threads < 1:
        parser.error("--steps and --threads are at least 1")
    tf.config.threading.set_intra_op_parallelism_threads(args.threads)
    tf.config.threading.set_inter_op_parallelism_threads(args.threads)
    add_in_order()  # as every run does
    # Several trainers, each of which traces its step: it warns of retracing.
    tf.get_logger().setLevel("ERROR")
    on_gpu = bool(tf.config.list_physical_devices("GPU"))
    xla = args.jit_compile == "on" or (args.jit_compile == "auto" and on_gpu)
    how = (xla, args.mixed_precision)
    work = Workload(args.network_name, args.batch_size, *how, args.steps, 10 if on_gpu else 1)
    machine = {
        "hardware": hardware(),
        "machine": platform.machine(),
        "threads": args.threads,
        "gpu": on_gpu,
        "xla": xla,
        "tensorflow": tf.__version__,
        "network": args.network_name,
        "batch": args.batch_size,
        "mixed_precision": args.mixed_precision,
    }
    print(
        f"{machine['hardware']} ({machine['machine']}), {args.threads} threads, "
        f"{'GPU' if on_gpu else 'CPU'}"
        f"{', XLA' if xla else ''}, TensorFlow {tf.__version__}"
    )
    print(
        f"{args.network_name}, {args.batch_size} images of 32 x 32, FSR's queue "
        f"{2 * args.batch_size}, {'bfloat16' if args.mixed_precision else 'float32'}\n",
        flush=True,
    )
    task = random_task()
    found = step_report(step_times(work, task))
    show_steps(found)
    views = milliseconds_of_views(task, 20)
    print(f"\ninput: {views:.1f} ms per batch of {VIEWS} weak and {VIEWS} AutoAugment views")
    report = {**machine, "steps": found, "views_ms": views}
    if on_gpu:
        report[PEAK] = tf.config.experimental.get_memory_info("GPU:0")["peak"] / 2**30
        print(f"{PEAK}, of all forms, which are there at once: {report[PEAK]:.2f}")
    if args.json:
        args.json.write_text(json.dumps(report, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Everything around the training loop: devices, data, network and state, built from the flags and
checked.
"""

import argparse
import hashlib
import json
import os
import tempfile
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ieg import data_sets, networks, options, schedules
from ieg.checkpoint import Record
from ieg.data_sets import Task
from ieg.input import pass_order, train_stream
from ieg.ordered_sums import add_in_order
from ieg.reward_queue import RewardQueue
from ieg.sources import Source
from ieg.step import Settings
from ieg.trainer import Trainer, network_of
from shared.formats.noise_file import label_hash

NEEDS_PROBE = ("ieg", "l2r")


class UsageError(ValueError):
    """Flags that do not fit this data or this machine; the message says what mends it."""


@dataclass
class Experiment:
    """A run, ready to start or to go on."""

    args: argparse.Namespace
    folder: Path
    task: Task
    strategy: tf.distribute.Strategy
    trainer: Trainer
    record: Record
    iter_epoch: int
    max_iteration: int
    jit_compile: bool

    @property
    def is_chief(self) -> bool:
        """Whether this process writes files: of several machines the first one does."""
        resolver = self.strategy.cluster_resolver
        return resolver is None or (resolver.task_type, resolver.task_id) in (
            (None, None),
            ("worker", 0),
            ("chief", 0),
        )

    # DEVIATION(ieg_fsr): ImageNet is evaluated for every method that asks; in the original's last
    # release for FSR alone.
    def evaluation_sets(self) -> dict[str, Source]:
        """What the run is evaluated on; the first one is what the papers report."""
        second = self.task.second_evaluation
        return {"val": self.task.evaluation} | ({} if second is None else {"test": second})

    @property
    def rows(self) -> list[dict[str, Any]]:
        return self.record.rows

    def learning_rates(self) -> Any:
        """The learning rate as a function of the steps done."""
        args = self.args
        steps = (
            [epoch * self.iter_epoch for epoch in args.decay_epochs]
            if args.max_epoch
            else args.decay_steps
        )
        return schedules.learning_rate(
            args.lr_schedule,
            args.learning_rate,
            iter_epoch=self.iter_epoch,
            max_iteration=self.max_iteration,
            decay_steps=steps,
            decay_rate=args.decay_rate,
            t_mul=args.cos_t_mul,
            m_mul=args.cos_m_mul,
            warmup_epochs=args.warmup_epochs,
        )

    def evaluations(self) -> list[int]:
        args = self.args
        return schedules.evaluations(
            self.max_iteration,
            eval_freq=args.eval_freq,
            iter_epoch=self.iter_epoch,
            schedule=args.lr_schedule,
            t_mul=args.cos_t_mul,
            warmup_epochs=args.warmup_epochs,
        )

    def batches(self, first_step: int) -> Any:
        """An endless iterator over batches for all replicas of this process, from a step on."""
        args, replicas = self.args, self.strategy.num_replicas_in_sync

        def pipeline(context: tf.distribute.InputContext) -> tf.data.Dataset:
            local = replicas // context.num_input_pipelines
            return train_stream(
                self.task,
                batch_size=args.batch_size,
                seed=args.seed,
                first_step=first_step,
                num_replicas=replicas,
                first_replica=context.input_pipeline_id * local,
                local_replicas=local,
                strong=args.aug_type if args.method == "ieg" else None,
                probe=args.method in NEEDS_PROBE,
            )

        return iter(self.strategy.distribute_datasets_from_function(pipeline))

    def queue_order(self) -> np.ndarray:
        """The ids (N,) in the order in which the first pass trains on them, which is how FSR's
        queue first meets them.
        """
        return pass_order(len(self.task.train.labels), self.args.seed, 0)


def prepare(args: argparse.Namespace) -> Experiment:
    """Reads and checks everything, then builds the network.

    Raises UsageError or shared's DatasetError, NoiseFileError.
    """
    try:
        networks.check(args.network_name, args.bottleneck_relu == "restored")
    except ValueError as error:
        raise UsageError(f"--network_name: {error}") from error
    strategy = _strategy(args)
    task = data_sets.load(
        args.dataset,
        data_dir=data_dir(args),
        probe_ratio=args.probe_dataset_hold_ratio,
        seed=args.seed,
        noise_file=args.noise_file,
        limit_train=args.limit_train,
        limit_test=args.limit_test,
        use_imagenet_as_eval=args.use_imagenet_as_eval,
    )
    per_step = args.batch_size * strategy.num_replicas_in_sync
    if args.mode == "train":
        _check(args, task, per_step)
        _check_folder(options.run_folder(args))
    iter_epoch = max(1, len(task.train.labels) // per_step)
    max_iteration = args.max_iteration or args.max_epoch * iter_epoch
    args.max_iteration = max_iteration
    gpu = bool(tf.config.list_logical_devices("GPU"))
    jit_compile = args.jit_compile == "on" or (args.jit_compile == "auto" and gpu)
    identity = {**options.deciding(args), "replicas": strategy.num_replicas_in_sync, **hashes(task)}
    trainer = build_trainer(args, task, strategy, iter_epoch, jit_compile)
    return Experiment(
        args,
        options.run_folder(args),
        task,
        strategy,
        trainer,
        Record(json.loads(json.dumps(identity)), []),
        iter_epoch,
        max_iteration,
        jit_compile,
    )


def data_dir(args: argparse.Namespace) -> Path | None:
    """Where to look for the data: --dataset_dir, else $DATA_ROOT, else the original's ieg/data if
    it is there.
    """
    if args.dataset_dir is not None or "DATA_ROOT" in os.environ:
        return args.dataset_dir
    published = Path(__file__).parent / "data"
    return published if published.is_dir() else None


def _strategy(args: argparse.Namespace) -> tf.distribute.Strategy:
    """Several machines where TF_CONFIG names them, several GPUs where there are, else one device."""
    gpus = tf.config.list_physical_devices("GPU")
    for gpu in gpus:
        tf.config.experimental.set_memory_growth(gpu, True)
    if args.cpu_replicas > 1:
        if gpus:
            raise UsageError(
                "--cpu_replicas is for trying several devices without a GPU: leave it out here"
            )
        one = [tf.config.LogicalDeviceConfiguration()] * args.cpu_replicas
        tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], one)
    if args.deterministic or not gpus:
        tf.config.experimental.enable_op_determinism()
    add_in_order()
    # DEVIATION(ieg_fsr): float32 is float32; TensorFlow's default on newer GPUs rounds products to
    # 10 bits (--tf32).
    tf.config.experimental.enable_tensor_float_32_execution(args.tf32)
    if _machines() > 1:
        return tf.distribute.MultiWorkerMirroredStrategy()
    devices = [f"GPU:{i}" for i in range(len(gpus))] or [
        f"CPU:{i}" for i in range(args.cpu_replicas)
    ]
    return (
        tf.distribute.MirroredStrategy(devices)
        if len(devices) > 1
        else tf.distribute.get_strategy()
    )


def _machines() -> int:
    """How many workers TF_CONFIG names; 0 without it."""
    try:
        return len(
            json.loads(os.environ.get("TF_CONFIG") or "{}").get("cluster", {}).get("worker", [])
        )
    except (ValueError, AttributeError, TypeError) as error:
        example = (
            '{"cluster": {"worker": ["HOST:PORT", ...]}, "task": {"type": "worker", "index": 0}}'
        )
        raise UsageError(
            f"TF_CONFIG is not what TensorFlow expects ({error}): unset it for one machine, "
            f"else write {example}"
        ) from error


def _check_folder(folder: Path) -> None:
    """Makes the run folder, so that one that cannot be written is known before anything is
    computed.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise UsageError(
            f"the run folder {folder} cannot be written ({error.strerror}): choose another "
            "--output_dir or "
            "--checkpoint_path"
        ) from error


def _check(args: argparse.Namespace, task: Task, per_step: int) -> None:
    """Refuses what the data do not allow. per_step: samples of a step of all replicas."""
    count, classes = len(task.train.labels), task.num_classes
    if args.method in NEEDS_PROBE and task.probe is None:
        raise UsageError(
            f"{args.method} needs trusted samples and {task.name} has none here: give "
            "--probe_dataset_hold_ratio "
            "(a share of the training images), or choose --method=fsr or supervised"
        )
    for name in ("queue_capacity", "queue_bs"):
        if args.method == "fsr" and getattr(args, name) % classes:
            value = getattr(args, name)
            below, above = value // classes * classes, -(-value // classes) * classes
            fits = " or ".join(f"{v}" for v in (below, above) if v)
            raise UsageError(
                f"--{name}={value} cannot be divided evenly among {classes} classes: give {fits}"
            )
    if args.method == "fsr" and args.queue_bs > args.queue_capacity:
        raise UsageError(
            f"--queue_bs={args.queue_bs} is more than the queue holds: raise "
            f"--queue_capacity={args.queue_capacity}"
        )
    if count < per_step:
        raise UsageError(
            f"{count} training images are less than the {per_step} of one step: lower --batch_size"
        )


def hashes(task: Task) -> dict[str, str]:
    """SHA-256 of the given labels and of some images, so that a run is not continued on other data."""
    sets = {"train": task.train, "probe": task.probe}
    found = {
        f"{name}_labels_sha256": label_hash(part.labels)
        for name, part in sets.items()
        if part is not None
    }
    return found | {"train_images_sha256": _image_hash(task.train)}


def _image_hash(source: Source) -> str:
    ids = np.linspace(0, len(source.labels) - 1, min(16, len(source.labels))).astype(np.int64)
    images = source.unscale(source.plain(tf.constant(ids)))
    return hashlib.sha256(np.ascontiguousarray(images.numpy()).tobytes()).hexdigest()


def build_trainer(
    args: argparse.Namespace,
    task: Task,
    strategy: tf.distribute.Strategy,
    iter_epoch: int,
    jit_compile: bool,
) -> Trainer:
    """Network, state and compiled steps; the same flags give the same initial weights."""
    keras.mixed_precision.set_global_policy("mixed_bfloat16" if args.mixed_precision else "float32")
    with strategy.scope():
        model = networks.build(
            args.network_name,
            task.num_classes,
            image_shape=task.train.image_shape,
            seed=args.seed,
            relu_in_bottleneck=args.bottleneck_relu == "restored",
        )
    decay = {"weight_decay": args.weight_decay, "l2_weight_decay": args.l2_weight_decay}
    network = network_of(
        model,
        partial(networks.regularisation, args.network_name, **decay),
        partial(networks.meta_regularisation, args.network_name, **decay),
    )
    known = {
        **vars(args),
        "num_classes": task.num_classes,
        "num_replicas": strategy.num_replicas_in_sync,
        "iter_epoch": iter_epoch,
        "guess_gradient": args.guess_gradient == "flow",
    }
    settings = Settings(**{field.name: known[field.name] for field in fields(Settings)})
    queue, fsr = None, args.method == "fsr" and args.mode == "train"
    if fsr:
        queue = RewardQueue(
            task.train,
            num_classes=task.num_classes,
            capacity=args.queue_capacity,
            batch=args.queue_bs,
            beta=args.queue_beta,
            seed=args.seed,
        )
    pseudo_samples = len(task.train.labels) if fsr and args.use_pseudo_loss else 0
    return Trainer(
        args.method,
        model,
        network,
        settings,
        strategy,
        momentum_rate=args.momentum,
        seed=args.seed,
        jit_compile=jit_compile,
        queue=queue,
        pseudo_samples=pseudo_samples,
    )

"""A run, built from its settings and checked: devices, data, network, state."""

import hashlib
import json
import os
import tempfile
from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from ieg import networks
from ieg.input import tasks
from ieg.input.batches import pass_order, train_stream
from ieg.input.image_sources import Source
from ieg.input.own_pictures import Wishes
from ieg.input.tasks import Task
from ieg.method import schedules
from ieg.method.reward_queue import RewardQueue
from ieg.method.schedules import Plan
from ieg.method.settings import Settings
from ieg.method.step import Batch
from ieg.method.train import Figures, evaluate
from ieg.method.trainer import Trainer, network_of
from ieg.method.weight_counts import WeightCounts
from ieg.networks import pretrained
from ieg.run import checkpoint, devices, machines
from ieg.run.checkpoint import Record
from ieg.run.config import Config, deciding, picture_side, run_folder
from ieg.run.errors import CheckpointError, UsageError
from shared import datasets
from shared.datasets import download
from shared.errors import UserError
from shared.formats.noise_file import label_hash
from shared.run_folder import locked

NEEDS_PROBE = ("ieg", "l2r")
EVALUATED = ("weights", "moving", "averages")  # the part of the state that evaluation needs
# Flags that evaluation needs as they were; the published command gives no others.
SAME_TO_EVALUATE = ("dataset", "network_name", "method", "bottleneck_relu")
ADVICE_TO_EVALUATE = (
    "Give the flags and the data that it was trained with, or the --output_dir or "
    "--checkpoint_path of another run"
)


@dataclass(frozen=True)
class Experiment:
    """A run, ready to start or to be resumed."""

    config: Config  # max_iteration is that of --max_epoch, if given
    folder: Path
    task: Task
    strategy: tf.distribute.Strategy
    trainer: Trainer
    record: Record
    plan: Plan
    jit_compile: bool

    @property
    def is_chief(self) -> bool:
        """Whether this process writes files: of several machines the first one does."""
        return machines.is_chief(self.strategy)

    def alone(self) -> AbstractContextManager[None]:
        """Keeps other processes out of the run folder, if this process writes it.

        Raises RunFolderError where another one is in it.
        """
        return locked(self.folder) if self.is_chief else nullcontext()

    # DEVIATION(ieg_fsr): every method resumes from the newest checkpoint of its run folder; the
    # original's L2R starts from the beginning.
    def resume(self) -> int:
        """Restores the newest checkpoint, or that of --restore_step; the steps done, 0 without."""
        step, last = self.config.restore_step, self.plan.max_iteration
        done = checkpoint.restore(self.folder, self.trainer.state(), self.record, step)
        if done > last:
            raise UsageError(
                f"the run has done {done} iterations already: --max_iteration={last} cannot "
                "shorten it"
            )
        machines.check_agreement(self.strategy, self.folder, done, self.record.identity)
        return done

    def restore_to_evaluate(self) -> int:
        """Restores what an evaluation needs; the steps done."""
        state = {name: part for name, part in self.trainer.state().items() if name in EVALUATED}
        step = self.config.restore_step
        # The last two say what was held out.
        held_out = ("val_fraction", "seed") if self.config.val_fraction is not None else ()
        needed = SAME_TO_EVALUATE + held_out
        # Other classes under the same name, as of a folder, would be tested as if they were known.
        same = (*needed, "class_names")
        done = checkpoint.restore(self.folder, state, self.record, step, same, ADVICE_TO_EVALUATE)
        if not done:
            flags = ", ".join(f"--{name}" for name in needed)
            raise CheckpointError(
                f"{self.folder} has no checkpoint to evaluate: train first, with the same {flags}"
            )
        return done

    # DEVIATION(ieg_fsr): ImageNet is evaluated for every method that asks; in the original's last
    # release for FSR alone.
    def evaluate(self) -> dict[str, Figures]:
        """Figures of every evaluation set there is; the first one is what the papers report."""
        sets = {"val": self.task.evaluation, "test": self.task.second_evaluation}
        size, averages = self.config.val_batch_size, self.config.use_ema
        return {
            name: evaluate(self.trainer, part, size, averages)
            for name, part in sets.items()
            if part is not None
        }

    def batches(self, first_step: int) -> Iterator[Batch]:
        """Endless batches for all replicas of this process, from a step on."""
        config, replicas = self.config, self.strategy.num_replicas_in_sync

        def pipeline(context: tf.distribute.InputContext) -> tf.data.Dataset:
            local = replicas // context.num_input_pipelines
            return train_stream(
                self.task,
                batch_size=config.batch_size,
                seed=config.seed,
                first_step=first_step,
                num_replicas=replicas,
                first_replica=context.input_pipeline_id * local,
                local_replicas=local,
                strong=config.aug_type if config.method == "ieg" else None,
                probe=config.method in NEEDS_PROBE,
            )

        return iter(self.strategy.distribute_datasets_from_function(pipeline))

    def queue_order(self) -> NDArray[np.int64]:
        """Ids (N,) as the first pass trains on them, in which FSR's queue first meets them."""
        return pass_order(len(self.task.train.labels), self.config.seed, 0)


def build(config: Config) -> Experiment:
    """Reads and checks everything, then builds the network. Raises UserError."""
    try:
        networks.check(config.network_name, config.bottleneck_relu == "restored")
    except ValueError as error:
        raise UsageError(f"--network_name: {error}") from error
    starts = config.mode == "train" and config.export is None
    weights = imagenet_file() if config.pretrained and starts else None
    strategy = devices.strategy(
        cpu_replicas=config.cpu_replicas, deterministic=config.deterministic, tf32=config.tf32
    )
    task = load_task(config)
    replicas = strategy.num_replicas_in_sync
    iter_epoch = max(1, len(task.train.labels) // (config.batch_size * replicas))
    if config.max_epoch is not None:
        config = replace(config, max_iteration=config.max_epoch * iter_epoch)
    folder = run_folder(config)
    if config.mode == "train":
        _check(config, task, replicas)
        if machines.is_chief(strategy):
            _check_folder(folder)
    elif task.evaluation is None:
        raise UsageError(
            f"{task.name} has no test images to evaluate on: put some into test/<class>/, or give "
            "the --val_fraction that the run was trained with"
        )
    on_gpu = bool(tf.config.list_logical_devices("GPU"))
    jit_compile = config.jit_compile == "on" or (config.jit_compile == "auto" and on_gpu)
    identity = {**deciding(config), "replicas": replicas, **hashes(task)}
    trainer = build_trainer(config, task, strategy, iter_epoch, jit_compile, weights)
    record = Record(json.loads(json.dumps(identity)), [])
    plan = plan_of(config, iter_epoch)
    return Experiment(config, folder, task, strategy, trainer, record, plan, jit_compile)


def load_task(config: Config) -> Task:
    """What to train on; the flags that messages name are those of this command."""
    try:
        return tasks.load(
            config.dataset,
            data_dir=data_dir(config.dataset_dir),
            probe_ratio=config.probe_dataset_hold_ratio,
            seed=config.seed,
            noise_file=config.noise_file,
            limit_train=config.limit_train,
            limit_test=config.limit_test,
            use_imagenet_as_eval=config.use_imagenet_as_eval,
            wishes=Wishes(
                side=picture_side(config),
                labels=config.labels,
                val_fraction=config.val_fraction,
                skip_broken=config.skip_broken,
                cache_dir=config.cache_dir,
            ),
        )
    except UserError as error:
        raise type(error)(with_own_flag(str(error))) from error


def with_own_flag(text: str) -> str:
    """A message of `shared`, which says it for all projects, with this project's flag for the data.

    What it says of a command of `shared` itself, where it recommends one, stays.
    """
    ours, command, theirs = text.partition("`python -m shared")
    ours = ours.replace("--data_path; of ieg_fsr --dataset_dir", "--dataset_dir")
    return ours.replace("--data_path", "--dataset_dir") + command + theirs


def imagenet_file() -> Path:
    """The ImageNet weights, downloaded if need be; not below --dataset_dir, which may be pictures.

    Raises DownloadError.
    """
    target = datasets.data_root(data_dir(None)) / "pretrained" / pretrained.FILE
    return download.fetch(pretrained.URL, target, md5=pretrained.MD5, limit=pretrained.LIMIT)


def data_dir(given: Path | None) -> Path | None:
    """Where to look for the data: --dataset_dir, else $DATA_ROOT, else the original's ieg/data."""
    published = Path(__file__).parents[1] / "data"
    if given is None and "DATA_ROOT" not in os.environ and published.is_dir():
        return published
    return given


def _check_folder(folder: Path) -> None:
    """Makes the run folder, so that one that cannot be written is known at once."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise UsageError(
            f"the run folder {folder} cannot be written ({error.strerror}): choose another "
            "--output_dir or --checkpoint_path"
        ) from error


def _check(config: Config, task: Task, replicas: int) -> None:
    """Refuses what the data do not allow."""
    count, classes = len(task.train.labels), task.num_classes
    if config.method in NEEDS_PROBE and task.probe is None:
        raise UsageError(
            f"{config.method} needs trusted samples and {task.name} has none here: give "
            "--probe_dataset_hold_ratio (a share of the training images), or choose --method=fsr "
            "or supervised"
        )
    if config.method == "fsr":
        _check_queue(config.queue_capacity, config.queue_bs, classes)
    if count < config.batch_size * replicas:
        raise UsageError(
            f"{count} training images are less than the {config.batch_size * replicas} of one "
            "step: lower --batch_size"
        )


def _check_queue(capacity: int, batch: int, classes: int) -> None:
    flags = {"queue_capacity": capacity, "queue_bs": batch}
    if uneven := {flag: value for flag, value in flags.items() if value % classes}:
        given = " and ".join(f"--{flag}={value}" for flag, value in uneven.items())
        fits = " and ".join(
            f"--{flag}={max(value // classes, 1) * classes}" for flag, value in uneven.items()
        )
        raise UsageError(
            f"{given} cannot be divided evenly among {classes} classes: give {fits}, or more of "
            "the same for each class"
        )
    if batch > capacity:
        raise UsageError(
            f"--queue_bs={batch} is more than the queue holds: raise --queue_capacity={capacity}"
        )


def hashes(task: Task) -> dict[str, Any]:
    """SHA-256 of the labels and of some images, so that a run is not resumed on other data.

    And the names of the classes, by which an evaluation knows other ones.
    """
    found: dict[str, Any] = {"class_names": list(task.class_names)}
    found["train_labels_sha256"] = label_hash(task.train.labels)
    if task.probe is not None:
        found["probe_labels_sha256"] = label_hash(task.probe.labels)
    return {**found, "train_images_sha256": _image_hash(task.train)}


def _image_hash(source: Source) -> str:
    ids = np.linspace(0, len(source.labels) - 1, min(16, len(source.labels))).astype(np.int64)
    # As a graph, whose errors about files are not wrapped in Python's.
    images = source.unscale(tf.function(source.plain)(tf.constant(ids)))
    return hashlib.sha256(np.ascontiguousarray(images.numpy()).tobytes()).hexdigest()


def plan_of(config: Config, iter_epoch: int) -> Plan:
    """Learning rates and evaluations. config: with the max_iteration that counts."""
    steps: Collection[int] = config.decay_steps
    if config.max_epoch:
        steps = [epoch * iter_epoch for epoch in config.decay_epochs]
    rate = schedules.learning_rate(
        config.lr_schedule,
        config.learning_rate,
        iter_epoch=iter_epoch,
        max_iteration=config.max_iteration,
        decay_steps=list(steps),
        decay_rate=config.decay_rate,
        t_mul=config.cos_t_mul,
        m_mul=config.cos_m_mul,
        warmup_epochs=config.warmup_epochs,
    )
    evaluations = schedules.evaluations(
        config.max_iteration,
        eval_freq=config.eval_freq,
        iter_epoch=iter_epoch,
        schedule=config.lr_schedule,
        t_mul=config.cos_t_mul,
        warmup_epochs=config.warmup_epochs,
    )
    return Plan(iter_epoch, config.max_iteration, rate, set(evaluations))


def build_trainer(
    config: Config,
    task: Task,
    strategy: tf.distribute.Strategy,
    iter_epoch: int,
    jit_compile: bool,
    weights: Path | None = None,
) -> Trainer:
    """Network, state and compiled steps; the same flags give the same initial weights.

    weights: a file to start from instead.
    """
    policy = "mixed_bfloat16" if config.mixed_precision else "float32"
    keras.mixed_precision.set_global_policy(policy)
    with strategy.scope():
        model = networks.build(
            config.network_name,
            task.num_classes,
            image_shape=task.train.image_shape,
            seed=config.seed,
            relu_in_bottleneck=config.bottleneck_relu == "restored",
        )
    if weights is not None:
        networks.load_imagenet(model, weights)
        print(f"the network starts from the ImageNet weights {weights}")
    decay: dict[str, Any] = {
        "weight_decay": config.weight_decay,
        "l2_weight_decay": config.l2_weight_decay,
    }
    network = network_of(
        model,
        partial(networks.regularisation, config.network_name, **decay),
        partial(networks.meta_regularisation, config.network_name, **decay),
    )
    count, trains = len(task.train.labels), config.mode == "train"
    queue, fsr = None, config.method == "fsr" and trains
    judged = trains and config.method in NEEDS_PROBE
    if fsr:
        queue = RewardQueue(
            task.train,
            num_classes=task.num_classes,
            capacity=config.queue_capacity,
            batch=config.queue_bs,
            beta=config.queue_beta,
            seed=config.seed,
        )
    return Trainer(
        config.method,
        model,
        network,
        settings_of(config, task.num_classes, strategy.num_replicas_in_sync, iter_epoch),
        strategy,
        momentum_rate=config.momentum,
        seed=config.seed,
        jit_compile=jit_compile,
        queue=queue,
        pseudo_samples=count if fsr and config.use_pseudo_loss else 0,
        weight_counts=WeightCounts(count) if judged else None,
    )


def settings_of(config: Config, num_classes: int, num_replicas: int, iter_epoch: int) -> Settings:
    """What a training step needs: the flags of the same names, and what the data say."""
    known = {
        **asdict(config),
        "num_classes": num_classes,
        "num_replicas": num_replicas,
        "iter_epoch": iter_epoch,
        "guess_gradient": config.guess_gradient == "flow",
    }
    return Settings(**{item.name: known[item.name] for item in fields(Settings)})

"""Devices and TensorFlow's global settings: what runs where, with which arithmetic."""

import errno
import functools
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import tensorflow as tf
from tensorflow import Tensor

# GradientTape takes its AddN from here; there is no public way to it.
from tensorflow.python.ops import gen_math_ops

from ieg.run import machines
from ieg.run.errors import UsageError

# What the system says where files cannot be written or read.
SYSTEM_ERRORS = (
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.EIO,
)


def strategy(*, cpu_replicas: int, deterministic: bool, tf32: bool) -> tf.distribute.Strategy:
    """Several machines if TF_CONFIG names them, all GPUs if there are any, else one device."""
    gpus = tf.config.list_physical_devices("GPU")
    for gpu in gpus:
        tf.config.experimental.set_memory_growth(gpu, True)
    if cpu_replicas > 1:
        if gpus:
            raise UsageError(
                "--cpu_replicas is for trying several devices without a GPU: leave it out here"
            )
        one = [tf.config.LogicalDeviceConfiguration()] * cpu_replicas
        tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], one)
    if deterministic or not gpus:
        tf.config.experimental.enable_op_determinism()
        add_in_order()
    # DEVIATION(ieg_fsr): float32 is float32; TensorFlow's default on newer GPUs rounds products to
    # 10 bits (--tf32).
    tf.config.experimental.enable_tensor_float_32_execution(tf32)
    if len(machines.addresses()) > 1:
        return machines.joined()
    kind, count = ("GPU", len(gpus)) if gpus else ("CPU", cpu_replicas)
    if count > 1:
        return tf.distribute.MirroredStrategy([f"{kind}:{i}" for i in range(count)])
    return tf.distribute.get_strategy()


def add_in_order() -> None:
    """Makes gradients, and sums of every kind, add two terms at a time from now on.

    So two runs on several threads have the same bits. TensorFlow's AddN begins with the input whose
    memory happens to be free, which differs from run to run, and rounds accordingly;
    `enable_op_determinism` knows nothing of it. GradientTape uses it wherever a tensor has several
    gradients, and the graph optimizer makes it out of ordinary sums. On a CPU no slowdown was
    measurable.
    """
    gen_math_ops.add_n = _add_in_order
    tf.config.optimizer.set_experimental_options({"arithmetic_optimization": False})


def _add_in_order(inputs: Sequence[Tensor], name: str | None = None) -> Tensor:
    return functools.reduce(gen_math_ops.add_v2, inputs)


@contextmanager
def plain_errors() -> Iterator[None]:
    """Turns TensorFlow's errors that a user can fix into a message; notes on them stay."""
    try:
        yield
    except tf.errors.OpError as error:
        known = of_system(error)
        plain: Exception
        if known is not None:
            plain = known
        elif lost := machines.lost(error):
            plain = lost
        elif isinstance(error, tf.errors.ResourceExhaustedError):
            plain = UsageError(
                f"out of memory ({_short(error)}): lower --batch_size, or try --mixed_precision, "
                "with another --output_dir if this one has a checkpoint already"
            )
        else:  # of the input pipeline, such as a file that is no image
            plain = UsageError(_short(error))
        for note in getattr(error, "__notes__", ()):
            plain.add_note(note)
        raise plain from error


def of_system(error: Exception) -> OSError | None:
    """The system's error behind one of TensorFlow, which words a full disk as lack of memory.

    Its text is `{{function_node ...}} /file; No space left on device [Op:SaveV2]`.
    """
    text = error.message if isinstance(error, tf.errors.OpError) else str(error)
    for number in SYSTEM_ERRORS:
        reason = os.strerror(number)
        if reason in text:
            path = re.search(rf"(/[^;{{}}]*); {reason}", text)
            return OSError(number, reason, *([path[1]] if path else []))
    return None


def _short(error: tf.errors.OpError) -> str:
    """What TensorFlow says, without the places in its graph."""
    text = re.sub(r"\{\{\w+ [^}]*\}\}|\[Op:\w+\]", "", error.message)
    if of_file := re.search(r"assertion failed: \[(.*)\]", text):  # by image_sources.py
        return of_file[1]
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return (lines[0] if lines else str(error))[:300]

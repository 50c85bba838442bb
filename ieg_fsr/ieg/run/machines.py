"""Several machines, or processes, that train one run: TF_CONFIG of each names all of them.

    {"cluster": {"worker": ["a:2222", "b:2222"]}, "task": {"type": "worker", "index": 0}}

Each trains on its part of every batch and keeps the whole state; the first alone writes.
"""

import json
import os
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf
from tensorflow import Tensor

from ieg.method.trainer import gather
from ieg.run.errors import CheckpointError, UsageError

EXAMPLE = '{"cluster": {"worker": ["HOST:PORT", ...]}, "task": {"type": "worker", "index": 0}}'


def addresses() -> list[str]:
    """Of all machines that TF_CONFIG names, the one that writes first; none without it."""
    try:
        cluster = json.loads(os.environ.get("TF_CONFIG") or "{}").get("cluster", {})
        return [*cluster.get("chief", []), *cluster.get("worker", [])]
    except (ValueError, AttributeError, TypeError) as error:
        raise UsageError(
            f"TF_CONFIG is not what TensorFlow expects ({error}): unset it for one machine, "
            f"else write {EXAMPLE}"
        ) from error


def joined() -> tf.distribute.Strategy:
    """Waits for all machines, which is said, since it has no end where one does not start."""
    print(f"waiting for all machines of TF_CONFIG: {', '.join(addresses())}", flush=True)
    return tf.distribute.MultiWorkerMirroredStrategy()


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Whether this process writes files: of several machines the first one does."""
    resolver = strategy.cluster_resolver
    if resolver is None or resolver.task_type is None:
        return True
    first = "chief" if "chief" in resolver.cluster_spec().jobs else "worker"
    return (resolver.task_type, resolver.task_id) == (first, 0)


def check_agreement(
    strategy: tf.distribute.Strategy, folder: Path, done: int, identity: Mapping[str, Any]
) -> None:
    """Whether all machines are about to do the same steps of the same run.

    done: steps behind this machine; identity: what makes its run another than others. Raises
    CheckpointError or UsageError, on every machine, naming the first that differs from the chief.
    """
    names = addresses()
    if len(names) < 2:
        return
    digest = zlib.crc32(json.dumps(identity, sort_keys=True).encode())
    mine = tf.constant([[done, digest]], tf.int64)

    def of_all() -> Tensor:
        return gather(tf.distribute.get_replica_context(), mine)

    table = strategy.experimental_local_results(tf.function(strategy.run)(of_all))[0].numpy()
    compare(folder, dict(zip(names, table[:: len(table) // len(names)].tolist())))


def compare(folder: Path, found: Mapping[str, Sequence[int]]) -> None:
    """Raises as said above. found: of every machine, the chief's first, steps done and a hash."""
    (chief, (steps, run)), *others = found.items()
    for name, (other_steps, other_run) in others:
        if other_run != run:
            raise UsageError(
                f"{name} has other flags or data than {chief}: start all machines with the same "
                "command on the same data"
            )
        if other_steps != steps:
            raise CheckpointError(
                f"{name} finds {other_steps} iterations done in {folder}, {chief} {steps}: the run "
                "folder must be on a disk that all machines see"
            )


def lost(error: tf.errors.OpError) -> UsageError | None:
    """What is to be done where the error comes from the end of another machine; else None.

    TensorFlow's heartbeats find it within half a minute.
    """
    if len(addresses()) < 2 or "Collective ops is aborted" not in error.message:
        return None
    reason = " ".join(error.message.partition("aborted by:")[2].split())[:200]
    return UsageError(
        f"another machine of TF_CONFIG has ended or cannot be reached ({reason}): see what it "
        f"printed, then start the same command on all of {', '.join(addresses())}"
    )

"""Checkpoints that survive a kill: TensorFlow's own files, renamed into place when they are whole.

A checkpoint is `checkpoint.ckpt-<iteration>.index` and `.data-00000-of-00001`, as in the published
code; the index is renamed last, so where it stands the checkpoint is whole. All random numbers are
functions of (seed, iteration, purpose) and so are the batches; the state is the variables, the
iteration, and the rows of metrics.jsonl. Nothing in these files is executed when they are read.
"""

import json
import os
import re
import shutil
import traceback
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import tensorflow as tf

from ieg.run.devices import of_system
from ieg.run.errors import CheckpointError
from shared.files import write_atomically

NAME = "checkpoint.ckpt"
_PARTS = (".data-00000-of-00001", ".index")  # in the order of renaming
# What TensorFlow raises for files that are cut off or overwritten.
_TORN = (tf.errors.OpError, ValueError, IndexError)
_RECORD = "record/.ATTRIBUTES/py_state"  # where TensorFlow keeps the text of `Record`
# What checkpoints of older versions lack: a part of the state, and two of the identity.
_ADDED, _CLASSES, _LIMIT = "weight_counts", "class_names", "limit_test"
# What devices have to do with the identity: a step of the same images, shared among more or fewer.
_DEVICES, _IMAGES_OF_EACH = "replicas", "batch_size"
_ADVICE = (
    "Give the same flags and data to resume it, or choose another --output_dir or --checkpoint_path"
)


class Record(tf.train.experimental.PythonState):  # type: ignore[misc]  # TensorFlow has no types
    """What a checkpoint knows besides tensors.

    identity: what makes this run another than others; rows: those of metrics.jsonl so far;
    class_weights: the log's averages by class, which are only shown.
    """

    def __init__(self, identity: Mapping[str, Any], rows: list[dict[str, Any]]) -> None:
        self.identity, self.rows = dict(identity), rows
        self.class_weights: list[float] = []

    def serialize(self) -> str:
        return json.dumps(
            {"identity": self.identity, "rows": self.rows, "class_weights": self.class_weights}
        )

    def deserialize(self, text: bytes) -> None:
        saved = json.loads(text)  # of the same run, see `restore`; perhaps on other devices
        self.rows[:], self.class_weights[:] = saved["rows"], saved["class_weights"]


def save(folder: Path, iteration: int, state: Mapping[str, Any], record: Record, keep: int) -> None:
    """Writes the checkpoint of this iteration, then removes all but the newest `keep`.

    Later ones go as well: they are of a run that --restore_step has turned away from.
    """
    prefix = folder / f"{NAME}-{iteration}"
    unfinished = folder / f".{prefix.name}.tmp"
    try:
        tf.train.Checkpoint(record=record, **state).write(str(unfinished))
    except tf.errors.OpError as error:
        remove_unfinished(folder)  # a full disk is not to be filled with parts
        if (known := of_system(error)) is not None:
            raise OSError(known.errno, known.strerror, str(prefix)) from error
        raise CheckpointError(f"{prefix} cannot be written ({_first_line(error)})") from error
    for part in _PARTS:
        _flush(Path(f"{unfinished}{part}"))
    for part in _PARTS:
        os.replace(f"{unfinished}{part}", f"{prefix}{part}")
    _flush(folder)
    kept = sorted(number for number in iterations(folder) if number <= iteration)[-keep:]
    for old in set(iterations(folder)) - set(kept):
        for part in reversed(_PARTS):
            Path(folder, f"{NAME}-{old}{part}").unlink(missing_ok=True)
    names = [f'"{NAME}-{number}"' for number in kept]
    lines = [f"model_checkpoint_path: {names[-1]}"]
    lines += [f"all_model_checkpoint_paths: {name}" for name in names]
    # For tf.train.latest_checkpoint.
    write_atomically(folder / "checkpoint", ("\n".join(lines) + "\n").encode())


def remove_unfinished(folder: Path) -> None:
    """Removes what was being written when a process was killed."""
    for unfinished in folder.glob(".*.tmp*"):
        shutil.rmtree(unfinished) if unfinished.is_dir() else unfinished.unlink(missing_ok=True)


def note_kept(error: BaseException, folder: Path) -> None:
    """Tells, where it is true, which checkpoint the run folder still has."""
    if kept := iterations(folder):
        again = (
            "" if isinstance(error, FloatingPointError) else "; the same command resumes from it"
        )
        error.add_note(f"The checkpoint of iteration {max(kept)} is kept in {folder}{again}")


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def iterations(folder: Path) -> list[int]:
    """Iterations of all checkpoints in the folder, in no order."""
    matches = (
        re.fullmatch(rf"{re.escape(NAME)}-(\d+)\.index", path.name)
        for path in folder.glob("*.index")
    )
    return [int(match[1]) for match in matches if match]


def restore(
    folder: Path,
    state: Mapping[str, Any],
    record: Record,
    step: int = 0,
    same: Collection[str] | None = None,
    advice: str = _ADVICE,
) -> int:
    """Loads the newest whole checkpoint, or that of iteration `step`; its iteration, 0 without one.

    state: all that was saved or a part of it; same: what of record.identity must be as it was, None
    for everything; advice: what to do about a difference. Raises CheckpointError where the
    checkpoint is of another run than that, naming every difference, or cannot be read. Another
    number of devices is no other run as long as a step has as many images; what it changes is said.
    """
    wanted = [step] if step else sorted(iterations(folder), reverse=True)
    if step and step not in iterations(folder):
        there = ", ".join(map(str, sorted(iterations(folder)))) or "none"
        raise CheckpointError(f"{folder} has no checkpoint of iteration {step}: there are {there}")
    for iteration in wanted:
        prefix = str(folder / f"{NAME}-{iteration}")
        try:
            identity = _identity(prefix)
        except CheckpointError:
            raise
        except _TORN as error:
            _skip(prefix, error, step)
            continue
        if differences := list(_differences(identity, record.identity, same)):
            way_on = _with_these_devices(identity, record.identity) if same is None else ""
            raise CheckpointError(
                f"{folder} holds another run ({'; '.join(differences)}). {way_on}{advice}"
            )
        with _quiet():
            try:
                present = _without_added(prefix, state)
                loaded = tf.train.Checkpoint(record=record, **present).read(prefix)
                loaded.assert_existing_objects_matched()
                loaded.expect_partial()  # an evaluation leaves momentum and queue where they are
            except (*_TORN, AssertionError) as error:
                traceback.clear_frames(error.__traceback__)  # what warns when it is freed
                _skip(prefix, error, step)
                continue
        if same is None and identity[_DEVICES] != record.identity[_DEVICES]:
            print(_changed_devices(identity, record.identity))
        return iteration
    return 0


@contextmanager
def _quiet() -> Iterator[None]:
    """Without TensorFlow's warnings, a line for each tensor that is not read; errors tell more."""
    logger = tf.get_logger()
    level = logger.level
    logger.setLevel("ERROR")
    try:
        yield
    finally:
        logger.setLevel(level)


def _identity(prefix: str) -> dict[str, Any]:
    """Of which run the checkpoint is."""
    reader = tf.train.load_checkpoint(prefix)
    if not reader.has_tensor(_RECORD):  # whole but not ours: an older one must not be looked for
        raise CheckpointError(
            f"{prefix} cannot be read as a checkpoint of this program: choose another --output_dir"
        )
    identity: dict[str, Any] = json.loads(reader.get_tensor(_RECORD))["identity"]
    return identity


def _without_added(prefix: str, state: Mapping[str, Any]) -> dict[str, Any]:
    """The state, but for what the checkpoint of an older version has not."""
    names = tf.train.load_checkpoint(prefix).get_variable_to_shape_map()
    there = {name.partition("/")[0] for name in names}
    return {name: part for name, part in state.items() if name != _ADDED or name in there}


def _skip(prefix: str, error: Exception, step: int) -> None:
    if (known := of_system(error)) is not None:  # it is whole, but not for this user
        raise OSError(known.errno, known.strerror, prefix) from error
    reason = _first_line(error)
    if "incompatible tensor" in reason:  # an older one would not fit either
        raise CheckpointError(
            f"{prefix} is of a network of another shape ({reason}): give the data and the "
            "--network_name that it was trained with"
        ) from error
    if step:
        raise CheckpointError(
            f"{prefix} cannot be read, it is torn ({reason}): choose another --restore_step"
        ) from error
    print(f"warning: skipped {prefix}, which is torn ({reason})")


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


def _differences(
    saved: Mapping[str, Any], current: Mapping[str, Any], names: Collection[str] | None
) -> Iterator[str]:
    current = json.loads(json.dumps(current))
    shared = _images(saved) == _images(current)
    for name in sorted({*saved, *current} if names is None else names):
        if shared and name in (_DEVICES, _IMAGES_OF_EACH):
            continue
        if name == _LIMIT and name not in saved:
            continue
        then, now = saved.get(name), current.get(name)
        if name == _CLASSES:
            then, now = _first_unlike(then, now)
        if then != now:
            yield f"{name}: {then} then, {now} now"


def _first_unlike(then: Sequence[str] | None, now: Sequence[str] | None) -> tuple[str, str]:
    """What differs in two lists of class names, which may be long; equal where nothing does."""
    if then is None or now is None:
        return "", ""
    if len(then) != len(now):
        return f"{len(then)} classes", f"{len(now)} classes"
    return next(((one, other) for one, other in zip(then, now) if one != other), ("", ""))


def _images(identity: Mapping[str, Any]) -> int:
    """Images of a step, of all devices together."""
    images: int = identity[_DEVICES] * identity[_IMAGES_OF_EACH]
    return images


def _with_these_devices(saved: Mapping[str, Any], current: Mapping[str, Any]) -> str:
    """How to go on, where the number of devices is another one."""
    devices, images = current[_DEVICES], _images(saved)
    if devices == saved[_DEVICES] or images % devices:
        return ""
    return (
        f"With --{_IMAGES_OF_EACH}={images // devices} for each of the devices there are now, "
        f"{devices}, a step has the same {images} images and the run can go on. Else: "
    )


def _changed_devices(saved: Mapping[str, Any], current: Mapping[str, Any]) -> str:
    then, now = (f"{each[_DEVICES]} x {each[_IMAGES_OF_EACH]}" for each in (saved, current))
    return (
        f"note: devices x images of each were {then}, now {now}. The steps have the same images, "
        "but their random numbers, batch normalisation, mixtures and weights are those of each "
        "device, so the run goes on with other numbers than it would have had"
    )

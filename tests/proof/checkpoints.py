"""Kills inside the writing of a checkpoint: the newest whole one loads, and none is lost.

In the project's environment, whose own writer and reader are tried. A forked process writes one
checkpoint after the other and is killed at a random moment; another forked process then loads the
newest. It must be whole, and the last one that was completely written, or the one after. A kill
counts if it left an unfinished file; the others fell between two writings.
"""

import mmap
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tests.proof.process import call
from tests.proof.projects import ROOT, Project
from tests.proof.report import Row

VALUES = 250_000  # float32 of each tensor in a checkpoint
LONGEST = 0.06  # seconds of writing before a kill


@dataclass(frozen=True)
class Writer:
    """A project's own functions. save: number, folder; load: folder -> the number it was given."""

    save: Callable[[int, Path], None]
    load: Callable[[Path], int]


def part(project: Project, kills: int, seed: int) -> Row:
    """The row of a project."""
    what = f"{project.name}: SIGKILL while a checkpoint is written"
    moments = random.Random(f"{seed} {project.name}")
    return kill_often(what, writer_of(project.name), kills, moments)


def writer_of(project: str) -> Writer:
    return {"ieg_fsr": _of_ieg, "noisy_instseg": _of_mmengine}.get(project, _of_torch)(project)


def _of_torch(project: str) -> Writer:
    import importlib

    import torch

    checkpoint = importlib.import_module(f"{project}.run.checkpoint")

    def save(number: int, folder: Path) -> None:
        state = {"number": number, "weights": torch.full((VALUES,), float(number))}
        checkpoint.save(state, folder / checkpoint.BEST, folder / checkpoint.LAST)

    def load(folder: Path) -> int:
        return _number(checkpoint.load_newest(folder, "cpu"))

    return Writer(save, load)


def _of_mmengine(_: str) -> Writer:
    import torch
    from mmengine.runner.checkpoint import save_checkpoint

    from noisy_instseg.run import checkpoints, run_folder

    checkpoints.install()

    def save(number: int, folder: Path) -> None:
        state = {"number": number, "weights": torch.full((VALUES,), float(number))}
        save_checkpoint(state, str(folder / f"epoch_{number}.pth"))
        (folder / f"epoch_{number - 2}.pth").unlink(missing_ok=True)

    def load(folder: Path) -> int:
        newest = run_folder.newest_intact(folder)
        return _number(newest and checkpoints.load(newest[1]))

    return Writer(save, load)


def _number(state: dict[str, Any] | None) -> int:
    """Of a checkpoint all of whose weights are as they were saved."""
    if state is None:
        return 0
    if not bool((state["weights"] == state["number"]).all()):
        raise ValueError(f"other weights in checkpoint {state['number']}")
    return int(state["number"])


def _of_ieg(_: str) -> Writer:
    sys.path.insert(0, str(ROOT / "ieg_fsr"))
    import tensorflow as tf

    from ieg.run import checkpoint

    identity = {"run": "a", "replicas": 1, "batch_size": 100}

    def save(number: int, folder: Path) -> None:
        weights = tf.Variable(tf.fill((VALUES,), float(number)))
        record = checkpoint.Record(identity, [{"iteration": number}])
        checkpoint.save(folder, number, {"weights": weights}, record, keep=2)

    def load(folder: Path) -> int:
        weights, record = tf.Variable(tf.zeros((VALUES,))), checkpoint.Record(identity, [])
        number = checkpoint.restore(folder, {"weights": weights}, record)
        if number and not (weights.numpy() == number).all():
            raise ValueError(f"other weights in checkpoint {number}")
        return number

    return Writer(save, load)


def kill_often(what: str, writer: Writer, kills: int, moments: random.Random) -> Row:
    """Writes and kills until so many kills left an unfinished file."""
    inside = between = whole = 0
    failures: list[str] = []
    while inside < kills and between < 20 * kills:
        with tempfile.TemporaryDirectory() as scratch, mmap.mmap(-1, 8) as written:
            folder = Path(scratch)
            _killed(writer, folder, written, moments.uniform(0, LONGEST))
            unfinished = any(folder.glob(".*tmp*"))
            inside, between = inside + unfinished, between + (not unfinished)
            last = int.from_bytes(written[:8], "little")
            whole += last
            found = call(partial(writer.load, folder))
            if found not in (last, last + 1):
                failures.append(f"{found} loads, {last} was written")
    remarks = f"{whole} checkpoints were written before; {between} more kills fell between two"
    return Row(what, inside, tuple(failures), remarks)


def _killed(writer: Writer, folder: Path, written: mmap.mmap, delay: float) -> None:
    """`written` holds the number of the last checkpoint whose writing had come to its end."""
    child = os.fork()
    if child == 0:
        number = 0
        try:
            while True:
                number += 1
                writer.save(number, folder)
                written[:8] = number.to_bytes(8, "little")
        finally:
            os._exit(1)
    while not any(folder.iterdir()):
        if os.waitpid(child, os.WNOHANG)[0]:
            raise RuntimeError("the writer ended by itself")
        time.sleep(0.0005)
    time.sleep(delay)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)

"""The run folder while a run trains: settings and labels, logs, checkpoints."""

import io
import json
import platform
import tempfile
from collections.abc import Mapping
from contextlib import nullcontext, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import keras
import numpy as np
import tensorflow as tf
import yaml
from numpy.typing import NDArray
from tqdm import tqdm

from ieg.method.signs import Pulse
from ieg.method.train import Progress
from ieg.run import checkpoint, label_quality, report
from ieg.run.config import recorded
from ieg.run.experiment import Experiment
from ieg.run.log import Log, unknown
from shared.files import write_atomically
from shared.formats.noise_file import write

KEEP = {"supervised": 5, "ieg": 4, "l2r": 4, "fsr": 3}  # checkpoints, as published


class Recording:
    """Writes the run folder. A context manager; `done`: steps that a resumed run has behind it.

    Of several machines only one writes it, the others write to a folder that is thrown away.
    """

    def __init__(self, run: Experiment, done: int) -> None:
        self._run, self._done = run, done

    def __enter__(self) -> Self:
        run, config = self._run, self._run.config
        self._elsewhere = tempfile.TemporaryDirectory()
        self._folder = run.folder if run.is_chief else Path(self._elsewhere.name)
        self._folder.mkdir(parents=True, exist_ok=True)
        checkpoint.remove_unfinished(self._folder)
        known = {"data_location": run.task.location, "identity": run.record.identity}
        write_config(self._folder, {**recorded(config), **known})
        write(self._folder / "noise.npz", run.task.noise)
        self._log = Log(
            self._folder,
            run.record,
            method=config.method,
            iter_epoch=run.plan.iter_epoch,
            uniform=1.0 / config.batch_size,
            num_classes=run.task.num_classes,
            finer=config.verbose_finer_log,
            truth_known=run.task.train.gold is not None,
            copy_evaluation=config.summary_eval_to_train,
        )
        total = run.plan.max_iteration
        self._bar = tqdm(desc="steps", initial=self._done, total=total, disable=None, leave=False)
        self._pulse = Pulse()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.close()
        if error is not None:
            checkpoint.note_kept(error, self._run.folder)
        with nullcontext() if error is None else suppress(tf.errors.OpError, OSError):
            self._log.close()  # writes, and must not hide why the run ended
        self._elsewhere.cleanup()

    def record(self, progress: Progress) -> None:
        """Logs some steps; after an evaluation also a checkpoint and a printed line."""
        run, queue = self._run, self._run.trainer.queue
        self._bar.update(len(progress.steps))
        loss = progress.steps[-1].figures["loss/net"]
        self._bar.set_postfix(loss=f"{loss:.3g}", refresh=False)
        more: dict[str, float | None] = {}
        if run.task.evaluation is None and progress.evaluations is not None:
            more |= unknown(run.config.use_ema)
        if queue is not None and progress.evaluations is not None:
            more["queue_purity"] = queue.purity()
        row = self._log.write(progress, **more, **self._speed(progress))
        if queue is not None and progress.queue_refreshed:
            self._log.queue(progress.iteration, queue)
        if row is None:
            if self._bar.disable and self._pulse.due():
                speed = self._speed(progress)["images_per_s"]
                print(report.step_line(progress.iteration, run.plan, loss, speed), flush=True)
            return
        if queue is not None:
            # DEVIATION(ieg_fsr): FSR's queue_info is an .npz without pickles; the original's is a
            # pickled .npy.
            write_atomically(self._folder / "queue_info.npz", _packed(queue.state()))
        keep = KEEP[run.config.method]
        checkpoint.save(self._folder, progress.iteration, run.trainer.state(), run.record, keep)
        tqdm.write(report.line(row))

    def finish(self) -> None:
        """What a finished run leaves besides."""
        label_quality.write(self._run, self._folder)

    def _speed(self, progress: Progress) -> dict[str, float]:
        """Seconds and images/s of training alone, since the last evaluation."""
        images = self._run.config.batch_size * self._run.strategy.num_replicas_in_sync
        seconds = progress.timing["seconds"]
        return {
            "seconds": seconds,
            "images_per_s": progress.timing["steps"] * images / seconds,
        }


def write_config(folder: Path, config: Mapping[str, Any]) -> None:
    """config.yaml: everything needed to repeat the run."""
    plain = json.loads(json.dumps(config, default=str))
    versions = {
        "python": platform.python_version(),
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
        "numpy": np.__version__,
    }
    text = yaml.safe_dump({**plain, "versions": versions}, sort_keys=False)
    write_atomically(folder / "config.yaml", text.encode())


def _packed(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]  # names are not its options
    return buffer.getvalue()

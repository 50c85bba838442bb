"""What a run thinks of every label that it was trained on, for a new run and for a finished one.

The table, the corrected labels and, if asked for, probabilities are written by
`shared.formats.label_quality`. Shapes: N training samples, M test samples, C classes.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ieg.method.train import predict
from ieg.method.trainer import Trainer
from ieg.run import checkpoint
from ieg.run.errors import CheckpointError
from ieg.run.experiment import Experiment
from shared.formats.label_quality import TABLE, PredProbs, Verdict, save

Floats = NDArray[np.float32]
# What --export needs to be as it was: all but the devices, which need not be those of the training.
ANY_DEVICES = {"replicas"}


def export(run: Experiment) -> None:
    """Writes the files of the run in the run folder again, as its newest checkpoint has it."""
    same = run.record.identity.keys() - ANY_DEVICES
    advice = "Put the data that it was trained on back: the folder's config.yaml says where from"
    done = checkpoint.restore(run.folder, run.trainer.state(), run.record, same=same, advice=advice)
    if not done:
        raise CheckpointError(f"{run.folder} has no checkpoint to export: train it first")
    if done < run.plan.max_iteration:
        print(f"note: iteration {done} of {run.plan.max_iteration} is done, the files are of that")
    write(run, run.folder)


def write(run: Experiment, folder: Path) -> None:
    """Writes the files into a folder."""
    config, task = run.config, run.task
    probs = predict(run.trainer, task.train, config.val_batch_size, config.use_ema)
    judged = standing(run.trainer)
    if judged is not None and np.isnan(judged).any():
        print(
            f"note: {config.method} has not judged {np.isnan(judged).sum():,} samples (less than "
            "two epochs, or a checkpoint of an older version): label_quality is the self-confidence"
        )
        judged = None
    found = verdict(probs, task.train.labels, judged)
    kept = PredProbs(probs, _test_probs(run)) if config.save_probs else None
    save(folder, task.noise, task.class_names, found, task.files, kept)
    print(f"{folder / TABLE}: {found.is_issue.sum():,} of {len(probs):,} labels look wrong")


def standing(trainer: Trainer) -> Floats | None:
    """(N,) >= 0, how much the method makes of each sample, 1 if as much as of the average one.

    L2R and IEG: its mean weight, 1 for the uniform one. FSR: e to the power of the average rate
    less its own; the rate is how much its loss rises at the classifier's virtual step. NaN for
    samples that were not met; None for cross-entropy, which does not judge.
    """
    if trainer.queue is not None:
        rates = trainer.queue.known_rates()
        return np.exp(np.nanmean(rates) - rates)
    return None if trainer.sample_weights is None else trainer.sample_weights.means()


def verdict(probs: Floats, labels: NDArray[np.int64], standing: Floats | None) -> Verdict:
    """The verdict on N labels.

    probs: (N, C); labels: (N,), the given ones; standing: (N,), see above. A standing w becomes the
    quality w / (1 + w), so 0.5 is the average; below it is an issue, if the network predicts
    another label. Without it the quality is the self-confidence and the prediction alone counts.
    """
    predicted = probs.argmax(axis=1)
    confidence = np.take_along_axis(probs, labels[:, None], axis=1)[:, 0]
    if standing is None:
        return Verdict(predicted, confidence, confidence, predicted != labels)
    quality = 1.0 - 1.0 / (1.0 + standing)  # also of what is infinite
    return Verdict(predicted, quality, confidence, (quality < 0.5) & (predicted != labels))


def _test_probs(run: Experiment) -> Floats | None:
    """(M, C) in the order of the test set, which is evaluated in another one."""
    task, config = run.task, run.config
    if task.evaluation is None:
        return None
    probs = predict(run.trainer, task.evaluation, config.val_batch_size, config.use_ema)
    return probs if task.evaluation_rows is None else probs[np.argsort(task.evaluation_rows)]

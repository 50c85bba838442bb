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
from shared.formats.label_quality import PROBS, TABLE, PredProbs, Verdict, save

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
    judged = quality(run.trainer)
    if judged is not None and np.isnan(judged).any():
        print(
            f"note: {config.method} has not judged {np.isnan(judged).sum():,} samples (less than "
            "two epochs since it was started or resumed): label_quality is the self-confidence"
        )
        judged = None
    found = verdict(probs, task.train.labels, judged)
    # Those that are there already would be of an earlier state than the table.
    wanted = config.save_probs or (folder / PROBS).is_file()
    kept = PredProbs(probs, _test_probs(run)) if wanted else None
    save(folder, task.noise, task.class_names, found, task.files, kept)
    print(f"{folder / TABLE}: {found.is_issue.sum():,} of {len(probs):,} labels look wrong")


def quality(trainer: Trainer) -> Floats | None:
    """(N,) in [0, 1]: what the method makes of each sample in training; low is suspicious.

    L2R and IEG: the share of its steps in which it had a weight, since the size of the weight says
    less (NOTES.md). FSR: 1 / (1 + e^(r - mean r)) of its rate r, by which its loss rises at the
    classifier's virtual step. NaN for samples that were not met; None for cross-entropy, which does
    not judge.
    """
    if trainer.queue is not None:
        rates = trainer.queue.known_rates()
        return (0.5 - 0.5 * np.tanh((rates - np.nanmean(rates)) / 2.0)).astype(np.float32)
    return None if trainer.weight_counts is None else trainer.weight_counts.shares()


def verdict(probs: Floats, labels: NDArray[np.int64], quality: Floats | None) -> Verdict:
    """The verdict on N labels.

    probs: (N, C); labels: (N,), the given ones; quality: (N,), see above. Below 0.5 (weight in
    fewer than half of its steps, or a rate above the mean) a label is an issue, if the network
    predicts another. Without a quality it is the self-confidence and the prediction alone counts.
    """
    predicted = probs.argmax(axis=1)
    confidence = np.take_along_axis(probs, labels[:, None], axis=1)[:, 0]
    if quality is None:
        return Verdict(predicted, confidence, confidence, predicted != labels)
    return Verdict(predicted, quality, confidence, (quality < 0.5) & (predicted != labels))


def _test_probs(run: Experiment) -> Floats | None:
    """(M, C) in the order of the test set, which is evaluated in another one."""
    task, config = run.task, run.config
    if task.evaluation is None:
        return None
    probs = predict(run.trainer, task.evaluation, config.val_batch_size, config.use_ema)
    return probs if task.evaluation_rows is None else probs[np.argsort(task.evaluation_rows)]

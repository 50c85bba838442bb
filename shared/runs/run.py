"""What is left of a run, of whichever project; accuracies in percent."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from shared.errors import UserError
from shared.formats.label_quality import TABLE

NOISE = "noise.npz"
LAST_ROUND = 1e-6  # of an epoch: a share of the steps of an epoch is no exact number


class RunError(UserError):
    """A folder or file that is no run, or one that cannot be read."""


class Evaluation(NamedTuple):
    """A test of the weights that the run reports."""

    epoch: float
    accuracy: float  # percent


class Summary(NamedTuple):
    """Accuracies in percent."""

    best: float
    best_epoch: float  # the first of equally good ones
    last: float
    last_10_mean: float  # of the last ten evaluations


@dataclass(frozen=True)
class Run:
    """A run with at least one row in its log."""

    folder: Path  # of a curve, the .csv file
    project: str  # empty: a curve whose settings nobody wrote down
    method: str  # unique together with the project
    title: str
    config: dict[str, Any]  # config.yaml; the top-level variables of mmengine's; {} without one
    rows: list[dict[str, Any]]  # metrics.jsonl as it is; those of stage 1 come before
    evaluations: list[Evaluation]  # only those with a number; none without a test set
    epochs: float  # trained so far
    epochs_planned: float | None  # None where nobody wrote it down
    averaged: bool  # the accuracy is that of averaged weights
    which: str  # the accuracy that the paper reports: last, best, last 10; empty: it does not say
    seconds: float  # of training and testing as the rows count them: those of ieg_fsr only train
    seed: int | None
    noise_sha256: str | None  # of the noisy labels in the order of the dataset; see `labels`
    metric: str = "accuracy"  # what `accuracy` is: mask AP of instance segmentation

    @property
    def is_finished(self) -> bool:
        """Whether every epoch is trained; the files of the final report are written after that."""
        return self.epochs_planned is not None and self.epochs >= self.epochs_planned - LAST_ROUND

    def summary(self) -> Summary | None:
        """None without an evaluation."""
        return summarised(self.evaluations) if self.evaluations else None

    @property
    def noise_path(self) -> Path | None:
        return self._file(NOISE)

    @property
    def label_quality_path(self) -> Path | None:
        return self._file(TABLE)

    def _file(self, name: str) -> Path | None:
        path = self.folder / name
        return path if path.is_file() else None


def summarised(evaluations: Sequence[Evaluation]) -> Summary:
    """evaluations: at least one."""
    best = max(evaluations, key=lambda one: one.accuracy)
    last_ten = [one.accuracy for one in evaluations[-10:]]
    return Summary(best.accuracy, best.epoch, last_ten[-1], sum(last_ten) / len(last_ten))

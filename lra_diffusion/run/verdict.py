"""label_quality.csv: what the reported model of a finished run thinks of its training labels.

Letters: N training images, C classes.
"""

from torch import Tensor

from lra_diffusion.method import classifier
from lra_diffusion.method.evaluate import EvaluationSet, predict
from shared.formats.label_quality import Verdict, write
from shared.formats.noise_file import make

from . import checkpoint
from .baseline import Baseline
from .errors import CheckpointError
from .experiment import Experiment
from .folder import Learner, RunFolder
from .report import chosen
from .splits import RunData


def judge(run: Experiment) -> None:
    """By the probabilities of the reverse process, which is deterministic: one sample is enough.

    The run must be over: its networks become those of the best epoch.
    """
    assert run.features.bank is not None  # as it was training
    _to_best_epoch(run.learner, run.folder)
    best = chosen(run.folder.rows)
    model = run.learner.model("raw" if best is None else best["weights"])
    images = EvaluationSet(run.train_set.images, run.train_set.labels, run.features.bank)
    [probabilities] = predict([model], images, run.config, run.learner.autocast)
    _write(run.folder, run.data, probabilities)


def judge_baseline(run: Baseline) -> None:
    """By the softmax of plain cross-entropy; the run must be over, as for `judge`."""
    _to_best_epoch(run.learner, run.folder)
    logits = classifier.predict(run.learner.net, run.train_set.images, run.settings)
    _write(run.folder, run.data, logits.softmax(dim=1))


def _to_best_epoch(learner: Learner, folder: RunFolder) -> None:
    """Loads its networks; without one that counts, the last epoch's stay."""
    if chosen(folder.rows) is None:
        return
    path = folder.path / checkpoint.BEST
    try:
        learner.load_networks(checkpoint.load(path))
    except CheckpointError as error:
        print(f"warning: label_quality.csv is of the last epoch's networks ({error})")


def _write(folder: RunFolder, data: RunData, probabilities: Tensor) -> None:
    """probabilities: (N, C). An issue is a label that is not the predicted one."""
    given = data.train.labels
    quality = probabilities.gather(1, given[:, None])[:, 0].cpu().numpy()
    predicted = probabilities.argmax(dim=1)
    issue = (predicted != given).cpu().numpy()
    noise = data.noise or make(given.cpu().numpy())  # published images on disk have no noise file
    verdict = Verdict(predicted.cpu().numpy(), quality, quality, issue)
    path = folder.path / "label_quality.csv"
    write(path, noise, data.class_names, verdict, data.train.files)

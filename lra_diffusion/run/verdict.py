"""What the reported model of a run thinks of its training labels: label_quality.csv and its
companions.

Letters: N training images, C classes.
"""

import shlex
from typing import Any

from torch import Tensor

from lra_diffusion.method import classifier
from lra_diffusion.method.evaluate import EvaluationSet, predict
from shared.formats.label_quality import CORRECTED, TABLE, PredProbs, Verdict, save

from . import checkpoint
from .baseline import Baseline
from .errors import CheckpointError
from .experiment import Experiment
from .folder import Learner, RunFolder
from .report import chosen

MOST_UNASKED = 500_000  # images; a pass over more of them takes hours, see `export`


def judge(run: Experiment | Baseline) -> None:
    """At the end of a run: writes the files, or says which command does where that takes hours.

    The run must be over: its networks become those of the best epoch.
    """
    count = len(run.data.train.labels)
    if count <= MOST_UNASKED:
        _write(run)
    else:
        folder = str(run.folder.path)
        command = shlex.join(["python", f"{run.config.script}.py", "--export", folder])
        print(f"{TABLE} takes a pass over {count:,} images: `{command}` writes it")


def export(run: Experiment | Baseline) -> None:
    """Writes the files of a run that is there, as it stands."""
    _write(run)
    done, total = len(run.folder.rows), run.config.nepoch
    stage = "" if done == total else f" (the run is not finished: epoch {done} of {total})"
    print(f"{run.folder.path}: wrote {TABLE} and {CORRECTED} again{stage}")


def _write(run: Experiment | Baseline) -> None:
    """An issue is a label that is not the predicted one."""
    _to_best_epoch(run.learner, run.folder)
    data, given = run.data, run.data.train.labels
    found, probs = _probabilities(run, "train"), None
    if run.config.save_probs:
        tested = _probabilities(run, "test").cpu().numpy() if "test" in data.tested else None
        probs = PredProbs(found.cpu().numpy(), tested)
    quality = found.gather(1, given[:, None])[:, 0].cpu().numpy()
    predicted = found.argmax(dim=1)
    issue = (predicted != given).cpu().numpy()
    verdict = Verdict(predicted.cpu().numpy(), quality, quality, issue)
    if run.folder.ranks.is_first:
        save(run.folder.path, data.noise, data.class_names, verdict, data.train.files, probs)


def _probabilities(run: Experiment | Baseline, part: str) -> Tensor:
    """(N, C) of the images of "train" or "test" as they are.

    By the reverse process, which is deterministic: one sample is enough; of plain cross-entropy by
    its softmax.
    """
    ranks = run.folder.ranks
    if isinstance(run, Baseline):
        images = (run.train_set if part == "train" else run.test_sets[part]).images
        return classifier.predict(run.learner.net, images, run.settings, ranks).softmax(dim=1)
    best = chosen(run.folder.rows)
    model = run.learner.model("raw" if best is None else best["weights"])
    if part == "train":
        assert run.features.bank is not None  # as it was training
        shown = EvaluationSet(run.train_set.images, run.train_set.labels, run.features.bank)
    else:
        shown = run.test_sets[part]
    [probabilities] = predict([model], shown, run.config, run.learner.autocast, ranks)
    return probabilities


def _to_best_epoch(learner: Learner, folder: RunFolder) -> None:
    """Loads its networks; without one that counts, the last epoch's stay."""
    if chosen(folder.rows) is None:
        return
    state = folder.ranks.same(lambda: _best_state(folder))
    if state is not None:
        learner.load_networks(state)


def _best_state(folder: RunFolder) -> dict[str, Any] | None:
    try:
        state: dict[str, Any] = checkpoint.load(folder.path / checkpoint.BEST)
    except CheckpointError as error:
        print(f"warning: {TABLE} is of the last epoch's networks ({error})")
        return None
    return state

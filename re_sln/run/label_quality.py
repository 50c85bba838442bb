"""What a run thinks of every label that it was trained on: label_quality.csv and its companions."""

import shlex

import torch
from torch import Tensor

from re_sln.method.images import Images
from re_sln.method.progress import watched
from re_sln.method.streams import in_order
from re_sln.method.train import predict
from re_sln.run.errors import CheckpointError
from re_sln.run.experiment import Experiment
from shared.formats.label_quality import CORRECTED, TABLE, PredProbs, Verdict, save

MOST_UNASKED = 500_000  # images; a pass over more of them takes hours, see `export`


def judge(run: Experiment) -> None:
    """At the end of a run: writes the files, or says which command does where that takes hours."""
    count = len(run.data.train_set.noisy)
    if count <= MOST_UNASKED:
        _write(run)
    else:
        command = shlex.join(["python", f"{run.config.script}.py", "--export", str(run.folder)])
        print(f"{TABLE} takes a pass over {count:,} images: `{command}` writes it")


def export(run: Experiment) -> None:
    """Writes the files of a run that is there, as it stands. Raises CheckpointError."""
    if not run.rows:
        raise CheckpointError(f"{run.folder} has no checkpoint to export: train it first")
    _write(run)
    done, total = len(run.rows), run.config.n_epochs
    stage = "" if done == total else f" (the run is not finished: epoch {done} of {total})"
    print(f"{run.folder}: wrote {TABLE} and {CORRECTED} again{stage}")


def _write(run: Experiment) -> None:
    data, probs = run.data, None
    found = _probabilities(run, data.train_set.images, "label quality")
    if run.config.save_probs:
        tested = None
        if len(data.test_sets["test"].labels):
            images = data.test_sets["test"].images
            tested = _probabilities(run, images, "test images").cpu().numpy()
        probs = PredProbs(found.cpu().numpy(), tested)
    if not run.ranks.is_first:
        return
    save(run.folder, data.noise, data.class_names, _verdict(run, found), data.files, probs)


def _probabilities(run: Experiment, images: Images, what: str) -> Tensor:
    """(N, C): softmax of the reported network, on the images without augmentation."""
    batches = in_order(len(images), images.evaluation_batch, run.device)
    shown = watched(images.plain(batches, run.ranks), what, len(batches), len(images))
    net = run.learner.ema.net if run.config.mo else run.learner.net
    return predict(net, shown, batches, run.settings).softmax(dim=1)


def _verdict(run: Experiment, probs: Tensor) -> Verdict:
    """The reported network's; with LC that of its targets. probs: (N, C).

    The last label correction left the noisy label a share w + (1 - w) p_y of its target (see
    `corrected_targets`). The weight w alone would be the wrong way round: it is high for high
    losses, which wrong labels have. Where an epoch draws equally many of each class, the others
    still have their noisy label as their target: nothing was said of them, so the network is asked.
    """
    targets, noisy = run.learner.targets, run.data.train_set.noisy
    given = noisy.argmax(dim=1)
    predicted = probs.argmax(dim=1)
    confidence = quality = probs.gather(1, given[:, None])[:, 0]
    is_issue = predicted != given
    if targets is not None:
        share = targets.gather(1, given[:, None])[:, 0]
        draws = run.data.train_set.per_class is not None
        corrected = (targets != noisy).any(dim=1) if draws else torch.ones_like(is_issue)
        quality = torch.where(corrected, share, confidence)
        is_issue = torch.where(corrected, share < 0.5, is_issue)
    columns = (each.cpu().numpy() for each in (predicted, quality, confidence, is_issue))
    return Verdict(*columns)

"""label_quality.csv: what a finished run thinks of every label that it was trained on."""

from re_sln.method.progress import watched
from re_sln.method.streams import in_order
from re_sln.method.train import predict
from re_sln.run.experiment import Experiment
from shared.formats.label_quality import Verdict, write


def write_label_quality(run: Experiment) -> None:
    """Writes the table into the run folder; not of Clothing1M, a pass over which takes hours."""
    data = run.data
    if data.noise is not None:
        path = run.folder / "label_quality.csv"
        write(path, data.noise, data.class_names, _verdict(run), data.files)


def _verdict(run: Experiment) -> Verdict:
    """The reported network's, on the images without augmentation; with LC that of its targets.

    The last label correction left the noisy label a share w + (1 - w) p_y of its target (see
    `corrected_targets`). The weight w alone would be the wrong way round: it is high for high
    losses, which wrong labels have.
    """
    learner, images = run.learner, run.data.train_set.images
    given = run.data.train_set.noisy.argmax(dim=1)
    batches = in_order(len(images), images.evaluation_batch, given.device)
    shown = watched(images.plain(batches), "label quality", len(batches), len(images))
    net = learner.ema.net if run.config.mo else learner.net
    probs = predict(net, shown, run.settings).softmax(dim=1)
    predicted = probs.argmax(dim=1)
    confidence = quality = probs.gather(1, given[:, None])[:, 0]
    is_issue = predicted != given
    if learner.targets is not None:
        quality = learner.targets.gather(1, given[:, None])[:, 0]
        is_issue = quality < 0.5
    columns = (each.cpu().numpy() for each in (predicted, quality, confidence, is_issue))
    return Verdict(*columns)

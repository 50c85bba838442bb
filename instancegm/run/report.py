"""What a run leaves when it is done: tables, corrected labels, a picture, and its accuracies."""

import csv
import io
import shlex
from functools import partial

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from instancegm.analysis.runs import summary
from instancegm.method.mixture import CleanFit
from instancegm.method.peers import ensemble_accuracy, predict
from instancegm.method.signs import SILENT, SignsOfLife
from instancegm.method.train import fit_mixtures
from instancegm.run import checkpoint, published
from instancegm.run.classes import vanished
from instancegm.run.config import Config
from instancegm.run.experiment import Experiment
from instancegm.run.presets import REAL
from shared.files import write_atomically
from shared.formats import label_quality
from shared.formats.label_quality import PredProbs, Verdict

MOST_UNASKED = 500_000  # images; to look at more of them takes hours, see `export`


def report(run: Experiment, signs: SignsOfLife = SILENT) -> None:
    """The end of a run: its accuracies, the original's checkpoint, and what `export` writes.

    Of several ranks the first one reports; all predict.
    """
    if run.ranks.is_first:
        if len(run.peers) == 2:
            state = published.published_form(run.state_dict())
            checkpoint.save(state, published.checkpoint_path(run.data_word, run.config))
        _print_accuracies(run, signs)
    count = len(run.train_set.images)
    if count <= MOST_UNASKED:
        _write_verdict(run, signs)
    else:
        command = shlex.join(["python", f"{run.config.script}.py", "--export", str(run.folder)])
        print(f"{label_quality.TABLE} takes a pass over {count:,} images: `{command}` writes it")


def export(run: Experiment, signs: SignsOfLife = SILENT) -> None:
    """Writes what the run thinks of its labels, and its picture, as it stands."""
    _write_verdict(run, signs)
    done, total = run.next_epoch - 1, run.config.num_epochs
    stage = "" if done == total else f" (the run is not finished: epoch {done} of {total})"
    print(f"{run.folder}: wrote {label_quality.TABLE} and {label_quality.CORRECTED} again{stage}")


def _write_verdict(run: Experiment, signs: SignsOfLife) -> None:
    nets, ranks = [peer.net for peer in run.peers], run.ranks
    predicted = partial(predict, nets, autocast=run.peers[0].autocast, signs=signs, ranks=ranks)
    logits = predicted(run.train_set.images, title="losses for the report")
    probs = None
    if run.config.save_probs:
        probs = PredProbs(_ensemble_probs(logits).cpu().numpy())
        if "test" in run.tests:
            tested = predicted(run.tests["test"].images, title="test set")
            probs = PredProbs(probs.train, _ensemble_probs(tested).cpu().numpy())
    if not ranks.is_first:
        return
    labels, seed = run.train_set.noisy_labels, run.config.seed
    fits = fit_mixtures(list(logits), [labels] * len(nets), run.history, seed, run.next_epoch)
    verdict = _verdict(run, fits, logits)
    _write_clean_prob(run, fits, verdict.predicted)
    label_quality.save(run.folder, run.noise, run.class_names, verdict, run.files, probs)
    corrected = label_quality.corrected(run.noise, verdict).noisy_labels
    lost = vanished(run.noise.noisy_labels, corrected, run.class_names)
    if lost is not None:
        print(f"warning: {lost}")
    if run.config.plots:
        from instancegm.analysis import plots  # matplotlib, not needed before the end

        title = (
            f"{run.config.method} on {run.config.dataset}, {_labels_in_words(run.config)}, seed "
            f"{run.config.seed}"
        )
        path = run.folder / "plots.png"
        plots.draw(path, title, run.rows, fits, run.train_set.is_clean)
        print(f"plots: {path}")


def _labels_in_words(config: Config) -> str:
    if config.dataset == "red_blue":
        return f"{config.colour}, rate {config.r:g}"
    added = config.noise_mode != "none" and config.dataset not in REAL
    return f"noise rate {config.r:g}" if added else "labels as they are"


def _print_accuracies(run: Experiment, signs: SignsOfLife) -> None:
    if "test" not in run.tests:
        print("no test set, so no accuracy; what the labels are worth is in label_quality.csv")
        return
    result = summary(run.rows)
    print(
        f"{run.config.method} test accuracy: best {result['best']:.2f} % (epoch "
        f"{result['best_epoch']}), last {result['last']:.2f} %, mean of the last 10 "
        f"{result['last_10_mean']:.2f} % (the paper does not say which it reports)"
    )
    if "val" in run.tests:
        nets = published.best_networks(run.folder, run.peers, run.device)
        logits = predict(nets, run.tests["test"].images, run.peers[0].autocast, signs, "test set")
        accuracy = ensemble_accuracy(logits, run.tests["test"].labels)
        print(
            f"test accuracy of the networks that were best on the validation set: {accuracy:.2f} % "
            "(as DivideMix reports; the published InstanceGM reports the last epoch's)"
        )


def _verdict(run: Experiment, fits: list[CleanFit], logits: Tensor) -> Verdict:
    """The mean clean probability is the quality of a label; of cross-entropy its self-confidence.

    logits: (P, N, C). An issue is what the mixture would not have trained on as labelled; of
    cross-entropy what it does not predict.
    """
    given = run.train_set.noisy_labels
    confidence = _ensemble_probs(logits).gather(1, given[:, None])[:, 0].cpu().numpy()
    predicted = logits.sum(dim=0).argmax(dim=1)
    if run.config.mode == "ce":
        wrong = (predicted != given).cpu().numpy()
        return Verdict(predicted.cpu().numpy(), confidence, confidence, wrong)
    quality = np.mean([fit.clean_prob for fit in fits], axis=0)
    is_issue = quality <= run.config.p_threshold
    return Verdict(predicted.cpu().numpy(), quality, confidence, is_issue)


def _ensemble_probs(logits: Tensor) -> Tensor:
    """(P, N, C) -> (N, C), likeliest where the reported ensemble, the summed logits, is.

    The mean of the networks' softmax is not: of two networks the surer one would decide.
    """
    return logits.mean(dim=0).softmax(dim=1)


def _write_clean_prob(run: Experiment, fits: list[CleanFit], predicted: NDArray[np.int64]) -> None:
    """clean_prob.csv: index, noisy label, clean probability by each network, predicted label."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    numbers = [f"clean_prob_{k}" for k in range(1, len(fits) + 1)]
    writer.writerow(["index", "given_label", *numbers, "predicted_label"])
    probs = [[f"{value:.6f}" for value in fit.clean_prob] for fit in fits]
    assert run.noise.indices is not None  # labels_of_run aligns them with the dataset
    rows = zip(run.noise.indices.tolist(), run.noise.noisy_labels.tolist(), *probs, predicted)
    writer.writerows(rows)
    write_atomically(run.folder / "clean_prob.csv", text.getvalue().encode())

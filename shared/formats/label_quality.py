"""What a method thinks of every training label: a table in cleanlab's words, and better labels.

    save(run_folder, noise, class_names, verdict, files)
    pandas.read_csv("label_quality.csv").sort_values("label_quality")      # the worst labels first

`label_quality.csv` has one row per sample, in the order of the dataset: `index` in it, `file` where
samples are files, `given_label` and `given_name`, `predicted_label` and `predicted_name`,
`label_quality` (low is suspicious), `self_confidence`, `is_label_issue`, and `clean_label` where it
is known. N samples, C classes.

`corrected_labels.npz` is a noise file that any project trains on: the predicted label where the
given one is an issue. `pred_probs.npz`, which is large and asked for by --save_probs, has the
model's probabilities as cleanlab takes them.
"""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.files import write_atomically
from shared.formats import noise_file
from shared.formats.noise_file import NoiseFile

TABLE, CORRECTED, PROBS = "label_quality.csv", "corrected_labels.npz", "pred_probs.npz"
COLUMNS = (
    *("index", "file", "given_label", "given_name", "predicted_label", "predicted_name"),
    *("label_quality", "self_confidence", "is_label_issue"),
)
Probs = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Verdict:
    """A method's verdict on N labels."""

    predicted: NDArray[np.int64]  # (N,) in [0, C)
    quality: NDArray[np.floating[Any]]  # (N,) in [0, 1]; the method's own
    self_confidence: NDArray[np.floating[Any]]  # (N,) in [0, 1]: the given label's probability
    is_issue: NDArray[np.bool_]  # (N,); by the method's own threshold


@dataclass(frozen=True)
class PredProbs:
    """The probabilities behind a verdict."""

    train: Probs  # (N, C), of the samples in the noise file's order
    test: Probs | None = None  # (M, C), of the test set, in its order; out of sample
    train_is_out_of_sample: bool = False  # the model never saw the sample's label


def save(
    folder: Path,
    noise: NoiseFile,
    class_names: Sequence[str],
    verdict: Verdict,
    files: Sequence[str] = (),
    probs: PredProbs | None = None,
) -> None:
    """Writes the table, the corrected labels and, if given, the probabilities into a run folder.

    noise: the N labels that were trained on, with their rows in the dataset; class_names: (C,);
    files: (N,) their names, where they have any.
    """
    write(folder / TABLE, noise, class_names, verdict, files)
    noise_file.write(folder / CORRECTED, corrected(noise, verdict))
    if probs is not None:
        _write_probs(folder / PROBS, noise, class_names, probs)


def corrected(noise: NoiseFile, verdict: Verdict) -> NoiseFile:
    """The predicted label where the given one is an issue, as a noise file of the same samples."""
    header = noise.header
    return noise_file.make(
        np.where(verdict.is_issue, verdict.predicted, noise.noisy_labels),
        clean_labels=noise.clean_labels,
        indices=noise.indices,
        open_set=noise.open_set,
        dataset=header.dataset,
        split=header.split,
        num_classes=header.num_classes,
        kind=noise_file.CORRECTED_KIND,
    )


def _write_probs(
    path: Path, noise: NoiseFile, class_names: Sequence[str], probs: PredProbs
) -> None:
    """`pred_probs` and `given_labels` in the order of `index`, as in the table."""
    index = noise.rows
    order = np.argsort(index, kind="stable")
    arrays: dict[str, Any] = {
        "index": index[order],
        "given_labels": noise.noisy_labels[order],
        "pred_probs": probs.train[order].astype(np.float32),
        "out_of_sample": np.bool_(probs.train_is_out_of_sample),
        "class_names": np.array(class_names),
    }
    if probs.test is not None:
        arrays["test_pred_probs"] = probs.test.astype(np.float32)
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)
    write_atomically(path, stream.getvalue())


def write(
    path: Path,
    noise: NoiseFile,
    class_names: Sequence[str],
    verdict: Verdict,
    files: Sequence[str] = (),
) -> None:
    """Writes the table, all or nothing; the arguments are those of `save`."""
    given, clean = noise.noisy_labels, noise.clean_labels
    index = noise.rows
    text = io.StringIO(newline="")
    table = csv.writer(text, lineterminator="\n")
    table.writerow([*COLUMNS, *([] if clean is None else ["clean_label"])])
    for row in np.argsort(index, kind="stable").tolist():
        predicted = int(verdict.predicted[row])
        cells = [
            *(int(index[row]), files[row] if files else ""),
            *(int(given[row]), class_names[given[row]], predicted, class_names[predicted]),
            *(f"{verdict.quality[row]:.6f}", f"{verdict.self_confidence[row]:.6f}"),
            bool(verdict.is_issue[row]),
        ]
        table.writerow([*cells, *([] if clean is None else [int(clean[row])])])
    write_atomically(path, text.getvalue().encode())

"""`label_quality.csv`: what a method thinks of every training label, in cleanlab's words.

    write(Path("label_quality.csv"), noise, class_names, verdict, files)
    pandas.read_csv("label_quality.csv").sort_values("label_quality")      # the worst labels first

One row per sample, in the order of the dataset: `index` in it, `file` where samples are files,
`given_label` and `given_name`, `predicted_label` and `predicted_name`, `label_quality` (low is
suspicious), `self_confidence`, `is_label_issue`, and `clean_label` where it is known. N samples, C
classes.
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
from shared.formats.noise_file import NoiseFile

COLUMNS = (
    *("index", "file", "given_label", "given_name", "predicted_label", "predicted_name"),
    *("label_quality", "self_confidence", "is_label_issue"),
)


@dataclass(frozen=True)
class Verdict:
    """A method's verdict on N labels."""

    predicted: NDArray[np.int64]  # (N,) in [0, C)
    quality: NDArray[np.floating[Any]]  # (N,) in [0, 1]; the method's own
    self_confidence: NDArray[np.floating[Any]]  # (N,) in [0, 1]: the given label's probability
    is_issue: NDArray[np.bool_]  # (N,); by the method's own threshold


def write(
    path: Path,
    noise: NoiseFile,
    class_names: Sequence[str],
    verdict: Verdict,
    files: Sequence[str] = (),
) -> None:
    """Writes the table, all or nothing.

    noise: the N labels that were trained on, with their rows in the dataset; class_names: (C,);
    files: (N,) their names, where they have any.
    """
    given, clean = noise.noisy_labels, noise.clean_labels
    index = np.arange(len(given)) if noise.indices is None else noise.indices
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

"""The noisy labels of runs: the same ones in every project, or not."""

from collections.abc import Iterable
from itertools import combinations
from pathlib import Path

import numpy as np

from shared.formats import noise_file
from shared.formats.alignment import subset
from shared.formats.noise_file import NoiseFile, NoiseFileError
from shared.labels import Labels
from shared.runs.run import NOISE, Run, RunError


def read_noise(folder: Path) -> NoiseFile | None:
    """The labels that a run was trained on, in the order of the dataset; None without noise.npz."""
    if not (folder / NOISE).exists():
        return None
    try:
        noise = noise_file.read(folder / NOISE)
    except NoiseFileError as error:
        raise RunError(str(error)) from error
    if noise.indices is None:
        return noise
    return subset(noise, np.argsort(noise.indices, kind="stable"))


def noise_hash(folder: Path) -> str | None:
    """SHA-256 of the noisy labels in the order of the dataset, whatever order the run had."""
    noise = read_noise(folder)
    return None if noise is None else noise_file.label_hash(noise.noisy_labels)


def differing(one: NoiseFile, two: NoiseFile) -> Labels:
    """Rows of the training set to which both give a label, but not the same one; ascending."""
    shared, first, second = np.intersect1d(
        one.rows, two.rows, assume_unique=True, return_indices=True
    )
    rows: Labels = shared[one.noisy_labels[first] != two.noisy_labels[second]]
    return rows


def same_labels(runs: Iterable[Run]) -> bool:
    """Whether all runs give every sample that they share the same noisy label.

    Runs keep different samples for validation or as trusted ones, so their hashes may differ all
    the same. Those without noise.npz are not looked at.
    """
    files = [noise for run in runs if (noise := read_noise(run.folder)) is not None]
    return not any(len(differing(one, two)) for one, two in combinations(files, 2))

"""The noisy labels of runs: the same ones in every project, or not."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np

from shared.formats import noise_file
from shared.formats.noise_file import NoiseFile, NoiseFileError
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
    order = np.argsort(noise.indices, kind="stable")
    return NoiseFile(
        noise.noisy_labels[order],
        None if noise.clean_labels is None else noise.clean_labels[order],
        noise.indices[order],
        None if noise.open_set is None else noise.open_set[order],
        replace(noise.header, clean_labels_sha256=None),  # which is of another order
    )


def noise_hash(folder: Path) -> str | None:
    """SHA-256 of the noisy labels in the order of the dataset, whatever order the run had."""
    noise = read_noise(folder)
    return None if noise is None else noise_file.label_hash(noise.noisy_labels)


def same_labels(runs: Iterable[Run]) -> bool:
    """Whether all runs give every sample that they share the same noisy label.

    Runs keep different samples for validation or as trusted ones, so their hashes may differ all
    the same. Those without noise.npz are not looked at.
    """
    known: dict[int, int] = {}
    for noise in (read_noise(run.folder) for run in runs):
        if noise is None:
            continue
        index = range(len(noise.noisy_labels)) if noise.indices is None else noise.indices.tolist()
        labels = dict(zip(index, noise.noisy_labels.tolist()))
        if any(known.get(sample, label) != label for sample, label in labels.items()):
            return False
        known |= labels
    return True

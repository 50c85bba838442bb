"""Run folders made up in a moment, for the tests of the report: the files that a run leaves."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from shared.formats import label_quality, noise_file
from shared.formats.label_quality import Verdict
from shared.formats.noise_file import NoiseFile

METHODS = {  # what marks a method in config.yaml
    "ce": "no_vae: false\nnum_epochs: 3\nmethod: ce\n",
    "instancegm": "no_vae: false\nnum_epochs: 3\nmethod: instancegm\n",
    "sln": "dataset_name: digits\nsigma: 0.5\nmo: true\nlc_n_epoch: 2\nn_epochs: 4\n",
    "dividemix": "no_vae: true\nnum_epochs: 3\nmethod: dividemix\n",
    "ieg": "network_name: wrn10-1\nmax_epoch: 4\nmethod: ieg\nprobe_dataset_hold_ratio: 0.07\n",
    "l2r": "network_name: wrn10-1\nmax_epoch: 4\nmethod: l2r\nprobe_dataset_hold_ratio: 0.07\n",
    "fsr": "network_name: wrn10-1\nmax_epoch: 4\nmethod: fsr\n",
    "lra": "nepoch: 4\nno_validation: false\nmethod: LRA-diffusion (SimCLR)\n",
}
DIGITS = tuple("0123456789")


def noise(
    count: int = 60,
    classes: int = 10,
    dataset: str | None = "digits",
    rate: float = 0.4,
    known: bool = True,
) -> NoiseFile:
    """Labels of which every so many are the next class; known: the truth is in the file."""
    clean = np.arange(count) % classes
    wrong = np.random.default_rng(0).random(count) < rate
    given = np.where(wrong, (clean + 1) % classes, clean)
    return noise_file.make(
        given, clean_labels=clean if known else None, dataset=dataset, num_classes=classes
    )


def verdict(labels: NoiseFile, skill: float = 0.9, seed: int = 0) -> Verdict:
    """Of a method that is right about a share `skill` of the labels."""
    rng = np.random.default_rng(seed)
    given, classes = labels.noisy_labels, labels.header.num_classes or 10
    truth = np.arange(len(given)) % classes
    is_right = rng.random(len(given)) < skill
    predicted = np.where(is_right, truth, rng.integers(0, classes, len(given)))
    quality = np.where(predicted == given, 0.6, 0.1) + 0.3 * rng.random(len(given))
    return Verdict(predicted, quality, quality, predicted != given)


def write(
    folder: Path,
    labels: NoiseFile | None,
    method: str = "ce",
    seed: int = 1,
    *,
    names: Sequence[str] = DIGITS,
    files: Sequence[str] = (),
    says: Verdict | None = None,
    accuracies: Sequence[float | None] = (30.0, 50.0, 40.0, 45.0),
    config: str = "",
) -> Path:
    """A finished run; labels: None for one that recorded none, and says: None for no verdict."""
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(f"{METHODS[method]}seed: {seed}\n{config}")
    first = 1 if method == "sln" else 0
    rows = [
        {"epoch": epoch, "iteration": 10 * epoch, "accuracy": accuracy, "seconds": 1.5}
        for epoch, accuracy in enumerate(accuracies, start=first)
    ]
    (folder / "metrics.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    if labels is not None:
        noise_file.write(folder / "noise.npz", labels)
        if says is not None:
            label_quality.write(folder / label_quality.TABLE, labels, names, says, files)
    return folder


def three_methods(folder: Path, labels: NoiseFile, **more: object) -> Path:
    """CE with two seeds, InstanceGM and SLN+MO+LC with one, of rising skill."""
    for number, (method, seed, skill) in enumerate(
        (("ce", 1, 0.6), ("ce", 2, 0.65), ("sln", 1, 0.8), ("instancegm", 1, 0.95))
    ):
        says = verdict(labels, skill, number)
        write(folder / f"{method}-seed{seed}", labels, method, seed, says=says, **more)
    return folder

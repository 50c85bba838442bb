"""The sets of a run, on the device: images, noisy labels, what is tested."""

import hashlib
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.model_selection import train_test_split

from re_sln.method.disk_images import PER_CLASS, DiskImages
from re_sln.method.images import server_of
from re_sln.method.losses import one_hot
from re_sln.method.train import EvaluationSet, TrainingSet
from re_sln.run.broken_images import whole_images
from re_sln.run.errors import UsageError
from re_sln.run.labels import noisy_training_set
from re_sln.run.places import first_found
from re_sln.run.settings import Config, HeldOut
from shared import datasets
from shared.datasets import animal10n, clothing1m
from shared.datasets.image_data import ImageData
from shared.files import array_hash
from shared.formats.alignment import evenly, is_noisy, subset
from shared.formats.noise_file import NoiseFile, label_hash


@dataclass(frozen=True)
class RunData:
    """What a run trains and tests on."""

    train_set: TrainingSet
    test_sets: dict[str, EvaluationSet]  # the last one is the reported one
    noise: NoiseFile | None  # of the N training samples; None: Clothing1M, whose list is long
    location: Path | None  # None: embedded
    hashes: dict[str, str]  # of all that is in the sets


def load_images(dataset_name: str, path: Path | None) -> ImageData:
    """The images of --dataset_name, which is not Clothing1M; Animal-10N's in their 64 x 64.

    path: --data_path.
    """
    if dataset_name == "animal-10n":
        print("reading the images of Animal-10N", file=sys.stderr, flush=True)
        return first_found(lambda root: datasets.load("animal10n", root, image_size=64), path)
    return first_found(lambda root: datasets.load(dataset_name, root), path)


def load_data(config: Config, device: torch.device, held_out: HeldOut | None) -> RunData:
    """held_out: test on a part of the training set, as a search does. Raises UserError."""
    if config.dataset_name == "clothing1m":
        return _clothing1m(config, device)
    data = load_images(config.dataset_name, config.data_path)
    if config.dataset_name == "animal-10n":
        _write_file_lists(data.location)
    noise, train_images = noisy_training_set(config, data)
    noise = subset(noise, evenly(len(noise.noisy_labels), config.limit_train))
    on_device = server_of(data, device)
    if held_out is None:
        rows = evenly(len(data.test_labels), config.limit_test)
        name, tested, labels = "test", data.test_images[rows], data.test_labels[rows]
    else:
        kept, rows = split_off(noise.noisy_labels, held_out.val_size, config.seed)
        validation, noise = subset(noise, rows), subset(noise, kept)
        name, tested, labels = "val", train_images[validation.indices], validation.noisy_labels
    augmented = held_out is not None and held_out.augment_val
    test_set = EvaluationSet(on_device(tested), torch.tensor(labels, device=device), augmented)
    images = train_images[noise.indices]
    noisy = one_hot(torch.tensor(noise.noisy_labels, device=device), data.num_classes)
    wrong = is_noisy(noise)
    is_wrong = None if wrong is None else torch.tensor(wrong, device=device)
    return RunData(
        train_set=TrainingSet(on_device(images), noisy, is_wrong),
        test_sets={name: test_set},
        noise=noise,
        location=data.location,
        hashes={
            "data_sha256": array_hash(images, tested, labels),
            "noisy_labels_sha256": label_hash(noise.noisy_labels),
        },
    )


def _write_file_lists(location: Path | None) -> None:
    """training.csv and testing.csv of Animal-10N, as the original writes them."""
    assert location is not None
    try:
        animal10n.write_annotations(location)
    except OSError as error:
        print(f"note: no training.csv and testing.csv in {location} ({error.strerror})")


def split_off(
    labels: NDArray[np.int64], share: float, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Positions kept and positions held out, both ascending, stratified by the labels (N,)."""
    try:
        kept, held_out = train_test_split(
            np.arange(len(labels)), test_size=share, stratify=labels, random_state=seed
        )
    except ValueError as error:
        raise UsageError(
            f"--val_size {share} of {len(labels)} samples does not work: {error}"
        ) from error
    return np.sort(kept), np.sort(held_out)


def _clothing1m(config: Config, device: torch.device) -> RunData:
    """The hashes are those of the lists, not of a million images."""
    files = first_found(clothing1m.load, config.data_path)
    listed_files = {
        "train": (files.train_files, files.train_labels, config.limit_train),
        "val": (files.val_files, files.val_labels, config.limit_test),
        "test": (files.test_files, files.test_labels, config.limit_test),
    }
    images, labels, digest = {}, {}, hashlib.sha256()
    for split, (paths, all_labels, limit) in listed_files.items():
        rows = evenly(len(paths), limit)
        if config.skip_broken:
            rows = rows[whole_images(files.root, [paths[row] for row in rows], config.num_workers)]
        chosen = [paths[row] for row in rows]
        labels[split] = all_labels[rows]
        images[split] = DiskImages(
            [files.root / path for path in chosen], device, config.num_workers
        )
        digest.update("\n".join(chosen).encode() + labels[split].tobytes())
    num_classes = len(files.class_names)
    noisy = one_hot(torch.tensor(labels["train"], device=device), num_classes)
    per_class = _per_class(labels["train"], num_classes)
    return RunData(
        train_set=TrainingSet(images["train"], noisy, None, per_class),
        test_sets={
            split: EvaluationSet(images[split], torch.tensor(labels[split], device=device))
            for split in ("val", "test")
        },
        noise=None,
        location=files.root,
        hashes={
            "data_sha256": digest.hexdigest(),
            "noisy_labels_sha256": label_hash(labels["train"]),
        },
    )


def _per_class(labels: NDArray[np.int64], num_classes: int) -> int:
    """The authors' number, or what the smallest class has when --limit_train leaves fewer."""
    smallest = int(np.bincount(labels, minlength=num_classes).min())
    if smallest == 0:
        raise UsageError(
            f"a class has no image among {len(labels)}: raise --limit_train, for every epoch uses "
            "equally many of each class"
        )
    return min(PER_CLASS, smallest)

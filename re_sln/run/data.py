"""The sets of a run, on the device: images, noisy labels, what is tested."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from re_sln.method.disk_images import PER_CLASS, DiskImages, plain_rgb
from re_sln.method.images import NORMALISATION, server_of
from re_sln.method.losses import one_hot
from re_sln.method.train import EvaluationSet, TrainingSet
from re_sln.run.broken_images import whole_images
from re_sln.run.errors import UsageError
from re_sln.run.labels import labels_of_files, noisy_training_set
from re_sln.run.places import first_found
from re_sln.run.presets import IMAGES_OF
from re_sln.run.settings import Config, HeldOut, LabelChoice
from shared import datasets
from shared.datasets import animal10n, clothing1m, image_folder
from shared.datasets.decoding import open_rgb
from shared.datasets.image_data import ImageData, ImageFiles
from shared.files import array_hash
from shared.formats.alignment import best_known, evenly, hold_out, is_noisy, subset
from shared.formats.noise_file import NoiseFile, label_hash


@dataclass(frozen=True)
class RunData:
    """What a run trains and tests on."""

    train_set: TrainingSet
    test_sets: dict[str, EvaluationSet]  # the last one is the reported one
    noise: NoiseFile  # of the N training samples
    location: Path | None  # None: embedded
    hashes: dict[str, str]  # of all that is in the sets
    class_names: Sequence[str]  # C
    files: Sequence[str] = ()  # (N,) the training samples' names, where they are files
    remarks: Sequence[str] = ()  # to be printed


def load_images(choice: LabelChoice) -> ImageData:
    """The images of --dataset_name at 32 x 32, Animal-10N's in their 64 x 64. Raises UserError."""
    name = IMAGES_OF.get(choice.dataset_name, choice.dataset_name)
    options: dict[str, Any] = {}
    if name in ("animal10n", "folder"):
        options = {"skip_broken": choice.skip_broken, "cache_dir": choice.cache_dir}
        options |= {"labels": choice.labels} if name == "folder" else {"image_size": 64}
    return first_found(lambda root: datasets.load(name, root, **options), choice.data_path)


def load_data(config: Config, device: torch.device, held_out: HeldOut | None) -> RunData:
    """held_out: test on a part of the training set, as a search does. Raises UserError."""
    if config.has_resnet:
        return _from_disk(config, device)
    data = load_images(config)
    if config.dataset_name == "animal-10n":
        _write_file_lists(data.location)
    noise, train_images = noisy_training_set(config, data)
    known = best_known(noise, data)
    noise, out = _without_held_out(config, noise, data)
    noise = subset(noise, evenly(len(noise.noisy_labels), config.limit_train))
    on_device = server_of(data, device)
    if held_out is None:
        name, tested, labels = "test", data.test_images, data.test_labels
        if len(out):
            tested, labels = data.train_images[out], known[out]
        rows = evenly(len(labels), config.limit_test)
        tested, labels = tested[rows], labels[rows]
    else:
        kept, rows = split_off(noise.noisy_labels, held_out.val_size, config.seed)
        validation, noise = subset(noise, rows), subset(noise, kept)
        name, tested, labels = "val", train_images[validation.indices], validation.noisy_labels
    augmented = held_out is not None and held_out.augment_val
    test_set = EvaluationSet(on_device(tested), torch.tensor(labels, device=device), augmented)
    assert noise.indices is not None  # alignment gives every label its row
    images = train_images[noise.indices]
    files = [data.train_names[row] for row in noise.indices] if data.train_names else []
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
        class_names=data.class_names,
        files=files,
        remarks=_on_large_pictures(data),
    )


def _on_large_pictures(data: ImageData) -> Sequence[str]:
    """What is better for pictures that lose most of themselves."""
    if data.name != "folder":
        return ()
    script = f"python train_real.py --dataset_name folder --data_path {data.location}"
    note = image_folder.note_on_size(data, f"`{script}` trains at 224")
    return () if note is None else (f"note: {note}",)


def _without_held_out(
    config: Config, noise: NoiseFile, data: ImageData | ImageFiles
) -> tuple[NoiseFile, NDArray[np.int64]]:
    """The labels to train on, and the rows of the training set that --val_fraction tests on."""
    if config.val_fraction is None or config.dataset_name != "folder":
        return noise, np.zeros(0, np.int64)
    if len(data.test_labels):
        raise UsageError(
            f"--val_fraction {config.val_fraction}: {config.data_path} has a test set of "
            f"{len(data.test_labels):,} images: leave it out"
        )
    assert noise.indices is not None
    own = data.train_labels[noise.indices]  # whatever noise was added to them, or corrected
    kept, out = hold_out(own, config.val_fraction, config.seed)
    return subset(noise, kept), noise.indices[out]


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
    from sklearn.model_selection import train_test_split  # takes two seconds; only searches split

    try:
        kept, held_out = train_test_split(
            np.arange(len(labels)), test_size=share, stratify=labels, random_state=seed
        )
    except ValueError as error:
        raise UsageError(
            f"--val_size {share} of {len(labels)} samples does not work: {error}"
        ) from error
    return np.sort(kept), np.sort(held_out)


def _from_disk(config: Config, device: torch.device) -> RunData:
    """Clothing1M, or own pictures at 224. The hashes are of the lists, not of a million images."""
    own = config.dataset_name == "folder"
    if own:
        files, noise = _own_files(config)
    else:
        files = first_found(clothing1m.load, config.data_path)
        noise = labels_of_files(config, files)
        files = _with_labels(files, noise)
    listed_files = {
        "train": (files.train_files, files.train_labels, config.limit_train),
        "val": (files.val_files, files.val_labels, config.limit_test),
        "test": (files.test_files, files.test_labels, config.limit_test),
    }
    images, labels, names, digest = {}, {}, {}, hashlib.sha256()
    for split, (paths, all_labels, limit) in listed_files.items():
        rows = evenly(len(paths), limit)
        if config.skip_broken and not own:
            listed = [paths[row] for row in rows]
            rows = rows[whole_images(files.root, listed, config.num_workers, plain_rgb)]
        if split == "train":
            noise = subset(noise, rows)
        chosen = names[split] = [paths[row] for row in rows]
        labels[split] = all_labels[rows]
        images[split] = images_on_disk(files, chosen, device, config.num_workers)
        digest.update("\n".join(chosen).encode() + labels[split].tobytes())
    num_classes = len(files.class_names)
    noisy = one_hot(torch.tensor(labels["train"], device=device), num_classes)
    wrong = is_noisy(noise)
    is_wrong = None if wrong is None else torch.tensor(wrong, device=device)
    per_class = None if own else _per_class(labels["train"], num_classes)
    return RunData(
        train_set=TrainingSet(images["train"], noisy, is_wrong, per_class),
        test_sets={
            split: EvaluationSet(images[split], torch.tensor(labels[split], device=device))
            for split in (("test",) if own else ("val", "test"))
        },
        noise=noise,
        location=files.root,
        hashes={
            "data_sha256": digest.hexdigest(),
            "noisy_labels_sha256": label_hash(labels["train"]),
        },
        class_names=files.class_names,
        files=names["train"],
    )


def images_on_disk(
    files: ImageFiles, names: Sequence[str], device: torch.device, workers: int
) -> DiskImages:
    """Some of the files: own pictures are turned by EXIF and normalised as ImageNet's."""
    own = files.name == "folder"
    opened, usual = (open_rgb, "imagenet") if own else (plain_rgb, "clothing1m")
    places = [files.root / name for name in names]
    return DiskImages(places, device, workers, opened, NORMALISATION[usual])


def load_files(choice: LabelChoice, workers: int) -> ImageFiles:
    """Own pictures, for those who decode them at 224 x 224. Raises UserError.

    With --skip_broken those that can be read, as `load_images` has them: noise files of both, and
    of the other projects, count the same pictures.
    """
    files = first_found(
        lambda root: image_folder.load_files(root, labels=choice.labels), choice.data_path
    )
    if not choice.skip_broken:
        return files
    train = whole_images(files.root, files.train_files, workers, open_rgb)
    test = whole_images(files.root, files.test_files, workers, open_rgb)
    return replace(
        files,
        train_files=[files.train_files[row] for row in train],
        train_labels=files.train_labels[train],
        test_files=[files.test_files[row] for row in test],
        test_labels=files.test_labels[test],
    )


def _own_files(config: Config) -> tuple[ImageFiles, NoiseFile]:
    """The pictures of --data_path with the labels to train on."""
    files = load_files(config, config.num_workers)
    noise = labels_of_files(config, files)
    known = best_known(noise, files)
    noise, out = _without_held_out(config, noise, files)
    if len(out):
        tested = [files.train_files[row] for row in out]
        files = replace(files, test_files=tested, test_labels=known[out])
    return _with_labels(files, noise), noise


def _with_labels(files: ImageFiles, noise: NoiseFile) -> ImageFiles:
    """The pictures that `noise` labels, with these labels."""
    assert noise.indices is not None  # alignment gives every label its row
    trained = [files.train_files[row] for row in noise.indices]
    return replace(files, train_files=trained, train_labels=noise.noisy_labels)


def _per_class(labels: NDArray[np.int64], num_classes: int) -> int:
    """The authors' number, or what the smallest class has when --limit_train leaves fewer."""
    smallest = int(np.bincount(labels, minlength=num_classes).min())
    if smallest == 0:
        raise UsageError(
            f"a class has no image among {len(labels)}: raise --limit_train, for every epoch uses "
            "equally many of each class"
        )
    return min(PER_CLASS, smallest)

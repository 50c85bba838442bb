"""Which images train and which validate, and where their noisy labels come from.

    training_labels(config, datasets.load("cifar10"))  # a NoiseFile of the images to train on

CIFAR trains on its first 45,000 images, which is what PMD's label files cover; the last 5,000
validate, with clean labels. Own pictures validate with the labels that came with them.
"""

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from shared import datasets
from shared.datasets.folders import to_get
from shared.datasets.human_noise import human_labels
from shared.datasets.image_data import ImageData, ImageFiles
from shared.formats.alignment import aligned, best_known, evenly, hold_out, subset
from shared.formats.external import read_any
from shared.formats.noise_file import CORRECTED_KIND, NoiseFile, NoiseFileError, make
from shared.labels import Labels

from .config import LABELS_FOLDER
from .errors import UsageError
from .presets import HUMAN
from .schema import LabelConfig

ENDINGS = (".npy", ".npz")
CIFAR_TRAIN_IMAGES = 45_000  # of 50,000, what PMD's label files cover; the rest is for validation
SCRIPTS_FOLDER = Path(__file__).parents[1]


class Rows(NamedTuple):
    """Rows of the training set, each ascending."""

    trains: Labels
    validates: Labels
    tests: Labels  # held out by --val_fraction


def split(data: ImageData | ImageFiles, no_validation: bool = False) -> tuple[Labels, Labels]:
    """Rows of the training set to train on and to validate on, both ascending.

    CIFAR: the first 45,000 and the last 5,000, as PMD's label files have it. Elsewhere every tenth
    image of each class validates. no_validation: all of them train.
    """
    validates = np.zeros(len(data.train_labels), dtype=bool)
    if no_validation:
        pass
    elif data.name.startswith("cifar"):
        validates[CIFAR_TRAIN_IMAGES:] = True
    else:
        for label in range(data.num_classes):
            validates[np.flatnonzero(data.train_labels == label)[9::10]] = True
    return np.flatnonzero(~validates), np.flatnonzero(validates)


def rows_of(config: LabelConfig, data: ImageData | ImageFiles) -> Rows:
    """What each training image is for. Raises UsageError or NoiseFileError."""
    trains, validates = split(data, config.no_validation)
    if config.val_fraction is None:
        return Rows(trains, validates, np.zeros(0, np.int64))
    if len(data.test_labels):
        raise UsageError(
            f"{config.data_path} has test images: leave out --val_fraction, which holds out "
            "training images to test on"
        )
    # Before the validation images are taken off: then label files of those that are trained on
    # without --val_fraction cover those that are with it.
    _, tests = hold_out(data.train_labels, config.val_fraction, config.seed)
    rows = Rows(np.setdiff1d(trains, tests), np.setdiff1d(validates, tests), tests)
    if len(lost := np.setdiff1d(data.train_labels, data.train_labels[rows.trains])):
        raise UsageError(
            f"--val_fraction {config.val_fraction} leaves no image of class "
            f"{data.class_names[lost[0]]} to train on: lower it, or add --no_validation"
        )
    return rows


def training_labels(config: LabelConfig, data: ImageData | ImageFiles) -> NoiseFile:
    """The labels to train on, --limit_train of them, checked against the dataset.

    Their `indices` are rows of the training set, ascending. Raises NoiseFileError or UsageError.
    """
    if data.num_classes < 2:
        raise UsageError(
            f"{config.data_path} has one class, {data.class_names[0]}, so that there is nothing to "
            "learn: make a folder for each class, or list the labels of all pictures (--labels)"
        )
    rows = rows_of(config, data).trains
    if not config.noise_type and not config.noise_file:
        kept = rows[evenly(len(rows), config.limit_train)]
        # The users' own images, whose labels are noisy as they are.
        return make(
            data.train_labels[kept],
            indices=kept,
            dataset=data.name,
            split="train",
            num_classes=data.num_classes,
        )
    noise = _labels_of_file(config, data)
    assert noise.indices is not None  # of every aligned file
    if noise.header.kind == CORRECTED_KIND and config.cut_labels:
        # Those of L2R and IEG leave their trusted images out.
        rows = np.intersect1d(rows, noise.indices)
    _check_cover(config, data, rows, noise)
    kept = rows[evenly(len(rows), config.limit_train)]
    place = np.empty(len(data.train_labels), np.int64)
    place[noise.indices] = np.arange(len(noise.indices))
    return subset(noise, place[kept])


def tested_labels(config: LabelConfig, data: ImageData | ImageFiles) -> Labels:
    """(N,) labels that images taken off the training set validate and test with.

    The dataset's own; for own pictures those of a file that corrects them, where it has any.
    """
    if not config.noise_file:
        return data.train_labels
    return best_known(_labels_of_file(config, data), data)


def _labels_of_file(config: LabelConfig, data: ImageData | ImageFiles) -> NoiseFile:
    found = read_any(_source(config))
    if found.open_set is not None and found.open_set.any():
        raise NoiseFileError(
            "the file replaces images (open-set noise) instead of labels: take closed-set noise"
        )
    return aligned(replace(found, open_set=None), data)


def _source(config: LabelConfig) -> str | Path:
    """The file of the labels, with its column where it has several."""
    if config.dataset in HUMAN:
        return human_labels(config.dataset, config.noise_type, config.data_path)[1]
    return config.noise_file or find_file(config)


def _check_cover(
    config: LabelConfig, data: ImageData | ImageFiles, rows: Labels, noise: NoiseFile
) -> None:
    """The file must label the images to train on, and no others without --cut_labels."""
    labelled = noise.indices
    assert labelled is not None  # of every aligned file
    found = f"{config.noise_type or config.noise_file} labels {len(labelled)} images of {data.name}"
    missing = np.setdiff1d(rows, labelled)
    if len(missing):
        fix = "choose a file for the images that are trained on"
        if noise.header.kind == CORRECTED_KIND and not config.no_validation:
            fix = "add --cut_labels to train on those of them that have one"
        elif config.no_validation:
            fix = "leave out --no_validation, which trains on all images"
        raise NoiseFileError(
            f"{found}, but {len(rows)} are to be trained on (image {missing[0]} has no label): "
            f"{fix}"
        )
    cut = config.cut_labels or config.dataset in HUMAN
    if len(labelled) > len(rows) and not cut:
        held_out = "" if config.val_fraction is None else " or test"
        first = "the first " if data.name.startswith("cifar") else ""
        tested = "clean" if noise.clean_labels is not None else "corrected"
        raise NoiseFileError(
            f"{found}, but {first}{len(rows)} are to be trained on, the other "
            f"{len(labelled) - len(rows)} validate{held_out} with "
            f"{tested} labels: add --cut_labels to take the labels of the training images"
            f"{'' if held_out else ', or --no_validation to train on all of them'}"
        )


def find_file(config: LabelConfig) -> Path:
    """The file of --noise_type, `<name>.npy` or `<name>.npz`; NoiseFileError names every place."""
    name = str(config.noise_type)
    published = datasets.data_root(config.data_path) / "label_noisy"
    usual = [LABELS_FOLDER, SCRIPTS_FOLDER / LABELS_FOLDER]
    usual += [published / "lra_diffusion", published / "plc"]
    folders = [config.noise_dir] if config.noise_dir else usual
    for path in (folder / f"{name}{ending}" for folder in folders for ending in ENDINGS):
        if path.is_file():
            return path
    dataset, _, rest = name.partition("-")
    kind, _, rate = rest.partition("-")
    wanted = f"--noise_type {kind or 1} --rate {rate.split('_')[0] or 0.35}"
    similar = (path for folder in folders for path in folder.glob(f"{dataset}-*"))
    near = sorted({path.stem for path in similar if path.suffix in ENDINGS})
    there = f" (there: {', '.join(near)})" if near else ""
    hint = f"`{to_get('pmd-noise')}` (in the repository's root) gets the published ones; "
    raise NoiseFileError(
        f"{name}.npy is in none of {', '.join(map(str, folders))}{there}: "
        f"{hint if 'cifar' in dataset else ''}"
        f"`python make_pmd.py --dataset {dataset} {wanted}` makes such labels"
    )

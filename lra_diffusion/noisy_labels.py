"""Where the noisy labels of a run come from: the paper's files by name, or any noise file of any
project.

    noise = training_labels(args, datasets.load("cifar10"))       # a NoiseFile whose indices are the training images

CIFAR trains on its first 45,000 images, which is what PMD's label files cover; the last 5,000
validate, with clean labels.
"""

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lra_diffusion.data import split
from shared import datasets
from shared.datasets.image_data import ImageData
from shared.formats.alignment import labels_for
from shared.formats.external import read_any
from shared.formats.noise_file import NoiseFile, NoiseFileError, make

ENDINGS = (".npy", ".npz")


def training_labels(args: argparse.Namespace, data: ImageData) -> NoiseFile:
    """The labels of the images to train on, in their order, checked against the dataset.

    Raises NoiseFileError.

    Reads dataset, noise_type, noise_dir, noise_file, data_path, cut_labels and no_validation of the
    flags.
    """
    rows, _ = split(data, args.no_validation)
    if args.noise_type:
        found = read_any(find_file(args))
    elif args.noise_file:
        found = read_any(args.noise_file)
    else:  # users' own images, whose labels are noisy as they are
        return make(
            data.train_labels[rows],
            indices=rows,
            dataset=data.name,
            split="train",
            num_classes=data.num_classes,
        )
    if found.open_set is not None and found.open_set.any():
        raise NoiseFileError(
            "the file replaces images (open-set noise) instead of labels: take closed-set noise"
        )
    labelled, noisy = labels_for(
        found, dataset=data.name, clean_labels=data.train_labels, num_classes=data.num_classes
    )
    _check_cover(args, data, rows, labelled)
    by_row = np.full(len(data.train_labels), -1)
    by_row[labelled] = noisy
    return _aligned(found, data, by_row, rows)


def _check_cover(
    args: argparse.Namespace, data: ImageData, rows: NDArray[np.int64], labelled: NDArray[np.int64]
) -> None:
    """The file must label exactly the images to train on, unless --cut_labels says to take no more
    than those.
    """
    source = args.noise_type or args.noise_file
    first = "the first " if data.name.startswith("cifar") else ""
    missing = np.setdiff1d(rows, labelled)
    if len(missing):
        fix = (
            "leave out --no_validation, which trains on all images"
            if args.no_validation
            else "choose a file for the images that are trained on"
        )
        raise NoiseFileError(
            f"{source} labels {len(labelled)} images of {data.name}, but {len(rows)} are to be "
            "trained on "
            f"(image {missing[0]} has no label): {fix}"
        )
    if len(labelled) > len(rows) and not args.cut_labels:
        raise NoiseFileError(
            f"{source} labels {len(labelled)} images of {data.name}, but {first}{len(rows)} are "
            "to be trained "
            f"on, the other {len(labelled) - len(rows)} validate with clean labels: add "
            "--cut_labels to take "
            "the labels of the training images, or --no_validation to train on all of them"
        )


def _aligned(
    found: NoiseFile, data: ImageData, by_row: NDArray[np.int64], rows: NDArray[np.int64]
) -> NoiseFile:
    known = {
        **origin(found),
        "dataset": data.name,
        "split": "train",
        "num_classes": data.num_classes,
    }
    return make(by_row[rows], clean_labels=data.train_labels[rows], indices=rows, **known)


def find_file(args: argparse.Namespace) -> Path:
    """The file of --noise_type, `<name>.npy` or `<name>.npz`.

    Raises NoiseFileError naming every place.
    """
    published = datasets.data_root(args.data_path) / "label_noisy"
    usual = [
        Path("noise_label"),
        Path(__file__).parent / "noise_label",
        published / "lra_diffusion",
        published / "plc",
    ]
    folders = [args.noise_dir] if args.noise_dir else usual
    for folder in folders:
        for ending in ENDINGS:
            if (folder / f"{args.noise_type}{ending}").is_file():
                return folder / f"{args.noise_type}{ending}"
    dataset, _, rest = args.noise_type.partition("-")
    kind, _, rate = rest.partition("-")
    wanted = f"--noise_type {kind or 1} --rate {rate.split('_')[0] or 0.35}"
    near = sorted(
        {
            path.stem
            for folder in folders
            for path in folder.glob(f"{dataset}-*")
            if path.suffix in ENDINGS
        }
    )
    there = f" (there: {', '.join(near)})" if near else ""
    published_hint = (
        "`make data-pmd-noise` (in the repository's root) gets the published ones; "
        if "cifar" in dataset
        else ""
    )
    raise NoiseFileError(
        f"{args.noise_type}.npy is in none of {', '.join(map(str, folders))}{there}: "
        f"{published_hint}`python make_pmd.py --dataset {dataset} {wanted}` makes such labels"
    )


def subset(noise: NoiseFile, positions: NDArray[np.int64]) -> NoiseFile:
    """Some samples of an aligned noise file. positions: (M,) places in it."""
    parts = {
        name: None if (array := getattr(noise, name)) is None else array[positions]
        for name in ("clean_labels", "indices")
    }
    return make(noise.noisy_labels[positions], **parts, **origin(noise))


def origin(noise: NoiseFile) -> dict[str, Any]:
    """The header's fields that stay true of a part of the labels."""
    of_the_whole = ("version", "measured_rate", "clean_labels_sha256")
    return {name: value for name, value in asdict(noise.header).items() if name not in of_the_whole}

"""Which samples of a dataset a noise file labels: checked against the dataset, and cut to a part of
it.

    rows, noisy_labels = labels_for(read("noise.npz"), dataset="cifar10", clean_labels=labels, num_classes=10)
    noise = subset(aligned(read("noise.npz"), datasets.load("cifar10")), evenly(50_000, limit=1_000))

Letters: N training samples, M samples that the file labels.
"""

from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from shared.datasets.image_data import ImageData
from shared.formats.noise_file import NoiseFile, NoiseFileError, label_hash, make
from shared.labels import Labels, checked_labels


def labels_for(
    noise: NoiseFile, *, dataset: str, clean_labels: ArrayLike, num_classes: int
) -> tuple[Labels, Labels]:
    """Rows of the training set (M,) and their noisy labels (M,), after checking that the file
    belongs to that set.

    clean_labels: (N,) labels of the whole training set, in the dataset's order. Raises
    NoiseFileError when the name, the length, the class range or the clean labels do not fit.
    """
    clean = checked_labels(
        clean_labels, num_classes, name="the dataset's labels", error=NoiseFileError
    )
    known = noise.header
    if known.dataset not in (None, dataset):
        raise NoiseFileError(
            f"the noise file is for {known.dataset}, not {dataset}: choose that dataset or "
            "another file"
        )
    if known.num_classes not in (None, num_classes):
        raise NoiseFileError(
            f"the noise file has {known.num_classes} classes, {dataset} has {num_classes}: "
            "choose a file made for it"
        )
    if noise.indices is None and len(noise.noisy_labels) != len(clean):
        raise NoiseFileError(
            f"the noise file has {len(noise.noisy_labels)} labels, the training set of "
            f"{dataset} {len(clean)}: "
            "choose a file made for it; labels of a part of it need `indices` (.npz format)"
        )
    rows = np.arange(len(clean)) if noise.indices is None else noise.indices
    if len(rows) and rows.max() >= len(clean):
        raise NoiseFileError(
            f"the noise file labels sample {rows.max()}, but the training set of {dataset} ends "
            f"at {len(clean) - 1}: "
            "choose a file made for it, and do not shorten the dataset first"
        )
    checked_labels(
        noise.noisy_labels,
        num_classes,
        name=f"labels of the noise file for {dataset}",
        error=NoiseFileError,
    )
    _check_clean_labels(noise, clean[rows], rows, dataset)
    return (
        rows.copy(),
        noise.noisy_labels.copy(),
    )  # writable: torch.from_numpy warns about arrays that are not


def _check_clean_labels(noise: NoiseFile, clean: Labels, rows: Labels, dataset: str) -> None:
    fix = (
        "the file belongs to another dataset, split or order of samples: make one with "
        "`python -m shared noise make`"
    )
    if noise.clean_labels is not None:
        different = np.flatnonzero(noise.clean_labels != clean)
        if len(different):
            row = different[0]
            raise NoiseFileError(
                f"{len(different)} of {len(clean)} clean labels in the noise file differ from "
                f"{dataset}'s, first at "
                f"sample {rows[row]} ({noise.clean_labels[row]} in the file, {clean[row]} in "
                f"the dataset): {fix}"
            )
    elif noise.header.clean_labels_sha256 not in (None, label_hash(clean)):
        raise NoiseFileError(
            f"the noise file was made from other clean labels than {dataset}'s (SHA-256 "
            f"differs): {fix}"
        )


def aligned(found: NoiseFile, data: ImageData, **better: Any) -> NoiseFile:
    """The same labels, checked, with the dataset's labels as the clean ones and its row numbers as
    indices.

    better: fields of the header that the caller knows better. Raises NoiseFileError as `labels_for`
    does.
    """
    rows, noisy = labels_for(
        found, dataset=data.name, clean_labels=data.train_labels, num_classes=data.num_classes
    )
    known = {
        **origin(found),
        "dataset": data.name,
        "split": "train",
        "num_classes": data.num_classes,
    }
    return make(
        noisy,
        clean_labels=data.train_labels[rows],
        indices=rows,
        open_set=found.open_set,
        **known | better,
    )


def unchanged(data: ImageData) -> NoiseFile:
    """The dataset's own labels, taken as they are; how many of them are wrong is not known."""
    return make(
        data.train_labels,
        indices=np.arange(len(data.train_labels)),
        dataset=data.name,
        split="train",
        num_classes=data.num_classes,
        kind="none",
    )


def subset(noise: NoiseFile, rows: NDArray[np.int64]) -> NoiseFile:
    """Some samples of an aligned noise file. rows: (M,) positions in it."""
    parts = {
        name: None if (array := getattr(noise, name)) is None else array[rows]
        for name in ("clean_labels", "indices", "open_set")
    }
    return make(noise.noisy_labels[rows], **parts, **origin(noise))


def origin(noise: NoiseFile) -> dict[str, Any]:
    """The header's fields that stay true of a part of the labels."""
    of_the_whole = ("version", "measured_rate", "clean_labels_sha256")
    return {name: value for name, value in asdict(noise.header).items() if name not in of_the_whole}


def is_noisy(noise: NoiseFile) -> NDArray[np.bool_] | None:
    """(N,) True for a wrong label or a replaced image; None where the truth is unknown."""
    if noise.clean_labels is None:
        return None
    wrong: NDArray[np.bool_] = noise.noisy_labels != noise.clean_labels
    return wrong if noise.open_set is None else wrong | noise.open_set


def evenly(count: int, limit: int | None) -> NDArray[np.int64]:
    """Positions of `limit` samples spread evenly over `count`, all without a limit.

    Not the first ones: image folders are sorted by class.
    """
    if limit is None or limit >= count:
        return np.arange(count)
    return np.linspace(0, count - 1, limit).astype(np.int64)

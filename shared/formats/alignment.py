"""Which samples of a dataset a noise file labels: checked, and cut to a part of it.

    rows, noisy_labels = labels_for(
        read("noise.npz"), dataset="cifar10", clean_labels=labels, num_classes=10
    )
    noise = aligned(read("noise.npz"), datasets.load("cifar10"))
    small = subset(noise, evenly(50_000, limit=1_000))

Letters: N training samples, M samples that the file labels.
"""

import math
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from shared.datasets import file_names
from shared.datasets.image_data import AnyData
from shared.formats.noise_file import CORRECTED_KIND, NoiseFile, NoiseFileError, label_hash, make
from shared.labels import Labels, checked_labels

FEWEST_SAMPLES = 100  # with fewer, agreement at chance says nothing


def labels_for(
    noise: NoiseFile,
    *,
    dataset: str,
    clean_labels: ArrayLike,
    num_classes: int,
    names: Sequence[str] = (),
    accept: bool = False,
) -> tuple[Labels, Labels]:
    """Rows of the training set (M,) and their noisy labels (M,), if the file belongs to that set.

    clean_labels: (N,) labels of the whole training set, in the dataset's order. names: (N,) its
    file names, for a noise file that goes by them. accept: take labels without clean ones even
    where they look like another dataset's. Raises NoiseFileError when name, length, class range or
    clean labels do not fit.
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
    if noise.names is not None:
        noise = replace(noise, names=None, indices=_rows_of(noise.names, names, dataset))
    if noise.indices is None and len(noise.noisy_labels) != len(clean):
        raise NoiseFileError(
            f"the noise file has {len(noise.noisy_labels)} labels, the training set of {dataset} "
            f"{len(clean)}: choose a file made for it; labels of a part of it need `indices` "
            "(.npz format)"
        )
    noise = _in_torchvision_order(noise, clean)
    rows = noise.rows
    if len(rows) and rows.max() >= len(clean):
        raise NoiseFileError(
            f"the noise file labels sample {rows.max()}, but the training set of {dataset} ends at "
            f"{len(clean) - 1}: choose a file made for it, and do not shorten the dataset first"
        )
    name = f"labels of the noise file for {dataset}"
    checked_labels(noise.noisy_labels, num_classes, name=name, error=NoiseFileError)
    _check_clean_labels(noise, clean[rows], rows, dataset)
    says_what_it_is_of = (
        noise.clean_labels is not None
        or known.clean_labels_sha256 is not None
        or known.kind == CORRECTED_KIND  # as few as were wrong, so that they tell nothing
    )
    if not (says_what_it_is_of or accept):
        _check_plausible(noise, clean[rows], dataset, num_classes)
    # Copies: torch.from_numpy warns about arrays that are read-only.
    return rows.copy(), noise.noisy_labels.copy()


def _rows_of(wanted: Sequence[str], names: Sequence[str], dataset: str) -> Labels:
    """The rows of the files `wanted`, by their names below the folder that all `names` are in."""
    if not len(names):
        raise NoiseFileError(
            f"the noise file goes by file names, and {dataset} is known by number here: write it "
            "as .npz first, with `python -m shared noise convert FILE OUT.npz --dataset ... "
            "--data_path ...`"
        )
    found = file_names.positions(wanted, names)
    missing = [name for name, row in zip(wanted, found) if row < 0]
    if missing:
        raise NoiseFileError(
            f"{len(missing)} of {len(wanted)} files of the noise file, such as {missing[0][:80]}, "
            f"are not in the training set of {dataset} (or several are), which begins with "
            f"{names[0]}: choose a file made for it"
        )
    return found


def _in_torchvision_order(noise: NoiseFile, clean: Labels) -> NoiseFile:
    """A file in TensorFlow's order with its index file read the way that fits the clean labels."""
    order, given = noise.indices, noise.clean_labels
    if noise.order != "tensorflow" or given is None:
        return noise
    if order is None or not np.array_equal(np.sort(order), np.arange(len(clean))):
        return noise
    inverse = np.argsort(order)
    fits = np.array_equal(given, clean[inverse]) and not np.array_equal(given, clean[order])
    return replace(noise, indices=inverse) if fits else noise


def _check_clean_labels(noise: NoiseFile, clean: Labels, rows: Labels, dataset: str) -> None:
    fix = (
        "the file belongs to another dataset, split or order of samples: make one with "
        "`python -m shared noise make`"
    )
    if noise.order == "tensorflow" and noise.indices is None:
        fix = (
            "the file is in TensorFlow's order: put CIFAR-N's image_order_c10.npy (or c100) beside "
            "it, or take CIFAR-N's .pt file"
        )
    if noise.clean_labels is not None:
        different = np.flatnonzero(noise.clean_labels != clean)
        if len(different):
            row = different[0]
            raise NoiseFileError(
                f"{len(different)} of {len(clean)} clean labels in the noise file differ from "
                f"{dataset}'s, first at sample {rows[row]} ({noise.clean_labels[row]} in the file, "
                f"{clean[row]} in the dataset): {fix}"
            )
    elif noise.header.clean_labels_sha256 not in (None, label_hash(clean)):
        raise NoiseFileError(
            f"the noise file was made from other clean labels than {dataset}'s (SHA-256 "
            f"differs): {fix}"
        )


def _check_plausible(noise: NoiseFile, clean: Labels, dataset: str, num_classes: int) -> None:
    """Labels of which nothing says what they belong to must look like labels of these samples."""
    noisy, count = noise.noisy_labels, len(clean)
    sizes = [np.bincount(labels, minlength=num_classes) for labels in (noisy, clean)]
    chance = float(sizes[0] @ sizes[1]) / max(1, count) ** 2
    agreement = float((noisy == clean).mean()) if count else 1.0
    can_tell = chance < 1 and count >= FEWEST_SAMPLES
    margin = 4 * math.sqrt(chance * (1 - chance) / max(1, count))
    used, there = (int((size > 0).sum()) for size in sizes)
    if used < there / 2 and count >= there:
        problem = (
            f"has {used} classes (the largest label is {noisy.max()}), the training set of "
            f"{dataset} {there}: they are probably labels of another dataset, or coarse ones"
        )
    elif can_tell and abs(agreement - chance) <= margin:
        which = "the first" if noise.order == "assumed" and noise.indices is not None else "the"
        problem = (
            f"agrees with {agreement:.1%} of {which} {count:,} labels of {dataset}, as chance "
            f"would ({chance:.1%}): they are probably of another split (a random one), in another "
            "order (TensorFlow's), or of another dataset"
        )
    else:
        if can_tell and agreement < chance:
            print(
                f"note: the noise file agrees with {agreement:.1%} of the {count:,} labels of "
                f"{dataset}, less than by chance ({chance:.1%}): are the classes numbered in "
                "another order?",
                file=sys.stderr,
            )
        return
    raise NoiseFileError(
        f"the noise file {problem}; give a file for these samples. If the labels are meant so, "
        f"`python -m shared noise convert FILE OUT.npz --dataset {dataset} --accept_labels` "
        "(with --data_path) writes a file that is taken as it is"
    )


def aligned(found: NoiseFile, data: AnyData, *, accept: bool = False, **better: Any) -> NoiseFile:
    """The same labels, checked, with the dataset's as the clean ones and its rows as indices.

    Nobody knows the clean ones of corrected labels of own pictures (`truth`). better: fields of the
    header that the caller knows better. Raises NoiseFileError as `labels_for` does.
    """
    rows, noisy = labels_for(
        found,
        dataset=data.name,
        clean_labels=data.train_labels,
        num_classes=data.num_classes,
        names=data.train_names,
        accept=accept,
    )
    known = origin(found) | {
        "dataset": data.name,
        "split": "train",
        "num_classes": data.num_classes,
    }
    return make(
        noisy,
        clean_labels=truth(found, data, rows),
        indices=rows,
        open_set=found.open_set,
        **known | better,
    )


def truth(found: NoiseFile, data: AnyData, rows: Labels) -> Labels | None:
    """(M,) clean labels of the samples of a file, which are at these rows of its dataset.

    The dataset's own; None for own pictures whose labels the file corrects, so that their old ones
    are no truth.
    """
    corrects = found.header.kind == CORRECTED_KIND and found.clean_labels is None
    return None if corrects and data.name == "folder" else data.train_labels[rows]


def best_known(noise: NoiseFile, data: AnyData) -> Labels:
    """(N,) labels to test on and to trust: the dataset's, corrected where no others are true.

    noise: aligned, all samples of its file.
    """
    labels = data.train_labels.copy()
    if noise.clean_labels is None:
        labels[noise.rows] = noise.noisy_labels
    return labels


def unchanged(data: AnyData) -> NoiseFile:
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


def hold_out(labels: Labels, fraction: float, seed: int) -> tuple[Labels, Labels]:
    """Positions that are kept and positions that are held out, both ascending, by chance.

    labels: (N,) in [0, C). round(fraction N) samples are held out, of each class as near to its
    share as whole numbers allow; every class keeps at least one. The same arguments give the same
    split. Raises NoiseFileError where that cannot be.
    """
    found, sizes = np.unique(labels, return_counts=True)
    most = len(labels) - len(found)
    if not 0 < fraction < 1:
        raise NoiseFileError(f"--val_fraction {fraction} is not between 0 and 1: 0.1 means 10 %")
    wanted = round(fraction * len(labels))
    if not 0 < wanted <= most:
        largest = math.floor(1000 * most / max(1, len(labels))) / 1000
        advice = f"at most {largest}" if wanted else "a larger one"
        raise NoiseFileError(
            f"--val_fraction {fraction} of {len(labels):,} samples in {len(found)} classes would "
            f"hold out {wanted:,} of them, and each class must keep one: choose {advice}, or "
            "leave it out"
        )
    counts = _shares(sizes, wanted)
    rng = np.random.default_rng([seed, *b"hold out"])
    chosen = [
        rng.permutation(np.flatnonzero(labels == label))[:count]
        for label, count in zip(found, counts)
    ]
    out = np.sort(np.concatenate(chosen))
    return np.setdiff1d(np.arange(len(labels)), out), out


def _shares(sizes: Labels, wanted: int) -> list[int]:
    """How many of each class make up `wanted`, by largest remainder; one of each is left."""
    ideal = sizes * (wanted / sizes.sum())
    counts = np.minimum(ideal.astype(np.int64), sizes - 1)
    while (short := wanted - int(counts.sum())) > 0:
        lacking = np.where(counts < sizes - 1, ideal - counts, -np.inf)
        open_classes = int((counts < sizes - 1).sum())
        counts[np.argsort(-lacking, kind="stable")[: min(short, open_classes)]] += 1
    return [int(count) for count in counts]


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

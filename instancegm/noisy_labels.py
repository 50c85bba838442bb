"""Where the noisy labels of a run come from: a file the user gives, the original's file in the data
folder, or anew.
"""

import argparse
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from instancegm.options import data_path
from instancegm.report import rate_name
from shared.datasets.image_data import ImageData
from shared.formats.alignment import labels_for
from shared.formats.external import read_any, split_column, write_any
from shared.formats.noise_file import NoiseFile, NoiseFileError, make, write
from shared.noise.recipe import Recipe, generate

KINDS = {
    "instance": "pdn",
    "sym": "symmetric",
    "asym": "asymmetric",
}  # the original's words -> shared's
NOISE_SEED = 123  # the original's, whatever --seed says: the labels are part of the benchmark
# Realised rates differ from the nominal one by design (PDN at small rates, symmetric noise that
# redraws the true class) and by chance; further off than this, a file was made for another rate.
RATE_TOLERANCE = 0.02


def noise_for(args: argparse.Namespace, data: ImageData) -> tuple[NoiseFile, str]:
    """The noise of this run with the rows of the training set it belongs to, and a word for it that
    goes into file names.

    The labels are checked against the dataset. Raises NoiseFileError with the reason and the fix.
    """
    if args.noise_file:
        path, column = split_column(args.noise_file)
        word = re.sub(r"[^\w.-]", "_", path.stem if column is None else f"{path.stem}_{column}")
        return _aligned(read_any(args.noise_file), data), word
    if args.noise_mode == "none":
        return make(
            data.train_labels,
            indices=np.arange(len(data.train_labels)),
            dataset=data.name,
            split="train",
            num_classes=data.num_classes,
            kind="none",
        ), "none"
    if data.location is None:
        return _aligned(_generate(args, data), data), args.noise_mode
    given = data_path(args)
    folder = data.location if given is None else given
    return _kept_in(folder if folder.is_dir() else folder.parent, args, data), args.noise_mode


def _kept_in(folder: Path, args: argparse.Namespace, data: ImageData) -> NoiseFile:
    """The original keeps `<rate>_<mode>.pt` with the data; ours adds an .npz beside it that says
    how it was made.
    """
    legacy = folder / f"{rate_name(args.r)}_{args.noise_mode}.pt"
    made = _generate(args, data)
    if not legacy.exists():
        try:
            write(legacy.with_suffix(".npz"), made)
            write_any(legacy, made)
        except OSError as error:
            print(
                f"note: {folder} cannot be written, so the noise is kept in the run folder only "
                f"({error.strerror})"
            )
        return _aligned(made, data)

    try:
        found = _aligned(read_any(legacy), data)
    except NoiseFileError as error:
        raise NoiseFileError(
            f"{error} (the file is {legacy}; if it is left from other data, move it away)"
        ) from error
    if np.array_equal(found.noisy_labels, made.noisy_labels):
        return _aligned(made, data)
    rate, expected = found.header.measured_rate, made.header.measured_rate
    if abs(rate - expected) > RATE_TOLERANCE:
        raise NoiseFileError(
            f"{legacy} holds labels with rate {rate:.3f}, but --r {args.r} gives "
            f"{expected:.3f}: the file was made for "
            f"another rate. Move it away, or use it under its own rate with --noise_file {legacy}"
        )
    print(f"note: {legacy} is used, though it is not what seed {NOISE_SEED} gives")
    return found


def _generate(args: argparse.Namespace, data: ImageData) -> NoiseFile:
    """The labels of --noise_mode at rate --r, from the dataset as a whole."""
    try:
        return generate(Recipe(KINDS[args.noise_mode], args.r, NOISE_SEED), data)
    except ValueError as error:
        raise NoiseFileError(
            f"--noise_mode {args.noise_mode} does not work on {data.name}: {error}"
        ) from error


def _aligned(found: NoiseFile, data: ImageData) -> NoiseFile:
    """The same labels with the dataset's clean labels and row numbers.

    Open-set files need images this project has not.
    """
    if found.open_set is not None and found.open_set.any():
        raise NoiseFileError(
            "an open-set noise file replaces images, which InstanceGM does not do: give a file "
            "of labels"
        )
    rows, noisy = labels_for(
        found, dataset=data.name, clean_labels=data.train_labels, num_classes=data.num_classes
    )
    known = {
        **_origin(found),
        "dataset": data.name,
        "split": "train",
        "num_classes": data.num_classes,
    }
    return make(noisy, clean_labels=data.train_labels[rows], indices=rows, **known)


def subset(noise: NoiseFile, rows: NDArray[np.int64]) -> NoiseFile:
    """Some rows of an aligned noise file. rows: (M,) positions in it."""
    clean = None if noise.clean_labels is None else noise.clean_labels[rows]
    return make(
        noise.noisy_labels[rows], clean_labels=clean, indices=noise.indices[rows], **_origin(noise)
    )


def _origin(noise: NoiseFile) -> dict[str, Any]:
    """The header's fields that stay true of a part of the labels."""
    of_the_whole = ("version", "measured_rate", "clean_labels_sha256")
    return {name: value for name, value in asdict(noise.header).items() if name not in of_the_whole}

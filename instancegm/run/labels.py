"""Where the noisy labels of a run come from: a given file, the file kept with the data, or made."""

import re
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from instancegm.run.config import Config
from instancegm.run.presets import HUMAN, REAL
from instancegm.run.published import rate_name
from shared.datasets.human_noise import human_labels
from shared.datasets.image_data import AnyData, ImageData
from shared.files import array_hash
from shared.formats.alignment import aligned, labels_for, unchanged
from shared.formats.external import read_any, split_column, write_any
from shared.formats.noise_file import NoiseFile, NoiseFileError, measured_rate, read, write
from shared.noise.recipe import Recipe, generate

# The original's words -> shared's
KINDS = {"instance": "pdn", "sym": "symmetric", "asym": "asymmetric"}
NOISE_SEED = 123  # the original's, whatever --seed says: the labels are part of the benchmark
# Realised rates differ from the nominal one by design (PDN at small rates, symmetric noise that
# redraws the true class) and by chance; further off than this, a file was made for another rate.
RATE_TOLERANCE = 0.02


class RunLabels(NamedTuple):
    """The labels that a run trains on."""

    noise: NoiseFile  # of the N training samples; `indices` are their positions in the data set
    config: Config  # with the rate and kind of the noise file, where there is one
    word: str  # for this noise, in file names


def labels_of_run(config: Config, data: AnyData) -> RunLabels:
    """The noisy labels of the whole training set, checked against it.

    Raises NoiseFileError with the reason and the fix.
    """
    word = config.noise_mode
    if config.dataset in HUMAN:
        _, file = human_labels(config.dataset, config.noise_type, config.where_data_is())
        noise = aligned(read_any(file), data)
        word = split_column(file)[1] or word
        config = replace(config, r=_measured(noise))
    elif config.noise_file:
        path, column = split_column(config.noise_file)
        word = re.sub(r"[^\w.-]", "_", path.stem if column is None else f"{path.stem}_{column}")
        noise = aligned(_without_open_set(read_any(config.noise_file)), data)
        if config.dataset in REAL:  # whose own labels are no truth to measure a rate by
            unmeasured = replace(noise.header, measured_rate=None, clean_labels_sha256=None)
            noise = replace(noise, clean_labels=None, header=unmeasured)
        config = _with_rate_and_kind_of(noise, config)
    elif config.noise_mode == "none" or config.dataset in REAL:
        noise = unchanged(data)
    else:
        noise = aligned(_made_or_kept(config, data), data)
    return RunLabels(noise, config, word)


def _with_rate_and_kind_of(noise: NoiseFile, config: Config) -> Config:
    """With a noise file the rate is the file's, and so is the preset that goes with rate and kind.

    A contradicting --r is refused, for it would label the results wrongly. Where nobody knows the
    rate, REAL's presets stay, and corrected labels of own pictures are taken as a folder's are.
    """
    nominal, measured, rate = noise.header.nominal_rate, noise.header.measured_rate, config.r
    if measured is None:
        if config.dataset in REAL:
            return config
        if "r" in config.given and rate != 0:
            raise NoiseFileError(
                f"--r {rate}: nobody knows how many of the labels of {config.noise_file} are "
                "wrong, which are corrected ones of your own pictures: leave --r out"
            )
        return config.with_noise(0.0, "none")
    if "r" not in config.given:
        rate = _measured(noise) if nominal is None else nominal
    elif rate != nominal and abs(rate - measured) > RATE_TOLERANCE:
        raise NoiseFileError(
            f"--r {rate} contradicts {config.noise_file}, whose measured rate is {measured:.4f}: "
            "leave --r out, or give the file that you mean"
        )
    modes = {kind: mode for mode, kind in KINDS.items()}
    return config.with_noise(rate, modes.get(noise.header.kind or "", "file"))


def _measured(noise: NoiseFile) -> float:
    """The rate of labels whose clean ones are known, as a rate is given: two digits."""
    assert noise.header.measured_rate is not None
    return round(noise.header.measured_rate, 2)


def _made_or_kept(config: Config, data: AnyData) -> NoiseFile:
    """The labels of --noise_mode at rate --r, for the dataset as a whole.

    The original keeps `<rate>_<mode>.pt` with the data, and a file that is there is used if it can
    be of that rate; ours adds an .npz beside it that says how it was made. Data sets that share the
    folder do not share the file.
    """
    recipe = Recipe(KINDS[config.noise_mode], config.r, NOISE_SEED)
    try:
        made = generate(recipe, data)
    except ValueError as error:
        raise NoiseFileError(
            f"--noise_mode {config.noise_mode} does not work on {data.name}: {error}"
        ) from error
    if data.location is None:
        return made
    folder = config.where_data_is() or data.location
    folder = folder if folder.is_dir() else folder.parent
    path = folder / f"{rate_name(config.r)}_{config.noise_mode}.pt"
    if data.name == "folder" or _of_other_data(path.with_suffix(".npz"), made):
        # Noise follows from the images too, so that labels alone do not tell two sets apart.
        pictures = data.train_images if isinstance(data, ImageData) else np.array(data.train_files)
        digest = array_hash(pictures, data.train_labels)
        path = path.with_name(f"{path.stem}_{data.name}_{digest[:8]}.pt")
    if path.exists():
        return _kept(path, made, data, config.r)
    try:
        write(path.with_suffix(".npz"), made)
        write_any(path, made)
    except OSError as error:
        print(
            f"note: {folder} cannot be written, so the noise is kept in the run folder only "
            f"({error.strerror})"
        )
    return made


def _of_other_data(path: Path, made: NoiseFile) -> bool:
    """Whether the .npz beside a kept file says that another dataset, or other labels, made it."""
    if not path.exists():
        return False
    try:
        known = read(path).header
    except NoiseFileError:
        return False
    ours = made.header
    return known.dataset not in (None, ours.dataset) or known.clean_labels_sha256 not in (
        None,
        ours.clean_labels_sha256,
    )


def _kept(path: Path, made: NoiseFile, data: AnyData, rate: float) -> NoiseFile:
    """The labels of the file, or the same `made`, whose header says more."""
    try:
        found = _without_open_set(read_any(path))
        rows, noisy = labels_for(
            found, dataset=data.name, clean_labels=data.train_labels, num_classes=data.num_classes
        )
    except NoiseFileError as error:
        raise NoiseFileError(
            f"{error} (the file is {path}; if it is left from other data, move it away)"
        ) from error
    if np.array_equal(noisy, made.noisy_labels):
        return made
    measured = measured_rate(noisy, data.train_labels[rows], None)
    expected = made.header.measured_rate
    assert expected is not None  # made from clean labels
    if abs(measured - expected) > RATE_TOLERANCE:
        raise NoiseFileError(
            f"{path} holds labels with rate {measured:.3f}, but --r {rate} gives {expected:.3f}: "
            "the file was made for another rate. Move it away, or use it under its own rate with "
            f"--noise_file {path}"
        )
    print(f"note: {path} is used, though it is not what seed {NOISE_SEED} gives")
    return found


def _without_open_set(found: NoiseFile) -> NoiseFile:
    if found.open_set is None:
        return found
    if found.open_set.any():
        raise NoiseFileError(
            "an open-set noise file replaces images, which InstanceGM does not do: give a file of "
            "labels"
        )
    return replace(found, open_set=None)

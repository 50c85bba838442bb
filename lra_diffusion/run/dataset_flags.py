"""Which images and labels a command line means, and which flags do not go with them."""

import argparse
from collections.abc import Collection, Mapping
from typing import Any

from .presets import HUMAN, IN_MEMORY

DEFAULT_NOISE = "cifar10-1-0.35"
FOLDERS = (
    "a folder with train/<class>/ (and test/<class>/), with a folder for each class, or with "
    "pictures that --labels lists"
)
# What is for one's own pictures alone, and in a script for published pictures on disk, too.
OF_OWN_PICTURES = ("labels", "val_fraction")
OF_OWN_FILES = (*OF_OWN_PICTURES, "noise_file", "cut_labels", "no_validation")


def choose_dataset(parser: argparse.ArgumentParser, values: dict[str, Any]) -> None:
    """Sets `dataset`, from the noise where that names it, and refuses noise that contradicts it."""
    noise_type, noise_file = values.get("noise_type"), values.get("noise_file")
    dataset = values.get("dataset")
    if dataset in HUMAN:
        _choose_human_labels(parser, values)
        return
    if noise_type and noise_file:
        parser.error(
            "--noise_type and --noise_file both say which labels to train on: drop one of them"
        )
    if not (dataset or noise_type or noise_file):
        values["noise_type"] = noise_type = DEFAULT_NOISE
    if noise_type:
        named = noise_type.split("-")[0]
        if named not in IN_MEMORY:
            parser.error(
                f"--noise_type {noise_type}: {named} is not a dataset; a name is "
                "<dataset>-<type>-<rate>, like cifar10-1-0.35, cifar100-1-0.70_U_0.3 or "
                "digits-1-0.35; labels that people gave are --dataset cifar10n --noise_type worse"
            )
        if dataset not in (None, named):
            parser.error(
                f"--noise_type {noise_type} is noise of {named}, not of --dataset {dataset}: "
                "drop one"
            )
        dataset = named
    elif dataset is None:
        dataset = _dataset_of(parser, str(noise_file))
    noisy = dataset == "folder" or noise_type or noise_file or values.get("eval_only")
    if not noisy:
        parser.error(
            f"which noisy labels? `python make_pmd.py --dataset {dataset} --rate 0.35` makes "
            f"--noise_type {dataset}-1-0.35; or give any --noise_file"
        )
    values["dataset"] = dataset


def _choose_human_labels(parser: argparse.ArgumentParser, values: dict[str, Any]) -> None:
    """Sets `noise_type` to the name of one of the dataset's columns."""
    from shared.datasets import DatasetError, human_noise

    dataset = values["dataset"]
    for name in ("noise_file", "noise_dir", "cut_labels"):
        if values.get(name):
            parser.error(f"--dataset {dataset} brings its labels: leave out --{name}")
    try:
        column = human_noise.column(dataset, values.get("noise_type"))
    except DatasetError as error:
        parser.error(str(error))
    columns = human_noise.HUMAN[dataset].columns
    values["noise_type"] = next(name for name, known in columns.items() if known == column)


def _dataset_of(parser: argparse.ArgumentParser, noise_file: str) -> str:
    """The dataset in the header of a noise file."""
    from shared.formats.external import read_any
    from shared.formats.noise_file import NoiseFileError

    try:
        named = read_any(noise_file).header.dataset
    except (NoiseFileError, OSError) as error:
        parser.error(str(error))
    if named not in IN_MEMORY:
        found = "does not say which images" if named is None else f"is for {named}"
        parser.error(f"--noise_file {noise_file} {found}: add --dataset ({', '.join(IN_MEMORY)})")
    return named


def check_own_pictures(
    parser: argparse.ArgumentParser,
    values: Mapping[str, Any],
    dataset: str,
    only_theirs: Collection[str] = ("labels", "skip_broken", "cache_dir"),
    flag: str = "--dataset",
) -> None:
    """Own pictures need a place; flags that are for them alone are refused with other images.

    flag: what names the dataset.
    """
    if dataset != "folder":
        for name in only_theirs:
            if values.get(name):
                parser.error(
                    f"--{name} is for pictures of your own ({flag} folder), not for {dataset}: "
                    "leave it out"
                )
    elif values.get("data_path") is None:
        parser.error(f"{flag} folder needs --data_path: {FOLDERS}; or an .npz")
    fraction = values.get("val_fraction")
    if fraction is not None and not 0 < fraction < 1:
        parser.error(f"--val_fraction {fraction}: a share lies between 0 and 1, as 0.1")

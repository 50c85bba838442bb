"""CIFAR-10N and CIFAR-100N (Wei et al., ICLR 2022): CIFAR with the labels that people gave.

    dataset, noise_file = human_labels("cifar10n", "worse", "data")
    # "cifar10", "data/label_noisy/cifar_n/CIFAR-10_human.pt:worse_label"

They are no datasets of their own: images, clean labels and test set are CIFAR's.
"""

from dataclasses import dataclass
from pathlib import Path

from shared.datasets import cifar, folders, published_noise
from shared.datasets.image_data import DatasetError
from shared.datasets.registry import data_root


@dataclass(frozen=True)
class HumanNoise:
    """One of the two sets."""

    dataset: str  # whose images are labelled
    columns: dict[str, str]  # noise type -> column of the noise file; the first is the usual one
    published: str  # in `published_noise.NOISE`


HUMAN: dict[str, HumanNoise] = {
    "cifar10n": HumanNoise(
        "cifar10",
        {
            "worse": "worse_label",
            "aggre": "aggre_label",
            "random1": "random_label1",
            "random2": "random_label2",
            "random3": "random_label3",
        },
        "cifar_n/CIFAR-10_human.pt",
    ),
    "cifar100n": HumanNoise("cifar100", {"noisy": "noisy_label"}, "cifar_n/CIFAR-100_human.pt"),
}
# How the code of CIFAR-N calls them
_ALIASES = {
    "worst": "worse",
    "rand1": "random1",
    "rand2": "random2",
    "rand3": "random3",
    "noisy100": "noisy",
}


def human_labels(
    dataset: str, noise_type: str | None = None, path: str | Path | None = None
) -> tuple[str, str]:
    """The dataset whose images people labelled, and FILE:COLUMN of their labels.

    noise_type: worse (the default), aggre, random1, random2 or random3 of cifar10n, noisy of
    cifar100n; the columns' names will do. path: data root, see `registry.data_root`. Raises
    DatasetError for an unknown name or type, or where the file is not there.
    """
    if dataset not in HUMAN:
        raise DatasetError(f"no human labels for {dataset!r}: choose one of {', '.join(HUMAN)}")
    known = HUMAN[dataset]
    return known.dataset, f"{_file(known, dataset, data_root(path))}:{column(dataset, noise_type)}"


def column(dataset: str, noise_type: str | None = None) -> str:
    """The column of a noise type; raises DatasetError for a type that the set does not have."""
    columns = HUMAN[dataset].columns
    if noise_type is None:
        return next(iter(columns.values()))
    if noise_type in columns.values():
        return noise_type
    name = _ALIASES.get(noise_type, noise_type)
    if name not in columns:
        raise DatasetError(
            f"{dataset} has no noise type {noise_type!r}: choose --noise_type "
            f"{' or '.join(columns)}"
        )
    return columns[name]


def _file(known: HumanNoise, dataset: str, root: Path) -> Path:
    usual = root / "label_noisy" / known.published
    if usual.is_file():
        return usual
    name = usual.name
    for folder in folders.walk(root, cifar.SEARCH_DEPTH):
        if (folder / name).is_file():
            return folder / name
    noise = published_noise.NOISE[known.published]
    ways = f"""Get it in one of two ways:
  1. {folders.to_get("cifar_n")}    (downloads it from {noise.url})
  2. put {name} into {root.absolute()}"""
    title = f"The file of human labels of {dataset}"
    raise DatasetError(folders.missing(title, name, root, cifar.SEARCH_DEPTH, (), ways))

"""What a --dataset name means.

    parse("cifar10_imbal_0.02_0.2")

is CIFAR-10, its smallest class 2 % of the largest, 20 % of the labels drawn at random;

    parse("cifar10n", "worse")

is what `cifar10n_worse` is, the labels that people gave. Parsing reads no data; a name that is none
is a DatasetError with the whole grammar and what was wrong.
"""

import difflib
import re
from dataclasses import dataclass
from typing import NoReturn

from shared.datasets.human_noise import HUMAN, column
from shared.datasets.image_data import DatasetError

# Smallest over largest class; those with published results.
IMBALANCE_FACTORS = (1.0, 0.1, 0.05, 0.02, 0.01, 0.005)
# What labels of a noise file can belong to.
FILE_DATASETS = ("cifar10", "cifar100", "digits", "folder")
PROBE_PER_CLASS = 10  # of webvisionmini
_TYPES = HUMAN["cifar10n"].columns

_GRAMMAR = (
    ("cifar10 | cifar100", "cifar10", "the labels as they are"),
    ("cifar10_uniform_RATE", "cifar10_uniform_0.4", "RATE of the labels drawn among all classes"),
    ("cifar100_uniform_RATE", "cifar100_uniform_0.8", "the same"),
    ("cifar10_asymmetric_RATE", "cifar10_asymmetric_0.4", "five classes turn into similar ones"),
    ("cifar10_imbal_F", "cifar10_imbal_0.02", "long tail: smallest class over largest"),
    ("cifar100_imbal_F", "cifar100_imbal_0.01", "the same"),
    ("cifar10_imbal_F_RATE", "cifar10_imbal_0.02_0.2", "both; cifar100 alike"),
    ("cifar10n | cifar10n_TYPE", "cifar10n_worse", f"people's labels: {', '.join(_TYPES)}"),
    ("cifar100n | cifar100n_noisy", "cifar100n_noisy", "people's labels of cifar100"),
    ("digits | digits_uniform_RATE", "digits_uniform_0.4", "1,797 digits that need no download"),
    ("folder | folder_uniform_RATE", "folder_uniform_0.4", "your own images at --dataset_dir"),
    ("file", "file", "labels of --noise_file, which names its dataset"),
    ("file_DATASET", "file_cifar100", f"labels of --noise_file for {', '.join(FILE_DATASETS)}"),
    ("webvisionmini | webvisionmini_K", "webvisionmini_10", "50 classes, K probe images of each"),
)
EXAMPLES = tuple(example for _, example, _ in _GRAMMAR)
_NUMBER = re.compile(r"\d+\.?\d*|\.\d+")


@dataclass(frozen=True)
class Name:
    """A parsed name."""

    name: str
    dataset: str | None  # one of FILE_DATASETS or "webvisionmini"; None: the noise file says it
    noise: str = "none"  # or "uniform", "asymmetric", "human", "file", "web"
    rate: float = 0.0  # in [0, 1], of uniform and asymmetric noise
    imbalance: float | None = None  # one of IMBALANCE_FACTORS, or no long tail
    probe_per_class: int | None = None  # webvisionmini alone; the others have a ratio
    human: tuple[str, str] | None = None  # cifar10n or cifar100n, and which labels of it


def parse(name: str, noise_type: str | None = None) -> Name:
    """The meaning of `name`; raises DatasetError.

    noise_type: which of the labels that people gave, where the name does not say it.
    """
    dataset, *words = name.split("_")
    if dataset in HUMAN:
        return _human(name, dataset, "_".join(words), noise_type)
    if noise_type is not None:
        raise DatasetError(
            f"--noise_type is for the labels that people gave ({' and '.join(HUMAN)}), not for "
            f"--dataset {name}, whose name says what its noise is: leave it out"
        )
    if dataset in ("cifar10", "cifar100"):
        return _cifar(name, dataset, words)
    if dataset in ("digits", "folder"):
        return _plain_or_uniform(name, dataset, words)
    if dataset == "file":
        if words and (len(words) > 1 or words[0] not in FILE_DATASETS):
            _refuse(name, f"after file_ comes one of {', '.join(FILE_DATASETS)}")
        return Name(name, words[0] if words else None, "file")
    if dataset == "webvisionmini":
        return _webvision(name, words)
    known = [example.partition("_")[0] for example in EXAMPLES]
    near = difflib.get_close_matches(re.sub("[^a-z0-9]", "", dataset.lower()), known, n=1)
    _refuse(name, f"there is no {dataset!r}" + (f", did you mean {near[0]}?" if near else ""))


def _cifar(name: str, dataset: str, words: list[str]) -> Name:
    if words[:1] == ["imbal"]:
        return _long_tail(name, dataset, words[1:])
    if words[:1] == ["asymmetric"]:
        if dataset != "cifar10":
            _refuse(name, "asymmetric noise has rules for the classes of cifar10 only")
        return Name(name, dataset, "asymmetric", _only_rate(name, words))
    return _plain_or_uniform(name, dataset, words)


def _plain_or_uniform(name: str, dataset: str, words: list[str]) -> Name:
    if not words:
        return Name(name, dataset)
    if words[0] != "uniform":
        kinds = "uniform, asymmetric or imbal" if dataset == "cifar10" else "uniform or imbal"
        kinds = kinds if dataset.startswith("cifar") else "uniform"
        _refuse(name, f"after {dataset}_ comes {kinds}, not {words[0]!r}")
    return Name(name, dataset, "uniform", _only_rate(name, words))


def _human(name: str, dataset: str, word: str, noise_type: str | None) -> Name:
    if word and noise_type is not None:
        raise DatasetError(
            f"--dataset {name} and --noise_type {noise_type} both say which labels: leave out "
            f"--noise_type, or write --dataset {dataset}"
        )
    columns = HUMAN[dataset].columns
    try:
        chosen = column(dataset, word or noise_type)
    except DatasetError as error:
        _refuse(name, str(error))
    kind = next(kind for kind, known in columns.items() if known == chosen)
    return Name(f"{dataset}_{kind}", HUMAN[dataset].dataset, "human", human=(dataset, kind))


def _long_tail(name: str, dataset: str, numbers: list[str]) -> Name:
    published = ", ".join(f"{factor:g}" for factor in IMBALANCE_FACTORS)
    if len(numbers) not in (1, 2):
        _refuse(name, f"after imbal_ come one of {published} and, for noise, a rate")
    factor = float(numbers[0]) if _NUMBER.fullmatch(numbers[0]) else -1.0
    if factor not in IMBALANCE_FACTORS:
        _refuse(
            name,
            f"the imbalance {numbers[0]!r} is none of the published {published} (smallest class "
            "over largest)",
        )
    if len(numbers) == 1:
        return Name(name, dataset, imbalance=factor)
    return Name(name, dataset, "uniform", _rate(name, numbers[1]), factor)


def _webvision(name: str, words: list[str]) -> Name:
    if not words:
        return Name(name, "webvisionmini", "web", probe_per_class=PROBE_PER_CLASS)
    digits = words[0].isascii() and words[0].isdigit() and len(words[0]) < 7
    if len(words) > 1 or not digits or int(words[0]) == 0:
        _refuse(name, "after webvisionmini_ comes the number of probe images per class, from 1 on")
    return Name(name, "webvisionmini", "web", probe_per_class=int(words[0]))


def _only_rate(name: str, words: list[str]) -> float:
    if len(words) != 2:
        _refuse(name, f"after {words[0]}_ comes one rate")
    return _rate(name, words[1])


def _rate(name: str, text: str) -> float:
    if not _NUMBER.fullmatch(text):
        _refuse(name, f"the rate {text!r} is not a number like 0.4")
    if (rate := float(text)) > 1:
        _refuse(name, f"the rate {text} is outside [0, 1]: 0.4 means 40 %")
    return rate


def _refuse(name: str, problem: str) -> NoReturn:
    rows = "".join(f"\n  {form:<31} {example:<23} {meaning}" for form, example, meaning in _GRAMMAR)
    raise DatasetError(
        f"unknown --dataset {name!r}: {problem}.\nNames, an example of each, and what they "
        f"are:{rows}"
    )

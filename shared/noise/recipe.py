"""From a dataset and a recipe (kind, rate, seed) to a noise file; what `python -m shared noise
make` and projects call.

noise = generate(Recipe("pdn", rate=0.5), datasets.load("cifar10"))
"""

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.datasets.image_data import ImageData
from shared.formats import noise_file
from shared.formats.noise_file import NoiseFile
from shared.labels import Labels, checked_rate
from shared.noise import generators, ieg_splits, long_tail, open_set, pmd

IEG_KINDS = {
    "ieg_uniform": "uniform",
    "ieg_asymmetric": "asymmetric",
}  # with IEG's probe set held out -> IEG's noise
PART_KINDS = (*IEG_KINDS, "long_tail")  # label a part of the training set
KINDS = (
    "pdn",
    "symmetric",
    "asymmetric",
    "pair_flip",
    "open_set",
    "confidence",
    "pmd",
    *PART_KINDS,
)
CHOOSING_KINDS = (
    "symmetric",
    "asymmetric",
    "pair_flip",
)  # choose samples at random, so draws may be independent
DEFAULT_MAPS = {"cifar10": "cifar10", "cifar100": "cifar100"}  # dataset -> name in ASYMMETRIC_MAPS


def usual_seed(kind: str) -> int:
    """The seed of the papers' files of this kind."""
    return ieg_splits.SEED if kind in PART_KINDS else 123


@dataclass(frozen=True)
class Recipe:
    """How labels are made noisy.

    The same recipe gives the same labels for the same data, on every machine.

    Raises ValueError for an unknown kind, a rate outside [0, 1] or options that the kind does not
    have.
    """

    kind: str  # one of KINDS
    rate: float | None = None  # None only with a factor
    seed: int = 123  # in [0, 2^32); confidence draws nothing, so it has no effect there
    class_map: str | None = (
        None  # asymmetric only: a name in ASYMMETRIC_MAPS; None: the dataset's usual one
    )
    include_true_class: bool | None = None  # symmetric only; None: True, DivideMix's convention
    independent: bool = (
        False  # CHOOSING_KINDS only: each sample by itself, instead of exactly int(rate N)
    )
    pmd_type: int | None = None  # pmd only: one of pmd.TYPES; None: 1
    factor: float | None = (
        None  # pmd only, instead of a rate: what the probability of the best class is divided by
    )
    probe_ratio: float | None = (
        None  # IEG_KINDS only: share held out, see `ieg_splits.split`; None: 0.02
    )
    imbalance: float | None = (
        None  # long_tail only, and needed there: smallest class by largest, in (0, 1]
    )

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(
                f"unknown kind of noise {self.kind!r}: choose one of {', '.join(KINDS)}"
            )
        self._check_amount()
        self._check_part()
        limit = 2**32 - (open_set.DONOR_SEED_OFFSET if self.kind == "open_set" else 0)
        if not 0 <= self.seed < limit:
            raise ValueError(f"seed {self.seed} is outside [0, {limit}): choose another one")
        if self.class_map is not None and self.kind != "asymmetric":
            raise ValueError(
                f"{self.kind} noise has no class map: leave --map out, or choose --kind asymmetric"
            )
        if self.class_map is not None and self.class_map not in generators.ASYMMETRIC_MAPS:
            raise ValueError(
                f"unknown map {self.class_map!r}: choose one of "
                f"{', '.join(generators.ASYMMETRIC_MAPS)}"
            )
        if self.include_true_class is not None and self.kind != "symmetric":
            raise ValueError(
                "--include_true_class and --exclude_true_class are for symmetric noise: leave "
                f"them out for {self.kind}"
            )

        if self.independent and self.kind not in CHOOSING_KINDS:
            raise ValueError(
                f"--independent is for {', '.join(CHOOSING_KINDS)} noise, which chooses "
                f"samples: leave it out for {self.kind}"
            )

    def _check_amount(self) -> None:
        """Rate, or for pmd type and factor."""
        if self.kind != "pmd" and (self.pmd_type is not None or self.factor is not None):
            raise ValueError(
                f"--pmd_type and --factor are for pmd noise: leave them out for {self.kind}"
            )
        if self.pmd_type is not None and self.pmd_type not in pmd.TYPES:
            raise ValueError(
                f"pmd_type is {self.pmd_type}: choose one of {', '.join(map(str, pmd.TYPES))}"
            )
        if (self.rate is None) == (self.factor is None):
            raise ValueError(
                f"{self.kind} noise needs a rate"
                + (" or a factor, not both" * (self.kind == "pmd"))
            )
        if self.rate is not None:
            checked_rate(self.rate)
        elif self.factor is not None:
            pmd.checked_factor(self.factor)

    def _check_part(self) -> None:
        """Which part of the training set gets labels; its size is checked where the labels are
        known.
        """
        if self.probe_ratio is not None and self.kind not in IEG_KINDS:
            raise ValueError(
                f"--probe_ratio is for {' and '.join(IEG_KINDS)} noise: leave it out for "
                f"{self.kind}"
            )
        if self.probe_ratio is not None and not 0 <= self.probe_ratio <= 1:
            raise ValueError(
                f"probe ratio {self.probe_ratio} is outside [0, 1]: 0.02 holds out 2 % of the "
                "samples"
            )
        if (self.imbalance is None) == (self.kind == "long_tail"):
            raise ValueError(
                "long_tail needs --imbalance: 0.02 makes the last class a fiftieth of the first"
                if self.imbalance is None
                else f"--imbalance is for long_tail: leave it out for {self.kind}"
            )
        if self.imbalance is not None and not 0 < self.imbalance <= 1:
            raise ValueError(
                f"imbalance {self.imbalance} is outside (0, 1]: 0.02 makes the last class a "
                "fiftieth"
            )

    def check_for(self, dataset: str) -> None:
        """Raise ValueError where this noise is not possible on a dataset, before any data is read."""
        self.map_for(dataset)
        if self.kind == "open_set" and dataset == open_set.DONOR_DATASET:
            raise ValueError(
                f"open-set noise takes its images from {dataset}, so {dataset} itself cannot "
                "have it: "
                "choose another dataset or kind"
            )

    def map_for(self, dataset: str) -> str | None:
        """The class map to use for a dataset, None for kinds without; ValueError where none is
        known.
        """
        if self.kind == "ieg_asymmetric":
            return ieg_splits.CLASS_MAP
        if self.kind != "asymmetric":
            return None
        name = self.class_map or DEFAULT_MAPS.get(dataset)
        if name is None:
            maps = ", ".join(generators.ASYMMETRIC_MAPS)
            raise ValueError(
                f"{dataset} has no usual class map: name one (--map, of {maps}) or take --kind "
                "pair_flip"
            )
        return name


def generate(
    recipe: Recipe,
    data: ImageData,
    mean_probs: NDArray[np.floating[Any]] | None = None,
    eta: NDArray[np.floating[Any]] | None = None,
) -> NoiseFile:
    """Noisy labels for the training set of `data`, with everything that made them in the header.

    mean_probs: (N, C) float, for kind confidence and no other, see
    `generators.confidence_dependent`. eta: (n, C) float, for kind pmd and no other, see
    `pmd.pmd_labels`; n below N: the first n samples get labels, and the file says so. Kind open_set
    changes no label: the file flags the replaced images, and `open_set.pairs_for` gives their
    donors.
    """
    recipe.check_for(data.name)
    class_map = recipe.map_for(data.name)
    for kind, name, probs in (("confidence", "mean_probs", mean_probs), ("pmd", "eta", eta)):
        if (probs is not None) != (recipe.kind == kind):
            raise ValueError(
                f"{recipe.kind} noise {'needs' if probs is None else 'has no'} {name} (--{name})"
            )
        if probs is not None and probs.ndim == 2 and probs.shape[1] != data.num_classes:
            raise ValueError(
                f"{name}: {probs.shape[1]} columns, but {data.name} has {data.num_classes} "
                "classes: "
                "take those of a network trained on it"
            )
    if eta is not None:
        return _pmd(recipe, data, eta)
    if recipe.kind in PART_KINDS:
        return _part(recipe, data, class_map)
    return noise_file.make(
        _noisy_labels(recipe, data, class_map, mean_probs),
        clean_labels=data.train_labels,
        open_set=_replaced(recipe, len(data.train_labels)) if recipe.kind == "open_set" else None,
        dataset=data.name,
        split="train",
        num_classes=data.num_classes,
        kind=recipe.kind,
        class_map=class_map,
        convention=_convention(recipe),
        nominal_rate=recipe.rate,
        seed=None if recipe.kind == "confidence" else recipe.seed,
        generator=_generator(recipe),
    )


def _pmd(recipe: Recipe, data: ImageData, eta: NDArray[np.floating[Any]]) -> NoiseFile:
    """PMD labels of the first samples, as many as eta has rows; the header's generator names type,
    factor and eta.
    """
    eta, size = pmd.checked_posteriors(eta), len(data.train_labels)
    if len(eta) > size:
        raise ValueError(
            f"eta has {len(eta)} rows, but {data.name} has {size} training images: give one row "
            "per image"
        )
    clean, noise_type, factor = data.train_labels[: len(eta)], recipe.pmd_type or 1, recipe.factor
    if factor is None:
        factor = pmd.factor_for_rate(eta, noise_type, _rate(recipe), clean, recipe.seed)
    digest = hashlib.sha256(np.ascontiguousarray(eta).tobytes()).hexdigest()
    return noise_file.make(
        pmd.pmd_labels(eta, noise_type, factor, recipe.seed),
        clean_labels=clean,
        indices=None if len(eta) == size else np.arange(len(eta)),
        dataset=data.name,
        split="train",
        num_classes=data.num_classes,
        kind=recipe.kind,
        nominal_rate=recipe.rate,
        seed=recipe.seed,
        generator=f"{generators.GENERATOR}, PMD type {noise_type}, factor {factor!r}, eta "
        f"{digest[:12]}",
    )


def _part(recipe: Recipe, data: ImageData, class_map: str | None) -> NoiseFile:
    """Labels of a part of the training set, by ascending row: IEG's without its probe set, or a
    long tail's.
    """
    clean, rate = data.train_labels, _rate(recipe)
    if recipe.kind == "long_tail":
        assert recipe.imbalance is not None  # Recipe sees to it
        rows = long_tail.subset(clean, recipe.imbalance, recipe.seed)
        random = np.random.RandomState(
            recipe.seed
        )  # as IEG: noise on a long tail begins a stream of its own
        noisy, part = (
            ieg_splits.uniform_noise(clean[rows], data.num_classes, rate, random),
            f"long tail {recipe.imbalance}",
        )
    else:
        ratio = ieg_splits.PROBE_RATIO if recipe.probe_ratio is None else recipe.probe_ratio
        split = ieg_splits.split(
            clean,
            data.num_classes,
            noise=IEG_KINDS[recipe.kind],
            rate=rate,
            probe_ratio=ratio,
            seed=recipe.seed,
        )
        order = np.argsort(split.train_ids)
        rows, noisy, part = (
            split.train_ids[order],
            split.train_labels[order],
            f"IEG's split, probe ratio {ratio}",
        )
    return noise_file.make(
        noisy,
        clean_labels=clean[rows],
        indices=None if len(rows) == len(clean) else rows,
        dataset=data.name,
        split="train",
        num_classes=data.num_classes,
        kind=recipe.kind,
        class_map=class_map,
        convention=_convention(recipe),
        nominal_rate=rate,
        seed=recipe.seed,
        generator=f"{generators.GENERATOR}, {part}",
    )


def _noisy_labels(
    recipe: Recipe,
    data: ImageData,
    class_map: str | None,
    mean_probs: NDArray[np.floating[Any]] | None,
) -> Labels:
    labels, num_classes, rate = data.train_labels, data.num_classes, _rate(recipe)
    if recipe.kind == "open_set":
        return labels
    if mean_probs is not None:
        return generators.confidence_dependent(labels, mean_probs, rate)
    if recipe.kind == "pdn":
        return generators.part_dependent(data.train_images, labels, rate, num_classes, recipe.seed)
    rng = np.random.default_rng(recipe.seed)
    if class_map is not None:
        rules = generators.ASYMMETRIC_MAPS[class_map]
        if max(*rules, *rules.values()) >= num_classes:
            raise ValueError(
                f"map {class_map} has classes that {data.name} ({num_classes} classes) lacks: "
                "choose another"
            )
        return generators.asymmetric(labels, rate, rules, rng, independent=recipe.independent)
    if recipe.kind == "symmetric":
        include = recipe.include_true_class is not False
        return generators.symmetric(
            labels,
            rate,
            num_classes,
            rng,
            include_true_class=include,
            independent=recipe.independent,
        )
    return generators.pair_flip(labels, rate, num_classes, rng, independent=recipe.independent)


def _rate(recipe: Recipe) -> float:
    assert recipe.rate is not None  # Recipe lets it be absent only where there is a factor
    return recipe.rate


def _replaced(recipe: Recipe, size: int) -> NDArray[np.bool_]:
    return open_set.flags(
        open_set.draw_pairs(size, open_set.DONOR_IMAGES, _rate(recipe), recipe.seed), size
    )


def _generator(recipe: Recipe) -> str:
    if recipe.kind == "open_set":
        return f"{generators.GENERATOR}, images of {open_set.DONOR_DATASET}"
    return (
        f"{generators.GENERATOR}, independent draws" if recipe.independent else generators.GENERATOR
    )


def _convention(recipe: Recipe) -> str | None:
    if recipe.kind == "open_set":
        return None
    if recipe.kind in ("ieg_uniform", "long_tail"):
        return noise_file.WITH_TRUE_CLASS
    if recipe.kind == "symmetric" and recipe.include_true_class is not False:
        return noise_file.WITH_TRUE_CLASS
    return noise_file.WITHOUT_TRUE_CLASS

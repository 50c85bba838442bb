"""From a dataset and a recipe (kind, rate, seed) to a noise file; what `python -m shared noise make` and projects call.

noise = generate(Recipe("pdn", rate=0.5), datasets.load("cifar10"))
"""

from dataclasses import dataclass

import numpy as np

from shared import noise, noise_file
from shared.image_data import ImageData
from shared.labels import Labels, checked_rate
from shared.noise_file import NoiseFile

KINDS = ("pdn", "symmetric", "asymmetric", "pair_flip")
DEFAULT_MAPS = {"cifar10": "cifar10", "cifar100": "cifar100"}  # dataset -> name in ASYMMETRIC_MAPS


@dataclass(frozen=True)
class Recipe:
    """How labels are made noisy. The same recipe gives the same labels for the same data, on every machine.

    Raises ValueError for an unknown kind, a rate outside [0, 1] or options that the kind does not have.
    """

    kind: str  # one of KINDS
    rate: float
    seed: int = 123  # in [0, 2^32)
    class_map: str | None = None  # asymmetric only: a name in ASYMMETRIC_MAPS; None: the dataset's usual one
    include_true_class: bool | None = None  # symmetric only; None: True, DivideMix's convention

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"unknown kind of noise {self.kind!r}: choose one of {', '.join(KINDS)}")
        checked_rate(self.rate)
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"seed {self.seed} is outside [0, 2^32): choose another one")
        if self.class_map is not None and self.kind != "asymmetric":
            raise ValueError(f"{self.kind} noise has no class map: leave --map out, or choose --kind asymmetric")
        if self.class_map is not None and self.class_map not in noise.ASYMMETRIC_MAPS:
            raise ValueError(f"unknown map {self.class_map!r}: choose one of {', '.join(noise.ASYMMETRIC_MAPS)}")
        if self.include_true_class is not None and self.kind != "symmetric":
            raise ValueError(
                f"--include_true_class and --exclude_true_class are for symmetric noise: leave them out for {self.kind}"
            )

    def map_for(self, dataset: str) -> str | None:
        """The class map to use for a dataset, None for kinds without; ValueError where none is known."""
        if self.kind != "asymmetric":
            return None
        name = self.class_map or DEFAULT_MAPS.get(dataset)
        if name is None:
            maps = ", ".join(noise.ASYMMETRIC_MAPS)
            raise ValueError(f"{dataset} has no usual class map: name one (--map, of {maps}) or take --kind pair_flip")
        return name


def generate(recipe: Recipe, data: ImageData) -> NoiseFile:
    """Noisy labels for the training set of `data`, with everything that made them in the header."""
    class_map = recipe.map_for(data.name)
    return noise_file.make(
        _noisy_labels(recipe, data, class_map),
        clean_labels=data.train_labels,
        dataset=data.name,
        split="train",
        num_classes=data.num_classes,
        kind=recipe.kind,
        class_map=class_map,
        convention=_convention(recipe),
        nominal_rate=recipe.rate,
        seed=recipe.seed,
        generator=noise.GENERATOR,
    )


def _noisy_labels(recipe: Recipe, data: ImageData, class_map: str | None) -> Labels:
    labels, num_classes = data.train_labels, data.num_classes
    if recipe.kind == "pdn":
        return noise.part_dependent(data.train_images, labels, recipe.rate, num_classes, recipe.seed)
    rng = np.random.default_rng(recipe.seed)
    if class_map is not None:
        rules = noise.ASYMMETRIC_MAPS[class_map]
        if max(*rules, *rules.values()) >= num_classes:
            raise ValueError(
                f"map {class_map} has classes that {data.name} ({num_classes} classes) lacks: choose another"
            )
        return noise.asymmetric(labels, recipe.rate, rules, rng)
    if recipe.kind == "symmetric":
        include = recipe.include_true_class is not False
        return noise.symmetric(labels, recipe.rate, num_classes, rng, include_true_class=include)
    return noise.pair_flip(labels, recipe.rate, num_classes, rng)


def _convention(recipe: Recipe) -> str:
    if recipe.kind == "symmetric" and recipe.include_true_class is not False:
        return noise_file.WITH_TRUE_CLASS
    return noise_file.WITHOUT_TRUE_CLASS

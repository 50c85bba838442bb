"""From a dataset and a recipe (kind, rate, seed) to a noise file.

noise = generate(Recipe("pdn", rate=0.5), datasets.load("cifar10"))
"""

from dataclasses import dataclass

from shared.datasets.image_data import AnyData
from shared.formats import noise_file
from shared.formats.noise_file import NoiseFile
from shared.labels import checked_rate, checked_seed
from shared.noise import generators, ieg_splits, open_set, pmd
from shared.noise.kinds import DEFAULT_MAPS, OPTIONS, TABLE, Floats, takers

KINDS = tuple(TABLE)


def usual_seed(kind: str) -> int:
    """The seed of the papers' files of this kind."""
    return TABLE[kind].seed


@dataclass(frozen=True)
class Recipe:
    """How labels are made noisy; the same recipe gives the same labels for the same data.

    Raises ValueError for an unknown kind, a rate outside [0, 1] or options that the kind does not
    have. `shared.noise.kinds` has the kinds and options.
    """

    kind: str  # one of KINDS
    rate: float | None = None  # None only with a factor, or of kind transition
    seed: int = 123  # in [0, 2^32); confidence draws nothing, so it has no effect there
    class_map: str | None = None  # name in ASYMMETRIC_MAPS; None: the dataset's usual one
    include_true_class: bool | None = None  # None: True, DivideMix's convention
    independent: bool = False  # each sample by itself, instead of exactly int(rate N)
    pmd_type: int | None = None  # one of pmd.TYPES; None: 1
    factor: float | None = None  # instead of a rate: divides the probability of the best class
    probe_ratio: float | None = None  # share held out, see `ieg_splits.split`; None: 0.02
    imbalance: float | None = None  # smallest class by largest, in (0, 1]; long_tail needs it

    def __post_init__(self) -> None:
        if self.kind not in TABLE:
            raise ValueError(
                f"unknown kind of noise {self.kind!r}: choose one of {', '.join(KINDS)}"
            )
        for name, option in OPTIONS.items():
            value = getattr(self, name)
            if value is None or (value is False and name == "independent"):
                continue
            flag = option.flag_of(value)
            if name not in TABLE[self.kind].options:
                raise ValueError(
                    f"{flag} is for {takers(name)} noise: leave it out for {self.kind}"
                )
            if not option.allowed(value):
                raise ValueError(f"{flag} {value} {option.expected}")
        if self.kind == "long_tail" and self.imbalance is None:
            raise ValueError(
                "long_tail needs --imbalance: 0.02 makes the last class a fiftieth of the first"
            )
        self._check_amount()
        offset = open_set.DONOR_SEED_OFFSET if self.kind == "open_set" else 0
        checked_seed(self.seed, 2**32 - offset)

    def _check_amount(self) -> None:
        if not TABLE[self.kind].needs_rate:
            if self.rate is not None:
                raise ValueError(f"{self.kind} noise has no rate: leave --rate out")
            return
        if (self.rate is None) == (self.factor is None):
            either = "factor" in TABLE[self.kind].options
            what = (
                "a rate or a factor, not both (--rate, --factor)" if either else "a rate (--rate)"
            )
            raise ValueError(f"{self.kind} noise needs {what}")
        if self.rate is not None:
            checked_rate(self.rate)
        elif self.factor is not None:
            pmd.checked_factor(self.factor)

    @property
    def known_rate(self) -> float:
        """The rate, where the kind has one."""
        assert self.rate is not None  # __post_init__ lets it be absent only where there is a factor
        return self.rate

    def check_for(self, dataset: str) -> None:
        """Raise ValueError where a dataset cannot have this noise, before any data is read."""
        self.map_for(dataset)
        if self.kind == "open_set" and dataset == open_set.DONOR_DATASET:
            raise ValueError(
                f"open-set noise takes its images from {dataset}, so {dataset} itself cannot have "
                "it: choose another dataset or kind"
            )

    def map_for(self, dataset: str) -> str | None:
        """The class map for a dataset, None for kinds without; ValueError where none is known."""
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
    data: AnyData,
    mean_probs: Floats | None = None,
    eta: Floats | None = None,
    matrix: Floats | None = None,
) -> NoiseFile:
    """Noisy labels for the training set of `data`, with everything that made them in the header.

    mean_probs: (N, C) float, for kind confidence and no other, see
    `generators.confidence_dependent`. eta: (n, C) float, for kind pmd and no other, see
    `pmd.pmd_labels`; n below N: the first n samples get labels, and the file says so. Kind open_set
    changes no label: the file flags the replaced images, and `open_set.pairs_for` gives their
    donors. matrix: (C, C) float, for kind transition and no other, see
    `transitions.by_transitions`.
    """
    recipe.check_for(data.name)
    kind = TABLE[recipe.kind]
    arrays = {"mean_probs": mean_probs, "eta": eta, "matrix": matrix}
    for name, array in arrays.items():
        if (array is not None) != (kind.file == name):
            needs = "needs" if array is None else "has no"
            raise ValueError(f"{recipe.kind} noise {needs} {name} (--{name})")
        if array is not None and array.ndim == 2 and array.shape[1] != data.num_classes:
            raise ValueError(
                f"{name}: {array.shape[1]} columns, but {data.name} has {data.num_classes} "
                "classes: take one made for it"
            )
    made = kind.make(recipe, data, arrays.get(kind.file or ""))
    clean = data.train_labels
    return noise_file.make(
        made.labels,
        clean_labels=clean if made.rows is None else clean[made.rows],
        indices=made.rows,
        open_set=made.open_set,
        dataset=data.name,
        split="train",
        num_classes=data.num_classes,
        kind=recipe.kind,
        class_map=made.class_map,
        convention=made.convention,
        nominal_rate=recipe.rate if made.rate is None else made.rate,
        seed=recipe.seed if made.has_seed else None,
        generator=", ".join(filter(None, (generators.GENERATOR, made.how))),
    )

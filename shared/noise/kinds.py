"""The kinds of noise: what each is, which options it takes, and how its labels are made.

`TABLE` is the one place that knows a kind: `shared.noise.recipe` checks against it and calls
`make`, and `python -m shared noise make` takes its help from it. A new kind is a function here and
a row there.
Letters: N training images, C classes.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from shared.datasets.image_data import AnyData, ImageData
from shared.formats.noise_file import WITH_TRUE_CLASS, WITHOUT_TRUE_CLASS
from shared.labels import Labels
from shared.noise import generators, ieg_splits, long_tail, open_set, pmd, transitions

if TYPE_CHECKING:
    from shared.noise.recipe import Recipe

Floats = NDArray[np.floating[Any]]
SEED = 123
# dataset -> name in ASYMMETRIC_MAPS
DEFAULT_MAPS = {"cifar10": "cifar10", "cifar100": "cifar100"}


@dataclass(frozen=True)
class Made:
    """What a kind gives; the rest of a noise file follows from recipe and dataset."""

    labels: Labels  # noisy, of the samples `rows`
    rows: Labels | None = None  # None: all
    open_set: NDArray[np.bool_] | None = None
    convention: str | None = WITHOUT_TRUE_CLASS
    class_map: str | None = None
    rate: float | None = None  # the nominal one, where the recipe has none
    has_seed: bool = True
    how: str = ""  # what the header tells besides the generator's version


@dataclass(frozen=True)
class Kind:
    """A row of the table."""

    make: Callable[["Recipe", AnyData, Floats | None], Made]
    help: str  # lines for a terminal
    options: tuple[str, ...] = ()  # fields of Recipe besides rate and seed
    file: str | None = None  # the array of FILES that it needs
    seed: int = SEED  # of the papers' files
    needs_rate: bool = True


@dataclass(frozen=True)
class Option:
    """A field of Recipe that only some kinds take."""

    flag: str
    help: str
    type: Callable[[str], Any] = float
    metavar: str | None = None
    allowed: Callable[[Any], bool] = lambda value: True
    expected: str = ""  # what `allowed` wants
    negation: str = ""  # the flag that sets it to False

    def flag_of(self, value: object) -> str:
        """The flag that gave this value."""
        return self.negation if value is False and self.negation else self.flag


OPTIONS: dict[str, Option] = {
    "class_map": Option(
        "--map",
        "class map of asymmetric noise; default: the dataset's usual one",
        str,
        "NAME",
        generators.ASYMMETRIC_MAPS.__contains__,
        f"is unknown: choose one of {', '.join(generators.ASYMMETRIC_MAPS)}",
    ),
    "include_true_class": Option(
        "--include_true_class",
        "symmetric: draw from all C classes, as DivideMix does: the measured rate is rate "
        "(1 - 1/C); the default",
        negation="--exclude_true_class",
    ),
    "independent": Option(
        "--independent",
        "choose each sample with probability rate on its own, as SLN and re-sln do, instead of "
        "int(rate N) samples",
    ),
    "pmd_type": Option(
        "--pmd_type",
        "pmd: type I, II or III of the paper; default: 1",
        int,
        allowed=pmd.TYPES.__contains__,
        expected=f"is unknown: choose one of {', '.join(map(str, pmd.TYPES))}",
    ),
    "factor": Option(
        "--factor", "pmd, instead of --rate: divides the probability of the best class"
    ),
    "probe_ratio": Option(
        "--probe_ratio",
        "ieg_...: share of the samples held out clean; default: 0.02",
        allowed=lambda ratio: 0 <= ratio <= 1,
        expected="is outside [0, 1]: 0.02 holds out 2 % of the samples",
    ),
    "imbalance": Option(
        "--imbalance",
        "long_tail: size of the last class by that of the first, in (0, 1]",
        allowed=lambda ratio: 0 < ratio <= 1,
        expected="is outside (0, 1]: 0.02 makes the last class a fiftieth of the first",
    ),
}
# name -> what the file holds
FILES = {
    "matrix": "the share of class i (row) that becomes class j (column), .csv or .npy, (C, C)",
    "mean_probs": (
        "softmax outputs of a network for all training images, averaged over its epochs, (N, C)"
    ),
    "eta": (
        "softmax outputs of the teacher for all training images, or the first n of them, (n, C)"
    ),
}


def _pdn(recipe: "Recipe", data: AnyData, _: Floats | None) -> Made:
    if not isinstance(data, ImageData):
        raise ValueError(
            "it looks at the pixels of all images, which stay on disk here: make a noise file with "
            "`python -m shared noise make --kind pdn`, which reads them at 32 pixels"
        )
    images, classes = data.train_images, data.num_classes
    return Made(
        generators.part_dependent(
            images, data.train_labels, recipe.known_rate, classes, recipe.seed
        )
    )


def _symmetric(recipe: "Recipe", data: AnyData, _: Floats | None) -> Made:
    include = recipe.include_true_class is not False
    labels = generators.symmetric(
        data.train_labels,
        recipe.known_rate,
        data.num_classes,
        np.random.default_rng(recipe.seed),
        include_true_class=include,
        independent=recipe.independent,
    )
    convention = WITH_TRUE_CLASS if include else WITHOUT_TRUE_CLASS
    return Made(labels, convention=convention, how=_independent(recipe))


def _asymmetric(recipe: "Recipe", data: AnyData, _: Floats | None) -> Made:
    name = recipe.map_for(data.name)
    assert name is not None  # map_for sees to it
    rules = generators.ASYMMETRIC_MAPS[name]
    if max(*rules, *rules.values()) >= data.num_classes:
        raise ValueError(
            f"map {name} has classes that {data.name} ({data.num_classes} classes) lacks: "
            "choose another (--map)"
        )
    rng = np.random.default_rng(recipe.seed)
    labels = generators.asymmetric(
        data.train_labels, recipe.known_rate, rules, rng, independent=recipe.independent
    )
    return Made(labels, class_map=name, how=_independent(recipe))


def _pair_flip(recipe: "Recipe", data: AnyData, _: Floats | None) -> Made:
    labels = generators.pair_flip(
        data.train_labels,
        recipe.known_rate,
        data.num_classes,
        np.random.default_rng(recipe.seed),
        independent=recipe.independent,
    )
    return Made(labels, how=_independent(recipe))


def _independent(recipe: "Recipe") -> str:
    return "independent draws" if recipe.independent else ""


def _open_set(recipe: "Recipe", data: AnyData, _: Floats | None) -> Made:
    size = len(data.train_labels)
    pairs = open_set.draw_pairs(size, open_set.DONOR_IMAGES, recipe.known_rate, recipe.seed)
    flags, how = open_set.flags(pairs, size), f"images of {open_set.DONOR_DATASET}"
    return Made(data.train_labels, open_set=flags, convention=None, how=how)


def _confidence(recipe: "Recipe", data: AnyData, mean_probs: Floats | None) -> Made:
    assert mean_probs is not None  # `generate` sees to it
    labels = generators.confidence_dependent(data.train_labels, mean_probs, recipe.known_rate)
    return Made(labels, has_seed=False)


def _pmd(recipe: "Recipe", data: AnyData, eta: Floats | None) -> Made:
    """Labels of the first samples, as many as eta has rows."""
    assert eta is not None  # `generate` sees to it
    eta, size = pmd.checked_posteriors(eta), len(data.train_labels)
    if len(eta) > size:
        raise ValueError(
            f"eta has {len(eta)} rows, but {data.name} has {size} training images: give one row "
            "per image"
        )
    noise_type, factor, seed = recipe.pmd_type or 1, recipe.factor, recipe.seed
    if factor is None:
        clean = data.train_labels[: len(eta)]
        factor = pmd.factor_for_rate(eta, noise_type, recipe.known_rate, clean, seed)
    digest = hashlib.sha256(np.ascontiguousarray(eta).tobytes()).hexdigest()[:12]
    return Made(
        pmd.pmd_labels(eta, noise_type, factor, seed),
        rows=None if len(eta) == size else np.arange(len(eta)),
        convention=None,
        how=f"PMD type {noise_type}, factor {factor!r}, eta {digest}",
    )


def _transition(recipe: "Recipe", data: AnyData, matrix: Floats | None) -> Made:
    assert matrix is not None  # `generate` sees to it
    matrix = transitions.checked_transitions(matrix, data.num_classes)
    rng = np.random.default_rng(recipe.seed)
    labels = transitions.by_transitions(
        data.train_labels, matrix, rng, independent=recipe.independent
    )
    sizes = np.bincount(data.train_labels, minlength=data.num_classes)
    digest = hashlib.sha256(np.ascontiguousarray(matrix).tobytes()).hexdigest()[:12]
    how = ", ".join(filter(None, (f"matrix {digest}", _independent(recipe))))
    rate = float((1 - matrix.diagonal()) @ sizes / max(1, sizes.sum()))
    return Made(labels, convention=None, rate=min(1.0, max(0.0, rate)), how=how)


def _ieg(noise: str, class_map: str | None) -> Callable[["Recipe", AnyData, Floats | None], Made]:
    def make(recipe: "Recipe", data: AnyData, _: Floats | None) -> Made:
        """IEG's labels without its probe set, by ascending row."""
        given = recipe.probe_ratio
        ratio = ieg_splits.PROBE_RATIO if given is None else given
        split = ieg_splits.split(
            data.train_labels,
            data.num_classes,
            noise=noise,
            rate=recipe.known_rate,
            probe_ratio=ratio,
            seed=recipe.seed,
        )
        order = np.argsort(split.train_ids)
        rows = split.train_ids[order]
        return Made(
            split.train_labels[order],
            rows=None if len(rows) == len(data.train_labels) else rows,
            convention=WITHOUT_TRUE_CLASS if class_map else WITH_TRUE_CLASS,
            class_map=class_map,
            how=f"IEG's split, probe ratio {ratio}",
        )

    return make


def _long_tail(recipe: "Recipe", data: AnyData, _: Floats | None) -> Made:
    assert recipe.imbalance is not None  # Recipe sees to it
    rows = long_tail.subset(data.train_labels, recipe.imbalance, recipe.seed)
    # As in IEG, noise on a long tail begins a stream of its own.
    random = np.random.RandomState(recipe.seed)
    clean, classes = data.train_labels[rows], data.num_classes
    return Made(
        ieg_splits.uniform_noise(clean, classes, recipe.known_rate, random),
        rows=None if len(rows) == len(data.train_labels) else rows,
        convention=WITH_TRUE_CLASS,
        how=f"long tail {recipe.imbalance}",
    )


TABLE: dict[str, Kind] = {
    "pdn": Kind(
        _pdn,
        "part-dependent: the wrong class depends on the image (Xia et al. 2020), as InstanceGM\n"
        "draws it",
    ),
    "symmetric": Kind(
        _symmetric,
        "int(rate N) random samples get a uniformly drawn class",
        ("include_true_class", "independent"),
    ),
    "asymmetric": Kind(
        _asymmetric,
        "int(rate N) random samples go to the class theirs is confused with, by a map",
        ("class_map", "independent"),
    ),
    "pair_flip": Kind(
        _pair_flip, "int(rate N) random samples go to the next class", ("independent",)
    ),
    "transition": Kind(
        _transition,
        "of class i the share in row i, column j of --matrix becomes class j, exact to a sample;\n"
        "rows sum to 1, and there is no --rate",
        ("independent",),
        file="matrix",
        needs_rate=False,
    ),
    "open_set": Kind(
        _open_set,
        "int(rate N) random images are replaced by CIFAR-100's and keep their labels; the file\n"
        "(.npz, .csv) flags them",
    ),
    "confidence": Kind(
        _confidence,
        "the int(rate N) samples with the likeliest wrong class get it (Chen et al. 2021, SLN's\n"
        "dependent), by --mean_probs of a network trained on the clean labels; nothing is drawn\n"
        "(no --seed)",
        file="mean_probs",
    ),
    "pmd": Kind(
        _pmd,
        "one of the two likeliest classes of a teacher (--eta), the second where they are close\n"
        "(Zhang et al. 2021, PLC), as PLC draws it; --rate finds the factor by bisection,\n"
        "--factor gives it. eta of n images labels the first n (PLC: 45,000)",
        ("pmd_type", "factor"),
        file="eta",
    ),
    "ieg_uniform": Kind(
        _ieg("uniform", None),
        "the labels that IEG and FSR (Zhang et al. 2020, 2021) train on, as they draw them: each\n"
        "sample redrawn from all classes with probability rate; the file leaves out their probe\n"
        "set (--probe_ratio) and is .npz, unless the ratio is 0",
        ("probe_ratio",),
        seed=ieg_splits.SEED,
    ),
    "ieg_asymmetric": Kind(
        _ieg("asymmetric", ieg_splits.CLASS_MAP),
        "likewise, but sent on by the map cifar10 with probability rate",
        ("probe_ratio",),
        seed=ieg_splits.SEED,
    ),
    "long_tail": Kind(
        _long_tail,
        "a long-tailed part of the samples (--imbalance), each redrawn from all classes with\n"
        "probability rate; 0 keeps the labels. Class sizes are the papers' (Cui et al. 2019), the\n"
        "images a draw of ours. .npz",
        ("imbalance",),
        seed=ieg_splits.SEED,
    ),
}


def takers(option: str) -> str:
    """The kinds that take an option, in words."""
    return ", ".join(name for name, kind in TABLE.items() if option in (*kind.options, kind.file))


def help_text() -> str:
    """The kinds and what they are, for a terminal."""
    width = max(map(len, TABLE)) + 2
    lines = []
    for name, kind in TABLE.items():
        first, *more = kind.help.split("\n")
        lines += [f"  {name:<{width}}{first}", *(" " * (width + 2) + line for line in more)]
    return "\n".join(lines)

"""Class noise on COCO annotations: symmetric (SN) and asymmetric (AN), Yang et al., ECCV 2020.

    recipe = Recipe("cityscapes", "symmetric", rate=0.2, seed=123)             # --mode exact
    made = make(category_ids, {24: "person", 25: "rider"}, recipe)
    made.category_ids, made.selected, made.flippable

Two modes. `original` repeats the authors' scripts bit for bit, bugs included: the last id of
every list is never drawn, a class may draw itself, persons become vehicles, skis are missing, and
classes without a rule count as selected. For a seed it gives what a script gives after
`numpy.random.seed(seed)`, for it draws from the same legacy stream, held locally.

`exact` selects every annotation that has another class to go to with probability `rate`, each on
its own, and sends it to one of those classes, uniformly: the expected share of wrong labels among
such annotations is `rate`. Classes that the file has no category for are never drawn.
`coco_format`, for any other set, takes the file's categories: symmetric noise draws from all the
others, asymmetric noise goes to the next category of the file and from the last to the first.

Letters: N annotations, in the order of the file. Ids are the file's category ids.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from shared.coco.classes import COCO_GROUPS, CONFUSED, TABLES, CocoError, recognise
from shared.coco.manifest import Manifest, read_manifest
from shared.labels import Labels, checked_labels, checked_rate

__all__ = [
    "DATASETS",
    "KINDS",
    "MODES",
    "CocoError",
    "CocoNoise",
    "Manifest",
    "Recipe",
    "make",
    "read_manifest",
]

KINDS = ("symmetric", "asymmetric")
MODES = ("exact", "original")
DATASETS = (*TABLES, "coco_format")
MAX_LEGACY_SEED = 2**32 - 1
MOST_CATEGORIES = 3_000  # LVIS has 1,203


@dataclass(frozen=True)
class Recipe:
    """What noise to make. Raises CocoError or ValueError where that is no noise."""

    dataset: str  # one of DATASETS
    kind: str  # one of KINDS
    rate: float  # in [0, 1]: probability that an annotation is selected
    seed: int = 123
    mode: str = "exact"  # one of MODES

    def __post_init__(self) -> None:
        for name, value, allowed in (
            ("dataset", self.dataset, DATASETS),
            ("kind", self.kind, KINDS),
            ("mode", self.mode, MODES),
        ):
            if value not in allowed:
                raise CocoError(f"unknown {name} {value!r}: choose one of {', '.join(allowed)}")
        checked_rate(self.rate)
        if self.seed < 0 or (self.mode == "original" and self.seed > MAX_LEGACY_SEED):
            limit = f"in [0, {MAX_LEGACY_SEED}]" if self.mode == "original" else "0 or more"
            raise CocoError(f"seed {self.seed} is out of range: of mode {self.mode} it is {limit}")
        if self.mode == "original" and self.dataset not in TABLES:
            raise CocoError(
                f"there is no original script for {self.dataset}: use --mode exact, or "
                f"--dataset {', '.join(TABLES)}"
            )


@dataclass(frozen=True)
class CocoNoise:
    """Category ids after the noise, and what happened to each annotation."""

    category_ids: Labels  # (N,) ids of the file
    selected: NDArray[
        np.bool_
    ]  # (N,) drawn for a flip; in mode original the label may be the same afterwards
    flippable: NDArray[np.bool_]  # (N,) the rule can give this annotation another class


def make(
    category_ids: ArrayLike, categories: Mapping[int, str | None], recipe: Recipe
) -> CocoNoise:
    """The noisy category ids; a function of the arguments alone. Raises CocoError.

    category_ids: (N,) integers, ids of `categories`. categories: id -> name (None if it has none),
    in the file's order.
    """
    ids = checked_labels(category_ids, None, name="category ids", error=CocoError)
    if len(categories) > MOST_CATEGORIES:
        raise CocoError(
            f"the file has {len(categories):,} categories, more than {MOST_CATEGORIES:,}, and a "
            "table of transitions is no use for so many: leave some out"
        )
    if recipe.mode == "original":
        return _original(ids, categories, recipe)
    targets = targets_of(categories, recipe)
    _check_known(ids, categories, targets, recipe.dataset)
    made = _exact(ids, targets, recipe.rate, np.random.default_rng(recipe.seed))
    if not made.flippable.any():
        raise CocoError(
            f"no annotation has another class to go to: of the {len(categories)} categories of the "
            f"file, {recipe.kind} noise of {recipe.dataset} leaves those that are annotated alone; "
            "choose another --kind or --dataset"
        )
    return made


# ---- exact


def targets_of(categories: Mapping[int, str | None], recipe: Recipe) -> dict[int, tuple[int, ...]]:
    """Category id -> the ids it may become in mode exact, all of them other ids of the file.

    () for one that stays.
    """
    if recipe.dataset == "coco_format":
        classes = list(categories)
        if recipe.kind == "symmetric":
            return {one: tuple(other for other in classes if other != one) for one in classes}
        following = dict(zip(classes, classes[1:] + classes[:1]))
        return {one: (following[one],) if following[one] != one else () for one in classes}
    # DEVIATION(noisy_instseg): Category ids come from the names in the file; the scripts know one
    # numbering only.
    in_table = recognise(categories, TABLES[recipe.dataset])
    in_file = {known: category for category, known in in_table.items()}
    if recipe.kind == "symmetric":
        # DEVIATION(noisy_instseg): Symmetric noise draws from all other classes; the scripts never
        # draw the last id of their list, and may draw the class that the annotation has already.
        return {one: tuple(other for other in in_table if other != one) for one in in_table}
    # DEVIATION(noisy_instseg): Asymmetric COCO noise stays within the super-category; the script
    # makes persons vehicles, has snowboard twice and skis never, cannot draw the last id of a
    # group, and may draw the class that is there already.
    confused = CONFUSED[recipe.dataset]
    return {
        category: tuple(in_file[other] for other in confused.get(known, ()) if other in in_file)
        for category, known in in_table.items()
    }


def _exact(
    ids: Labels, targets: Mapping[int, tuple[int, ...]], rate: float, rng: np.random.Generator
) -> CocoNoise:
    classes, rows = np.unique(ids, return_inverse=True)
    counts = np.array([len(targets[category]) for category in classes.tolist()], np.int64)
    table = np.zeros((len(classes), max(1, counts.max(initial=0))), np.int64)
    for row, category in enumerate(classes.tolist()):
        table[row, : counts[row]] = targets[category]
    # DEVIATION(noisy_instseg): Only annotations that can change are selected; the scripts count the
    # others as noise too.
    flippable = counts[rows] > 0
    selected = flippable & (rng.random(len(ids)) < rate)
    chosen = rows[selected]
    noisy = ids.copy()
    noisy[selected] = table[chosen, rng.integers(0, counts[chosen])]
    return CocoNoise(noisy, selected, flippable)


def _check_known(
    ids: Labels, categories: Mapping[int, str | None], known: Mapping[int, object], dataset: str
) -> None:
    unknown = [category for category in np.unique(ids).tolist() if category not in known]
    if unknown:
        names = ", ".join(
            f"{category} {categories.get(category) or '(no name)'}" for category in unknown[:5]
        )
        raise CocoError(
            f"{len(unknown)} annotated categories are no classes of {dataset}, by name or id "
            f"({names}): choose the --dataset of this file, or coco_format, which takes any "
            "categories"
        )


# ---- original


def original_choices(recipe: Recipe) -> dict[int, tuple[int, ...]]:
    """Category id -> the list that the script draws from, all but its last; {} for no draw."""
    table = TABLES[recipe.dataset]
    if recipe.kind == "symmetric":
        return dict.fromkeys(table, tuple(table))
    if recipe.dataset != "coco":
        return {}
    person, *groups = COCO_GROUPS
    with_person = [
        (person + groups[0], groups[0]),
        *((group, group) for group in groups[1:]),
    ]  # ids 1 to 9 are one range
    return {
        one: tuple(36 if other == 35 else other for other in drawn)
        for ids, drawn in with_person
        for one in ids
    }


def _original(ids: Labels, categories: Mapping[int, str | None], recipe: Recipe) -> CocoNoise:
    """The scripts' loop: a uniform draw each, and an integer draw for the selected with a list."""
    _check_real_ids(ids, categories, recipe.dataset)
    rng = np.random.RandomState(recipe.seed)  # legacy stream, as of numpy.random.seed(seed)
    uniform, integer = rng.random_sample, rng.randint
    choices = original_choices(recipe)
    moves = (
        {}
        if choices
        else {source: targets[0] for source, targets in CONFUSED[recipe.dataset].items()}
    )
    noisy, selected = ids.tolist(), np.zeros(len(ids), bool)
    for row, old in enumerate(noisy):
        if uniform() < recipe.rate:
            selected[row] = True
            # len - 1 is a bug of the scripts, for randint excludes its upper bound already
            noisy[row] = (
                choices[old][integer(0, len(choices[old]) - 1)] if choices else moves.get(old, old)
            )
    _check_drawn(set(noisy) - set(categories), recipe.dataset)
    can_change = [
        one
        for one in TABLES[recipe.dataset]
        if one in moves or set(choices.get(one, ())[:-1]) - {one}
    ]
    return CocoNoise(np.array(noisy, np.int64), selected, np.isin(ids, can_change))


def _check_real_ids(ids: Labels, categories: Mapping[int, str | None], dataset: str) -> None:
    """The scripts know one numbering of the classes: another would get senseless noise."""
    meant = recognise(categories, TABLES[dataset])
    used = np.unique(ids).tolist()
    wrong = [
        category
        for category in used
        if meant.get(category, category) != category or category not in TABLES[dataset]
    ]
    if wrong:
        name = categories.get(wrong[0]) or "without name"
        raise CocoError(
            f"category {wrong[0]} ({name}) is not {dataset}'s category {wrong[0]}, and the "
            "original script knows that numbering alone: use --mode exact, which goes by the "
            "categories' names, or the right --dataset"
        )


def _check_drawn(missing: set[int], dataset: str) -> None:
    if missing:
        raise CocoError(
            f"the original script draws from all ids of {dataset}, and the file has no category "
            f"{min(missing)}: use --mode exact, which draws from the categories of the file"
        )


def never_drawn(recipe: Recipe) -> list[int]:
    """The ids that mode original can give to no other class, though the rule as meant would."""
    choices = original_choices(recipe)
    reached = {
        target for source, drawn in choices.items() for target in drawn[:-1] if target != source
    }
    meant = {target for source in choices for target in _meant(source, recipe)}
    return sorted(meant - reached)


def _meant(source: int, recipe: Recipe) -> Sequence[int]:
    if recipe.kind == "symmetric":
        return [other for other in TABLES[recipe.dataset] if other != source]
    return CONFUSED[recipe.dataset][source]

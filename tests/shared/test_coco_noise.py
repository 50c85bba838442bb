"""Class noise on COCO categories, against a literal loop with numpy's legacy generator."""

import time
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.coco.classes import COCO_GROUPS, CONFUSED, TABLES, recognise
from shared.coco.noise import CocoError, Recipe, make, never_drawn, original_choices, targets_of

SCRIPTS = [(kind, dataset) for kind in ("symmetric", "asymmetric") for dataset in TABLES]


def balanced(dataset, each):
    """Every class `each` times, one after the other."""
    return np.tile(list(TABLES[dataset]), each)


def within_four_sigma(count, total, rate):
    return abs(count - total * rate) <= 4 * np.sqrt(total * rate * (1 - rate))


# ---- original: the scripts, written as slowly and plainly as the facts are known


CITY_LIST = [24, 25, 26, 27, 28, 31, 32, 33]
_COCO_TEXT = """
1 2 3 4 5 6 7 8 9 10 11 13 14 15 16 17 18 19 20 21 22 23 24 25 27 28 31 32 33 34 35 36 37
38 39 40 41 42 43 44 46 47 48 49 50 51 52 53 54 55 56 57 58 59 60 61 62 63 64 65 67 70 72
73 74 75 76 77 78 79 80 81 82 84 85 86 87 88 89 90
"""
COCO_LIST = [int(number) for number in _COCO_TEXT.split()]
COCO_RANGES = [
    (1, 9, [2, 3, 4, 5, 6, 7, 8, 9]),
    (10, 15, [10, 11, 13, 14, 15]),
    (16, 25, [16, 17, 18, 19, 20, 21, 22, 23, 24, 25]),
    (27, 33, [27, 28, 31, 32, 33]),
    (34, 43, [34, 36, 36, 37, 38, 39, 40, 41, 42, 43]),
    (44, 51, [44, 46, 47, 48, 49, 50, 51]),
    (52, 61, [52, 53, 54, 55, 56, 57, 58, 59, 60, 61]),
    (62, 70, [62, 63, 64, 65, 67, 70]),
    (72, 77, [72, 73, 74, 75, 76, 77]),
    (78, 82, [78, 79, 80, 81, 82]),
    (84, 90, [84, 85, 86, 87, 88, 89, 90]),
]
CITY_RULES = {24: 25, 25: 24, 27: 28, 28: 27, 32: 33, 33: 32}
VOC_RULES = {3: 1, 11: 9, 6: 7, 17: 13, 2: 14, 14: 2, 8: 12, 12: 8}


def literal(kind, dataset, ids, rate, seed):
    """(category ids, printed count) of the script of that name, seeded right before its loop."""
    rng = np.random.RandomState(seed)
    result, count = [], 0
    for old in ids:
        new = old
        if rng.random_sample() < rate:
            count += 1
            if kind == "symmetric" and dataset == "voc":
                new = rng.randint(1, 20)
            elif kind == "symmetric":
                drawn = CITY_LIST if dataset == "cityscapes" else COCO_LIST
                new = drawn[rng.randint(0, len(drawn) - 1)]
            elif dataset == "coco":
                for low, high, drawn in COCO_RANGES:
                    if low <= old <= high:
                        new = drawn[rng.randint(0, len(drawn) - 1)]
            else:
                new = (CITY_RULES if dataset == "cityscapes" else VOC_RULES).get(old, old)
        result.append(new)
    return result, count


@pytest.mark.parametrize(("kind", "dataset"), SCRIPTS)
@given(data=st.data())
def test_original_is_the_literal_loop(kind, dataset, data):
    table = TABLES[dataset]
    ids = data.draw(st.lists(st.sampled_from(list(table)), max_size=200))
    rate = data.draw(st.sampled_from([0.0, 0.2, 0.5, 0.8, 1.0]))
    seed = data.draw(st.integers(0, 2**32 - 1))
    made = make(ids, table, Recipe(dataset, kind, rate, seed, "original"))
    expected, count = literal(kind, dataset, ids, rate, seed)
    assert made.category_ids.tolist() == expected
    assert made.selected.sum() == count


def test_original_leaves_numpys_global_generator_alone():
    np.random.seed(7)  # noqa: NPY002 - the state that must stay is the global one
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    make(balanced("coco", 3), TABLES["coco"], Recipe("coco", "symmetric", 0.5, 1, "original"))
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002


def expected_change(kind, dataset, category):
    """Probability that a selected annotation of this class changes, by the paper's note."""
    if kind == "symmetric":
        last = {"cityscapes": 33, "coco": 90, "voc": 20}[dataset]
        reach = len(TABLES[dataset]) - 1
        return 1.0 if category == last else (reach - 1) / reach
    if dataset != "coco":
        return float(category in (CITY_RULES if dataset == "cityscapes" else VOC_RULES))
    drawn = next(drawn[:-1] for low, high, drawn in COCO_RANGES if low <= category <= high)
    return 1 - drawn.count(category) / len(drawn)


@pytest.mark.parametrize(("kind", "dataset"), SCRIPTS)
def test_original_changes_less_than_it_selects(kind, dataset):
    ids = balanced(dataset, 1500)
    made = make(ids, TABLES[dataset], Recipe(dataset, kind, 0.4, 5, "original"))
    assert within_four_sigma(made.selected.sum(), len(ids), 0.4)
    changed = made.category_ids != ids
    overall = np.mean([expected_change(kind, dataset, category) for category in TABLES[dataset]])
    assert within_four_sigma(changed.sum(), len(ids), 0.4 * overall)
    for category in TABLES[dataset]:
        share = 0.4 * expected_change(kind, dataset, category)
        assert within_four_sigma(changed[ids == category].sum(), 1500, share), category
        assert made.flippable[ids == category].all() == (share > 0)


def test_measured_rates_of_the_note_are_met():
    """The rates of section 3 of the paper, at rate 0.2 and equal class sizes.

    Cityscapes SN 0.1764 and AN 0.150, VOC AN 0.079.
    """
    for kind, dataset, rate in (
        ("symmetric", "cityscapes", 0.1764),
        ("asymmetric", "cityscapes", 0.15),
        ("asymmetric", "voc", 0.0790),
    ):
        ids = balanced(dataset, 160_000 // len(TABLES[dataset]))
        made = make(ids, TABLES[dataset], Recipe(dataset, kind, 0.2, 0, "original"))
        # both runs are samples, so their difference has twice the variance of one
        assert abs((made.category_ids != ids).mean() - rate) < 4 * np.sqrt(
            2 * rate * (1 - rate) / len(ids)
        )


NEVER = {
    ("symmetric", "cityscapes"): [33],
    ("symmetric", "coco"): [90],
    ("symmetric", "voc"): [20],
    ("asymmetric", "cityscapes"): [],
    ("asymmetric", "coco"): [9, 15, 25, 33, 35, 43, 51, 61, 70, 77, 82, 90],
    ("asymmetric", "voc"): [],
}


@pytest.mark.parametrize(("kind", "dataset"), SCRIPTS)
def test_what_original_never_produces_exact_does(kind, dataset):
    table, ids = TABLES[dataset], balanced(dataset, 400)
    assert never_drawn(Recipe(dataset, kind, 1.0, mode="original")) == NEVER[kind, dataset]
    for mode in ("original", "exact"):
        made = make(ids, table, Recipe(dataset, kind, 1.0, 3, mode))
        new = set(made.category_ids[made.category_ids != ids].tolist())
        assert bool(new & set(NEVER[kind, dataset])) == (
            mode == "exact" and bool(NEVER[kind, dataset])
        )
        if mode == "exact":
            assert (
                new == set(table)
                if kind == "symmetric"
                else new == {t for to in CONFUSED[dataset].values() for t in to}
            )


def test_snowboard_has_double_weight_in_original_only():
    ids = np.full(9000, 34)
    counts = Counter(
        make(
            ids, TABLES["coco"], Recipe("coco", "asymmetric", 1.0, 1, "original")
        ).category_ids.tolist()
    )
    assert within_four_sigma(counts[36], 9000, 2 / 9)
    counts = Counter(
        make(ids, TABLES["coco"], Recipe("coco", "asymmetric", 1.0, 1)).category_ids.tolist()
    )
    assert set(counts) == set(range(35, 44))
    assert all(within_four_sigma(count, 9000, 1 / 9) for count in counts.values())


def test_the_lists_are_those_of_the_note():
    assert list(TABLES["cityscapes"]) == CITY_LIST
    assert list(TABLES["coco"]) == COCO_LIST
    assert list(TABLES["voc"]) == list(range(1, 21))
    choices = original_choices(Recipe("coco", "asymmetric", 0.2))
    assert set(choices) == set(COCO_LIST)
    for low, high, drawn in COCO_RANGES:
        assert {choices[category] for category in COCO_LIST if low <= category <= high} == {
            tuple(drawn)
        }
    assert [group for group in COCO_GROUPS if 35 in group] == [tuple(range(34, 44))]


@pytest.mark.parametrize("kind", ["symmetric", "asymmetric"])
def test_original_takes_coco_sized_files_in_ten_seconds(kind):
    ids = np.random.default_rng(0).choice(list(TABLES["coco"]), 200_000)
    start = time.process_time()
    make(ids, TABLES["coco"], Recipe("coco", kind, 0.4, 1, "original"))
    assert time.process_time() - start < 10 * 200 / 860


# ---- exact


def literal_targets(kind, dataset, category, present):
    """The classes that one may become, from the tables of the note."""
    if kind == "symmetric":
        return present - {category}
    if dataset == "coco":
        (group,) = (group for group in COCO_GROUPS if category in group)
        return (set(group) - {category}) & present
    rules = CITY_RULES if dataset == "cityscapes" else VOC_RULES
    return {rules[category]} & present if category in rules else set()


@pytest.mark.parametrize(("kind", "dataset"), SCRIPTS)
@given(data=st.data())
@settings(max_examples=50)
def test_exact_changes_what_is_selected_within_the_classes_of_the_file(kind, dataset, data):
    table = TABLES[dataset]
    present = data.draw(st.lists(st.sampled_from(list(table)), min_size=2, unique=True))
    ids = np.array(data.draw(st.lists(st.sampled_from(present), min_size=1, max_size=100)))
    recipe = Recipe(
        dataset, kind, data.draw(st.sampled_from([0.0, 0.3, 1.0])), data.draw(st.integers(0, 2**70))
    )
    targets = {
        category: literal_targets(kind, dataset, category, set(present)) for category in present
    }
    categories = {category: table[category] for category in present}
    if not any(targets[category] for category in ids.tolist()):
        with pytest.raises(CocoError, match="no annotation has another class"):
            make(ids, categories, recipe)
        return
    made = make(ids, categories, recipe)
    np.testing.assert_array_equal(made.category_ids != ids, made.selected)
    assert made.flippable.tolist() == [bool(targets[category]) for category in ids.tolist()]
    assert not (made.selected & ~made.flippable).any()
    for old, new, selected in zip(ids.tolist(), made.category_ids.tolist(), made.selected.tolist()):
        assert new in targets[old] if selected else new == old
    if recipe.rate in (0, 1):
        assert made.selected.sum() == recipe.rate * made.flippable.sum()
    np.testing.assert_array_equal(make(ids, categories, recipe).category_ids, made.category_ids)


@pytest.mark.parametrize("rate", [0.2, 0.8])
@pytest.mark.parametrize(("kind", "dataset"), SCRIPTS)
def test_exact_meets_the_rate_and_is_uniform(kind, dataset, rate):
    table, ids = TABLES[dataset], balanced(dataset, 2000)
    made = make(ids, table, Recipe(dataset, kind, rate, 11))
    assert within_four_sigma((made.category_ids != ids).sum(), made.flippable.sum(), rate)
    source = next(
        category for category in table if literal_targets(kind, dataset, category, set(table))
    )
    targets = literal_targets(kind, dataset, source, set(table))
    made = make(
        np.full(40_000, source), table, Recipe(dataset, kind, rate, 11)
    )  # 100 of each target at least: nearly normal
    counts = Counter(made.category_ids[made.selected].tolist())
    assert set(counts) <= targets
    for target in targets:
        assert within_four_sigma(counts[target], sum(counts.values()), 1 / len(targets))


def test_a_higher_rate_selects_more_of_the_same():
    ids = balanced("voc", 50)
    low, high = (
        make(ids, TABLES["voc"], Recipe("voc", "symmetric", rate, 4)).selected
        for rate in (0.2, 0.4)
    )
    assert not (low & ~high).any()


def test_persons_stay_in_exact_and_drive_in_original():
    ids, table = np.array([1] * 50 + [2] * 50), TABLES["coco"]
    exact = make(ids, table, Recipe("coco", "asymmetric", 1.0, 1))
    assert (exact.category_ids[:50] == 1).all()
    assert exact.flippable.tolist() == [False] * 50 + [True] * 50
    original = make(ids, table, Recipe("coco", "asymmetric", 1.0, 1, "original"))
    assert set(original.category_ids[:50].tolist()) <= set(range(2, 9))


def test_any_set_of_categories_works_with_coco_format():
    categories = {7: "date", 3: None, 5: "hazelnut"}
    ids = np.tile([7, 3, 5], 3000)
    made = make(ids, categories, Recipe("coco_format", "symmetric", 0.6, 2))
    assert within_four_sigma((made.category_ids != ids).sum(), len(ids), 0.6)
    counts = Counter(made.category_ids[(ids == 7) & made.selected].tolist())
    assert set(counts) == {3, 5}
    assert within_four_sigma(counts[3], counts[3] + counts[5], 0.5)
    made = make(ids, categories, Recipe("coco_format", "asymmetric", 1.0, 2))
    assert made.category_ids.tolist() == [3, 5, 7] * 3000


# ---- which classes a file has


def test_names_decide_so_files_that_count_from_one_work():
    names = ["person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle"]
    categories = dict(enumerate(names, start=1))
    ids = np.tile(np.arange(1, 9), 20)
    made = make(ids, categories, Recipe("cityscapes", "asymmetric", 1.0, 0))
    assert made.category_ids.tolist() == [2, 1, 3, 5, 4, 6, 8, 7] * 20
    with pytest.raises(
        CocoError, match=r"category 1 \(person\) is not cityscapes's category 1.*--mode exact"
    ):
        make(ids, categories, Recipe("cityscapes", "asymmetric", 1.0, 0, "original"))
    shifted = {category - 1: name for category, name in TABLES["voc"].items()}
    with pytest.raises(CocoError, match="category 0"):
        make([0, 1], shifted, Recipe("voc", "symmetric", 0.5, 0, "original"))


def test_recognising_categories():
    voc = TABLES["voc"]
    assert recognise({5: "TV/Monitor", 9: "dining table", 0: "Potted-Plant"}, voc) == {
        5: 20,
        9: 11,
        0: 16,
    }
    assert recognise({15: None, 7: ""}, voc) == {15: 15, 7: 7}, "no names at all: ids"
    assert recognise({15: "person", 14: "motorcycle"}, voc) == {15: 15, 14: 14}, (
        "the known name has the table's id"
    )
    assert recognise({1: "person", 14: "motorcycle"}, voc) == {1: 15}, (
        "this file counts in another way"
    )
    assert recognise({1: "date", 2: "fig"}, voc) == {}, "fruits are no aeroplanes"
    assert recognise(dict.fromkeys(voc, "?"), voc) == {category: category for category in voc}
    with pytest.raises(CocoError, match=r"categories 15 and 99 are both person.*coco_format"):
        recognise({15: "person", 99: "Person"}, voc)


def test_a_category_without_annotations_need_not_be_known():
    categories = {**TABLES["cityscapes"], 29: "caravan"}
    made = make([24, 25], categories, Recipe("cityscapes", "symmetric", 1.0, 0))
    assert not set(made.category_ids.tolist()) & {29}
    with pytest.raises(
        CocoError,
        match=r"1 annotated categories are no classes of cityscapes.*29 caravan.*coco_format",
    ):
        make([24, 29], categories, Recipe("cityscapes", "symmetric", 1.0, 0))


def test_targets_that_the_file_lacks_are_left_out():
    categories = {24: "person", 27: "truck", 28: "bus"}
    assert targets_of(categories, Recipe("cityscapes", "asymmetric", 0.5)) == {
        24: (),
        27: (28,),
        28: (27,),
    }
    with pytest.raises(CocoError, match="the file has no category"):
        make([24] * 50, categories, Recipe("cityscapes", "symmetric", 1.0, 0, "original"))


# ---- what is refused


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("imagenet", "symmetric", 0.2), "unknown dataset 'imagenet': choose one of cityscapes"),
        (("coco", "pdn", 0.2), "unknown kind 'pdn'"),
        (("coco", "symmetric", 0.2, 1, "exakt"), "unknown mode"),
        (("coco", "symmetric", 1.5), r"outside \[0, 1\]"),
        (("coco", "symmetric", float("nan")), r"outside \[0, 1\]"),
        (("coco", "symmetric", 0.2, -1), "seed -1"),
        (("coco", "symmetric", 0.2, 2**32, "original"), r"4294967295\]"),
        (("coco_format", "symmetric", 0.2, 1, "original"), "no original script for coco_format"),
    ],
)
def test_senseless_recipes_are_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        Recipe(*arguments)


def test_one_category_has_nowhere_to_go():
    for kind in ("symmetric", "asymmetric"):
        with pytest.raises(CocoError, match=r"no annotation has another class.*1 categories"):
            make([4, 4], {4: "fig"}, Recipe("coco_format", kind, 0.5))

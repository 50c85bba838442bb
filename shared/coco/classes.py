"""The classes of Cityscapes, COCO and Pascal VOC, and which of them are confused with which.

    table = TABLES["cityscapes"]
    in_table = recognise({1: "person", 2: "rider"}, table)    # {1: 24, 2: 25}

A file of annotations names its categories, and its ids are its own business: `recognise` goes by
the names. Asymmetric noise (Yang et al., ECCV 2020) sends a class to others that look like it:
`CONFUSED` has the class maps and groups as meant, without the bugs of the original scripts, which
`shared.coco.noise` knows.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

from shared.errors import UserError

Table = Mapping[int, str]  # category id -> name


class CocoError(UserError):
    """COCO annotations, or a noise for them, that cannot be used; the text says what helps."""


def _table(ids: Iterable[int], names: str) -> Table:
    return MappingProxyType(dict(zip(ids, names.split(", "), strict=True)))


_COCO_GROUPS: Sequence[tuple[tuple[int, ...], str]] = (  # super-categories in the order of ids
    ((1,), "person"),
    ((2, 3, 4, 5, 6, 7, 8, 9), "bicycle, car, motorcycle, airplane, bus, train, truck, boat"),
    ((10, 11, 13, 14, 15), "traffic light, fire hydrant, stop sign, parking meter, bench"),
    (
        (16, 17, 18, 19, 20, 21, 22, 23, 24, 25),
        "bird, cat, dog, horse, sheep, cow, elephant, bear, zebra, giraffe",
    ),
    ((27, 28, 31, 32, 33), "backpack, umbrella, handbag, tie, suitcase"),
    (
        (34, 35, 36, 37, 38, 39, 40, 41, 42, 43),
        "frisbee, skis, snowboard, sports ball, kite, baseball bat, baseball glove, skateboard, "
        "surfboard, tennis racket",
    ),
    ((44, 46, 47, 48, 49, 50, 51), "bottle, wine glass, cup, fork, knife, spoon, bowl"),
    (
        (52, 53, 54, 55, 56, 57, 58, 59, 60, 61),
        "banana, apple, sandwich, orange, broccoli, carrot, hot dog, pizza, donut, cake",
    ),
    ((62, 63, 64, 65, 67, 70), "chair, couch, potted plant, bed, dining table, toilet"),
    ((72, 73, 74, 75, 76, 77), "tv, laptop, mouse, remote, keyboard, cell phone"),
    ((78, 79, 80, 81, 82), "microwave, oven, toaster, sink, refrigerator"),
    (
        (84, 85, 86, 87, 88, 89, 90),
        "book, clock, vase, scissors, teddy bear, hair drier, toothbrush",
    ),
)
COCO_GROUPS: tuple[tuple[int, ...], ...] = tuple(ids for ids, _ in _COCO_GROUPS)

TABLES: Mapping[str, Table] = MappingProxyType(
    {
        "cityscapes": _table(
            (24, 25, 26, 27, 28, 31, 32, 33),
            "person, rider, car, truck, bus, train, motorcycle, bicycle",
        ),
        "coco": _table(
            (category for ids, _ in _COCO_GROUPS for category in ids),
            ", ".join(names for _, names in _COCO_GROUPS),
        ),
        "voc": _table(
            range(1, 21),
            "aeroplane, bicycle, bird, boat, bottle, bus, car, cat, chair, cow, diningtable, dog, "
            "horse, motorbike, person, pottedplant, sheep, sofa, train, tvmonitor",
        ),
    }
)


def _swaps(*pairs: tuple[int, int]) -> dict[int, tuple[int, ...]]:
    return {source: (target,) for a, b in pairs for source, target in ((a, b), (b, a))}


CONFUSED: Mapping[str, Mapping[int, tuple[int, ...]]] = (
    MappingProxyType(  # id -> the ids it may become
        {
            "cityscapes": _swaps((24, 25), (27, 28), (32, 33)),
            "coco": {
                one: tuple(other for other in group if other != one)
                for group in COCO_GROUPS
                for one in group
            },
            "voc": {3: (1,), 11: (9,), 6: (7,), 17: (13,), **_swaps((2, 14), (8, 12))},
        }
    )
)


def recognise(categories: Mapping[int, str | None], table: Table) -> dict[int, int]:
    """The file's category ids -> the table's, of the categories that the table has.

    categories: id -> name, of the file. Names decide, whatever case, spaces and signs they are
    written with. Where a name is missing or unknown, the id decides, unless there is reason to
    doubt that the file counts as the table does: a known name has another id, or there are names,
    none is known, and the ids are not the very ids of the table. (Three fruits with ids 1 to 3 are
    no person, bicycle and car.) Raises CocoError where two categories are one class.
    """
    by_name = {_plain(name): category for category, name in table.items()}
    found = {
        category: by_name[_plain(name)]
        for category, name in categories.items()
        if _plain(name) in by_name
    }
    nameless = not any(_plain(name) for name in categories.values())
    same_ids = all(category == known for category, known in found.items())
    if same_ids and (found or nameless or set(categories) == set(table)):
        found |= {category: category for category in categories if category in table}
    for known in found.values():
        twins = [str(other) for other in found if found[other] == known]
        if len(twins) > 1:
            raise CocoError(
                f"categories {' and '.join(twins)} are both {table[known]}: give each class one "
                "category, or use --dataset coco_format, which takes the categories as they are"
            )
    return {category: found[category] for category in categories if category in found}


def _plain(name: str | None) -> str:
    return re.sub(r"[^a-z0-9]", "", (name or "").lower())

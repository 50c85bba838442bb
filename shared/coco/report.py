"""What can be said about COCO-format annotations and the noise on them, as text for a terminal.

Letters: N annotations; K categories.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shared.coco import manifest as coco_manifest
from shared.coco import noise as coco_noise
from shared.coco.classes import TABLES, CocoError
from shared.coco.file import CocoFile
from shared.coco.manifest import Manifest
from shared.coco.noise import CocoNoise, Recipe
from shared.errors import printable
from shared.formats import confusions
from shared.formats.confusions import Confusions, name_width
from shared.formats.report import TOP, facts, heading, share
from shared.labels import Labels


def made(source: CocoFile, noise: CocoNoise, recipe: Recipe) -> str:
    """How much noise there is, and why it is not what was asked for."""
    changed = noise.category_ids != source.category_ids
    flippable = int(noise.flippable.sum())
    lines = [
        f"{recipe.kind} noise of {recipe.dataset}, mode {recipe.mode}, rate {recipe.rate:g}, "
        f"seed {recipe.seed}",
        f"  annotations  {len(changed):>9,}",
        f"  flippable    {flippable:>9,}  (the rule has another class for them)",
        f"  selected     {noise.selected.sum():>9,}",
        f"  changed      {changed.sum():>9,}  rate {changed.mean():.5f} of all, "
        f"{changed.sum() / max(1, flippable):.5f} of the flippable; requested {recipe.rate:g}",
    ]
    notes = (f"  note: {note}" for note in _reasons(source, noise, recipe))
    return printable("\n".join([*lines, *notes]))


def _reasons(source: CocoFile, noise: CocoNoise, recipe: Recipe) -> list[str]:
    """Why the realised rate is not the requested one."""
    notes = []
    stay = np.unique(source.category_ids[~noise.flippable]).tolist()
    if stay:
        names = _some([source.name_of(category) for category in stay])
        selected = "selected without effect" if recipe.mode == "original" else "never selected"
        notes.append(
            f"{(~noise.flippable).sum():,} annotations of {names} have no class to go to and are "
            f"{selected}"
        )
    if recipe.mode == "exact":
        return [
            *notes,
            "each flippable annotation is selected on its own, so the rate is met up to chance",
        ]
    own = (noise.selected & noise.flippable & (noise.category_ids == source.category_ids)).sum()
    if own:
        notes.append(
            f"{own:,} selected annotations drew the class they had already, as the original "
            "script lets them"
        )
    table = TABLES[recipe.dataset]
    never = [f"{category} {table[category]}" for category in coco_noise.never_drawn(recipe)]
    if never:
        notes.append(f"the original script can never draw {_some(never)}; mode exact can")
    return notes


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:TOP]) + (f" and {len(names) - TOP} more" if len(names) > TOP else "")


def describe_manifest(title: str, manifest: Manifest) -> str:
    """Facts, rates, and the table of categories of a manifest."""
    known = {
        "dataset": manifest.dataset,
        "kind": f"{manifest.kind}, mode {manifest.mode}",
        "seed": manifest.seed,
        "annotations": f"{manifest.annotations:,}",
        "flippable": f"{manifest.flippable:,}",
        "selected": f"{manifest.selected:,}",
        "changed": f"{manifest.changed:,}",
        "requested rate": f"{manifest.requested_rate:g}",
        "realised rate": (
            f"{manifest.realised_rate:.5f} of all, "
            f"{manifest.realised_rate_flippable:.5f} of the flippable"
        ),
        "clean file": f"SHA-256 {manifest.input_sha256}",
        "noisy file": f"SHA-256 {manifest.output_sha256}",
    }
    counts = np.array(manifest.transitions, np.int64).reshape(len(manifest.category_ids), -1)
    found = confusions.of_counts(counts, manifest.category_names)
    table = _transition_lines(found, manifest.category_ids)
    return printable("\n".join([title, *facts(known, 15), "", *table]))


def describe_annotations(path: Path, source: CocoFile) -> str:
    """Sizes and annotations per category; whether labels are wrong, such a file cannot tell."""
    ids, sizes = np.unique(source.category_ids, return_counts=True)
    counts = dict(zip(ids.tolist(), sizes.tolist()))
    names = [source.name_of(category) for category in source.categories]
    width = max(20, name_width(names))
    lines = [
        f"{path.name}: {len(source.content['images']):,} images, {len(source.category_ids):,} "
        f"annotations, {len(source.categories):,} categories; SHA-256 {source.sha256}",
        "No clean labels in this file: rates are in its manifest, or compare it with the clean "
        "file.",
        f"  {'id':>5} {'category':<{width}}{'annotations':>12}",
        *(
            f"  {category:>5} {name:<{width}}{counts.get(category, 0):>12,}"
            for category, name in zip(source.categories, names)
        ),
    ]
    manifest = coco_manifest.default_path(path)
    if manifest.is_file():
        lines.append(f"There is a manifest: {manifest}")
    return printable("\n".join(lines))


def compare(first: CocoFile, second: CocoFile, names: tuple[str, str]) -> str:
    """How many annotations have another category, box or mask, and which category became which.

    Raises CocoError for files of different sets.
    """
    if dict(first.categories) != dict(second.categories):
        raise CocoError(
            f"{names[0]} and {names[1]} have different categories: compare a file with the one it "
            "was made from"
        )
    _, one, two = np.intersect1d(
        first.annotation_ids, second.annotation_ids, assume_unique=True, return_indices=True
    )
    if not len(one):
        raise CocoError(
            f"{names[0]} and {names[1]} have no annotation id in common: compare a file with the "
            "one it was made from"
        )
    before, after = first.category_ids[one], second.category_ids[two]
    changed = before != after
    boxes, masks = (_moved(first, second, one, two, field) for field in ("bbox", "segmentation"))
    dropped, added = (len(file.annotation_ids) - len(one) for file in (first, second))
    lines = [
        *heading(names),
        f"annotations in both  {len(one):>9,}",
        f"another category     {share(changed)}",
        f"box moved            {share(boxes)}",
        f"mask moved           {share(masks)}",
        f"in A only            {dropped:>9,}  (dropped)",
        f"in B only            {added:>9,}  (added)",
        "",
    ]
    ids = list(first.categories)
    labels = [first.name_of(category) for category in ids]
    one_of, other_of = (_positions(values, ids) for values in (before, after))
    found = confusions.of_labels(one_of, other_of, labels)
    lines += _transition_lines(found, ids) if changed.any() else ["The categories are the same."]
    return printable("\n".join(lines))


def _moved(
    first: CocoFile, second: CocoFile, one: Labels, two: Labels, field: str
) -> NDArray[np.bool_]:
    """Which of the common annotations have another value in a field."""
    old, new = first.content["annotations"], second.content["annotations"]
    pairs = zip(one.tolist(), two.tolist())
    return np.array([old[a].get(field) != new[b].get(field) for a, b in pairs], bool)


def _positions(category_ids: Labels, ids: Sequence[int]) -> Labels:
    """Where in the list of categories each annotation's is, (N,)."""
    order = np.argsort(ids)
    return order[np.searchsorted(np.asarray(ids, np.int64)[order], category_ids)]


def _transition_lines(found: Confusions, ids: Sequence[int]) -> list[str]:
    """One row per category that is annotated; the matrix too where it fits."""
    table = confusions.class_table(found, "category")
    if len(ids) > confusions.MATRIX_CLASSES:
        return table
    return [*table, "", *confusions.matrix(found, ids)]

"""What can be said about COCO-format annotations and the noise on them, as text for the terminal.

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
from shared.labels import Labels

MATRIX_CATEGORIES = 20  # up to so many categories a matrix fits a terminal
TOP = 10


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
    return "\n".join([*lines, *(f"  note: {note}" for note in _reasons(source, noise, recipe))])


def _reasons(source: CocoFile, noise: CocoNoise, recipe: Recipe) -> list[str]:
    """Why the realised rate is not the requested one."""
    notes = []
    stay = np.unique(source.category_ids[~noise.flippable]).tolist()
    if stay:
        names = _some([source.name_of(category) for category in stay])
        counted = (
            "are selected without effect" if recipe.mode == "original" else "are never selected"
        )
        notes.append(
            f"{(~noise.flippable).sum():,} annotations of {names} have no class to go to and "
            f"{counted}"
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
    never = [
        f"{category} {TABLES[recipe.dataset][category]}"
        for category in coco_noise.never_drawn(recipe)
    ]
    if never:
        notes.append(f"the original script can never draw {_some(never)}; mode exact can")
    return notes


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:TOP]) + (f" and {len(names) - TOP} more" if len(names) > TOP else "")


def describe_manifest(title: str, manifest: Manifest) -> str:
    """Facts, rates, and the table of categories of a manifest."""
    facts = {
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
    lines = [title, *(f"  {name:<15}{value}" for name, value in facts.items()), ""]
    return "\n".join([*lines, *_transition_lines(manifest.category_names, counts)])


def describe_annotations(path: Path, source: CocoFile) -> str:
    """Sizes and annotations per category of a file.

    Whether labels are wrong, a file of annotations cannot tell.
    """
    counts = np.array([(source.category_ids == category).sum() for category in source.categories])
    lines = [
        f"{path.name}: {len(source.content['images']):,} images, {len(source.category_ids):,} "
        "annotations, "
        f"{len(source.categories):,} categories; SHA-256 {source.sha256}",
        "No clean labels in this file: rates are in its manifest, or compare it with the clean "
        "file.",
        f"  {'id':>5} {'category':<20}{'annotations':>12}",
        *(
            f"  {category:>5} {source.name_of(category):<20}{count:>12,}"
            for category, count in zip(source.categories, counts)
        ),
    ]
    manifest = coco_manifest.default_path(path)
    return "\n".join(
        [*lines, *([f"There is a manifest: {manifest}"] if manifest.is_file() else [])]
    )


def compare(first: CocoFile, second: CocoFile, names: tuple[str, str]) -> str:
    """How many annotations have another category, and which became which.

    Raises CocoError for files of different sets.
    """
    before, after = matched(first, second, names)
    wrong = before != after
    counts = coco_manifest.transition_counts(before, after, list(first.categories))
    labels = [first.name_of(category) for category in first.categories]
    lines = [
        f"A  {names[0]}",
        f"B  {names[1]}",
        f"annotations in both  {len(before):>9,}",
        f"another category     {wrong.sum():>9,} {wrong.mean():>8.2%}",
        "",
    ]
    return "\n".join(
        [
            *lines,
            *(
                _transition_lines(labels, counts)
                if wrong.any()
                else ["The categories are the same."]
            ),
        ]
    )


def matched(first: CocoFile, second: CocoFile, names: tuple[str, str]) -> tuple[Labels, Labels]:
    """Category ids of the same annotations in both files, in the order of annotation ids."""
    one, two = np.argsort(first.annotation_ids), np.argsort(second.annotation_ids)
    if not np.array_equal(first.annotation_ids[one], second.annotation_ids[two]):
        alone = np.setxor1d(first.annotation_ids, second.annotation_ids)
        raise CocoError(
            f"{names[0]} and {names[1]} annotate different sets: {len(alone):,} annotation ids "
            "are in one of them only, such "
            f"as {alone[0]}; compare a file with the one it was made from"
        )
    if dict(first.categories) != dict(second.categories):
        raise CocoError(
            f"{names[0]} and {names[1]} have different categories: compare a file with the one "
            "it was made from"
        )
    return first.category_ids[one], second.category_ids[two]


def _transition_lines(names: Sequence[str], counts: NDArray[np.int64]) -> list[str]:
    """One row per category that is annotated; the matrix too where it fits.

    counts: (K, K), rows true, columns new.
    """
    totals, changed = counts.sum(axis=1), counts.sum(axis=1) - counts.diagonal()
    lines = [
        f"  {'category':<20}{'clean':>9}{'noisy':>9}{'changed':>9}{'rate':>9}  most often becomes"
    ]
    for row, name in enumerate(names):
        if totals[row] or counts[:, row].any():
            wrong = np.where(np.arange(len(names)) == row, 0, counts[row])
            target = f"{names[int(wrong.argmax())]} ({wrong.max():,})" if wrong.any() else "-"
            rate = changed[row] / max(1, totals[row])
            lines.append(
                "  "
                f"{name:<20}{totals[row]:>9,}{counts[:, row].sum():>9,}{changed[row]:>9,}{rate:>9.2%} "
                f" {target}"
            )
    return lines if len(names) > MATRIX_CATEGORIES else [*lines, "", *_matrix_lines(names, counts)]


def _matrix_lines(names: Sequence[str], counts: NDArray[np.int64]) -> list[str]:
    """Percent of each true category; a dot is exactly none."""
    lines = ["Transitions: of a true category (row), how many percent are labelled as (column)"]
    lines.append(f"  {'':<24}" + "".join(f"{column + 1:>6}" for column in range(len(names))))
    for row, name in enumerate(names):
        share = 100 * counts[row] / max(1, counts[row].sum())
        cells = "".join(
            f"{'.':>6}" if count == 0 else f"{value:>6.1f}"
            for count, value in zip(counts[row], share)
        )
        lines.append(f"  {row + 1:>3} {name:<20}{cells}")
    return lines

"""What can be said about noisy labels: text for the terminal, and a heat map of the transition
matrix.

Letters: N samples, C classes.
"""

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.formats.noise_file import NoiseFile, NoiseFileError
from shared.labels import Labels
from shared.noise import transition_matrix

MATRIX_CLASSES = 20  # up to so many classes a matrix fits a terminal


@dataclass(frozen=True)
class Subject:
    """Noisy labels with what is needed to describe them."""

    title: str
    noise: NoiseFile
    class_names: tuple[str, ...]  # (C,)

    @property
    def num_classes(self) -> int:
        return len(self.class_names)


def describe(subject: Subject) -> str:
    """The whole report as text."""
    noise = subject.noise
    lines = [subject.title, *_facts(noise), ""]
    if not len(noise.noisy_labels):
        return lines[0] + "\n  no samples"
    if noise.clean_labels is None:
        lines += [
            "No clean labels in this file: rates need them (--dataset NAME --data_path DIR).",
            "",
        ]
        lines += _count_lines(subject)
    elif subject.num_classes <= MATRIX_CLASSES:
        lines += [
            *_class_table(subject, noise.clean_labels),
            "",
            *_matrix_lines(subject, noise.clean_labels),
        ]
    else:
        lines += _summary_lines(subject, noise.clean_labels)
    return "\n".join(lines)


def _facts(noise: NoiseFile) -> list[str]:
    known = noise.header
    measured = "unknown" if known.measured_rate is None else f"{known.measured_rate:.5f}"
    if noise.clean_labels is not None:
        measured += (
            f" ({(noise.clean_labels != noise.noisy_labels).sum():,} of "
            f"{len(noise.noisy_labels):,} labels wrong)"
        )
    facts = {
        "dataset": known.dataset and f"{known.dataset}, {known.split or 'train'}",
        "samples": f"{len(noise.noisy_labels):,} ({_which(noise.indices)})",
        "kind": known.kind,
        "class map": known.class_map,
        "convention": known.convention and known.convention.replace("_", " "),
        "nominal rate": None if known.nominal_rate is None else f"{known.nominal_rate:g}",
        "measured rate": measured,
        "replaced": None
        if noise.open_set is None
        else f"{noise.open_set.sum():,} images of another dataset",
        "seed": known.seed,
        "made by": known.generator,
        "clean labels": known.clean_labels_sha256 and f"SHA-256 {known.clean_labels_sha256}",
    }
    return [f"  {name:<14}{value}" for name, value in facts.items() if value is not None]


def _which(indices: Labels | None) -> str:
    if indices is None:
        return "the whole training set, in order"
    if np.array_equal(indices, np.arange(len(indices))):
        return "the first ones of the training set"
    return "chosen samples of the training set"


def _count_lines(subject: Subject) -> list[str]:
    counts = np.bincount(subject.noise.noisy_labels, minlength=subject.num_classes)
    if subject.num_classes > MATRIX_CLASSES:
        return [
            f"Labels per class: least {counts.min():,}, median {np.median(counts):,.0f}, most "
            f"{counts.max():,}"
        ]
    return [
        "Labels per class",
        *(f"  {name:<14}{count:>9,}" for name, count in zip(subject.class_names, counts)),
    ]


def _class_table(subject: Subject, clean: Labels) -> list[str]:
    matrix = transition_matrix(clean, subject.noise.noisy_labels, subject.num_classes)
    counts = [
        np.bincount(labels, minlength=subject.num_classes)
        for labels in (clean, subject.noise.noisy_labels)
    ]
    lines = [f"  {'class':<14}{'clean':>9}{'noisy':>9}{'rate':>9}  most often becomes"]
    for number, name in enumerate(subject.class_names):
        wrong = np.where(np.arange(subject.num_classes) == number, 0, matrix[number])
        target = (
            f"{subject.class_names[wrong.argmax()]} ({wrong.max():.1%})" if wrong.any() else "-"
        )
        rate = wrong.sum()
        lines.append(
            f"  {name:<14}{counts[0][number]:>9,}{counts[1][number]:>9,}{rate:>9.2%}  {target}"
        )
    return lines


def _matrix_lines(subject: Subject, clean: Labels) -> list[str]:
    """Percent of each clean class; a dot is exactly none."""
    matrix = transition_matrix(clean, subject.noise.noisy_labels, subject.num_classes)
    width, digits = (6, 1) if subject.num_classes <= 10 else (4, 0)
    head = "".join(f"{number:>{width}}" for number in range(subject.num_classes))
    lines = [
        "Transition matrix: of a clean class (row), how many percent are labelled as (column)",
        f"  {'':<18}{head}",
    ]
    for number, name in enumerate(subject.class_names):
        cells = "".join(
            f"{'.':>{width}}" if value == 0 else f"{100 * value:>{width}.{digits}f}"
            for value in matrix[number]
        )
        lines.append(f"  {number:>3} {name:<14}{cells}")
    return lines


def _summary_lines(subject: Subject, clean: Labels, top: int = 10) -> list[str]:
    matrix = transition_matrix(clean, subject.noise.noisy_labels, subject.num_classes)
    names = subject.class_names
    present = np.bincount(clean, minlength=subject.num_classes) > 0
    rates = np.where(present, 1 - matrix.diagonal(), np.nan)
    off = matrix.copy()
    np.fill_diagonal(off, 0)
    noisiest = [
        number for number in np.argsort(-np.nan_to_num(rates), kind="stable")[:5] if present[number]
    ]
    pairs = np.argsort(-off, axis=None, kind="stable")[:top]
    lines = [
        *_count_lines(subject),
        f"Rate per class: least {np.nanmin(rates):.2%}, median {np.nanmedian(rates):.2%}, most "
        f"{np.nanmax(rates):.2%}",
        "Noisiest: " + ", ".join(f"{names[number]} {rates[number]:.1%}" for number in noisiest),
        f"Different wrong labels per class: median {np.median((off > 0).sum(axis=1)[present]):.0f}",
        "Commonest confusions",
    ]
    for source, target in (divmod(int(pair), subject.num_classes) for pair in pairs):
        if off[source, target] > 0:
            lines.append(f"  {names[source]:<16} -> {names[target]:<16}{off[source, target]:>7.1%}")
    return lines


def compare(first: NoiseFile, second: NoiseFile, names: tuple[str, str]) -> str:
    """How far two noise files agree, over the samples that both label.

    Raises NoiseFileError if they share none.
    """
    rows, one, two = _common(first, second, names)
    same = one.noisy_labels == two.noisy_labels
    lines = [
        f"A  {names[0]}",
        f"B  {names[1]}",
        f"samples in both        {len(rows):,} (A has {len(first.noisy_labels):,}, B has "
        f"{len(second.noisy_labels):,})",
        f"same label             {_share(same)}",
    ]
    clean = one.clean_labels if one.clean_labels is not None else two.clean_labels
    if clean is None:
        lines.append(
            "No clean labels in either file: rates need them (--dataset NAME --data_path DIR)."
        )
    else:
        if one.clean_labels is not None and two.clean_labels is not None:
            _check_same_data(one.clean_labels, two.clean_labels, rows, names)
        wrong = one.noisy_labels != clean, two.noisy_labels != clean
        lines += [
            f"wrong in A             {_share(wrong[0])}",
            f"wrong in B             {_share(wrong[1])}",
            f"wrong in both          {_share(wrong[0] & wrong[1])}, by chance "
            f"{wrong[0].mean() * wrong[1].mean():.2%}",
            f"  with the same label  {_share(wrong[0] & same)}",
            f"wrong in A only        {_share(wrong[0] & ~wrong[1])}",
            f"wrong in B only        {_share(wrong[1] & ~wrong[0])}",
        ]
    lines += _replaced_lines(one, two)
    return "\n".join(
        [*lines, *_difference_lines(rows[~same], one.noisy_labels[~same], two.noisy_labels[~same])]
    )


def _replaced_lines(one: NoiseFile, two: NoiseFile) -> list[str]:
    """Open-set noise changes images and no label."""
    if one.open_set is None and two.open_set is None:
        return []
    first, second = (
        np.zeros(len(n.noisy_labels), bool) if n.open_set is None else n.open_set
        for n in (one, two)
    )
    return [
        f"images replaced in A    {_share(first)}",
        f"images replaced in B    {_share(second)}",
        f"images replaced in both {_share(first & second)}",
    ]


def _difference_lines(rows: Labels, one: Labels, two: Labels, top: int = 10) -> list[str]:
    if not len(rows):
        return ["The labels are the same."]
    pairs, counts = np.unique(np.stack([one, two], axis=1), axis=0, return_counts=True)
    order = np.argsort(-counts, kind="stable")[:top]
    return [
        "Different at samples   "
        + ", ".join(str(row) for row in rows[:top])
        + (", ..." if len(rows) > top else ""),
        "Commonest differences (A/B: samples)",
        "  " + ", ".join(f"{pairs[i][0]}/{pairs[i][1]}: {counts[i]:,}" for i in order),
    ]


def _share(mask: NDArray[np.bool_]) -> str:
    return f"{mask.sum():>9,} {mask.mean():>8.2%}"


def _common(
    first: NoiseFile, second: NoiseFile, names: tuple[str, str]
) -> tuple[Labels, NoiseFile, NoiseFile]:
    """The samples that both files label, and both files cut down to them in that order."""
    if (
        first.indices is None
        and second.indices is None
        and len(first.noisy_labels) != len(second.noisy_labels)
    ):
        sizes = f"{len(first.noisy_labels)} and {len(second.noisy_labels)}"
        raise NoiseFileError(
            f"{names[0]} and {names[1]} have {sizes} labels of unknown samples: compare files "
            "of one set"
        )
    one, two = (
        np.arange(len(n.noisy_labels)) if n.indices is None else n.indices for n in (first, second)
    )
    rows, at_first, at_second = np.intersect1d(one, two, assume_unique=True, return_indices=True)
    if not len(rows):
        raise NoiseFileError(
            f"{names[0]} and {names[1]} have no sample in common: compare files of one dataset"
        )
    return rows, _part(first, at_first), _part(second, at_second)


def _part(noise: NoiseFile, rows: Labels) -> NoiseFile:
    clean = None if noise.clean_labels is None else noise.clean_labels[rows]
    replaced = None if noise.open_set is None else noise.open_set[rows]
    return NoiseFile(noise.noisy_labels[rows], clean, open_set=replaced)


def _check_same_data(one: Labels, two: Labels, rows: Labels, names: tuple[str, str]) -> None:
    different = np.flatnonzero(one != two)
    if len(different):
        raise NoiseFileError(
            f"{names[0]} and {names[1]} belong to different data: {len(different):,} of "
            f"{len(rows):,} clean labels "
            f"differ, first at sample {rows[different[0]]}: compare files of one dataset and "
            "one set of classes"
        )


def heat_map(subject: Subject) -> bytes:
    """The transition matrix as a PNG picture. Raises NoiseFileError without clean labels."""
    if subject.noise.clean_labels is None:
        raise NoiseFileError(
            "a plot needs the clean labels: give the dataset (--dataset NAME --data_path DIR)"
        )
    from matplotlib.colors import PowerNorm  # a slow import that only this picture needs
    from matplotlib.figure import Figure

    matrix = transition_matrix(
        subject.noise.clean_labels, subject.noise.noisy_labels, subject.num_classes
    )
    side = 9.0 if subject.num_classes <= MATRIX_CLASSES else 11.0
    figure = Figure(figsize=(side, side * 0.87), dpi=120, layout="constrained")
    axes = figure.subplots()
    # Square root: with 100 classes most cells are below 1 %, and would all look empty on a linear
    # scale.
    picture = axes.imshow(
        matrix, cmap="viridis", norm=PowerNorm(0.5, vmin=0, vmax=1), interpolation="nearest"
    )
    marks = [0, 0.01, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1]
    figure.colorbar(
        picture,
        ax=axes,
        shrink=0.8,
        ticks=marks,
        label="share of the clean class (square-root scale)",
    )
    _write_axes(axes, subject)
    if subject.num_classes <= MATRIX_CLASSES:
        _write_cells(axes, matrix)
    stream = io.BytesIO()
    figure.savefig(stream, format="png", metadata={"Software": None})
    return stream.getvalue()


def _write_axes(axes: Any, subject: Subject) -> None:
    few = subject.num_classes <= MATRIX_CLASSES
    numbers = np.arange(
        0, subject.num_classes, 1 if few else 5 if subject.num_classes <= 100 else 50
    )
    names = [_plain(subject.class_names[number]) for number in numbers]
    texts = [
        name if few or name.endswith(f" {i}") else f"{name} {i}" for i, name in zip(numbers, names)
    ]
    axes.set_xticks(
        numbers, texts, rotation=45 if few else 90, ha="right" if few else "center", fontsize=8
    )
    axes.set_yticks(numbers, texts, fontsize=8)
    axes.set_xlabel("label in the noise file" + (" (cells in %)" if few else ""))
    axes.set_ylabel("clean label")
    known = subject.noise.header
    kind = f"{known.kind}, " if known.kind and known.kind not in subject.title else ""
    title = _plain(f"{subject.title}\n{kind}measured noise rate {known.measured_rate:.2%}")
    axes.set_title(title, fontsize=11)


def _write_cells(axes: Any, matrix: NDArray[np.float64]) -> None:
    for (row, column), value in np.ndenumerate(matrix):
        style = {
            "color": "black" if value > 0.35 else "white",
            "fontsize": 8 if len(matrix) <= 10 else 6,
        }
        axes.text(column, row, f"{100 * value:.1f}", ha="center", va="center", **style)


def _plain(text: str) -> str:
    return text.replace("$", r"\$")  # matplotlib would set it as a formula

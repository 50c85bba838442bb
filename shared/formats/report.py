"""What can be said about noisy labels: text for the terminal, and a heat map of transitions.

Letters: N samples, C classes.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.errors import printable
from shared.formats import confusions
from shared.formats.alignment import subset
from shared.formats.confusions import MATRIX_CLASSES, Confusions
from shared.formats.noise_file import NoiseFile, NoiseFileError, check_rows, measured_rate
from shared.labels import Labels
from shared.noise import transition_matrix

MOST_CLASSES_DRAWN = 1_000
TOP = 10


@dataclass(frozen=True)
class Subject:
    """Noisy labels with what is needed to describe them."""

    title: str
    noise: NoiseFile
    class_names: tuple[str, ...]  # (C,)
    others: tuple[str, ...] = ()  # other columns of labels in the same file

    @property
    def num_classes(self) -> int:
        return len(self.class_names)


def describe(subject: Subject) -> str:
    """The whole report as text."""
    noise = subject.noise
    if not len(noise.noisy_labels):
        return printable(f"{subject.title}\n  no samples")
    lines = [subject.title, *facts(_facts(subject)), ""]
    if noise.clean_labels is None:
        lines += [
            "No clean labels in this file: rates need them (--dataset NAME --data_path DIR).",
            "",
            *_count_lines(subject),
        ]
    else:
        found = confusions.of_labels(noise.clean_labels, noise.noisy_labels, subject.class_names)
        if subject.num_classes <= MATRIX_CLASSES:
            table = confusions.class_table(found, "class")
            lines += [*table, "", *confusions.matrix(found, range(subject.num_classes))]
        else:
            lines += [*_count_lines(subject), *_summary_lines(found)]
    return printable("\n".join(lines))


def facts(known: dict[str, Any], width: int = 14) -> list[str]:
    """A line for each fact that is known."""
    return [f"  {name:<{width}}{value}" for name, value in known.items() if value is not None]


def _facts(subject: Subject) -> dict[str, Any]:
    noise, known = subject.noise, subject.noise.header
    measured = "unknown" if (rate := _rate(noise)) is None else f"{rate:.5f}"
    if noise.clean_labels is not None:
        measured += (
            f" ({(noise.clean_labels != noise.noisy_labels).sum():,} of "
            f"{len(noise.noisy_labels):,} labels wrong)"
        )
    replaced = None if noise.open_set is None else f"{noise.open_set.sum():,}"
    return {
        "dataset": known.dataset and f"{known.dataset}, {known.split or 'train'}",
        "samples": f"{len(noise.noisy_labels):,} ({_which(noise)})",
        "other columns": ", ".join(subject.others) or None,
        "kind": known.kind,
        "class map": known.class_map,
        "convention": known.convention and known.convention.replace("_", " "),
        "nominal rate": None if known.nominal_rate is None else f"{known.nominal_rate:g}",
        "measured rate": measured,
        "replaced": replaced and f"{replaced} images of another dataset",
        "seed": known.seed,
        "made by": known.generator,
        "clean labels": known.clean_labels_sha256 and f"SHA-256 {known.clean_labels_sha256}",
    }


def _rate(noise: NoiseFile) -> float | None:
    """The measured rate; a header need not say it."""
    if noise.clean_labels is None:
        return noise.header.measured_rate
    return measured_rate(noise.noisy_labels, noise.clean_labels, noise.open_set)


def _which(noise: NoiseFile) -> str:
    """Which samples are labelled."""
    if noise.names is not None:
        return f"by file name, such as {noise.names[0]}"
    first = noise.indices is not None and np.array_equal(
        noise.indices, np.arange(len(noise.indices))
    )
    if noise.order == "assumed":
        return f"assumed: {'the first' if first else 'all'} training samples, in order"
    if noise.order:
        mapped = "mapped to torchvision's" if noise.indices is not None else "not torchvision's"
        return f"in {noise.order.capitalize().replace('flow', 'Flow')}'s order, {mapped}"
    if noise.indices is None:
        return "the whole training set, in order"
    return f"{'the first ones' if first else 'chosen samples'} of the training set"


def _count_lines(subject: Subject) -> list[str]:
    counts = np.bincount(subject.noise.noisy_labels, minlength=subject.num_classes)
    if subject.num_classes > MATRIX_CLASSES:
        return [
            f"Labels per class: least {counts.min():,}, median {np.median(counts):,.0f}, most "
            f"{counts.max():,}"
        ]
    width = confusions.name_width(subject.class_names)
    rows = zip(subject.class_names, counts)
    return ["Labels per class", *(f"  {name:<{width}}{count:>9,}" for name, count in rows)]


def _summary_lines(found: Confusions) -> list[str]:
    names, sizes = found.names, found.clean_sizes
    present = np.flatnonzero(sizes)
    rates = found.changed[present] / sizes[present]
    noisiest = np.argsort(-rates, kind="stable")[:5]
    pairs = found.wrong_pairs()
    sources = np.array([source for source, _, _ in pairs], np.int64)
    different = np.bincount(sources, minlength=len(names))[present]
    lines = [
        f"Rate per class: least {rates.min():.2%}, median {np.median(rates):.2%}, most "
        f"{rates.max():.2%}",
        "Noisiest: " + ", ".join(f"{names[present[i]]} {rates[i]:.1%}" for i in noisiest),
        f"Different wrong labels per class: median {np.median(different):.0f}",
        "Commonest confusions",
    ]
    shares = sorted(((count / sizes[a], a, b) for a, b, count in pairs), key=lambda x: -x[0])
    for share, source, target in shares[:TOP]:
        lines.append(f"  {names[source]:<16} -> {names[target]:<16}{share:>7.1%}")
    return lines


def compare(first: NoiseFile, second: NoiseFile, names: tuple[str, str]) -> str:
    """How far two noise files agree, over the samples that both label.

    Raises NoiseFileError if they share none.
    """
    rows, one, two = _common(first, second, names)
    same = one.noisy_labels == two.noisy_labels
    lines = [
        *heading(names),
        f"samples in both        {len(rows):,} (A has {len(first.noisy_labels):,}, B has "
        f"{len(second.noisy_labels):,})",
        f"same label             {share(same)}",
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
            f"wrong in A             {share(wrong[0])}",
            f"wrong in B             {share(wrong[1])}",
            f"wrong in both          {share(wrong[0] & wrong[1])}, by chance "
            f"{wrong[0].mean() * wrong[1].mean():.2%}",
            f"  with the same label  {share(wrong[0] & same)}",
            f"wrong in A only        {share(wrong[0] & ~wrong[1])}",
            f"wrong in B only        {share(wrong[1] & ~wrong[0])}",
        ]
    lines += _replaced_lines(one, two)
    different = _difference_lines(rows[~same], one.noisy_labels[~same], two.noisy_labels[~same])
    return printable("\n".join([*lines, *different]))


def heading(names: Sequence[str]) -> list[str]:
    return [f"{letter}  {name}" for letter, name in zip("AB", names)]


def _replaced_lines(one: NoiseFile, two: NoiseFile) -> list[str]:
    """Open-set noise changes images and no label."""
    if one.open_set is None and two.open_set is None:
        return []
    first, second = (
        np.zeros(len(n.noisy_labels), bool) if n.open_set is None else n.open_set
        for n in (one, two)
    )
    return [
        f"images replaced in A    {share(first)}",
        f"images replaced in B    {share(second)}",
        f"images replaced in both {share(first & second)}",
    ]


def _difference_lines(rows: Labels, one: Labels, two: Labels) -> list[str]:
    if not len(rows):
        return ["The labels are the same."]
    pairs, counts = np.unique(np.stack([one, two], axis=1), axis=0, return_counts=True)
    order = np.argsort(-counts, kind="stable")[:TOP]
    return [
        "Different at samples   "
        + ", ".join(str(row) for row in rows[:TOP])
        + (", ..." if len(rows) > TOP else ""),
        "Commonest differences (A/B: samples)",
        "  " + ", ".join(f"{pairs[i][0]}/{pairs[i][1]}: {counts[i]:,}" for i in order),
    ]


def share(mask: NDArray[np.bool_]) -> str:
    """Number and percentage of True."""
    return f"{mask.sum():>9,} {mask.mean():>8.2%}"


def _common(
    first: NoiseFile, second: NoiseFile, names: tuple[str, str]
) -> tuple[Labels, NoiseFile, NoiseFile]:
    """The samples that both files label, and both files cut down to them in that order."""
    if first.names is not None or second.names is not None:
        raise NoiseFileError(
            f"{names[0]} or {names[1]} goes by file names: give --dataset and --data_path"
        )
    if first.order != second.order:
        check_rows(first)
        check_rows(second)
    counts = [len(n.noisy_labels) for n in (first, second)]
    if first.indices is None and second.indices is None and counts[0] != counts[1]:
        raise NoiseFileError(
            f"{names[0]} and {names[1]} have {counts[0]} and {counts[1]} labels of unknown "
            "samples: compare files of one set"
        )
    rows, at_first, at_second = np.intersect1d(
        first.rows, second.rows, assume_unique=True, return_indices=True
    )
    if not len(rows):
        raise NoiseFileError(
            f"{names[0]} and {names[1]} have no sample in common: compare files of one dataset"
        )
    return rows, subset(first, at_first), subset(second, at_second)


def _check_same_data(one: Labels, two: Labels, rows: Labels, names: tuple[str, str]) -> None:
    different = np.flatnonzero(one != two)
    if len(different):
        raise NoiseFileError(
            f"{names[0]} and {names[1]} belong to different data: {len(different):,} of "
            f"{len(rows):,} clean labels differ, first at sample {rows[different[0]]}: compare "
            "files of one dataset and one set of classes"
        )


def heat_map(subject: Subject) -> bytes:
    """The transition matrix as a PNG picture. Raises NoiseFileError without clean labels."""
    if subject.noise.clean_labels is None:
        raise NoiseFileError(
            "a plot needs the clean labels: give the dataset (--dataset NAME --data_path DIR)"
        )
    if subject.num_classes > MOST_CLASSES_DRAWN:
        raise NoiseFileError(
            f"a plot of {subject.num_classes:,} classes cannot be read: leave out --plot for more "
            f"than {MOST_CLASSES_DRAWN:,}"
        )
    from matplotlib.colors import PowerNorm  # a slow import that only this picture needs
    from matplotlib.figure import Figure

    matrix = transition_matrix(
        subject.noise.clean_labels, subject.noise.noisy_labels, subject.num_classes
    )
    side = 9.0 if subject.num_classes <= MATRIX_CLASSES else 11.0
    figure = Figure(figsize=(side, side * 0.87), dpi=120, layout="constrained")
    axes = figure.subplots()
    # Square root: with 100 classes most cells are below 1 %, and would look empty on a linear scale
    norm = PowerNorm(0.5, vmin=0, vmax=1)
    picture = axes.imshow(matrix, cmap="viridis", norm=norm, interpolation="nearest")
    figure.colorbar(
        picture,
        ax=axes,
        shrink=0.8,
        ticks=[0, 0.01, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1],
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
    step = 1 if few else 5 if subject.num_classes <= 100 else 50
    numbers = np.arange(0, subject.num_classes, step)
    names = [_plain(subject.class_names[number]) for number in numbers]
    texts = [
        name if few or name.endswith(f" {i}") else f"{name} {i}" for i, name in zip(numbers, names)
    ]
    turned = {"rotation": 45, "ha": "right"} if few else {"rotation": 90, "ha": "center"}
    axes.set_xticks(numbers, texts, fontsize=8, **turned)
    axes.set_yticks(numbers, texts, fontsize=8)
    axes.set_xlabel("label in the noise file" + (" (cells in %)" if few else ""))
    axes.set_ylabel("clean label")
    known = subject.noise.header
    kind = f"{known.kind}, " if known.kind and known.kind not in subject.title else ""
    title = _plain(f"{subject.title}\n{kind}measured noise rate {_rate(subject.noise):.2%}")
    axes.set_title(title, fontsize=11)


def _write_cells(axes: Any, matrix: NDArray[np.float64]) -> None:
    for (row, column), value in np.ndenumerate(matrix):
        color, size = "black" if value > 0.35 else "white", 8 if len(matrix) <= 10 else 6
        text = f"{100 * value:.1f}"
        axes.text(column, row, text, ha="center", va="center", color=color, fontsize=size)


def _plain(text: str) -> str:
    return printable(text).replace("$", r"\$")  # matplotlib would set it as a formula

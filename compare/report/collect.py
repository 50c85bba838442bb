"""Run folders as plain data: which methods there are, and what each thinks of every label.

    found = collect([Path("runs/compare-digits-pdn-0.4")])
    found.methods[0].quality            # (R, N): R runs of the method, N labels

A run is read by `shared.runs.reader`; a `label_quality.csv` of another program may be given as it
is. Runs that trained on other labels than the rest are refused, since no number could be compared.
Letters: N samples, R runs, C classes.
"""

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from compare.report.statistics import Flags, Floats, Labels, mean_over, vote
from shared.errors import UserError
from shared.formats import noise_file
from shared.runs.reader import LabelQuality, Run, Unread, find_runs, read_label_quality
from shared.runs.settings import told_apart

MAX_CLASSES = 10_000
UNKNOWN = -2  # a true label that nobody knows


class ReportError(UserError):
    """Runs that one report cannot be about; says which they are and what to give instead."""


@dataclass(frozen=True)
class Samples:
    """The N labels that the runs were trained on, all of them together."""

    index: Labels  # (N,) ascending rows of the dataset (or of the annotation file)
    files: tuple[str, ...]  # (N,) names; "" where samples are no files
    given: Labels  # (N,) in [0, C)
    clean: Labels  # (N,) in [0, C), -1: an image of no class; UNKNOWN
    class_names: tuple[str, ...]  # C
    dataset: str | None
    boxes: Floats | None = None  # (N, 4) x y w h in pixels, of annotations; NaN where unknown
    annotation_ids: Labels | None = None  # (N,), as boxes

    @property
    def wrong(self) -> Flags:
        """(N,) known to be wrong; an image of no class cannot have a right one."""
        return np.asarray(self.known & (self.clean != self.given))

    @property
    def known(self) -> Flags:
        """(N,) whether the truth is known."""
        return np.asarray(self.clean != UNKNOWN)

    @property
    def knows_truth(self) -> bool:
        return bool(self.known.any())


@dataclass(frozen=True)
class Method:
    """The runs of one method and what they say of the N samples."""

    title: str
    runs: tuple[Run, ...]  # empty: only a table was given
    trained_on: Labels  # (R,) numbers of samples; 0 where unknown
    quality: Floats  # (R, N), NaN where the run did not judge the sample
    predicted: Labels  # (R, N), -1 there
    is_issue: Flags  # (R, N), False there
    num_classes: int

    @cached_property
    def mean_quality(self) -> Floats:
        """(N,) over the runs, NaN where none judged."""
        return mean_over(self.quality)

    @cached_property
    def voted(self) -> Labels:
        """(N,) the label that most runs predict, -1 where none judged."""
        return vote(self.predicted, self.num_classes)

    @cached_property
    def flagged(self) -> Flags:
        """(N,) an issue for at least half of the runs that judged."""
        judged = (~np.isnan(self.quality)).sum(axis=0)
        return np.asarray((judged > 0) & (2 * self.is_issue.sum(axis=0) >= judged))

    @property
    def judged(self) -> Flags:
        return ~np.isnan(self.mean_quality)

    @property
    def has_opinion(self) -> bool:
        return bool(self.judged.any())


@dataclass(frozen=True)
class Collected:
    """What the report is about."""

    samples: Samples
    methods: tuple[Method, ...]
    left_out: tuple[Unread, ...]  # folders and files, with the reason
    notes: tuple[str, ...]  # what the reader of the page has to know


@dataclass(frozen=True, eq=False)
class _Source:
    """A run, or a table alone, with the labels it knows; n of them."""

    name: str
    title: str
    run: Run | None
    table: LabelQuality | None
    index: Labels | None  # (n,); None: labels unknown
    given: Labels | None
    clean: Labels | None
    dataset: str | None = None
    num_classes: int | None = None

    @property
    def project(self) -> str:
        return "" if self.run is None else self.run.project


def collect(places: Iterable[Path]) -> Collected:
    """Raises ReportError where nothing can be reported, or labels differ between the runs."""
    places = list(places)
    tables = [place for place in places if _is_table(place)]
    runs, left_out = find_runs([place for place in places if place not in tables])
    sources, notes = [], []
    for run in runs:
        source, note = _of_run(run)
        sources.append(source)
        notes += [note] if note else []
    for path in tables:
        try:
            sources.append(_of_table(path))
        except (UserError, OSError) as error:
            left_out.append(Unread(path, str(error)))
    if not sources:
        raise ReportError(
            "no run can be read there"
            + "".join(f"\n  {each.folder}: {each.reason}" for each in left_out)
            + "\ngive folders of finished runs, or folders that hold some"
        )
    _refuse_other_labels(sources)
    samples = _samples(sources)
    notes += [
        f"{source.name} does not record its noisy labels (no noise.npz), so that nobody can tell "
        "whether they are those of the others"
        for source in sources
        if source.index is None and len(sources) > 1
    ]
    return Collected(samples, _methods(sources, samples), tuple(left_out), tuple(notes))


# ---- reading


def _is_table(place: Path) -> bool:
    """Whether it is a table of label quality; a .csv may be a curve, too, which find_runs reads."""
    if not place.is_file():  # a folder, or a pipe, which would wait for ever
        return False
    try:
        with place.open("rb") as file:
            return b"label_quality" in file.readline(1000)
    except OSError:  # something for find_runs to complain about
        return False


def _of_run(run: Run) -> tuple[_Source, str | None]:
    """The run with its table and labels, and a note on what of it cannot be used."""
    name, note = str(run.folder), None
    table, noise = None, None
    try:
        if run.label_quality_path is not None:
            table = read_label_quality(run.label_quality_path)
    except (UserError, OSError) as error:
        note = f"the verdict of {name} is left out: {error}"
    try:
        if run.noise_path is not None:
            noise = noise_file.read(run.noise_path)
    except (UserError, OSError) as error:
        note = f"the labels of {name} cannot be read: {error}"
    source = _with_labels(name, run.title, run, table)
    if noise is None:
        return source, note
    if table is None:
        source = replace(
            source, index=noise.rows, given=noise.noisy_labels, clean=noise.clean_labels
        )
    header = noise.header
    return replace(source, dataset=header.dataset, num_classes=header.num_classes), note


def _of_table(path: Path) -> _Source:
    title = path.parent.name if path.stem == "label_quality" else path.stem
    return _with_labels(str(path), title or path.stem, None, read_label_quality(path))


def _with_labels(name: str, title: str, run: Run | None, table: LabelQuality | None) -> _Source:
    """A source that knows no labels but those of its table."""
    if table is None:
        return _Source(name, title, run, None, None, None, None)
    return _Source(name, title, run, table, table.index, table.given, table.clean)


# ---- comparing


def _refuse_other_labels(sources: Sequence[_Source]) -> None:
    metrics = {source.run.metric for source in sources if source.run}
    if len(metrics) > 1:
        raise ReportError(
            f"some runs report {' and others '.join(sorted(metrics))}: make one report for each"
        )
    groups: list[list[_Source]] = []
    for source in (each for each in sources if each.index is not None):
        home = next((g for g in groups if all(_same_labels(source, each) for each in g)), None)
        if home is None:
            groups.append([source])
        else:
            home.append(source)
    if len(groups) < 2:
        return
    lines = [
        f"\n  {number}. {', '.join(source.name for source in group)}"
        for number, group in enumerate(groups, start=1)
    ]
    raise ReportError(
        "the runs were trained on different noisy labels, so that no number of one says anything "
        f"about another: make one report for each of these{''.join(lines)}"
    )


def _same_labels(one: _Source, two: _Source) -> bool:
    """Whether they can be of one training set: equal labels wherever both have one."""
    if None not in (one.dataset, two.dataset) and one.dataset != two.dataset:
        return False
    (index_one, given_one), (index_two, given_two) = _labels(one), _labels(two)
    _, first, second = np.intersect1d(index_one, index_two, return_indices=True)
    names = [each.table.class_names if each.table else {} for each in (one, two)]
    known = names[0].keys() & names[1].keys()
    return (
        bool(len(first))
        and np.array_equal(given_one[first], given_two[second])
        and all(names[0][label] == names[1][label] for label in known)
    )


def _labels(source: _Source) -> tuple[Labels, Labels]:
    """index and given, of a source that knows its labels."""
    assert source.index is not None
    assert source.given is not None
    return source.index, source.given


def _samples(sources: Sequence[_Source]) -> Samples:
    """The union of what the sources know."""
    known = [source for source in sources if source.index is not None]
    index = np.unique(np.concatenate([np.zeros(0, np.int64), *(_labels(s)[0] for s in known)]))
    given, clean = np.full(len(index), -1), np.full(len(index), UNKNOWN)
    files = [""] * len(index)
    boxes, annotations = np.full((len(index), 4), np.nan), np.full(len(index), -1)
    for source in known:
        rows = np.searchsorted(index, _labels(source)[0])
        given[rows] = source.given
        if source.clean is not None:
            clean[rows] = source.clean
        if (table := source.table) is None:
            continue
        for row, name in zip(rows.tolist(), table.images or table.files):
            files[row] = name
        if table.bbox is not None and table.annotation_id is not None:
            boxes[rows], annotations[rows] = table.bbox, table.annotation_id
    are_objects = bool((annotations >= 0).any())
    return Samples(
        index=index,
        files=tuple(files),
        given=given,
        clean=clean,
        class_names=_class_names(known, given, clean),
        dataset=next((source.dataset for source in known if source.dataset), None),
        boxes=boxes if are_objects else None,
        annotation_ids=annotations if are_objects else None,
    )


def _class_names(known: Sequence[_Source], given: Labels, clean: Labels) -> tuple[str, ...]:
    """By number; a class that no table names is called by its number."""
    names = {k: v for source in known if source.table for k, v in source.table.class_names.items()}
    highest = max([int(given.max(initial=-1)), int(clean.max(initial=-1)), *names])
    count = max([highest + 1, *(source.num_classes or 0 for source in known)])
    if count > MAX_CLASSES:
        raise ReportError(f"the labels go up to {count - 1:,}: are these labels of classes?")
    return tuple(names.get(label) or str(label) for label in range(count))


def _methods(sources: Sequence[_Source], samples: Samples) -> tuple[Method, ...]:
    """Runs of one method that differ in their seeds alone together; the others each for itself."""
    titles = _titles(sources)
    return tuple(
        _method(title, [s for s, own in zip(sources, titles) if own == title], samples)
        for title in dict.fromkeys(titles)
    )


def _titles(sources: Sequence[_Source]) -> list[str]:
    """The method's name, with what tells it from another one of the same name.

    That is the project, the settings, and of runs of one seed that have the same ones the folder.
    """
    projects = Counter(title for title, _ in {(s.title, s.project) for s in sources})
    names = [
        f"{s.title} ({s.project})" if projects[s.title] > 1 and s.project else s.title
        for s in sources
    ]
    names = _with_settings(names, sources)
    seeds = Counter((name, s.run.seed if s.run else None) for name, s in zip(names, sources))
    repeated = {name for (name, _), count in seeds.items() if count > 1}
    places = {
        name: _parent([s for s, own in zip(sources, names) if own == name]) for name in repeated
    }
    return [
        f"{name}: {os.path.relpath(s.name, places[name])}" if name in repeated else name
        for name, s in zip(names, sources)
    ]


def _with_settings(names: Sequence[str], sources: Sequence[_Source]) -> list[str]:
    """The names with the settings in which runs of one name differ."""
    found = list(names)
    for name in set(names):
        runs = {row: s.run for row, s in enumerate(sources) if names[row] == name and s.run}
        for row, settings in zip(runs, told_apart([*runs.values()])):
            found[row] = f"{name} ({settings})" if settings else name
    return found


def _parent(sources: Sequence[_Source]) -> str:
    """The folder that all of them are in, so that their paths below it tell them apart."""
    return os.path.commonpath([Path(source.name).absolute().parent for source in sources])


def _method(title: str, sources: Sequence[_Source], samples: Samples) -> Method:
    shape = len(sources), len(samples.index)
    quality = np.full(shape, np.nan)
    predicted, is_issue = np.full(shape, -1), np.zeros(shape, bool)
    for row, source in enumerate(sources):
        if (table := source.table) is None:
            continue
        columns = np.searchsorted(samples.index, table.index)
        quality[row, columns] = table.quality
        predicted[row, columns] = table.predicted
        is_issue[row, columns] = table.is_issue
    return Method(
        title=title,
        runs=tuple(source.run for source in sources if source.run is not None),
        trained_on=np.array([0 if s.index is None else len(s.index) for s in sources]),
        quality=quality,
        predicted=predicted,
        is_issue=is_issue,
        num_classes=len(samples.class_names),
    )

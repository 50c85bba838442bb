"""What `python -m shared noise make|add|info|convert|compare` do, once the flags are parsed."""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from shared import datasets
from shared.cli import coco as coco_cli
from shared.cli.common import given, say
from shared.coco import file as coco_file
from shared.datasets.image_data import ImageData, ImageFiles
from shared.files import must_write, save
from shared.formats import external, safe_arrays, text_table
from shared.formats import report as noise_report
from shared.formats.alignment import aligned
from shared.formats.corrections import replaced
from shared.formats.noise_file import NoiseFile, NoiseFileError
from shared.labels import MOST_CLASSES
from shared.noise import on_top as noise_on_top
from shared.noise.kinds import FILES, TABLE, Floats, takers
from shared.noise.recipe import Recipe, generate


@dataclass(frozen=True)
class Source:
    """A noise file as a command line names it, with the dataset to check it against."""

    file: str  # FILE or FILE:COLUMN
    column: str | None = None
    dataset: str | None = None
    data_path: str | None = None
    accept: bool = False  # labels that look like those of other samples
    labels: Path | None = None  # of the dataset `folder`, a CSV
    skip_broken: bool = False  # leave out pictures of the dataset that cannot be read

    @property
    def title(self) -> str:
        path, column = external.split_column(self.file, self.column)
        return path.name if column is None else f"{path.name}, column {column}"

    def read(self) -> tuple[NoiseFile, ImageData | ImageFiles | None]:
        """The noise file; with a dataset, checked against it and completed by its clean labels.

        Corrected labels of own pictures have none (`alignment.truth`).
        """
        noise = external.read_any(self.file, self.column)
        if self.dataset is None:
            if flags := [flag for flag in self.dataset_flags() if flag != "--column"]:
                raise NoiseFileError(
                    f"{flags[0]} is about a dataset, and does not say which: add --dataset"
                )
            return noise, None
        data = datasets.load_labels(
            self.dataset, self.data_path, labels=self.labels, skip_broken=self.skip_broken
        )
        whole = aligned(noise, data, accept=self.accept, split=noise.header.split or "train")
        if np.array_equal(whole.rows, np.arange(len(data.train_labels))):
            whole = dataclasses.replace(whole, indices=None)
        return whole, data

    def dataset_flags(self) -> list[str]:
        """The flags about a dataset, or a column, that were given."""
        flags = {
            "--column": self.column,
            "--dataset": self.dataset,
            "--data_path": self.data_path,
            "--labels": self.labels,
            "--skip_broken": self.skip_broken or None,
            "--accept_labels": self.accept or None,
        }
        return given(dict(flags))


def run_make(
    recipe: Recipe,
    dataset: str,
    read: Callable[[], ImageData],
    files: dict[str, Path | None],
    out: Path,
    force: bool,
) -> None:
    """Generate noisy labels and write them; what cannot work is refused before data is read.

    read: loads the dataset. files: the arrays of `kinds.FILES` that were given.
    """
    recipe.check_for(dataset)
    format = external.format_of(out)
    if recipe.kind == "open_set" and format not in external.OPEN_SET_FORMATS:
        raise NoiseFileError(
            f"a .{format} file cannot say which images are replaced: write .npz or .csv"
        )
    arrays = {name: _read_array(recipe.kind, name, path) for name, path in files.items()}
    _save(out, generate(recipe, read(), **arrays), format, force)


def _read_array(kind: str, name: str, path: Path | None) -> Floats | None:
    """The floats of a file that one kind needs and no other takes."""
    if name != TABLE[kind].file:
        if path is not None:
            raise NoiseFileError(f"--{name} is for {takers(name)} noise: leave it out for {kind}")
        return None
    if path is None:
        raise NoiseFileError(f"{kind} noise needs --{name} FILE.npy: {FILES[name]} floats")
    try:
        data = safe_arrays.read_limited(path)
        if name == "matrix" and path.suffix.lower() in (".csv", ".txt"):
            return text_table.floats(data)
        return safe_arrays.parse_npy(data, "f")
    except (OSError, safe_arrays.UnsafeArrayError) as error:
        raise NoiseFileError(f"cannot read --{name} {path}: {error}") from error


def run_add(source: Source, top: noise_on_top.OnTop, out: Path, force: bool) -> None:
    """Put noise on top of the labels of a file and write them."""
    format = external.format_of(out)
    base, _ = source.read()
    _save(out, noise_on_top.add(base, top), format, force)


def run_info(source: Source, plot: Path | None) -> None:
    """Print the report on one file, or the columns to choose from."""
    path, column = external.split_column(source.file, source.column)
    if coco_file.is_coco(path):
        say(coco_cli.info(path, given({"--plot": plot}) + source.dataset_flags()))
        return
    if plot is not None and plot.suffix.lower() != ".png":
        raise NoiseFileError(f"{plot}: the plot is a PNG picture, so let its name end in .png")
    names = [] if column else external.columns(path)
    usual = external.default_column(path) if names else None
    if len(names) > 1 and usual is None:
        if plot is not None or source.dataset is not None:
            raise NoiseFileError(
                f"{path} has several columns: choose one of {', '.join(names)} with --column"
            )
        say(_list_columns(path, names))
        return
    noise, data = source.read()
    others = tuple(name for name in names if name != usual) if len(names) > 2 else ()
    title = source.title if column or not others else f"{path.name}, column {usual}"
    subject = noise_report.Subject(title, noise, _class_names(noise, data), others)
    text = noise_report.describe(subject)
    if plot is not None:
        save(plot, noise_report.heat_map(subject), "--plot")
    say(text if plot is None else f"{text}\n\nwrote {plot}")


def run_convert(source: Source, base: str | None, out: Path, force: bool) -> None:
    """Write one file in another format; or, with `base`, that file with the labels of `source`."""
    format = external.format_of(out)
    noise, _ = source.read()
    if base is not None:
        whole, _ = dataclasses.replace(source, file=base, column=None).read()
        noise = replaced(whole, noise)
    _save(out, noise, format, force)


def run_compare(sources: Sequence[Source]) -> None:
    """Print how far two files agree."""
    first, second = (source.file for source in sources)
    if any(coco_file.is_coco(Path(name)) for name in (first, second)):
        say(coco_cli.compare(first, second, sources[0].dataset_flags()))
        return
    one, two = (source.read()[0] for source in sources)
    say(noise_report.compare(one, two, (first, second)))


def _save(path: Path, noise: NoiseFile, format: str, force: bool) -> None:
    """Write the file unless another one is there, and say what it is."""
    content = external.encode_any(noise, format)
    if not must_write(path, content, force):
        say(f"unchanged: {path} has these very labels already")
        return
    save(path, content)
    rate = noise.header.measured_rate
    measured = "" if rate is None else f", measured rate {rate:.5f}"
    say(f"wrote {path}: {len(noise.noisy_labels):,} labels{measured}")
    if format != "npz" and noise.header.generator is not None:
        say(f"note: a .{format} file does not keep seed, rate and origin; .npz does")


def _list_columns(path: Path, names: Sequence[str]) -> str:
    lines = [
        f"{path} has several columns of labels. Choose one as {path.name}:COLUMN or with --column"
    ]
    rates = external.rates(path)
    for name in names:
        rate = rates.get(name)
        known = "rate unknown" if rate is None else f"rate {rate:.5f}"
        lines.append(f"  {name:<22}{known if name in rates else 'no labels'}")
    return "\n".join(lines)


def _class_names(noise: NoiseFile, data: ImageData | ImageFiles | None) -> tuple[str, ...]:
    """Names of the C classes: the dataset's where it is known, else their numbers."""
    if data is not None:
        return data.class_names
    arrays = [labels for labels in (noise.noisy_labels, noise.clean_labels) if labels is not None]
    needed = max(int(labels.max(initial=0)) for labels in arrays) + 1
    if noise.header.dataset in datasets.CIFAR:
        names = datasets.CIFAR[noise.header.dataset].class_names
        if needed <= len(names) and noise.header.num_classes in (None, len(names)):
            return names
    count = noise.header.num_classes or needed
    if count > MOST_CLASSES:
        raise NoiseFileError(
            f"{str(count)[:30]} classes are too many to describe; are these labels?"
        )
    return tuple(f"class {number}" for number in range(count))

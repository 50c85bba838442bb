"""What is asked, and the labels that all methods are to be trained on because of it.

    question = Question("cifar10", noise_file="sym0.4.csv", limit=2000)
    task = prepare(question, folder)     # writes <folder>/noise.npz and, with a limit, data.npz

One noise file is made or converted once. With a limit its part of the training set becomes a data
set of its own, an `.npz` of arrays, which every project takes: so all get the same images. Own
pictures whose labels are wrong as they are need no noise file. Letters: N samples trained on.
"""

import csv
import io
import json
import re
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compare.methods import SMALL, Sizes
from shared import datasets
from shared.datasets.image_data import AnyData, ImageData
from shared.errors import UserError
from shared.files import array_hash, save
from shared.formats import noise_file
from shared.formats.alignment import aligned, evenly, origin
from shared.formats.external import read_any, split_column
from shared.formats.noise_file import NoiseFile, make
from shared.noise.kinds import DEFAULT_MAPS, TABLE
from shared.noise.recipe import Recipe, generate, usual_seed

DATASETS = ("digits", "cifar10", "cifar100", "folder")
# Kinds that a rate alone defines and that every method can be trained on
KINDS = tuple(
    name
    for name, kind in TABLE.items()
    if kind.file is None and kind.needs_rate and name not in ("open_set", "long_tail")
)
USUAL_KIND, USUAL_RATE = "pdn", 0.4
NOISE, DATA, LABELS, PLAN = "noise.npz", "data.npz", "labels.csv", "plan.json"
ARRAY = "array.sbatch"  # of `slurm`: the runs were handed to other machines


@dataclass(frozen=True)
class Question:
    """A data set with its noise, and flags for every script; files by their absolute paths.

    Raises UserError for what cannot be.
    Without kind and noise_file, labels of `folder` are taken as they are; other sets get
    USUAL_KIND.
    """

    dataset: str = "digits"  # one of DATASETS
    kind: str | None = None  # one of KINDS
    rate: float | None = None  # with a kind; USUAL_RATE
    noise_file: str | None = None  # FILE or FILE:COLUMN, of any format
    data: str | None = None  # where the data are; of folder the folder, or an .npz
    labels: str | None = None  # CSV of the labels of folder's pictures
    limit: int | None = None  # N at most
    further: str = ""  # flags of the scripts, see `plan.further_flags`

    def __post_init__(self) -> None:
        if self.kind is not None and self.noise_file is not None:
            raise UserError(
                f"--kind {self.kind} and --noise_file {self.noise_file} both say what the noise "
                "is: leave one of them out"
            )
        if self.rate is not None and self.noise_file is not None:
            raise UserError(
                f"--rate {self.rate} (make: RATE) is for noise that is made, and --noise_file "
                f"{self.noise_file} (make: NOISE_FILE) is as it is: leave one of them out"
            )
        if self.rate is not None and self.own and self.kind is None:
            raise UserError(
                f"--rate {self.rate} (make: RATE) is for noise that is made, and own pictures get "
                "none: name its --kind (make: KIND) too, or leave it out"
            )
        if self.own and self.data is None:
            raise UserError("--dataset folder needs --data: the folder of your pictures")
        if self.data is not None and self.dataset == "digits":
            raise UserError(
                "--data (make: DATA) is for the other data sets, since digits come with "
                "scikit-learn: for pictures of your own say --dataset folder (make: DATASET=folder)"
            )
        if self.labels is not None and not self.own:
            raise UserError(f"--labels is for --dataset folder: leave it out for {self.dataset}")
        if self.limit is not None and (self.dataset == "digits" or self.limit < 1):
            raise UserError(
                f"--limit {self.limit}: give 1 or more, for cifar10, cifar100 or folder; digits "
                "are few already"
            )
        if not self.own and self.kind is None and self.noise_file is None:
            object.__setattr__(self, "kind", USUAL_KIND)
        if self.kind is not None and self.rate is None:
            object.__setattr__(self, "rate", USUAL_RATE)
        if self.rate is not None and not 0 <= self.rate <= 1:
            raise UserError(f"--rate {self.rate} (make: RATE) is outside [0, 1]: 0.4 means 40 %")
        if self.kind == "asymmetric" and self.dataset not in DEFAULT_MAPS:
            raise UserError(
                f"--kind asymmetric (make: KIND) is for {' and '.join(DEFAULT_MAPS)}, of which it "
                "is known what is taken for what: choose another kind, such as pair_flip, or give "
                "a file with --noise_file (make: NOISE_FILE), made by `python -m shared noise make "
                "--kind asymmetric --map ...`"
            )

    @property
    def own(self) -> bool:
        return self.dataset == "folder"

    @property
    def name(self) -> str:
        """Of its folder: the data, the noise and the limit."""
        words = [Path(str(self.data)).name if self.own else self.dataset]
        if self.kind is not None:
            words += [self.kind, f"{self.rate:g}"]
        if self.noise_file is not None:
            words.append(Path(self.noise_file).name)
        if self.limit is not None:
            words.append(f"{self.limit}_images")
        return "-".join(["compare", *(re.sub(r"[^\w.]+", "_", word) for word in words)])


@dataclass(frozen=True)
class Task:
    """What a script is told about data and labels; files by their absolute paths."""

    dataset: str  # one of DATASETS
    data_path: str | None  # None: embedded
    labels: str | None  # CSV
    noise_file: str | None  # None: the labels as they are
    samples: int  # N
    classes: int
    smallest: int | None = None  # images of the smallest class; None: an older plan has no entry
    smallest_class: str = ""  # its name

    @property
    def sizes(self) -> Sizes:
        smallest = self.samples // self.classes if self.smallest is None else self.smallest
        return Sizes(self.samples, self.classes, smallest)

    @property
    def preset(self) -> str:
        """The kind of data set, a key of `methods.Method.flags`."""
        if self.dataset == "digits":
            return "digits"
        return "small" if self.samples <= SMALL else "paper"


def prepare(question: Question, folder: Path) -> Task:
    """The task of a question, whose files are in the folder afterwards.

    Raises UserError where the folder belongs to another question or to other labels, and what
    readers of data and noise files raise.
    """
    before = _plan(folder)
    is_free = before is not None and not _is_begun(folder)
    if is_free:
        before = None
    if before is not None:
        _check_question(question, before["question"], folder)
    data = _load(question)
    noise = _noise(question, data)
    are_corrected = noise is not None and noise.clean_labels is None
    if noise is not None and are_corrected:
        data, noise = replace(data, train_labels=noise.noisy_labels), None
    given = array_hash(data.train_labels, data.test_labels, np.array(data.train_names, np.str_))
    if before is not None and before.get("given_sha256", given) != given:
        raise _other_labels(folder)
    best = data.train_labels  # the truest labels that are known
    place = None if question.dataset == "digits" else datasets.data_root(question.data).absolute()
    task = Task(
        question.dataset,
        data_path=None if place is None else str(place),
        labels=question.labels,
        noise_file=None,
        samples=len(data.train_labels),
        classes=data.num_classes,
    )
    if question.limit is not None:
        assert isinstance(data, ImageData)  # `_load` reads the images then
        rows = np.arange(len(data.train_labels)) if noise is None else noise.rows
        part = evenly(len(rows), question.limit)
        best, arrays = data.train_labels[rows[part]], _arrays(data, rows[part], question.limit)
        noise = None if noise is None else _cut(noise, part)
        task = replace(
            task, dataset="folder", data_path=str(folder / DATA), labels=None, samples=len(part)
        )
    elif are_corrected:
        _save_labels(folder / LABELS, _listed(data), is_free)
        if question.labels is not None:  # a class that lost all its pictures has no number then
            data = datasets.load_labels(question.dataset, question.data, labels=folder / LABELS)
            best = data.train_labels
        task = replace(task, labels=str(folder / LABELS), classes=data.num_classes)
    if noise is not None:
        assert noise.clean_labels is not None  # else they were taken for corrected ones
        best = noise.clean_labels
        _save_labels(folder / NOISE, noise_file.encode(noise), is_free)
        task = replace(task, noise_file=str(folder / NOISE), samples=len(best))
    if question.limit is not None:  # after the labels, which may be refused
        save(folder / DATA, arrays)
    sizes = np.bincount(best, minlength=data.num_classes)
    task = replace(
        task, smallest=int(sizes.min()), smallest_class=data.class_names[int(sizes.argmin())]
    )
    known = {"question": asdict(question), "task": asdict(task), "given_sha256": given}
    save(folder / PLAN, (json.dumps(known, indent=1) + "\n").encode())
    return task


def read_task(folder: Path) -> Task:
    """The task of a comparison's folder. Raises UserError where it is none."""
    plan = _plan(folder, "give the folder of a comparison")
    if plan is None:
        raise UserError(f"{folder} has no {PLAN}: give the folder of a comparison")
    task: Task = plan["task"]
    return task


def _plan(
    folder: Path, fix: str = "choose another --folder (make: FOLDER)"
) -> dict[str, Any] | None:
    """What plan.json holds, with the fields of a Question and a Task. Raises UserError."""
    try:
        plan: dict[str, Any] = json.loads((folder / PLAN).read_text())
        known = {name: plan["question"][name] for name in Question.__dataclass_fields__}
        return plan | {"question": known, "task": Task(**plan["task"])}
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UserError(f"{folder / PLAN} cannot be read ({error.strerror}): {fix}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{folder / PLAN} is not of a comparison, or damaged: {fix}") from error


def _is_begun(folder: Path) -> bool:
    """Whether anything was trained for the folder's plan, or handed to other machines."""
    marks = (ARRAY, "*-seed*/metrics.jsonl", "*-seed*/*.ckpt*")
    return any(True for mark in marks for _ in folder.glob(mark))


def _check_question(question: Question, before: dict[str, Any], folder: Path) -> None:
    """Two questions never share a folder."""
    for name, value in asdict(question).items():
        if before[name] != value:
            flag = "args" if name == "further" else name
            raise UserError(
                f"{folder} is the comparison with --{flag} {before[name]!r}, not {value!r}: choose "
                "another --folder (make: FOLDER)"
            )


def _load(question: Question) -> AnyData:
    """The data set, with its images where the noise or the limit needs them."""
    labels = None if question.labels is None else Path(question.labels)
    if question.kind is None and question.limit is None:
        return datasets.load_labels(question.dataset, question.data, labels=labels)
    return datasets.load(question.dataset, question.data, labels=labels)


def _noise(question: Question, data: AnyData) -> NoiseFile | None:
    """The labels as a noise file, aligned with the data set; None: they are its own.

    Corrected labels of own pictures take the place of the old ones, which are no truth: they have
    no clean labels.
    """
    if question.kind is not None:
        assert question.rate is not None  # set with the kind
        try:
            return generate(Recipe(question.kind, question.rate, usual_seed(question.kind)), data)
        except ValueError as error:
            raise UserError(
                f"{error}; noise that takes more than a kind and a rate is made by `make noise` "
                "and given with --noise_file (make: NOISE_FILE)"
            ) from error
    if question.noise_file is None:
        return None
    found = read_any(question.noise_file)
    if found.open_set is not None and found.open_set.any():
        raise UserError(
            f"{question.noise_file} replaces images instead of labels (open-set noise), which "
            "most of the methods do not know: give a file of labels"
        )
    noise = aligned(found, data)
    if noise.clean_labels is not None:
        return noise
    if len(noise.noisy_labels) < len(data.train_labels):
        raise UserError(
            f"{question.noise_file} corrects the labels of {len(noise.noisy_labels):,} of "
            f"{len(data.train_labels):,} pictures: put them into those of all with `python -m "
            "shared noise convert FILE OUT.npz --onto NOISE_FILE`"
        )
    if not data.train_names and question.limit is None:
        raise UserError(
            f"{question.noise_file} corrects the labels of {question.data}: write them into that "
            "file, as its train_labels"
        )
    return make(noise.noisy_labels[np.argsort(noise.rows)])


def _cut(noise: NoiseFile, part: NDArray[np.int64]) -> NoiseFile:
    """Some of the labels as those of a data set of its own. part: positions in the file."""
    assert noise.clean_labels is not None  # made or aligned, so that they are known
    known = origin(noise) | {"dataset": "folder"}
    return make(noise.noisy_labels[part], clean_labels=noise.clean_labels[part], **known)


def _arrays(data: ImageData, rows: NDArray[np.int64], limit: int) -> bytes:
    """A part of the data set as the `.npz` that is a data set; `rows` are its rows in the whole."""
    tested = evenly(len(data.test_labels), limit)
    stream = io.BytesIO()
    np.savez(
        stream,
        train_images=data.train_images[rows],
        train_labels=data.train_labels[rows],
        test_images=data.test_images[tested],
        test_labels=data.test_labels[tested],
        class_names=np.array(data.class_names),
        rows=rows,
    )
    return stream.getvalue()


def _listed(data: AnyData) -> bytes:
    """The names of the training pictures and of their classes, as the CSV that scripts take."""
    stream = io.StringIO()
    table = csv.writer(stream, lineterminator="\n")
    table.writerow(["filename", "label"])
    classes = (data.class_names[label] for label in data.train_labels)
    table.writerows(zip(data.train_names, classes))
    return stream.getvalue().encode()


def _save_labels(path: Path, content: bytes, may_replace: bool) -> None:
    """Write the labels, or find the same ones there. Raises UserError for other ones."""
    if path.exists() and path.read_bytes() != content and not may_replace:
        raise _other_labels(path)
    save(path, content)


def _other_labels(place: Path) -> UserError:
    return UserError(
        f"{place} holds other labels than are asked for now, so the noise file or the data changed "
        "since: choose another --folder (make: FOLDER)"
    )


def absolute(file: str) -> str:
    """FILE or FILE:COLUMN with an absolute path."""
    path, column = split_column(file)
    return f"{path.absolute()}{'' if column is None else f':{column}'}"

"""PMD labels from a teacher's outputs, the files that hold them, and what is said of them.

Letters: N training images, C classes.
"""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from shared import run_folder
from shared.datasets.image_data import ImageData
from shared.files import write_atomically
from shared.formats.external import encode_any, format_of, read_any
from shared.formats.noise_file import NoiseFile, NoiseFileError
from shared.labels import Labels
from shared.noise import transition_matrix
from shared.noise.on_top import OnTop, add
from shared.noise.recipe import Recipe, generate

from .config import LABELS_FOLDER
from .device import choose_device
from .errors import UsageError
from .own_pictures import in_memory
from .pmd_teacher import training_part
from .tool_schema import PMDConfig


class Plan:
    """What is to be made, everything checked that needs no data. Raises UsageError."""

    def __init__(self, config: PMDConfig) -> None:
        self.config = config
        self.top: OnTop | None = None
        try:
            kind, factor = config.noise_type, config.noise_factor
            self.recipe = Recipe("pmd", config.rate, config.seed, pmd_type=kind, factor=factor)
            for name, rate in (("uniform", config.uniform), ("asymmetric", config.asymmetric)):
                if rate is not None:
                    self.top = OnTop(name, rate, config.on_top_seed)
            # A plain list of 45,000 is known to be of the first 45,000 images, and of no others.
            plain = config.dataset.startswith("cifar") and not config.limit_train
            self.formats = ("npy", "npz") if plain else ("npz",)
            self._check_out(config.out)
        except ValueError as error:
            raise UsageError(str(error)) from error

    def _check_out(self, out: Path | None) -> None:
        if out is not None and format_of(out) not in self.formats:
            raise UsageError(
                f"--out {out}: such a file cannot say which training images the labels belong to; "
                f"write .{' or .'.join(self.formats)}"
            )
        if out is not None and out.exists() and not self.config.resume:
            raise UsageError(f"--out {out} exists: choose another name, or delete it")

    @property
    def folder(self) -> Path:
        return self.config.output_dir or LABELS_FOLDER

    def name(self, pmd_rate: float) -> str:
        """The published name: dataset, type, realised rate of PMD, what is on top."""
        config, top = self.config, self.top
        words = [f"{config.dataset}-{config.noise_type}-{pmd_rate:.2f}"]
        words += [f"{top.kind[0].upper()}_{top.rate:g}"] if top else []
        return "_".join(words + ([f"n{config.limit_train}"] if config.limit_train else []))


def load(config: PMDConfig) -> tuple[ImageData, Labels]:
    """The training part of the dataset, and its rows in the whole training set, (N,)."""
    part, rows = training_part(in_memory(config, config.dataset), config.limit_train)
    # DEVIATION(lra_diffusion): two classes have no formula of their own; PLC's generator has one
    # for them, in which only one class is ever mislabelled.
    if part.num_classes < 2:
        raise UsageError(f"{config.dataset} has a single class, so that no label can be wrong")
    return part, rows


def choose(config: PMDConfig) -> torch.device:
    """The device of --device, or of PLC's --gpus: its first GPU, where there is CUDA."""
    if config.gpus is None:
        return choose_device(config.device)
    first = config.gpus.split(",")[0].strip()
    if not first.isdecimal():
        raise UsageError(f"--gpus {config.gpus}: give the number of a GPU, as in --gpus 0")
    if not torch.cuda.is_available():
        print("note: this machine has no CUDA GPU, --gpus has no effect")
        return choose_device("auto")
    if first != config.gpus.strip():
        print(f"note: the teacher trains on one GPU, number {first}")
    return choose_device(f"cuda:{first}")


def noisy_labels(
    plan: Plan, part: ImageData, rows: Labels, eta: NDArray[Any]
) -> tuple[NoiseFile, float]:
    """The labels of the training part, with their rows, and the realised rate of the PMD noise.

    part: N images; rows: (N,); eta: (N, C). Raises UsageError for a rate that the teacher cannot
    reach.
    """
    try:
        noise = generate(plan.recipe, part, eta=eta)
    except ValueError as error:
        raise UsageError(str(error)) from error
    pmd_rate = noise.header.measured_rate
    assert pmd_rate is not None  # the clean labels are known
    if plan.top is not None:
        noise = add(noise, plan.top)
    return replace(noise, indices=rows), pmd_rate


def write_labels(plan: Plan, noise: NoiseFile, pmd_rate: float) -> list[Path]:
    """Writes --out, or the published file and ours; nothing where other labels are in the way.

    Raises RunFolderError where another process writes them.
    """
    name, out = plan.name(pmd_rate), plan.config.out
    files = [out] if out else [plan.folder / f"{name}.{ending}" for ending in plan.formats]
    contents = {path: encode_any(noise, format_of(path)) for path in files}
    place_of_lock = files[0].with_name(f".{files[0].name}.lock")
    with run_folder.locked(place_of_lock, "--out"):
        try:
            _write(contents, noise)
        finally:
            shutil.rmtree(place_of_lock, ignore_errors=True)
    return files


def _write(contents: dict[Path, bytes], noise: NoiseFile) -> None:
    # DEVIATION(lra_diffusion): a label file is never replaced by another one of its name; PLC's
    # generator writes over it, though the name tells neither seed nor teacher.
    for path in contents:
        if path.exists() and not _has_labels(path, noise):
            raise UsageError(
                f"{path} holds other labels: choose another --output_dir, or --out (the teacher "
                "is kept)"
            )
    for path, content in contents.items():
        write_atomically(path, content)


def _has_labels(path: Path, noise: NoiseFile) -> bool:
    try:
        found = read_any(path)
    except NoiseFileError:
        return False
    return np.array_equal(found.noisy_labels, noise.noisy_labels)


def confusions(
    noisy: Labels, clean: Labels, num_classes: int, count: int = 5
) -> list[tuple[int, int, float]]:
    """The largest P(noisy = b | clean = a), b other than a, as (a, b, P).

    noisy, clean: (N,) in [0, C).
    """
    matrix = transition_matrix(clean, noisy, num_classes).copy()
    np.fill_diagonal(matrix, 0)
    largest = np.argsort(-matrix, axis=None, kind="stable")[:count].tolist()
    cells = ((*divmod(cell, num_classes), float(matrix.flat[cell])) for cell in largest)
    return [cell for cell in cells if cell[2] > 0]


def print_facts(noise: NoiseFile, pmd_rate: float, part: ImageData, eta: NDArray[Any]) -> None:
    """Rates and confusions of the labels, and the teacher's own error."""
    noisy, clean, known = noise.noisy_labels, part.train_labels, noise.header
    print(f"{known.generator}")
    print(
        f"wrong labels: {known.measured_rate:.4f} of {len(noisy):,}; of the PMD noise alone "
        f"{pmd_rate:.4f}; the teacher's own mistakes {(eta.argmax(axis=1) != clean).mean():.4f}"
    )
    kept = transition_matrix(clean, noisy, part.num_classes).diagonal()[np.unique(clean)]
    print(f"labels kept, by class: {kept.min():.3f} to {kept.max():.3f}")
    names = part.class_names
    shown = (
        f"{names[a]} -> {names[b]} {share:.3f}"
        for a, b, share in confusions(noisy, clean, part.num_classes)
    )
    print(f"top confusions: {', '.join(shown)}")

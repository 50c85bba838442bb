"""The images and labels of a run: which train, which validate, which test.

CIFAR, digits and users' own images are in memory; Food-101N, Clothing1M and WebVision stay on disk.
Letters: N images, D width of a feature.
"""

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lra_diffusion.encoders.embeddings import from_files
from lra_diffusion.method.images import (
    CIFAR_NORMALISATION,
    CLOTHING1M_NORMALISATION,
    IMAGENET_NORMALISATION,
    DeviceImages,
    Images,
)
from lra_diffusion.method.progress import watched
from shared import datasets
from shared.datasets import clothing1m, food101n, webvision
from shared.datasets.image_data import ImageData, ImageFiles
from shared.files import array_hash
from shared.formats.alignment import evenly
from shared.formats.noise_file import NoiseFile, label_hash
from shared.labels import Labels

from . import image_files
from .errors import UsageError
from .image_files import DiskImages
from .labels import split, training_labels
from .presets import IN_MEMORY
from .schema import LabelConfig, TrainConfig

SIDE = 32  # pixels of the images in memory


@dataclass(frozen=True)
class Split:
    """N images and labels (N,) int64 on their device, with hashes of both.

    features: (N, D), where the user gives them. listing: name and size of each file, for images on
    disk: enough to notice pictures that were exchanged, without reading them all.
    """

    images: Images
    labels: Tensor
    images_sha256: str
    labels_sha256: str
    features: Tensor | None = None
    listing: tuple[str, ...] = ()

    def rows_sha256(self, rows: range) -> str:
        """A hash of some of the images, in a row."""
        if self.listing:
            return _hash_of(self.listing[rows.start : rows.stop])
        return f"{self.images_sha256} {rows.start} {rows.stop}"

    def without(self, broken: Collection[int]) -> "Split":
        """The images on disk but for some, and their labels."""
        assert isinstance(self.images, DiskImages)
        kept = [row for row in range(len(self.labels)) if row not in broken]
        labels = self.labels[torch.tensor(kept, dtype=torch.int64, device=self.labels.device)]
        listing = tuple(self.listing[row] for row in kept)
        return Split(
            self.images.subset(kept),
            labels,
            _hash_of(listing),
            label_hash(labels.cpu().numpy()),
            listing=listing,
        )


def _hash_of(listing: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(listing).encode()).hexdigest()


@dataclass(frozen=True)
class RunData:
    """All images and labels of a run."""

    name: str
    class_names: tuple[str, ...]
    image_side: int
    train: Split  # with the noisy labels
    clean: Labels | None  # the training images' clean labels; None if unknown
    tests: dict[str, Split]  # "val", if there is one, then "test"
    noise: NoiseFile | None  # of the training images; None for images on disk
    location: Path | None  # None: embedded
    features_sha256: str | None = None  # of --fp_embed_train, all of it

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @property
    def hashes(self) -> dict[str, str]:
        """What tells these data from others, for the identity of a run."""
        images = {
            f"{name}_sha256": part.images_sha256
            for name, part in {"train": self.train, **self.tests}.items()
        }
        labels = {f"{name}_labels_sha256": part.labels_sha256 for name, part in self.tests.items()}
        return images | labels | {"noisy_labels_sha256": self.train.labels_sha256}


def on_device(data: ImageData, pixels: NDArray[np.uint8], device: torch.device) -> DeviceImages:
    """Images (N, 32, 32, 3) uint8 of this dataset on the device.

    digits are neither moved nor mirrored: a mirrored 2 is not a digit, and with shifts even plain
    cross-entropy does not memorise wrong labels of so small a set.
    """
    augmented = data.name != "digits"
    padding = 4 if augmented else 0
    return DeviceImages(pixels, CIFAR_NORMALISATION, device, padding=padding, flip=augmented)


def load(config: LabelConfig, device: torch.device, noise: NoiseFile | None = None) -> RunData:
    """Everything a run looks at. Raises DatasetError, NoiseFileError or UsageError.

    noise: the labels, with the images they are of, if they are known already.
    """
    if config.dataset not in IN_MEMORY:
        assert isinstance(config, TrainConfig)  # cross-entropy is for images in memory
        return _on_disk(config, device)
    data = datasets.load(config.dataset, config.data_path)
    noise = noise or training_labels(config, data)
    given: tuple[Tensor | None, Tensor | None] = (None, None)
    if isinstance(config, TrainConfig) and config.fp_embed_train and config.fp_embed_test:
        counts = (len(data.train_labels), len(data.test_labels))
        given = from_files(config.fp_embed_train, config.fp_embed_test, counts)

    def part(
        pixels: NDArray[np.uint8], labels: Labels, rows: Labels, all_features: Tensor | None
    ) -> Split:
        features = None if all_features is None else all_features[torch.tensor(rows)].to(device)
        return Split(
            on_device(data, pixels[rows], device),
            torch.tensor(labels, device=device),
            array_hash(pixels[rows]),
            label_hash(labels),
            features,
        )

    tests = {}
    validates = split(data, config.no_validation)[1]
    if len(validates):
        rows = validates[evenly(len(validates), config.limit_test)]
        tests["val"] = part(data.train_images, data.train_labels[rows], rows, given[0])
    rows = evenly(len(data.test_labels), config.limit_test)
    tests["test"] = part(data.test_images, data.test_labels[rows], rows, given[1])
    assert noise.indices is not None  # of labels to train on
    return RunData(
        name=data.name,
        class_names=data.class_names,
        image_side=SIDE,
        noise=noise,
        location=data.location,
        tests=tests,
        train=part(data.train_images, noise.noisy_labels, noise.indices, given[0]),
        clean=noise.clean_labels,
        features_sha256=None if given[0] is None else array_hash(given[0].numpy()),
    )


def _on_disk(config: TrainConfig, device: torch.device) -> RunData:
    files = _files(config)
    parts = {
        "train": (files.train_files, files.train_labels, config.limit_train),
        "val": (files.val_files, files.val_labels, config.limit_test),
        "test": (files.test_files, files.test_labels, config.limit_test),
    }
    clothing = config.dataset == "clothing1m"
    normalisation = CLOTHING1M_NORMALISATION if clothing else IMAGENET_NORMALISATION
    splits = {}
    for split_name, (names, labels, limit) in parts.items():
        if not names:
            continue
        rows = evenly(len(names), limit)
        # WebVision's test images are ILSVRC2012's, which the published code resizes bilinearly.
        ilsvrc2012 = config.dataset == "webvision" and split_name == "test"
        paths = [files.root / names[row] for row in rows]
        listing = []
        groups = [rows[start : start + 1000] for start in range(0, len(rows), 1000)]
        for group in watched(groups, f"sizes of {split_name} images", unit="files"):
            listing += [f"{names[row]} {_size(files.root / names[row])}" for row in group]
        bicubic = not (clothing or ilsvrc2012)
        splits[split_name] = Split(
            DiskImages(paths, normalisation, device, config.num_workers, bicubic=bicubic),
            torch.tensor(labels[rows], device=device),
            _hash_of(listing),
            label_hash(labels[rows]),
            listing=tuple(listing),
        )
    train = splits.pop("train")
    if config.eval_only is None:
        check_classes(train.labels, files.num_classes, "raise --limit_train")
    return RunData(
        name=config.dataset,
        class_names=files.class_names,
        image_side=image_files.CROP,
        noise=None,
        clean=None,
        location=files.root,
        train=train,
        tests=splits,
    )


def check_classes(labels: Tensor, num_classes: int, fix: str) -> None:
    """Raises UsageError unless every class has an image to train on."""
    missing = np.setdiff1d(np.arange(num_classes), labels.cpu())
    if len(missing):
        raise UsageError(f"class {missing[0]} has no image among {len(labels)}: {fix}")


def _files(config: TrainConfig) -> ImageFiles:
    root = datasets.data_root(config.data_path)
    if config.dataset == "clothing1m":
        return clothing1m.load(root, selection="cc")
    if config.dataset == "food101n":
        return food101n.load(root)
    files = webvision.load(root)
    if config.script == "test_ILSVRC2012" and not files.test_files:
        # `find_ilsvrc2012` raises where it is missing altogether.
        raise UsageError(
            f"ILSVRC2012 is in {webvision.find_ilsvrc2012(root)}: move it to "
            f"{files.root / 'ILSVRC2012'}, beside WebVision"
        )
    return files


def _size(path: Path) -> int:
    """Bytes of a file, 0 for none."""
    return path.stat().st_size if path.exists() else 0

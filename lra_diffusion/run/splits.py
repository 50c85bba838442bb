"""The parts of a run's data: images and labels that train, validate or test.

Letters: N images, D width of a feature.
"""

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lra_diffusion.method.images import Images
from shared.formats.alignment import subset
from shared.formats.noise_file import NoiseFile, label_hash
from shared.labels import Labels

from .errors import UsageError
from .image_files import DiskImages


@dataclass(frozen=True)
class Split:
    """N images and labels (N,) int64 on their device, with hashes of both.

    features: (N, D), where the user gives them. listing: name and size of each file, for images on
    disk: enough to notice pictures that were exchanged, without reading them all. files: the N
    names, for images that come from files.
    """

    images: Images
    labels: Tensor
    images_sha256: str
    labels_sha256: str
    features: Tensor | None = None
    listing: tuple[str, ...] = ()
    files: tuple[str, ...] = ()

    def rows_sha256(self, rows: range) -> str:
        """A hash of some of the images, in a row."""
        if self.listing:
            return hash_of(self.listing[rows.start : rows.stop])
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
            hash_of(listing),
            label_hash(labels.cpu().numpy()),
            listing=listing,
            files=tuple(self.files[row] for row in kept),
        )


def hash_of(listing: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(listing).encode()).hexdigest()


@dataclass(frozen=True)
class RunData:
    """All images and labels of a run."""

    name: str
    class_names: tuple[str, ...]
    image_side: int
    train: Split  # with the noisy labels
    clean: Labels | None  # the training images' clean labels; None if unknown
    tests: dict[str, Split]  # "val", if there is one, then "test", which may be empty
    noise: NoiseFile  # of the training images
    location: Path | None  # None: embedded
    features_sha256: str | None = None  # of --fp_embed_train, all of it

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @property
    def tested(self) -> dict[str, int]:
        """How many images each set has that is tested on; pictures of one's own may have none."""
        return {name: len(part.labels) for name, part in self.tests.items() if len(part.labels)}

    @property
    def hashes(self) -> dict[str, str]:
        """What tells these data from others, for the identity of a run."""
        images = {
            f"{name}_sha256": part.images_sha256
            for name, part in {"train": self.train, **self.tests}.items()
        }
        labels = {f"{name}_labels_sha256": part.labels_sha256 for name, part in self.tests.items()}
        return images | labels | {"noisy_labels_sha256": self.train.labels_sha256}

    def without(self, broken: Mapping[str, Collection[int]]) -> "RunData":
        """All but some images on disk. broken: their rows by split."""
        tests = {
            name: part.without(broken[name]) if name in broken else part
            for name, part in self.tests.items()
        }
        if "train" not in broken:
            return replace(self, tests=tests)
        kept = np.setdiff1d(np.arange(len(self.train.labels)), [*broken["train"]])
        clean = None if self.clean is None else self.clean[kept]
        noise, train = subset(self.noise, kept), self.train.without(broken["train"])
        return replace(self, train=train, clean=clean, noise=noise, tests=tests)


def check_classes(labels: Tensor, classes: Iterable[int], fix: str) -> None:
    """Raises UsageError unless each of the classes has an image to train on."""
    missing = sorted({*classes} - {*labels.tolist()})
    if missing:
        raise UsageError(f"class {missing[0]} has no image among {len(labels)}: {fix}")

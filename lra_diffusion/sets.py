"""The images and labels of a run: which train, which validate, which test, in memory or on disk.

CIFAR, digits and users' own images are in memory; Food-101N, Clothing1M and WebVision stay on disk.
"""

import argparse
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lra_diffusion.command_line import UsageError
from lra_diffusion.data import (
    CLOTHING1M_NORMALISATION,
    IMAGENET_NORMALISATION,
    Images,
    evenly,
    on_device,
    split,
)
from lra_diffusion.disk_images import CROP, DiskImages
from lra_diffusion.embeddings import from_files
from lra_diffusion.noisy_labels import subset, training_labels
from shared import datasets
from shared.datasets import clothing1m, food101n, webvision
from shared.formats.noise_file import NoiseFile, label_hash

SIDE = 32  # pixels of the images in memory


@dataclass(frozen=True)
class Part:
    """N images and labels (N,) int64, with a hash of what they are.

    embeddings: (N, D), where the user gives features.
    """

    images: Images
    labels: NDArray[np.int64]
    sha256: str
    embeddings: Tensor | None = None


@dataclass(frozen=True)
class Sets:
    """train: the given labels; clean: their true ones, None if unknown.

    tests: "val", if there is one, then "test".
    """

    name: str
    class_names: tuple[str, ...]
    image_side: int
    train: Part
    clean: NDArray[np.int64] | None
    tests: dict[str, Part]
    noise: NoiseFile | None  # of the training images; None for images on disk
    location: Path | None  # None: embedded

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @property
    def hashes(self) -> dict[str, str]:
        parts = {"train": self.train, **self.tests}
        images = {f"{name}_sha256": part.sha256 for name, part in parts.items()}
        labels = {
            f"{name}_labels_sha256": label_hash(part.labels) for name, part in self.tests.items()
        }
        return images | labels | {"noisy_labels_sha256": label_hash(self.train.labels)}


def load(args: argparse.Namespace, device: torch.device, noise: NoiseFile | None = None) -> Sets:
    """Everything a run of these flags looks at. Raises DatasetError, NoiseFileError or UsageError.

    noise: the labels, with the images they are of, if they are known already.
    """
    if args.dataset in ("food101n", "clothing1m", "webvision"):
        return _on_disk(args, device)
    data = datasets.load(args.dataset, args.data_path)
    if noise is None:
        noise = training_labels(args, data)
        noise = subset(noise, evenly(len(noise.noisy_labels), args.limit_train))
    embeddings = None
    if args.fp_embed_train is not None:
        counts = (len(data.train_labels), len(data.test_labels))
        embeddings = from_files(args.fp_embed_train, args.fp_embed_test, counts)

    def part(
        pixels: NDArray[np.uint8], labels: NDArray[np.int64], rows: NDArray[np.int64], which: int
    ) -> Part:
        given = None if embeddings is None else embeddings[which][torch.tensor(rows)].to(device)
        return Part(on_device(data, pixels[rows], device), labels, hash_of(pixels[rows]), given)

    tests = {}
    validates = split(data, args.no_validation)[1]
    if len(validates):
        rows = validates[evenly(len(validates), args.limit_test)]
        tests["val"] = part(data.train_images, data.train_labels[rows], rows, 0)
    rows = evenly(len(data.test_labels), args.limit_test)
    tests["test"] = part(data.test_images, data.test_labels[rows], rows, 1)
    return Sets(
        name=data.name,
        class_names=data.class_names,
        image_side=SIDE,
        noise=noise,
        location=data.location,
        tests=tests,
        train=part(data.train_images, noise.noisy_labels, noise.indices, 0),
        clean=noise.clean_labels,
    )


def _on_disk(args: argparse.Namespace, device: torch.device) -> Sets:
    root = datasets.data_root(args.data_path)
    if args.dataset == "clothing1m":
        files = clothing1m.load(root, selection="cc")
    else:
        files = food101n.load(root) if args.dataset == "food101n" else webvision.load(root)
    if (
        args.script == "test_ILSVRC2012" and not files.test_files
    ):  # raises where it is missing altogether
        raise UsageError(
            f"ILSVRC2012 is in {webvision.find_ilsvrc2012(root)}: move it to "
            f"{files.root / 'ILSVRC2012'}, "
            "beside WebVision"
        )
    normalisation = (
        CLOTHING1M_NORMALISATION if args.dataset == "clothing1m" else IMAGENET_NORMALISATION
    )

    def part(split_name: str, limit: int | None) -> Part:
        names, labels = (
            getattr(files, f"{split_name}_files"),
            getattr(files, f"{split_name}_labels"),
        )
        rows = evenly(len(names), limit)
        # WebVision's test images are ILSVRC2012's, which the published code resizes bilinearly.
        bicubic = args.dataset == "food101n" or (
            args.dataset == "webvision" and split_name != "test"
        )
        paths = [files.root / names[row] for row in rows]
        listed = "\n".join(f"{names[row]} {_size(path)}" for row, path in zip(rows, paths))
        images = DiskImages(paths, normalisation, device, args.num_workers, bicubic)
        return Part(images, labels[rows], hashlib.sha256(listed.encode()).hexdigest())

    train = part("train", args.limit_train)
    missing = np.setdiff1d(np.arange(files.num_classes), train.labels)
    if args.eval_only is None and len(missing):
        raise UsageError(
            f"class {missing[0]} has no image among {len(train.labels)}: raise --limit_train"
        )
    tests = {
        name: part(name, args.limit_test)
        for name in ("val", "test")
        if len(getattr(files, f"{name}_files"))
    }
    return Sets(
        name=args.dataset,
        class_names=files.class_names,
        image_side=CROP,
        noise=None,
        clean=None,
        location=files.root,
        train=train,
        tests=tests,
    )


def _size(path: Path) -> int:
    """Bytes of a file, 0 for none: enough to notice pictures that were exchanged, without reading
    them all.
    """
    return path.stat().st_size if path.exists() else 0


def hash_of(array: NDArray[Any]) -> str:
    """SHA-256 of an array with its shape."""
    digest = hashlib.sha256(str((array.shape, array.dtype)).encode())
    digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()

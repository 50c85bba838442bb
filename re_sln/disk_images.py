"""Clothing1M, whose million images stay on disk: decoded by worker processes, as in the code of
SLN's authors.

Training views: shorter side to 256, RandomCrop(224), random mirror; test images: shorter side to
256, the centre 224 x 224. Every epoch sees 18,976 images of each class, drawn anew.
"""

import argparse
import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from re_sln.data import NORMALISATION, evenly
from re_sln.losses import one_hot
from re_sln.options import UsageError, data_path
from re_sln.train import EvaluationSet, TrainingSet
from shared import datasets
from shared.datasets import clothing1m
from shared.formats.noise_file import label_hash

SHORTER_SIDE, CROP = 256, 224
PER_CLASS = 18_976


class _Files(Dataset[Tensor]):
    """Decoded crops, (3, 224, 224) uint8.

    An item is (position, seed); seed None: the centre, else a random view.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = paths

    def __getitem__(self, item: tuple[int, int | None]) -> Tensor:
        position, seed = item
        try:
            with Image.open(self._paths[position]) as file:
                image = file.convert("RGB")
        except (OSError, Image.DecompressionBombError) as error:
            raise UsageError(
                f"{self._paths[position]} cannot be read ({error}): get the file again"
            ) from error
        scale = SHORTER_SIDE / min(image.size)
        width, height = (max(SHORTER_SIDE, int(side * scale)) for side in image.size)
        image = image.resize((width, height), Image.Resampling.BILINEAR)
        left, top = (width - CROP) // 2, (height - CROP) // 2
        mirrored = False
        if seed is not None:  # of epoch and sample, so that the number of workers changes nothing
            rng = np.random.default_rng([seed, position])
            left, top = rng.integers(width - CROP + 1), rng.integers(height - CROP + 1)
            mirrored = rng.random() < 0.5
        pixels = np.asarray(image.crop((left, top, left + CROP, top + CROP)))
        return torch.from_numpy((pixels[:, ::-1] if mirrored else pixels).copy()).permute(2, 0, 1)


class DiskImages:
    """`data.Images` of files: N paths; the batches are decoded ahead by `workers` processes (0: in
    this one).
    """

    evaluation_batch = 128

    def __init__(self, paths: Sequence[Path], device: torch.device, workers: int) -> None:
        self._files, self._workers, self.device = _Files(paths), workers, device
        mean, std = (
            torch.tensor(values, device=device)[None, :, None, None]
            for values in NORMALISATION["clothing1m"]
        )
        self._scale, self._shift = 1.0 / (255.0 * std), mean / std
        self._count = len(paths)

    def __len__(self) -> int:
        return self._count

    def plain(self, batches: Sequence[Tensor]) -> Iterator[Tensor]:
        return self._batches(batches, None)

    def views(self, batches: Sequence[Tensor], seed: int) -> Iterator[Tensor]:
        return self._batches(batches, seed)

    def _batches(self, batches: Sequence[Tensor], seed: int | None) -> Iterator[Tensor]:
        items = [[(position, seed) for position in index.tolist()] for index in batches]
        loader = DataLoader(
            self._files,
            batch_sampler=items,
            num_workers=self._workers,
            pin_memory=self.device.type == "cuda",
        )
        try:
            for pixels in loader:
                images = pixels.to(self.device, non_blocking=True).to(
                    torch.float32, memory_format=torch.channels_last
                )
                yield images.mul_(self._scale).sub_(self._shift)
        except UsageError as error:  # a worker's arrives with its whole traceback
            raise UsageError(str(error).rpartition("UsageError: ")[2].strip()) from error


def clothing1m_sets(
    args: argparse.Namespace, device: torch.device
) -> tuple[TrainingSet, dict[str, EvaluationSet], Path, dict[str, str]]:
    """Training, validation and test set, the folder, and hashes of the lists (not of a million
    images).
    """
    files = clothing1m.load(datasets.data_root(data_path(args)))
    limits = {"train": args.limit_train, "val": args.limit_test, "test": args.limit_test}
    images, labels, listed = {}, {}, hashlib.sha256()
    for split, limit in limits.items():
        paths, all_labels = getattr(files, f"{split}_files"), getattr(files, f"{split}_labels")
        rows = evenly(len(paths), limit)
        images[split] = DiskImages(
            [files.root / paths[row] for row in rows], device, args.num_workers
        )
        labels[split] = all_labels[rows]
        listed.update("\n".join(paths[row] for row in rows).encode() + all_labels[rows].tobytes())
    num_classes = len(files.class_names)
    given = one_hot(torch.tensor(labels["train"], device=device), num_classes)
    train_set = TrainingSet(
        images["train"], given, None, per_class=_per_class(labels["train"], num_classes)
    )
    test_sets = {
        split: EvaluationSet(images[split], torch.tensor(labels[split], device=device))
        for split in ("val", "test")
    }
    return (
        train_set,
        test_sets,
        files.root,
        {"data_sha256": listed.hexdigest(), "noisy_labels_sha256": label_hash(labels["train"])},
    )


def _per_class(labels: NDArray[np.int64], num_classes: int) -> int:
    """The authors' number, or what the smallest class has when --limit_train leaves fewer."""
    smallest = int(np.bincount(labels, minlength=num_classes).min())
    if smallest == 0:
        raise UsageError(
            f"a class has no image among {len(labels)}: raise --limit_train, for every epoch "
            "takes equally "
            "many of each class"
        )
    return min(PER_CLASS, smallest)

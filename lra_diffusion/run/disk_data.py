"""Images that stay on disk, at 224 pixels: Food-101N, Clothing1M, WebVision, and own pictures."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from lra_diffusion.method.images import CLOTHING1M_NORMALISATION, IMAGENET_NORMALISATION
from lra_diffusion.method.progress import watched
from shared import datasets
from shared.datasets import clothing1m, food101n, image_folder, progress, webvision
from shared.datasets.decoding import NAMED, open_rgb
from shared.datasets.image_data import DatasetError, ImageFiles
from shared.errors import printable
from shared.formats.alignment import best_known, evenly
from shared.formats.noise_file import NoiseFile, label_hash, make
from shared.labels import Labels

from . import image_files
from .errors import UsageError
from .image_files import DiskImages
from .labels import rows_of, tested_labels, training_labels
from .schema import TrainConfig
from .splits import RunData, Split, check_classes, hash_of

Part = tuple[list[str], Labels]  # names of files, and their labels


def load(config: TrainConfig, device: torch.device, noise: NoiseFile | None) -> RunData:
    """All of a run's data. Raises DatasetError, NoiseFileError or UsageError.

    noise: the labels of own pictures, with the images they are of, if they are known already.
    """
    files = _files(config)
    if config.dataset == "folder":
        known = tested_labels(config, files) if noise is None else best_known(noise, files)
        noise = noise or training_labels(config, files)
        parts = _own_pictures(config, files, noise, known)
    else:
        noise, parts = _as_they_came(config, files), _published(config, files)
    splits = {name: _split(config, files.root, name, part, device) for name, part in parts.items()}
    train = splits.pop("train")
    if config.eval_only is None and config.dataset != "folder":
        check_classes(train.labels, range(files.num_classes), "raise --limit_train")
    return RunData(
        name=config.dataset,
        class_names=files.class_names,
        image_side=image_files.CROP,
        noise=noise,
        clean=noise.clean_labels,
        location=files.root,
        train=train,
        tests=splits,
    )


def _files(config: TrainConfig) -> ImageFiles:
    root = datasets.data_root(config.data_path)
    if config.dataset == "folder":
        found = image_folder.load_files(root, labels=config.labels)
        return _readable(found) if config.skip_broken else found
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


def _readable(files: ImageFiles) -> ImageFiles:
    """Own pictures without those that cannot be read, which are named and counted.

    Before labels are matched with them: noise files count the pictures that are left, as at 32
    pixels and in the other projects.
    """
    kept: dict[str, Any] = {}
    broken: list[str] = []
    with ThreadPoolExecutor() as pool:
        for part in ("train", "test"):
            names, rows = getattr(files, f"{part}_files"), list[int]()
            faults = pool.map(lambda name: _fault(files.root / name), names)
            for row, fault in enumerate(progress.watched(faults, len(names), f"reading {part}")):
                if fault:
                    broken.append(fault)
                else:
                    rows.append(row)
            kept[f"{part}_files"] = [names[row] for row in rows]
            kept[f"{part}_labels"] = getattr(files, f"{part}_labels")[rows]
    if broken:
        count = len(files.train_files) + len(files.test_files)
        more = [f"and {len(broken) - NAMED} more"] if len(broken) > NAMED else []
        print(f"note: {len(broken)} of {count:,} images cannot be read and are left out:")
        print("\n".join(f"  {printable(line)}" for line in [*broken[:NAMED], *more]))
    if not kept["train_files"]:
        raise DatasetError(f"no training picture of {files.root} can be read: is its disk there?")
    return replace(files, **kept)


def _fault(file: Path) -> str:
    """Why a picture cannot be read, with its name; "" if it can."""
    try:
        open_rgb(file)
    except DatasetError as error:
        return f"{file} ({error.__cause__})"
    return ""


def _published(config: TrainConfig, files: ImageFiles) -> Mapping[str, Part]:
    parts = {
        "train": (files.train_files, files.train_labels, config.limit_train),
        "val": (files.val_files, files.val_labels, config.limit_test),
        "test": (files.test_files, files.test_labels, config.limit_test),
    }
    return {
        name: _chosen((names, labels), evenly(len(names), limit))
        for name, (names, labels, limit) in parts.items()
        if names
    }


def _as_they_came(config: TrainConfig, files: ImageFiles) -> NoiseFile:
    """Published training images with their own labels, and their rows."""
    kept = evenly(len(files.train_files), config.limit_train)
    return make(
        files.train_labels[kept],
        indices=kept,
        dataset=config.dataset,
        split="train",
        num_classes=files.num_classes,
    )


def _own_pictures(
    config: TrainConfig, files: ImageFiles, noise: NoiseFile, known: Labels
) -> Mapping[str, Part]:
    """Training images with their noisy labels, validation images if any, test images or none.

    known: (N,) labels that images taken off the training set validate and test with.
    """
    rows, everything = rows_of(config, files), (files.train_files, known)
    assert noise.indices is not None  # of labels to train on
    parts = {"train": ([files.train_files[row] for row in noise.indices], noise.noisy_labels)}
    if len(rows.validates):
        some = rows.validates[evenly(len(rows.validates), config.limit_test)]
        parts["val"] = _chosen(everything, some)
    if len(rows.tests):
        parts["test"] = _chosen(everything, rows.tests[evenly(len(rows.tests), config.limit_test)])
    else:
        tests = (files.test_files, files.test_labels)
        parts["test"] = _chosen(tests, evenly(len(tests[0]), config.limit_test))
    return parts


def _chosen(part: Part, rows: Labels) -> Part:
    names, labels = part
    return [names[row] for row in rows], labels[rows]


def _split(config: TrainConfig, root: Path, name: str, part: Part, device: torch.device) -> Split:
    names, labels = part
    listing = []
    groups = [names[start : start + 1000] for start in range(0, len(names), 1000)]
    for group in watched(groups, f"sizes of {name} images", unit="files"):
        listing += [f"{file} {_size(root / file)}" for file in group]
    # WebVision's test images are ILSVRC2012's, which the published code resizes bilinearly.
    ilsvrc2012 = config.dataset == "webvision" and name == "test"
    clothing = config.dataset == "clothing1m"
    images = DiskImages(
        [root / file for file in names],
        CLOTHING1M_NORMALISATION if clothing else IMAGENET_NORMALISATION,
        device,
        config.num_workers,
        bicubic=config.script != "train_Clothing1M" and not ilsvrc2012,
        own=config.dataset == "folder",
    )
    return Split(
        images,
        torch.tensor(labels, device=device),
        hash_of(listing),
        label_hash(labels),
        listing=tuple(listing),
        files=tuple(names),
    )


def _size(path: Path) -> int:
    """Bytes of a file, 0 for none."""
    return path.stat().st_size if path.exists() else 0

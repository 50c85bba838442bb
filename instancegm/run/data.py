"""The images and labels of a run: which train, which validate, which test."""

import hashlib
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from instancegm.method.images import DeviceImages, Images
from instancegm.method.peers import EvaluationSet, TrainingSet
from instancegm.method.ranks import ALONE, Ranks
from instancegm.method.signs import SignsOfLife
from instancegm.run.config import Config
from instancegm.run.errors import UsageError
from instancegm.run.image_files import SHORTER_SIDE, SKIP, FileImages, FilePool, pictures
from instancegm.run.image_store import ImageStore, open_store
from instancegm.run.labels import RATE_TOLERANCE, labels_of_run
from instancegm.run.launch import first_on_its_machine
from instancegm.run.presets import HUMAN
from shared import datasets
from shared.datasets import clothing1m, human_noise, red_mini_imagenet
from shared.datasets.image_data import AnyData, DatasetError, ImageData, ImageFiles
from shared.datasets.image_folder import load_files, note_on_size
from shared.files import array_hash
from shared.formats.alignment import evenly, hold_out, is_noisy, subset, unchanged
from shared.formats.noise_file import NoiseFile

Index = NDArray[np.int64]
BETTER_SCRIPTS = "instanceGM_animal10N.py trains at 64, instanceGM_clothing1M.py at 224"
NAMED = 10  # of the images that cannot be read
PARTS = ("train", "val", "test")
CACHE = "cache"  # folder beside the data for --saved True


@dataclass(frozen=True)
class RunData:
    """What a run trains and tests on."""

    train_set: TrainingSet
    tests: dict[str, EvaluationSet]  # "val" and "test", where there are such images
    noise: NoiseFile  # of the N training samples; its `indices` are their positions in the dataset
    noise_word: str  # for the noise, in file names
    files: tuple[str, ...]  # N names below the folder of training images; empty without files
    class_names: tuple[str, ...]  # C
    location: Path | None  # None: embedded
    sha256: str  # of all images and clean labels; of those on disk, of their names and sizes
    config: Config  # with the rate and kind of the noise file, where there is one


def load_data(config: Config) -> AnyData:
    """The dataset; raises UserError, saying how to get what is missing."""
    place, size = config.where_data_is(), config.image_size
    reading: dict[str, Any] = {"skip_broken": config.skip_broken, "cache_dir": _cache(config)}
    data: AnyData
    if config.dataset == "clothing1M":
        data = clothing1m.load(datasets.data_root(place))
    elif config.dataset == "red_blue":
        root = datasets.data_root(place)
        data = red_mini_imagenet.load(root, config.r, config.colour, size, **reading)
        _check_web_share(data, config)
    elif config.dataset == "folder" and _stays_on_disk(config):
        data = load_files(datasets.data_root(place), labels=config.labels)
    else:
        name = (
            human_noise.HUMAN[config.dataset].dataset if config.dataset in HUMAN else config.dataset
        )
        data = datasets.load(name.lower(), place, image_size=size, labels=config.labels, **reading)
    if config.dataset == "folder" and isinstance(data, ImageData):
        note = note_on_size(data, BETTER_SCRIPTS)
        if note is not None:
            print(f"note: {note}")
    if config.num_class not in (None, data.num_classes):
        raise UsageError(
            f"--num_class {config.num_class}, but {data.name} has {data.num_classes} classes: "
            "leave the flag out"
        )
    return data


def _check_web_share(data: ImageData, config: Config) -> None:
    """Warns where the names of the images say another rate than the list that --r chose."""
    share = red_mini_imagenet.web_share(data)
    if config.colour == "red" and share is not None and abs(share - config.r) > RATE_TOLERANCE:
        print(
            f"warning: {share:.3f} of the training images come from the web, by their names, and "
            f"not the {config.r:g} of --r: is the list of {data.location} another one?",
            file=sys.stderr,
        )


def _cache(config: Config) -> Path | None:
    if config.cache_dir is not None or not config.saved:
        return config.cache_dir
    # Not into a folder of own pictures, where a folder is a class.
    place = None if config.dataset == "folder" else config.where_data_is()
    return datasets.data_root(place) / CACHE


def _stays_on_disk(config: Config) -> bool:
    """Large pictures are cropped at random from files; an .npz is in memory anyway."""
    return config.network == "resnet50" and datasets.data_root(config.data_path).is_dir()


def run_data(
    config: Config, device: torch.device, signs: SignsOfLife, ranks: Ranks = ALONE
) -> RunData:
    """Everything a run looks at, on the device or served to it. Raises UserError."""
    with first_on_its_machine(ranks):  # which may keep decoded images for the others
        data = load_data(config)
    data = _without_broken(data, config, signs, ranks)
    with first_on_its_machine(ranks):  # which may make the noise
        return _labelled(config, data, device, signs)


def _labelled(config: Config, data: AnyData, device: torch.device, signs: SignsOfLife) -> RunData:
    labels = labels_of_run(config, data)
    noise, held_out = labels.noise, None
    if config.val_fraction is not None:
        if len(data.test_labels):
            raise UsageError(
                f"{data.location} has test images: leave out --val_fraction, which holds out "
                "training images to test on"
            )
        # By the folder's own labels, so that every noise file and project holds out the same ones.
        own = data.train_labels[noise.rows]
        kept, rows = hold_out(own, config.val_fraction, config.seed)
        held_out, noise = subset(noise, rows), subset(noise, kept)
    noise = subset(noise, evenly(len(noise.noisy_labels), config.limit_train))
    return _served(labels.config, labels.word, data, noise, held_out, device, signs)


def test_data(config: Config, device: torch.device, signs: SignsOfLife) -> RunData:
    """The same with a single training image, for who only tests."""
    if config.val_fraction is not None:  # the labels decide what is held out
        return run_data(replace(config, limit_train=2), device, signs)
    data = _without_broken(load_data(config), config, signs, ALONE)
    noise = subset(unchanged(data), np.arange(1))
    return _served(config, config.noise_mode, data, noise, None, device, signs)


def _served(
    config: Config,
    word: str,
    data: AnyData,
    noise: NoiseFile,
    held_out: NoiseFile | None,
    device: torch.device,
    signs: SignsOfLife,
) -> RunData:
    """noise: of the images to train on; held_out: of those to test on, if the set has no others."""
    if isinstance(data, ImageData):
        return _from_memory(config, word, data, noise, held_out, device)
    return _from_disk(config, word, data, noise, held_out, device, signs)


def _from_memory(
    config: Config,
    word: str,
    data: ImageData,
    noise: NoiseFile,
    held_out: NoiseFile | None,
    device: torch.device,
) -> RunData:
    images, labels = data.test_images, data.test_labels
    if held_out is not None:
        images, labels = data.train_images[held_out.indices], _best_known(held_out)
    rows = evenly(len(labels), config.limit_test)
    images, labels = images[rows], labels[rows]
    train_images, clean = data.train_images[noise.indices], data.train_labels[noise.indices]
    tests = {}
    if len(labels):
        served = DeviceImages(images, device, crop_padding=0)
        tests["test"] = EvaluationSet(served, torch.from_numpy(labels).to(device))
    served = DeviceImages(train_images, device, flip=config.flip, crop_padding=config.crop_padding)
    return RunData(
        train_set=_training_set(served, noise, data.num_classes, device),
        tests=tests,
        noise=noise,
        noise_word=word,
        files=_names(data, noise),
        class_names=data.class_names,
        location=data.location,
        sha256=array_hash(train_images, clean, images, labels),
        config=config,
    )


def _from_disk(
    config: Config,
    word: str,
    data: ImageFiles,
    noise: NoiseFile,
    held_out: NoiseFile | None,
    device: torch.device,
    signs: SignsOfLife,
) -> RunData:
    assert noise.indices is not None  # labels_of_run aligns them with the dataset
    parts: dict[str, tuple[list[str], Index, int | None]] = {
        "train": ([data.train_files[row] for row in noise.indices], noise.noisy_labels, None),
        "val": (data.val_files, data.val_labels, config.limit_test),
        "test": (data.test_files, data.test_labels, config.limit_test),
    }
    if held_out is not None:
        assert held_out.indices is not None
        files = [data.train_files[row] for row in held_out.indices]
        parts["test"] = (files, _best_known(held_out), config.limit_test)
    names: list[str] = []
    first: dict[str, int] = {}
    labels: dict[str, Index] = {}
    for part, (files, part_labels, limit) in parts.items():
        rows = evenly(len(files), limit)
        first[part], labels[part] = len(names), part_labels[rows]
        names += [files[row] for row in rows]
    listing = [f"{name} {_size(data.root / name)}" for name in names]
    paths = [data.root / name for name in names]
    store = None if (cache := _cache(config)) is None else _store(cache, paths, config, signs)
    pool = FilePool(
        paths, device, config.num_workers, upright=_upright(config), flip=config.flip, store=store
    )
    served = {part: FileImages(pool, first[part], len(labels[part])) for part in parts}
    digest = hashlib.sha256("\n".join(listing).encode())
    for each in labels.values():
        digest.update(each.tobytes())
    return RunData(
        train_set=_training_set(served["train"], noise, data.num_classes, device),
        tests={
            part: EvaluationSet(served[part], torch.from_numpy(labels[part]).to(device))
            for part in ("val", "test")
            if len(labels[part])
        },
        noise=noise,
        noise_word=word,
        files=_names(data, noise),
        class_names=data.class_names,
        location=data.root,
        sha256=digest.hexdigest(),
        config=config,
    )


def _names(data: AnyData, noise: NoiseFile) -> tuple[str, ...]:
    assert noise.indices is not None  # labels_of_run aligns them with the dataset
    return tuple(data.train_names[row] for row in noise.indices) if data.train_names else ()


def _training_set(
    images: Images, noise: NoiseFile, num_classes: int, device: torch.device
) -> TrainingSet:
    noisy = is_noisy(noise)
    labels = torch.tensor(noise.noisy_labels, device=device)
    return TrainingSet(images, labels, num_classes, None if noisy is None else ~noisy)


def _best_known(noise: NoiseFile) -> Index:
    """The labels to test on: the clean ones, or where nobody knows them the given ones."""
    return noise.noisy_labels if noise.clean_labels is None else noise.clean_labels


def _without_broken(data: AnyData, config: Config, signs: SignsOfLife, ranks: Ranks) -> AnyData:
    """With --skip_broken, the set without the files that cannot be decoded, which are named."""
    if not (isinstance(data, ImageFiles) and config.skip_broken):
        return data
    all_broken = ranks.same(lambda: {part: _broken(data, part, config, signs) for part in PARTS})
    kept: dict[str, Any] = {}
    for part, broken in all_broken.items():
        files, labels = getattr(data, f"{part}_files"), getattr(data, f"{part}_labels")
        rows = [row for row in range(len(files)) if row not in broken]
        kept |= {f"{part}_files": [files[row] for row in rows], f"{part}_labels": labels[rows]}
        if broken and ranks.is_first:
            names = [files[row] for row in sorted(broken)[:NAMED]]
            more = f" and {len(broken) - NAMED:,} more" if len(broken) > NAMED else ""
            print(
                f"warning: {len(broken):,} of {len(files):,} {part} images of {data.root} cannot "
                f"be read and are left out: {', '.join(names)}{more}",
                file=sys.stderr,
            )
    if not kept["train_files"]:
        raise DatasetError(f"none of the training images in {data.root} can be read")
    return replace(data, **kept)


def _broken(data: ImageFiles, part: str, config: Config, signs: SignsOfLife) -> set[int]:
    files = getattr(data, f"{part}_files")
    found = pictures([data.root / name for name in files], config.num_workers, _upright(config))
    shown = signs.over(found, len(files), f"reading {part} images", 1)
    return {row for row, picture in enumerate(shown) if picture is None}


def _upright(config: Config) -> bool:
    """Own pictures are turned as their EXIF data say; the published loaders do not look at them."""
    return config.dataset == "folder"


def _store(folder: Path, paths: Sequence[Path], config: Config, signs: SignsOfLife) -> ImageStore:
    """The decoded pictures of all files, under a key of their names, sizes and times."""
    upright = _upright(config)
    stamps = [(str(path), *_stamp(path)) for path in paths]
    key = hashlib.sha256(repr((SHORTER_SIDE, upright, stamps)).encode()).hexdigest()[:16]

    def decoded() -> Iterator[NDArray[np.uint8]]:
        found = pictures(paths, config.num_workers, upright)
        for path, picture in zip(paths, signs.over(found, len(paths), "decoding images", 1)):
            if picture is None:
                raise DatasetError(f"{path} cannot be read: get the file again, or {SKIP}")
            yield picture

    return open_store(folder, key, decoded, len(paths), 3 * SHORTER_SIDE**2)


def _stamp(path: Path) -> tuple[int, int]:
    """Bytes and time of the last change, 0 for none."""
    try:
        status = path.stat()
    except OSError:
        return 0, 0
    return status.st_size, status.st_mtime_ns


def _size(path: Path) -> int:
    return _stamp(path)[0]

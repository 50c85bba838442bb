"""Where the noisy labels of a run come from: the paper's csv files, re-sln's custom ones, any noise file, or made anew.

    labels, images = noisy_training_set(args, datasets.load("cifar10"))

Open-set noise keeps the labels and replaces images by those of CIFAR-100, in memory, from a list of pairs.
"""

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from re_sln.legacy_noise import GENERATOR, legacy_noise, rules_csv
from re_sln.options import data_path
from shared import datasets, open_set
from shared.image_data import ImageData
from shared.noise_file import NoiseFile, NoiseFileError, labels_for, make, write_atomically
from shared.noise_recipe import Recipe, generate
from shared.wild_formats import read_any, split_column, write_any

README_SEED = 123  # of every published custom file
# The chance in a realised rate, see `rate_contradiction`.
RATE_TOLERANCE = 0.02
KINDS = {"sym": "symmetric", "asym": "asymmetric", "openset": "open_set", "dependent": "confidence"}


def noisy_training_set(args: argparse.Namespace, data: ImageData) -> tuple[NoiseFile, NDArray[np.uint8]]:
    """The labels of this run, checked against the dataset, and its N training images; open-set noise replaces some.

    Raises NoiseFileError with the reason and the fix.
    """
    if args.noise_file:
        found = read_any(args.noise_file)
        path, _ = split_column(args.noise_file)
        noise = _aligned(found, data)
        _refuse_contradicting_rate(args, noise)
    elif args.noise_mode is None:
        return _labels_as_they_are(data), data.train_images
    elif args.dataset_name in ("digits", "folder"):
        return _made_in_memory(args, data), data.train_images
    else:
        path = _csv_file(args, data)
        found = read_any(path)
        noise = _aligned(found, data, kind=KINDS[args.noise_mode], nominal_rate=args.p)
    if noise.open_set is None or not noise.open_set.any():
        return noise, data.train_images
    return noise, _with_foreign_images(args, data, found, path)


def rate_name(rate: float) -> str:
    """The rate in file names: one digit after the point, or as many as it has."""
    # DEVIATION(re_sln): --p 0.45 looks for a file named 0.45; the original rounds to one digit and reads the 0.5 file.
    return f"{rate:.1f}" if round(rate, 1) == rate else f"{rate:g}"


def csv_name(mode: str, rate: float, custom: bool) -> str:
    return f"{mode}{rate_name(rate)}{'_custom' if custom else ''}.csv"


def _csv_file(args: argparse.Namespace, data: ImageData) -> Path:
    """The file of --noise_mode, --p and --custom_noise, made anew where that is asked for. See `_folders` for the places."""
    name = csv_name(args.noise_mode, args.p, args.custom_noise)
    if args.make_new_custom_noise:
        return _make_custom(args, data, name)
    places = _folders(args)
    for folder in places:
        if (folder / name).is_file():
            return folder / name
    if args.noise_mode == "openset":  # seed and rate say it all, so that nothing needs to be fetched
        print(f"note: no {name} yet; it is made from --seed {args.seed}")
        return _make_custom(args, data, name)
    fix = "`make data-sln-noise` gets the published ones (rate 0.4"
    if args.custom_noise:
        fix += f"; sym and asym of cifar10: 0.5 too), --make_new_custom_noise beside --custom_noise makes {name}"
    else:
        kind = {"sym": "symmetric --exclude_true_class", "asym": "asymmetric"}.get(args.noise_mode)
        fix += ")" if kind is None else (
            f"); for another rate `python -m shared noise make --dataset {data.name} --kind {kind} --independent "
            f"--rate {args.p:g} --out noise.npz`, and give it with --noise_file"
        )  # fmt: skip
    raise NoiseFileError(f"{name} of {data.name} is in none of {', '.join(map(str, places))}: {fix}")


def _folders(args: argparse.Namespace) -> list[Path]:
    """Where csv files of a dataset are looked for: re-sln's own place, then where `make data-sln-noise` puts them."""
    root = datasets.data_root(data_path(args))
    published = root / "label_noisy"
    return [root / args.dataset_name / "label_noisy", published / "re_sln" / args.dataset_name,
            published / "sln" / args.dataset_name]  # fmt: skip


def rules_file(args: argparse.Namespace) -> Path | None:
    """The generator's rules for this mode and rate, where they lie beside the labels."""
    if args.noise_mode is None:
        return None
    name = f"{args.noise_mode}{rate_name(args.p)}_noise_rules.csv"
    return next((folder / name for folder in _folders(args) if (folder / name).is_file()), None)


def _make_custom(args: argparse.Namespace, data: ImageData, name: str) -> Path:
    """Makes re-sln's custom noise and keeps it where re-sln does, `<data>/<dataset>/label_noisy/`, rules beside it."""
    path = _folders(args)[0] / name
    labels = data.train_labels
    known: dict[str, Any] = {"dataset": data.name, "split": "train", "num_classes": data.num_classes, "seed": args.seed,
                             "nominal_rate": args.p, "generator": GENERATOR, "kind": KINDS[args.noise_mode]}  # fmt: skip
    if args.noise_mode == "openset":
        pairs = open_set.draw_pairs(len(labels), open_set.DONOR_IMAGES, args.p, args.seed)
        noise = make(labels, clean_labels=labels, open_set=open_set.flags(pairs, len(labels)), **known)
        open_set.write_pairs(_pairs_file(path), pairs)
    else:
        noisy = legacy_noise(labels, args.noise_mode, args.p, data.num_classes, args.seed)
        noise = make(noisy, clean_labels=labels, **known)
    write_any(path, noise)
    rules = path.with_name(f"{args.noise_mode}{rate_name(args.p)}_noise_rules.csv")
    write_atomically(rules, rules_csv(args.noise_mode, args.p, data.class_names).encode())
    print(f"made {path} from seed {args.seed}: measured rate {noise.header.measured_rate:.4f}")
    return path


def _pairs_file(path: Path) -> Path:
    return path.with_name(f"{path.stem}_pairs.csv")


def _with_foreign_images(args: argparse.Namespace, data: ImageData, found: NoiseFile, path: Path) -> NDArray[np.uint8]:
    """The training images with the flagged ones replaced; the pairs from a list, the original's .npy, or the seed."""
    # DEVIATION(re_sln): open-set images are put together in memory; the original needs a 154 MB .npy that it never ships.
    pairs_file, images_file = _pairs_file(path), path.with_suffix(".npy")
    if pairs_file.is_file():
        pairs = open_set.read_pairs(pairs_file)
        if not np.array_equal(open_set.flags(pairs, len(data.train_labels)), _all_flags(found, data)):
            raise NoiseFileError(f"{pairs_file} and {path} belong to different noise: delete both, or make them anew")
    elif images_file != path and images_file.is_file():
        return _published_images(images_file, data)
    else:
        pairs = open_set.pairs_for(found, open_set.DONOR_IMAGES, seeds=(args.seed, README_SEED))
    donors = datasets.load(open_set.DONOR_DATASET, data_path(args)).train_images
    return open_set.replace_images(data.train_images, donors, pairs)


def _all_flags(found: NoiseFile, data: ImageData) -> NDArray[np.bool_]:
    flags = np.zeros(len(data.train_labels), bool)
    flags[slice(None) if found.indices is None else found.indices] = found.open_set
    return flags


def _published_images(path: Path, data: ImageData) -> NDArray[np.uint8]:
    try:
        images = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise NoiseFileError(
            f"{path} cannot be read ({error}): delete it, and the images come from CIFAR-100"
        ) from error
    if images.shape != data.train_images.shape or images.dtype != np.uint8:
        raise NoiseFileError(f"{path} holds {images.dtype} of shape {images.shape}, not {data.train_images.shape} uint8: "
                             "delete it, and the images come from CIFAR-100")  # fmt: skip
    return images


def _labels_as_they_are(data: ImageData) -> NoiseFile:
    return make(data.train_labels, indices=np.arange(len(data.train_labels)), dataset=data.name, split="train",
                num_classes=data.num_classes, kind="none")  # fmt: skip


def _made_in_memory(args: argparse.Namespace, data: ImageData) -> NoiseFile:
    """Noise for sets without published files: independent draws, the true class excluded; asym goes to the next class."""
    if args.noise_mode == "sym":
        recipe = Recipe("symmetric", args.p, args.seed, include_true_class=False, independent=True)
    else:
        recipe = Recipe("pair_flip", args.p, args.seed, independent=True)
    return _aligned(generate(recipe, data), data)


def _aligned(found: NoiseFile, data: ImageData, **better: Any) -> NoiseFile:
    """The same labels with the dataset's clean labels and row numbers, and what the caller knows better."""
    rows, noisy = labels_for(found, dataset=data.name, clean_labels=data.train_labels, num_classes=data.num_classes)
    known = {**origin(found), "dataset": data.name, "split": "train", "num_classes": data.num_classes, **better}
    # Of Animal-10N and Clothing1M nobody knows the clean labels; of a user's own set neither, unless the file has them.
    return make(noisy, clean_labels=data.train_labels[rows], indices=rows, open_set=found.open_set, **known)


def subset(noise: NoiseFile, rows: NDArray[np.int64]) -> NoiseFile:
    """Some rows of an aligned noise file. rows: (M,) positions in it."""
    parts = {name: None if (array := getattr(noise, name)) is None else array[rows]
             for name in ("clean_labels", "indices", "open_set")}  # fmt: skip
    return make(noise.noisy_labels[rows], **parts, **origin(noise))


def origin(noise: NoiseFile) -> dict[str, Any]:
    """The header's fields that stay true of a part of the labels."""
    of_the_whole = ("version", "measured_rate", "clean_labels_sha256")
    return {name: value for name, value in asdict(noise.header).items() if name not in of_the_whole}


def is_noisy(noise: NoiseFile) -> NDArray[np.bool_] | None:
    """(N,) True for a wrong label or a replaced image; None where the truth is unknown."""
    if noise.clean_labels is None:
        return None
    wrong = noise.noisy_labels != noise.clean_labels
    return wrong if noise.open_set is None else wrong | noise.open_set


def _refuse_contradicting_rate(args: argparse.Namespace, noise: NoiseFile) -> None:
    """A --p that is not the file's would label the results wrongly."""
    nominal, measured = noise.header.nominal_rate, noise.header.measured_rate
    if args.p is None:
        args.p = nominal
    elif measured is not None and args.p != nominal and abs(args.p - measured) > RATE_TOLERANCE:
        raise NoiseFileError(f"--p {args.p} contradicts {args.noise_file}, whose measured rate is {measured:.4f}: leave "
                             "--p out, or give the file that you mean")  # fmt: skip

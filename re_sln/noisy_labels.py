"""Where the noisy labels of a run come from: the paper's csv files, re-sln's custom ones, any noise
file, or made anew.

    labels, images = noisy_training_set(args, datasets.load("cifar10"))

Open-set noise keeps the labels and replaces images by those of CIFAR-100, in memory, from a list of
pairs.
"""

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from re_sln.legacy_noise import GENERATOR, legacy_noise, rules_csv
from re_sln.options import data_path
from shared import datasets
from shared.datasets.image_data import DatasetError, ImageData
from shared.files import write_atomically
from shared.formats.alignment import labels_for
from shared.formats.external import read_any, split_column, write_any
from shared.formats.noise_file import NoiseFile, NoiseFileError, make
from shared.noise import open_set
from shared.noise.recipe import Recipe, generate

README_SEED = 123  # of every published custom file
# realised rates differ from the nominal one by chance; further off, a file was made for another
RATE_TOLERANCE = 0.02
KINDS = {"sym": "symmetric", "asym": "asymmetric", "openset": "open_set", "dependent": "confidence"}


def noisy_training_set(
    args: argparse.Namespace, data: ImageData, *, may_make: bool = True
) -> tuple[NoiseFile, NDArray[np.uint8]]:
    """The labels of this run, checked against the dataset, and its N training images; open-set
    noise replaces some.

    may_make: open-set noise that no file holds may be made from --seed. Raises NoiseFileError with
    the reason and the fix.
    """
    try:
        if args.noise_file:
            path, _ = split_column(args.noise_file)
            found = read_any(args.noise_file)
            noise = _aligned(found, data)
            _refuse_contradicting_rate(args, noise)
        elif args.noise_mode is None:
            return _labels_as_they_are(data), data.train_images
        elif args.dataset_name in ("digits", "folder"):
            return _made_in_memory(args, data), data.train_images
        else:
            path, found = _of_cifar(args, data, may_make)
            noise = _aligned(found, data, kind=KINDS[args.noise_mode], nominal_rate=args.p)
        if noise.open_set is None or not noise.open_set.any():
            return noise, data.train_images
        return noise, _with_foreign_images(args, data, found, path)
    except (NoiseFileError, DatasetError):
        raise
    except ValueError as error:  # a generator's, of arguments that no flag can be blamed for alone
        raise NoiseFileError(f"no such noise on {data.name}: {error}") from error


def rate_name(rate: float) -> str:
    """The rate in file names: one digit after the point, or as many as it has."""
    # DEVIATION(re_sln): --p 0.45 looks for a file named 0.45; the original rounds to one digit and
    # reads the 0.5 file.
    return f"{rate:.1f}" if round(rate, 1) == rate else repr(rate)


def csv_name(mode: str, rate: float, custom: bool) -> str:
    return f"{mode}{rate_name(rate)}{'_custom' if custom else ''}.csv"


def _of_cifar(args: argparse.Namespace, data: ImageData, may_make: bool) -> tuple[Path, NoiseFile]:
    """The file of --noise_mode, --p and --custom_noise and what is in it, made anew where that is
    asked for.
    """
    name = csv_name(args.noise_mode, args.p, args.custom_noise)
    places = _folders(args)
    if args.make_new_custom_noise:
        made = _custom(args, data)
        _keep(args, made, places[0] / name, data)
        return places[0] / name, made
    for folder in places:
        if (folder / name).is_file():
            return folder / name, read_any(folder / name)
    if (
        args.noise_mode == "openset" and may_make
    ):  # seed and rate say it all, so that no file is needed
        print(f"note: no {name} in {places[0]}; made in memory from --seed {args.seed}")
        return places[0] / name, _custom(args, data)
    raise NoiseFileError(
        f"{name} of {data.name} is in none of {', '.join(map(str, places))}: "
        f"{_how_to_get(args, name)}"
    )


def _how_to_get(args: argparse.Namespace, name: str) -> str:
    """What the user can type; commands of `make` and `python -m shared` run in the root of the
    repository.
    """
    published = "`make data-sln-noise` (in the repository's root) gets the published ones"
    dataset = args.dataset_name
    if args.custom_noise:
        return (
            f"{published}, of rate 0.4 and for sym and asym of cifar10 0.5; `train_cifar.py "
            "--custom_noise "
            f"--make_new_custom_noise` with the rest of your flags makes {name}"
        )
    if args.noise_mode == "dependent":
        return (
            f"{published}, of rate 0.4; for another `python make_dependent_noise.py "
            f"--dataset_name {dataset} --p "
            f"{args.p:g} --out noise.npz`, and give it with --noise_file"
        )
    kind = {"sym": "symmetric --exclude_true_class", "asym": "asymmetric"}[args.noise_mode]
    return (
        f"{published}, of rate 0.4; for another `python -m shared noise make --dataset "
        f"{dataset} --kind {kind} "
        f"--independent --rate {args.p:g} --out noise.npz` there, and give it with --noise_file"
    )


def _folders(args: argparse.Namespace) -> list[Path]:
    """Where csv files of a dataset are looked for: re-sln's own place, then where `make
    data-sln-noise` puts them.
    """
    root = datasets.data_root(data_path(args))
    published = root / "label_noisy"
    return [
        root / args.dataset_name / "label_noisy",
        published / "re_sln" / args.dataset_name,
        published / "sln" / args.dataset_name,
    ]


def rules_file(args: argparse.Namespace) -> Path | None:
    """The description of re-sln's generator, if it lies beside the labels."""
    name = f"{args.noise_mode}{rate_name(args.p)}_noise_rules.csv" if args.noise_mode else None
    return next(
        (folder / name for folder in _folders(args) if name and (folder / name).is_file()), None
    )


def _custom(args: argparse.Namespace, data: ImageData) -> NoiseFile:
    """re-sln's custom noise from --seed."""
    labels = data.train_labels
    known: dict[str, Any] = {
        "dataset": data.name,
        "split": "train",
        "num_classes": data.num_classes,
        "seed": args.seed,
        "nominal_rate": args.p,
        "generator": GENERATOR,
        "kind": KINDS[args.noise_mode],
    }
    if args.noise_mode == "openset":
        pairs = open_set.draw_pairs(len(labels), open_set.DONOR_IMAGES, args.p, args.seed)
        return make(
            labels, clean_labels=labels, open_set=open_set.flags(pairs, len(labels)), **known
        )
    noisy = legacy_noise(labels, args.noise_mode, args.p, data.num_classes, args.seed)
    return make(noisy, clean_labels=labels, **known)


def _keep(args: argparse.Namespace, noise: NoiseFile, path: Path, data: ImageData) -> None:
    """Writes custom noise where re-sln does, `<data>/<dataset>/label_noisy/`, with its rules and,
    of open-set, its pairs.
    """
    rules = path.with_name(f"{args.noise_mode}{rate_name(args.p)}_noise_rules.csv")
    try:
        write_any(path, noise)
        if args.noise_mode == "openset":
            open_set.write_pairs(
                _pairs_file(path), open_set.pairs_for(noise, open_set.DONOR_IMAGES)
            )
        write_atomically(rules, rules_csv(args.noise_mode, args.p, data.class_names).encode())
    except OSError as error:
        raise NoiseFileError(
            f"{path} cannot be written ({error.strerror}): give a data folder of your own with "
            "--data_path, or leave out --make_new_custom_noise"
        ) from error
    print(f"made {path} from seed {args.seed}: measured rate {noise.header.measured_rate:.4f}")


def _pairs_file(path: Path) -> Path:
    return path.with_name(f"{path.stem}_pairs.csv")


def _with_foreign_images(
    args: argparse.Namespace, data: ImageData, found: NoiseFile, path: Path
) -> NDArray[np.uint8]:
    """The training images with the flagged ones replaced; the pairs from a list, the original's
    .npy, or the seed.
    """
    # DEVIATION(re_sln): open-set images are put together in memory; the original needs a 154 MB
    # .npy that it never ships.
    pairs_file, images_file = _pairs_file(path), path.with_suffix(".npy")
    if pairs_file.is_file():
        pairs = open_set.read_pairs(pairs_file)
        if sorted(pairs.positions.tolist()) != np.flatnonzero(_all_flags(found, data)).tolist():
            raise NoiseFileError(
                f"{pairs_file} and {path} belong to different noise: delete both, or make them anew"
            )
    elif images_file != path and images_file.is_file():
        return _published_images(images_file, _all_flags(found, data), data)
    else:
        pairs = open_set.pairs_for(found, open_set.DONOR_IMAGES, seeds=(args.seed, README_SEED))
    donors = datasets.load(open_set.DONOR_DATASET, data_path(args)).train_images
    return open_set.replace_images(data.train_images, donors, pairs)


def _all_flags(found: NoiseFile, data: ImageData) -> NDArray[np.bool_]:
    flags = np.zeros(len(data.train_labels), bool)
    flags[slice(None) if found.indices is None else found.indices] = found.open_set
    return flags


def _published_images(path: Path, flags: NDArray[np.bool_], data: ImageData) -> NDArray[np.uint8]:
    """The images of the original's .npy; the flagged ones, (N,) bool, and no others must differ
    from the dataset's.
    """
    fix = "delete it, and the images come from CIFAR-100"
    try:
        images = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise NoiseFileError(f"{path} cannot be read ({error}): {fix}") from error
    if images.shape != data.train_images.shape or images.dtype != np.uint8:
        raise NoiseFileError(
            f"{path} holds {images.dtype} of shape {images.shape}, not "
            f"{data.train_images.shape} uint8: {fix}"
        )
    if not np.array_equal((images != data.train_images).any(axis=(1, 2, 3)), flags):
        raise NoiseFileError(f"{path} replaces other images than its .csv says: {fix}")
    return images


def _labels_as_they_are(data: ImageData) -> NoiseFile:
    return make(
        data.train_labels,
        indices=np.arange(len(data.train_labels)),
        dataset=data.name,
        split="train",
        num_classes=data.num_classes,
        kind="none",
    )


def _made_in_memory(args: argparse.Namespace, data: ImageData) -> NoiseFile:
    """Noise for sets without published files: independent draws, the true class excluded; asym goes
    to the next class.
    """
    if args.noise_mode == "sym":
        recipe = Recipe("symmetric", args.p, args.seed, include_true_class=False, independent=True)
    else:
        recipe = Recipe("pair_flip", args.p, args.seed, independent=True)
    return _aligned(generate(recipe, data), data)


def _aligned(found: NoiseFile, data: ImageData, **better: Any) -> NoiseFile:
    """The same labels with the dataset's labels as the clean ones, its row numbers, and what the
    caller knows better.
    """
    rows, noisy = labels_for(
        found, dataset=data.name, clean_labels=data.train_labels, num_classes=data.num_classes
    )
    known = {
        **origin(found),
        "dataset": data.name,
        "split": "train",
        "num_classes": data.num_classes,
        **better,
    }
    return make(
        noisy, clean_labels=data.train_labels[rows], indices=rows, open_set=found.open_set, **known
    )


def subset(noise: NoiseFile, rows: NDArray[np.int64]) -> NoiseFile:
    """Some rows of an aligned noise file. rows: (M,) positions in it."""
    parts = {
        name: None if (array := getattr(noise, name)) is None else array[rows]
        for name in ("clean_labels", "indices", "open_set")
    }
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
    """A --p that is not the file's would label the results wrongly.

    It is compared with the nominal rate, the measured one, and the one among the classes that flip
    at all: asymmetric noise of 0.4 changes a fifth of CIFAR-10's labels.
    """
    nominal, measured = noise.header.nominal_rate, noise.header.measured_rate
    wrong = is_noisy(noise)
    if args.p is None:
        args.p = nominal
        return
    if wrong is None or args.p == nominal:
        return
    flipping = np.isin(noise.clean_labels, np.unique(noise.clean_labels[wrong]))
    among_these = wrong[flipping].mean() if flipping.any() else 0.0
    if min(abs(args.p - measured), abs(args.p - among_these)) > RATE_TOLERANCE:
        raise NoiseFileError(
            f"--p {args.p} contradicts {args.noise_file}, whose measured rate is "
            f"{measured:.4f}: leave "
            "--p out, or give the file that you mean"
        )

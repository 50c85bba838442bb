"""Where the noisy labels of a run come from.

    labels, images = noisy_training_set(choice, datasets.load("cifar10"))

The paper's csv files, re-sln's custom ones, any noise file, or made from the seed. Open-set noise
keeps the labels and replaces images by those of CIFAR-100, in memory, from a list of pairs.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from re_sln.method.legacy_noise import GENERATOR, legacy_noise, rules_csv
from re_sln.run.places import data_places, first_found
from re_sln.run.presets import HUMAN_NOISE, REAL_NOISE
from re_sln.run.settings import LabelChoice
from shared import datasets
from shared.datasets import human_noise
from shared.datasets.folders import to_get
from shared.datasets.image_data import AnyData, ImageData
from shared.errors import UserError, explain
from shared.files import write_atomically
from shared.formats.alignment import aligned, is_noisy, unchanged
from shared.formats.external import read_any, split_column, write_any
from shared.formats.noise_file import NoiseFile, NoiseFileError, make
from shared.noise import open_set
from shared.noise.recipe import Recipe, generate

README_SEED = 123  # of every published custom file
# realised rates differ from the nominal one by chance; further off, a file was made for another
RATE_TOLERANCE = 0.02
KINDS = {"sym": "symmetric", "asym": "asymmetric", "openset": "open_set", "dependent": "confidence"}


class MissingLabelsError(NoiseFileError):
    """The file that --noise_mode, --p and --custom_noise name is nowhere; `what` says just that."""

    def __init__(self, what: str, fix: str) -> None:
        super().__init__(f"{what}: {fix}")
        self.what = what


def noisy_training_set(
    choice: LabelChoice, data: ImageData, *, may_make: bool = True
) -> tuple[NoiseFile, NDArray[np.uint8]]:
    """The labels, checked against the dataset, and its N training images; open-set replaces some.

    may_make: open-set noise that no file holds may be made from --seed. Raises NoiseFileError with
    the reason and the fix.
    """
    try:
        if choice.dataset_name in HUMAN_NOISE:
            return _of_people(choice, data), data.train_images
        if choice.dataset_name in REAL_NOISE:
            return labels_of_files(choice, data), data.train_images
        if choice.noise_file:
            path, _ = split_column(choice.noise_file)
            found = read_any(choice.noise_file)
            noise = aligned(found, data)
            _refuse_contradicting_rate(choice, noise)
        elif choice.noise_mode is None:
            return unchanged(data), data.train_images
        elif choice.dataset_name in ("digits", "folder"):
            return _made_in_memory(choice, data), data.train_images
        else:
            path, found = _of_cifar(choice, data, may_make)
            noise = aligned(found, data, kind=KINDS[choice.noise_mode], nominal_rate=choice.p)
        if noise.open_set is None or not noise.open_set.any():
            return noise, data.train_images
        return noise, _with_foreign_images(choice, data, found, path)
    except UserError:
        raise
    except ValueError as error:  # a generator's, of arguments that no flag can be blamed for alone
        raise NoiseFileError(f"no such noise on {data.name}: {error}") from error


def labels_of_files(choice: LabelChoice, data: AnyData) -> NoiseFile:
    """The labels of pictures that stay as they are: their own, or those of --noise_file.

    Raises NoiseFileError.
    """
    if choice.noise_file is None:
        return unchanged(data)
    noise = aligned(read_any(choice.noise_file), data)
    if noise.open_set is not None and noise.open_set.any():
        raise NoiseFileError(
            f"{choice.noise_file} replaces images by those of another data set, and those of "
            f"{choice.dataset_name} stay as they are here: give a file of closed-set noise"
        )
    if choice.dataset_name in REAL_NOISE:  # whose own labels are no truth to measure a rate by
        unmeasured = replace(noise.header, measured_rate=None, clean_labels_sha256=None)
        noise = replace(noise, clean_labels=None, header=unmeasured)
    return noise


def _of_people(choice: LabelChoice, data: ImageData) -> NoiseFile:
    """CIFAR-N's labels of --noise_type."""
    dataset, noise_type = choice.dataset_name, choice.noise_type
    _, file = first_found(
        lambda root: human_noise.human_labels(dataset, noise_type, root), choice.data_path
    )
    return aligned(read_any(file), data)


def nominal_rate(choice: LabelChoice, noise: NoiseFile) -> float | None:
    """--p, which a noise file may say instead."""
    return noise.header.nominal_rate if choice.noise_file and choice.p is None else choice.p


def _added(choice: LabelChoice) -> tuple[str, float]:
    """Kind and rate of the noise of --noise_mode, which was given."""
    assert choice.noise_mode is not None and choice.p is not None  # noqa: PT018
    return choice.noise_mode, choice.p


def rate_name(rate: float) -> str:
    """The rate in file names: one digit after the point, or as many as it has."""
    # DEVIATION(re_sln): --p 0.45 looks for a file named 0.45; the original rounds to one digit and
    # reads the 0.5 file.
    return f"{rate:.1f}" if round(rate, 1) == rate else repr(rate)


def csv_name(mode: str, rate: float, custom: bool) -> str:
    return f"{mode}{rate_name(rate)}{'_custom' if custom else ''}.csv"


def _of_cifar(choice: LabelChoice, data: ImageData, may_make: bool) -> tuple[Path, NoiseFile]:
    """The file of --noise_mode, --p and --custom_noise and its content, made where asked for."""
    mode, rate = _added(choice)
    name = csv_name(mode, rate, bool(choice.custom_noise))
    places = _folders(choice)
    if choice.make_new_custom_noise:
        made = _custom(choice, data)
        _keep(choice, made, places[0] / name, data)
        return places[0] / name, made
    for folder in places:
        if (folder / name).is_file():
            return folder / name, read_any(folder / name)
    if mode == "openset" and may_make:  # seed and rate define it; no file is needed
        print(f"note: no {name} in {places[0]}; made in memory from --seed {choice.seed}")
        return places[0] / name, _custom(choice, data)
    missing = f"{name} of {data.name} is in none of {', '.join(map(str, places))}"
    raise MissingLabelsError(missing, _how_to_get(choice, name))


def _how_to_get(choice: LabelChoice, name: str) -> str:
    """What the user can type."""
    published = f"`{to_get('sln-noise')}` (in the repository's root) gets the published ones"
    dataset = choice.dataset_name
    if choice.custom_noise:
        return (
            f"{published}, of rate 0.4 and for sym and asym of cifar10 0.5; `train_cifar.py "
            f"--custom_noise --make_new_custom_noise` with the rest of your flags makes {name}"
        )
    if choice.noise_mode == "dependent":
        return (
            f"{published}, of rate 0.4; for another `python make_dependent_noise.py "
            f"--dataset_name {dataset} --p {choice.p:g} --out noise.npz`, and give it with "
            "--noise_file"
        )
    kind = "symmetric --exclude_true_class" if choice.noise_mode == "sym" else "asymmetric"
    return (
        f"{published}, of rate 0.4; for another `python -m shared noise make --dataset {dataset} "
        f"--kind {kind} --independent --rate {choice.p:g} --out noise.npz` there, and give it with "
        "--noise_file"
    )


def _folders(choice: LabelChoice) -> list[Path]:
    """Where csv files are looked for: re-sln's place, then that of `make data-sln-noise`."""
    return [
        root / folder
        for root in data_places(choice.data_path)
        for folder in (
            f"{choice.dataset_name}/label_noisy",
            f"label_noisy/re_sln/{choice.dataset_name}",
            f"label_noisy/sln/{choice.dataset_name}",
        )
    ]


def rules_file(choice: LabelChoice) -> Path | None:
    """The description of re-sln's generator, if it is beside the labels."""
    if choice.noise_mode is None or choice.p is None:
        return None
    name = f"{choice.noise_mode}{rate_name(choice.p)}_noise_rules.csv"
    return next((path for folder in _folders(choice) if (path := folder / name).is_file()), None)


def _custom(choice: LabelChoice, data: ImageData) -> NoiseFile:
    """re-sln's custom noise from --seed."""
    mode, rate = _added(choice)
    labels = data.train_labels
    known: dict[str, Any] = {
        "dataset": data.name,
        "split": "train",
        "num_classes": data.num_classes,
        "seed": choice.seed,
        "nominal_rate": rate,
        "generator": GENERATOR,
        "kind": KINDS[mode],
    }
    if mode == "openset":
        pairs = open_set.draw_pairs(len(labels), open_set.DONOR_IMAGES, rate, choice.seed)
        foreign = open_set.flags(pairs, len(labels))
        return make(labels, clean_labels=labels, open_set=foreign, **known)
    noisy = legacy_noise(labels, mode, rate, data.num_classes, choice.seed)
    return make(noisy, clean_labels=labels, **known)


def _keep(choice: LabelChoice, noise: NoiseFile, path: Path, data: ImageData) -> None:
    """Writes custom noise where re-sln does, with its rules and, if it is open-set, its pairs."""
    mode, rate = _added(choice)
    rules = path.with_name(f"{mode}{rate_name(rate)}_noise_rules.csv")
    try:
        write_any(path, noise)
        if mode == "openset":
            pairs = open_set.pairs_for(noise, open_set.DONOR_IMAGES)
            open_set.write_pairs(_pairs_file(path), pairs)
        write_atomically(rules, rules_csv(mode, rate, data.class_names).encode())
    except OSError as error:
        raise NoiseFileError(
            f"{explain(error)}. Or give a data folder of your own with --data_path, or leave out "
            "--make_new_custom_noise"
        ) from error
    print(f"made {path} from seed {choice.seed}: measured rate {noise.header.measured_rate:.4f}")


def _pairs_file(path: Path) -> Path:
    return path.with_name(f"{path.stem}_pairs.csv")


def _with_foreign_images(
    choice: LabelChoice, data: ImageData, found: NoiseFile, path: Path
) -> NDArray[np.uint8]:
    """The training images with the flagged ones replaced.

    The pairs come from a list, the original's .npy, or the seed.
    """
    # DEVIATION(re_sln): open-set images are put together in memory; the original needs a 154 MB
    # .npy that it never ships.
    pairs_file, images_file = _pairs_file(path), path.with_suffix(".npy")
    if pairs_file.is_file():
        pairs = open_set.read_pairs(pairs_file)
        if sorted(pairs.positions.tolist()) != np.flatnonzero(_all_flags(found, data)).tolist():
            raise NoiseFileError(
                f"{pairs_file} and {path} belong to different noise: delete both, or remake them"
            )
    elif images_file != path and images_file.is_file():
        return _published_images(images_file, _all_flags(found, data), data)
    else:
        pairs = open_set.pairs_for(found, open_set.DONOR_IMAGES, seeds=(choice.seed, README_SEED))
    donors = first_found(lambda root: datasets.load(open_set.DONOR_DATASET, root), choice.data_path)
    return open_set.replace_images(data.train_images, donors.train_images, pairs)


def _all_flags(found: NoiseFile, data: ImageData) -> NDArray[np.bool_]:
    flags = np.zeros(len(data.train_labels), bool)
    flags[slice(None) if found.indices is None else found.indices] = found.open_set
    return flags


def _published_images(path: Path, flags: NDArray[np.bool_], data: ImageData) -> NDArray[np.uint8]:
    """The images of the original's .npy, of which the flagged ones, (N,) bool, must differ."""
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
    replaced: NDArray[np.uint8] = images
    return replaced


def _made_in_memory(choice: LabelChoice, data: ImageData) -> NoiseFile:
    """Noise for sets without published files: independent draws; asym goes to the next class."""
    mode, rate = _added(choice)
    if mode == "sym":
        recipe = Recipe("symmetric", rate, choice.seed, include_true_class=False, independent=True)
    else:
        recipe = Recipe("pair_flip", rate, choice.seed, independent=True)
    return aligned(generate(recipe, data), data)


def _refuse_contradicting_rate(choice: LabelChoice, noise: NoiseFile) -> None:
    """A --p that is not the file's would label the results wrongly.

    It is compared with the nominal rate, the measured one, and the one among the classes that flip
    at all: asymmetric noise of 0.4 changes a fifth of CIFAR-10's labels.
    """
    measured, wrong = noise.header.measured_rate, is_noisy(noise)
    if choice.p in (None, noise.header.nominal_rate) or wrong is None or measured is None:
        return
    assert noise.clean_labels is not None
    flipping = np.isin(noise.clean_labels, np.unique(noise.clean_labels[wrong]))
    among_these = wrong[flipping].mean() if flipping.any() else 0.0
    if min(abs(choice.p - measured), abs(choice.p - among_these)) > RATE_TOLERANCE:
        raise NoiseFileError(
            f"--p {choice.p} contradicts {choice.noise_file}, whose measured rate is "
            f"{measured:.4f}: leave --p out, or give the file that you mean"
        )

"""Open-set label noise: images are replaced by those of another dataset, and the labels stay.

    pairs = draw_pairs(50_000, 50_000, rate=0.4, seed=123)     # or pairs_for(noise file, ...)
    images = replace_images(cifar10.train_images, cifar100.train_images, pairs)

The pairs say which image goes where. They are drawn as re-sln draws them (SLN, Chen et al., ICLR
2021; images come from CIFAR-100's training set), so its published files, which only flag the
replaced images, lead back to the same images. Classes of CIFAR-100 that resemble one of CIFAR-10
(pickup_truck, bus) are not left out, as in the original. Letters: N training images, M donor
images, n pairs, H x W pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shared.files import write_atomically
from shared.formats import safe_arrays
from shared.formats.noise_file import NoiseFile, NoiseFileError
from shared.labels import Labels, checked_labels, checked_seed
from shared.noise.generators import share_of

DONOR_DATASET = "cifar100"  # its training images, as in SLN and re-sln
DONOR_IMAGES = 50_000
DONOR_SEED_OFFSET = 123  # re-sln draws the donors with seed + 123
_HEAD = "index,donor_index"


@dataclass(frozen=True, eq=False)
class Pairs:
    """Training image positions[i] becomes donor image donors[i]; always valid, arrays read-only.

    NoiseFileError if not.
    """

    positions: Labels  # (n,) int64 in [0, N), distinct
    donors: Labels  # (n,) int64 in [0, M)

    def __post_init__(self) -> None:
        for name in ("positions", "donors"):
            array = checked_labels(getattr(self, name), None, name=name, error=NoiseFileError)
            array.setflags(write=False)
            object.__setattr__(self, name, array)
        if len(self.positions) != len(self.donors):
            raise NoiseFileError(
                f"{len(self.positions)} positions and {len(self.donors)} donors: give one donor "
                "for each position"
            )
        if len(np.unique(self.positions)) < len(self.positions):
            raise NoiseFileError("positions name a training image twice: give it one donor")

    def __len__(self) -> int:
        return len(self.positions)


def draw_pairs(size: int, donor_size: int, rate: float, seed: int) -> Pairs:
    """int(size * rate) pairs of different training images and different donors, by re-sln's recipe.

    size: N, donor_size: M, seed: in [0, 2^32 - 123). A higher rate keeps the pairs of a lower one
    and adds to them. Raises ValueError when there are fewer donors than images to replace.
    """
    return _draw(size, donor_size, share_of(rate, size), seed)


def _draw(size: int, donor_size: int, count: int, seed: int) -> Pairs:
    checked_seed(seed, 2**32 - DONOR_SEED_OFFSET)
    if count > donor_size:
        raise ValueError(
            f"{count} images are to be replaced, but there are {donor_size} donor images: lower "
            "the rate"
        )
    positions = np.random.RandomState(seed).choice(
        size, count, replace=False
    )  # legacy: the published files use it
    donors = np.random.RandomState(seed + DONOR_SEED_OFFSET).choice(
        donor_size, count, replace=False
    )
    return Pairs(positions.astype(np.int64), donors.astype(np.int64))


def flags(pairs: Pairs, size: int) -> NDArray[np.bool_]:
    """Which of the N = size training images are replaced, (N,) bool, as in NoiseFile.open_set."""
    _check_range(pairs.positions, size, "training")
    replaced = np.zeros(size, dtype=bool)
    replaced[pairs.positions] = True
    return replaced


def replace_images(
    images: NDArray[np.uint8], donor_images: NDArray[np.uint8], pairs: Pairs
) -> NDArray[np.uint8]:
    """A copy of `images` with the donors in their places.

    images: (N, H, W, 3), donor_images: (M, H, W, 3), uint8.
    """
    for name, array in (("images", images), ("donor_images", donor_images)):
        if array.dtype != np.uint8 or array.ndim != 4 or array.shape[3] != 3:
            raise ValueError(
                f"{name} are {array.dtype} of shape {array.shape}: give uint8, (N, H, W, 3)"
            )
    if images.shape[1:] != donor_images.shape[1:]:
        raise ValueError(
            f"images are {images.shape[1]} x {images.shape[2]} pixels, donor images "
            f"{donor_images.shape[1]} x {donor_images.shape[2]}: load both in one size"
        )
    _check_range(pairs.positions, len(images), "training")
    _check_range(pairs.donors, len(donor_images), "donor")
    replaced = images.copy()
    replaced[pairs.positions] = donor_images[pairs.donors]
    return replaced


def pairs_for(noise: NoiseFile, donor_size: int, seeds: Sequence[int] = ()) -> Pairs:
    """The pairs behind an open-set noise file, which only flags the replaced images, drawn again.

    Tries the seed in the file's header, then `seeds`, and takes the first whose positions are those
    flagged. donor_size: M, of the dataset that the file's donors came from. Raises NoiseFileError
    when no seed fits.
    """
    if noise.open_set is None:
        raise NoiseFileError("the noise file flags no replaced images: give one of open-set noise")
    if noise.indices is not None:
        raise NoiseFileError(
            "the noise file covers a part of the training set, from which the pairs cannot be "
            "drawn again: give the list of pairs, or the file for the whole set"
        )
    size, count = len(noise.open_set), int(noise.open_set.sum())
    if count == 0:
        return Pairs(np.zeros(0, np.int64), np.zeros(0, np.int64))
    candidates = list(
        dict.fromkeys([*([] if noise.header.seed is None else [noise.header.seed]), *seeds])
    )
    if count == size:  # every seed replaces everything: the flags confirm none
        candidates = [seed for seed in candidates if seed == noise.header.seed]
    for seed in candidates:
        try:
            pairs = _draw(size, donor_size, count, seed)
        except ValueError as error:
            raise NoiseFileError(
                f"the pairs of the noise file cannot be drawn again: {error}"
            ) from error
        if np.array_equal(flags(pairs, size), noise.open_set):
            return pairs
    tried = (
        f"tried seed {', '.join(map(str, candidates))}"
        if candidates
        else "it has no seed that could be tried"
    )
    raise NoiseFileError(
        f"the noise file flags {count:,} of {size:,} images as replaced, but not by which ones "
        f"({tried}): give the list of pairs (a .csv of index,donor_index) or the right seed, or "
        "make the noise again with `python -m shared noise make --kind open_set`"
    )


def _check_range(indices: Labels, size: int, what: str) -> None:
    if len(indices) and indices.max() >= size:
        raise ValueError(
            f"the pairs name {what} image {indices.max()}, but the last one is {size - 1}: "
            "take pairs made for these datasets, and do not shorten them first"
        )


# ---- files


def write_pairs(path: str | Path, pairs: Pairs) -> None:
    """Write the list as CSV, `index,donor_index`, all or nothing."""
    rows = (
        f"{position},{donor}\n"
        for position, donor in zip(pairs.positions.tolist(), pairs.donors.tolist())
    )
    write_atomically(path, (_HEAD + "\n" + "".join(rows)).encode())


def read_pairs(path: str | Path) -> Pairs:
    """Read a list that `write_pairs` wrote, LF or CRLF. Raises NoiseFileError."""
    try:
        text = safe_arrays.read_limited(Path(path)).decode("ascii")
    except FileNotFoundError as error:
        raise NoiseFileError(
            f"the list of pairs {path} does not exist: check its name and folder"
        ) from error
    except UnicodeDecodeError as error:
        raise NoiseFileError(
            f"{path} is not a list of pairs, which is a text of {_HEAD}: give another file"
        ) from error
    except (OSError, safe_arrays.UnsafeArrayError) as error:
        raise NoiseFileError(f"cannot read the list of pairs {path}: {error}") from error
    head, *lines = text.splitlines() or [""]
    if head.strip() != _HEAD:
        raise NoiseFileError(f"{path}: the first line is {head[:80]!r}: expected {_HEAD}")
    rows = [_row(path, number, line) for number, line in enumerate(lines, start=2)]
    table = np.array(rows, np.int64).reshape(-1, 2)
    try:
        return Pairs(table[:, 0], table[:, 1])
    except NoiseFileError as error:
        raise NoiseFileError(f"{path}: {error}") from error


def _row(path: str | Path, number: int, line: str) -> tuple[int, int]:
    cells = [cell.strip() for cell in line.split(",")]
    if len(cells) != 2 or not all(cell.isdigit() and len(cell) < 19 for cell in cells):
        raise NoiseFileError(
            f"{path}, line {number}: {line[:40]!r} where two numbers, {_HEAD}, belong: damaged file"
        )
    return int(cells[0]), int(cells[1])

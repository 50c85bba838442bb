"""Reads picture files into an array: turned as their EXIF data say, 8 bits, RGB, one size.

    found = decoding.read_images(files, 32, place=root, skip_broken=True, cache_dir=Path("cache"))
    found.images[k]                         # the pixels of files[found.rows[k]]

16-bit grey is scaled from its range to 8 bits. Pictures are decoded by threads, straight into the
array that is returned, or into a file of `cache_dir` that is mapped into memory and used again by
the next run. Letters: N files, n readable ones, S = image_size.
"""

import stat
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from shared.datasets import pixel_cache
from shared.datasets.image_data import DatasetError
from shared.datasets.pixel_cache import Faults
from shared.datasets.progress import watched
from shared.errors import printable

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".webp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"}
NAMED = 5  # of the pictures that cannot be read
_AHEAD = 256  # pictures that wait for the consumer at most
_Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Pictures:
    """The pictures that could be read, in the order of the files."""

    images: _Pixels  # (n, S, S, 3)
    rows: NDArray[np.int64]  # (n,) ascending positions of their files in [0, N)


def is_image(path: Path) -> bool:
    """Whether the name is that of an image file; hidden ones are left out."""
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def read_images(
    files: Sequence[Path],
    image_size: int,
    *,
    place: Path,
    crop: bool = True,
    skip_broken: bool = False,
    cache_dir: Path | None = None,
) -> Pictures:
    """The pixels of N files below `place`, (n, S, S, 3) uint8.

    crop: resize the short side and cut out the middle of a picture that is not square, instead of
    squashing it. skip_broken: leave out pictures that cannot be read, naming them on stderr; else,
    or where none can be read, they are a DatasetError. cache_dir: where pixels are kept.
    """

    def decode(append: Callable[[_Pixels], object]) -> Faults:
        broken: dict[int, str] = {}
        cropped = 0
        found = watched(
            _decoded(files, image_size, crop), len(files), f"reading {'/'.join(place.parts[-2:])}"
        )
        for position, (pixels, fault, is_square) in enumerate(found):
            if fault:
                broken[position] = fault
            else:
                append(pixels)
                cropped += not is_square
        return Faults(broken, cropped)

    if cache_dir is None or not files:
        images, faults = _in_memory(decode, len(files), image_size)
    else:
        key = pixel_cache.key_of(files, place, image_size, crop)
        images, faults = pixel_cache.kept(cache_dir, key, len(files), image_size, decode)
    if faults.broken:
        _report(
            [(files[row], fault) for row, fault in faults.broken.items()],
            len(files),
            place,
            skip_broken,
        )
    if crop and faults.cropped:
        warn_of_cropping(place, faults.cropped, len(files), image_size)
    rows = np.array([row for row in range(len(files)) if row not in faults.broken], np.int64)
    return Pictures(images, rows)


def _in_memory(
    decode: Callable[[Callable[[_Pixels], object]], Faults], count: int, image_size: int
) -> tuple[_Pixels, Faults]:
    images = np.empty((count, image_size, image_size, 3), dtype=np.uint8)
    slots = iter(images)

    def append(pixels: _Pixels) -> None:
        next(slots)[:] = pixels

    faults = decode(append)
    return images[: count - len(faults.broken)], faults


def _report(broken: Sequence[tuple[Path, str]], count: int, place: Path, skip_broken: bool) -> None:
    """Name the first of the pictures that cannot be read, as an error or as a note."""
    lines = [f"\n  {file} is not a readable image ({fault})" for file, fault in broken[:NAMED]]
    if len(broken) > NAMED:
        lines.append(f"\n  and {len(broken) - NAMED:,} more")
    what = f"{len(broken):,} of {count:,} pictures of {place}"
    if len(broken) == count:
        raise DatasetError(
            f"{what} cannot be read, that is, none can: see whether the place is there and "
            f"readable{''.join(lines)}"
        )
    if not skip_broken:
        raise DatasetError(
            f"{what} cannot be read: repair or delete them, or leave them out with "
            f"--skip_broken{''.join(lines)}"
        )
    print(printable(f"{what} cannot be read and are left out:{''.join(lines)}"), file=sys.stderr)


def warn_of_cropping(place: Path, cropped: int, count: int, image_size: int) -> None:
    """Say that pictures lose their edges."""
    warnings.warn(
        f"{cropped:,} of {count:,} pictures of {place} are not square: their short side is resized "
        f"to {image_size} pixels, and the middle is cut out",
        stacklevel=2,
    )


# ---- one picture


def _decoded(
    files: Sequence[Path], image_size: int, crop: bool
) -> Iterator[tuple[_Pixels, str, bool]]:
    """Of each file its pixels (S, S, 3), or why it cannot be read, and whether it is square."""
    with ThreadPoolExecutor() as pool:  # Pillow lets threads run in parallel
        for start in range(0, len(files), _AHEAD):
            part = files[start : start + _AHEAD]
            yield from pool.map(lambda file: _read(file, image_size, crop), part)


def _read(file: Path, image_size: int, crop: bool) -> tuple[_Pixels, str, bool]:
    try:
        image = open_rgb(file)
    except DatasetError as error:
        return np.empty(0, np.uint8), _why(error.__cause__, file), True
    return resized(image, image_size, crop), "", image.width == image.height


def open_rgb(file: Path) -> Image.Image:
    """A picture of any size, turned as its EXIF data say, in RGB of 8 bits; or a DatasetError."""
    try:
        with opened(file) as picture:
            return _eight_bits(ImageOps.exif_transpose(picture))
    except MemoryError:  # no fault of the picture
        raise
    # Pillow's decoders raise whatever they like: OSError, SyntaxError, struct.error, ...
    except Exception as error:
        raise DatasetError(
            f"{file} is not a readable image ({_why(error, file)}): repair or delete it"
        ) from error


def opened(file: Path) -> Image.Image:
    """The picture with its header read, for a `with`; raises what Pillow does."""
    if not stat.S_ISREG(file.stat().st_mode):  # a pipe would wait for ever
        raise OSError("not a regular file")
    return Image.open(file)


def _why(error: BaseException | None, file: Path) -> str:
    """The reason without the name of the file, which is said anyway."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return text.replace(f" {str(file)!r}", "")


def _eight_bits(image: Image.Image) -> Image.Image:
    """The image as RGB; greys of more than 8 bits are scaled from their range, 0 to 65,535."""
    if image.mode not in ("I", "F") and not image.mode.startswith("I;16"):
        return image.convert("RGB")
    grey = np.asarray(image).astype(np.float64)
    white = next((white for white in (255.0, 65_535.0) if grey.max() <= white), grey.max())
    if image.mode.startswith("I"):
        white = max(white, 65_535.0)
    elif grey.max() <= 1:
        white = 1.0
    scaled = np.clip(grey * (255 / white), 0, 255).round().astype(np.uint8)
    return Image.fromarray(scaled).convert("RGB")


def resized(image: Image.Image, image_size: int, crop: bool = True) -> _Pixels:
    """The pixels of an RGB picture, (S, S, 3), bilinear; see `read_images`."""
    if image.size != (image_size, image_size):
        scale = image_size / min(image.size)
        width, height = (round(side * scale) if crop else image_size for side in image.size)
        image = image.resize((width, height), Image.Resampling.BILINEAR)
        left, top = (width - image_size) // 2, (height - image_size) // 2
        image = image.crop((left, top, left + image_size, top + image_size))
    return np.asarray(image, dtype=np.uint8)

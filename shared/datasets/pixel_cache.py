"""Decoded pictures that are kept in a folder and mapped into memory by the next run.

    images, faults = kept(cache_dir, key_of(files, root, 224, crop=True), len(files), 224, decode)

An entry is a folder `<size>_<key>` with `images.npy`, (n, S, S, 3) uint8, and `about.json`, which
files could not be read and how many lost their edges. It is written beside its place, flushed and
renamed, so that it is complete or not there. Other files, or files that changed, have another key;
an entry may be deleted at any time that no run uses it. Letters: N files, n readable ones,
S = image_size.
"""

import contextlib
import hashlib
import io
import json
import math
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from shared.datasets.image_data import DatasetError
from shared.errors import fix_for

VERSION = 1  # of how pictures become pixels; another one makes other entries
_IMAGES, _ABOUT = "images.npy", "about.json"


@dataclass(frozen=True)
class Faults:
    """What was found while decoding."""

    broken: dict[int, str]  # position in [0, N) -> why it cannot be read
    cropped: int  # pictures that are not square


Append = Callable[[NDArray[np.uint8]], object]  # takes the next picture, (S, S, 3)


def key_of(files: Sequence[Path], root: Path, image_size: int, crop: bool) -> str:
    """The name of the entry for these files, by their names below `root`, sizes and times."""
    digest = hashlib.sha256(f"{VERSION} {image_size} {crop}\n".encode())
    for file in files:
        try:
            status = file.stat()
            known = f"{status.st_size} {status.st_mtime_ns}"
        except OSError:
            known = "missing"
        digest.update(f"{file.relative_to(root).as_posix()}\0{known}\n".encode(errors="replace"))
    return f"{image_size}_{digest.hexdigest()[:32]}"


def kept(
    cache_dir: Path, key: str, count: int, image_size: int, decode: Callable[[Append], Faults]
) -> tuple[NDArray[np.uint8], Faults]:
    """The entry, (n, S, S, 3), mapped copy-on-write; made by `decode` where it is not there.

    decode: calls its argument with each readable picture of N = count, in order. Raises
    DatasetError where the folder cannot be written to.
    """
    place = cache_dir / key
    if found := _entry(place, count, image_size):
        return found
    try:
        cache_dir.mkdir(parents=True, exist_ok=True)
        with _alone(cache_dir / f".{key}.lock"):
            if found := _entry(place, count, image_size):  # another process was faster
                return found
            _write(place, count, image_size, decode)
    except OSError as error:
        raise DatasetError(
            f"cannot keep pictures in {cache_dir} ({error.strerror or error}): {fix_for(error)} "
            "(--cache_dir), or leave --cache_dir out"
        ) from error
    made = _entry(place, count, image_size)
    if made is None:
        raise DatasetError(
            f"{place} cannot be read back: delete it, and choose another --cache_dir"
        )
    return made


def _entry(place: Path, count: int, image_size: int) -> tuple[NDArray[np.uint8], Faults] | None:
    """What is kept; None where it is not there, or somebody damaged it."""
    try:
        about = json.loads((place / _ABOUT).read_text())
        faults = Faults(
            {int(row): str(why) for row, why in about["broken"].items()}, int(about["cropped"])
        )
        header = _header(rows := count - len(faults.broken), image_size)
        with (place / _IMAGES).open("rb") as file:
            known = file.read(len(header)) == header
            size = file.seek(0, os.SEEK_END) - len(header)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    shape = (rows, image_size, image_size, 3)
    if not known or size != math.prod(shape):
        return None
    if not rows:
        return np.empty(shape, np.uint8), faults
    # Copy-on-write: torch.from_numpy warns about arrays that are read-only.
    return np.asarray(np.memmap(place / _IMAGES, np.uint8, "c", len(header), shape)), faults


def _write(place: Path, count: int, image_size: int, decode: Callable[[Append], Faults]) -> None:
    """Make the entry, all or nothing."""
    part = place.with_name(f".{place.name}.part")
    for old in (part, place):  # what a kill left, and what is damaged
        if old.exists():
            shutil.rmtree(old)
    part.mkdir()
    try:
        with (part / _IMAGES).open("wb") as file:
            file.write(_header(count, image_size))
            faults = decode(lambda pixels: file.write(pixels.data))
            file.seek(0)
            file.write(_header(count - len(faults.broken), image_size))
            _flush(file)
        with (part / _ABOUT).open("wb") as file:
            file.write(json.dumps(asdict(faults)).encode())
            _flush(file)
        part.rename(place)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _header(rows: int, image_size: int) -> bytes:
    """Of an .npy file; numpy leaves room for any number of rows, so that its length is the same."""
    header = io.BytesIO()
    shape = (rows, image_size, image_size, 3)
    np.lib.format.write_array_header_1_0(
        header, {"shape": shape, "fortran_order": False, "descr": "|u1"}
    )
    return header.getvalue()


def _flush(file: "io.BufferedWriter") -> None:
    file.flush()
    os.fsync(file.fileno())


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """While no other process makes the same entry; a lock ends with its process."""
    lock = FileLock(path)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        print(f"waiting for another process that reads into {path.parent}", file=sys.stderr)
        lock.acquire()
    except NotImplementedError:  # a file system without locks
        yield
        return
    try:
        yield
    finally:
        lock.release()

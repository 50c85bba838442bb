"""Decoded pictures of different sizes in one file, memory-mapped: decoded once, whoever asks.

    store = open_store(Path("cache"), key, lambda: (read(path) for path in paths), len(paths))
    store[5]  # (H, W, 3) uint8

The pixels of all pictures stand one after the other in `<key>.pixels`; `<key>.npy` has (N, 3)
int64: where each begins, its height and width. It is written last, so that a store that a kill left
half written is not taken for one; nor is one whose pixels were deleted or cut short.
"""

import io
import os
import secrets
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from instancegm.run.errors import UsageError
from shared.files import write_atomically

CHANNELS = 3


class ImageStore:
    """N pictures (H, W, 3) uint8 by their number."""

    def __init__(self, pixels: Path, index: NDArray[np.int64]) -> None:
        self._pixels, self._index = np.memmap(pixels, np.uint8, mode="r"), index

    def __getitem__(self, position: int) -> NDArray[np.uint8]:
        start, height, width = self._index[position]
        stop = start + height * width * CHANNELS
        return self._pixels[start:stop].reshape(height, width, CHANNELS)


def open_store(
    folder: Path,
    key: str,
    pictures: Callable[[], Iterable[NDArray[np.uint8]]],
    count: int,
    smallest: int,
) -> ImageStore:
    """The store `key` of a folder, made of the pictures if it is not there.

    pictures: their source, (H, W, 3) uint8 each; smallest: bytes of the smallest possible picture.
    Raises UsageError where the disk is too small for them.
    """
    pixels, index = folder / f"{key}.pixels", folder / f"{key}.npy"
    if not _is_whole(pixels, index):
        folder.mkdir(parents=True, exist_ok=True)
        needed, free = count * smallest, shutil.disk_usage(folder).free
        if needed > free:
            raise UsageError(
                f"--cache_dir {folder}: {count:,} decoded pictures take at least "
                f"{needed / 2**30:.1f} GiB, and {free / 2**30:.1f} GiB are free: choose another "
                "folder, or leave the flag out"
            )
        _write(pixels, index, pictures())
    return ImageStore(pixels, np.load(index, allow_pickle=False))


def _is_whole(pixels: Path, index: Path) -> bool:
    """Whether both files are there, and the pixels of as many bytes as the index says."""
    if not (index.is_file() and pixels.is_file()):
        return False
    sizes = np.load(index, allow_pickle=False)[:, 1:]
    return pixels.stat().st_size == CHANNELS * int(sizes.prod(axis=1).sum())


def _write(pixels: Path, index: Path, pictures: Iterable[NDArray[np.uint8]]) -> None:
    unfinished = pixels.with_name(f"{pixels.name}.{secrets.token_hex(4)}.part")
    table, start = [], 0
    try:
        with unfinished.open("wb") as file:
            for picture in pictures:
                table.append((start, *picture.shape[:2]))
                start += file.write(np.ascontiguousarray(picture).data)
        os.replace(unfinished, pixels)
    finally:
        unfinished.unlink(missing_ok=True)
    write_atomically(index, _npy(np.array(table, np.int64)))


def _npy(array: NDArray[np.int64]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()

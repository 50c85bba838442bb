"""Reads .npy data and zip members of strangers: nothing is unpickled, no declared size is believed.

Sizes are checked against the bytes that are there before anything is allocated, so a header that
claims 10 GB or a zip bomb costs nothing. Every failure is an UnsafeArrayError, whose text says what
is wrong but not in which file.
"""

import io
import math
import stat
import warnings
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

MAX_FILE_BYTES = 256 * 2**20
MAX_LABELS = 2**25  # the largest set of labels we know has 14 million
# What may come out of the compressed members of one archive, labels counted as int64: a thousandth
# of it can lie in the file.
MAX_INFLATED_BYTES = 32 * 2**20
MAX_MEMBERS = 256
MAX_DIMENSIONS = 32  # of numpy 1; numpy 2 has 64
MAX_NPY_HEADER = 4096
_HEAD = MAX_NPY_HEADER + 16  # bytes of an .npy file that hold its header
# dtype kind -> what to call it, how to get it
_WISHES = {
    "i": ("integers", "np.int64"),
    "f": ("floats", "np.float32"),
    "b": ("flags", "bool"),
    "U": ("text", "str"),
}
_NAMES = "the position of its name in the list of classes"
_NO_NUMBERS = {"U": _NAMES, "S": _NAMES, "V": "a field alone, array['noisy']"}
_BROKEN_ZIP = (
    zipfile.BadZipFile,
    zlib.error,
    RuntimeError,  # NotImplementedError is one
    EOFError,
    OSError,
    ValueError,
    IndexError,
    OverflowError,
)


class UnsafeArrayError(ValueError):
    """The bytes are damaged, not what they claim to be, or too large."""


class TooLargeError(UnsafeArrayError):
    """An archive, which may be a trap, unpacks to more than labels need."""


def read_limited(path: Path, limit: int | None = None, what: str = "labels") -> bytes:
    """The whole file. Raises OSError, or UnsafeArrayError for no regular file or one too large."""
    limit = MAX_FILE_BYTES if limit is None else limit
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for ever
        raise UnsafeArrayError("this is not a regular file: give the name of a file")
    if status.st_size > limit:
        raise UnsafeArrayError(f"the file is larger than {limit >> 20} MiB, too large for {what}")
    with path.open("rb") as file:
        return file.read(status.st_size)  # a bare read() could meet a file that grows


def parse_npy(data: bytes, kinds: str = "iu") -> NDArray[Any]:
    """The array of an .npy file, read-only and without a copy.

    kinds: the dtype kinds allowed ("f": floats).
    """
    shape, fortran_order, dtype, start = npy_header(data)
    if dtype.kind not in kinds or dtype.subdtype is not None:
        wanted, example = next(wish for kind, wish in _WISHES.items() if kind in kinds)
        fix = f"save it as {wanted} (array.astype({example}))"
        if "i" in kinds and dtype.kind in _NO_NUMBERS:
            fix = f"save one number per sample instead: {_NO_NUMBERS[dtype.kind]}"
        elif "i" in kinds and len(shape) == 2 and shape[1] > 1:
            fix = "of probabilities or one-hot labels save array.argmax(axis=1)"
        raise UnsafeArrayError(f"the array holds {str(dtype)[:80]}, not {wanted}; {fix}")
    declared = math.prod(shape) * dtype.itemsize  # Python integers: no overflow
    if declared != len(data) - start:
        raise UnsafeArrayError(
            f"the .npy header claims {declared} bytes of data, but {len(data) - start} are there: "
            "damaged file"
        )
    array = np.frombuffer(data, dtype, math.prod(shape), start)
    return array.reshape(shape, order="F" if fortran_order else "C")


def npy_header(data: bytes) -> tuple[tuple[int, ...], bool, np.dtype[Any], int]:
    """Shape, Fortran order, dtype and where the array begins; data: an .npy file or its start."""
    if not data.startswith(np.lib.format.MAGIC_PREFIX):
        raise UnsafeArrayError("this is not an .npy file: save the array with numpy.save")
    stream = io.BytesIO(data[:_HEAD])
    try:
        version = np.lib.format.read_magic(stream)
        if version not in ((1, 0), (2, 0)):
            raise UnsafeArrayError(f".npy version {version} is not one for plain arrays")
        read = (
            np.lib.format.read_array_header_1_0
            if version == (1, 0)
            else np.lib.format.read_array_header_2_0
        )
        with warnings.catch_warnings():  # about headers that Python 2 wrote
            warnings.simplefilter("ignore")
            shape, fortran_order, dtype = read(stream, max_header_size=MAX_NPY_HEADER)
    except UnsafeArrayError:
        raise
    # It holds a Python literal: SyntaxError, MemoryError, TokenError ..., by version of numpy.
    except Exception as error:
        raise UnsafeArrayError(f"the .npy header is damaged ({error})") from error
    if len(shape) > MAX_DIMENSIONS or not all(type(size) is int and size >= 0 for size in shape):
        raise UnsafeArrayError(f"the .npy header claims shape {str(shape)[:40]}: damaged file")
    return shape, fortran_order, dtype, stream.tell()


class Archive:
    """A zip archive of labels: few members of distinct names, and little in the compressed ones."""

    def __init__(self, data: bytes) -> None:
        try:
            self._zip = zipfile.ZipFile(io.BytesIO(data))
        except _BROKEN_ZIP as error:
            raise UnsafeArrayError(
                f"the zip archive is damaged ({error}): copy or download the file again"
            ) from error
        self.names = self._zip.namelist()
        self._budget = MAX_INFLATED_BYTES
        if len(self.names) > MAX_MEMBERS or len(set(self.names)) < len(self.names):
            raise UnsafeArrayError(
                f"the zip archive has {len(self.names)} members or two of one name: "
                "not a label file"
            )

    def is_compressed(self, name: str) -> bool:
        return self._zip.getinfo(name).compress_type != zipfile.ZIP_STORED

    def read(self, name: str) -> bytes:
        """One member, its checksum verified."""
        info = self._zip.getinfo(name)
        if self.is_compressed(name):
            self._spend(name, info.file_size)
        elif info.file_size > info.compress_size:
            raise UnsafeArrayError(f"{name} claims {info.file_size} bytes, more than there are")
        data = self._read(name, info.file_size)
        if len(data) < info.file_size:
            raise UnsafeArrayError(
                f"{name} ends after {len(data)} of {info.file_size} bytes: copy or download the "
                "file again"
            )
        return data

    def array(self, name: str, kinds: str = "iu") -> NDArray[Any]:
        """The array of a member of .npy format."""
        array = parse_npy(self.read(name), kinds)
        if array.size > MAX_LABELS:
            raise UnsafeArrayError(f"{name} has {array.size:,} entries, more than {MAX_LABELS:,}")
        if self.is_compressed(name):  # as labels it will take 8 bytes each
            self._spend(name, array.size * max(0, 8 - array.itemsize))
        return array

    def looks_like_labels(self, name: str) -> bool:
        """Whether a member is an array of one whole number per sample, going by its header."""
        try:
            shape, _, dtype, _ = npy_header(self._read(name, _HEAD))
        except UnsafeArrayError:
            return False
        return dtype.kind in "iu" and is_label_shape(shape)

    def _read(self, name: str, size: int) -> bytes:
        """The first `size` bytes: a bare read() would inflate first and look at the size then."""
        info = self._zip.getinfo(name)
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise UnsafeArrayError(
                f"{name} uses zip compression {info.compress_type}: only stored and deflated "
                "members are read"
            )
        try:
            with self._zip.open(info) as member:
                return member.read(size)
        except _BROKEN_ZIP as error:
            raise UnsafeArrayError(
                f"{name} is damaged ({str(error)[:100]}): copy or download the file again"
            ) from error

    def _spend(self, name: str, size: int) -> None:
        self._budget -= size
        if self._budget < 0:
            raise TooLargeError(
                f"{name} brings what the archive unpacks to above {MAX_INFLATED_BYTES >> 20} MiB, "
                "too much for compressed labels: save it without compression, or fewer columns"
            )


def is_label_shape(shape: tuple[int, ...]) -> bool:
    """Whether it is (N,) or (N, 1)."""
    return len(shape) == 1 or (len(shape) == 2 and shape[1] == 1)

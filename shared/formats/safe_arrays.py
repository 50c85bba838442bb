"""Reads .npy data and zip members of strangers: nothing is unpickled, and no declared size is
believed.

Sizes are checked against the bytes that are there before anything is allocated, so a header that
claims 10 GB or a zip bomb costs nothing. Every failure is an UnsafeArrayError, whose text says what
is wrong but not in which file.
"""

import io
import math
import stat
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

MAX_FILE_BYTES = (
    256 * 2**20
)  # 32 million int64 labels; the largest set of labels we know has 14 million
MAX_INFLATED_BYTES = (
    64 * 2**20
)  # of one compressed zip member, which could grow by a factor of 1000
MAX_MEMBERS = 256
MAX_NPY_HEADER = 4096
_WISHES = {  # dtype kind -> what to call it, how to get it
    "i": ("integers", "np.int64"),
    "f": ("floats", "np.float32"),
    "b": ("flags", "bool"),
    "U": ("text", "str"),
}


class UnsafeArrayError(ValueError):
    """The bytes are damaged, not what they claim to be, or too large."""


def read_limited(path: Path) -> bytes:
    """The whole file.

    Raises FileNotFoundError, OSError, or UnsafeArrayError for no regular file or one too large.
    """
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for ever
        raise UnsafeArrayError("this is not a regular file")
    if status.st_size > MAX_FILE_BYTES:
        raise UnsafeArrayError(
            f"the file is larger than {MAX_FILE_BYTES >> 20} MiB, too large for labels"
        )
    with path.open("rb") as file:
        return file.read(status.st_size)  # a bare read() could meet a file that grows


def parse_npy(data: bytes, kinds: str = "iu") -> NDArray[Any]:
    """The array of an .npy file, read-only and without a copy.

    kinds: the dtype kinds allowed ("f": floats).
    """
    stream = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(stream)
        if version not in ((1, 0), (2, 0)):
            raise UnsafeArrayError(f".npy version {version} is not one for plain arrays")
        reader = (
            np.lib.format.read_array_header_1_0
            if version == (1, 0)
            else np.lib.format.read_array_header_2_0
        )
        shape, fortran_order, dtype = reader(stream, max_header_size=MAX_NPY_HEADER)
    except UnsafeArrayError:
        raise
    except (
        Exception
    ) as error:  # a Python literal is parsed: SyntaxError, MemoryError, TokenError ... by version
        raise UnsafeArrayError(f"the .npy header is damaged ({error})") from error
    if dtype.kind not in kinds or dtype.subdtype is not None:
        wanted, example = next(wish for kind, wish in _WISHES.items() if kind in kinds)
        raise UnsafeArrayError(
            f"the array holds {dtype}, not {wanted}; save it as {wanted} (array.astype({example}))"
        )
    declared = math.prod(shape) * dtype.itemsize  # Python integers: no overflow
    found = len(data) - stream.tell()
    if min(shape, default=0) < 0 or declared != found:
        raise UnsafeArrayError(
            f"the .npy header claims {declared} bytes of data, but {found} are there: damaged file"
        )
    array = np.frombuffer(data, dtype, math.prod(shape), stream.tell())
    return array.reshape(shape, order="F" if fortran_order else "C")


def open_zip(data: bytes) -> zipfile.ZipFile:
    """The zip archive in `data`, its table of contents checked: few members, distinct names."""
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
    except (
        zipfile.BadZipFile,
        ValueError,
        NotImplementedError,
        OSError,
        IndexError,
        OverflowError,
    ) as error:
        raise UnsafeArrayError(
            f"the zip archive is damaged ({error}): copy or download the file again"
        ) from error
    names = archive.namelist()
    if len(names) > MAX_MEMBERS or len(set(names)) < len(names):
        raise UnsafeArrayError(
            f"the zip archive has {len(names)} members or two of one name: not a label file"
        )
    return archive


def read_member(archive: zipfile.ZipFile, name: str) -> bytes:
    """One member, its checksum verified.

    Stored members are bounded by the file, deflated by MAX_INFLATED_BYTES.
    """
    info = archive.getinfo(name)
    if info.compress_type == zipfile.ZIP_STORED:
        limit = info.compress_size
    elif info.compress_type == zipfile.ZIP_DEFLATED:
        limit = MAX_INFLATED_BYTES
    else:
        raise UnsafeArrayError(
            f"{name} uses zip compression {info.compress_type}: only stored and deflated are read"
        )
    if info.file_size > limit:
        raise UnsafeArrayError(
            f"{name} claims {info.file_size} bytes, more than the {limit} there can be"
        )
    errors = (
        zipfile.BadZipFile,
        zlib.error,
        RuntimeError,
        NotImplementedError,
        EOFError,
        OSError,
        ValueError,
    )
    try:
        with archive.open(info) as member:
            data = member.read(
                info.file_size
            )  # a bare read() would inflate first and look at the size then
    except errors as error:
        raise UnsafeArrayError(
            f"{name} is damaged ({error}): copy or download the file again"
        ) from error
    if len(data) < info.file_size:
        raise UnsafeArrayError(
            f"{name} ends after {len(data)} of {info.file_size} bytes: copy or download the "
            "file again"
        )
    return data

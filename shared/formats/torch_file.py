"""Reads and writes label files of `torch.save`, without torch and without executing them.

    value = load(Path("0.5_instance.pt").read_bytes())  # Tensor, array, list, or a dict of those
    Path("labels.pt").write_bytes(dump(noisy_labels))   # the original InstanceGM code reads it

A torch file is a zip with a pickle `data.pkl` and one member per tensor storage; before torch 1.6
it was five pickles in a row, followed by the storages. The pickle is read by
`shared.formats.safe_pickle`. Letters: N labels.
"""

import io
import pickletools
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.formats import safe_pickle
from shared.formats.safe_arrays import Archive, UnsafeArrayError
from shared.formats.safe_pickle import UnsafePickleError
from shared.labels import Labels

# The pickled magic number of the old format; of newer protocols a frame precedes it
LEGACY_START = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
# A compressed file of few bytes can hold millions; torch compresses none.
MAX_INFLATED_OPCODES = 1_000_000


@dataclass(frozen=True)
class _StorageType:
    dtype: str  # without byte order: "i8"


@dataclass(frozen=True)
class _Storage:
    dtype: str
    key: str
    file: "_File"


@dataclass
class _File:
    """Where the bytes of storages come from; set once they are known."""

    order: str = "<"  # of bytes
    read: Callable[[str], bytes] = field(default=lambda key: b"")
    dtypes: dict[str, str] = field(default_factory=dict)  # of the storages that tensors name


@dataclass(frozen=True)
class Tensor:
    """What a pickle says about a tensor; checked when it is read."""

    storage: object
    offset: object
    size: object
    stride: object

    @property
    def looks_like_labels(self) -> bool:
        """Whether it holds one whole number per sample, (N,) or (N, 1)."""
        integers = isinstance(self.storage, _Storage) and self.storage.dtype[0] in "iu"
        match self.size:
            case (_,) | (_, 1):
                return integers
        return False

    def array(self) -> NDArray[Any]:
        """The numbers, (N,), read-only."""
        match self.storage, self.offset, self.size, self.stride:
            case (
                _Storage(dtype, key, file),
                int(offset),
                (int(size),) | (int(size), 1),
                (int(stride), *_),
            ):
                raw, kind = file.read(key), np.dtype(file.order + dtype)
            case _:
                raise UnsafeArrayError(
                    "the torch file holds a tensor that is not 1-D: labels have shape (N,)"
                )
        if stride == 0 and size > 1:  # its labels are all the same
            raise UnsafeArrayError("a tensor is one number, expanded: save tensor.contiguous()")
        flat: NDArray[Any] = np.frombuffer(raw, kind, len(raw) // kind.itemsize)
        last = offset + (size - 1) * stride
        if size < 0 or offset < 0 or stride < 1 or (size and last >= len(flat)):
            raise UnsafeArrayError(
                f"a tensor of {size} numbers does not fit its storage of {len(flat)}: damaged file"
            )
        return flat[offset : last + 1 : stride] if size else flat[:0]


def _rebuild_tensor(
    storage: object, offset: object, size: object, stride: object, *_: object
) -> Tensor:
    return Tensor(storage, offset, size, stride)


_STORAGES = {
    "Long": "i8",
    "Int": "i4",
    "Short": "i2",
    "Char": "i1",
    "Byte": "u1",
    "Double": "f8",
    "Float": "f4",
    "Half": "f2",
    "Bool": "b1",
}
_GLOBALS: dict[tuple[str, str], object] = {
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    **{("torch", f"{name}Storage"): _StorageType(dtype) for name, dtype in _STORAGES.items()},
}


def is_torch_zip(names: list[str]) -> bool:
    """Is a zip with these members a torch file?"""
    return any(name.endswith("/data.pkl") for name in names)


def is_legacy(data: bytes) -> bool:
    """Is this a torch file from before torch 1.6?"""
    return data.startswith(b"\x80") and LEGACY_START[2:] in data[:32]


def load(data: bytes) -> Any:
    """The saved value, its tensors as Tensor. Raises UnsafePickleError or UnsafeArrayError."""
    return _load_legacy(data) if is_legacy(data) else _load_zip(Archive(data))


def _load_zip(archive: Archive) -> Any:
    pickles = [name for name in archive.names if name.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise UnsafeArrayError(
            f"the zip archive has {len(pickles)} members named data.pkl, a torch file has one"
        )
    folder = pickles[0].removesuffix("data.pkl")

    def member(name: str) -> bytes:
        if folder + name not in archive.names:
            raise UnsafeArrayError(
                f"the torch file lacks its member {name}: copy or download it again"
            )
        return archive.read(folder + name)

    big = f"{folder}byteorder" in archive.names and member("byteorder") == b"big"
    file = _File(">" if big else "<", lambda key: member(f"data/{key}"))
    compressed = archive.is_compressed(pickles[0])
    return _unpickle(member("data.pkl"), file, MAX_INFLATED_OPCODES if compressed else None)


def _load_legacy(data: bytes) -> Any:
    ends = _pickle_ends(data, 5)
    parts = [data[start:end] for start, end in zip([0, *ends], ends)]
    system, keys = safe_pickle.loads(parts[2]), safe_pickle.loads(parts[4])
    if not isinstance(system, dict) or not isinstance(keys, list):
        raise UnsafeArrayError("the torch file is damaged: copy or download it again")
    file = _File("<" if system.get("little_endian", True) is True else ">")
    value = _unpickle(parts[3], file)
    storages: dict[str, bytes] = {}
    start = ends[-1]
    for key in keys:
        if not isinstance(key, str) or key not in file.dtypes or start + 8 > len(data):
            raise UnsafeArrayError(
                "the torch file's storages are damaged: copy or download it again"
            )
        size = struct.unpack_from("<q", data, start)[0] * np.dtype(file.dtypes[key]).itemsize
        if not 0 <= size <= len(data) - start - 8:
            raise UnsafeArrayError(
                f"a storage claims {size} bytes, more than the file holds: damaged file"
            )
        storages[key] = data[start + 8 : start + 8 + size]
        start += 8 + size
    file.read = lambda key: storages.get(key, b"")
    return value


def _pickle_ends(data: bytes, count: int) -> list[int]:
    """Where the first `count` pickles of `data` end; pickletools only parses."""
    stream = io.BytesIO(data)
    ends = []
    try:
        for _ in range(count):
            for _ in pickletools.genops(stream):
                pass
            ends.append(stream.tell())
    except (ValueError, OverflowError, IndexError) as error:
        raise UnsafeArrayError(
            f"the torch file is damaged ({str(error)[:100]}): copy or download it again"
        ) from error
    return ends


def _unpickle(data: bytes, file: _File, max_opcodes: int | None = None) -> Any:
    def storage(persistent_id: object) -> _Storage:
        """What stands for ("storage", type, key, device, size[, view]) until the bytes are read."""
        match persistent_id:
            case ("storage", _StorageType() as kind, str() as key, str(), int(), *_):
                file.dtypes[key] = kind.dtype
                return _Storage(kind.dtype, key, file)
        raise UnsafePickleError(
            "the torch file refers to data that are not a tensor of numbers: save the labels as one"
        )

    return safe_pickle.loads(
        data,
        persistent_load=storage,
        extra_globals=_GLOBALS,
        object_arrays=True,
        max_opcodes=max_opcodes or safe_pickle.MAX_OPCODES,
    )


def dump(labels: Labels) -> bytes:
    """A torch file with `labels` (N,) as a numpy int64 array; the same labels give the same bytes.

    `torch.load(file, weights_only=False)` reads it with numpy 1 and 2 alike: the pickle names
    numpy.core, which numpy 2 still knows.
    """
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        members = {
            "data.pkl": _pickled_array(labels),
            "byteorder": b"little",
            "version": b"3\n",
        }
        for name, content in members.items():  # ZipInfo: no date of today
            archive.writestr(zipfile.ZipInfo(f"archive/{name}"), content)
    return stream.getvalue()


def _pickled_array(labels: Labels) -> bytes:
    """Protocol 2 as numpy 1 wrote it; `pickle` would name a module that numpy 1 does not have."""
    text = labels.astype("<i8").tobytes().decode("latin1").encode()
    size = len(labels)
    code, width = (b"K", "<B") if size < 256 else (b"M", "<H") if size < 65_536 else (b"J", "<i")
    return b"".join(
        [
            b"\x80\x02cnumpy.core.multiarray\n_reconstruct\nq\x00",
            b"cnumpy\nndarray\nq\x01K\x00\x85q\x02",
            b"c_codecs\nencode\nq\x03X\x01\x00\x00\x00bq\x04",
            b"X\x06\x00\x00\x00latin1q\x05\x86q\x06Rq\x07\x87q\x08Rq\t",
            b"(K\x01" + code + struct.pack(width, size) + b"\x85q\n",
            b"cnumpy\ndtype\nq\x0bX\x02\x00\x00\x00i8q\x0c\x89\x88\x87q\rRq\x0e",
            b"(K\x03X\x01\x00\x00\x00<q\x0fNNNJ\xff\xff\xff\xffJ\xff\xff\xff\xff",
            b"K\x00tq\x10b\x89h\x03",
            b"X" + struct.pack("<I", len(text)) + text,
            b"q\x11h\x05\x86q\x12Rq\x13tq\x14b.",
        ]
    )

"""Reads and writes the label files that `torch.save` makes, without torch and without executing
what is in them.

    value = load(Path("0.5_instance.pt").read_bytes())    # an array, a list, or a dict of those
    Path("labels.pt").write_bytes(dump(noisy_labels))      # the original InstanceGM code reads it

A torch file is a zip with a pickle `data.pkl` and one member per tensor storage; before torch 1.6
it was five pickles in a row, followed by the storages. The pickle is read by
`shared.formats.safe_pickle`. Letters: N labels.
"""

import io
import pickletools
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.formats import safe_arrays, safe_pickle
from shared.formats.safe_arrays import UnsafeArrayError
from shared.formats.safe_pickle import UnsafePickleError
from shared.labels import Labels

LEGACY_START = (
    b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # the pickled magic number of the old format
)


@dataclass(frozen=True)
class _StorageType:
    dtype: str  # without byte order: "i8"


@dataclass(frozen=True)
class _Storage:
    dtype: str
    key: str


@dataclass(frozen=True)
class _Tensor:
    """What a pickle says about a tensor; checked when its storage is read."""

    storage: object
    offset: object
    size: object
    stride: object


def _rebuild_tensor(
    storage: object, offset: object, size: object, stride: object, *_: object
) -> _Tensor:
    return _Tensor(storage, offset, size, stride)


_STORAGES = {
    "Long": "i8",
    "Int": "i4",
    "Short": "i2",
    "Char": "i1",
    "Byte": "u1",
    "Double": "f8",
    "Float": "f4",
}
_GLOBALS: dict[tuple[str, str], object] = {
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    **{("torch", f"{name}Storage"): _StorageType(dtype) for name, dtype in _STORAGES.items()},
}


def is_torch_zip(names: list[str]) -> bool:
    """Is a zip with these members a torch file?"""
    return any(name.endswith("/data.pkl") for name in names)


def load(data: bytes) -> Any:
    """The saved value, tensors as numpy arrays; raises UnsafePickleError or UnsafeArrayError for
    anything unusual.
    """
    return _load_legacy(data) if data.startswith(LEGACY_START) else _load_zip(data)


def _load_zip(data: bytes) -> Any:
    archive = safe_arrays.open_zip(data)
    pickles = [name for name in archive.namelist() if name.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise UnsafeArrayError(
            f"the zip archive has {len(pickles)} members named data.pkl, a torch file has one"
        )
    folder = pickles[0].removesuffix("data.pkl")
    names = set(archive.namelist())

    def member(name: str) -> bytes:
        if folder + name not in names:
            raise UnsafeArrayError(
                f"the torch file lacks its member {name}: copy or download it again"
            )
        return safe_arrays.read_member(archive, folder + name)

    order = (
        ">"
        if "byteorder" in {n.removeprefix(folder) for n in names} and member("byteorder") == b"big"
        else "<"
    )
    value = _unpickle(member("data.pkl"))
    return _with_arrays(value, order, lambda key: member(f"data/{key}"))


def _load_legacy(data: bytes) -> Any:
    ends = _pickle_ends(data, 5)
    parts = [data[start:end] for start, end in zip([0, *ends], ends)]
    system, keys = safe_pickle.loads(parts[2]), safe_pickle.loads(parts[4])
    if not isinstance(system, dict) or not isinstance(keys, list):
        raise UnsafeArrayError("the torch file is damaged: copy or download it again")
    storages: dict[object, bytes] = {}
    value = _unpickle(parts[3])
    start = ends[-1]
    types = {storage.key: storage.dtype for storage in _storages_of(value)}
    for key in keys:
        if not isinstance(key, str) or key not in types or start + 8 > len(data):
            raise UnsafeArrayError(
                "the torch file's storages are damaged: copy or download it again"
            )
        size = struct.unpack_from("<q", data, start)[0] * np.dtype(types[key]).itemsize
        if not 0 <= size <= len(data) - start - 8:
            raise UnsafeArrayError(
                f"a storage claims {size} bytes, more than the file holds: damaged file"
            )
        storages[key] = data[start + 8 : start + 8 + size]
        start += 8 + size
    order = "<" if system.get("little_endian", True) is True else ">"
    return _with_arrays(value, order, lambda key: storages.get(key, b""))


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


def _unpickle(data: bytes) -> Any:
    return safe_pickle.loads(data, persistent_load=_storage, extra_globals=_GLOBALS)


def _storage(persistent_id: object) -> _Storage:
    """What stands for ("storage", type, key, device, size[, view]) until the bytes are read."""
    match persistent_id:
        case ("storage", _StorageType() as kind, str() as key, str(), int(), *_):
            return _Storage(kind.dtype, key)
    raise UnsafePickleError(
        f"the torch file refers to {str(persistent_id)[:80]}, which is not a tensor of numbers"
    )


def _storages_of(value: Any) -> list[_Storage]:
    values = value.values() if isinstance(value, dict) else [value]
    return [
        item.storage
        for item in values
        if isinstance(item, _Tensor) and isinstance(item.storage, _Storage)
    ]


def _with_arrays(value: Any, order: str, read: Callable[[str], bytes]) -> Any:
    """`value` with its tensors as arrays, at the top or one level down in a dict."""
    if isinstance(value, dict):
        return {key: _tensor_array(item, order, read) for key, item in value.items()}
    return _tensor_array(value, order, read)


def _tensor_array(value: Any, order: str, read: Callable[[str], bytes]) -> Any:
    if not isinstance(value, _Tensor):
        return value
    match value:
        case _Tensor(_Storage(dtype, key), int(offset), (int(size),), (int(stride),)):
            raw = read(key)
        case _:
            raise UnsafeArrayError(
                "the torch file holds a tensor that is not 1-D: labels have shape (N,)"
            )
    kind = np.dtype(order + dtype)
    flat: NDArray[Any] = np.frombuffer(raw, kind, len(raw) // kind.itemsize)
    last = offset + (size - 1) * stride
    if size < 0 or offset < 0 or stride < 1 or (size and last >= len(flat)):
        raise UnsafeArrayError(
            f"a tensor of {size} numbers does not fit its storage of {len(flat)}: damaged file"
        )
    return flat[offset : last + 1 : stride] if size else flat[:0]


def dump(labels: Labels) -> bytes:
    """A torch file with `labels` (N,) as a numpy int64 array; the same labels give the same bytes.

    `torch.load(file, weights_only=False)` reads it with numpy 1 and 2 alike: the pickle names
    numpy.core, which numpy 2 still knows.
    """
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        for name, content in (
            ("data.pkl", _pickled_array(labels)),
            ("byteorder", b"little"),
            ("version", b"3\n"),
        ):
            archive.writestr(
                zipfile.ZipInfo(f"archive/{name}"), content
            )  # ZipInfo: no date of today
    return stream.getvalue()


def _pickled_array(labels: Labels) -> bytes:
    """Protocol 2, opcode by opcode what numpy 1 wrote: `pickle` would name a module that numpy 1
    does not have.
    """
    text = labels.astype("<i8").tobytes().decode("latin1").encode()
    size = len(labels)
    code, width = (b"K", "<B") if size < 256 else (b"M", "<H") if size < 65_536 else (b"J", "<i")
    return b"".join(
        [
            b"\x80\x02cnumpy.core.multiarray\n_reconstruct\nq\x00cnumpy\nndarray\nq\x01K\x00\x85q\x02",
            b"c_codecs\nencode\nq\x03X\x01\x00\x00\x00bq\x04X\x06\x00\x00\x00latin1q\x05\x86q\x06Rq\x07\x87q\x08Rq\t",
            b"(K\x01"
            + code
            + struct.pack(width, size)
            + b"\x85q\ncnumpy\ndtype\nq\x0bX\x02\x00\x00\x00i8q\x0c\x89\x88\x87q\rRq\x0e",
            b"(K\x03X\x01\x00\x00\x00<q\x0fNNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tq\x10b\x89",
            b"h\x03X" + struct.pack("<I", len(text)) + text + b"q\x11h\x05\x86q\x12Rq\x13tq\x14b.",
        ]
    )

"""The numpy side of `safe_pickle`: what a pickle says about arrays is recorded, checked, rebuilt.

A pickle of an array is a recipe: call `_reconstruct`, then set the state (version, shape, dtype,
order, bytes). The functions of such recipes are listed here by name. None is imported or called;
the recipe fills a record, and `numpy.frombuffer` makes the array once shape, dtype and number of
bytes agree.
"""

import math
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import numpy as np

MAX_DEPTH = 100  # containers inside containers; data files have two or three
_MAX_DIMENSION = 2**40
# Items for each byte of the file, those that containers share counted each time: doubled 40 times
# they are 10**12 in 300 bytes.
_MOST_COPIES = 16

GLOBALS = {
    ("numpy.core.multiarray", "_reconstruct"): "_reconstruct",
    ("numpy._core.multiarray", "_reconstruct"): "_reconstruct",
    ("numpy.core.multiarray", "scalar"): "scalar",
    ("numpy._core.multiarray", "scalar"): "scalar",
    ("numpy.multiarray", "scalar"): "scalar",
    ("numpy.core.numeric", "_frombuffer"): "_frombuffer",  # protocol 5
    ("numpy._core.numeric", "_frombuffer"): "_frombuffer",
    ("numpy", "ndarray"): "ndarray",
    ("numpy", "dtype"): "dtype",
    ("_codecs", "encode"): "encode",  # how protocol 2 spells bytes,
    ("__builtin__", "bytes"): "bytes",  # and how it spells empty ones
    ("collections", "OrderedDict"): "OrderedDict",
}
# Spelled out: long doubles and structured, string, object or datetime types have no business in a
# label or image file.
_DTYPE_CODES = {
    "f2",
    "f4",
    "f8",
    "b1",
    *(f"{kind}{size}" for kind in "iu" for size in (1, 2, 4, 8)),
}
_OBJECT_CODES = {"O8", "O4"}


class UnsafePickleError(ValueError):
    """The bytes are no pickle of plain data, but damaged or something that could execute."""


@dataclass(frozen=True)
class Name:
    """A function or class of GLOBALS the file refers to; recorded, never imported."""

    name: str


@dataclass
class DType:
    code: str  # as in "u1", "i8"
    order: str = "="

    def to_numpy(self) -> np.dtype[np.generic]:
        return np.dtype(self.order + self.code)


@dataclass
class Array:
    """What the file says about an array, unchecked."""

    shape: object = None
    dtype: object = None
    fortran_order: int = False
    raw: object = None


class Rebuilder:
    """Answers the calls of array recipes with records, and makes arrays of them at the end."""

    def __init__(self, file_size: int, object_arrays: bool = False) -> None:
        # A string can be referred to many times; its copies may not exceed the file (once as bytes,
        # once as array).
        self.byte_budget = 2 * file_size
        self.dtypes = _DTYPE_CODES | (_OBJECT_CODES if object_arrays else set())
        self.resolved: dict[int, tuple[object, object, int]] = {}  # by id: with its items
        # As many as it would have if nothing were shared: who prints or copies it takes that long.
        self.items, self.max_items = 0, _MOST_COPIES * file_size

    def spend(self, size: int) -> None:
        self.byte_budget -= size
        if self.byte_budget < 0:
            raise UnsafePickleError("the pickle makes more bytes of array data than it holds")

    def call(self, function: Name, arguments: tuple[object, ...]) -> object:
        match function.name, arguments:
            case "_reconstruct", (Name("ndarray"), tuple(), str() | bytes()):
                return Array()
            case "_frombuffer", (
                bytes() as raw,
                DType() as dtype,
                tuple() as shape,
                "C" | "F" as order,
            ):
                return Array(shape, dtype, order == "F", raw)
            case "scalar", (DType() as dtype, str() | bytes() as raw):
                return self.array(Array((), dtype, False, raw))[()]
            case "dtype", (str() | bytes() as code, *_):
                return DType(_known(code, self.dtypes, "array type"))
            case "encode", (str() as text, "latin1" | "latin-1"):
                self.spend(len(text))
                return text.encode("latin1")
            case "bytes", ():
                return b""
            case "OrderedDict", ():
                return OrderedDict()
        raise UnsafePickleError(
            f"the pickle calls {function.name} with arguments that plain data never has"
        )

    def set_state(self, target: object, state: object) -> None:
        """State of an array or a dtype; nothing else ever gets anything from the file."""
        match target, state:
            case Array(), (int(), shape, dtype, int() as fortran_order, raw):
                target.shape, target.dtype = shape, dtype
                target.fortran_order, target.raw = fortran_order, raw
            case DType(), (int(), str() | bytes() as order, None, None, None, *_):
                target.order = _known(order, {"<", ">", "=", "|"}, "byte order")
            case _:
                raise UnsafePickleError(f"the pickle sets the state of a {type(target).__name__}")

    def array(self, record: Array) -> np.ndarray[tuple[int, ...], np.dtype[np.generic]]:
        """A new, writable array."""
        shape, raw = record.shape, record.raw
        if not isinstance(record.dtype, DType) or not isinstance(shape, tuple) or len(shape) > 32:
            raise UnsafePickleError("an array without a usable shape and dtype")
        if not all(type(size) is int and 0 <= size < _MAX_DIMENSION for size in shape):
            raise UnsafePickleError("the shape of an array is not a tuple of sizes")
        if isinstance(raw, str):
            raw = raw.encode("latin1")  # a Python-2 string that was decoded as latin-1
        if not isinstance(raw, bytes):
            raise UnsafePickleError(
                f"an array holds a {type(raw).__name__}, not bytes (object arrays are refused)"
            )
        dtype = record.dtype.to_numpy()
        if math.prod(shape) * dtype.itemsize != len(raw):
            raise UnsafePickleError(
                f"an array of shape {shape} and type {dtype} cannot have {len(raw)} bytes"
            )
        if dtype.kind == "b" and raw.strip(b"\x00\x01"):
            raise UnsafePickleError("a boolean array holds bytes other than 0 and 1")
        self.spend(len(raw))
        flat = np.frombuffer(bytearray(raw), dtype=dtype)  # so the array is writable
        return flat.reshape(shape, order="F" if record.fortran_order else "C")

    def objects(self, record: Array, depth: int) -> object:
        """What an object array holds: a list, or one value where it has no dimension."""
        match record.shape, record.raw:
            case (), [item]:
                return self.resolve(item, depth)
            case (int(size),), list() as items if len(items) == size:
                return self.resolve(items, depth)
        raise UnsafePickleError("an object array that is neither one value nor a list")

    def resolve(self, value: Any, depth: int = 0) -> object:
        """`value` with arrays for records; what two places of the file share stays shared."""
        if type(value) not in _RESOLVED_TYPES:
            return value
        if id(value) in self.resolved:
            _, result, size = self.resolved[id(value)]
            if result is _IN_PROGRESS:
                raise UnsafePickleError("a container holds itself")
            self.count(size)
            return result
        if depth > MAX_DEPTH:
            raise UnsafePickleError(f"containers are nested more than {MAX_DEPTH} deep")
        # `value` is held too, so that its id stays its own.
        self.resolved[id(value)] = (value, _IN_PROGRESS, 0)
        before = self.items
        self.count(len(value) if isinstance(value, (list, dict, tuple)) else 1)
        result = self._with_arrays(value, depth + 1)
        self.resolved[id(value)] = (value, result, self.items - before)
        return result

    def count(self, size: int) -> None:
        self.items += size
        if self.items > self.max_items:
            raise UnsafePickleError(
                "containers refer to one another so often that all is too much: save the labels "
                "as one list"
            )

    def _with_arrays(self, value: Any, depth: int) -> object:
        if isinstance(value, Array):
            if isinstance(value.dtype, DType) and value.dtype.code in _OBJECT_CODES:
                return self.objects(value, depth)
            return self.array(value)
        if isinstance(value, list):
            value[:] = [self.resolve(item, depth) for item in value]
            return value
        if isinstance(value, dict):
            for key in value:
                value[key] = self.resolve(value[key], depth)
            return value
        if isinstance(value, tuple):
            return tuple([self.resolve(item, depth) for item in value])
        raise UnsafePickleError("the pickle holds a bare type or function, which is not data")


_RESOLVED_TYPES = frozenset({list, dict, OrderedDict, tuple, Array, DType, Name})
_IN_PROGRESS = object()


def _known(text: str | bytes, choices: set[str], what: str) -> str:
    decoded = text.decode("latin1") if isinstance(text, bytes) else text
    if decoded not in choices:
        raise UnsafePickleError(
            f"{what} {decoded[:20]!r} is refused; only {', '.join(sorted(choices))} are read"
        )
    return decoded

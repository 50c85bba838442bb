"""Read the pickles that exist in the wild (CIFAR batches, `data.pkl` of torch files) without executing anything.

    batch = safe_pickle.loads(Path("data_batch_1").read_bytes())    # {"data": (10000, 3072) uint8 array, ...}

`pickle.loads` calls whatever the file names, and even a restricted `Unpickler` lets a file set attributes, allocate by
declared length and hash what it likes (a deeply nested tuple as a dictionary key ends the interpreter). So this module
has no `Unpickler`: it walks the opcodes with `pickletools.genops`, which only parses, and interprets the few that plain
data needs. Names of functions in the file are compared with a list and never imported; arrays are rebuilt from their
checked shape, dtype and bytes by `numpy.frombuffer`.

Work and memory stay proportional to the length of the file, whatever lengths, shapes or memo indices it declares.
"""

import math
import pickletools
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

MAX_OPCODES = 20_000_000  # a million labels saved one by one as numpy scalars need about 10 million
MAX_DEPTH = 100  # containers inside containers; data files have two or three
_MAX_DIMENSION = 2**40

_GLOBALS = {
    ("numpy.core.multiarray", "_reconstruct"): "_reconstruct",
    ("numpy._core.multiarray", "_reconstruct"): "_reconstruct",
    ("numpy.core.multiarray", "scalar"): "scalar",
    ("numpy._core.multiarray", "scalar"): "scalar",
    ("numpy.multiarray", "scalar"): "scalar",
    ("numpy", "ndarray"): "ndarray",
    ("numpy", "dtype"): "dtype",
    ("_codecs", "encode"): "encode",  # how protocol 2 spells bytes
    ("numpy.core.numeric", "_frombuffer"): "_frombuffer",  # protocol 5
    ("numpy._core.numeric", "_frombuffer"): "_frombuffer",
    ("__builtin__", "bytes"): "bytes",  # how protocol 2 spells the empty bytes
    ("collections", "OrderedDict"): "OrderedDict",
}
# Spelled out: long doubles and structured, string, object or datetime types have no business in a label or image file.
_DTYPE_CODES = {f"{kind}{size}" for kind in "iu" for size in (1, 2, 4, 8)} | {"f2", "f4", "f8", "b1"}


class UnsafePickleError(ValueError):
    """The bytes are not a pickle of plain data: something that could execute, an unknown type, or damage."""


@dataclass(frozen=True)
class _Name:
    """A function or class the file refers to; recorded, never imported."""

    name: str


@dataclass
class _DType:
    code: str  # as in "u1", "i8"
    order: str = "="

    def to_numpy(self) -> np.dtype[np.generic]:
        return np.dtype(self.order + self.code)


@dataclass
class _Array:
    """What the file says about an array; becomes a real one only after `_checked_array` agreed."""

    shape: object = None
    dtype: object = None
    fortran_order: int = False
    raw: object = None


def loads(
    data: bytes,
    *,
    encoding: str = "latin1",
    persistent_load: Callable[[object], object] | None = None,
    extra_globals: Mapping[tuple[str, str], object] | None = None,
) -> object:
    """The value of one pickle (protocols 1-5, plain data only); arrays come back as new, writable numpy arrays.

    data: exactly one pickle. encoding: of Python-2 strings; "bytes" leaves them bytes, arrays need "latin1" or "bytes".
    persistent_load: called with each persistent id (a tuple in torch files); without it, such ids are refused.
    extra_globals: (module, name) -> what stands for it. The file may call these stand-ins with arguments of its choice
    (plain data without arrays), so they must be inert; or they are mere tokens that `persistent_load` recognises.
    Raises UnsafePickleError, naming what was found, for anything else: other globals or opcodes, truncation, damage.
    """
    reader = _Reader(data, encoding, persistent_load, dict(extra_globals or {}))
    try:
        return reader.read()
    except UnsafePickleError:
        raise
    except Exception as error:  # whatever a damaged stream leads to (stack underflow, odd types) is one kind of error
        raise UnsafePickleError(f"damaged pickle: {type(error).__name__}: {str(error)[:200]}") from error


class _Reader:
    """A stack machine for the opcodes of plain data."""

    def __init__(
        self,
        data: bytes,
        encoding: str,
        persistent_load: Callable[[object], object] | None,
        extra_globals: dict[tuple[str, str], object],
    ) -> None:
        self.data = data
        self.encoding = encoding
        self.persistent_load = persistent_load
        self.extra_globals = extra_globals
        self.stack: list[object] = []
        self.marks: list[list[object]] = []
        self.memo: dict[int, object] = {}
        # A string can be referred to many times; its copies may not exceed the file (once as bytes, once as array).
        self.byte_budget = 2 * len(data)
        self.resolved: dict[int, tuple[object, object]] = {}

    def read(self) -> object:
        actions = {name: getattr(self, f"op_{method}") for name, method in _ACTIONS.items()}
        for count, (opcode, argument, position) in enumerate(_opcodes(self.data)):
            if opcode == "STOP":
                return self.finish((position or 0) + 1)
            if count > MAX_OPCODES:
                raise UnsafePickleError(f"more than {MAX_OPCODES:,} opcodes; save the data as .npz or .npy instead")
            if opcode in actions:
                actions[opcode](argument)
            elif opcode in _CONSTANTS:
                self.stack.append(_CONSTANTS[opcode])
            else:
                raise UnsafePickleError(f"opcode {opcode} at byte {position} is not allowed in a file of plain data")
        raise UnsafePickleError("the pickle ends before its STOP")

    def finish(self, length: int) -> object:
        if length != len(self.data):
            raise UnsafePickleError(f"{len(self.data) - length} bytes follow the end of the pickle")
        value = self.stack.pop()
        if self.stack or self.marks:
            raise UnsafePickleError("damaged pickle: values are left over at its end")
        return self.resolve(value, 0)

    def pop_mark(self) -> list[object]:
        """The items above the last mark; the stack below it is current again."""
        items, self.stack = self.stack, self.marks.pop()
        return items

    def spend(self, size: int) -> None:
        self.byte_budget -= size
        if self.byte_budget < 0:
            raise UnsafePickleError("the pickle makes more bytes of array data than it holds")

    # ---- opcodes: constants, containers, memo

    def op_ignore(self, argument: object) -> None:
        pass

    def op_protocol(self, version: int) -> None:
        if version > 5:
            raise UnsafePickleError(f"pickle protocol {version} is unknown; protocols up to 5 are read")

    def op_push(self, value: object) -> None:
        self.stack.append(value)

    def op_string(self, text: str) -> None:
        """A Python-2 string; pickletools hands its bytes as latin-1 text."""
        if self.encoding == "latin1":
            self.stack.append(text)
        elif self.encoding == "bytes":
            self.stack.append(text.encode("latin1"))
        else:
            self.stack.append(text.encode("latin1").decode(self.encoding))

    def op_bytearray(self, value: bytearray) -> None:
        self.stack.append(bytes(value))

    def op_mark(self, _: object) -> None:
        self.marks.append(self.stack)
        self.stack = []

    def op_empty_list(self, _: object) -> None:
        self.stack.append([])

    def op_empty_dict(self, _: object) -> None:
        self.stack.append({})

    def op_tuple(self, _: object) -> None:
        items = self.pop_mark()
        self.stack.append(tuple(items))

    def op_tuple1(self, _: object) -> None:
        self.stack[-1:] = [(self.stack[-1],)]

    def op_tuple2(self, _: object) -> None:
        self.stack[-2:] = [(self.stack[-2], self.stack[-1])]

    def op_tuple3(self, _: object) -> None:
        self.stack[-3:] = [(self.stack[-3], self.stack[-2], self.stack[-1])]

    def op_append(self, _: object) -> None:
        value = self.stack.pop()
        self.extend([value])

    def op_appends(self, _: object) -> None:
        self.extend(self.pop_mark())

    def extend(self, items: list[object]) -> None:
        target = self.stack[-1]
        if type(target) is not list:
            raise UnsafePickleError(f"the pickle appends to a {type(target).__name__}")
        target.extend(items)

    def op_setitem(self, _: object) -> None:
        value = self.stack.pop()
        self.update([self.stack.pop(), value])

    def op_setitems(self, _: object) -> None:
        self.update(self.pop_mark())

    def update(self, items: list[object]) -> None:
        target: Any = self.stack[-1]
        if type(target) not in (dict, OrderedDict):
            raise UnsafePickleError(f"the pickle sets an item of a {type(target).__name__}")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if not (key is None or isinstance(key, (str, bytes, int, float))):
                raise UnsafePickleError(f"a dictionary key is a {type(key).__name__}, only text and numbers are read")
            target[key] = value

    def op_put(self, index: int) -> None:
        self.memo[index] = self.stack[-1]  # a dictionary: a huge index costs no more than a small one

    def op_memoize(self, _: object) -> None:
        self.memo[len(self.memo)] = self.stack[-1]

    def op_get(self, index: int) -> None:
        if index not in self.memo:
            raise UnsafePickleError(f"damaged pickle: memo {index} is read before it is written")
        self.stack.append(self.memo[index])

    # ---- opcodes: what would import and call in a real unpickler

    def op_global(self, module_and_name: str) -> None:
        module, _, name = module_and_name.partition(" ")
        self.push_global(module, name)

    def op_stack_global(self, _: object) -> None:
        name = self.stack.pop()
        self.push_global(self.stack.pop(), name)

    def push_global(self, module: object, name: object) -> None:
        if not (isinstance(module, str) and isinstance(name, str)):
            raise UnsafePickleError("damaged pickle: a global that is not named by text")
        if (module, name) in self.extra_globals:
            self.stack.append(self.extra_globals[module, name])
        elif (module, name) in _GLOBALS:
            self.stack.append(_Name(_GLOBALS[module, name]))
        else:
            raise UnsafePickleError(
                f"the pickle refers to {module[:80]}.{name[:80]}, which is not plain data and is refused "
                "because it could execute anything; if you trust the file, save its contents as .npz or .npy instead"
            )

    def op_persistent_id(self, _: object) -> None:
        if self.persistent_load is None:
            raise UnsafePickleError("the pickle refers to data outside itself (a persistent id), as torch files do")
        self.stack.append(self.persistent_load(self.stack.pop()))

    def op_reduce(self, _: object) -> None:
        arguments = self.stack.pop()
        function = self.stack.pop()
        if not isinstance(arguments, tuple):
            raise UnsafePickleError("damaged pickle: the arguments of a call are not a tuple")
        self.stack.append(self.call(function, arguments))

    def call(self, function: object, arguments: tuple[object, ...]) -> object:
        if isinstance(function, _Name):
            match function.name, arguments:
                case "_reconstruct", (_Name("ndarray"), tuple(), str() | bytes()):
                    return _Array()
                case "dtype", (str() | bytes() as code, *_):
                    return _DType(_known_dtype_code(code))
                case "scalar", (_DType() as dtype, str() | bytes() as raw):
                    return self.checked_array(_Array((), dtype, False, raw))[()]
                case "encode", (str() as text, "latin1" | "latin-1"):
                    self.spend(len(text))
                    return text.encode("latin1")
                case "_frombuffer", (bytes() as raw, _DType() as dtype, tuple() as shape, "C" | "F" as order):
                    return _Array(shape, dtype, order == "F", raw)
                case "bytes", ():
                    return b""
                case "OrderedDict", ():
                    return OrderedDict()
            raise UnsafePickleError(f"the pickle calls {function.name} with arguments that plain data never has")
        if callable(function) and any(function is known for known in self.extra_globals.values()):
            return function(*arguments)
        raise UnsafePickleError(f"the pickle calls a {type(function).__name__}, which is not a function it may call")

    def op_build(self, _: object) -> None:
        """State of an array or a dtype. There is no other BUILD: nothing ever gets attributes from the file."""
        state = self.stack.pop()
        match self.stack[-1], state:
            case _Array() as array, (int(), shape, dtype, int() as fortran_order, raw):
                array.shape, array.dtype, array.fortran_order, array.raw = shape, dtype, fortran_order, raw
            case _DType() as kind, (int(), str() | bytes() as order, None, None, None, *_):
                kind.order = _known_byte_order(order)
            case target, _:
                raise UnsafePickleError(f"the pickle sets the state of a {type(target).__name__.lstrip('_')}")

    # ---- from records to arrays

    def checked_array(self, record: _Array) -> np.ndarray[tuple[int, ...], np.dtype[np.generic]]:
        shape, raw = record.shape, record.raw
        if not isinstance(record.dtype, _DType) or not isinstance(shape, tuple) or len(shape) > 32:
            raise UnsafePickleError("an array without a usable shape and dtype")
        if not all(type(size) is int and 0 <= size < _MAX_DIMENSION for size in shape):
            raise UnsafePickleError("the shape of an array is not a tuple of sizes")
        if isinstance(raw, str):
            raw = raw.encode("latin1")  # a Python-2 string, decoded by `encoding`
        if not isinstance(raw, bytes):
            raise UnsafePickleError(f"an array holds a {type(raw).__name__}, not bytes (object arrays are refused)")
        dtype = record.dtype.to_numpy()
        if math.prod(shape) * dtype.itemsize != len(raw):
            raise UnsafePickleError(f"an array of shape {shape} and type {dtype} cannot have {len(raw)} bytes")
        self.spend(len(raw))
        if dtype.kind == "b" and raw.strip(b"\x00\x01"):
            raise UnsafePickleError("a boolean array holds bytes other than 0 and 1")
        flat = np.frombuffer(bytearray(raw), dtype=dtype)  # over a bytearray, so that the array is writable
        return flat.reshape(shape, order="F" if record.fortran_order else "C")

    def resolve(self, value: object, depth: int) -> object:
        """`value` with records replaced by arrays; what the file shares between two places stays shared."""
        if type(value) not in _RESOLVED_TYPES:
            return value
        if id(value) in self.resolved:
            result = self.resolved[id(value)][1]
            if result is _IN_PROGRESS:
                raise UnsafePickleError("a container holds itself")
            return result
        if depth > MAX_DEPTH:
            raise UnsafePickleError(f"containers are nested more than {MAX_DEPTH} deep")
        self.resolved[id(value)] = (value, _IN_PROGRESS)  # holds `value` too, so that its id stays its own
        result = self.with_arrays(value, depth)
        self.resolved[id(value)] = (value, result)
        return result

    def with_arrays(self, value: object, depth: int) -> object:
        if isinstance(value, _Array):
            return self.checked_array(value)
        if isinstance(value, list):
            value[:] = [self.resolve(item, depth + 1) for item in value]
            return value
        if isinstance(value, dict):
            for key in value:
                value[key] = self.resolve(value[key], depth + 1)
            return value
        if isinstance(value, tuple):
            return tuple(self.resolve(item, depth + 1) for item in value)
        raise UnsafePickleError("the pickle holds a bare type or function, which is not data")


_RESOLVED_TYPES = frozenset({list, dict, OrderedDict, tuple, _Array, _DType, _Name})
_IN_PROGRESS = object()


def _opcodes(data: bytes) -> Iterator[tuple[str, object, int | None]]:
    """(name, argument, position) of each opcode. pickletools never imports, and reads no more than the file holds."""
    try:
        for opcode, argument, position in pickletools.genops(data):
            yield opcode.name, argument, position
    except (ValueError, OverflowError) as error:
        raise UnsafePickleError(f"not a complete pickle: {str(error)[:200]}") from error


def _known_dtype_code(code: str | bytes) -> str:
    text = code.decode("latin1") if isinstance(code, bytes) else code
    if text not in _DTYPE_CODES:
        raise UnsafePickleError(f"array type {text[:20]!r} is refused; integers, floats and booleans are read")
    return text


def _known_byte_order(order: str | bytes) -> str:
    text = order.decode("latin1") if isinstance(order, bytes) else order
    if text not in {"<", ">", "=", "|"}:
        raise UnsafePickleError(f"byte order {text[:20]!r} is unknown")
    return text


_CONSTANTS: dict[str, object] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_ACTIONS = {
    "PROTO": "protocol", "FRAME": "ignore", "MARK": "mark",
    "BININT": "push", "BININT1": "push", "BININT2": "push", "LONG1": "push", "LONG4": "push", "BINFLOAT": "push",
    "SHORT_BINSTRING": "string", "BINSTRING": "string",
    "SHORT_BINBYTES": "push", "BINBYTES": "push", "BINBYTES8": "push", "BYTEARRAY8": "bytearray",
    "SHORT_BINUNICODE": "push", "BINUNICODE": "push", "BINUNICODE8": "push",
    "EMPTY_LIST": "empty_list", "APPEND": "append", "APPENDS": "appends",
    "EMPTY_DICT": "empty_dict", "SETITEM": "setitem", "SETITEMS": "setitems",
    "TUPLE": "tuple", "TUPLE1": "tuple1", "TUPLE2": "tuple2", "TUPLE3": "tuple3",
    "BINPUT": "put", "LONG_BINPUT": "put", "MEMOIZE": "memoize", "BINGET": "get", "LONG_BINGET": "get",
    "GLOBAL": "global", "STACK_GLOBAL": "stack_global", "BINPERSID": "persistent_id",
    "REDUCE": "reduce", "BUILD": "build",
}  # fmt: skip

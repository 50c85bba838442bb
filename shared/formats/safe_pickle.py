"""Reads the pickles of others (CIFAR batches, `data.pkl` of torch files) without executing them.

    batch = safe_pickle.loads(Path("data_batch_1").read_bytes())  # {"data": uint8 array, ...}

`pickle.loads` calls whatever the file names, and even a restricted `Unpickler` lets a file set
attributes, allocate by declared length and hash what it likes (a deeply nested tuple as a
dictionary key ends the interpreter). So this module has no `Unpickler`: it walks the opcodes with
`pickletools.genops`, which only parses, and interprets the few that plain data needs. Names of
functions in the file are compared with a list and never imported; `shared.formats.pickled_arrays`
rebuilds arrays from their checked shape, dtype and bytes.

Work and memory stay proportional to the length of the file, whatever lengths, shapes or memo
indices it declares.
"""

import pickletools
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from shared.formats.pickled_arrays import GLOBALS, Name, Rebuilder, UnsafePickleError

__all__ = ["UnsafePickleError", "loads"]

# A million labels saved one by one as numpy scalars need about 10 million.
MAX_OPCODES = 20_000_000


def loads(
    data: bytes,
    *,
    persistent_load: Callable[[object], object] | None = None,
    extra_globals: Mapping[tuple[str, str], object] | None = None,
    object_arrays: bool = False,
    max_opcodes: int = MAX_OPCODES,
) -> object:
    """The value of one pickle of plain data (binary protocols); arrays are new and writable.

    data: exactly one pickle; Python-2 strings are read as latin-1. persistent_load: called with
    each persistent id (a tuple in torch files); without it, such ids are refused. extra_globals:
    (module, name) -> what stands for it. The file may call these stand-ins with arguments of its
    choice (plain data without arrays), so they must be inert; or they are mere tokens that
    `persistent_load` recognises. object_arrays: read numpy's object arrays too, as lists (or as
    their only value where they have no dimension). Raises UnsafePickleError, naming what was found,
    for anything else: other globals or opcodes, truncation, damage.
    """
    rebuilder = Rebuilder(len(data), object_arrays)
    reader = _Reader(data, persistent_load, dict(extra_globals or {}), rebuilder)
    try:
        return reader.read(max_opcodes)
    except UnsafePickleError:
        raise
    # Whatever a damaged stream leads to (stack underflow, odd types) is one kind of error.
    except Exception as error:
        raise UnsafePickleError(
            f"damaged pickle: {type(error).__name__}: {str(error)[:200]}"
        ) from error


class _Reader:
    """A stack machine for the opcodes of plain data; the method op_<x> does what _ACTIONS says."""

    def __init__(
        self,
        data: bytes,
        persistent_load: Callable[[object], object] | None,
        extra_globals: dict[tuple[str, str], object],
        rebuilder: Rebuilder,
    ) -> None:
        self.data = data
        self.persistent_load = persistent_load
        self.extra_globals = extra_globals
        self.rebuilder = rebuilder
        self.stack: list[Any] = []
        self.marks: list[list[Any]] = []
        # A dictionary: a huge index costs no more than a small one.
        self.memo: dict[int, object] = {}

    def read(self, max_opcodes: int) -> object:
        actions = {opcode: getattr(self, f"op_{action}") for opcode, action in _ACTIONS.items()}
        for count, (opcode, argument, position) in enumerate(_opcodes(self.data)):
            if count > max_opcodes:
                raise UnsafePickleError(
                    f"more than {max_opcodes:,} opcodes; save the data as .npz or .npy instead"
                )
            if opcode in actions:
                actions[opcode](argument)
            elif opcode in _CONSTANTS:
                self.stack.append(_CONSTANTS[opcode])
            elif opcode == "STOP":
                return self.finish(position + 1)
            else:
                raise UnsafePickleError(
                    f"opcode {opcode} at byte {position} is not allowed in a file of plain data"
                )
        raise UnsafePickleError("the pickle ends before its STOP")

    def finish(self, length: int) -> object:
        if length != len(self.data):
            raise UnsafePickleError(f"{len(self.data) - length} bytes follow the end of the pickle")
        value = self.stack.pop()
        if self.stack or self.marks:
            raise UnsafePickleError("damaged pickle: values are left over at its end")
        return self.rebuilder.resolve(value)

    def pop_mark(self) -> list[Any]:
        """The items above the last mark; the stack below it is current again."""
        items, self.stack = self.stack, self.marks.pop()
        return items

    # ---- constants and containers

    def op_ignore(self, argument: object) -> None:
        pass

    def op_protocol(self, version: int) -> None:
        if version > 5:
            raise UnsafePickleError(
                f"pickle protocol {version} is unknown; protocols up to 5 are read"
            )

    def op_push(self, value: object) -> None:
        self.stack.append(value)

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

    def extend(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if type(target) is not list:
            raise UnsafePickleError(f"the pickle appends to a {type(target).__name__}")
        target.extend(items)

    def op_setitem(self, _: object) -> None:
        value = self.stack.pop()
        key = self.stack.pop()
        self.update([key, value])

    def op_setitems(self, _: object) -> None:
        self.update(self.pop_mark())

    def update(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if type(target) not in (dict, OrderedDict):
            raise UnsafePickleError(f"the pickle sets an item of a {type(target).__name__}")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if not (key is None or isinstance(key, (str, bytes, int, float))):
                raise UnsafePickleError(
                    f"a dictionary key is a {type(key).__name__}, only text and numbers are read"
                )
            if isinstance(key, int) and abs(key) >= 2**63:  # there are many of one hash
                raise UnsafePickleError("a dictionary key is a number of more than 64 bits")
            target[key] = value

    # ---- memo

    def op_put(self, index: int) -> None:
        self.memo[index] = self.stack[-1]

    def op_memoize(self, _: object) -> None:
        self.memo[len(self.memo)] = self.stack[-1]

    def op_get(self, index: int) -> None:
        if index not in self.memo:
            raise UnsafePickleError(f"damaged pickle: memo {index} is read before it is written")
        self.stack.append(self.memo[index])

    # ---- what would import and call in a real unpickler

    def op_global(self, module_and_name: str) -> None:
        module, _, name = module_and_name.partition(" ")
        self.push_global(module, name)

    def op_stack_global(self, _: object) -> None:
        name = self.stack.pop()
        module = self.stack.pop()
        self.push_global(module, name)

    def push_global(self, module: object, name: object) -> None:
        if not (isinstance(module, str) and isinstance(name, str)):
            raise UnsafePickleError("damaged pickle: a global that is not named by text")
        if (module, name) in self.extra_globals:
            self.stack.append(self.extra_globals[module, name])
        elif (module, name) in GLOBALS:
            self.stack.append(Name(GLOBALS[module, name]))
        else:
            raise UnsafePickleError(
                f"the pickle refers to {module[:80]}.{name[:80]}, which is not plain data and "
                "is refused because it could execute anything; if you trust the file, save its "
                "contents as .npz or .npy instead"
            )

    def op_persistent_id(self, _: object) -> None:
        if self.persistent_load is None:
            raise UnsafePickleError(
                "the pickle refers to data outside itself (a persistent id), as torch files do"
            )
        self.stack.append(self.persistent_load(self.stack.pop()))

    def op_reduce(self, _: object) -> None:
        arguments = self.stack.pop()
        function = self.stack.pop()
        if not isinstance(arguments, tuple):
            raise UnsafePickleError("damaged pickle: the arguments of a call are not a tuple")
        if isinstance(function, Name):
            self.stack.append(self.rebuilder.call(function, arguments))
        elif callable(function) and any(function is known for known in self.extra_globals.values()):
            self.stack.append(function(*arguments))
        else:
            raise UnsafePickleError(
                f"the pickle calls a {type(function).__name__}, which is not a known function"
            )

    def op_build(self, _: object) -> None:
        state = self.stack.pop()
        self.rebuilder.set_state(self.stack[-1], state)


def _opcodes(data: bytes) -> Iterator[tuple[str, Any, int]]:
    """(name, argument, position) of each; pickletools imports nothing and stays in the file."""
    try:
        for opcode, argument, position in pickletools.genops(data):
            yield opcode.name, argument, position or 0
    except (ValueError, OverflowError) as error:
        raise UnsafePickleError(f"not a complete pickle: {str(error)[:200]}") from error


_CONSTANTS: dict[str, object] = {
    "NONE": None,
    "NEWTRUE": True,
    "NEWFALSE": False,
    "EMPTY_TUPLE": (),
}
_PUSH = (
    "BININT BININT1 BININT2 LONG1 LONG4 BINFLOAT SHORT_BINBYTES BINBYTES BINBYTES8 "
    "SHORT_BINUNICODE BINUNICODE BINUNICODE8 "
    "SHORT_BINSTRING BINSTRING"  # Python 2's, whose bytes pickletools hands as latin-1 text
)
_SAME = (
    "mark empty_list append appends empty_dict setitem setitems tuple tuple1 tuple2 tuple3 "
    "memoize global stack_global reduce build"
)
# opcode -> method op_<...>
_ACTIONS = {
    **dict.fromkeys(_PUSH.split(), "push"),
    "PROTO": "protocol",
    "FRAME": "ignore",
    "BYTEARRAY8": "bytearray",
    "BINPUT": "put",
    "LONG_BINPUT": "put",
    "BINGET": "get",
    "LONG_BINGET": "get",
    "BINPERSID": "persistent_id",
    **{name.upper(): name for name in _SAME.split()},
}

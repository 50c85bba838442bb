"""The pickle reader gives what pickle gives for plain data, and executes nothing."""

import collections
import contextlib
import os
import pickle
import time
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from python2_pickle import batch_bytes

from shared.formats.safe_pickle import UnsafePickleError, loads

RNG = np.random.default_rng(0)
ROWS = RNG.integers(0, 256, (5, 12), dtype=np.uint8)
PLAIN = {
    "labels": list(range(300)),
    "array": np.arange(12, dtype=np.int64).reshape(3, 4),
    "fortran": np.asfortranarray(RNG.normal(size=(2, 3)).astype(np.float32)),
    "big endian": np.arange(3, dtype=">i4"),
    "empty": np.empty((0, 3), np.uint8),
    "flags": np.array([True, False]),
    "scalars": [np.int64(-3), np.float64(0.5)],
    "nested": (1, (2.5, [None, True, "text é", b"bytes\xff", 1 << 70, -1])),
    3: collections.OrderedDict(a=1),
}


def assert_same(found: object, expected: object) -> None:
    assert type(found) is type(expected)
    if isinstance(expected, np.ndarray):
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected)
    elif isinstance(expected, dict):
        assert list(found) == list(expected)
        for key in expected:
            assert_same(found[key], expected[key])
    elif isinstance(expected, list | tuple):
        assert len(found) == len(expected)
        for one, other in zip(found, expected):
            assert_same(one, other)
    else:
        assert found == expected


def pickled_call(function: object, *arguments: object, protocol: int = 2) -> bytes:
    """A pickle that calls `function` when it is read by `pickle`."""

    class Call:
        def __reduce__(self):
            return function, arguments

    return pickle.dumps(Call(), protocol)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_plain_data_comes_back_as_pickle_gives_it(protocol):
    assert_same(loads(pickle.dumps(PLAIN, protocol)), PLAIN)


def test_a_python_2_batch_is_read():
    data = batch_bytes(ROWS, [3, 1, 4, 1, 5])
    found = loads(data)
    assert_same(found, pickle.loads(data, encoding="latin1"))
    assert_same(found["data"], ROWS)


def test_arrays_are_writable():
    loads(pickle.dumps(np.arange(3), 2))[0] = 7


def test_what_is_shared_stays_shared():
    array = np.arange(3)
    first, second = loads(pickle.dumps([array, array], 4))
    assert first is second


def test_fifty_thousand_labels_load_quickly():
    data = pickle.dumps(list(range(50_000)), 2)
    start = time.perf_counter()
    assert loads(data) == list(range(50_000))
    assert time.perf_counter() - start < 1


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
@pytest.mark.parametrize(
    ("function", "name"),
    [
        (os.system, "system"),
        (eval, "eval"),
        (np.load, "load"),
        (np.fromfile, "fromfile"),
        (getattr, "getattr"),
    ],
)
def test_functions_are_refused_by_name_and_not_called(function, name, protocol, tmp_path):
    witness = tmp_path / "executed"
    argument = (
        f"touch {witness}"
        if function is os.system
        else f"__import__('pathlib').Path({str(witness)!r}).touch()"
    )
    with pytest.raises(UnsafePickleError, match=name if protocol >= 2 else "refers|opcode"):
        loads(pickled_call(function, argument, protocol=protocol))
    assert not witness.exists()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "exhausted"),
        (b"\x80\x02", "exhausted"),
        (b"\x80\x09N.", "protocol 9"),
        (b"\x80\x02N.N.", "2 bytes follow"),
        (b"\x80\x02NN.", "left over"),
        (b"\x80\x02(N.", "left over"),
        (b"\x80\x02.", "damaged"),
        (b"\x80\x02e.", "damaged"),
        (b"\x80\x02Na.", "damaged"),
        (b"\x80\x02NNa.", "appends to a NoneType"),
        (b"\x80\x02]NNs.", "sets an item of a list"),
        (b"\x80\x02}(NNNu.", "damaged"),
        (b"\x80\x02}]Ns.", "key is a list"),
        (b"\x80\x02h\x05.", "memo 5"),
        (b"\x80\x02NQ.", "persistent id"),
        (b"\x80\x02NP0\n.", "opcode PERSID"),
        (b"\x80\x02\x82\x01.", "opcode EXT1"),
        (b"\x80\x02cos\nsystem\n.", "os.system"),
        (b"\x80\x02cnumpy\nndarray\n.", "bare type"),
        (b"\x80\x02cnumpy\nndarray\n)R.", "calls ndarray"),
        (b"\x80\x02cnumpy\nndarray\n)\x81.", "opcode NEWOBJ"),
        (b"\x80\x02NN\x85R.", "calls a NoneType"),
        (b"\x80\x02NNR.", "not a tuple"),
        (b"\x80\x02}}b.", "sets the state of a dict"),
        (b"\x80\x02ccollections\nOrderedDict\n]\x85R.", "calls OrderedDict"),
        (
            b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x05\x00\x00\x00utf-8\x86R.",
            "calls encode",
        ),
        (b"\x80\x02]q\x00h\x00a.", "holds itself"),
        (b"\x80\x02" + b"]" * 200 + b"a" * 199 + b".", "nested"),
    ],
)
def test_damage_and_odd_opcodes_are_named(data, message):
    with pytest.raises(UnsafePickleError, match=message):
        loads(data)


def array_pickle(
    code: bytes = b"i8", raw: bytes = b"K\x00", shape: bytes = b"K\x01\x85", order: bytes = b"<"
) -> bytes:
    """An array recipe with parts of one's choice; raw and shape are opcodes."""
    return (
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01"
        + shape
        + b"cnumpy\ndtype\nU"
        + bytes([len(code)])
        + code
        + b"K\x00K\x01\x87R(K\x03U\x01"
        + order
        + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89"
        + raw
        + b"tb."
    )


EIGHT = b"U\x08\x01\x00\x00\x00\x00\x00\x00\x00"


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"raw": b"]"}, "object arrays"),
        ({"code": b"O8", "raw": b"]"}, "'O8'"),
        ({"code": b"V8", "raw": EIGHT}, "'V8'"),
        ({"code": b"M8", "raw": EIGHT}, "'M8'"),
        ({"code": b"S8", "raw": EIGHT}, "'S8'"),
        ({"code": b"c8", "raw": EIGHT}, "'c8'"),
        ({"raw": EIGHT, "order": b"!"}, "byte order"),
        ({"raw": EIGHT, "shape": b"K\x02\x85"}, "cannot have 8 bytes"),
        ({"raw": EIGHT, "shape": b"J\xff\xff\xff\xff\x85"}, "sizes"),
        ({"raw": EIGHT, "shape": b"K\x01"}, "shape"),
        ({"raw": b"U\x00", "shape": b"(K\x00" + b"\x8a\x08" + b"\xff" * 7 + b"\x7ft"}, "sizes"),
        ({"code": b"b1", "raw": b"U\x01\x07"}, "other than 0 and 1"),
    ],
)
def test_arrays_are_checked_before_they_are_made(parts, message):
    assert loads(array_pickle(raw=EIGHT)).tolist() == [1]  # the recipe itself is fine
    with pytest.raises(UnsafePickleError, match=message):
        loads(array_pickle(**parts))


def test_object_arrays_of_numpy_are_refused():
    with pytest.raises(UnsafePickleError, match="'O8'"):
        loads(pickle.dumps(np.array([None, "x"], dtype=object), 2))


def peak_megabytes(data: bytes) -> float:
    tracemalloc.start()
    try:
        with contextlib.suppress(UnsafePickleError):
            loads(data)
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    return peak / 1e6


@pytest.mark.parametrize(
    "data",
    [
        b"\x80\x02Nr\xff\xff\xff\x7f.",  # LONG_BINPUT of memo 2^31 - 1
        b"\x80\x04\x8e" + (10**10).to_bytes(8, "little") + b"short",  # BINBYTES8 of 10 GB
        b"\x80\x04\x8e" + b"\xff" * 8 + b"short",
        b"\x80\x02T\xff\xff\xff\x7fshort",  # BINSTRING of 2 GB
        b"\x80\x04\x95" + (10**10).to_bytes(8, "little") + b"N.",  # a 10 GB frame
        array_pickle(raw=b"U\x00", shape=b"J\xff\xff\xff\x7fJ\xff\xff\xff\x7f\x86"),
    ],
)
def test_declared_sizes_allocate_nothing(data):
    assert peak_megabytes(data) < 2


def test_references_cannot_multiply_bytes():
    text = b"X" + (10_000).to_bytes(4, "little") + b"x" * 10_000
    encode = b"h\x00h\x01h\x02\x86R"
    data = (
        b"\x80\x02(c_codecs\nencode\nq\x00"
        + text
        + b"q\x01X\x06\x00\x00\x00latin1q\x02"
        + encode * 2_000
        + b"t."
    )
    with pytest.raises(UnsafePickleError, match="more bytes"):
        loads(data)
    assert peak_megabytes(data) < 5


@pytest.mark.parametrize("levels", [3, 60])
def test_references_cannot_multiply_work(levels):
    data = b"]q\x00"
    # A list that holds a list twice, that holds a list twice, ...: 2^60 paths, for who prints it
    for level in range(levels):
        data = b"](" + data + b"h" + bytes([level]) + b"eq" + bytes([level + 1])
    data = b"\x80\x02" + data + b"."
    if levels == 60:
        with pytest.raises(UnsafePickleError, match="refer to one another so often"):
            loads(data)
    else:
        outer = loads(data)
        assert outer[0] is outer[1]


def test_numbers_of_one_hash_are_no_keys():
    data = pickle.dumps({number * (2**61 - 1): 0 for number in range(10)}, protocol=4)
    with pytest.raises(UnsafePickleError, match="more than 64 bits"):
        loads(data)


def test_a_deep_tuple_as_a_key_does_not_end_the_interpreter():
    with pytest.raises(UnsafePickleError, match="key is a tuple"):
        loads(b"\x80\x02})" + b"\x85" * 200_000 + b"Ns.")


def test_torch_like_storage_goes_through_the_callers_stand_ins():
    data = (
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storagectorch\nLongStorage\nX\x01\x00\x00\x000tQ"
        b"K\x00K\x03\x85K\x01\x85\x89ccollections\nOrderedDict\n)RtR."
    )
    with pytest.raises(UnsafePickleError, match=r"torch\._utils\._rebuild_tensor_v2"):
        loads(data)
    found = loads(
        data,
        persistent_load=lambda key: ("stored", *key),
        extra_globals={
            ("torch._utils", "_rebuild_tensor_v2"): lambda *arguments: ["tensor", *arguments],
            ("torch", "LongStorage"): "int64",
        },
    )
    assert found == ["tensor", ("stored", "storage", "int64", "0"), 0, (3,), (1,), False, {}]


def test_only_the_callers_stand_ins_are_called():
    with pytest.raises(UnsafePickleError, match="calls a builtin_function"):
        loads(b"\x80\x02N\x51)R.", persistent_load=lambda key: print)


BASES = [
    batch_bytes(ROWS, [3, 1, 4, 1, 5]),
    *(pickle.dumps(PLAIN, protocol) for protocol in (2, 4, 5)),
]


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    base=st.sampled_from(BASES),
    flips=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=4),
    keep=st.floats(0, 1),
    cut=st.booleans(),
)
def test_mutated_pickles_give_a_value_or_the_one_error(base, flips, keep, cut):
    data = bytearray(base)
    for place, value in flips:
        data[int(place * len(data))] = value
    if cut:
        del data[int(keep * len(data)) :]
    with contextlib.suppress(UnsafePickleError):
        loads(bytes(data))


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    body=st.lists(
        st.sampled_from(
            [bytes([code]) for code in b"](t}aseubRQ)\x85\x86\x87N\x88K\x00\x01q\x94h.c0"]
        ),
        max_size=30,
    )
)
def test_random_opcodes_give_a_value_or_the_one_error(body):
    with contextlib.suppress(UnsafePickleError):
        loads(b"\x80\x04" + b"".join(body) + b".", persistent_load=lambda key: None)

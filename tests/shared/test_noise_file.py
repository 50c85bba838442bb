"""Our noise file: round trips, refusals, and files made to do harm."""

import dataclasses
import io
import json
import os
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.formats import noise_file
from shared.formats.alignment import labels_for
from shared.formats.noise_file import Header, NoiseFile, NoiseFileError

CLEAN = np.arange(60) % 10
NOISY = np.where(np.arange(60) < 15, (CLEAN + 1) % 10, CLEAN)


def example(**changes):
    known = {
        "dataset": "cifar10",
        "split": "train",
        "num_classes": 10,
        "kind": "pair_flip",
        "nominal_rate": 0.25,
    }
    arguments = {"clean_labels": CLEAN, "seed": 123, "generator": "test 1", **known, **changes}
    return noise_file.make(arguments.pop("noisy_labels", NOISY), **arguments)


def assert_same(first, second):
    for name in ("noisy_labels", "clean_labels", "indices", "open_set"):
        one, two = getattr(first, name), getattr(second, name)
        assert (one is None) == (two is None), name
        if one is not None:
            np.testing.assert_array_equal(one, two)
            assert one.dtype == two.dtype
    assert first.header == second.header


def npz(**members):
    """A zip with these members as they are (bytes) or as .npy (arrays)."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in members.items():
            if not isinstance(content, bytes):
                buffer = io.BytesIO()
                np.save(buffer, content)
                content = buffer.getvalue()
            archive.writestr(f"{name}.npy", content)
    return stream.getvalue()


def header_text(**changes):
    fields = dataclasses.asdict(Header()) | changes
    return np.array(json.dumps(fields))


def test_make_measures_the_rate_and_hashes_the_clean_labels():
    noise = example()
    assert noise.header.measured_rate == 0.25
    assert noise.header.clean_labels_sha256 == noise_file.label_hash(CLEAN.astype(np.uint8))
    assert noise.noisy_labels.dtype == np.int64
    with pytest.raises(ValueError, match="read-only"):
        noise.noisy_labels[0] = 3
    assert NOISY.flags.writeable  # the caller's array is not touched


def test_a_replaced_image_counts_as_noise():
    flags = np.arange(60) % 2 == 0
    assert example(open_set=flags).header.measured_rate == pytest.approx((30 + 7) / 60)


def test_unknowns_stay_none():
    assert noise_file.make([1, 2]).header == Header()


@given(
    size=st.integers(0, 40),
    num_classes=st.integers(1, 12),
    parts=st.tuples(st.booleans(), st.booleans(), st.booleans(), st.booleans()),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=40, deadline=None)
def test_round_trip(size, num_classes, parts, seed):
    rng = np.random.default_rng(seed)
    with_clean, with_indices, with_flags, with_header = parts
    known = {"dataset": "ü\ud800", "num_classes": num_classes, "seed": seed} if with_header else {}
    noise = noise_file.make(
        rng.integers(0, num_classes, size),
        clean_labels=rng.integers(0, num_classes, size) if with_clean else None,
        indices=rng.permutation(1000)[:size] if with_indices else None,
        open_set=rng.random(size) < 0.5 if with_flags else None,
        **known,
    )
    data = noise_file.encode(noise)
    assert_same(noise_file.decode(data), noise)
    assert noise_file.encode(noise_file.decode(data)) == data


def test_same_arguments_same_bytes(tmp_path, monkeypatch):
    noise_file.write(tmp_path / "a.npz", example())
    monkeypatch.setattr("time.time", lambda: 2e9)
    noise_file.write(tmp_path / "b.npz", example())
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    assert_same(noise_file.read(tmp_path / "a.npz"), example())


@pytest.mark.parametrize("step", ["write", "fsync", "replace"])
def test_a_failing_write_leaves_the_old_file_and_no_part(tmp_path, monkeypatch, step):
    path = tmp_path / "noise.npz"
    noise_file.write(path, example())
    before = path.read_bytes()

    def fail(*_):
        raise OSError("no space left on device")

    if step == "write":
        monkeypatch.setattr("pathlib.Path.open", lambda *_: TornFile(tmp_path / "torn"))
    else:
        monkeypatch.setattr(os, step, fail)
    with pytest.raises(OSError, match="no space"):
        noise_file.write(path, example(seed=7))
    monkeypatch.undo()
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir() if entry.name != "torn"] == ["noise.npz"]


class TornFile(io.FileIO):
    """A disk that is full after ten bytes."""

    def __init__(self, path):
        super().__init__(path, "wb")

    def write(self, data):
        super().write(data[:10])
        raise OSError("no space left on device")


def test_write_makes_the_folder_and_obeys_the_umask(tmp_path):
    path = tmp_path / "new" / "noise.npz"
    noise_file.write(path, example())
    plain = tmp_path / "plain"
    plain.touch()
    assert path.stat().st_mode == plain.stat().st_mode


def test_labels_for_gives_rows_and_labels():
    rows, labels = labels_for(example(), dataset="cifar10", clean_labels=CLEAN, num_classes=10)
    np.testing.assert_array_equal(rows, np.arange(60))
    np.testing.assert_array_equal(labels, NOISY)
    assert labels.flags.writeable
    part = example(noisy_labels=NOISY[[5, 2]], clean_labels=CLEAN[[5, 2]], indices=[5, 2])
    rows, labels = labels_for(part, dataset="cifar10", clean_labels=CLEAN, num_classes=10)
    np.testing.assert_array_equal(rows, [5, 2])
    np.testing.assert_array_equal(labels, NOISY[[5, 2]])


@pytest.mark.parametrize(
    ("noise", "message"),
    [
        (example(dataset="cifar100"), "is for cifar100, not cifar10"),
        (example(num_classes=12), "has 12 classes, cifar10 has 10"),
        (
            example(noisy_labels=NOISY[1:], clean_labels=None),
            "has 59 labels, the training set of cifar10 60",
        ),
        (
            example(noisy_labels=[1], clean_labels=None, indices=[60]),
            "labels sample 60, but .* ends at 59",
        ),
        (noise_file.make(np.where(CLEAN == 9, 10, CLEAN)), "10 at sample 9 is not in"),
        (
            example(clean_labels=CLEAN[::-1]),
            "60 of 60 clean labels .* first at sample 0 .9 in the file, 0 in the data",
        ),
        (
            noise_file.make(NOISY, clean_labels_sha256=noise_file.label_hash(CLEAN[::-1])),
            "SHA-256 differs",
        ),
    ],
)
def test_labels_for_refuses_a_file_of_another_dataset(noise, message):
    with pytest.raises(NoiseFileError, match=message):
        labels_for(noise, dataset="cifar10", clean_labels=CLEAN, num_classes=10)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"noisy_labels": [1.0, 2.0], "clean_labels": None}, "float64: give integers"),
        ({"noisy_labels": [float("nan")], "clean_labels": None}, "give integers"),
        ({"noisy_labels": ["1", "2"], "clean_labels": None}, "give integers"),
        ({"noisy_labels": [[1, 2]], "clean_labels": None}, "one integer per sample"),
        ({"noisy_labels": [0, 10], "clean_labels": None}, "10 at sample 1"),
        ({"noisy_labels": [0, -1], "clean_labels": None}, "-1 at sample 1"),
        ({"clean_labels": CLEAN[:-1]}, "clean_labels has 59 entries for 60"),
        ({"indices": [0] * 60}, "name sample 0 twice"),
        ({"open_set": np.zeros(60)}, "one bool per sample"),
        ({"num_classes": 0}, "at least 1"),
        ({"nominal_rate": 1.5}, "outside"),
        ({"nominal_rate": float("nan")}, "outside"),
        ({"convention": "maybe"}, "neither"),
        ({"kind": 3}, "header field kind"),
    ],
)
def test_make_refuses_what_is_not_a_noise_file(changes, message):
    with pytest.raises(NoiseFileError, match=message):
        example(**changes)


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"header": header_text()}, "not a noise file"),
        ({"noisy_labels": NOISY, "header": header_text(), "extra": NOISY}, "not a noise file"),
        (
            {"noisy_labels": NOISY.astype(float), "header": header_text()},
            "holds float64, not integers",
        ),
        ({"noisy_labels": np.array([{}]), "header": header_text()}, "holds object, not integers"),
        ({"noisy_labels": np.array(["1"]), "header": header_text()}, "not integers"),
        ({"noisy_labels": NOISY, "header": np.array("{")}, "not JSON"),
        ({"noisy_labels": NOISY, "header": np.array("[" * 9000)}, "JSON|fields"),
        ({"noisy_labels": NOISY, "header": np.array("[]")}, "not a JSON object"),
        ({"noisy_labels": NOISY, "header": np.array(["{}"])}, "not one text"),
        ({"noisy_labels": NOISY, "header": np.array("x" * 99999)}, "header has .* bytes"),
        ({"noisy_labels": NOISY, "header": header_text(version=2)}, "version 2 is not 1: update"),
        ({"noisy_labels": NOISY, "header": header_text(surprise=1)}, "wrong fields .'surprise'"),
        ({"noisy_labels": NOISY, "header": header_text(seed="1")}, "header field seed"),
        ({"noisy_labels": NOISY, "header": header_text(nominal_rate=float("nan"))}, "outside"),
        ({"noisy_labels": NOISY, "header": header_text(num_classes=5)}, "5 at sample 4"),
        (
            {
                "noisy_labels": NOISY,
                "clean_labels": CLEAN,
                "header": header_text(measured_rate=0.9),
            },
            "measured rate",
        ),
        (
            {
                "noisy_labels": NOISY,
                "clean_labels": CLEAN,
                "header": header_text(clean_labels_sha256="0"),
            },
            "hash",
        ),
    ],
)
def test_read_refuses_wrong_contents_and_names_the_file(tmp_path, members, message):
    path = tmp_path / "bad.npz"
    path.write_bytes(npz(**members))
    with pytest.raises(NoiseFileError, match=message) as caught:
        noise_file.read(path)
    assert str(path) in str(caught.value)


def peak_of(action):
    tracemalloc.start()
    try:
        with pytest.raises(NoiseFileError):
            action()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def npy_header(shape, descr="<i8"):
    text = (
        f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape}, }}".encode().ljust(117)
        + b"\n"
    )
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


@pytest.mark.parametrize(
    "shape", ["(1250000000,)", "(9999999999999999999999,)", "(-1,)", "(0, 1)", "(60"]
)
def test_a_header_that_claims_gigabytes_allocates_nothing(tmp_path, shape):
    path = tmp_path / "huge.npz"
    path.write_bytes(npz(noisy_labels=npy_header(shape) + NOISY.tobytes(), header=header_text()))
    assert peak_of(lambda: noise_file.read(path)) < 5_000_000


def test_zip_bombs_allocate_nothing(tmp_path):
    stream = io.BytesIO()
    with (
        zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("noisy_labels.npy", "w") as member,
    ):
        for _ in range(80):
            member.write(bytes(2**20))
    with zipfile.ZipFile(stream, "a") as archive:
        archive.writestr("header.npy", b"")
    path = tmp_path / "bomb.npz"
    path.write_bytes(stream.getvalue())
    assert peak_of(lambda: noise_file.read(path)) < 5_000_000
    lying = stream.getvalue().replace(struct.pack("<I", 80 * 2**20), struct.pack("<I", 500))
    path.write_bytes(lying)
    assert peak_of(lambda: noise_file.read(path)) < 5_000_000


def test_unreadable_paths_are_noise_file_errors(tmp_path):
    with pytest.raises(NoiseFileError, match=r"does not exist: .*noise make"):
        noise_file.read(tmp_path / "none.npz")
    with pytest.raises(NoiseFileError, match="not a regular file"):
        noise_file.read(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(NoiseFileError, match="not a regular file"):
        noise_file.read(tmp_path / "pipe")
    (tmp_path / "text.npz").write_text("label,label_noisy\n")
    with pytest.raises(NoiseFileError, match="zip archive is damaged"):
        noise_file.read(tmp_path / "text.npz")


@given(data=st.data())
@settings(max_examples=200, deadline=None)
def test_damaged_bytes_are_refused_or_harmless(tmp_path_factory, data):
    whole = noise_file.encode(example(open_set=CLEAN == 0, indices=np.arange(60)))
    if data.draw(st.booleans()):
        damaged = whole[: data.draw(st.integers(0, len(whole) - 1))]
    else:
        position, value = data.draw(st.integers(0, len(whole) - 1)), data.draw(st.integers(0, 255))
        damaged = whole[:position] + bytes([value]) + whole[position + 1 :]
    path = tmp_path_factory.getbasetemp() / "damaged.npz"
    path.write_bytes(damaged)
    try:
        noise = noise_file.read(path)
    except NoiseFileError:
        return
    assert isinstance(noise, NoiseFile)
    np.testing.assert_array_equal(noise.noisy_labels, NOISY)

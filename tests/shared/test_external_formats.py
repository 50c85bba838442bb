"""External noise files: read, written, and refused where damaged or made to do harm."""

import io
import os
import pickle
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_bytes import TENSOR_PICKLE, legacy, torch_zip

from shared.formats import external, noise_file
from shared.formats.external import encode_any, read_any, write_any
from shared.formats.noise_file import NoiseFile, NoiseFileError

CLEAN = np.arange(300) % 150  # some labels need two bytes as UTF-8
NOISY = np.where(np.arange(300) % 4 == 0, 149 - CLEAN, CLEAN)


def read_bytes_as(tmp_path, data, name="file", column=None):
    path = tmp_path / name
    path.write_bytes(data)
    return read_any(path, column)


def numpy_1(pickled):
    return pickled.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")


# ---- every format, read


@pytest.mark.parametrize("era", [numpy_1, lambda pickled: pickled])
@pytest.mark.parametrize(
    "value", [NOISY, NOISY.astype(np.uint8), NOISY.astype(">i4"), NOISY.tolist(), list(NOISY)]
)
def test_torch_file_of_an_array_or_a_list(tmp_path, value, era):
    noise = read_bytes_as(
        tmp_path, torch_zip(era(pickle.dumps(value, protocol=2)), folder="0.5_instance")
    )
    np.testing.assert_array_equal(noise.noisy_labels, NOISY)
    assert noise.clean_labels is None
    assert noise.header.measured_rate is None


@pytest.mark.parametrize(("byteorder", "code"), [(b"little", "<i8"), (b"big", ">i8")])
def test_torch_file_of_a_tensor(tmp_path, byteorder, code):
    members = {"data/0": np.arange(5, dtype=code).tobytes(), "byteorder": byteorder}
    noise = read_bytes_as(tmp_path, torch_zip(b"K\x05".join(TENSOR_PICKLE), **members))
    np.testing.assert_array_equal(noise.noisy_labels, range(5))


def test_a_tensor_that_claims_more_than_its_storage_is_refused(tmp_path):
    for size in (b"K\x06", b"J\x00\x00\x00\x7f", b"J\xff\xff\xff\xff"):
        with pytest.raises(NoiseFileError, match="does not fit its storage"):
            read_bytes_as(tmp_path, torch_zip(size.join(TENSOR_PICKLE), **{"data/0": bytes(40)}))
    with pytest.raises(NoiseFileError, match="lacks its member data/0"):
        read_bytes_as(tmp_path, torch_zip(b"K\x05".join(TENSOR_PICKLE)))


def test_torch_files_from_before_version_1_6(tmp_path):
    noise = read_bytes_as(tmp_path, legacy(pickle.dumps(NOISY, protocol=2)))
    np.testing.assert_array_equal(noise.noisy_labels, NOISY)
    storage = struct.pack("<q", 5) + np.arange(5, dtype="<i8").tobytes()
    whole = legacy(b"K\x05".join(TENSOR_PICKLE), ["0"], storage)
    np.testing.assert_array_equal(read_bytes_as(tmp_path, whole).noisy_labels, range(5))
    with pytest.raises(NoiseFileError, match=r"claims .* bytes"):
        read_bytes_as(
            tmp_path,
            legacy(b"K\x05".join(TENSOR_PICKLE), ["0"], struct.pack("<q", 2**60) + storage[8:]),
        )


HUMAN = {"clean_label": CLEAN, "aggre_label": NOISY, "worse_label": (CLEAN + 1).tolist()}
FINE_AND_COARSE = {
    "clean_label": CLEAN,
    "noisy_label": NOISY,
    "clean_coarse_label": CLEAN // 5,
    "noisy_coarse_label": NOISY // 5,
}


@pytest.fixture(params=["torch", "npz"])
def column_file(request, tmp_path):
    def write(columns):
        path = tmp_path / ("human.pt" if request.param == "torch" else "human.npz")
        if request.param == "torch":
            path.write_bytes(torch_zip(pickle.dumps(columns, protocol=2)))
        else:
            np.savez_compressed(path, **columns)
        return path

    return write


def test_cifar_n_needs_a_column(column_file):
    path = column_file(HUMAN)
    assert external.columns(path) == list(HUMAN)
    worse = read_any(f"{path}:worse_label")
    np.testing.assert_array_equal(worse.noisy_labels, CLEAN + 1)
    np.testing.assert_array_equal(worse.clean_labels, CLEAN)
    assert worse.header.measured_rate == 1
    assert worse.header.kind == "worse_label"
    np.testing.assert_array_equal(read_any(path, "aggre_label").noisy_labels, NOISY)
    with pytest.raises(
        NoiseFileError, match=r"choose human.*:COLUMN .*aggre_label \(25.00% noisy\), worse_label"
    ):
        read_any(path)
    with pytest.raises(NoiseFileError, match="has no column 'best_label'"):
        read_any(f"{path}:best_label")


def test_cifar_100n_has_a_default_and_coarse_labels(column_file):
    path = column_file(FINE_AND_COARSE)
    np.testing.assert_array_equal(read_any(path).noisy_labels, NOISY)
    coarse = read_any(path, "noisy_coarse_label")
    np.testing.assert_array_equal(coarse.clean_labels, CLEAN // 5)


def test_a_colon_in_a_name_that_exists_is_no_column(tmp_path):
    path = tmp_path / "a.json:b"
    path.write_text("[1, 2]")
    np.testing.assert_array_equal(read_any(path).noisy_labels, [1, 2])
    with pytest.raises(NoiseFileError, match="no columns"):
        read_any(path, "b")


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_csv(tmp_path, newline, mark):
    text = mark + newline.join(
        ["label,label_noisy", *(f"{c},{n}" for c, n in zip(CLEAN, NOISY)), ""]
    )
    noise = read_bytes_as(tmp_path, text.encode())
    np.testing.assert_array_equal(noise.noisy_labels, NOISY)
    np.testing.assert_array_equal(noise.clean_labels, CLEAN)
    assert noise.header.measured_rate == (NOISY != CLEAN).mean()


def test_open_set_csv(tmp_path):
    noise = read_bytes_as(tmp_path, b"label,label_noisy\n3,True\n4,False\n5,False\n6,False\n")
    np.testing.assert_array_equal(noise.noisy_labels, [3, 4, 5, 6])
    np.testing.assert_array_equal(noise.open_set, [True, False, False, False])
    assert noise.header.measured_rate == 0.25
    assert noise.header.kind == "open_set"


def test_npy_of_45000_labels_belongs_to_the_first_45000_images(tmp_path):
    np.save(tmp_path / "pmd.npy", np.zeros(45_000, int))
    np.testing.assert_array_equal(read_any(tmp_path / "pmd.npy").indices, np.arange(45_000))
    np.save(tmp_path / "other.npy", NOISY.astype(np.int32))
    assert read_any(tmp_path / "other.npy").indices is None


def test_json_list(tmp_path):
    np.testing.assert_array_equal(read_bytes_as(tmp_path, b"[6, 9, 9]").noisy_labels, [6, 9, 9])


# ---- round trips


@given(
    seed=st.integers(0, 2**32 - 1),
    size=st.integers(0, 400),
    largest=st.sampled_from([1, 10, 200, 2**40]),
)
@settings(max_examples=25, deadline=None)
def test_round_trips_lose_nothing_the_format_can_hold(tmp_path_factory, seed, size, largest):
    rng = np.random.default_rng(seed)
    clean, noisy = rng.integers(0, largest, (2, size))
    noise = noise_file.make(noisy, clean_labels=clean, seed=seed)
    for format in external.FORMATS:
        path = tmp_path_factory.getbasetemp() / f"round.{format}"
        write_any(path, noise)
        back = read_any(path)
        np.testing.assert_array_equal(back.noisy_labels, noisy)
        if format in ("npz", "csv"):
            np.testing.assert_array_equal(back.clean_labels, clean)
        assert (back.header == noise.header) == (format == "npz")
        assert back.indices is None
        assert encode_any(back, format) == path.read_bytes()


def test_round_trips_of_parts_and_flags(tmp_path):
    part = noise_file.make(np.arange(45_000) % 10, indices=np.arange(45_000))
    write_any(tmp_path / "part.npy", part)
    np.testing.assert_array_equal(read_any(tmp_path / "part.npy").indices, part.indices)
    flagged = noise_file.make([1, 2, 3], clean_labels=[1, 2, 3], open_set=[True, False, False])
    write_any(tmp_path / "flagged.csv", flagged)
    assert (tmp_path / "flagged.csv").read_text() == "label,label_noisy\n1,True\n2,False\n3,False\n"
    np.testing.assert_array_equal(read_any(tmp_path / "flagged.csv").open_set, flagged.open_set)


@pytest.mark.parametrize(
    ("noise", "format", "message"),
    [
        (noise_file.make([1, 2], indices=[4, 3]), "pt", "which samples"),
        (noise_file.make([1, 2], indices=[4, 3]), "npy", "which samples"),
        (noise_file.make([1, 2], indices=[4, 3]), "csv", "which samples"),
        (noise_file.make([1, 2], open_set=[True, False]), "json", "which images are replaced"),
        (noise_file.make([1, 2]), "csv", "needs the clean labels"),
        (noise_file.make([1, 2], clean_labels=[1, 1], open_set=[True, False]), "csv", "not both"),
        (noise_file.make([1, 2]), "xlsx", "unknown format"),
    ],
)
def test_what_a_format_cannot_hold_is_refused(noise, format, message):
    with pytest.raises(NoiseFileError, match=message):
        encode_any(noise, format)


def test_the_ending_names_the_format():
    assert external.format_of("a.b/C.NPZ") == "npz"
    with pytest.raises(NoiseFileError, match="choose the format by the ending"):
        external.format_of("labels.txt")


def test_torch_reads_and_writes_the_same_files(tmp_path):
    torch = pytest.importorskip("torch")
    write_any(tmp_path / "ours.pt", noise_file.make(NOISY))
    loaded = torch.load(tmp_path / "ours.pt", weights_only=False)
    assert isinstance(loaded, np.ndarray)
    np.testing.assert_array_equal(loaded, NOISY)
    for value in (
        NOISY,
        NOISY.tolist(),
        list(NOISY),
        torch.tensor(NOISY),
        torch.tensor(np.repeat(NOISY, 2))[1::2],
    ):
        for zipped in (True, False):
            torch.save(value, tmp_path / "theirs.pt", _use_new_zipfile_serialization=zipped)
            np.testing.assert_array_equal(read_any(tmp_path / "theirs.pt").noisy_labels, NOISY)


# ---- refusals


class Touch:
    """A pickle that makes a file when it is loaded as pickles usually are."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("wrap", [torch_zip, legacy])
@pytest.mark.parametrize("hide", [lambda x: x, lambda x: [1, x], lambda x: {"noisy_label": x}])
def test_a_malicious_pickle_is_refused_and_not_executed(tmp_path, wrap, hide):
    proof = tmp_path / "executed"
    with pytest.raises(NoiseFileError, match="system"):
        read_bytes_as(tmp_path, wrap(pickle.dumps(hide(Touch(proof)), protocol=2)))
    assert not proof.exists()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not a noise file of a known format"),
        (b"hello", "not a noise file of a known format"),
        (b"\x89PNG\r\n\x1a\n\xff", "not a noise file of a known format"),
        (b"[1, 2", "JSON"),
        (b"[" * 100_000, "JSON"),
        (b"[1, true]", "item 1 of the list is True"),
        (b"[1, 2.0]", "item 1 of the list is 2.0"),
        (b"[1, NaN]", "item 1 of the list is nan"),
        (b'[1, "2"]', "item 1 of the list is '2'"),
        (b"[1, [2]]", "item 1 of the list"),
        (b"[1, -1]", "-1 at sample 1"),
        (b"[1, 99999999999999999999999]", "item 1 of the list"),
        (b'{"images": [], "annotations": []}', "JSON object with"),
        (b"label,label_noisy\n1,2\n3\n", "line 3 has 1 cells"),
        (b"label,label_noisy\n1,x\n", "line 2 has 'x'"),
        (b"label,label_noisy\n1,1.5\n", "line 2 has '1.5'"),
        (b"label,label_noisy\n1,-1\n", "line 2 has '-1'"),
        (b"label,label_noisy\n1,nan\n", "line 2 has 'nan'"),
        (b"label,label_noisy\n1,True\n2,3\n", "line 2 has 'True'"),
        (b"label,label_noisy\n1,\n", "line 2 has ''"),
        ("label,label_noisy\n1,\u0663\n".encode(), "line 2 has"),
        (b"a,b\n1,2\n", "several columns of labels: .* among a, b"),
        (b"src,dsts,p\ntruck,['automobile'],0.4\n", "describes the rules"),
        (b"index,donor_index\n3,4\n", "list of pairs"),
        (b"src,dst,p\ncifar10,cifar100,0.4\n", "describes the rules"),
    ],
)
def test_text_that_is_not_labels_is_refused(tmp_path, data, message):
    with pytest.raises(NoiseFileError, match=message) as caught:
        read_bytes_as(tmp_path, data, "named.csv")
    assert "named.csv" in str(caught.value)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.array([0.5, 1.0]), "float64: give integers"),
        (np.array([1, -2]), "-2 at sample 1"),
        (np.array([[1, 2]]), "one integer per sample"),
        (np.array([True]), "give integers"),
        ([1, "2"], "item 1 of the list is '2'"),
        ([1, None], "item 1 of the list is None"),
        ("labels", "holds a str"),
        ({"noisy_label": [1, 2.5]}, "item 1 of the list is 2.5"),
        ({"noisy_label": [1, 2], "clean_label": [1]}, "1 entries for 2"),
        ({}, "0 entries .nothing. and no list of labels"),
        ({7: 1, "b.png": 2}, r"2 entries \(7, b.png\) and no list of labels"),
        ([[1, 2], [3]], "item 0 of the list is a list"),
        ([2**20_000], "more than 128 bits"),
    ],
)
def test_torch_files_without_labels_are_refused(tmp_path, value, message):
    with pytest.raises(NoiseFileError, match=message):
        read_bytes_as(tmp_path, torch_zip(pickle.dumps(value, protocol=2)))


def test_huge_claims_allocate_nothing(tmp_path):
    header = (
        b"{'descr': '<i8', 'fortran_order': False, 'shape': (1250000000,), }".ljust(117) + b"\n"
    )
    npy = b"\x93NUMPY\x01\x00\x76\x00" + header + bytes(80)
    array = pickle.dumps(NOISY, protocol=2).replace(b"M\x2c\x01", b"J\xff\xff\xff\x7f")
    bomb = io.BytesIO()
    with (
        zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("a/data.pkl", "w") as member,
    ):
        for _ in range(80):
            member.write(bytes(2**20))
    tracemalloc.start()
    try:
        for data in (
            npy,
            torch_zip(array),
            bomb.getvalue(),
            torch_zip(b"\x80\x02X\xff\xff\xff\x7fabc."),
        ):
            with pytest.raises(NoiseFileError):
                read_bytes_as(tmp_path, data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 10_000_000


def samples():
    few = noise_file.make(NOISY[:40], clean_labels=CLEAN[:40])
    made = [encode_any(few, format) for format in external.FORMATS]
    storage = struct.pack("<q", 5) + bytes(40)
    columns = {name: labels[:20] for name, labels in FINE_AND_COARSE.items()}
    return [
        *made,
        torch_zip(b"K\x05".join(TENSOR_PICKLE), **{"data/0": bytes(40), "byteorder": b"little"}),
        legacy(b"K\x05".join(TENSOR_PICKLE), ["0"], storage),
        legacy(pickle.dumps(list(NOISY[:9]), protocol=2)),
        torch_zip(pickle.dumps(columns, protocol=2)),
        b"label,label_noisy\r\n1,True\r\n2,False\r\n",
        b"[1, 2, 3]",
    ]


SAMPLES = samples()


@given(data=st.data())
@settings(max_examples=400, deadline=None)
def test_damaged_files_are_refused_or_give_valid_labels(tmp_path_factory, data):
    whole = bytearray(data.draw(st.sampled_from(SAMPLES)))
    for _ in range(data.draw(st.integers(0, 3))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "damaged"
    path.write_bytes(whole[: data.draw(st.one_of(st.none(), st.integers(0, len(whole))))])
    try:
        noise = read_any(path)
        names = external.columns(path)
    except NoiseFileError:
        return
    assert isinstance(noise, NoiseFile)
    assert noise.noisy_labels.dtype == np.int64
    assert len(noise.noisy_labels) <= 300
    assert noise.noisy_labels.min(initial=0) >= 0
    assert isinstance(names, list)

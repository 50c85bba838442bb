"""Datasets by name: found wherever they lie, refused when damaged, in the publisher's order."""

import dataclasses
import gzip
import hashlib
import io
import lzma
import os
import pickle
import shutil
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from python2_pickle import batch_bytes

from shared import datasets
from shared.datasets import DatasetError, ImageData, cifar, data_root, fetch, folders, load
from shared.datasets.download import DownloadError
from shared.files import array_hash
from shared.formats.noise_file import label_hash

ROWS = 12  # of a fake batch


@dataclasses.dataclass
class FakeCifar:
    """A tiny CIFAR in the publisher's format, and what must be read from it."""

    spec: cifar.CifarFiles
    contents: dict[str, bytes]
    images: dict[str, np.ndarray]  # (ROWS, 32, 32, 3) of each file
    labels: dict[str, list[int]]

    def write(self, folder: Path) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in self.contents.items():
            (folder / name).write_bytes(content)
        return folder

    def archive(self) -> bytes:
        """The same bytes at every call, without the time that tarfile would write."""
        buffer = io.BytesIO()
        with (
            gzip.GzipFile(fileobj=buffer, mode="wb", mtime=0) as zipped,
            tarfile.open(fileobj=zipped, mode="w") as tar,
        ):
            for name, content in self.contents.items():
                info = tarfile.TarInfo(f"{self.spec.name}-unpacked/{name}")
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
        return buffer.getvalue()


def fake_cifar(original: cifar.CifarFiles) -> FakeCifar:
    rng = np.random.default_rng(len(original.files))
    contents, images, labels = {}, {}, {}
    for name in original.files:
        rows = rng.integers(0, 256, (ROWS, 3072), dtype=np.uint8)
        labels[name] = rng.integers(0, len(original.class_names), ROWS).tolist()
        contents[name] = batch_bytes(rows, labels[name], original.label_key)
        planes = [
            [row[plane * 1024 : (plane + 1) * 1024].reshape(32, 32) for plane in range(3)]
            for row in rows
        ]
        images[name] = np.array([np.dstack(three) for three in planes])
    md5 = {name: hashlib.md5(content).hexdigest() for name, content in contents.items()}
    fake = FakeCifar(dataclasses.replace(original, md5=md5), contents, images, labels)
    archive = fake.archive()
    splits = (original.train_files, original.test_files)
    fake.spec = dataclasses.replace(
        fake.spec,
        archive_md5=hashlib.md5(archive).hexdigest(),
        archive_sha256=hashlib.sha256(archive).hexdigest(),
        archive_bytes=len(archive),
        content_sha256=array_hash(
            *(
                np.concatenate([np.asarray(part[name]) for name in names])
                for names in splits
                for part in (images, labels)
            )
        ),
    )
    return fake


@pytest.fixture(params=["cifar10", "cifar100"])
def fake(request, monkeypatch):
    monkeypatch.delenv("DATA_MIRROR", raising=False)
    monkeypatch.delenv("DATA_ROOT", raising=False)
    fake = fake_cifar(datasets.CIFAR[request.param])
    monkeypatch.setitem(datasets.CIFAR, request.param, fake.spec)
    return fake


def assert_is(fake: FakeCifar, data: ImageData) -> None:
    for names, images, labels in (
        (fake.spec.train_files, data.train_images, data.train_labels),
        (fake.spec.test_files, data.test_images, data.test_labels),
    ):
        np.testing.assert_array_equal(images, np.concatenate([fake.images[name] for name in names]))
        assert labels.tolist() == [label for name in names for label in fake.labels[name]]
        assert (images.dtype, labels.dtype) == (np.uint8, np.int64)
        assert images.flags.c_contiguous
    assert data.name == fake.spec.name
    assert data.num_classes == len(data.class_names) == len(fake.spec.class_names)


# ---- names and places


def test_the_data_root_is_the_path_then_the_environment_then_data_in_the_repository(
    monkeypatch, tmp_path
):
    monkeypatch.setenv("DATA_ROOT", "/from/environment")
    assert data_root(tmp_path) == tmp_path
    assert data_root() == Path("/from/environment")
    monkeypatch.setenv("DATA_ROOT", "")
    assert data_root() == Path(datasets.__file__).parents[2] / "data"


@pytest.mark.parametrize("call", [load, fetch])
def test_unknown_names_are_refused_with_the_known_ones(call):
    with pytest.raises(
        DatasetError, match=r"'mnist'.*cifar10, cifar100, animal10n, digits, folder"
    ):
        call("mnist")


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "digits"])
def test_the_image_size_of_fixed_datasets_is_fixed(name):
    with pytest.raises(DatasetError, match="32 x 32"):
        load(name, image_size=64)


def test_the_registered_names_are_complete():
    assert set(datasets.CIFAR) < set(datasets.NAMES)
    for spec, classes in ((cifar.CIFAR10, 10), (cifar.CIFAR100, 100)):
        assert len(set(spec.class_names)) == classes
        assert sorted(spec.class_names) == list(spec.class_names)
        assert set(spec.md5) == set(spec.files)
        assert spec.url.startswith("https://")


# ---- CIFAR


@pytest.mark.parametrize("place", [".", "unpacked", "a/b/c/d"])
def test_cifar_is_found_in_the_folder_or_below(fake, tmp_path, place):
    folder = fake.write(tmp_path / place)
    data = load(fake.spec.name, tmp_path)
    assert_is(fake, data)
    assert data.location == folder == fetch(fake.spec.name, tmp_path)


def test_cifar_is_found_below_data_root(fake, tmp_path, monkeypatch):
    monkeypatch.setenv("DATA_ROOT", str(tmp_path))
    fake.write(tmp_path / "unpacked")
    assert_is(fake, load(fake.spec.name))


def test_cifar_is_not_looked_for_in_hidden_or_deep_folders(fake, tmp_path):
    for place in ("root/.hidden", "root/a/b/c/d/e"):
        fake.write(tmp_path / place)
    with pytest.raises(DatasetError, match="missing"):
        load(fake.spec.name, tmp_path / "root")


def test_links_to_folders_are_followed_but_not_in_circles(fake, tmp_path):
    fake.write(tmp_path / "outside/deep")
    (tmp_path / "root/a").mkdir(parents=True)
    (tmp_path / "root/a/circle").symlink_to(tmp_path / "root", target_is_directory=True)
    with pytest.raises(DatasetError, match="missing"):
        load(fake.spec.name, tmp_path / "root")
    assert list(folders.walk(tmp_path / "root")) == [tmp_path / "root", tmp_path / "root/a"]
    (tmp_path / "root/link").symlink_to(tmp_path / "outside", target_is_directory=True)
    assert_is(fake, load(fake.spec.name, tmp_path / "root"))
    assert fetch(fake.spec.name, tmp_path / "root") == tmp_path / "root/link/deep"


@pytest.mark.parametrize("place", [".", "a/b"])
def test_an_archive_is_unpacked_beside_itself(fake, tmp_path, place):
    (tmp_path / place).mkdir(parents=True, exist_ok=True)
    (tmp_path / place / fake.spec.archive_name).write_bytes(fake.archive())
    data = load(fake.spec.name, tmp_path)
    assert_is(fake, data)
    assert data.location == tmp_path / place / f"{fake.spec.name}-unpacked"
    assert_is(fake, load(fake.spec.name, tmp_path))


def test_the_path_of_the_archive_will_do(fake, tmp_path):
    (tmp_path / fake.spec.archive_name).write_bytes(fake.archive())
    assert_is(fake, load(fake.spec.name, tmp_path / fake.spec.archive_name))


def test_an_archive_on_a_read_only_place_is_read_in_memory(fake, tmp_path, monkeypatch):
    (tmp_path / fake.spec.archive_name).write_bytes(fake.archive())
    monkeypatch.setattr(
        os, "access", lambda *_: False
    )  # tests may run as root, for whom nothing is read-only
    assert_is(fake, load(fake.spec.name, tmp_path))
    assert fetch(fake.spec.name, tmp_path) == tmp_path
    assert os.listdir(tmp_path) == [fake.spec.archive_name]


def test_fetch_gets_unpacks_and_then_leaves_alone(fake, tmp_path, monkeypatch):
    (tmp_path / "mirror/deep").mkdir(parents=True)
    (tmp_path / "mirror/deep" / fake.spec.archive_name).write_bytes(fake.archive())
    monkeypatch.setenv("DATA_MIRROR", str(tmp_path / "mirror"))
    folder = fetch(fake.spec.name, tmp_path / "data")
    shutil.rmtree(tmp_path / "mirror")
    assert fetch(fake.spec.name, tmp_path / "data") == folder
    assert_is(fake, load(fake.spec.name, tmp_path / "data"))


def test_load_never_downloads(fake, tmp_path, monkeypatch):
    (tmp_path / fake.spec.archive_name).write_bytes(fake.archive())
    monkeypatch.setenv("DATA_MIRROR", str(tmp_path))
    with pytest.raises(DatasetError, match="missing"):
        load(fake.spec.name, tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_what_is_missing_is_told_with_the_three_ways_to_get_it(fake, tmp_path):
    with pytest.raises(DatasetError) as caught:
        load(fake.spec.name, tmp_path / "nothing")
    name, archive = fake.spec.name, fake.spec.archive_name
    for part in (
        *fake.spec.files,
        f"Looked in {tmp_path / 'nothing'} (which does not exist)",
        f"make data-{name} ",
        f"put {archive} into {tmp_path / 'nothing'}",
        "DATA_MIRROR=",
        fake.spec.url,
        "DATA_ROOT",
    ):
        assert part in str(caught.value)


def test_a_container_has_no_make_and_is_told_so(fake, tmp_path, monkeypatch):
    monkeypatch.setattr(folders, "REPOSITORY", tmp_path)
    with pytest.raises(DatasetError) as caught:
        load(fake.spec.name, tmp_path / "nothing")
    assert f"1. python -m shared data {fake.spec.name}    (downloads" in str(caught.value)


@pytest.mark.parametrize("call", [load, fetch])
def test_an_edited_file_is_refused_by_name(fake, tmp_path, call):
    name = fake.spec.files[-1]
    middle = len(fake.contents[name]) // 2
    fake.contents[name] = bytes(
        byte ^ (position == middle) for position, byte in enumerate(fake.contents[name])
    )
    fake.write(tmp_path)
    with pytest.raises(
        DatasetError,
        match=rf"{tmp_path / name} is not the publisher's file: md5 .*{fake.spec.md5[name]}",
    ):
        call(fake.spec.name, tmp_path)


def test_a_damaged_copy_does_not_hide_a_good_one(fake, tmp_path):
    good = fake.write(tmp_path / "b")
    fake.contents[fake.spec.files[0]] = b"damaged"
    fake.write(tmp_path / "a")
    assert load(fake.spec.name, tmp_path).location == good == fetch(fake.spec.name, tmp_path)


def test_a_wrong_file_is_not_opened_where_no_content_is_known(fake, tmp_path, monkeypatch):
    monkeypatch.setattr(cifar.safe_pickle, "loads", lambda _: pytest.fail("opened"))
    spec = dataclasses.replace(fake.spec, content_sha256=None, train_labels_sha256=None)
    fake.contents[fake.spec.files[0]] += b" "
    with pytest.raises(DatasetError, match="md5"):
        cifar.read_folder(spec, fake.write(tmp_path))


def repickled(fake: FakeCifar, protocol: int, as_bytes: bool) -> dict[str, bytes]:
    """The same data in other bytes, as somebody else's script would save them."""
    files = {}
    for name, images in fake.images.items():
        rows = images.transpose(0, 3, 1, 2).reshape(len(images), 3072)
        batch = {"data": rows, fake.spec.label_key: fake.labels[name]}
        if as_bytes:
            batch = {key.encode(): value for key, value in batch.items()}
        files[name] = pickle.dumps(batch, protocol=protocol)
    return files


@pytest.mark.parametrize(("protocol", "as_bytes"), [(2, False), (4, True), (5, False)])
@pytest.mark.parametrize("call", [load, fetch])
def test_equal_images_and_labels_in_other_files_are_taken(fake, tmp_path, call, protocol, as_bytes):
    fake.contents = repickled(fake, protocol, as_bytes)
    fake.write(tmp_path)
    if call is load:
        assert_is(fake, load(fake.spec.name, tmp_path))
    else:
        assert fetch(fake.spec.name, tmp_path) == tmp_path
    name = fake.spec.train_files[0]
    fake.labels[name][0] = 1 - min(1, fake.labels[name][0])
    fake.contents = repickled(fake, protocol, as_bytes)
    fake.write(tmp_path)
    with pytest.raises(DatasetError, match="is not the publisher's file: md5"):
        call(fake.spec.name, tmp_path)


@pytest.fixture
def known_by_labels(monkeypatch):
    """CIFAR-100 of four classes, of which, as of the real one, only the training labels are
    known, repacked by somebody else.
    """
    monkeypatch.delenv("DATA_MIRROR", raising=False)
    four = dataclasses.replace(cifar.CIFAR100, class_names=cifar.CIFAR100.class_names[:4])
    fake = fake_cifar(four)
    fake.labels["test"] = (np.arange(ROWS) % 4).tolist()
    fake.contents = repickled(fake, 4, False)
    known = {"content_sha256": None, "train_labels_sha256": label_hash(fake.labels["train"])}
    fake.spec = dataclasses.replace(fake.spec, **known, test_images=ROWS)
    monkeypatch.setitem(datasets.CIFAR, "cifar100", fake.spec)
    return fake


@pytest.mark.parametrize("call", [load, fetch])
def test_where_only_the_training_labels_are_known_they_decide_with_a_note(
    known_by_labels, tmp_path, capsys, call
):
    folder = known_by_labels.write(tmp_path)
    found = call("cifar100", tmp_path)
    if call is load:
        assert_is(known_by_labels, found)
    said = capsys.readouterr().err
    assert said.startswith(f"note: the files in {folder} are not the publisher's")
    assert "Nothing here could check the images and the test labels" in said
    assert "make data-cifar100" in said


def test_the_publishers_files_need_no_note(fake, tmp_path, capsys):
    fake.write(tmp_path)
    load(fake.spec.name, tmp_path)
    assert capsys.readouterr().err == ""


def edit_label(fake: FakeCifar) -> None:
    fake.labels["train"][3] = (fake.labels["train"][3] + 1) % 4


def reverse(fake: FakeCifar) -> None:
    fake.labels["train"].reverse()
    fake.images["train"] = fake.images["train"][::-1]


def shorten(fake: FakeCifar) -> None:
    fake.labels["train"].pop()
    fake.images["train"] = fake.images["train"][:-1]


def give_superclasses(fake: FakeCifar) -> None:
    fake.labels["train"] = [label // 2 for label in fake.labels["train"]]


def shorten_test(fake: FakeCifar) -> None:
    fake.labels["test"], fake.images["test"] = fake.labels["test"][:8], fake.images["test"][:8]


def unbalance_test(fake: FakeCifar) -> None:
    fake.labels["test"][0] = 3


def blacken(fake: FakeCifar) -> None:
    fake.images["train"] = np.zeros_like(fake.images["train"])


def repeat_training_images(fake: FakeCifar) -> None:
    fake.images["test"] = fake.images["train"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (edit_label, "training labels are not CIFAR-100's"),
        (reverse, "training labels are not CIFAR-100's"),
        (shorten, "training labels are not CIFAR-100's"),
        (give_superclasses, "training labels are not CIFAR-100's"),
        (shorten_test, "8 test labels, 2 to 2 of a class"),
        (unbalance_test, "12 test labels, 2 to 4 of a class"),
        (blacken, "Only 13 of its 24 images differ"),
        (repeat_training_images, "Only 12 of its 24 images differ"),
    ],
)
def test_other_labels_or_repeated_images_are_refused(known_by_labels, tmp_path, change, said):
    change(known_by_labels)
    known_by_labels.contents = repickled(known_by_labels, 4, False)
    known_by_labels.write(tmp_path)
    with pytest.raises(DatasetError, match=rf"is not the publisher's file: md5 .*{said}"):
        load("cifar100", tmp_path)


@pytest.mark.parametrize("ending", [".tar.gz", ".tar", ".tgz", ".zip"])
def test_an_archive_that_somebody_else_packed_is_taken(fake, tmp_path, ending):
    path = tmp_path / fake.spec.archive_name.replace(".tar.gz", ending)
    if ending == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in fake.contents.items():
                archive.writestr(f"mine/{name}", content)
    else:
        plain = gzip.decompress(fake.archive())
        path.write_bytes(plain if ending == ".tar" else gzip.compress(plain, 1, mtime=1))
    assert_is(fake, load(fake.spec.name, tmp_path))
    assert fetch(fake.spec.name, tmp_path) == tmp_path
    assert os.listdir(tmp_path) == [path.name], "it is read where it lies"


@pytest.mark.parametrize("content", [b"no archive", b""])
def test_a_damaged_archive_is_refused_by_name(fake, tmp_path, content):
    (tmp_path / fake.spec.archive_name).write_bytes(content)
    with pytest.raises(DatasetError, match=f"{fake.spec.archive_name} is not the publisher's: its"):
        load(fake.spec.name, tmp_path)
    with pytest.raises(DownloadError, match="Move it away"):
        fetch(fake.spec.name, tmp_path)
    (tmp_path / fake.spec.archive_name).rename(packed := tmp_path / fake.spec.archive_names[-2])
    packed.write_bytes(lzma.compress(gzip.decompress(fake.archive()))[:200] + b"x" * 200)
    with pytest.raises(DatasetError, match="is damaged"):
        load(fake.spec.name, tmp_path)


def test_half_unpacked_files_beside_the_archive_are_named(fake, tmp_path):
    (tmp_path / fake.spec.archive_name).write_bytes(fake.archive())
    (tmp_path / f"{fake.spec.name}-unpacked").mkdir()
    with pytest.raises(DatasetError, match=rf"{fake.spec.name}-unpacked is there already"):
        load(fake.spec.name, tmp_path)


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ([1, 2], "holds a list"),
        ({}, r"no \(n, 3072\) uint8 array"),
        ({"data": np.zeros((2, 3072)), "labels": [0, 1]}, "uint8"),
        ({"data": np.zeros((2, 99), np.uint8), "labels": [0, 1]}, "3072"),
        (
            {"data": np.zeros((2, 3072), np.uint8), "labels": [0]},
            "list of 2 integers named 'labels'",
        ),
        ({"data": np.zeros((2, 3072), np.uint8), "labels": [0, 10]}, r"outside 0\.\.9"),
        ({"data": np.zeros((2, 3072), np.uint8), "labels": [0, -1]}, r"outside 0\.\.9"),
    ],
)
def test_odd_batches_with_a_matching_md5_are_refused(batch, message, tmp_path, monkeypatch):
    content = pickle.dumps(batch, 2)
    names = cifar.CIFAR10.files
    spec = dataclasses.replace(
        cifar.CIFAR10, md5=dict.fromkeys(names, hashlib.md5(content).hexdigest())
    )
    monkeypatch.setitem(datasets.CIFAR, "cifar10", spec)
    for name in names:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DatasetError, match=message):
        load("cifar10", tmp_path)


# ---- digits


def test_digits_are_split_once_and_for_all():
    data = load("digits")
    assert (data.train_images.shape, data.test_images.shape) == (
        (1442, 32, 32, 3),
        (355, 32, 32, 3),
    )
    assert (data.train_images.dtype, data.train_labels.dtype, data.location) == (
        np.uint8,
        np.int64,
        None,
    )
    assert data.class_names == tuple("0123456789")
    for labels in (data.train_labels, data.test_labels):
        assert np.bincount(labels, minlength=10).min() >= len(labels) // 11
    digest = hashlib.sha256()
    for array in (data.train_images, data.train_labels, data.test_images, data.test_labels):
        digest.update(np.ascontiguousarray(array).tobytes())
    assert digest.hexdigest() == "cf67b98d709855c13a9031bae1dd374256ce20db6fd79ba07e1b0aa3e963ff7f"


def test_digits_are_the_originals_enlarged():
    from sklearn.datasets import load_digits

    original = load_digits()
    zeros = np.flatnonzero(original.target == 0)
    data = load("digits")
    found = data.test_images[data.test_labels == 0]
    for image, index in zip(found, zeros[4::5]):
        for row, column in ((0, 2), (3, 5), (7, 4)):
            block = image[4 * row : 4 * row + 4, 4 * column : 4 * column + 4]
            assert (block == int(original.images[index, row, column]) * 255 // 16).all()


def test_fetching_what_needs_no_fetching_is_no_error(tmp_path):
    assert fetch("digits", tmp_path) == fetch("folder", tmp_path) == tmp_path

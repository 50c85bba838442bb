"""Small pictures of samples: of arrays and of files; test_report_objects.py has the others."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from compare.report import thumbnails
from compare.report.collect import Samples
from compare.report.thumbnails import Source
from shared import datasets


def samples(index, files=None):
    index = np.array(index)
    nothing = np.full(len(index), -1)
    names = tuple(files or [""] * len(index))
    return Samples(index, names, nothing, nothing, ("a",), None)


def opened(uri):
    return Image.open(io.BytesIO(base64.b64decode(uri.removeprefix("data:image/webp;base64,"))))


def solid(path, colour, size=(200, 100), **more):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path, **more)
    return path


def test_digits_come_from_their_rows():
    found = thumbnails.of_samples(samples([3, 700]), [1, 0], Source("digits"))
    assert found.problem is None
    for uri, row in zip(found.uris, (700, 3)):
        shown = np.asarray(opened(uri).convert("L"), float)
        meant = datasets.load("digits").train_images[row][..., 0]
        assert shown.shape == (32, 32)
        assert np.abs(shown - meant).mean() < 12  # of 255, as it is compressed


@pytest.mark.parametrize(("shape", "size"), [((80, 80, 3), 64), ((80, 80), 64), ((28, 28), 28)])
def test_an_npz_of_images_is_read(tmp_path, shape, size):
    images = np.zeros((3, *shape), np.uint8)
    images[2] = 255
    np.savez(tmp_path / "mine.npz", train_images=images, train_labels=np.array([0, 1, 0]))
    source = Source("folder", tmp_path / "mine.npz")
    [uri] = thumbnails.of_samples(samples([2]), [0], source).uris
    assert opened(uri).size == (size, size)
    assert np.asarray(opened(uri)).min() > 250


def test_a_damaged_npz_is_no_error(tmp_path):
    (tmp_path / "mine.npz").write_bytes(b"PK damaged")
    found = thumbnails.of_samples(samples([0]), [0], Source("folder", tmp_path / "mine.npz"))
    assert found.uris == (None,)
    assert "mine.npz is not a readable .npz" in found.problem


@pytest.mark.parametrize("below", ["", "train", "set/train"])
def test_files_are_found_below_the_folder(tmp_path, below):
    solid(tmp_path / below / "cat/1.png", "red")
    found = thumbnails.of_samples(samples([0], ["cat/1.png"]), [0], Source("folder", tmp_path))
    assert found.problem is None
    assert opened(found.uris[0]).size == (64, 32)


@pytest.mark.parametrize("below", ["", "train"])
def test_moved_pictures_are_counted_and_the_others_are_shown(tmp_path, below):
    """Also where a folder on the way has some files of these names."""
    for name in ("b/2.png", "b/3.png", "aside/b/2.png"):
        solid(tmp_path / below / name, "red")
    files = ["a/0.png", "../a/1.png", "b/2.png", "b/3.png"]
    found = thumbnails.of_samples(
        samples([0, 1, 2, 3], files), range(4), Source("folder", tmp_path)
    )
    assert [uri is not None for uri in found.uris] == [False, False, True, True]
    assert "2 of 4 pictures cannot be shown, such as a/0.png (not in " in found.problem


def test_a_picture_is_turned_as_its_camera_was(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    solid(tmp_path / "1.jpg", "red", exif=exif)
    [uri] = thumbnails.of_samples(samples([0], ["1.jpg"]), [0], Source("folder", tmp_path)).uris
    assert opened(uri).size == (32, 64)


def test_a_broken_picture_is_left_out_and_named(tmp_path):
    solid(tmp_path / "a.png", "red")
    (tmp_path / "b.png").write_bytes(b"no picture")
    found = thumbnails.of_samples(
        samples([0, 1], ["a.png", "b.png"]), [0, 1], Source("folder", tmp_path)
    )
    assert found.uris[0] is not None
    assert found.uris[1] is None
    assert "1 of 2 pictures cannot be shown, such as b.png" in found.problem


@pytest.mark.parametrize("name", ["../secret.png", "/etc/secret.png"])
def test_a_name_cannot_lead_out_of_the_folder(tmp_path, name):
    solid(tmp_path / "secret.png", "red")
    solid(tmp_path / "data/1.png", "red")
    source = Source("folder", tmp_path / "data")
    found = thumbnails.of_samples(samples([0, 1], [name, "1.png"]), [0], source)
    assert found.uris == (None,)
    assert "out of the folder" in found.problem


@pytest.mark.parametrize(
    ("source", "files", "expected"),
    [
        (Source("cifar10", "nowhere"), None, "the pictures are not there"),
        (Source(None), None, "--dataset"),
        (Source("digits"), None, "1,442 training images"),
        (Source("folder", "nowhere"), ["1.png"], "--data_path"),
    ],
)
def test_missing_data_are_no_error(tmp_path, source, files, expected):
    path = None if source.data_path is None else tmp_path / source.data_path
    source = Source(source.dataset, path)
    found = thumbnails.of_samples(samples([5000], files), [0], source)
    assert found.uris == (None,)
    assert expected in found.problem

"""Users' own images, as a folder or an .npz: read in a fixed order, faults named with the fix."""

import os
import pickle
import re
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shared.datasets import DatasetError, load

# ---- image folders


def save(
    path: Path, colour: tuple[int, ...] | int, mode: str = "RGB", size: tuple[int, int] = (32, 32)
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, colour).save(path)


@pytest.fixture
def images(tmp_path):
    save(tmp_path / "train/cat/b.png", (1, 2, 3))
    save(tmp_path / "train/cat/a.PNG", (4, 5, 6))
    save(tmp_path / "train/dog/c.bmp", 7, "L")
    save(tmp_path / "train/dog/d.webp", (8, 8, 8), size=(20, 20))
    save(tmp_path / "train/ant/e.png", (9, 9, 9, 0), "RGBA")
    save(tmp_path / "test/dog/f.jpg", (200, 200, 200))
    (tmp_path / "train/cat/notes.txt").write_text("no image")
    (tmp_path / "train/cat/.hidden.png").write_text("no image")
    (tmp_path / "train/.cache").mkdir()
    return tmp_path


def test_an_image_folder_is_read_in_sorted_order(images):
    data = load("folder", images)
    assert data.class_names == ("ant", "cat", "dog")
    assert data.train_labels.tolist() == [0, 1, 1, 2, 2]
    assert data.test_labels.tolist() == [2]
    assert data.train_images[:, 5, 5].tolist() == [
        [9, 9, 9],
        [4, 5, 6],
        [1, 2, 3],
        [7, 7, 7],
        [8, 8, 8],
    ]
    assert (data.train_images.shape, data.train_images.dtype) == ((5, 32, 32, 3), np.uint8)
    assert data.location == images


def test_images_are_resized_bilinearly(images):
    gradient = np.tile(np.arange(64, dtype=np.uint8) * 4, (64, 1))
    Image.fromarray(gradient).save(images / "test/dog/f.png")
    data = load("folder", images, image_size=16)
    assert data.train_images.shape == (5, 16, 16, 3)
    expected = np.asarray(Image.fromarray(gradient).resize((16, 16), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(data.test_images[1, :, :, 0], expected)


@pytest.mark.parametrize("white", [255, 4095, 65_535])
def test_greys_of_16_bits_are_scaled_by_their_range(images, white):
    values = np.linspace(0, white, 32 * 32).astype(np.uint16).reshape(32, 32)
    Image.fromarray(values).save(images / "test/dog/f.png")
    found = load("folder", images).test_images[1]
    np.testing.assert_array_equal(found[..., 0], np.round(values / 257))
    np.testing.assert_array_equal(found[..., 0], found[..., 2])


@pytest.mark.parametrize("white", [1.0, 255.0])
def test_greys_as_floats_are_scaled(images, white):
    values = np.linspace(0, white, 32 * 32, dtype=np.float32).reshape(32, 32)
    Image.fromarray(values).save(images / "test/dog/f.tiff")
    expected = np.round(values.astype(float) * (255 / white))
    np.testing.assert_array_equal(load("folder", images).test_images[1, ..., 0], expected)


def test_pictures_are_turned_as_their_exif_data_say(images):
    upright = np.zeros((32, 32, 3), np.uint8)
    upright[:8] = 255  # a white stripe on top
    turned = Image.fromarray(np.rot90(upright))  # as a camera held sideways stores it
    exif = Image.Exif()
    exif[0x0112] = 6
    turned.save(images / "test/dog/f.png", exif=exif)
    found = load("folder", images).test_images[1]
    np.testing.assert_array_equal(found, np.asarray(upright))


@pytest.mark.parametrize("size", [(500, 300), (300, 500), (33, 32), (16, 40)])
def test_the_short_side_is_resized_and_the_middle_cut_out(images, size, capsys):
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    picture = Image.fromarray(pixels)
    picture.save(images / "test/dog/f.png")
    found = load("folder", images).test_images[1]
    said = capsys.readouterr().err
    assert re.search(r"note: 1 of 2 pictures of .*test are not square: .*middle", said)
    scale = 32 / min(size)
    width, height = round(size[0] * scale), round(size[1] * scale)
    whole = np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR))
    left, top = (width - 32) // 2, (height - 32) // 2
    np.testing.assert_array_equal(found, whole[top : top + 32, left : left + 32])


def damage(images: Path, what: str) -> None:
    match what:
        case "corrupt":
            (images / "train/cat/b.png").write_bytes(b"not a picture")
        case "truncated":
            content = (images / "train/cat/b.png").read_bytes()
            (images / "train/cat/b.png").write_bytes(content[: len(content) // 2])
        case "unknown class":
            save(images / "test/bird/g.png", (0, 0, 0))
        case "empty class":
            (images / "train/eel").mkdir()
        case "no train":
            shutil.rmtree(images / "train")
        case "empty test class":
            (images / "test/cat").mkdir()
        case "name of bytes":
            os.rename(
                images / "train/cat/b.png", os.fsencode(images / "train/cat") + b"/caf\xe9.png"
            )


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("corrupt", r"b\.png is not a readable image"),
        ("truncated", r"b\.png is not a readable image"),
        ("unknown class", "lacks: bird"),
        ("empty class", "eel has no images"),
        ("empty test class", "cat has no images"),
        ("name of bytes", r"caf.*\.png is not UTF-8.*: rename it"),
        ("no train", "has test, which looks like a part of a dataset"),
    ],
)
def test_faults_of_an_image_folder_are_named(images, what, message):
    damage(images, what)
    with pytest.raises(DatasetError, match=message):
        load("folder", images)


def test_a_path_that_does_not_exist_is_named(tmp_path):
    with pytest.raises(DatasetError, match=r"nothing does not exist.*train/<class>"):
        load("folder", tmp_path / "nothing")
    with pytest.raises(DatasetError, match="at least 1"):
        load("folder", tmp_path, image_size=0)


# ---- npz


def arrays(**changes: np.ndarray) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "train_images": rng.integers(0, 256, (6, 32, 32, 3), dtype=np.uint8),
        "train_labels": np.array([0, 1, 2, 0, 1, 2]),
        "test_images": rng.integers(0, 256, (2, 32, 32, 3), dtype=np.uint8),
        "test_labels": np.array([2, 0], dtype=np.uint8),
        **changes,
    }


def test_an_npz_is_read_as_it_is(tmp_path):
    np.savez(tmp_path / "set.npz", **arrays(class_names=np.array(["a", "b", "c", "never seen"])))
    data = load("folder", tmp_path / "set.npz")
    np.testing.assert_array_equal(data.train_images, arrays()["train_images"])
    assert (data.test_labels.tolist(), data.test_labels.dtype) == ([2, 0], np.int64)
    assert data.class_names == ("a", "b", "c", "never seen")


def test_grey_npz_images_become_colour_and_other_sizes_are_resized(tmp_path):
    small = np.full((6, 8, 8), 50, np.uint8)
    np.savez_compressed(tmp_path / "set.npz", **arrays(train_images=small))
    data = load("folder", tmp_path / "set.npz")
    assert data.train_images.shape == (6, 32, 32, 3)
    assert (data.train_images == 50).all()
    assert data.class_names == ("0", "1", "2")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"train_images": np.zeros((6, 32, 32, 3))},
            r"float64, expected uint8 in 0\.\.255.*astype",
        ),
        (
            {"train_images": np.zeros((6, 3, 32, 32), np.uint8)},
            r"\(6, 3, 32, 32\).*expected \(N, H, W, 3\).*transpose",
        ),
        ({"train_images": np.zeros((5, 32, 32, 3), np.uint8)}, "5 train_images but 6 train_labels"),
        ({"test_images": np.zeros((2, 0, 32, 3), np.uint8)}, "expected"),
        ({"train_labels": np.zeros((6, 1), int)}, "one integer"),
        ({"train_labels": np.zeros(6)}, "float64, expected one integer"),
        ({"train_labels": np.array([], int)}, "one integer"),
        ({"train_labels": np.array([0, 1, 2, 0, 1, -1])}, "range from -1 to 2, expected 0 to 2"),
        ({"train_labels": np.array([0, 1, 2, 0, 1, 10**12])}, "up to 1,000,000,000,000, more than"),
        ({"test_labels": np.array([0, 3])}, "test_labels range from 0 to 3, expected 0 to 2"),
        ({"class_names": np.array(["a", "b"])}, "2 classes, by class_names"),
        ({"class_names": np.array([1, 2, 3])}, r"expected \(C,\) text"),
        ({"class_names": np.array(["a", "b", None], dtype=object)}, "array of text"),
    ],
)
def test_faults_of_an_npz_are_named_with_the_fix(tmp_path, changes, message):
    np.savez(tmp_path / "set.npz", **arrays(**changes))
    with pytest.raises(DatasetError, match=message):
        load("folder", tmp_path / "set.npz")


def test_files_that_are_no_npz_are_refused(tmp_path):
    np.savez(tmp_path / "whole.npz", **arrays())
    content = (tmp_path / "whole.npz").read_bytes()
    np.savez(tmp_path / "part.npz", train_images=arrays()["train_images"])
    np.save(tmp_path / "single.npy", np.zeros(3))
    with zipfile.ZipFile(tmp_path / "bytes.npz", "w") as archive:  # and no .npy in it
        for name in arrays():
            archive.writestr(name, b"x")
    for name, data in (
        ("cut.npz", content[: len(content) // 2]),
        ("flip.npz", content[:500] + b"x" + content[501:]),
        ("text.npz", b"hello"),
        ("empty.npz", b""),
        ("pickle.npz", pickle.dumps([1])),
    ):
        (tmp_path / name).write_bytes(data)
    for name, message in (
        ("cut.npz", "readable"),
        ("flip.npz", "readable"),
        ("text.npz", "readable"),
        ("empty.npz", "readable"),
        ("pickle.npz", "readable"),
        ("part.npz", "lacks train_labels"),
        ("single.npy", "no named arrays"),
        ("bytes.npz", "train_labels have shape"),
    ):
        with pytest.raises(DatasetError, match=f"{name}.*{message}"):
            load("folder", tmp_path / name)

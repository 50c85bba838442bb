"""Folders of own pictures in the layouts that people have; as arrays and as files."""

import shutil

import numpy as np
import pytest
from picture_files import greys, save, truncate

from shared.datasets import DatasetError, image_folder, load, load_labels
from shared.datasets.image_folder import large_pictures, load_files, note_on_size

PICTURES = {"cat/a.png": 10, "cat/deep/b.png": 20, "dog/c.png": 30}


def write(folder, pictures=PICTURES):
    for name, grey in pictures.items():
        save(folder / name, grey)


def described(data):
    return data.train_names, data.train_labels.tolist(), data.class_names, len(data.test_labels)


EXPECTED = (tuple(PICTURES), [0, 0, 1], ("cat", "dog"), 0)


@pytest.mark.parametrize("below", ["train", "."])
def test_a_folder_without_test_is_all_training(tmp_path, below):
    write(tmp_path / below)
    (tmp_path / below / ".cache").mkdir()
    data = load("folder", tmp_path)
    assert described(data) == EXPECTED
    assert greys(data.train_images) == [10, 20, 30]
    assert (data.test_images.shape, data.test_images.dtype) == ((0, 32, 32, 3), np.uint8)
    assert (data.test_labels.shape, data.test_labels.dtype) == ((0,), np.int64)


def test_linked_classes_and_pictures_are_read(tmp_path):
    write(tmp_path / "elsewhere")
    root = tmp_path / "root"
    (root / "dog").mkdir(parents=True)
    (root / "cat").symlink_to(tmp_path / "elsewhere/cat")
    (root / "dog/c.png").symlink_to(tmp_path / "elsewhere/dog/c.png")
    assert described(load("folder", root)) == EXPECTED
    (tmp_path / "elsewhere/cat/deep/loop").symlink_to(tmp_path / "elsewhere/cat")
    assert described(load("folder", root)) == EXPECTED


@pytest.mark.parametrize(
    ("places", "named"),
    [
        ((".", "test"), "test"),
        (("Train", "Test"), "Test, Train"),
        (("training", "testing"), "testing, training"),
        ((".", "val"), "val"),
    ],
)
def test_parts_of_a_dataset_are_not_taken_for_classes(tmp_path, places, named):
    for place in places:
        write(tmp_path / place)
    with pytest.raises(DatasetError, match=f"has {named}, which looks like a part of a dataset"):
        load("folder", tmp_path)


def test_pictures_of_trains_are_a_class(tmp_path):
    write(tmp_path, {"bus/a.png": 10, "train/b.png": 20, "test/c.png": 30})
    assert load("folder", tmp_path).class_names == ("bus", "test", "train")
    write(tmp_path / "flat", {"train/b.png": 20, "test/c.png": 30})
    with pytest.raises(DatasetError, match="has test, train, which looks like a part"):
        load("folder", tmp_path / "flat")


def test_a_test_set_without_classes_is_none(tmp_path, capsys):
    write(tmp_path / "train")
    write(tmp_path / "test", {"a.png": 1})
    assert described(load("folder", tmp_path)) == EXPECTED
    assert "test has no class folders, so there is no test set" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["val", "valid", "validation", "testing"])
def test_a_test_set_of_another_name_is_pointed_out(tmp_path, capsys, name):
    write(tmp_path / "train")
    write(tmp_path / name)
    assert described(load("folder", tmp_path)) == EXPECTED
    assert f"note: {tmp_path / name} is not read; to test on it" in capsys.readouterr().err


@pytest.mark.parametrize("below", ["train", "."])
def test_a_single_class_is_refused(tmp_path, below):
    write(tmp_path / below / "pictures")
    with pytest.raises(DatasetError, match=r"one class, pictures, .* give \S+/pictures \("):
        load_files(tmp_path)
    shutil.rmtree(tmp_path / below / "pictures")
    write(tmp_path / below, {"cat/1.png": 1})
    with pytest.raises(DatasetError, match=r"one class, cat, .* make a folder for each class"):
        load("folder", tmp_path)


def test_pictures_without_classes_are_told_about_labels(tmp_path):
    save(tmp_path / "a.png", 1)
    with pytest.raises(DatasetError, match=r"no class folders.*filename,label \(--labels\)"):
        load("folder", tmp_path)


def test_broken_pictures_lose_their_labels_and_names(tmp_path):
    write(tmp_path / "train")
    write(tmp_path / "test")
    truncate(tmp_path / "train/cat/a.png")
    truncate(tmp_path / "test/dog/c.png")
    with pytest.raises(DatasetError, match=r"1 of 3 pictures of .*train cannot.*--skip_broken"):
        load("folder", tmp_path)
    data = load("folder", tmp_path, skip_broken=True, cache_dir=tmp_path / "cache")
    assert described(data) == (tuple(PICTURES)[1:], [0, 1], ("cat", "dog"), 2)
    assert (greys(data.train_images), greys(data.test_images)) == ([20, 30], [10, 20])
    assert len(list((tmp_path / "cache").glob("32_*/images.npy"))) == 2


# ---- files


def test_the_same_as_files(tmp_path):
    write(tmp_path / "train")
    truncate(tmp_path / "train/cat/a.png")  # nothing is opened
    files = load_files(tmp_path)
    assert files.train_files == [f"train/{name}" for name in PICTURES]
    assert (files.val_files, files.test_files, files.val_labels.dtype) == ([], [], np.int64)
    assert (files.name, files.root, files.class_names) == ("folder", tmp_path, ("cat", "dog"))
    assert files.train_labels.tolist() == [0, 0, 1]
    write(tmp_path / "test")
    assert load_files(tmp_path).test_files == [f"test/{name}" for name in PICTURES]
    assert load_labels("folder", tmp_path).train_labels.tolist() == [0, 0, 1]
    assert len(load_labels("folder", tmp_path, skip_broken=True).train_labels) == 2


def test_arrays_are_no_files(tmp_path):
    np.savez(tmp_path / "set.npz", train_images=np.zeros((1, 8, 8), np.uint8), train_labels=[0])
    with pytest.raises(DatasetError, match=r"is a file.*give a folder"):
        load_files(tmp_path / "set.npz")
    with pytest.raises(DatasetError, match="does not exist"):
        load_files(tmp_path / "nothing")


def test_large_pictures_are_told_by_their_headers(tmp_path):
    files = [save(tmp_path / f"{number}.png", 1, (300, 96 + number)) for number in range(5)]
    assert large_pictures(files, 32) == 98
    assert large_pictures(files, 33) is None
    (tmp_path / "0.png").write_bytes(b"no picture")
    truncate(files[1])  # its header is whole
    assert large_pictures([*files, tmp_path / "missing.png"], 30) == 98
    assert large_pictures([tmp_path / "missing.png"], 1) is None
    assert large_pictures([], 1) is None


def test_large_pictures_looks_at_a_few_of_many(tmp_path, monkeypatch):
    file, opened = save(tmp_path / "a.png", 1), []
    original = image_folder.opened
    monkeypatch.setattr(image_folder, "opened", lambda f: opened.append(f) or original(f))
    assert large_pictures([file] * 5000, 28) == 84
    assert len(opened) == 50


@pytest.mark.parametrize("below", ["train", "."])
def test_a_run_at_a_small_size_is_told(tmp_path, below):
    write(tmp_path / below)
    note = note_on_size(load("folder", tmp_path, image_size=28), "a.py trains at 64")
    assert note == "pictures of about 84 pixels are reduced to 28: a.py trains at 64"
    assert note_on_size(load("folder", tmp_path), "a.py") is None
    assert note_on_size(load("digits"), "a.py") is None


# ---- npz


@pytest.mark.parametrize("empty", [False, True])
def test_arrays_may_lack_a_test_set(tmp_path, empty):
    arrays = {"train_images": np.full((2, 32, 32, 3), 7, np.uint8), "train_labels": np.arange(2)}
    if empty:
        arrays |= {"test_images": np.zeros((0, 32, 32, 3), np.uint8)}
        arrays |= {"test_labels": np.zeros(0, np.int64)}
    np.savez(tmp_path / "set.npz", **arrays)
    data = load("folder", tmp_path / "set.npz")
    assert data.test_images.shape == (0, 32, 32, 3)
    assert data.test_labels.dtype == np.int64
    with pytest.raises(DatasetError, match="its own labels: leave --labels out"):
        load("folder", tmp_path / "set.npz", labels=tmp_path / "labels.csv")


@pytest.mark.parametrize("lacking", ["test_images", "test_labels"])
def test_half_a_test_set_is_refused(tmp_path, lacking):
    images, labels = np.zeros((2, 8, 8), np.uint8), np.arange(2)
    arrays = {"train_images": images, "train_labels": labels}
    arrays |= {"test_images": images, "test_labels": labels}
    del arrays[lacking]
    np.savez(tmp_path / "set.npz", **arrays)
    with pytest.raises(DatasetError, match=f"lacks {lacking}"):
        load("folder", tmp_path / "set.npz")


# ---- labels of one's own


def csv(path, text):
    path.write_text(text)
    return path


def test_a_csv_labels_pictures_wherever_they_lie(tmp_path, capsys):
    write(tmp_path / "set", {"x/1.png": 1, "x/2.png": 2, "y/z/3.png": 3, "4.png": 4})
    labels = csv(tmp_path / "l.csv", "filename,label\n4.png,dog\ny/z/3.png,cat\nx/1.png,cow\n")
    data = load("folder", tmp_path / "set", labels=labels)
    assert data.class_names == ("cat", "cow", "dog")
    assert data.train_names == ("4.png", "x/1.png", "y/z/3.png")
    assert data.train_labels.tolist() == [2, 1, 0]
    assert greys(data.train_images) == [4, 1, 3]
    assert "1 of 4 pictures" in capsys.readouterr().err
    files = load_files(tmp_path / "set", labels=labels)
    assert (tuple(files.train_files), files.train_labels.tolist()) == (data.train_names, [2, 1, 0])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("dog/c.png,cat\ncat/a.png,cat\ncat/deep/b.png,cat\n", [0, 0, 0]),
        ("c.png,0\na.png,1\nb.png,0\n", [1, 0, 0]),
    ],
)
def test_a_csv_for_class_folders_keeps_order_numbers_and_test_set(tmp_path, text, expected):
    write(tmp_path / "train")
    write(tmp_path / "test")
    plain = load("folder", tmp_path)
    data = load("folder", tmp_path, labels=csv(tmp_path / "l.csv", text))
    assert (data.train_names, data.class_names) == (plain.train_names, plain.class_names)
    assert data.test_labels.tolist() == plain.test_labels.tolist()
    assert data.train_labels.tolist() == expected


def test_classes_that_a_csv_gives_no_picture_are_told(tmp_path, capsys):
    write(tmp_path / "set", {"a.png": 1, "b.png": 2})
    labels = csv(tmp_path / "l.csv", "a.png,1\nb.png,2\n")
    assert load_files(tmp_path / "set", labels=labels).num_classes == 3
    assert "no picture is labelled 0 in " in capsys.readouterr().err
    load_files(tmp_path / "set", labels=csv(tmp_path / "l.csv", "a.png,1\nb.png,0\n"))
    assert capsys.readouterr().err == ""


def test_a_test_set_needs_classes_of_the_csv(tmp_path):
    write(tmp_path / "train", {"a.png": 1, "b.png": 2})
    write(tmp_path / "test")
    labels = csv(tmp_path / "l.csv", "a.png,cat\nb.png,cow\n")
    with pytest.raises(DatasetError, match=r"test has classes that .*l\.csv lacks: dog"):
        load("folder", tmp_path, labels=labels)
    csv(labels, "a.png,cat\nb.png,dog\n")
    assert load("folder", tmp_path, labels=labels).train_names == ("a.png", "b.png")
    csv(labels, "a.png,cat\ntest/dog/c.png,dog\n")
    with pytest.raises(DatasetError, match=r"such as test/dog/c\.png, are not in the folder"):
        load("folder", tmp_path, labels=labels)


def test_labels_are_for_folders_only(tmp_path):
    with pytest.raises(DatasetError, match=r"--labels is for pictures of your own.*digits"):
        load("digits", labels=tmp_path / "l.csv")
    shutil.rmtree(tmp_path)
    with pytest.raises(DatasetError, match="does not exist"):
        load("folder", tmp_path, labels=tmp_path / "l.csv")

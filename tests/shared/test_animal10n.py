"""Animal-10N: found, ordered by its lists or by name, labelled by file names, resized."""

import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shared.__main__ import main
from shared.datasets import DatasetError, animal10n, fetch, load
from shared.datasets.animal10n import write_annotations

TRAIN = {
    "3_b.png": 30,
    "0_z.png": 1,
    "9_a.PNG": 90,
    "3_a_2.png": 31,
    "0_a.png": 2,
}  # file -> grey value
TEST = {"5_x.png": 50, "1_y.png": 10}


def save(path: Path, image: Image.Image) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


def write_set(folder: Path) -> Path:
    for split, files in (("training", TRAIN), ("testing", TEST)):
        for name, grey in files.items():
            save(folder / split / name, Image.new("RGB", (64, 64), (grey, grey, grey)))
    return folder


@pytest.fixture
def folder(tmp_path):
    return write_set(tmp_path / "animal-10n")


def greys(images):
    return images[:, 0, 0, 0].tolist()


def test_samples_come_sorted_by_name_with_the_class_of_their_name(folder, tmp_path):
    (folder / "training/notes.txt").write_text("no image")
    (folder / "training/._0_a.png").write_bytes(b"no image")
    data = load("animal10n", tmp_path)
    assert greys(data.train_images) == [2, 1, 31, 30, 90]
    assert data.train_labels.tolist() == [0, 0, 3, 3, 9]
    assert (greys(data.test_images), data.test_labels.tolist()) == ([10, 50], [1, 5])
    assert data.train_images.shape == (5, 32, 32, 3)
    assert (data.train_images.dtype, data.train_labels.dtype) == (np.uint8, np.int64)
    assert (data.name, data.location, data.num_classes) == ("animal10n", folder, 10)
    assert data.class_names[5] == "jaguer"


def test_images_become_colour_and_are_resized_as_pillow_does(folder, tmp_path):
    rng = np.random.default_rng(0)
    square = Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8))
    wide = Image.fromarray(rng.integers(0, 256, (40, 80), dtype=np.uint8))  # grey, and not square
    save(folder / "testing/7_square.png", square)
    save(folder / "testing/8_wide.png", wide)
    for size in (32, 64):
        images = load("animal10n", tmp_path, image_size=size).test_images
        assert images.shape == (4, size, size, 3)
        expected = square.resize((size, size), Image.Resampling.BILINEAR)
        np.testing.assert_array_equal(images[2], np.asarray(expected))
        np.testing.assert_array_equal(
            images[3],
            np.asarray(wide.convert("RGB").resize((size, size), Image.Resampling.BILINEAR)),
        )
    np.testing.assert_array_equal(images[2], np.asarray(square))  # 64: as it is


# ---- order


def test_a_list_beside_the_folder_sets_the_order(folder, tmp_path):
    rows = ["img_paths,targets", "9_a.PNG,9", "0_a.png,0", "3_b.png,3", "0_z.png,0", "3_a_2.png,3"]
    for end in ("\n", "\r\n"):
        (folder / "training.csv").write_bytes((end.join(rows) + end).encode())
        data = load("animal10n", tmp_path)
        assert greys(data.train_images) == [90, 2, 30, 1, 31]
        assert data.train_labels.tolist() == [9, 0, 3, 0, 3]
        assert greys(data.test_images) == [10, 50]


@pytest.mark.parametrize("change", ["more", "fewer", "twice"])
def test_a_list_of_other_files_is_passed_over_aloud(folder, tmp_path, change):
    names = sorted(TRAIN, reverse=True)
    names = {"more": [*names, "4_new.png"], "fewer": names[1:], "twice": [*names, names[0]]}[change]
    (folder / "training.csv").write_text(
        "img_paths,targets\n" + "".join(f"{name},{name[0]}\n" for name in names)
    )
    with pytest.warns(UserWarning, match=r"training\.csv lists . files that are not the 5"):
        assert greys(load("animal10n", tmp_path).train_images) == [2, 1, 31, 30, 90]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "does not begin with img_paths,targets"),
        (b"file,label\n", "does not begin"),
        (b"img_paths,targets\n0_a.png\n", "line 2: 1 cells"),
        (b"img_paths,targets\n0_a.png,0\n0_z.png,4\n", "line 3: class 4 for 0_z.png"),
        (b"img_paths,targets\nno_class.png,0\n", "line 2: class 0"),
        (b'img_paths,targets\n"0_a.png', "not a readable list"),
        (b"\xff\xfe", "not a readable list"),
    ],
)
def test_a_damaged_list_is_refused_with_the_fix(folder, tmp_path, content, message):
    (folder / "training.csv").write_bytes(content)
    with pytest.raises(DatasetError, match=rf"training\.csv.*{message}.*delete training\.csv"):
        load("animal10n", tmp_path)


def test_lists_are_written_where_absent(folder, tmp_path):
    save(folder / 'testing/2_a "b", c.png', Image.new("RGB", (64, 64)))
    before = load("animal10n", tmp_path)
    (folder / "training.csv").write_text("img_paths,targets\n")
    assert write_annotations(folder) == (folder / "testing.csv",)
    (folder / "training.csv").unlink()
    assert write_annotations(folder) == (folder / "training.csv",)
    expected = b"img_paths,targets\n0_a.png,0\n0_z.png,0\n3_a_2.png,3\n3_b.png,3\n9_a.PNG,9\n"
    assert (folder / "training.csv").read_bytes() == expected
    assert write_annotations(folder) == ()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        after = load("animal10n", tmp_path)
    np.testing.assert_array_equal(after.train_images, before.train_images)
    np.testing.assert_array_equal(after.test_labels, before.test_labels)


# ---- places and faults


@pytest.mark.parametrize(
    "place", [".", "animal10n", "Animal-10N", "animal_10n", "sets/ANIMAL-10N", "animal-10n/raw/all"]
)
def test_it_is_found_at_or_below_the_root(tmp_path, place):
    folder = write_set(tmp_path / place)
    assert fetch("animal10n", tmp_path) == folder
    assert load("animal10n", tmp_path).location == folder


def test_other_folders_are_not_taken_for_it(tmp_path, capsys):
    write_set(tmp_path / "other")
    (tmp_path / "animal-10n/training").mkdir(parents=True)
    assert main(["data", "animal10n", "--path", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    for part in (
        f"found {tmp_path / 'animal-10n/training'}, but no testing",
        f"Looked in {tmp_path} and",
        animal10n.ADDRESS,
        "<class>_<name>.jpg",
        "50,000",
        "DATA_ROOT",
    ):
        assert part in error
    assert error.startswith("error: Animal-10N is missing")


def test_a_root_that_does_not_exist_is_told(tmp_path):
    with pytest.raises(DatasetError, match="which does not exist"):
        load("animal10n", tmp_path / "nothing")
    with pytest.raises(DatasetError, match="at least 1"):
        load("animal10n", tmp_path, image_size=0)


@pytest.mark.parametrize(
    "name", ["cat.png", "10_a.png", "-1_a.png", "3.png", "x_1.png", "99999_a.png"]
)
def test_names_without_a_class_are_refused_before_anything_is_decoded(folder, tmp_path, name):
    (folder / "testing" / name).write_bytes(b"not an image")
    with pytest.raises(
        DatasetError, match=rf"{name} is not named <class>_<name> .* 0 to 9: rename it"
    ):
        load("animal10n", tmp_path)


def test_empty_splits_and_broken_images_are_refused(folder, tmp_path):
    (folder / "testing/4_broken.jpg").write_bytes(b"not an image")
    with pytest.raises(DatasetError, match=r"4_broken\.jpg is not a readable image"):
        load("animal10n", tmp_path)
    for file in (folder / "testing").iterdir():
        file.unlink()
    with pytest.raises(DatasetError, match="testing has no images"):
        load("animal10n", tmp_path)


# ---- other layouts


def test_what_is_there_instead_is_named(tmp_path):
    place = tmp_path / "animal-10n"
    (place / "train/cat").mkdir(parents=True)
    (place / "raw_image_ver.zip").write_bytes(b"")
    (place / "data_batch_1.bin").write_bytes(b"")
    with pytest.raises(DatasetError) as caught:
        load("animal10n", tmp_path)
    for words in (
        f"{place / 'raw_image_ver.zip'}, which is not unpacked: unpack it there",
        f"{place}, the binary version, which is not read: get the raw images",
        f"{place / 'train'}, which is another layout",
        "--dataset folder",
    ):
        assert words in str(caught.value)


def test_folders_of_other_classes_are_named_with_the_way_on(tmp_path):
    for split in ("training", "testing"):
        (tmp_path / "animal-10n" / split / "bird").mkdir(parents=True)
    with pytest.raises(DatasetError, match=r"folders \(bird, \.\.\.\) that.*--dataset folder"):
        load("animal10n", tmp_path)


def test_a_linked_dataset_is_found(tmp_path):
    write_set(tmp_path / "elsewhere/animal-10n")
    (tmp_path / "data").mkdir()
    (tmp_path / "data/animal-10n").symlink_to(tmp_path / "elsewhere/animal-10n")
    assert len(load("animal10n", tmp_path / "data").train_labels) == len(TRAIN)


# ---- class folders


@pytest.mark.parametrize(
    "folders",
    [
        {"cat": 0, "guinea pig": 9, "jaguer": 5, "wolf": 2},
        {"Cat": 0, "guinea_pig": 9, "jaguar": 5, "wolf": 2},
        {"0": 0, "9": 9, "5": 5, "2": 2},
    ],
)
def test_class_folders_have_the_publishers_numbers(tmp_path, folders):
    for name, label in folders.items():
        for split in ("training", "testing"):
            grey = 10 * label + 1
            save(tmp_path / "animal10N" / split / name / "x.png", Image.new("L", (64, 64), grey))
    data = load("animal10n", tmp_path)
    assert sorted(data.train_labels) == [0, 2, 5, 9]
    assert greys(data.train_images) == (10 * data.train_labels + 1).tolist()
    assert data.train_names == tuple(f"{name}/x.png" for name in sorted(folders))
    assert data.class_names == animal10n.CLASS_NAMES
    np.testing.assert_array_equal(data.test_labels, data.train_labels)
    write_annotations(data.location)
    assert load("animal10n", tmp_path).train_names == data.train_names


def test_broken_images_are_skipped(folder, tmp_path):
    (folder / "training/3_a_2.png").write_bytes(b"not an image")
    (folder / "training.csv").write_text(
        "img_paths,targets\n9_a.PNG,9\n3_a_2.png,3\n0_a.png,0\n0_z.png,0\n3_b.png,3\n"
    )
    data = load("animal10n", tmp_path, skip_broken=True, cache_dir=tmp_path / "cache")
    assert data.train_names == ("9_a.PNG", "0_a.png", "0_z.png", "3_b.png")
    assert data.train_labels.tolist() == [9, 0, 0, 3]
    assert greys(data.train_images) == [90, 2, 1, 30]

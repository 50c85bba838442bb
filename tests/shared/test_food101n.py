"""Food-101N and Food-101, read as files without opening an image."""

import numpy as np
import pytest

from shared import datasets
from shared.__main__ import main
from shared.datasets import DatasetError, food101n
from shared.formats import noise_file

CLASSES = [
    f"dish_{number:03}" for number in reversed(range(101))
]  # the order of classes.txt counts, not the alphabet
TRAIN = [
    "dish_100/a,1.jpg",
    "dish_000/b.jpg",
    "dish_098/v w.jpg",
    "dish_099/c.jpg",
    "dish_098/x.jpg",
]
VERIFIED = {"dish_098/v w.jpg": 1, "dish_098/x.jpg": 0}
TEST = ["dish_099/1011328", "dish_100/101251"]


def write(path, lines, end="\n"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("".join(line + end for line in lines).encode())


def write_all(folder, end="\n", verified=True):
    meta = folder / "Food-101N_release/meta"
    write(meta / "classes.txt", ["class_name", *CLASSES], end)
    write(meta / "imagelist.tsv", ["class_name/key", *TRAIN], end)
    if verified:
        lines = [f"{name}\t{label}" for name, label in VERIFIED.items()]
        write(meta / "verified_val.tsv", ["class_name/key\tverification_label", *lines], end)
    write(folder / "food-101/meta/test.txt", TEST, end)
    for name in TRAIN:
        write(folder / "Food-101N_release/images" / name, ["never opened"])
    for name in TEST:
        write(folder / "food-101/images" / f"{name}.jpg", ["never opened"])


@pytest.mark.parametrize("place", [".", "Food101N", "sets/Food101N_data"])
def test_the_lists_become_files_and_labels(tmp_path, place):
    folder = tmp_path / place
    write_all(folder, end="\r\n" if place == "." else "\n")
    for data in (food101n.load(tmp_path), food101n.load(str(folder))):
        assert (data.name, data.root, data.class_names) == ("food101n", folder, tuple(CLASSES))
        assert data.num_classes == 101
        images = "Food-101N_release/images/"
        assert data.train_files == [images + name for name in (TRAIN[0], TRAIN[1], TRAIN[3])]
        assert data.train_labels.tolist() == [0, 100, 1]
        assert (data.val_files, data.val_labels.tolist()) == ([images + "dish_098/v w.jpg"], [2])
        assert data.test_files == [f"food-101/images/{name}.jpg" for name in TEST]
        assert data.test_labels.tolist() == [1, 0]
        for labels in (data.train_labels, data.val_labels, data.test_labels):
            assert labels.dtype == np.int64
    assert datasets.fetch("food101n", tmp_path) == folder


def test_without_the_verified_list_all_images_train(tmp_path):
    write_all(tmp_path, verified=False)
    data = food101n.load(tmp_path)
    assert [name.removeprefix("Food-101N_release/images/") for name in data.train_files] == TRAIN
    assert (data.val_files, data.val_labels.shape, data.val_labels.dtype) == ([], (0,), np.int64)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "imagelist.tsv",
            "class_name/key\ncake/a.jpg\n",
            r"imagelist\.tsv, line 2: 'cake/a\.jpg', expected <class>/<file>",
        ),
        ("imagelist.tsv", "class_name/key\n\ndish_001\n", r"line 3: 'dish_001', expected"),
        ("imagelist.tsv", "class_name/key\n", "is empty"),
        ("imagelist.tsv", "class_name/key\ndish_001/../../a.jpg\n", "outside of the dataset"),
        ("imagelist.tsv", b"\xff\xfe\x00", "not a readable list"),
        (
            "classes.txt",
            "class_name\n" + "\n".join(CLASSES[1:]),
            "names 100 classes in 100 lines after its header",
        ),
        (
            "classes.txt",
            "class_name\n" + "\n".join([*CLASSES[1:], CLASSES[1]]),
            "names 100 classes in 101 lines",
        ),
        (
            "verified_val.tsv",
            "class_name/key\tlabel\ndish_001/a.jpg 1\n",
            r"verified_val\.tsv, line 2: .* a tab and 0 or 1",
        ),
        ("verified_val.tsv", "class_name/key\tlabel\ndish_001/a.jpg\t2\n", "a tab and 0 or 1"),
        (
            "verified_val.tsv",
            "class_name/key\tlabel\ncake/a.jpg\t1\n",
            "line 2: 'cake/a.jpg', expected <class>/<file>",
        ),
        ("../../food-101/meta/test.txt", "cake/1\n", r"test\.txt, line 1: 'cake/1\.jpg'"),
    ],
)
def test_a_wrong_line_is_named(tmp_path, name, content, message):
    write_all(tmp_path)
    path = tmp_path / "Food-101N_release/meta" / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DatasetError, match=message):
        food101n.load(tmp_path)


@pytest.mark.parametrize(
    "name",
    [
        "food-101/images/dish_100/101251.jpg",
        *(f"Food-101N_release/images/{TRAIN[i]}" for i in (0, 2, 3)),
    ],
)
def test_images_that_are_missing_are_named(tmp_path, name):
    write_all(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(
        DatasetError, match=f"{name.rpartition('/')[2]} is missing, but a list .* unpack all images"
    ):
        food101n.load(tmp_path)


def test_what_is_missing_is_told_with_the_way_to_get_it(tmp_path, capsys):
    write_all(tmp_path / "Food101N")
    (tmp_path / "Food101N/food-101/meta/test.txt").unlink()
    assert main(["data", "food101n", "--path", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    for part in (
        f"found {tmp_path / 'Food101N'}, but it lacks food-101/meta/test.txt",
        food101n.ADDRESS,
        food101n.TEST_ADDRESS,
        "verified_val.tsv",
        "DATA_ROOT",
        f"Looked in {tmp_path} and",
        f"unpack both into {tmp_path / 'Food101N'}",
    ):
        assert part in error
    with pytest.raises(DatasetError, match="which does not exist"):
        food101n.load(tmp_path / "nothing")
    with pytest.raises(
        DatasetError, match=r"too large for memory: shared\.datasets\.food101n\.load"
    ):
        datasets.load("food101n", tmp_path)


def test_archives_that_are_not_unpacked_are_named(tmp_path):
    (tmp_path / "Food101N").mkdir()
    (tmp_path / "Food101N/Food-101N_release.zip").write_bytes(b"")
    with pytest.raises(DatasetError, match=r"Food-101N_release\.zip, which is not unpacked: "):
        food101n.load(tmp_path)


def test_a_linked_dataset_is_found(tmp_path):
    write_all(tmp_path / "elsewhere")
    (tmp_path / "data").mkdir()
    (tmp_path / "data/Food101N").symlink_to(tmp_path / "elsewhere")
    assert food101n.load(tmp_path / "data").root == tmp_path / "data/Food101N"


def test_a_noise_file_may_go_by_the_names_of_the_list(tmp_path):
    write_all(tmp_path)
    (tmp_path / "noisy.txt").write_text("dish_099/c.jpg 1\ndish_100/a,1.jpg 100\n")
    out, flags = tmp_path / "n.npz", ["--dataset", "food101n", "--data_path", str(tmp_path)]
    assert main(["noise", "convert", str(tmp_path / "noisy.txt"), str(out), *flags]) == 0
    made = noise_file.read(out)
    assert made.indices.tolist() == [2, 0]
    assert (made.noisy_labels.tolist(), made.clean_labels.tolist()) == ([1, 100], [1, 0])

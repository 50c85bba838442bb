"""Clothing1M: lists of the publisher or of SLN's authors, read without opening an image."""

import shutil

import numpy as np
import pytest

from shared import datasets
from shared.__main__ import main
from shared.datasets import DatasetError, clothing1m
from shared.formats import noise_file

SPLITS = {
    "noisy_train": {"images/0/00/a,1.jpg": 3, "images/9/99/b.jpg": 13, "images/0/01/c d.jpg": 0},
    "clean_val": {"images/1/00/e.jpg": 4, "images/1/00/d.jpg": 4},
    "clean_test": {"images/2/00/f.jpg": 10},
}


def write(path, lines, end="\n"):
    path.parent.mkdir(parents=True, exist_ok=True)
    # Lists that an editor of Windows saved have CRLF, and a mark in front.
    encoding = "utf-8-sig" if end == "\r\n" else "utf-8"
    path.write_bytes("".join(line + end for line in lines).encode(encoding))


def write_official(folder, lists="annotations", end="\n"):
    """The publisher's lists; the label files are in another order and hold more than asked for."""
    for split, files in SPLITS.items():
        write(folder / lists / f"{split}_key_list.txt", files, end)
    noisy = [f"{name} {label}" for name, label in SPLITS["noisy_train"].items()]
    clean = [
        f"{name} {label}"
        for split in ("clean_val", "clean_test")
        for name, label in SPLITS[split].items()
    ]
    write(folder / lists / "noisy_label_kv.txt", [*reversed(noisy), "images/1/00/e.jpg 7"], end)
    write(folder / lists / "clean_label_kv.txt", [*reversed(clean), "images/0/00/a,1.jpg 8"], end)


def write_plain(folder, strip=""):
    for split, files in SPLITS.items():
        lines = [f"{name.removeprefix(strip)} {label}" for name, label in files.items()]
        write(folder / "annotations" / f"{split}.txt", lines)


def write_images(folder):
    for files in SPLITS.values():
        for name in files:
            write(folder / name, ["never opened"])


def assert_complete(data, root, strip=""):
    for split, (files, labels) in {
        "noisy_train": (data.train_files, data.train_labels),
        "clean_val": (data.val_files, data.val_labels),
        "clean_test": (data.test_files, data.test_labels),
    }.items():
        assert files == [name.removeprefix(strip) for name in SPLITS[split]]
        assert labels.tolist() == list(SPLITS[split].values())
        assert labels.dtype == np.int64
    assert (data.name, data.root, data.num_classes) == ("clothing1m", root, 14)
    assert (data.class_names[0], data.class_names[13]) == ("T-Shirt", "Underwear")


@pytest.mark.parametrize("place", [".", "clothing1m", "sets/Clothing1M"])
@pytest.mark.parametrize("lists", ["annotations", "."])
def test_the_publishers_lists_are_read(tmp_path, place, lists):
    folder = tmp_path / place
    write_official(folder, lists, end="\r\n" if place == "." else "\n")
    write_images(folder)
    assert_complete(clothing1m.load(tmp_path), folder)
    assert_complete(clothing1m.load(str(folder)), folder)
    assert datasets.fetch("clothing1m", tmp_path) == folder


@pytest.mark.parametrize("strip", ["", "images/"])
def test_the_lists_of_slns_authors_are_read(tmp_path, strip):
    write_plain(tmp_path, strip)
    write_images(tmp_path)
    assert_complete(clothing1m.load(tmp_path), tmp_path / strip, strip)


def test_images_without_their_folder_are_found_as_instancegm_has_them(tmp_path):
    write_official(tmp_path, ".")
    for files in SPLITS.values():
        for name in files:
            write(tmp_path / name.removeprefix("images/"), ["never opened"])
    assert_complete(clothing1m.load(tmp_path), tmp_path, "images/")


def test_the_publishers_lists_come_first(tmp_path):
    write_official(tmp_path)
    write_plain(tmp_path)
    (tmp_path / "annotations/noisy_train.txt").write_text("images/none.jpg 1\n")
    write_images(tmp_path)
    assert_complete(clothing1m.load(tmp_path), tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "noisy_label_kv.txt",
            "images/0/00/a,1.jpg 3\nimages/9/99/b.jpg 14\n",
            "line 2: label 14, expected 0 to 13",
        ),
        (
            "noisy_label_kv.txt",
            "images/0/00/a,1.jpg -1\n",
            "line 1: 'images/0/00/a,1.jpg -1', expected a file name and",
        ),
        (
            "noisy_label_kv.txt",
            "\nimages/0/00/a,1.jpg\n",
            "line 2: 'images/0/00/a,1.jpg', expected",
        ),
        ("noisy_label_kv.txt", "3\n", "line 1: '3', expected"),
        (
            "clean_label_kv.txt",
            "images/1/00/e.jpg 4\n",
            r"clean_val_key_list\.txt, line 2: images/1/00/d\.jpg has no label",
        ),
        ("clean_test_key_list.txt", "\n", r"clean_test_key_list\.txt is empty"),
        ("clean_test_key_list.txt", b"\xff\xfe\x00", "not a readable list"),
        ("noisy_label_kv.txt", "images/../../etc/a.jpg 3\n", "outside of the dataset"),
        ("noisy_label_kv.txt", "/etc/a.jpg 3\n", "outside of the dataset"),
    ],
)
def test_a_wrong_line_is_named(tmp_path, name, content, message):
    write_official(tmp_path)
    write_images(tmp_path)
    (tmp_path / "annotations" / name).write_bytes(
        content if isinstance(content, bytes) else content.encode()
    )
    with pytest.raises(DatasetError, match=message):
        clothing1m.load(tmp_path)


def test_images_that_are_missing_are_named(tmp_path):
    write_official(tmp_path)
    with pytest.raises(
        DatasetError, match=r"images of Clothing1M are missing: images/0/00/a,1\.jpg.*unpack"
    ):
        clothing1m.load(tmp_path)
    write_images(tmp_path)
    (tmp_path / "images/1/00/d.jpg").unlink()
    with pytest.raises(DatasetError, match=r"1/00/d\.jpg is missing, but a list"):
        clothing1m.load(tmp_path)
    shutil.rmtree(tmp_path / "images/1")
    (tmp_path / "images/1.tar").write_bytes(b"")
    with pytest.raises(DatasetError, match=r"\.jpg is missing.*images has .*1\.tar"):
        clothing1m.load(tmp_path)


def test_what_is_missing_is_told_with_the_way_to_get_it(tmp_path, capsys):
    write_official(tmp_path / "clothing1m")
    (tmp_path / "clothing1m/annotations/clean_label_kv.txt").unlink()
    assert main(["data", "clothing1m", "--path", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    for part in (
        f"found {tmp_path / 'clothing1m/annotations'}, but it lacks clean_label_kv.txt",
        clothing1m.ADDRESS,
        "e-mail",
        "noisy_train_key_list.txt",
        "clean_val.txt",
        "DATA_ROOT",
        f"Looked in {tmp_path} and",
    ):
        assert part in error
    with pytest.raises(DatasetError, match="which does not exist"):
        clothing1m.load(tmp_path / "nothing")


# ---- selections

CC = {"images/9/99/b.jpg": 0, "images/0/00/a,1.jpg": 12}


def write_cc(folder, files=CC, lists="annotations", end="\n"):
    write(folder / lists / "cc_select_img.txt", files, end)
    write(folder / lists / "cc_select_label.txt", [str(label) for label in files.values()], end)


@pytest.mark.parametrize("lists", ["annotations", "."])
@pytest.mark.parametrize("noisy_lists", [True, False])
def test_the_selection_of_lra_diffusion_is_read(tmp_path, lists, noisy_lists):
    write_official(tmp_path, lists)
    write_cc(tmp_path, lists=lists, end="\r\n" if noisy_lists else "\n")
    write_images(tmp_path)
    if not noisy_lists:
        (tmp_path / lists / "noisy_train_key_list.txt").unlink()
        (tmp_path / lists / "noisy_label_kv.txt").unlink()
    data = clothing1m.load(tmp_path, "cc")
    assert (data.train_files, data.train_labels.tolist()) == (list(CC), list(CC.values()))
    assert data.train_labels.dtype == np.int64
    assert data.val_files == list(SPLITS["clean_val"])
    assert data.test_labels.tolist() == list(SPLITS["clean_test"].values())
    if noisy_lists:
        assert_complete(clothing1m.load(tmp_path), tmp_path)


def test_the_selection_may_come_in_one_list_and_beside_plain_ones(tmp_path):
    write_plain(tmp_path)
    write_images(tmp_path)
    write(
        tmp_path / "annotations/cc_select_img.txt",
        [f"{name} {label}" for name, label in CC.items()],
    )
    data = clothing1m.load(tmp_path, selection="cc")
    assert (data.train_files, data.train_labels.tolist()) == (list(CC), list(CC.values()))


def test_the_images_that_people_labelled_can_be_trained_on(tmp_path):
    write_official(tmp_path)
    write_images(tmp_path)
    with pytest.raises(DatasetError, match=r"lacks clean_train_key_list\.txt"):
        clothing1m.load(tmp_path, "clean_train")
    write(tmp_path / "annotations/clean_train_key_list.txt", ["images/0/00/a,1.jpg"])
    data = clothing1m.load(tmp_path, "clean_train")
    assert (data.train_files, data.train_labels.tolist()) == (["images/0/00/a,1.jpg"], [8])


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (
            None,
            None,
            r'(?s)"cc" of Clothing1M is missing: cc_select_img.* in '
            r".*annotations.*LRA-diffusion.*github",
        ),
        (None, "0\n", "is missing: cc_select_img"),
        (
            "images/9/99/b.jpg\n",
            "0\n1\n",
            r"cc_select_img\.txt has 1 lines, .*cc_select_label\.txt 2",
        ),
        (
            "images/9/99/b.jpg\n",
            "14\n",
            r"cc_select_label\.txt, line 1: label 14, expected 0 to 13",
        ),
        ("images/9/99/b.jpg\n", "1.0\n", "line 1: label 1.0, expected"),
        ("images/9/99/b.jpg\n", None, "expected a file name and a label"),
        ("\n", "\n", "is empty"),
        ("../b.jpg\n", "0\n", "outside of the dataset"),
        ("images/9/99/b.jpg\nimages/none.jpg\n", "0\n1\n", r"none\.jpg is missing, but a list"),
    ],
)
def test_a_wrong_selection_is_refused(tmp_path, images, labels, message):
    write_official(tmp_path)
    write_images(tmp_path)
    for name, content in (("cc_select_img.txt", images), ("cc_select_label.txt", labels)):
        if content is not None:
            (tmp_path / "annotations" / name).write_text(content)
    with pytest.raises(DatasetError, match=message):
        clothing1m.load(tmp_path, "cc")
    with pytest.raises(
        DatasetError, match=r"unknown selection 'all'.*noisy_train, clean_train, cc"
    ):
        clothing1m.load(tmp_path, "all")


def test_it_is_not_loaded_into_arrays(tmp_path):
    with pytest.raises(
        DatasetError, match=r"too large for memory: shared\.datasets\.clothing1m\.load"
    ):
        datasets.load("clothing1m", tmp_path)


def test_a_noise_file_may_go_by_the_names_of_the_list(tmp_path, capsys):
    write_official(tmp_path)
    write_images(tmp_path)
    data = clothing1m.load(tmp_path)
    noisy = (data.train_labels + 1) % 14
    names = (name.removeprefix("images/") for name in data.train_files)
    lines = [f"{name} {label}\n" for name, label in zip(names, noisy)][::-1]
    (tmp_path / "noisy.txt").write_text("".join(lines))
    out, flags = tmp_path / "n.npz", ["--dataset", "clothing1m", "--data_path", str(tmp_path)]
    assert main(["noise", "convert", str(tmp_path / "noisy.txt"), str(out), *flags]) == 0
    made = noise_file.read(out)
    assert made.indices.tolist() == list(range(len(lines)))[::-1]
    np.testing.assert_array_equal(made.clean_labels, data.train_labels[::-1])


def test_a_linked_dataset_is_found(tmp_path):
    write_official(tmp_path / "elsewhere")
    write_images(tmp_path / "elsewhere")
    (tmp_path / "data").mkdir()
    (tmp_path / "data/clothing1m").symlink_to(tmp_path / "elsewhere")
    assert_complete(clothing1m.load(tmp_path / "data"), tmp_path / "data/clothing1m")

"""WebVision and ILSVRC2012, read as files without opening an image."""

import numpy as np
import pytest

from shared import datasets
from shared.__main__ import main
from shared.datasets import DatasetError, webvision
from shared.formats import noise_file

TRAIN = {
    "google/q0002/b.jpg": 1,
    "google/q0001/a 1.jpg": 0,
    "google/q0999/z.jpg": 999,
    "google/q0060/c.jpg": 49,
}
VAL = {"val000001.jpg": 0, "val000002.jpg": 50, "val000003.jpg": 49}
ILSVRC = {
    "ILSVRC2012_val_1.JPEG": (65, "n01751748"),
    "ILSVRC2012_val_2.JPEG": (49, "n0169"),
    "v3.JPEG": (0, "n0144"),
}


def write(path, lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("".join(line + "\n" for line in lines).encode())


def write_webvision(folder, val_list="info/val_filelist.txt", prefix=""):
    write(
        folder / "info/train_filelist_google.txt",
        [f"{name} {label}" for name, label in TRAIN.items()],
    )
    write(folder / val_list, [f"{prefix}{name} {label}" for name, label in VAL.items()])
    for name in (*TRAIN, *(f"val_images_256/{name}" for name in VAL)):
        write(folder / name, ["never opened"])


def write_ilsvrc2012(folder):
    lines = [f"{name} {label} {synset}" for name, (label, synset) in ILSVRC.items()]
    write(folder / "ILSVRC2012_val_label.txt", lines)
    for name in ILSVRC:
        write(folder / "ILSVRC2012_img_val" / name, ["never opened"])


@pytest.mark.parametrize("place", ["WebVision", "sets/WebVision", "webvision1.0"])
@pytest.mark.parametrize("val_list", ["info/val_filelist.txt", "val_filelist.txt"])
@pytest.mark.parametrize("prefix", ["", "val_images_256/"])
def test_the_lists_become_files_and_labels(tmp_path, place, val_list, prefix):
    folder = tmp_path / place
    write_webvision(folder, val_list, prefix)
    for data in (webvision.load(tmp_path), webvision.load(str(folder))):
        assert (data.name, data.root) == ("webvision", folder.parent)
        assert data.train_files == [
            f"{folder.name}/{name}" for name, label in TRAIN.items() if label < 50
        ]
        assert data.train_labels.tolist() == [1, 0, 49]
        assert data.val_files == [f"{folder.name}/val_images_256/val00000{i}.jpg" for i in (1, 3)]
        assert data.val_labels.tolist() == [0, 49]
        assert all((data.root / name).is_file() for name in (*data.train_files, *data.val_files))
        assert (data.test_files, data.test_labels.tolist(), data.test_labels.dtype) == (
            [],
            [],
            np.int64,
        )
        assert (data.num_classes, data.class_names[0], data.class_names[49]) == (
            50,
            "class 0",
            "class 49",
        )
    assert datasets.fetch("webvision", tmp_path) == folder


def test_ilsvrc2012_beside_it_is_the_test_set(tmp_path):
    write_webvision(tmp_path / "WebVision")
    write_ilsvrc2012(tmp_path / "ILSVRC2012")
    data = webvision.load(tmp_path)
    assert data.test_files == [f"ILSVRC2012/ILSVRC2012_img_val/{name}" for name in (*ILSVRC,)[1:]]
    assert data.test_labels.tolist() == [49, 0]
    assert all((data.root / name).is_file() for name in data.test_files)
    assert webvision.load(tmp_path, 2).test_labels.tolist() == [0]
    assert webvision.load(tmp_path, 1000).train_labels.tolist() == [1, 0, 999, 49]
    (tmp_path / "WebVision").rename(
        tmp_path / "other"
    )  # a link to it has its neighbours, not those of its target
    (tmp_path / "links").mkdir()
    (tmp_path / "links/WebVision").symlink_to(tmp_path / "other")
    linked = webvision.load(tmp_path / "links/WebVision")
    assert (linked.root, linked.test_files) == (tmp_path / "links", [])


def test_a_folder_for_ilsvrc2012_without_images_is_no_test_set(tmp_path):
    write_webvision(tmp_path / "WebVision")
    write(tmp_path / "ILSVRC2012/ILSVRC2012_val_label.txt", ["a.JPEG 0 n0"])
    assert webvision.load(tmp_path).test_files == []
    (tmp_path / "ILSVRC2012/ILSVRC2012_img_val").mkdir()
    with pytest.raises(
        DatasetError, match=r"a\.JPEG is missing, but ILSVRC2012_val_label\.txt names it"
    ):
        webvision.load(tmp_path)


@pytest.mark.parametrize("place", [".", "ILSVRC2012"])
def test_ilsvrc2012_alone(tmp_path, place):
    write_ilsvrc2012(tmp_path / place)
    root, files, labels = webvision.load_ilsvrc2012(tmp_path)
    assert root == tmp_path / place
    assert files == [f"ILSVRC2012_img_val/{name}" for name in (*ILSVRC,)[1:]]
    assert (labels.tolist(), labels.dtype) == ([49, 0], np.int64)
    assert webvision.load_ilsvrc2012(tmp_path, 1000)[2].tolist() == [65, 49, 0]
    assert datasets.fetch("ilsvrc2012", tmp_path) == tmp_path / place


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "WebVision/info/train_filelist_google.txt",
            "google/a.jpg 1000\n",
            "line 1: label 1000, expected 0 to 999",
        ),
        (
            "WebVision/info/train_filelist_google.txt",
            "google/a.jpg\n",
            "expected a file name and a label",
        ),
        (
            "WebVision/info/train_filelist_google.txt",
            "google/a.jpg 50\n",
            "no file of the first 50 classes",
        ),
        ("WebVision/info/train_filelist_google.txt", "/etc/a.jpg 0\n", "outside of the dataset"),
        (
            "WebVision/info/train_filelist_google.txt",
            "google/none.jpg 0\n",
            r"none\.jpg is missing, but a list",
        ),
        ("WebVision/info/val_filelist.txt", "\n", r"val_filelist\.txt is empty"),
        ("WebVision/info/val_filelist.txt", "val9.jpg 0\n", r"val_images_256/val9\.jpg is missing"),
        (
            "ILSVRC2012/ILSVRC2012_val_label.txt",
            "a.JPEG 0\n",
            "line 1: 'a.JPEG 0', expected a file name, a label and",
        ),
        (
            "ILSVRC2012/ILSVRC2012_val_label.txt",
            "a.JPEG -1 n0\n",
            "line 1: label -1, expected 0 to 999",
        ),
        ("ILSVRC2012/ILSVRC2012_val_label.txt", "../a.JPEG 0 n0\n", "outside of the dataset"),
    ],
)
def test_a_wrong_line_is_named(tmp_path, name, content, message):
    write_webvision(tmp_path / "WebVision")
    write_ilsvrc2012(tmp_path / "ILSVRC2012")
    (tmp_path / name).write_text(content)
    with pytest.raises(DatasetError, match=message):
        webvision.load(tmp_path)


@pytest.mark.parametrize("number", [0, 1001])
def test_there_are_a_thousand_classes(tmp_path, number):
    for load in (webvision.load, webvision.load_ilsvrc2012):
        with pytest.raises(DatasetError, match=f"num_classes is {number}: choose 1 to 1000"):
            load(tmp_path, number)


def test_what_is_missing_is_told_with_the_way_to_get_it(tmp_path, capsys):
    write_webvision(tmp_path / "WebVision")
    write_ilsvrc2012(tmp_path / "ILSVRC2012")
    (tmp_path / "WebVision/info/val_filelist.txt").unlink()
    (tmp_path / "ILSVRC2012/ILSVRC2012_val_label.txt").unlink()
    for name, parts in {
        "webvision": (
            f"found {tmp_path / 'WebVision'}, but it lacks info/val_filelist.txt",
            webvision.ADDRESS,
        ),
        "ilsvrc2012": (
            f"found {tmp_path / 'ILSVRC2012'}, but it lacks ILSVRC2012_val_label.txt",
            webvision.ILSVRC2012_ADDRESS,
            "registration",
        ),
    }.items():
        assert main(["data", name, "--path", str(tmp_path)]) == 2
        error = capsys.readouterr().err
        for part in (*parts, "DATA_ROOT", f"Looked in {tmp_path} and"):
            assert part in error
        assert error.count("but it lacks") == 1
        with pytest.raises(DatasetError, match="which does not exist"):
            datasets.fetch(name, tmp_path / "nothing")
    with pytest.raises(
        DatasetError, match=r"too large for memory: shared\.datasets\.webvision\.load_ilsvrc2012"
    ):
        datasets.load("ilsvrc2012", tmp_path)


def test_a_linked_dataset_is_found(tmp_path):
    write_webvision(tmp_path / "elsewhere/WebVision")
    (tmp_path / "data").mkdir()
    (tmp_path / "data/WebVision").symlink_to(tmp_path / "elsewhere/WebVision")
    assert webvision.load(tmp_path / "data").train_labels.tolist() == [1, 0, 49]


def test_a_noise_file_may_go_by_the_names_of_the_list(tmp_path):
    write_webvision(tmp_path / "WebVision")
    names = [name.removeprefix("WebVision/") for name in webvision.load(tmp_path).train_files]
    (tmp_path / "noisy.txt").write_text(f"{names[2]} 7\n{names[0]} 8\n")
    out, flags = tmp_path / "n.npz", ["--dataset", "webvision", "--data_path", str(tmp_path)]
    assert main(["noise", "convert", str(tmp_path / "noisy.txt"), str(out), *flags]) == 0
    made = noise_file.read(out)
    assert made.indices.tolist() == [2, 0]
    assert (made.noisy_labels.tolist(), made.clean_labels.tolist()) == ([7, 8], [49, 1])

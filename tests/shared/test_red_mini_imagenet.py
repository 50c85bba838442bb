"""Mini-ImageNet with web noise, from a miniature of the published layout."""

from pathlib import Path

import numpy as np
import pytest
from picture_files import greys, save, save_turned, truncate

from shared import datasets
from shared.__main__ import main
from shared.datasets import DatasetError, red_mini_imagenet
from shared.datasets.red_mini_imagenet import find, load, rates, web_share

ORIGINAL = ("n0153282900000005.jpg", "n0183159400000011.jpg", "n1313361300000007.jpg")
WEB = ("5922767e5677aef4.jpg", "a0b1c2d3e4f50617.jpg")
LISTS = {
    "red_noise_nl_0.0": {ORIGINAL[0]: 7, ORIGINAL[1]: 0, ORIGINAL[2]: 99},
    "red_noise_nl_0.4": {WEB[0]: 99, ORIGINAL[0]: 7, WEB[1]: 7, ORIGINAL[1]: 0},
    "red_noise_nl_0.05": {ORIGINAL[0]: 7},
    "blue_noise_nl_0.2": {ORIGINAL[2]: 3},
    "clean_validation": {"ILSVRC2012_val_00000001.jpg": 7, "ILSVRC2012_val_00000009.jpg": 99},
}
MODES = dict(zip((*ORIGINAL, *WEB), ("RGB", "L", "RGB", "CMYK", "RGB")))


def write_lists(folder: Path, lists=LISTS, end="\n") -> None:
    (folder / "split").mkdir(parents=True)
    for name, lines in lists.items():
        text = "".join(f"{file} {label}{end}" for file, label in lines.items())
        (folder / "split" / name).write_bytes(text.encode())


def write_set(folder: Path) -> Path:
    write_lists(folder)
    for number, (file, mode) in enumerate(MODES.items(), start=1):
        save(folder / "all_images" / file, 20 * number, mode=mode)
    for file, label in LISTS["clean_validation"].items():
        save(folder / "validation" / str(label) / file, 100 + label)
    return folder


@pytest.fixture
def folder(tmp_path):
    return write_set(tmp_path / "mini-imagenet")


def near(*values):
    return [pytest.approx(value, abs=2) for value in values]


def test_lists_become_images_and_labels_in_their_order(folder, tmp_path):
    data = load(tmp_path, 0.4)
    assert data.train_labels.tolist() == [99, 7, 7, 0]
    assert greys(data.train_images) == near(80, 20, 100, 40)
    assert data.train_names == (WEB[0], ORIGINAL[0], WEB[1], ORIGINAL[1])
    assert (data.test_labels.tolist(), greys(data.test_images)) == ([7, 99], near(107, 199))
    assert (data.name, data.location, data.num_classes) == ("red_mini_imagenet", folder, 100)
    assert (data.train_images.shape, data.train_images.dtype) == ((4, 32, 32, 3), np.uint8)
    assert (data.class_names[7], data.train_labels.dtype) == ("class 7", np.int64)


def test_the_blue_list_and_other_sizes(folder, tmp_path):
    upright = save_turned(folder / "all_images" / ORIGINAL[2])
    data = load(tmp_path, 0.2, "blue", image_size=84)
    assert (data.train_labels.tolist(), data.train_names) == ([3], (ORIGINAL[2],))
    np.testing.assert_allclose(data.train_images[0].astype(int), upright, atol=40)


def test_images_are_squashed_to_the_size(folder, tmp_path, recwarn):
    save(folder / "all_images" / ORIGINAL[0], 20, size=(100, 50))
    assert load(tmp_path, 0.05).train_images.shape == (1, 32, 32, 3)
    assert not recwarn.list


@pytest.mark.parametrize("place", [".", "split", ".."])
def test_class_names_are_read(folder, tmp_path, place):
    names = [f"n{number:08} name {number}" for number in range(100)]
    (folder / place / "class_name.txt").write_text("\n".join(names))
    assert load(tmp_path, 0.05).class_names == tuple(names)


def test_rates_and_the_share_of_web_images(folder, tmp_path):
    assert rates(tmp_path) == (0.0, 0.05, 0.4)
    assert rates(tmp_path, "blue") == (0.2,)
    assert rates(tmp_path / "elsewhere") == ()
    assert [web_share(load(tmp_path, rate)) for rate in (0.0, 0.4)] == [0.0, 0.5]
    (folder / "all_images" / "1.jpg").symlink_to(folder / "all_images" / WEB[0])
    (folder / "split/red_noise_nl_0.05").write_text("1.jpg 3\n")
    assert web_share(load(tmp_path, 0.05)) is None


def test_a_rate_that_is_not_there_names_those_that_are(folder, tmp_path):
    with pytest.raises(DatasetError, match=r"no red_noise_nl_0\.3: .*\(0\.0, 0\.05, 0\.4\)"):
        load(tmp_path, 0.3)
    with pytest.raises(DatasetError, match=r"no blue_noise_nl_0\.4: .*\(0\.2\)"):
        load(tmp_path, 0.4, "blue")
    with pytest.raises(DatasetError, match="'green' is no colour"):
        load(tmp_path, 0.4, "green")
    with pytest.raises(DatasetError, match="at least 1"):
        load(tmp_path, 0.4, image_size=0)


def test_broken_and_missing_images_are_skipped_or_refused(folder, tmp_path):
    truncate(folder / "all_images" / ORIGINAL[0])
    (folder / "all_images" / WEB[1]).unlink()
    with pytest.raises(DatasetError, match=r"2 of 4 pictures .*--skip_broken"):
        load(tmp_path, 0.4)
    for _ in range(2):
        data = load(tmp_path, 0.4, skip_broken=True, cache_dir=tmp_path / "cache")
        assert data.train_names == (WEB[0], ORIGINAL[1])
        assert data.train_labels.tolist() == [99, 0]
        assert len(data.test_labels) == 2


@pytest.mark.parametrize("position", [0, -1])
def test_a_list_of_other_images_is_refused(folder, tmp_path, position):
    (folder / "all_images" / list(LISTS["red_noise_nl_0.4"])[position]).unlink()
    with pytest.raises(DatasetError, match=r"is missing, but a list .*unpack all images"):
        load(tmp_path, 0.4, skip_broken=True)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("n01.jpg 100", "line 1: label 100, expected 0 to 99"),
        ("n01.jpg", "line 1: 'n01.jpg', expected a file name and a label"),
        ("../n01.jpg 1", "outside of the dataset"),
        ("", "is empty"),
    ],
)
def test_a_wrong_line_is_named(folder, tmp_path, line, message):
    (folder / "split/red_noise_nl_0.4").write_text(line)
    with pytest.raises(DatasetError, match=f"red_noise_nl_0.4.*{message}"):
        load(tmp_path, 0.4)


# ---- places


def test_other_places_of_the_images(folder, tmp_path):
    (folder / "noisy_images").mkdir()
    (folder / "all_images" / WEB[0]).rename(folder / "noisy_images" / WEB[0])
    by_class = folder / "training/red_noise_nl_0.4/7"
    by_class.mkdir(parents=True)
    (folder / "all_images" / WEB[1]).rename(by_class / WEB[1])
    for label in (7, 99):  # validation images without class folders
        for file in (folder / "validation" / str(label)).iterdir():
            file.rename(folder / "validation" / file.name)
    data = load(tmp_path, 0.4)
    assert greys(data.train_images) == near(80, 20, 100, 40)
    assert greys(data.test_images) == near(107, 199)
    assert data.train_names == (WEB[0], ORIGINAL[0], WEB[1], ORIGINAL[1])


@pytest.mark.parametrize("place", [".", "cnwl/dataset/mini-imagenet"])
def test_it_is_found_through_links(tmp_path, place):
    folder = write_set(tmp_path / "disk" / place)
    (tmp_path / "data").mkdir()
    (tmp_path / "data/red").symlink_to(tmp_path / "disk")
    found = datasets.fetch("red_mini_imagenet", tmp_path / "data")
    assert found.resolve() == folder
    assert len(load(tmp_path / "data", 0.0).train_labels) == 3


def test_what_is_missing_is_told(tmp_path, capsys):
    assert main(["data", "red_mini_imagenet", "--path", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert "Red Mini-ImageNet is missing" in error
    assert red_mini_imagenet.ADDRESS in error
    assert "pass its path (--path), or set DATA_ROOT" in error  # as this command calls it
    write_lists(tmp_path / "lists")
    (tmp_path / "dataset_no_images.zip").write_bytes(b"")
    with pytest.raises(DatasetError) as caught:
        find(tmp_path)
    assert f"{tmp_path / 'lists'}, but it lacks validation and all_images" in str(caught.value)
    assert "dataset_no_images.zip, which is not unpacked" in str(caught.value)


def test_the_command_names_rates_and_what_they_mean(folder, tmp_path, capsys):
    assert main(["data", "red_mini_imagenet", "--path", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert f"is in {folder}\n  red: 0.0, 0.05, 0.4\n  blue: 0.2\n" in out
    assert red_mini_imagenet.RATE_MEANING in out


def test_the_registry_names_its_own_reader(tmp_path):
    with pytest.raises(DatasetError, match=r"for each rate: shared\.datasets\.red_mini_imagenet"):
        datasets.load("red_mini_imagenet", tmp_path)

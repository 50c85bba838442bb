"""The labels of a comparison: made, converted or cut once, and never mixed with another one's."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from compare.question import ARRAY, DATA, LABELS, NOISE, PLAN, Question, prepare, read_task
from shared import datasets
from shared.datasets.image_data import DatasetError
from shared.errors import UserError
from shared.formats import external, noise_file
from shared.formats.corrections import replaced
from shared.noise.recipe import Recipe, generate


@pytest.fixture
def pictures(tmp_path):
    """300 pictures of 3 classes with 60 test pictures, as an .npz of arrays."""
    rng = np.random.default_rng(0)
    path = tmp_path / "pictures.npz"
    np.savez(
        path,
        train_images=rng.integers(0, 256, (300, 8, 8), np.uint8),
        train_labels=np.arange(300) % 3,
        test_images=rng.integers(0, 256, (60, 8, 8), np.uint8),
        test_labels=np.arange(60) % 3,
        class_names=np.array(["ash", "elm", "oak"]),
    )
    return path


def test_noise_is_made_once_and_the_same_question_finds_it_again(tmp_path):
    question = Question("digits", kind="symmetric", rate=0.3)
    task = prepare(question, tmp_path)
    noise = noise_file.read(tmp_path / NOISE)
    data = datasets.load("digits")
    expected = generate(Recipe("symmetric", 0.3), data)
    np.testing.assert_array_equal(noise.noisy_labels, expected.noisy_labels)
    assert (task.samples, task.classes, task.noise_file) == (1442, 10, str(tmp_path / NOISE))
    before = (tmp_path / NOISE).read_bytes()
    assert prepare(question, tmp_path) == task == read_task(tmp_path)
    assert (tmp_path / NOISE).read_bytes() == before


def begin(folder):
    """As a run that has trained an epoch leaves it."""
    (folder / "ce-seed1").mkdir()
    (folder / "ce-seed1" / "metrics.jsonl").write_text("{}\n")


def test_two_questions_never_share_a_folder(tmp_path):
    prepare(Question("digits", kind="symmetric", rate=0.3), tmp_path)
    begin(tmp_path)
    with pytest.raises(UserError, match=r"rate 0.3, not 0.4: choose another --folder"):
        prepare(Question("digits", kind="symmetric"), tmp_path)
    with pytest.raises(UserError, match=r"--args '', not '--device cpu'"):
        prepare(Question("digits", kind="symmetric", rate=0.3, further="--device cpu"), tmp_path)
    (tmp_path / PLAN).write_text("{}")
    with pytest.raises(UserError, match="not of a comparison, or damaged: choose another --folder"):
        prepare(Question("digits"), tmp_path)
    with pytest.raises(UserError, match="give the folder of a comparison"):
        read_task(tmp_path / "elsewhere")


@pytest.mark.parametrize("handed_out", [False, True])
def test_a_plan_gives_way_until_something_was_trained_for_it(tmp_path, handed_out):
    prepare(Question("digits", kind="symmetric", rate=0.3, further="--typo 1"), tmp_path)
    (tmp_path / "ce-seed1").mkdir()
    (tmp_path / "ce-seed1" / "log.txt").touch()
    other = Question("digits", kind="symmetric", rate=0.2)
    if handed_out:  # a pending task would train on other labels than its script was written for
        (tmp_path / ARRAY).touch()
        with pytest.raises(UserError, match="choose another --folder"):
            prepare(other, tmp_path)
    else:
        prepare(other, tmp_path)
        assert noise_file.read(tmp_path / NOISE).header.nominal_rate == 0.2


def test_a_noise_file_of_the_user_is_never_replaced(tmp_path):
    (tmp_path / NOISE).write_bytes(b"something of the user")
    with pytest.raises(UserError, match="holds other labels"):
        prepare(Question("digits"), tmp_path)


@pytest.mark.parametrize("limit", [None, 6])
def test_pictures_that_were_moved_to_another_class_are_refused(tmp_path, limit):
    for number in range(8):
        place = tmp_path / "pictures" / ("ash", "elm")[number % 2]
        place.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), 30 * number).save(place / f"{number}.png")
    question = Question("folder", data=str(tmp_path / "pictures"), limit=limit)
    prepare(question, tmp_path / "c")
    begin(tmp_path / "c")
    plan = (tmp_path / "c" / PLAN).read_text()
    prepare(question, tmp_path / "c")
    (tmp_path / "pictures/ash/0.png").rename(tmp_path / "pictures/elm/0.png")
    with pytest.raises(UserError, match="holds other labels than are asked for now"):
        prepare(question, tmp_path / "c")
    assert (tmp_path / "c" / PLAN).read_text() == plan
    old = {name: part for name, part in json.loads(plan).items() if name != "given_sha256"}
    (tmp_path / "c" / PLAN).write_text(json.dumps(old))
    prepare(question, tmp_path / "c")  # a plan of an earlier version cannot tell


def test_the_smallest_class_is_known_by_name(tmp_path, pictures):
    whole = np.load(pictures)
    labels = whole["train_labels"].copy()
    labels[np.flatnonzero(labels == 1)[8:]] = 2
    np.savez(pictures, **{**whole, "train_labels": labels})
    for limit, count in ((None, 8), (150, 4)):
        task = prepare(Question("folder", data=str(pictures), limit=limit), tmp_path / str(limit))
        assert task.smallest_class == "elm"
        assert task.smallest in (count, count + 1)
    noisy = prepare(Question("folder", data=str(pictures), kind="symmetric"), tmp_path / "noisy")
    assert (noisy.smallest, noisy.smallest_class) == (8, "elm")  # of the true labels


def test_a_noise_file_that_changed_is_refused(tmp_path):
    file = tmp_path / "labels.npz"
    question = Question("digits", noise_file=str(file))
    for rate in (0.2, 0.3):
        noise_file.write(file, generate(Recipe("symmetric", rate), datasets.load("digits")))
        if rate == 0.2:
            prepare(question, tmp_path / "c")
            begin(tmp_path / "c")
    with pytest.raises(UserError, match="holds other labels than are asked for now"):
        prepare(question, tmp_path / "c")


@pytest.mark.parametrize("ending", external.FORMATS)
def test_every_format_gives_the_same_labels(tmp_path, ending):
    noise = generate(Recipe("symmetric", 0.3), datasets.load("digits"))
    file = tmp_path / f"labels.{ending}"
    external.write_any(file, noise)
    prepare(Question("digits", noise_file=str(file)), tmp_path / "c")
    found = noise_file.read(tmp_path / "c" / NOISE)
    np.testing.assert_array_equal(found.noisy_labels, noise.noisy_labels)
    np.testing.assert_array_equal(found.clean_labels, noise.clean_labels)


def test_a_limit_makes_a_data_set_of_its_own(tmp_path, pictures):
    whole = datasets.load("folder", pictures)
    noise = generate(Recipe("symmetric", 0.5), whole)
    external.write_any(tmp_path / "labels.npy", noise)
    question = Question(
        "folder", data=str(pictures), noise_file=str(tmp_path / "labels.npy"), limit=100
    )
    task = prepare(question, tmp_path / "c")
    assert (task.dataset, task.samples, task.classes) == ("folder", 100, 3)
    rows = np.load(tmp_path / "c" / DATA, allow_pickle=False)["rows"]
    part, labels = datasets.load("folder", task.data_path), noise_file.read(task.noise_file)
    np.testing.assert_array_equal(part.train_images, whole.train_images[rows])
    np.testing.assert_array_equal(labels.noisy_labels, noise.noisy_labels[rows])
    np.testing.assert_array_equal(labels.clean_labels, part.train_labels)
    assert part.class_names == ("ash", "elm", "oak")
    assert len(part.test_labels) == 60
    assert prepare(question, tmp_path / "c") == task


def test_own_pictures_are_taken_as_they_are(tmp_path, pictures):
    task = prepare(Question("folder", data=str(pictures)), tmp_path / "c")
    assert (task.noise_file, task.data_path, task.samples) == (None, str(pictures), 300)
    assert not (tmp_path / "c" / NOISE).exists()
    noisy = prepare(Question("folder", data=str(pictures), kind="symmetric"), tmp_path / "d")
    assert noise_file.read(noisy.noise_file).header.nominal_rate == 0.4


def test_corrected_labels_of_own_pictures_are_not_compared_with_the_wrong_ones(tmp_path):
    """Their old labels are no truth: nothing may be validated on them or trust them."""
    for number in range(6):
        place = tmp_path / "pictures" / ("ash", "elm")[number % 2]
        place.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), 40 * number).save(place / f"{number}.png")
    old = noise_file.make([0, 0, 0, 1, 1, 1], num_classes=2, dataset="folder")
    new = noise_file.make([1], indices=[2])
    noise_file.write(tmp_path / "better.npz", replaced(old, new))
    question = Question(
        "folder", data=str(tmp_path / "pictures"), noise_file=str(tmp_path / "better.npz")
    )
    task = prepare(question, tmp_path / "c")
    assert (task.noise_file, task.labels) == (None, str(tmp_path / "c" / LABELS))
    found = datasets.load_labels("folder", task.data_path, labels=Path(task.labels))
    assert found.train_labels.tolist() == [0, 0, 1, 1, 1, 1]
    assert found.class_names == ("ash", "elm")
    limited = prepare(replace(question, limit=6), tmp_path / "d")
    assert (limited.noise_file, limited.labels) == (None, None)
    part = datasets.load_labels("folder", limited.data_path)
    assert part.train_labels.tolist() == [0, 0, 1, 1, 1, 1]


def test_a_class_that_the_corrections_emptied_is_none_of_the_task(tmp_path):
    """The scripts read the classes from the table of labels; FSR's queue is of so many."""
    (tmp_path / "pictures").mkdir()
    for number in range(6):
        Image.new("L", (8, 8), 40 * number).save(tmp_path / f"pictures/{number}.png")
    names = ["ash", "ash", "elm", "elm", "oak", "oak"]
    rows = "".join(f"{number}.png,{name}\n" for number, name in enumerate(names))
    (tmp_path / "old.csv").write_text(f"filename,label\n{rows}")
    old = noise_file.make([0, 0, 1, 1, 2, 2], num_classes=3, dataset="folder")
    new = noise_file.make([1, 1], indices=[0, 1])
    noise_file.write(tmp_path / "better.npz", replaced(old, new))
    question = Question(
        "folder",
        data=str(tmp_path / "pictures"),
        labels=str(tmp_path / "old.csv"),
        noise_file=str(tmp_path / "better.npz"),
    )
    task = prepare(question, tmp_path / "c")
    found = datasets.load_labels("folder", task.data_path, labels=Path(task.labels))
    assert task.classes == found.num_classes == 2
    assert (task.smallest, task.smallest_class) == (2, "oak")


def test_images_instead_of_labels_are_refused(tmp_path):
    labels = datasets.load("digits").train_labels
    replaced = np.arange(len(labels)) < 5
    noise = noise_file.make(labels, clean_labels=labels, open_set=replaced, dataset="digits")
    noise_file.write(tmp_path / "a.npz", noise)
    with pytest.raises(UserError, match="open-set"):
        prepare(Question("digits", noise_file=str(tmp_path / "a.npz")), tmp_path / "c")


def test_data_that_are_missing_are_said_to_be(tmp_path):
    with pytest.raises(DatasetError, match="does not exist"):
        prepare(Question("folder", data=str(tmp_path / "nowhere")), tmp_path / "c")
    assert not (tmp_path / "c" / PLAN).exists()


def test_the_plan_is_plain_json(tmp_path):
    prepare(Question("digits"), tmp_path)
    known = json.loads((tmp_path / PLAN).read_text())
    assert known["question"]["kind"] == "pdn"
    assert known["task"]["samples"] == 1442

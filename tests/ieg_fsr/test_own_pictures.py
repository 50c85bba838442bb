"""Users' own pictures: formats and sizes, folders without a test set, lists of labels, refusals."""

import csv
import re

import numpy as np
import pytest
import tensorflow as tf
from conftest import rows, run_main, variables
from PIL import Image

from ieg import compare
from ieg.input.image_sources import FileSource, PictureSource
from ieg.input.own_pictures import Wishes
from ieg.input.tasks import load
from ieg.method.train import NonFiniteLossError, check_weights
from ieg.run.errors import UsageError
from ieg.run.experiment import _check_queue
from shared.datasets.image_data import DatasetError
from shared.formats import external, noise_file
from shared.formats.noise_file import make

CLASSES = ("cat", "dog")
FORMATS = ("grey.png", "cmyk.jpg", "turned.jpg", "a.webp", "deep.tif")
LARGE = Wishes(side=224)
FLAGS = ["--dataset_dir=mine", "--network_name=wrn10-1", "--batch_size=4", "--output_dir=run"]
TWO_EPOCHS = [*FLAGS, "--max_epoch=2", "--method=supervised", "--probe_dataset_hold_ratio=0"]


def pixels_of(number, side=40):
    return np.random.default_rng(number).integers(0, 256, (side + number % 3, side, 3), np.uint8)


def save(path, number):
    """A picture of the kind that its name says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture, more = Image.fromarray(pixels_of(number)), {}
    if path.name == "grey.png":
        picture = picture.convert("L")
    elif path.name == "cmyk.jpg":
        picture = picture.convert("CMYK")
    elif path.name == "turned.jpg":
        more["exif"] = picture.getexif()
        more["exif"][0x0112] = 6
    elif path.name == "deep.tif":
        picture = Image.fromarray(pixels_of(number)[..., 0].astype(np.uint16) * 257)
    picture.save(path, **more)


def make_folder(root, layout="", count=8):
    """Class folders with pictures of all kinds; `count` a class."""
    for label, name in enumerate(CLASSES):
        files = [*FORMATS, *(f"{number}.png" for number in range(count))][:count]
        for number, file in enumerate(files):
            save(root / layout / name / file, 100 * label + number)
    return root


def folder(root, name="folder", **options):
    return load(name, **{"data_dir": root, "probe_ratio": 0, "seed": 7, **options})


# ---- pixels


def test_every_format_is_seen_upright_in_colour_at_224(tmp_path):
    make_folder(tmp_path)
    upright = []
    for file in FORMATS:
        with Image.open(tmp_path / "cat" / file) as picture:
            if file == "turned.jpg":
                picture = picture.transpose(Image.Transpose.ROTATE_270)
            elif file == "deep.tif":
                picture = Image.fromarray((np.asarray(picture) // 257).astype(np.uint8))
            picture.convert("RGB").save(tmp_path / f"upright {file}.png")
        upright.append(str(tmp_path / f"upright {file}.png"))
    ids, seed = tf.range(len(FORMATS), dtype=tf.int64), tf.constant([1, 2], tf.int32)
    mine = PictureSource([str(tmp_path / "cat" / f) for f in FORMATS], np.zeros(5, np.int64))
    plain = FileSource(upright, np.zeros(5, np.int64))
    np.testing.assert_array_equal(mine.plain(ids), plain.plain(ids))
    np.testing.assert_array_equal(mine.weak(ids, seed), plain.weak(ids, seed))


@pytest.mark.parametrize("wishes", [Wishes(), LARGE])
def test_the_size_is_that_of_the_network(tmp_path, wishes):
    task = folder(make_folder(tmp_path), wishes=wishes)
    assert task.train.image_shape == (wishes.side, wishes.side, 3)
    assert task.train.plain(tf.range(16, dtype=tf.int64)).shape == (16, *task.train.image_shape)
    assert task.location == tmp_path


def test_large_pictures_are_told_of_the_network_for_them(tmp_path, capsys):
    make_folder(tmp_path / "small", "train")
    folder(tmp_path / "small")
    assert "--network_name" not in capsys.readouterr().out
    for place in ("cat/1.png", "dog/1.png"):
        (tmp_path / "large" / place).parent.mkdir(parents=True)
        Image.new("RGB", (300, 200)).save(tmp_path / "large" / place)
    folder(tmp_path / "large")
    told = "note: pictures of about 200 pixels are reduced to 32: --network_name=resnet50 "
    assert told in capsys.readouterr().out
    folder(tmp_path / "large", wishes=LARGE)
    assert "reduced" not in capsys.readouterr().out


# ---- what trains and what tests


@pytest.mark.parametrize("wishes", [Wishes(), LARGE])
@pytest.mark.parametrize("layout", ["", "train"])
def test_without_test_images_all_train(tmp_path, layout, wishes):
    task = folder(make_folder(tmp_path, layout), wishes=wishes)
    assert task.evaluation is None
    assert np.bincount(task.train.labels).tolist() == [8, 8]
    assert task.train.gold is None


@pytest.mark.parametrize("side", [32, 224])
@pytest.mark.parametrize("name", ["folder", "folder_uniform_0.5", "file"])
def test_a_part_can_be_held_out(tmp_path, capsys, name, side):
    make_folder(tmp_path / "mine", count=20)
    given, file = np.repeat([0, 1], 20), None
    if name == "file":
        file = tmp_path / "n.npz"
        external.write_any(file, make(1 - given, clean_labels=given, dataset="folder"))
    wishes = Wishes(side=side, val_fraction=0.25)
    task = folder(tmp_path / "mine", name, wishes=wishes, noise_file=file)
    tested, trained = task.evaluation.labels, task.train.labels
    assert (np.bincount(tested).tolist(), len(trained)) == ([5, 5], 30)
    out = np.setdiff1d(np.arange(40), task.noise.indices)
    assert np.bincount(given[out]).tolist() == [5, 5]
    shown = task.evaluation.plain(tf.range(10, dtype=tf.int64)).numpy()
    everything = folder(tmp_path / "mine", wishes=Wishes(side=side))
    where = [everything.noise.indices.tolist().index(row) for row in out]
    expected = everything.train.plain(tf.constant(where, tf.int64)).numpy()
    assert sorted(image.tobytes() for image in shown) == sorted(i.tobytes() for i in expected)
    said = capsys.readouterr().out
    assert "10 of 40 images are held out to test on" in said
    assert ("nobody has checked" in said) == (name == "folder")
    again = folder(tmp_path / "mine", name, wishes=wishes, noise_file=file)
    assert noise_file.encode(again.noise) == noise_file.encode(task.noise)


@pytest.mark.parametrize("name", ["file", "file_folder"])
def test_labels_of_a_noise_file_are_wrong_where_the_folder_says_otherwise(tmp_path, name):
    make_folder(tmp_path / "mine")
    given = np.repeat([0, 1], 8)
    wrong = np.where(np.arange(16) % 4 == 0, 1 - given, given)
    external.write_any(tmp_path / "n.npz", make(wrong, clean_labels=given, dataset="folder"))
    task = folder(tmp_path / "mine", name, noise_file=tmp_path / "n.npz")
    assert task.train.gold.tolist() == given[task.noise.indices].tolist()
    assert task.noise.header.measured_rate == 0.25


@pytest.mark.parametrize("wishes", [Wishes(val_fraction=0.25), Wishes(side=224, val_fraction=0.25)])
def test_corrected_labels_are_trusted_and_not_measured_by_the_folders_own(tmp_path, wishes):
    make_folder(tmp_path / "mine", count=20)
    better = (np.arange(40) + np.arange(40) // 20) % 2
    noise = make(better, kind="corrected", dataset="folder")
    external.write_any(tmp_path / "better.npz", noise)
    options = {"wishes": wishes, "probe_ratio": 0.2}
    task = folder(tmp_path / "mine", "file", noise_file=tmp_path / "better.npz", **options)
    assert (task.train.gold, task.noise.header.measured_rate) == (None, None)
    rows = task.noise.indices
    assert task.train.labels.tolist() == better[rows].tolist()
    # Alternating labels of 40 pictures: all sets have as many of each as they do.
    others = np.concatenate([task.probe.labels, task.evaluation.labels])
    assert np.bincount(others).tolist() == np.bincount(np.delete(better, rows)).tolist()
    files = {name: label for name, label in zip(task.files, task.train.labels)}
    assert any((name.split("/")[0] == "dog") != label for name, label in files.items())


@pytest.mark.parametrize("side", [32, 224])
def test_labels_of_a_list(tmp_path, side):
    make_folder(tmp_path / "mine")
    names = [f"{name}/{file}" for name in CLASSES for file in (*FORMATS, "0.png")]
    with open(tmp_path / "labels.csv", "w", newline="") as file:
        csv.writer(file).writerows(
            [["filename", "label"], *([name, "dog"] for name in names[:8]), [names[8], "cat"]]
        )
    task = folder(tmp_path / "mine", wishes=Wishes(side, tmp_path / "labels.csv"))
    assert task.class_names == CLASSES
    assert np.bincount(task.train.labels).tolist() == [1, 8]


@pytest.mark.parametrize("side", [32, 224])
def test_broken_pictures_are_named_and_left_out(tmp_path, capsys, side):
    make_folder(tmp_path, "train")
    make_folder(tmp_path, "test")
    for split, name in (("train", "cat"), ("test", "dog")):
        whole = tmp_path / split / name / "cmyk.jpg"
        whole.write_bytes(whole.read_bytes()[:300])
    task = folder(tmp_path, wishes=Wishes(side, skip_broken=True))
    assert np.bincount(task.train.labels).tolist() == [7, 8]
    assert np.bincount(task.evaluation.labels).tolist() == [8, 7]
    error = capsys.readouterr().err
    assert error.count("1 of 16 pictures") == 2
    assert "cat/cmyk.jpg" in error
    for file in tmp_path.rglob("*.*"):
        file.write_text("nothing")
    with pytest.raises(DatasetError, match=r"can(not)? be read"):
        folder(tmp_path, wishes=Wishes(side, skip_broken=True))


def test_decoded_pictures_are_kept(tmp_path, monkeypatch):
    make_folder(tmp_path / "mine")
    wishes = Wishes(cache_dir=tmp_path / "cache")
    first = folder(tmp_path / "mine", wishes=wishes)
    monkeypatch.setattr("shared.datasets.decoding.open_rgb", None)
    again = folder(tmp_path / "mine", wishes=wishes)
    ids = tf.range(16, dtype=tf.int64)
    np.testing.assert_array_equal(first.train.pixels(ids), again.train.pixels(ids))


# ---- refusals


def test_what_cannot_be_meant_is_refused(main, tmp_path, capsys):
    make_folder(tmp_path / "mine", "train")
    make_folder(tmp_path / "mine", "test")
    np.savez(tmp_path / "mine.npz", train_images=np.zeros((4, 32, 32, 3), np.uint8))
    (tmp_path / "labels.csv").write_text("filename,label\nnone.png,cat\n")
    for flags, message in (
        (["--dataset=folder", "--val_fraction=0.2"], "has test images: leave out --val_fraction"),
        (["--dataset=folder", "--labels=labels.csv"], "none.png, are not in the folder"),
        (["--dataset=digits", "--labels=a.csv"], "--labels is for your own pictures"),
        (["--dataset=webvisionmini", "--skip_broken"], "--skip_broken is for your own pictures"),
        (
            ["--dataset=digits", "--labels=a.csv", "--cache_dir=c"],
            "--labels and --cache_dir are for",
        ),
        (
            ["--dataset=folder", "--dataset_dir=mine.npz", "--network_name=resnet50"],
            "--network_name=wrn28-2",
        ),
    ):
        assert main(*FLAGS, *flags) == 2
        error = capsys.readouterr().err
        assert re.search("^error: ", error, re.MULTILINE)
        assert message in error
    for flags, message in (
        (["--network_name=resnet50", "--cache_dir=c"], "--cache_dir keeps pictures of 32 pixels"),
        (["--val_fraction=0"], "must be greater than 0"),
        (["--val_fraction=1"], "must be below 1"),
    ):
        with pytest.raises(SystemExit, match="2"):
            main("--dataset=folder", *flags)
        assert message in capsys.readouterr().err


def test_labels_of_a_file_for_other_data_refuse_them_too(main, tmp_path, capsys):
    external.write_any(tmp_path / "n.npz", make(np.zeros(1442, np.int64), dataset="digits"))
    flags = ["--dataset=file", "--noise_file=n.npz", "--val_fraction=0.2"]
    assert main(*FLAGS, *flags) == 2
    assert "--val_fraction is for your own pictures" in capsys.readouterr().err


# ---- runs


@pytest.mark.training
@pytest.mark.parametrize("method", ["supervised", "fsr"])
def test_a_run_without_a_test_set_and_its_resume(main, tmp_path, capsys, method):
    make_folder(tmp_path / "mine")
    flags = [*TWO_EPOCHS, "--dataset=folder", f"--method={method}"]
    flags += ["--queue_capacity=4", "--queue_bs=2", "--meta_start_epoch=0"]
    done = run_main(*flags, "--max_epoch=1", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "16 training images of 32 x 32 pixels, no test set, 2 classes" in done.stdout
    assert main(*flags) == 0  # resumes
    printed = capsys.readouterr().out
    assert "resumed: iteration 4 of 8 is done" in printed
    assert printed.splitlines()[-1] == (
        f"{method}: 8 steps are done; no test set, so there are no accuracies; the run is in run"
    )
    found = rows(tmp_path / "run")
    assert [row["iteration"] for row in found] == [1, 4, 8]
    assert {found[-1][name] for name in ("accuracy", "accuracy_top5_ema", "loss_eval")} == {None}
    assert main(*flags, "--output_dir=straight") == 0
    assert rows(tmp_path / "straight") == found
    assert variables(tmp_path / "straight", 8) == variables(tmp_path / "run", 8)
    tables = [(tmp_path / name / "label_quality.csv").read_text() for name in ("straight", "run")]
    assert tables[0] == tables[1]
    files = [
        f"{name}/{path.name}" for name in CLASSES for path in (tmp_path / "mine/cat").iterdir()
    ]
    table = list(csv.DictReader(tables[0].splitlines()))
    assert [row["file"] for row in table] == sorted(files)
    assert all(row["file"].startswith(f"{row['given_name']}/") for row in table)
    assert "clean_label" not in table[0]

    capsys.readouterr()
    assert main(*flags, "--mode=evaluation") == 2
    assert "has no test images to evaluate on" in capsys.readouterr().err
    assert compare.main([str(tmp_path / "run"), "--plot", str(tmp_path / "c.png")]) == 0
    assert "-" in capsys.readouterr().out.splitlines()[2].split()
    assert (tmp_path / "c.png").stat().st_size


@pytest.mark.training
def test_l2r_on_a_folder_with_a_part_held_out(main, tmp_path, capsys):
    make_folder(tmp_path / "mine")
    flags = [*FLAGS, "--dataset=folder", "--method=l2r", "--probe_dataset_hold_ratio=0.2"]
    flags += ["--val_fraction=0.25", "--seed=3", "--nouse_ema"]
    assert main(*flags, "--max_epoch=2") == 0
    printed = capsys.readouterr().out
    assert "note: the trusted images are held out of the folder, whose labels nobody" in printed
    assert "10 training images of 32 x 32 pixels, 2 trusted images, 4 to evaluate on" in printed
    assert main(*flags, "--mode=evaluation") == 0
    shown = rows(tmp_path / "run")[-1]["accuracy"]
    assert f"total 4 acc {shown / 100:.4f}" in capsys.readouterr().out
    assert main(*flags, "--mode=evaluation", "--seed=4") == 2  # another part was held out
    assert "seed: 3 then, 4 now" in capsys.readouterr().err


@pytest.mark.training
def test_resnet50_at_224(tmp_path):
    make_folder(tmp_path / "mine")
    flags = [*TWO_EPOCHS, "--dataset=folder", "--network_name=resnet50", "--val_fraction=0.25"]
    flags += ["--nouse_ema"]
    done = run_main(*flags, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "12 training images of 224 x 224 pixels, 4 to evaluate on" in done.stdout
    assert [row["iteration"] for row in rows(tmp_path / "run")] == [1, 3, 6]


def test_a_broken_picture_without_skip_broken_ends_a_run_with_its_name(main, tmp_path, capsys):
    make_folder(tmp_path / "mine")
    (tmp_path / "mine" / "dog" / "0.png").write_bytes(b"\x89PNG")
    for network in ("wrn10-1", "resnet50"):
        assert main(*TWO_EPOCHS, "--dataset=folder", f"--network_name={network}") == 2
        error = capsys.readouterr().err
        assert "dog/0.png is not a readable image" in error
        assert "--skip_broken" in error


def test_ruined_weights_are_found_where_no_evaluation_shows_them():
    check_weights(3, [tf.Variable([1.0, 2.0])])
    with pytest.raises(NonFiniteLossError, match="iteration 3: weights"):
        check_weights(3, [tf.Variable([1.0]), tf.Variable([1.0, np.inf])])


def test_all_that_the_queue_needs_for_the_classes_is_said_at_once():
    with pytest.raises(UsageError, match="give --queue_capacity=1998 and --queue_bs=198, or"):
        _check_queue(2000, 200, classes=3)
    with pytest.raises(UsageError, match=r"^--queue_bs=4 cannot .* 5 classes: give --queue_bs=5,"):
        _check_queue(2000, 4, classes=5)

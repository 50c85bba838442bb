"""WebVision mini in made-up folders: classes, probe, ImageNet's images, what is missing."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from ieg.input import webvision_mini
from ieg.input.batches import evaluation_batches, train_stream
from ieg.input.tasks import load
from shared.datasets.image_data import DatasetError

NAMES = ("n01440764", "n01443537", "n01484850")
PER_CLASS = {"train": 5, "val": 2}


def jpeg(level):
    stream = io.BytesIO()
    Image.new("RGB", (60, 50), (level, level, level)).save(stream, "JPEG")
    return stream.getvalue()


def make_folder(root, names=NAMES):
    """Images whose grey says class and number."""
    folder = root / webvision_mini.FOLDER
    for split, count in PER_CLASS.items():
        for label, name in enumerate(names):
            (folder / split / name).mkdir(parents=True)
            for number in range(count):
                (folder / split / name / f"{number}.jpg").write_bytes(
                    jpeg(50 * label + 5 * number + 3)
                )
    return folder


def write_probe(folder, labels, per_class=2):
    path = folder / f"probe_{per_class * len(NAMES)}" / webvision_mini.PROBE_FILE
    path.parent.mkdir()
    with tf.io.TFRecordWriter(str(path)) as writer:
        for label in labels:
            features = {
                "image/encoded": tf.train.Feature(
                    bytes_list=tf.train.BytesList(value=[jpeg(200 + label)])
                ),
                "image/label": tf.train.Feature(int64_list=tf.train.Int64List(value=[label])),
            }
            writer.write(
                tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()
            )


def make_imagenet(root):
    folder = root / "ILSVRC2012"
    (folder / "ILSVRC2012_img_val").mkdir(parents=True)
    lines = []
    for number, label in enumerate([2, 0, 999, 1]):
        (folder / "ILSVRC2012_img_val" / f"{number}.JPEG").write_bytes(jpeg(label % 256))
        lines.append(f"{number}.JPEG {label} n0")
    (folder / "ILSVRC2012_val_label.txt").write_text("\n".join(lines) + "\n")


def task_of(root, name="webvisionmini_2", **options):
    return load(name, **{"data_dir": root, "probe_ratio": 0.02, "seed": 7, **options})


@pytest.mark.parametrize("place", ["tensorflow_datasets", ".", "some/where"])
def test_the_folder_is_found_at_or_below_the_data_folder(tmp_path, place):
    folder = make_folder(tmp_path / place)
    assert webvision_mini.find(tmp_path) == folder
    assert webvision_mini.find(folder) == folder


def test_train_and_validation_images(tmp_path, capsys):
    make_folder(tmp_path)
    task = task_of(tmp_path, probe_ratio=0)
    assert (task.num_classes, task.class_names, task.probe, task.second_evaluation) == (
        3,
        NAMES,
        None,
        None,
    )
    np.testing.assert_array_equal(task.train.labels, np.repeat([0, 1, 2], 5))
    np.testing.assert_array_equal(task.evaluation.labels, np.repeat([0, 1, 2], 2))
    assert task.train.gold is None
    assert task.noise.clean_labels is None
    assert "has 3 classes, WebVision mini has 50" in capsys.readouterr().out
    images, labels = next(iter(evaluation_batches(task.evaluation, 6)))
    levels = (images.numpy()[:, 100, 100, 0] + 1) * 127.5
    np.testing.assert_allclose(levels, [3, 8, 53, 58, 103, 108], atol=2)
    np.testing.assert_array_equal(labels, task.evaluation.labels)


def test_numbered_classes_come_in_the_order_of_the_numbers(tmp_path):
    make_folder(tmp_path, ("10", "9", "100"))
    assert task_of(tmp_path).class_names == ("9", "10", "100")


@pytest.mark.training  # compiles 25 sub-policies
def test_the_authors_probe_file_leaves_the_training_images_alone(tmp_path):
    folder = make_folder(tmp_path)
    write_probe(folder, [0, 1, 2, 0, 1, 2])
    task = task_of(tmp_path)
    assert len(task.train.labels) == 15
    np.testing.assert_array_equal(task.probe.labels, [0, 1, 2, 0, 1, 2])
    element = next(
        iter(train_stream(task, batch_size=4, seed=0, first_step=0, strong="autoaug", probe=True))
    )
    assert (
        element["images"].shape
        == element["strong"].shape
        == element["probe_images"].shape
        == (4, 224, 224, 3)
    )
    levels = (element["probe_images"].numpy()[:, 100, 100, 0] + 1) * 127.5
    np.testing.assert_allclose(levels, [200, 201, 202, 200], atol=2)


def test_without_the_probe_file_training_images_are_held_out_with_a_note(tmp_path, capsys):
    make_folder(tmp_path)
    one, two, other = task_of(tmp_path), task_of(tmp_path), task_of(tmp_path, seed=8)
    assert "2 training images of each class instead" in capsys.readouterr().out
    np.testing.assert_array_equal(one.probe.labels, [0, 1, 2, 0, 1, 2])
    np.testing.assert_array_equal(np.bincount(one.train.labels), [3, 3, 3])
    np.testing.assert_array_equal(one.noise.indices, two.noise.indices)
    assert not np.array_equal(one.noise.indices, other.noise.indices)


def test_a_probe_of_everything_is_refused(tmp_path):
    make_folder(tmp_path)
    with pytest.raises(DatasetError, match="choose webvisionmini_4 or"):
        task_of(tmp_path, "webvisionmini_5")
    assert len(task_of(tmp_path, "webvisionmini_4").train.labels) == 3


@pytest.mark.parametrize("labels", [[], [0, 3], [-1]])
def test_a_probe_file_with_other_labels_is_refused(tmp_path, labels):
    write_probe(make_folder(tmp_path), labels)
    with pytest.raises(DatasetError, match="expected labels from 0 to 2"):
        task_of(tmp_path)


def test_a_damaged_probe_file_is_refused(tmp_path):
    folder = make_folder(tmp_path)
    write_probe(folder, [0, 1])
    path = folder / "probe_6" / webvision_mini.PROBE_FILE
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(DatasetError, match="damaged"):
        task_of(tmp_path)


def test_imagenets_images_of_the_same_classes(tmp_path):
    make_folder(tmp_path)
    make_imagenet(tmp_path)
    task = task_of(tmp_path, use_imagenet_as_eval=True)
    np.testing.assert_array_equal(task.second_evaluation.labels, [2, 0, 1])
    images, _ = next(iter(evaluation_batches(task.second_evaluation, 3)))
    np.testing.assert_allclose((images.numpy()[:, 9, 9, 0] + 1) * 127.5, [2, 0, 1], atol=1.5)


def test_limits(tmp_path):
    make_folder(tmp_path)
    make_imagenet(tmp_path)
    task = task_of(tmp_path, probe_ratio=0, limit_train=6, limit_test=2, use_imagenet_as_eval=True)
    assert set(task.train.labels) == {0, 1, 2}
    assert [len(s.labels) for s in (task.train, task.evaluation, task.second_evaluation)] == [
        6,
        2,
        2,
    ]
    assert len(task.noise.noisy_labels) == 6


def test_missing_data_say_what_was_looked_for_and_how_to_get_it(tmp_path):
    (tmp_path / webvision_mini.FOLDER / "train").mkdir(parents=True)
    with pytest.raises(DatasetError) as caught:
        task_of(tmp_path)
    for text in (
        webvision_mini.ZIP,
        str(tmp_path / "tensorflow_datasets"),
        "lacks val",
        "--dataset_dir",
        "probe_500",
    ):
        assert text in str(caught.value)


def test_missing_imagenet_says_that_tfds_folders_are_not_read(tmp_path):
    make_folder(tmp_path)
    (tmp_path / "imagenet2012").mkdir()
    with pytest.raises(
        DatasetError, match=r"(?s)\(imagenet2012\) are not read.*ILSVRC2012_img_val\.tar"
    ):
        task_of(tmp_path, use_imagenet_as_eval=True)


def test_classes_without_images_and_unknown_classes_are_refused(tmp_path):
    folder = make_folder(tmp_path)
    (folder / "val" / "n09").mkdir()
    with pytest.raises(DatasetError, match="n09"):
        task_of(tmp_path)
    (folder / "val" / "n09").rmdir()
    (folder / "train" / "n08").mkdir()
    with pytest.raises(DatasetError, match="n08 has no images"):
        task_of(tmp_path)

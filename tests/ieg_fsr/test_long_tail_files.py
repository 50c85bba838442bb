"""The published files of long-tailed CIFAR, made up here: record format, places, damage."""

import numpy as np
import pytest
import tensorflow as tf

from ieg.input.long_tail_files import folder_name, read
from ieg.input.tasks import load
from shared.datasets.image_data import DatasetError

LABELS = [0, 0, 0, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8, 9]


def images(count, seed):
    return np.random.default_rng(seed).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)


def write(path, pixels, labels):
    """As the generator of the published files: channels first, raw bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for image, label in zip(pixels, labels):
            writer.write(record(image.transpose(2, 0, 1).tobytes(), int(label)))


def record(content, label):
    features = {
        "image": tf.train.Feature(bytes_list=tf.train.BytesList(value=[content])),
        "label": tf.train.Feature(int64_list=tf.train.Int64List(value=[label])),
    }
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()


@pytest.fixture
def published(tmp_path):
    """A data folder with a tail; the test set is in the folder without a tail, as published."""
    write(tmp_path / "imbalance/cifar-10-data-im-0.02/train.tfrecords", images(14, 0), LABELS)
    write(tmp_path / "imbalance/cifar-10-data/train.tfrecords", images(20, 1), range(10))
    write(tmp_path / "imbalance/cifar-10-data/eval.tfrecords", images(5, 2), range(5))
    return tmp_path


def test_folder_names():
    assert folder_name("cifar10", 0.005) == "cifar-10-data-im-0.005"
    assert folder_name("cifar100", 0.1) == "cifar-100-data-im-0.1"
    assert folder_name("cifar100", 1.0) == "cifar-100-data"


def test_records_come_back_in_the_order_of_the_file(published):
    pixels, labels = read(published / "imbalance/cifar-10-data-im-0.02/train.tfrecords", 10)
    np.testing.assert_array_equal(pixels, images(14, 0))
    np.testing.assert_array_equal(labels, LABELS)
    assert (pixels.dtype, labels.dtype) == (np.uint8, np.int64)


def test_a_run_reads_the_tail_and_the_test_set_of_the_folder_without_one(published, capsys):
    task = load("cifar10_imbal_0.02", data_dir=published, probe_ratio=0, seed=1)
    assert capsys.readouterr().out == ""
    assert sorted(task.train.labels) == sorted(LABELS)
    np.testing.assert_array_equal(
        task.train.pixels(np.arange(14)), images(14, 0)[task.noise.indices]
    )
    assert sorted(task.evaluation.labels) == [0, 1, 2, 3, 4]
    assert task.class_names[0] == "airplane"
    assert task.noise.header.dataset == "cifar10_imbal_0.02"


def test_noise_on_the_tail_keeps_the_true_labels(published):
    task = load("cifar10_imbal_0.02_1", data_dir=published, probe_ratio=0, seed=1)
    np.testing.assert_array_equal(task.train.gold, np.array(LABELS)[task.noise.indices])
    assert (task.train.labels != task.train.gold).any()


def test_a_test_set_beside_the_tail_comes_first(published):
    write(published / "imbalance/cifar-10-data-im-0.02/eval.tfrecords", images(2, 3), [7, 7])
    task = load("cifar10_imbal_0.02", data_dir=published, probe_ratio=0, seed=1)
    np.testing.assert_array_equal(task.evaluation.labels, [7, 7])


def test_without_any_test_set_the_error_says_where_it_was_looked_for(published):
    (published / "imbalance/cifar-10-data/eval.tfrecords").unlink()
    with pytest.raises(DatasetError, match=r"cifar-10-data/eval\.tfrecords are missing"):
        load("cifar10_imbal_0.02", data_dir=published, probe_ratio=0, seed=1)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-3]), "not a file of"),
        (lambda path: path.write_bytes(b""), "no records"),
        (lambda path: path.write_bytes(b"<html>not found</html>"), "not a file of"),
        (lambda path: write(path, [np.zeros((32, 31, 3), np.uint8)], [0]), "2976 bytes"),
        (lambda path: write(path, images(1, 0), [10]), "expected 0 to 9"),
        (lambda path: write(path, images(1, 0), [-1]), "expected 0 to 9"),
    ],
)
def test_damaged_files_are_refused(published, damage, message):
    path = published / "imbalance/cifar-10-data-im-0.02/train.tfrecords"
    damage(path)
    with pytest.raises(DatasetError, match=message):
        read(path, 10)

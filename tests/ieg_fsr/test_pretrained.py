"""ImageNet weights: the network that they are for, number by number, and the file they are in."""

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import rows
from keras.src.legacy.saving import legacy_h5_format
from PIL import Image

from ieg import networks
from ieg.networks import pretrained
from ieg.run import config
from shared.datasets import download
from shared.datasets.download import DownloadError

FLAGS = ["--dataset=folder", "--dataset_dir=mine", "--method=supervised", "--output_dir=run"]


@pytest.fixture(scope="module")
def keras_network():
    """Keras' network with weights of which none is 0 or 1."""
    network = keras.applications.ResNet50(include_top=False, weights=None)
    rng = np.random.default_rng(0)
    for layer in network.layers:
        found = layer.get_weights()
        if len(found) == 2:  # a convolution
            found[1] = rng.normal(0, 5 if layer.name == "conv1_conv" else 0.1, found[1].shape)
        elif found:
            found = [rng.uniform(0.5, 1, found[0].shape), rng.normal(0, 0.1, found[1].shape)]
            found += [rng.normal(0, 0.1, found[0].shape), rng.uniform(0.5, 1, found[0].shape)]
        layer.set_weights(found)
    return network


@pytest.fixture(scope="module")
def file(keras_network, tmp_path_factory):
    """Its weights, in a file like the published one."""
    path = tmp_path_factory.mktemp("weights") / pretrained.FILE
    with h5py.File(path, "w") as opened:
        legacy_h5_format.save_weights_to_hdf5_group(opened, keras_network)
    return path


@pytest.mark.training  # builds a large network
def test_the_features_are_those_of_keras(keras_network, file):
    model = networks.build("resnet50v1", 3, image_shape=(224, 224, 3), seed=1)
    classifier = [v.numpy() for v in model.trainable_variables[-2:]]
    networks.load_imagenet(model, file)
    pixels = np.random.default_rng(1).integers(0, 256, (2, 224, 224, 3)).astype(np.float32)
    features, _ = model(tf.constant(pixels / 127.5 - 1), training=False)
    theirs = keras_network(keras.applications.resnet50.preprocess_input(pixels.copy()))
    expected = tf.reduce_mean(theirs, axis=[1, 2]).numpy()
    assert expected.std() > 0.1
    np.testing.assert_allclose(features, expected, rtol=1e-3, atol=1e-3 * expected.std())
    for before, after in zip(classifier, model.trainable_variables[-2:]):
        np.testing.assert_array_equal(before, after)


@pytest.mark.training
def test_a_run_starts_from_the_file_and_is_evaluated_without(
    main, file, tmp_path, monkeypatch, capsys
):
    for number in range(4):
        place = tmp_path / "mine" / "ab"[number % 2]
        place.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 256, (50, 60, 3), np.uint8)
        Image.fromarray(pixels).save(place / f"{number}.png")
    (tmp_path / "data" / "pretrained").mkdir(parents=True)
    (tmp_path / "data" / "pretrained" / pretrained.FILE).symlink_to(file)
    monkeypatch.setenv("DATA_ROOT", str(tmp_path / "data"))
    flags = [*FLAGS, "--network_name=resnet50v1", "--batch_size=2", "--max_iteration=1"]
    flags += ["--probe_dataset_hold_ratio=0", "--val_fraction=0.5"]
    assert main(*flags, "--pretrained=imagenet") == 2
    assert "is not the file of https://storage.googleapis.com" in capsys.readouterr().err
    monkeypatch.setattr(pretrained, "MD5", None)
    assert main(*flags, "--pretrained=imagenet") == 0
    assert f"starts from the ImageNet weights {tmp_path}" in capsys.readouterr().out
    assert len(rows(tmp_path / "run")) == 1
    monkeypatch.setenv("DATA_ROOT", str(tmp_path))
    assert main(*flags, "--mode=evaluation") == 0
    assert "Evaluation (val)" in capsys.readouterr().out


def test_the_file_is_not_looked_for_among_the_pictures(main, monkeypatch, tmp_path, capsys):
    wanted = []

    def fetch(url, target, **_):
        wanted.append(target)
        raise DownloadError(f"could not get {url}")

    monkeypatch.setenv("DATA_ROOT", str(tmp_path / "data"))
    monkeypatch.setattr(download, "fetch", fetch)
    assert main(*FLAGS, "--network_name=resnet50v1", "--pretrained=imagenet") == 2
    assert capsys.readouterr().err == f"error: could not get {pretrained.URL}\n"
    assert wanted == [tmp_path / "data" / "pretrained" / pretrained.FILE]


@pytest.mark.parametrize("network", ["resnet50", "wrn28-10"])
def test_no_weights_fit_the_published_networks(capsys, network):
    with pytest.raises(SystemExit, match="2"):
        config.parse([f"--network_name={network}", "--pretrained=imagenet"])
    said = capsys.readouterr().err
    assert f"no published weights fit {network}; give --network_name=resnet50v1" in said
    with pytest.raises(SystemExit, match="2"):
        config.parse(["--network_name=resnet50v1"])
    assert "add --pretrained=imagenet" in capsys.readouterr().err
    assert config.parse(["--network_name=resnet50v1", "--pretrained=imagenet"]).pretrained

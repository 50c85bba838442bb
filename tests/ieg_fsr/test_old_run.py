"""A run of the version before the folders method/ and run/ resumes under this one.

data/old_run holds a run of seven steps of every method, on a network of one convolution, and the
metrics that the old version reached when it went on to twelve.
"""

import json
import shutil
from pathlib import Path

import keras
import pytest
from conftest import METHODS, rows

from ieg import networks
from ieg.networks.layers import Builder

pytestmark = pytest.mark.training
OLD_RUN = Path(__file__).with_name("data") / "old_run"


def one_convolution(name, num_classes, *, image_shape, relu_in_bottleneck, seed):
    images = keras.Input(image_shape)
    make = Builder(seed, lambda size, filters, seed: keras.initializers.GlorotNormal(seed))
    x = make.norm_relu(make.conv(images, 4, 3, 4))
    return make.model(name, images, x, num_classes, keras.initializers.GlorotUniform)


@pytest.mark.parametrize("method", METHODS)
def test_a_run_of_the_version_before_resumes_and_ends_as_it_would_have(
    main, tmp_path, monkeypatch, capsys, method
):
    monkeypatch.setattr(networks, "build", one_convolution)
    folder = Path(shutil.copytree(OLD_RUN / method, tmp_path / "run"))
    config = ["--config", folder / "config.yaml", f"--output_dir={folder}"]
    assert main(*config, "--max_iteration=12") == 0
    said = capsys.readouterr().out
    assert "resumed: iteration 7 of 12 is done" in said
    assert ("label_quality is the self-confidence" in said) == (method in ("l2r", "ieg"))
    assert (folder / "label_quality.csv").exists()
    expected = (folder / "expected.jsonl").read_text().splitlines()
    for row, line in zip(rows(folder), expected, strict=True):
        assert {**json.loads(line), **row} == pytest.approx(json.loads(line), rel=1e-4)

"""Nothing inside an epoch waits for the device: the loop over steps runs where waiting fails."""

import pytest
import tiny
import torch

from lra_diffusion.method import classifier, train
from lra_diffusion.method.train import train_epoch
from lra_diffusion.run.config import parse
from lra_diffusion.run.experiment import Prepared, prepare
from tests.no_waiting import NothingWaits, Waited


@pytest.fixture(autouse=True)
def _unwatched(tmp_path, monkeypatch):
    """The loops without the look at the loss that a minute allows, and where nothing may wait."""

    def unwaiting(batches, *_, **__):
        with NothingWaits():
            yield from batches

    monkeypatch.setattr(train, "watched", unwaiting)
    monkeypatch.setattr(classifier, "watched", unwaiting)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DATA_ROOT", str(tmp_path / "data"))


def prepared(*flags: str) -> Prepared:
    config = parse("train_CIFAR", [*flags, *tiny.SMALL, "--amp", "off"])
    return prepare(config, torch.device("cpu"))


@pytest.mark.training
@pytest.mark.parametrize("flags", [["--fp_queries", "cached", "--freeze_encoder"], []])
def test_an_epoch_of_lra_diffusion(tmp_path, flags):
    """With queries that are searched once, and in every step among augmented images."""
    noise = ["--dataset", "digits", "--noise_file", str(tiny.noisy_digits(tmp_path))]
    tiny.simclr_weights(tmp_path)
    run = prepared(*noise, *flags)
    row = train_epoch(run.learner, run.train_set, torch.arange(60), run.config, 1)
    assert row["images"] == 60
    assert row["drawn_labels_right"] is not None


@pytest.mark.training
def test_an_epoch_of_augmented_images_and_one_of_cross_entropy(tmp_path):
    run = prepared(*tiny.augmented(tmp_path))
    assert train_epoch(run.learner, run.train_set, torch.arange(53), run.config, 1)["images"] == 53
    learner = classifier.build("resnet18", 4, 2, torch.device("cpu"), 1)
    train_set = classifier.LabelledImages(run.data.train.images, run.data.train.labels)
    settings = classifier.Settings(25, 1, classifier.cosine(0.1, 1), 1, run.learner.autocast)
    recorded = torch.zeros(53, 2)
    classifier.train_epoch(learner, train_set, settings, 1, recorded)
    assert (recorded.sum(dim=1) - 1).abs().max() < 1e-5


def test_a_look_at_a_value_is_found(tmp_path):
    run = prepared(*tiny.augmented(tmp_path))
    guide = run.train_set.guide
    nosy = run.train_set._replace(guide=lambda index, images: guide(index[index > 0], images))
    with pytest.raises(Waited):
        train_epoch(run.learner, nosy, torch.arange(53), run.config, 1)

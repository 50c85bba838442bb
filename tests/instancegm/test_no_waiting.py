"""Within an epoch nothing waits for the device."""

import numpy as np
import pytest
import torch

from instancegm.method import train
from instancegm.method.images import DeviceImages
from instancegm.method.mixture import Split
from instancegm.method.peers import TrainingSet, build_peer, predict
from instancegm.method.settings import Settings
from tests.no_waiting import NothingWaits, Waited

CPU = torch.device("cpu")
SETTINGS = Settings(batch_size=4, width=2, z_dim=3, seed=1, confidence_penalty=True)
IMAGES = np.random.default_rng(0).integers(0, 256, (14, 32, 32, 3), dtype=np.uint8)
TRAIN_SET = TrainingSet(DeviceImages(IMAGES, CPU), torch.arange(14) % 3, 3)


@pytest.fixture
def peers(monkeypatch):
    """Two networks; what is looked at when an epoch is over is left out."""
    monkeypatch.setattr(train, "mean_losses", lambda terms, names, where: terms)
    return [build_peer(SETTINGS, number, 3, CPU) for number in (1, 2)]


def test_the_guard_sees_who_waits():
    with NothingWaits(), pytest.raises(Waited):
        torch.ones(3).sum().item()


def test_warm_up_does_not_wait(peers):
    with NothingWaits():
        terms = train.warm_up_epoch(peers[0], np.arange(14), TRAIN_SET, SETTINGS, 0)
    assert terms.isfinite().all()


@pytest.mark.parametrize("labelled", [9, 14])
def test_co_divide_does_not_wait(peers, labelled):
    split = Split(np.arange(labelled), np.arange(labelled, 14), np.full(labelled, 0.8))
    with NothingWaits():
        terms = train.co_divide_epoch(*peers, split, np.arange(14), TRAIN_SET, SETTINGS, 11)
    assert terms.isfinite().all()


def test_predicting_waits_for_nothing_but_a_look_at_the_end(peers, monkeypatch):
    monkeypatch.setattr(torch.Tensor, "all", lambda self: True)  # are they finite?
    with NothingWaits():
        assert predict([peers[0].net], TRAIN_SET.images, peers[0].autocast).shape == (1, 14, 3)

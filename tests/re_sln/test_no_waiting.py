"""Nothing inside an epoch waits for the device: neither steps, nor label correction, nor tests."""

import pytest
import torch
from conftest import TINY

from re_sln.method import progress
from re_sln.method.train import correct_labels, evaluate, steps
from re_sln.run.config import parse
from re_sln.run.experiment import prepare
from tests.no_waiting import NothingWaits, Waited

EPOCH = 3


@pytest.fixture
def run(monkeypatch):
    # The loss of a sign of life is read once a minute.
    monkeypatch.setattr(progress._clock, "is_due", lambda: False)
    return prepare(parse("train_cifar", [*TINY, "--method", "sln_mo_lc", "--lc_n_epoch", "2"]))


@pytest.fixture
def samples(run):
    return torch.arange(len(run.data.train_set.noisy))


@pytest.mark.parametrize("corrected", [False, True])
def test_the_steps_of_an_epoch(run, samples, corrected):
    sigma = 0.0 if corrected else 0.5
    if corrected:
        run.learner.targets = run.data.train_set.noisy.flip(0)
    with NothingWaits():
        steps(run.learner, run.data.train_set, samples, sigma, run.settings, EPOCH)


def test_label_correction(run, samples):
    with NothingWaits():
        correct_labels(run.learner, run.data.train_set, samples, run.settings, EPOCH)


def test_the_test(run):
    with NothingWaits():
        evaluate(run.learner.net, run.data.test_sets["test"], run.settings, EPOCH)


def test_a_step_that_reads_its_loss_is_found(run, samples, monkeypatch):
    read = lambda logits, targets: logits.sum(dim=1) * logits.sum().item()  # noqa: E731
    monkeypatch.setattr("re_sln.method.train.soft_cross_entropy", read)
    with pytest.raises(Waited), NothingWaits():
        steps(run.learner, run.data.train_set, samples, 0.5, run.settings, EPOCH)

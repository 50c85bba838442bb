"""k nearest neighbours against a slow reference, and KNN_test.py as it is called."""

import math
import re

import numpy as np
import pytest
import torch

from lra_diffusion import KNN_test
from lra_diffusion.analysis.feature_space import measure
from lra_diffusion.encoders.networks import SimCLRNet
from lra_diffusion.method.retrieval import knn_accuracy, knn_predictions, weighted_votes
from lra_diffusion.run.tool_config import parse_knn


def slow_prediction(bank, labels, query, k, num_classes):
    distances = [math.dist(row, query) for row in bank]
    votes = [0.0] * num_classes
    for row in sorted(range(len(bank)), key=distances.__getitem__)[:k]:
        votes[labels[row]] += math.exp(-distances[row] / 0.5)
    return votes.index(max(votes))


@pytest.mark.parametrize(("k", "classes"), [(1, 2), (5, 3), (40, 10)])
def test_predictions_are_the_weighted_vote(k, classes):
    generator = torch.Generator().manual_seed(k)
    bank, queries = (torch.randn(count, 4, generator=generator) for count in (40, 15))
    labels = torch.randint(0, classes, (40,), generator=generator)
    expected = [
        slow_prediction(bank.tolist(), labels.tolist(), query, k, classes)
        for query in queries.tolist()
    ]
    assert knn_predictions(bank, labels, queries, k, classes).tolist() == expected


def test_near_neighbours_outvote_farther_ones_of_the_same_number():
    votes = weighted_votes(torch.tensor([[0.1, 0.2, 0.9, 1.0]]), torch.tensor([[1, 1, 0, 0]]), 2)
    assert votes.argmax() == 1
    expected = [math.exp(-1.6) + math.exp(-1.8), 1 + math.exp(-0.2)]
    assert votes[0].tolist() == pytest.approx(expected)


def test_features_far_apart_do_not_underflow():
    bank = torch.tensor([[0.0], [500.0], [1000.0]])
    assert knn_predictions(bank, torch.tensor([0, 1, 1]), torch.tensor([[200.0]]), 3, 2).item() == 0


def test_accuracy_is_in_percent_and_k_may_exceed_the_bank():
    bank, labels = torch.tensor([[0.0], [1.0]]), torch.tensor([0, 1])
    queries = torch.tensor([[0.1], [0.9], [0.8], [0.2]])
    assert knn_accuracy(bank, labels, queries, torch.tensor([0, 1, 0, 0]), k=10) == 75.0


@pytest.fixture
def weights(tmp_path):
    torch.manual_seed(0)
    torch.save(SimCLRNet("resnet18", 4, 8).state_dict(), tmp_path / "SimCLR_128_digits.pt")
    return tmp_path


@pytest.mark.training  # a process of its own, which is slow
def test_the_script_prints_the_originals_line(weights, run_script):
    done = run_script(
        "KNN_test.py",
        "--data",
        "digits",
        "--fp_weights",
        str(weights),
        "--limit_train",
        "200",
        "--limit_test",
        "50",
        "--device",
        "cpu",
        "--num_workers",
        "4",
    )
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(
        r"KNN accuracy: \d+\.\d\d, feature space: SimCLR", done.stdout.splitlines()[-1]
    )


@pytest.mark.training  # slow
def test_batches_change_nothing_and_bad_flags_are_one_message(weights, capsys):
    flags = [
        "--data",
        "digits",
        "--fp_weights",
        str(weights),
        "--limit_train",
        "90",
        "--limit_test",
        "30",
        "--amp",
        "off",
    ]
    lines = []
    for size in ("100", "7"):
        assert KNN_test.main([*flags, "--batch_size", size]) == 0
        lines.append(capsys.readouterr().out.splitlines()[-1])
    assert lines[0] == lines[1]
    assert KNN_test.main([*flags, "--k", "91"]) == 2
    assert "--k 91: there are 90 training images" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        KNN_test.main([*flags, "--k", "0"])
    assert KNN_test.main(["--data", "digits", "--fp_weights", str(weights / "none.pt")]) == 2
    assert "train_SimCLR.py --dataset digits" in capsys.readouterr().err


def test_untrained_features_of_digits_are_better_than_chance(weights):
    flags = [
        "--data",
        "digits",
        "--fp_weights",
        str(weights),
        "--limit_train",
        "300",
        "--limit_test",
        "60",
    ]
    accuracy = measure(parse_knn(flags))
    assert accuracy > 30
    assert np.isfinite(accuracy)

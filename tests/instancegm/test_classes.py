"""Small classes: warned about at the start, named at the end if nothing is left of them."""

import numpy as np
import pytest
from conftest import TINY

from instancegm.run.classes import few_samples, vanished
from shared.formats import noise_file

PETS = ("cat", "dog")
LABELS = np.array([0] * 40 + [1] * 3)


def test_a_class_that_cannot_fill_its_share_of_a_batch_is_named_with_the_fix():
    message = few_samples(LABELS, PETS, 64)
    assert "few training samples: 'dog' (3). A balanced batch of 64 holds 32" in message
    assert "--batch_size 6 or less" in message
    assert few_samples(LABELS, PETS, 6) is None


def test_a_class_without_a_sample_is_named_and_no_batch_size_helps():
    message = few_samples(LABELS, (*PETS, "cow\x1b[31m"), 3)
    assert r"'cow\x1b[31m' (0)" in message
    assert "--batch_size" not in message


def test_usual_datasets_give_no_warning():
    assert few_samples(np.arange(50_000) % 100, [str(k) for k in range(100)], 64) is None
    assert few_samples(np.arange(1442) % 10, [str(k) for k in range(10)], 64) is None


def test_many_small_classes_are_counted():
    message = few_samples(np.arange(30), [str(k) for k in range(30)], 64)
    assert "'9' (1), and 20 more" in message


def test_a_class_that_vanished_is_named():
    message = vanished(LABELS, np.zeros(43, int), PETS)
    assert "has lost: 'dog' (3), all judged noisy" in message
    assert vanished(LABELS, LABELS, PETS) is None
    assert vanished(np.zeros(3, int), np.zeros(3, int), PETS) is None


@pytest.mark.training
def test_a_run_on_40_cats_and_3_dogs_warns_at_the_start_and_at_the_end(main, tmp_path, capsys):
    rng = np.random.default_rng(0)
    shape = (43, 32, 32, 3)
    images = np.where(LABELS[:, None, None, None], 200, 60) + rng.integers(0, 50, shape)
    np.savez(
        tmp_path / "pets.npz",
        train_images=images.astype(np.uint8),
        train_labels=LABELS,
        test_images=images[-9:].astype(np.uint8),
        test_labels=LABELS[-9:],
    )
    flags = [*TINY[8:], "--dataset", "folder", "--data_path", "pets.npz", "--no-vae", "--no-plots"]
    flags += ["--amp", "off", "--width", "1"]
    assert main(*flags, "--num_epochs 2 --output_dir run --seed 1") == 0
    output = capsys.readouterr().out
    assert "warning: few training samples: '1' (3)" in output
    corrected = noise_file.read(tmp_path / "run" / "corrected_labels.npz").noisy_labels
    assert ("has lost: '1' (3)" in output) == (1 not in corrected)

"""Signs of life, and images on disk that cannot be read."""

import io
import json

import numpy as np
import pytest
import torch
from conftest import TINY
from PIL import Image

from re_sln.method import progress
from re_sln.method.disk_images import plain_rgb
from re_sln.run import broken_images
from re_sln.run.broken_images import whole_images
from re_sln.run.config import parse
from re_sln.run.data import load_data
from shared.datasets.image_data import DatasetError


@pytest.fixture
def clock(monkeypatch):
    """A clock that a test sets; nothing was said yet."""
    time = [100.0]
    monkeypatch.setattr(progress, "_clock", progress._Clock())
    monkeypatch.setattr(progress.time, "monotonic", lambda: time[0])
    return time


def consume(clock, seconds, count=8, what="epoch 3"):
    losses = []
    for step in progress.watched(range(count), what, count, 10 * count, lambda: losses[-1]):
        losses.append(torch.tensor(float(step)))
        clock[0] += seconds


def test_without_a_terminal_a_line_at_start_and_then_every_minute(clock, capsys):
    consume(clock, 20)
    assert capsys.readouterr().err.splitlines() == [
        "epoch 3: 8 steps, 80 images",
        "epoch 3: step 3 of 8, loss 2, 0 images/s",  # half an image each second
        "epoch 3: step 6 of 8, loss 5, 0 images/s",
    ]
    consume(clock, 1, what="epoch 4")
    assert capsys.readouterr().err == ""


def test_the_loss_is_read_once_a_minute_at_most(clock, monkeypatch):
    read = []
    monkeypatch.setattr(progress, "_say", lambda text: None)

    def loss():
        read.append(clock[0])
        return torch.zeros(())

    for _ in progress.watched(range(100), "epoch 1", 100, 100, loss):
        clock[0] += 1
    assert read == [160.0]


def test_on_a_terminal_a_bar_that_goes_away(clock, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    screen = Terminal()
    monkeypatch.setattr(progress.sys, "stderr", screen)
    consume(clock, 20)
    assert "epoch 3:" in screen.getvalue()
    assert "0/8" in screen.getvalue()
    assert "loss=" in screen.getvalue()
    assert screen.getvalue().endswith("\r")
    assert "\n" not in screen.getvalue()


@pytest.mark.training
def test_training_correction_and_test_show_signs_of_life(main, capsys, monkeypatch):
    monkeypatch.setattr(progress, "SECONDS", 0.0)
    monkeypatch.setattr(progress, "_clock", progress._Clock())
    flags = ["--method", "sln_mo_lc", "--n_epochs", 2, "--output_dir", "run"]
    assert main(*TINY, *flags) == 0
    said = capsys.readouterr()
    assert "epoch 1: step 1 of 3, loss " in said.err
    assert "epoch 2: step 3 of 3, loss " in said.err
    assert "epoch 1, label correction: step 1 of 1, " in said.err
    assert "epoch 2, test: step 1 of 1, " in said.err
    assert "step" not in said.out


# ---- broken images


@pytest.fixture
def clothing(tmp_path):
    """Clothing1M with 14 images in each split, of which two cannot be read."""
    root = tmp_path / "clothing1M"
    (root / "annotations").mkdir(parents=True)
    pixels = np.zeros((300, 260, 3), np.uint8)
    for split, kind in (("noisy_train", "noisy"), ("clean_val", "clean"), ("clean_test", "clean")):
        names = [f"images/{split}/{i}.jpg" for i in range(28)]
        (root / "images" / split).mkdir(parents=True)
        for name in names:
            Image.fromarray(pixels).save(root / name)
        (root / "annotations" / f"{split}_key_list.txt").write_text("\n".join(names) + "\n")
        with open(root / "annotations" / f"{kind}_label_kv.txt", "a") as file:
            file.writelines(f"{name} {i % 14}\n" for i, name in enumerate(names))
    torn = root / "images/noisy_train/3.jpg"
    torn.write_bytes(torn.read_bytes()[:400])
    (root / "images/clean_val/5.jpg").write_text("<html>not found</html>")
    return root


def data_of(root, *flags):
    words = ["--dataset_name", "clothing1m", "--method", "ce", "--num_workers", "0"]
    config = parse("train_real", [*words, "--data_path", str(root), *flags])
    return load_data(config, torch.device("cpu"), None)


def test_broken_images_are_named_counted_and_left_out(clothing, capsys):
    data = data_of(clothing, "--skip_broken")
    said = capsys.readouterr().out
    assert "1 of 28 images cannot be read and are left out: images/noisy_train/3.jpg" in said
    assert "1 of 28 images cannot be read and are left out: images/clean_val/5.jpg" in said
    assert len(data.train_set.images) == len(data.train_set.noisy) == 27
    assert len(data.test_sets["val"].labels) == 27
    assert data.train_set.noisy.argmax(dim=1).tolist() == [i % 14 for i in range(28) if i != 3]
    for images in (data.train_set.images, data.test_sets["val"].images):
        assert sum(len(batch) for batch in images.plain([torch.arange(27)])) == 27


def test_without_the_flag_they_are_refused_by_name(clothing):
    data = data_of(clothing)
    with pytest.raises(DatasetError, match=r"noisy_train/3\.jpg cannot be read .*--skip_broken"):
        list(data.train_set.images.plain([torch.arange(28)]))


def test_what_was_checked_is_not_read_again_and_a_repaired_image_counts(
    clothing, monkeypatch, capsys
):
    monkeypatch.setattr(broken_images, "SHARD", 10)
    names = [f"images/noisy_train/{i}.jpg" for i in range(28)]
    real, read = broken_images.readable, []

    def interrupted(paths, workers, opened):
        read.append(len(paths))
        if len(read) == 3:
            raise KeyboardInterrupt
        return real(paths, workers, opened)

    monkeypatch.setattr(broken_images, "readable", interrupted)
    with pytest.raises(KeyboardInterrupt):
        whole_images(clothing, names, 0, plain_rgb)
    assert whole_images(clothing, names, 0, plain_rgb).tolist() == [i for i in range(28) if i != 3]
    assert read == [10, 10, 8, 1, 8]  # the broken one and the shard that the kill lost
    good = (clothing / names[0]).read_bytes()
    (clothing / names[3]).write_bytes(good)
    assert len(whole_images(clothing, names, 0, plain_rgb)) == 28
    known = json.loads((clothing / broken_images.KNOWN).read_text())
    assert set(map(tuple, known.values())) == {()}

"""viz.py: which images are shown, their titles, the picture's name, and what is refused."""

import io

import numpy as np
import pytest
from old_runs import train_tiny
from PIL import Image

from re_sln import viz
from re_sln.analysis import panels
from re_sln.analysis import sample_figures as figures
from re_sln.run.config import parse
from re_sln.run.labels import noisy_training_set
from shared import datasets
from shared.datasets.image_data import ImageData
from shared.formats.noise_file import make
from shared.noise import open_set

CLASSES = ("cat", "dog", "deer")


def small_data(name="cifar10", count=60):
    images = np.random.default_rng(0).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
    labels = np.arange(count) % len(CLASSES)
    return ImageData(name, images, labels, images[:6], labels[:6], CLASSES, None)


def noise_of(data, noisy, **known):
    return make(noisy, clean_labels=data.train_labels, indices=np.arange(len(noisy)), **known)


def test_panels_are_picked_as_the_original_picks_them():
    data = small_data()
    noisy = data.train_labels.copy()
    wrong = np.array([3, 4, 17, 40, 59])
    noisy[wrong] = (noisy[wrong] + 1) % 3
    right = np.setdiff1d(np.arange(60), wrong)
    noise = noise_of(data, noisy)
    chosen = panels.choose(noise, seed=123)
    titles = panels.titles(noise, chosen, data)
    for panel in range(1, 33):
        pool = right if panel <= 16 else wrong
        row = np.random.RandomState(123 + panel).choice(pool, 1, replace=False)[0]
        assert chosen[panel - 1] == row
        true, given = CLASSES[data.train_labels[row]], CLASSES[noisy[row]]
        assert titles[panel - 1] == (f"clean:{given}" if panel <= 16 else f"dirty:{given} ({true})")


def test_a_foreign_image_keeps_its_label_and_no_noise_leaves_places_empty():
    data = small_data()
    flags = np.arange(60) < 20
    noise = noise_of(data, data.train_labels, open_set=flags)
    chosen = panels.choose(noise, seed=1)
    assert all(not flags[row] for row in chosen[:16])
    assert all(flags[row] for row in chosen[16:])
    assert (
        panels.titles(noise, chosen, data)[16]
        == f"dirty:({CLASSES[data.train_labels[chosen[16]]]})"
    )
    clean = noise_of(data, data.train_labels)
    assert panels.choose(clean, seed=1)[16:] == [None] * 16
    assert panels.titles(clean, [None], data) == [""]


def test_where_the_truth_is_unknown_all_images_are_one_pool():
    data = small_data()
    noise = make(data.train_labels, indices=np.arange(60))
    chosen = panels.choose(noise, seed=5)
    assert chosen == [
        np.random.RandomState(5 + panel).choice(60, 1, replace=False)[0] for panel in range(1, 33)
    ]
    assert panels.titles(noise, chosen, data) == [CLASSES[data.train_labels[row]] for row in chosen]


def test_the_picture_has_the_published_size():
    images = [np.zeros((32, 32, 3), np.uint8)] * 31 + [None]
    assert Image.open(io.BytesIO(figures.panels(images, ["clean:cat"] * 32))).size == (
        2400,
        800,
    )


def test_digits_from_the_command_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    drawn = []
    monkeypatch.setattr(
        figures, "panels", lambda images, titles: drawn.append((images, titles)) or b"png"
    )
    assert viz.main(["digits", "--noise_mode", "asym", "--p", "0.3", "--seed", "7"]) == 0
    assert (tmp_path / "viz/digits_asym_p_0.3_made.png").read_bytes() == b"png"
    assert "noise ratio: 0.2968" in capsys.readouterr().out
    ((images, titles),) = drawn
    train = datasets.load("digits").train_images
    assert all((train == image).all(axis=(1, 2, 3)).any() for image in images)
    assert all(
        f"({(int(given) - 1) % 10})" in title for title in titles[16:] for given in [title[6]]
    )


@pytest.mark.training
def test_labels_of_a_file(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(figures, "panels", lambda images, titles: b"png")
    noise = train_tiny("--method", "ce", "--output_dir", "run").data.noise
    assert viz.main(["digits", "--noise_file", "run/noise.npz"]) == 0
    assert (tmp_path / "viz/digits_noise.png").exists()
    assert f"noise ratio: {noise.header.measured_rate:.4f}" in capsys.readouterr().out


@pytest.fixture
def cifar(tmp_path, monkeypatch):
    """A working directory where CIFAR-10 and CIFAR-100 are 60 images each."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DATA_ROOT", str(tmp_path))
    monkeypatch.setattr(datasets, "load", lambda name, path=None: small_data(name))
    monkeypatch.setattr(open_set, "DONOR_IMAGES", 60)
    folder = tmp_path / "cifar10" / "label_noisy"
    folder.mkdir(parents=True)
    return folder


def test_published_labels_and_their_rules(cifar, monkeypatch, capsys):
    monkeypatch.setattr(figures, "panels", lambda images, titles: b"png")
    labels = small_data().train_labels
    lines = "".join(f"{label},{(label + (row < 6)) % 3}\n" for row, label in enumerate(labels))
    (cifar / "sym0.4.csv").write_text("label,label_noisy\n" + lines)
    assert viz.main(["cifar10", "--noise_mode", "sym", "--p", "0.4"]) == 0
    assert "rules" not in capsys.readouterr().out
    (cifar / "sym0.4_noise_rules.csv").write_text("src,dsts,p\ncat,['dog'],0.4\n")
    assert viz.main(["cifar10", "--noise_mode", "sym", "--p", "0.4"]) == 0
    out = capsys.readouterr().out
    assert "noise ratio: 0.1000" in out
    assert "need not follow" in out
    assert "cat,['dog'],0.4" in out
    assert (cifar.parents[1] / "viz/cifar10_sym_p_0.4_paper.png").exists()


def test_open_set_shows_the_foreign_images(cifar, monkeypatch):
    drawn = []
    monkeypatch.setattr(
        figures, "panels", lambda images, titles: drawn.append((images, titles)) or b"png"
    )
    foreign = np.full((60, 32, 32, 3), 7, np.uint8)
    monkeypatch.setattr(
        datasets,
        "load",
        lambda name, path=None: (
            small_data(name)
            if name == "cifar10"
            else ImageData(
                name,
                foreign,
                np.zeros(60, np.int64),
                foreign,
                np.zeros(60, np.int64),
                CLASSES,
                None,
            )
        ),
    )
    flags = ["--noise_mode", "openset", "--p", "0.4", "--custom_noise", "--seed", "3"]
    assert (
        viz.main(["cifar10", *flags]) == 2
    )  # it makes no noise, least of all from a seed that chooses panels
    make = ["--dataset_name", "cifar10", *flags, "--make_new_custom_noise", "--sigma", "0"]
    noisy_training_set(parse("train_cifar", make), small_data("cifar10"))
    assert viz.main(["cifar10", *flags]) == 0
    ((images, titles),) = drawn
    assert [bool((image == 7).all()) for image in images] == [False] * 16 + [True] * 16
    assert all(title.startswith("dirty:(") for title in titles[16:])


def test_what_is_missing_or_wrong_is_said(cifar, capsys):
    assert viz.main(["cifar10", "--noise_mode", "sym", "--p", "0.45"]) == 2
    assert "sym0.45.csv of cifar10 is in none of" in capsys.readouterr().err
    wrong = {
        "": "required: DATASET",
        "cifar10": "--noise_mode is missing",
        "cifar10 --noise_mode openset": "never published",
        "animal-10n --noise_mode sym": "unrecognized",
        "digits --noise_mode sym --seed -1": "--seed -1",
    }
    for flags, problem in wrong.items():
        with pytest.raises(SystemExit, match="2"):
            viz.main(flags.split())
        assert problem in capsys.readouterr().err

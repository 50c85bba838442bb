"""Which labels a run trains on: the paper's files by name, any noise file, and what is refused."""

import shlex

import numpy as np
import pytest
import torch
from tiny import cifar, own_pictures

from lra_diffusion.run.config import parse
from lra_diffusion.run.data import load
from lra_diffusion.run.labels import find_file, split, training_labels
from lra_diffusion.run.report import start_lines
from lra_diffusion.run.schema import LabelConfig
from shared.datasets.image_data import ImageData
from shared.formats.noise_file import NoiseFileError, make, write

CPU = torch.device("cpu")


def flags(**given) -> LabelConfig:
    return LabelConfig(**({"dataset": "cifar10", "width": 64} | given))


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DATA_ROOT", str(tmp_path / "data"))


def published(path, count=45_000):
    noisy = (cifar().train_labels[:count] + (np.arange(count) % 3 == 0)) % 10
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, noisy)
    return noisy


@pytest.mark.parametrize(
    "folder", ["noise_label", "data/label_noisy/lra_diffusion", "data/label_noisy/plc"]
)
def test_a_published_file_is_found_by_its_name(folder, tmp_path):
    noisy = published(tmp_path / folder / "cifar10-1-0.35.npy")
    noise = training_labels(flags(noise_type="cifar10-1-0.35"), cifar())
    np.testing.assert_array_equal(noise.noisy_labels, noisy)
    np.testing.assert_array_equal(noise.indices, np.arange(45_000))
    assert noise.header.measured_rate == pytest.approx(1 / 3, abs=1e-4)


def test_a_folder_of_ones_own(tmp_path):
    published(tmp_path / "mine" / "cifar10-1-0.35.npy")
    assert (
        find_file(flags(noise_type="cifar10-1-0.35", noise_dir=tmp_path / "mine")).parent.name
        == "mine"
    )


def test_a_missing_file_names_every_place_and_how_to_get_it():
    with pytest.raises(NoiseFileError) as error:
        training_labels(flags(noise_type="cifar10-1-0.35"), cifar())
    for part in (
        "noise_label",
        "label_noisy/plc",
        "make data-pmd-noise",
        "make_pmd.py --dataset cifar10 --noise_type 1 --rate 0.35",
    ):
        assert part in str(error.value)


def test_labels_of_the_whole_set_are_refused_until_they_are_to_be_cut(tmp_path):
    noisy = published(tmp_path / "all.npy", 50_000)
    with pytest.raises(
        NoiseFileError,
        match=r"labels 50000 images of cifar10, but the first 45000 are .* add --cut_labels",
    ):
        training_labels(flags(noise_file="all.npy"), cifar())
    np.testing.assert_array_equal(
        training_labels(flags(noise_file="all.npy", cut_labels=True), cifar()).noisy_labels,
        noisy[:45_000],
    )
    everything = training_labels(flags(noise_file="all.npy", no_validation=True), cifar())
    np.testing.assert_array_equal(everything.noisy_labels, noisy)


def test_corrected_labels_of_some_images_are_trained_on_when_they_are_to_be_cut(tmp_path):
    """L2R and IEG label all but their trusted images."""
    data, rows = cifar(), np.setdiff1d(np.arange(50_000), [3, 70, 49_000])
    labels = (data.train_labels[rows] + (rows % 3 == 0)) % 10
    known = {"dataset": "cifar10", "num_classes": 10, "kind": "corrected"}
    write(tmp_path / "better.npz", make(labels, indices=rows, **known))
    with pytest.raises(NoiseFileError, match=r"image 3 has no label\): add --cut_labels to train"):
        training_labels(flags(noise_file="better.npz"), data)
    noise = training_labels(flags(noise_file="better.npz", cut_labels=True), data)
    assert noise.indices.tolist() == rows[rows < 45_000].tolist()
    assert noise.noisy_labels.tolist() == labels[rows < 45_000].tolist()


@pytest.mark.parametrize("script", ["train_CIFAR", "train_Food101N"])
def test_corrected_labels_are_not_measured_by_the_folders_own(tmp_path, script):
    own_pictures(tmp_path / "own", "", count=20)
    better = (np.arange(40) + np.arange(40) // 20) % 2
    write("better.npz", make(better, kind="corrected", dataset="folder"))
    words = shlex.split("--dataset folder --data_path own --val_fraction 0.25 --num_workers 0")
    own = load(parse(script, words), CPU)
    data = load(parse(script, [*words, "--noise_file", "better.npz", "--cut_labels"]), CPU)
    assert (data.clean, data.noise.header.measured_rate) == (None, None)
    trained = data.noise.indices
    assert trained.tolist() == own.noise.indices.tolist()
    assert data.train.labels.tolist() == better[trained].tolist()
    found = np.concatenate([data.tests[name].labels for name in ("val", "test")])
    assert np.bincount(found).tolist() == np.bincount(np.delete(better, trained)).tolist()
    assert data.tests["test"].labels.tolist() != own.tests["test"].labels.tolist()
    lines = start_lines("LRA", data, "better.npz", held_out=True)
    assert lines[1] == "noise: labels of better.npz; how many of the labels are wrong is not known"


def test_labels_of_the_first_part_are_refused_where_all_are_to_be_trained_on(tmp_path):
    published(tmp_path / "part.npy")
    with pytest.raises(
        NoiseFileError,
        match=r"labels 45000 images .* 50000 are to be trained on.*leave out --no_validation",
    ):
        training_labels(flags(noise_file="part.npy", no_validation=True), cifar())


def test_a_file_of_other_rows_is_brought_into_order_or_refused(tmp_path):
    data = cifar()
    rows = np.random.default_rng(0).permutation(45_000)
    noisy = (data.train_labels[rows] + 1) % 10
    write(
        "mixed.npz",
        make(
            noisy,
            clean_labels=data.train_labels[rows],
            indices=rows,
            dataset="cifar10",
            num_classes=10,
        ),
    )
    noise = training_labels(flags(noise_file="mixed.npz"), data)
    np.testing.assert_array_equal(noise.noisy_labels, (data.train_labels[:45_000] + 1) % 10)
    write(
        "late.npz",
        make(data.train_labels[5_000:], indices=np.arange(5_000, 50_000), dataset="cifar10"),
    )
    with pytest.raises(NoiseFileError, match="image 0 has no label"):
        training_labels(flags(noise_file="late.npz"), data)


def test_users_own_labels_are_taken_as_they_are():
    data = cifar()
    folder = ImageData(
        "folder",
        data.train_images[:100],
        data.train_labels[:100],
        data.test_images,
        data.test_labels,
        data.class_names,
        None,
    )
    noise = training_labels(flags(dataset="folder"), folder)
    rows, validates = split(folder)
    assert (len(rows), len(validates)) == (90, 10)
    assert set(folder.train_labels[validates]) == set(range(10))
    np.testing.assert_array_equal(noise.noisy_labels, folder.train_labels[rows])
    assert noise.header.measured_rate is None


def test_tensors_beside_a_matrix_and_a_rate_are_labels(tmp_path):
    noisy = published(tmp_path / "part.npy")
    value = {"mine": torch.tensor(noisy), "T": torch.eye(10), "noise_rate": 0.3}
    torch.save(value, tmp_path / "part.pt")
    noise = training_labels(flags(noise_file="part.pt"), cifar())
    np.testing.assert_array_equal(noise.noisy_labels, noisy)


def test_open_set_noise_is_refused():
    labels = cifar().train_labels[:45_000]
    flagged = np.arange(45_000) < 10
    write(
        "open.npz",
        make(
            labels,
            clean_labels=labels,
            indices=np.arange(45_000),
            open_set=flagged,
            dataset="cifar10",
        ),
    )
    with pytest.raises(NoiseFileError, match="replaces images"):
        training_labels(flags(noise_file="open.npz"), cifar())


def test_limited_labels_are_spread_evenly_and_keep_what_is_known(tmp_path):
    noisy = published(tmp_path / "part.npy")
    noise = training_labels(flags(noise_file="part.npy", limit_train=10), cifar())
    rows = np.linspace(0, 44_999, 10).astype(int)
    np.testing.assert_array_equal(noise.indices, rows)
    np.testing.assert_array_equal(noise.noisy_labels, noisy[rows])
    assert (noise.header.dataset, noise.header.num_classes) == ("cifar10", 10)

"""plot.py: the maths of its figures against slow references, its pictures, and what is refused."""

import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from old_runs import REAL, train_tiny, write_old_model, write_old_run
from PIL import Image

from re_sln import plot
from re_sln.analysis import curves, scores
from re_sln.analysis import finished_runs as runs
from re_sln.analysis import sample_figures as figures
from re_sln.method.images import server_of
from re_sln.method.networks import WideResNet
from re_sln.method.streams import in_order, stream_seed
from re_sln.run.config import parse
from re_sln.run.errors import UsageError
from re_sln.run.labels import noisy_training_set
from shared import datasets
from shared.datasets.image_data import ImageData
from shared.formats.noise_file import make, write
from shared.noise import open_set

OLD_ID = "exp_2021-12-08 11:28:45.265396"
TITLE = "digits-sln-mo-sym-made-0.4"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return train_tiny(
        "--method", "sln_mo", "--output_dir", str(tmp_path_factory.mktemp("trained") / "sln_mo")
    )


@pytest.fixture
def drawn(monkeypatch, tmp_path):
    """What would be drawn, instead of the pictures; the working directory is empty."""
    monkeypatch.chdir(tmp_path)
    calls = []
    for module, name in (
        (figures, "prediction_probabilities"),
        (figures, "sample_dissection"),
        (figures, "feature_map"),
        (curves, "compare"),
    ):
        monkeypatch.setattr(module, name, lambda *args, **_: calls.append(args) or b"png")
    return calls


def size_of(picture):
    return Image.open(io.BytesIO(picture)).size


# ---- figures


def test_probability_counts_are_those_of_99_equal_bins():
    rng = np.random.default_rng(0)
    confidence, chosen = rng.random(500), rng.random(500) < 0.6
    expected = [0] * 99
    for value in [*confidence[chosen], 0.0, 1.0]:
        expected[min(int(value * 99), 98)] += 1
    ends = np.append(confidence, [0.0, 1.0])
    assert figures.probability_counts(ends, np.append(chosen, [True, True])).tolist() == expected
    assert len(figures.EDGES) == 100


@pytest.mark.parametrize(("count", "size"), [(5000, 1000), (2500, 1000), (7, 3), (1, 1)])
def test_dissection_stairs_match_a_slow_count(count, size):
    rng = np.random.default_rng(count)
    losses, label, prediction = rng.random(count), rng.random(count) < 0.6, rng.random(count) < 0.7
    order = sorted(range(count), key=lambda i: losses[i])
    blue, yellow, green, red = [], [], [], []
    for start in range(0, count, size):
        part = order[start : start + size]
        heights = [
            sum(1 for i in part if label[i] == right and prediction[i] == hit)
            for right in (False, True)
            for hit in (False, True)
        ]
        for stairs, top in zip((blue, yellow, green, red), np.cumsum(heights).tolist()):
            stairs.append(top)
    assert figures.dissection_stairs(losses, label, prediction, size).tolist() == [
        blue,
        yellow,
        green,
        red,
    ]


def test_intervals_have_the_published_size_where_there_are_enough_samples():
    assert [figures.interval_size(count) for count in (50_000, 5000, 4999, 1442, 10)] == [
        1000,
        1000,
        99,
        28,
        1,
    ]


def test_pictures_have_the_published_size():
    rng = np.random.default_rng(0)
    values, flags = rng.random(60), rng.random(60) < 0.5
    for known in (flags, None):
        assert size_of(figures.prediction_probabilities("title", values, known)) == (
            400,
            400,
        )
        assert size_of(figures.sample_dissection("title", values, known, ~flags)) == (
            400,
            400,
        )


@pytest.mark.parametrize("classes", [3, 20, 100])
def test_a_feature_map_takes_any_number_of_classes(classes):
    names = [f"class {k}" for k in range(classes)]
    assert size_of(
        figures.feature_map("title", np.zeros((5, 2)), np.arange(5) % classes, names)
    ) == (700, 550)


def test_curves_of_runs_with_different_figures():
    rows = [
        {"epoch": epoch, "accuracy": 50.0, "loss_train": 1.0, "loss_train_clean": None}
        for epoch in (1, 2)
    ]
    split = [
        {**row, "loss_train_clean": 0.5, "loss_train_noisy": 2.0, "accuracy_train": 40.0}
        for row in rows
    ]
    assert size_of(curves.compare({"one": rows, "two": split[:1]})) == (1600, 500)


# ---- the script


@pytest.mark.training
def test_probabilities_are_those_of_the_momentum_model_on_seeded_views(trained, drawn):
    assert plot.main(["--exp_id", str(trained.folder), "--plot_type", "pred_probs"]) == 0
    ((title, confidence, is_clean),) = drawn
    assert title == TITLE
    assert (trained.folder / f"{TITLE}-prediction-probabilities.png").read_bytes() == b"png"
    np.testing.assert_array_equal(
        is_clean, trained.data.noise.noisy_labels == trained.data.noise.clean_labels
    )
    data = datasets.load("digits")
    images = server_of(data, torch.device("cpu"))(data.train_images[trained.data.noise.indices])
    views = images.views(in_order(96, scores.BATCH, torch.device("cpu")), stream_seed(0, 0, "plot"))
    with torch.no_grad():
        logits = trained.learner.ema.net.eval()(torch.cat(list(views)))
    np.testing.assert_allclose(confidence, logits.softmax(dim=1).max(dim=1).values, atol=1e-5)


@pytest.mark.training
def test_the_dissection_compares_with_the_labels_of_the_run(trained, drawn):
    assert plot.main(["--exp_id", str(trained.folder), "--plot_type", "sample_dissect"]) == 0
    ((_, losses, label_right, prediction_right),) = drawn
    assert (trained.folder / f"{TITLE}-sample-dissection.png").exists()
    run = runs.find(str(trained.folder))
    choice = scores.label_choice(run, None)
    said = scores.score(run, datasets.load("digits"), choice, torch.device("cpu"))
    noise = trained.data.noise
    np.testing.assert_array_equal(label_right, noise.noisy_labels == noise.clean_labels)
    np.testing.assert_array_equal(prediction_right, said.predicted == noise.clean_labels)
    agrees = said.predicted == noise.noisy_labels
    np.testing.assert_allclose(losses[agrees], -np.log(said.confidence[agrees]), rtol=1e-4)


@pytest.mark.training
def test_t_sne_of_test_features_is_repeatable(trained, drawn, monkeypatch):
    monkeypatch.setattr(scores, "TSNE_SAMPLES", 60)
    for _ in range(2):
        assert plot.main(["--exp_id", str(trained.folder), "--plot_type", "tsne"]) == 0
    (_, points, labels, names), (_, again, _, _) = drawn
    assert points.shape == (60, 2)
    assert len(labels) == 60
    assert len(names) == 10
    np.testing.assert_array_equal(points, again)
    assert (trained.folder / f"{TITLE}-tsne.png").exists()


@pytest.mark.training
def test_curves_of_runs_and_csv_files(trained, drawn, tmp_path):
    (tmp_path / "kept.csv").write_text("epoch,accuracy\n1,20\n2,30\n")
    flags = [
        "--exp_id",
        str(trained.folder),
        str(trained.folder),
        "kept.csv",
        "--plot_type",
        "curves",
    ]
    assert plot.main(flags) == 0
    assert plot.main([*flags, "--out", "pictures/all.png"]) == 0
    assert (tmp_path / "assets/curves.png").exists()
    assert (tmp_path / "pictures/all.png").exists()
    names = list(drawn[0][0])
    assert names[-1] == "kept"


@pytest.mark.training
def test_every_run_has_its_own_name_in_the_legend(trained, tmp_path):
    run = runs.find(str(trained.folder))
    assert plot.curve_names(["a/one"], [run]) == [TITLE]
    assert plot.curve_names(["a/one", "a/two"], [run, run]) == [f"{TITLE} (one)", f"{TITLE} (two)"]
    assert plot.curve_names(["a/one", "b/one"], [run, run]) == [
        f"{TITLE} (a/one)",
        f"{TITLE} (b/one)",
    ]


def small(name, classes=10):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (30, 32, 32, 3), dtype=np.uint8)
    labels = np.arange(30) % classes
    return ImageData(
        name, images, labels, images[:9], labels[:9], tuple(map(str, range(classes))), None
    )


def test_a_run_of_the_original_reads_the_labels_that_its_config_names(drawn, tmp_path, monkeypatch):
    monkeypatch.setattr(datasets, "load", lambda name, path=None, **_: small(name))
    folder = tmp_path / "data" / "cifar10" / "label_noisy"
    folder.mkdir(parents=True)
    labels = small("cifar10").train_labels
    noisy = np.where(np.arange(30) < 12, (labels + 1) % 10, labels)
    (folder / "sym0.4_custom.csv").write_text(
        "label,label_noisy\n" + "".join(f"{a},{b}\n" for a, b in zip(labels, noisy))
    )
    write_old_run(tmp_path, OLD_ID, {"custom_noise": True, "make_new_custom_noise": True}, [0.1])
    write_old_model(tmp_path, OLD_ID, WideResNet(10, depth=10, width=1).state_dict())
    assert plot.main(["--exp_id", OLD_ID, "--plot_type", "pred_probs", "--data_path", "data"]) == 0
    ((title, confidence, is_clean),) = drawn
    assert (title, len(confidence)) == ("cifar10-ce-sym-custom-0.4", 30)
    np.testing.assert_array_equal(is_clean, noisy == labels)
    assert (tmp_path / "assets" / OLD_ID / f"{title}-prediction-probabilities.png").exists()


def test_of_animal_10n_nobody_knows_which_labels_are_right(drawn, tmp_path, monkeypatch):
    monkeypatch.setattr(datasets, "load", lambda name, path=None, **_: small(name))
    write_old_run(tmp_path, OLD_ID, {**REAL, "sigma": 0.5, "mo": True}, [0.1])
    write_old_model(
        tmp_path, OLD_ID, WideResNet(10, depth=10, width=1).state_dict(), "model_ema.pth"
    )
    assert plot.main(["--exp_id", OLD_ID, "--plot_type", "pred_probs"]) == 0
    assert plot.main(["--exp_id", OLD_ID, "--plot_type", "sample_dissect"]) == 0
    (title, _, is_clean), (_, _, label_right, prediction_right) = drawn
    assert title == "animal-10n-sln-mo"
    assert is_clean is None
    assert label_right is None
    assert prediction_right.dtype == bool


@pytest.mark.training
def test_an_open_set_run_gets_its_foreign_images_back(trained, tmp_path, monkeypatch):
    for name in ("config.yaml", "noise.npz"):
        (tmp_path / name).write_bytes((trained.folder / name).read_bytes())
    run = runs.find(str(tmp_path))
    data = datasets.load("digits")
    foreign = 255 - data.train_images
    flags = np.zeros(len(foreign), bool)
    found = make(data.train_labels, indices=np.arange(len(foreign)), open_set=flags)
    monkeypatch.setattr(scores, "noisy_training_set", lambda choice, data, **_: (found, foreign))
    rows, choice = trained.data.noise.indices, scores.label_choice(run, None)
    np.testing.assert_array_equal(
        scores.training_set(run, data, choice)[1], data.train_images[rows]
    )
    clean = trained.data.noise.clean_labels
    write(
        tmp_path / "noise.npz",
        make(clean, clean_labels=clean, indices=rows, open_set=np.arange(len(rows)) < 9),
    )
    with pytest.raises(UsageError, match="were remade since"):
        scores.training_set(run, data, choice)
    flags[rows[:9]] = True
    found = make(data.train_labels, indices=np.arange(len(foreign)), open_set=flags)
    np.testing.assert_array_equal(scores.training_set(run, data, choice)[1], foreign[rows])


def test_open_set_noise_made_in_memory_is_made_again(tmp_path, monkeypatch):
    """The run records where CIFAR-10 lies; CIFAR-100 and noise files are beside it."""
    monkeypatch.setattr(open_set, "DONOR_IMAGES", 30)
    monkeypatch.setenv("DATA_ROOT", str(tmp_path))
    place = tmp_path / "cifar-10-batches-py"
    place.mkdir()
    sets = {"cifar10": small("cifar10"), "cifar100": small("cifar100")}
    sets["cifar100"] = replace(sets["cifar100"], train_images=sets["cifar100"].train_images + 1)
    asked = []

    def load(name, root):
        asked.append(root)
        return sets[name]

    monkeypatch.setattr("re_sln.run.labels.datasets.load", load)
    flags = ["--dataset_name", "cifar10", "--noise_mode", "openset", "--custom_noise"]
    config = parse("train_cifar", [*flags, "--p", "0.4", "--method", "sln", "--seed", "7"])
    noise, images = noisy_training_set(config, sets["cifar10"])
    assert (images != sets["cifar10"].train_images).any()
    folder = tmp_path / "run"
    folder.mkdir()
    write(folder / "noise.npz", noise)
    settings = {**config.record(), "data_location": str(place)}
    run = runs.Run("run", settings, folder, folder, folder)
    for data_path in (None, tmp_path):
        choice = scores.label_choice(run, data_path)
        assert choice.data_path == (data_path or place)
        assert np.array_equal(scores.training_set(run, sets["cifar10"], choice)[1], images)
    assert asked == [tmp_path] * 3
    other = runs.Run("run", {**settings, "seed": 8}, folder, folder, folder)
    with pytest.raises(UsageError, match="were remade since"):
        scores.training_set(other, sets["cifar10"], scores.label_choice(other, None))


@pytest.mark.parametrize("recorded", ["data_path", "data_location"])
@pytest.mark.training
def test_the_data_are_looked_for_where_the_run_had_them(trained, tmp_path, recorded):
    run = runs.find(str(trained.folder))
    absent = {"data_path": None, "data_location": None}
    moved = replace(run, settings={**run.settings, **absent, recorded: str(tmp_path)})
    assert scores.label_choice(moved, None).data_path == tmp_path
    assert scores.label_choice(moved, tmp_path / "given").data_path == tmp_path / "given"
    gone = replace(run, settings={**run.settings, **absent, recorded: str(tmp_path / "gone")})
    assert scores.label_choice(gone, None).data_path is None


@pytest.mark.training
def test_what_cannot_be_drawn_is_said(trained, drawn, tmp_path, capsys, monkeypatch):
    (tmp_path / "kept.csv").write_text("epoch,accuracy\n1,20\n")
    write_old_run(
        tmp_path, OLD_ID, {"dataset_name": "clothing1m", "noise_mode": None, "p": None}, [0.1]
    )
    monkeypatch.setattr(datasets, "load", lambda name, path=None, **_: small(name, classes=3))
    write_old_run(tmp_path, "exp_2", REAL, [0.1])
    write_old_model(tmp_path, "exp_2", WideResNet(10, depth=10, width=1).state_dict())
    wrong = {
        "exp_1": "no experiment 'exp_1'",
        "kept.csv": "a curve without a network",
        OLD_ID: "ResNet-50",
        "exp_2": "knows 10 classes",
    }
    for name, problem in wrong.items():
        assert plot.main(["--exp_id", name, "--plot_type", "pred_probs"]) == 2
        assert problem in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        plot.main(["--exp_id", "exp_1", "--plot_type", "tsne", "--out", "a.png"])
    assert "--out is for" in capsys.readouterr().err
    assert drawn == []

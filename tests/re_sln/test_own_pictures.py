"""A folder of own pictures: without a test set, labelled by a CSV, held out, at 32 and at 224."""

import re

import numpy as np
import pytest
import torch
import yaml
from conftest import rows
from PIL import Image

from re_sln import plot, results, train_real, viz
from re_sln.method import disk_images
from re_sln.run import checkpoint, experiment
from re_sln.run.config import parse, parse_search
from re_sln.run.data import load_data
from re_sln.run.errors import UsageError
from shared.datasets.archives import DownloadError
from shared.formats import noise_file

SMALL = ["--depth", "10", "--width", "1", "--batch_size", "8", "--n_epochs", "2", "--device", "cpu"]
COUNT = 8  # of each of three classes
NO_TEST = "no test set, so no test accuracy"
TOOLS = ("pred_probs", "sample_dissect", "tsne", "curves")


def picture(shade, side=40):
    noise = np.random.default_rng(shade).integers(0, 60, (side, side + 10, 3))
    return Image.fromarray((noise + shade).astype(np.uint8))


def write_pictures(folder, classes=("cat", "dog", "emu"), side=40):
    """Class folders whose pictures are also grey, CMYK and turned by EXIF."""
    turned = Image.Exif()
    turned[0x0112] = 6
    for number, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for i in range(COUNT):
            image = picture(60 * number + i, side)
            image = image.convert("L") if i == 1 else image.convert("CMYK") if i == 2 else image
            image.save(folder / name / f"{i}.jpg", **({"exif": turned} if i == 3 else {}))
    return folder


@pytest.fixture
def mine(tmp_path):
    return write_pictures(tmp_path / "mine")


@pytest.fixture
def real(tmp_path, monkeypatch):
    """The main function of train_real.py, smaller: the full size takes a minute."""
    import torchvision

    monkeypatch.chdir(tmp_path)
    blocks = torchvision.models.resnet.BasicBlock, [1, 1, 1, 1]
    monkeypatch.setattr(torchvision.models, "resnet50", lambda: torchvision.models.ResNet(*blocks))
    monkeypatch.setattr(disk_images, "SHORTER_SIDE", 40)
    monkeypatch.setattr(disk_images, "CROP", 32)
    flags = ["--dataset_name", "folder", "--data_path", "mine", "--num_workers", "0"]
    flags += ["--pretrained", "none", "--batch_size", "8", "--n_epochs", "2", "--device", "cpu"]
    return lambda *more: train_real.main([*flags, *map(str, more)])


def break_one(folder):
    torn = folder / "cat" / "5.jpg"
    torn.write_bytes(torn.read_bytes()[:300])


def same_networks(one, other):
    first, second = (checkpoint.load(run / checkpoint.LAST) for run in (one, other))
    return all(
        torch.equal(first[part][key], second[part][key])
        for part in ("net", "average")
        for key in first[part]
    )


def data_of(script, *flags, search=None):
    words = ["--dataset_name", "folder", "--data_path", "mine", "--method", "ce", *flags]
    return load_data(parse(script, words), torch.device("cpu"), search)


# ---- 32 pixels


@pytest.mark.training
def test_without_a_test_set_all_but_the_accuracy_is_there(run_script, main, mine, tmp_path, capsys):
    break_one(mine)
    flags = ["--dataset_name", "folder", "--data_path", "mine", "--method", "sln_mo_lc", *SMALL]
    assert main(*flags) == 2
    refused = capsys.readouterr().err
    assert re.search(r"1 of 24 pictures.*--skip_broken\n.*cat/5\.jpg", refused)
    flags += ["--skip_broken", "--cache_dir", "cache", "--output_dir", "runs/one"]
    done = run_script("train_cifar.py", *flags)
    assert done.returncode == 0, done.stderr
    assert "1 of 24 pictures" in done.stderr
    assert "23 training images of 32 x 32 pixels, 0 test images" in done.stdout
    assert f"sln_mo_lc: {NO_TEST}; training accuracy" in done.stdout
    assert list((tmp_path / "cache").iterdir())
    run = tmp_path / "runs" / "one"
    for row in rows(run):
        assert {row[name] for name in row if name.startswith("accuracy_test")} == {None}
        assert (row["accuracy"], row["loss_test_ema"]) == (None, None)
        assert row["accuracy_train"] >= 0
    assert not (run / checkpoint.BEST).exists()
    assert (run / "model_ema.pth").exists()

    for kind in TOOLS:
        assert plot.main(["--exp_id", "runs/one", "--plot_type", kind, "--device", "cpu"]) == 0
    capsys.readouterr()
    assert results.main([]) == 2
    assert re.search(r"left out: exp_\S+ \S+ has no test set, and", capsys.readouterr().err)
    assert viz.main(["folder", "--data_path", "mine", "--skip_broken"]) == 0
    assert (tmp_path / "viz/folder.png").exists()


@pytest.mark.training
def test_a_run_without_a_test_set_continues_bit_for_bit(main, mine, tmp_path, capsys):
    flags = ["--dataset_name", "folder", "--data_path", "mine", "--method", "sln_mo", *SMALL]
    assert main(*flags, "--output_dir", "whole") == 0
    assert main(*flags, "--n_epochs", 1, "--output_dir", "parts") == 0
    assert main(*flags, "--resume", "--output_dir", "parts") == 0
    assert rows(tmp_path / "parts") == rows(tmp_path / "whole")
    assert same_networks(tmp_path / "parts", tmp_path / "whole")
    assert "the EMA model averages the last 1,000 steps or so, and the run has 6" in (
        capsys.readouterr().out
    )


@pytest.mark.training
def test_labels_from_a_csv_wherever_the_pictures_lie(main, mine, tmp_path, monkeypatch, capsys):
    names = sorted(path.relative_to(mine).as_posix() for path in mine.rglob("*.jpg"))
    labels = ["red" if i % 3 else "blue" for i in range(len(names))]
    lines = [f"{name},{label}\n" for name, label in zip(names, labels)]
    (tmp_path / "labels.csv").write_text("filename,label\n" + "".join(lines[2:]))
    flags = ["--dataset_name", "folder", "--data_path", "mine", "--labels", "labels.csv", *SMALL]
    assert main(*flags, "--method", "ce", "--output_dir", "run") == 0
    assert "22 training images" in capsys.readouterr().out
    noise = noise_file.read(tmp_path / "run/noise.npz")
    assert noise.noisy_labels.tolist() == [int(label == "red") for label in labels[2:]]
    assert noise.header.num_classes == 2
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert plot.main(["--exp_id", "../run", "--plot_type", "pred_probs", "--device", "cpu"]) == 0
    more = ["--data_path", str(mine), "--labels", str(tmp_path / "labels.csv")]
    assert viz.main(["folder", *more]) == 0


@pytest.mark.training
def test_a_held_out_part_is_the_test_set(main, mine, capsys):
    flags = ["--dataset_name", "folder", "--data_path", "mine", *SMALL, "--val_fraction", "0.25"]
    assert main(*flags, "--method", "ce", "--output_dir", "given") == 0
    out = capsys.readouterr().out
    assert "18 training images of 32 x 32 pixels, 6 test images" in out
    held_out = "tested on 6 held-out pictures, against their"
    assert out.count(f"{held_out} given labels, some of which may be wrong") == 2
    assert main(*flags, "--noise_mode", "sym", "--method", "ce", "--output_dir", "made") == 0
    assert f"{held_out} labels as they are in the folder, without the noise" in (
        capsys.readouterr().out
    )
    assert plot.main(["--exp_id", "made", "--plot_type", "tsne", "--device", "cpu"]) == 0
    assert main(*flags[:-1], "0.5", "--method", "ce", "--output_dir", "given", "--resume") == 2
    assert "val_fraction: 0.25 then, 0.5 now" in capsys.readouterr().err


@pytest.mark.parametrize("script", ["train_cifar", "train_real"])
def test_what_is_held_out_is_not_trained_on_and_keeps_its_clean_labels(
    script, mine, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    clean = np.repeat(np.arange(3), COUNT)
    wrong = (clean + np.arange(24) % 2) % 3
    noise_file.write(
        tmp_path / "noise.npz", noise_file.make(wrong, clean_labels=clean, dataset="folder")
    )
    flags = ["--val_fraction", "0.25", "--noise_file", "noise.npz", "--seed", "3"]
    data = data_of(script, *flags)
    trained, tested = data.noise.indices, data.test_sets["test"].labels
    assert tested.tolist() == np.delete(clean, trained).tolist() == [0, 0, 1, 1, 2, 2]
    assert data.noise.noisy_labels.tolist() == wrong[trained].tolist()
    assert data.train_set.noisy.argmax(dim=1).tolist() == wrong[trained].tolist()
    assert data.train_set.is_noisy.tolist() == (wrong != clean)[trained].tolist()
    fewer = data_of(script, *flags, "--limit_train", "6")
    assert (len(fewer.noise.indices), len(fewer.train_set.images)) == (6, 6)
    assert fewer.test_sets["test"].labels.tolist() == tested.tolist()


@pytest.mark.parametrize("script", ["train_cifar", "train_real"])
def test_corrected_labels_are_not_measured_by_the_folders_own(script, mine, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    better = (np.repeat(np.arange(3), COUNT) + np.arange(24) % 2) % 3
    noise = noise_file.make(better, kind="corrected", dataset="folder")
    noise_file.write(tmp_path / "better.npz", noise)
    flags = ["--val_fraction", "0.25", *(["--num_workers", "0"] if script == "train_real" else [])]
    data = data_of(script, *flags, "--noise_file", "better.npz")
    assert (data.train_set.is_noisy, data.noise.header.measured_rate) == (None, None)
    assert data.train_set.noisy.argmax(dim=1).tolist() == better[data.noise.indices].tolist()
    tested = data.test_sets["test"].labels.tolist()
    assert tested == np.delete(better, data.noise.indices).tolist()
    assert data_of(script, *flags).noise.indices.tolist() == data.noise.indices.tolist()


@pytest.mark.parametrize("script", ["train_cifar", "train_real"])
def test_noise_files_count_the_pictures_that_are_left(script, mine, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (mine / "emu/2.jpg").write_bytes(b"torn")
    labels = np.arange(23) % 3  # which nothing but their order ties to the pictures
    noise = noise_file.make(labels, indices=np.arange(23), dataset="folder", num_classes=3)
    noise_file.write(tmp_path / "noise.npz", noise)
    more = ["--num_workers", "0"] if script == "train_real" else []
    data = data_of(script, "--noise_file", "noise.npz", "--skip_broken", *more)
    assert data.train_set.noisy.argmax(dim=1).tolist() == labels.tolist()
    assert data.noise.indices.tolist() == list(range(23))


@pytest.mark.parametrize("script", ["train_cifar", "train_real"])
@pytest.mark.parametrize(
    ("with_test", "fraction", "message"),
    [(True, "0.25", "has a test set of 24 images: leave it out"), (False, "0.01", "larger one")],
)
def test_a_part_that_cannot_be_held_out(
    script, with_test, fraction, message, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    for split in ("train", "test")[: 1 + with_test]:
        write_pictures(tmp_path / "mine" / split)
    module = {"train_cifar": "re_sln.train_cifar", "train_real": "re_sln.train_real"}[script]
    flags = ["--dataset_name", "folder", "--data_path", "mine", "--method", "ce"]
    flags += ["--pretrained", "none"] if script == "train_real" else []
    run = __import__(module, fromlist=["main"]).main
    assert run([*flags, "--val_fraction", fraction, "--device", "cpu"]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(("side", "named"), [(100, True), (80, False)])
def test_large_pictures_get_one_line_that_names_the_better_script(
    side, named, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    write_pictures(tmp_path / "mine" / "train", side=side)
    remarks = data_of("train_cifar").remarks
    assert len(remarks) == named
    assert all("about 100 pixels are reduced to 32: `python train_real.py" in r for r in remarks)


# ---- 224 pixels


@pytest.mark.training
def test_resnet50_on_own_pictures_without_a_test_set(real, mine, tmp_path, capsys):
    break_one(mine)
    assert real("--method", "sln_mo_lc", "--output_dir", "torn") == 2
    assert re.search(r"cat/5\.jpg cannot be read .*--skip_broken", capsys.readouterr().err)
    flags = ["--method", "sln_mo_lc", "--skip_broken", "--lc_n_epoch", 1, "--output_dir"]
    assert real(*flags, "runs/whole") == 0
    out = capsys.readouterr().out
    assert "1 of 24 images cannot be read and are left out: cat/5.jpg" in out
    assert "sln_mo_lc on folder: 23 training images of 32 x 32 pixels, 0 test images" in out
    assert "pretrained none" in out
    assert NO_TEST in out
    assert real(*flags, "parts") == 0
    assert real(*flags, "parts", "--resume", "--n_epochs", 3) == 0
    assert real(*flags, "runs/whole", "--resume", "--n_epochs", 3) == 0
    assert rows(tmp_path / "parts") == rows(tmp_path / "runs/whole")
    config = yaml.safe_load((tmp_path / "parts/config.yaml").read_text())
    assert (config["network"], config["pretrained"], config["lc_form"]) == (
        "resnet50",
        "none",
        "fixed",
    )
    assert len(noise_file.read(tmp_path / "parts/noise.npz").indices) == 23
    capsys.readouterr()
    for kind in TOOLS:
        assert plot.main(["--exp_id", "parts", "--plot_type", kind, "--device", "cpu"]) == 0
    assert real("--config", "parts/config.yaml", "--n_epochs", 2, "--output_dir", "again") == 0
    assert rows(tmp_path / "again") == rows(tmp_path / "parts")[:2]


@pytest.mark.training
def test_resnet50_on_own_pictures_with_a_test_set(real, tmp_path, capsys):
    for split in ("train", "test"):
        write_pictures(tmp_path / "mine" / split)
    assert real("--method", "ce", "--output_dir", "runs/one") == 0
    out = capsys.readouterr().out
    assert "24 training images of 32 x 32 pixels, 24 test images" in out
    assert "ce test accuracy of the network: last" in out
    assert (tmp_path / "runs/one" / checkpoint.BEST).exists()
    assert results.main(["--runs", "runs", "--out", "out"]) == 0
    assert (tmp_path / "out/folder-test-acc-table.csv").exists()
    assert plot.main(["--exp_id", "runs/one", "--plot_type", "tsne", "--device", "cpu"]) == 0


def test_pictures_are_turned_and_normalised_as_imagenets(mine, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    images = data_of("train_real", "--num_workers", "0").train_set.images
    assert (len(images), images.side) == (24, 224)
    [[shown]] = images.plain([torch.tensor([3])])
    stored = Image.open(mine / "cat/3.jpg")
    turned = stored.rotate(-90, expand=True)
    assert (stored.size, turned.size) == ((50, 40), (40, 50))
    scaled = np.asarray(turned.resize((256, 320), Image.Resampling.BILINEAR)) / 255
    expected = (scaled[48:272, 16:240] - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    assert shown.permute(1, 2, 0).numpy() == pytest.approx(expected, abs=1e-5)


def test_the_recipe_is_clothing1ms_with_every_picture_in_each_epoch(mine, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    flags = ["--method", "sln_mo_lc", "--dataset_name"]
    own = parse("train_real", [*flags, "folder", "--data_path", "mine"])
    theirs = parse("train_real", [*flags, "clothing1m"])
    differing = {"dataset_name", "data_path", "network", "custom_noise", "make_new_custom_noise"}
    first, second = own.record(), theirs.record()
    assert {name for name in first if first[name] != second[name]} <= differing
    assert own.pretrained == "imagenet"
    assert [experiment.learning_rate(own, epoch) for epoch in (5, 6)] == [0.001, 0.0001]
    assert data_of("train_real").train_set.per_class is None


def test_imagenet_weights_are_fetched_before_anything_is_read(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    asked = []

    def offline(url, target, **more):
        asked.append(target)
        raise DownloadError("no network")

    monkeypatch.setattr("shared.datasets.pretrained.download.fetch", offline)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "none"))
    monkeypatch.setenv("DATA_ROOT", str(tmp_path / "root"))
    flags = ["--dataset_name", "folder", "--data_path", "mine", "--method", "ce"]
    assert train_real.main([*flags, "--device", "cpu"]) == 2
    error = capsys.readouterr().err
    assert "the ImageNet weights of resnet50: no network" in error
    assert "--pretrained FILE" in error
    assert [path.parent for path in asked] == [tmp_path / "root" / "pretrained"]


def test_from_scratch_is_another_run(mine, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = {}
    monkeypatch.setattr(experiment, "resnet50", lambda count, weights: torch.nn.Linear(2, count))
    monkeypatch.setattr(experiment, "imagenet_weights", lambda *a, **more: "weights")
    (tmp_path / "a.pth").write_text("")
    for pretrained in ("none", "imagenet", "a.pth"):
        words = ["--dataset_name", "folder", "--data_path", "mine", "--method", "ce"]
        config = parse("train_real", [*words, "--pretrained", pretrained])
        given[pretrained] = experiment.prepare(config).identity.get("pretrained")
    assert given == {"none": "none", "imagenet": None, "a.pth": None}
    config = parse("train_real", [*words, "--pretrained", "b.pth"])
    with pytest.raises(UsageError, match="no such file; give imagenet, none, or a file"):
        experiment.prepare(config)
    (tmp_path / "run").mkdir()
    torch.save({}, tmp_path / "run" / checkpoint.LAST)  # which holds all weights of a real run
    words += ["--pretrained", "b.pth", "--output_dir", "run", "--resume"]
    experiment.prepare(parse("train_real", words))
    (tmp_path / "run" / checkpoint.LAST).write_bytes(b"torn")
    with pytest.raises(UsageError, match="no such file"):
        experiment.prepare(parse("train_real", words))


# ---- flags


@pytest.mark.parametrize(
    ("script", "flags", "message"),
    [
        ("train_cifar", "--dataset_name digits --labels a.csv", "--labels does nothing for digits"),
        ("train_cifar", "--dataset_name cifar10 --val_fraction 0.1", "does nothing for cifar10"),
        ("train_cifar", "--dataset_name cifar10n --skip_broken", "does nothing for cifar10n"),
        ("train_cifar", "--dataset_name cifar100 --cache_dir=a", "does nothing for cifar100"),
        ("train_cifar", "--dataset_name folder", "train/<class>/ (and test/<class>/) or <class>/"),
        ("train_cifar", "--dataset_name folder --data_path a --val_fraction 1", "between 0 and 1"),
        ("train_cifar", "--dataset_name folder --data_path a --pretrained none", "unrecognized"),
        ("train_real", "--dataset_name animal-10n --labels a.csv", "does nothing for animal-10n"),
        ("train_real", "--dataset_name clothing1m --val_fraction 0.1", "nothing for clothing1m"),
        ("train_real", "--dataset_name folder --data_path a --depth 10", "nothing for folder"),
        ("train_real", "--dataset_name folder --data_path a --cache_dir b", "nothing for folder"),
    ],
)
def test_flags_that_do_nothing_or_contradict_are_refused(script, flags, message, capsys):
    with pytest.raises(SystemExit, match="2"):
        parse(script, ["--method", "ce", *flags.split()])
    assert message in capsys.readouterr().err


def test_a_search_takes_labels_but_no_second_held_out_part(mine, tmp_path, capsys):
    flags = ["--dataset_name", "folder", "--data_path", str(mine), "--labels", "a.csv"]
    assert parse_search([*flags, "--skip_broken"]).training.labels.is_absolute()
    with pytest.raises(SystemExit, match="2"):
        parse_search([*flags, "--val_fraction", "0.1"])


def test_a_note_where_a_files_settings_are_of_another_dataset(tmp_path, capsys):
    path = tmp_path / "config.yaml"
    path.write_text("dataset_name: digits\nnoise_mode: sym\nmethod: sln\nlr: 0.05\n")
    parse("train_cifar", ["--config", str(path), "--dataset_name", "digits"])
    assert capsys.readouterr().err == ""
    parse("train_cifar", ["--config", str(path), "--dataset_name", "cifar10"])
    assert "--dataset_name is not" in capsys.readouterr().err

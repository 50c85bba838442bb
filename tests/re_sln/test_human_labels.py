"""CIFAR-N by name: the labels that people gave to a tiny CIFAR, from flags to figures."""

import dataclasses
import hashlib
import pickle

import numpy as np
import pytest
import torch
import yaml
from conftest import rows

from re_sln import plot, results, tune, viz
from re_sln.analysis import finished_runs
from re_sln.run.config import parse
from shared import datasets
from shared.formats import noise_file

SMALL = ["--depth", 10, "--width", 1, "--batch_size", 32, "--n_epochs", 2, "--device", "cpu"]
TYPES = {
    "cifar10": ("worse_label", "aggre_label", "random_label1", "random_label2", "random_label3"),
    "cifar100": ("noisy_label",),
}
FILES = {"cifar10": "CIFAR-10_human.pt", "cifar100": "CIFAR-100_human.pt"}


def write_cifar(root, name, monkeypatch):
    """A CIFAR of 12 images a file, and people's labels; returns the clean ones."""
    spec, rng = datasets.CIFAR[name], np.random.default_rng(0)
    folder = root / name
    folder.mkdir(parents=True)
    md5, labels = {}, []
    for file in spec.files:
        batch = {
            "data": rng.integers(0, 256, (12, 3072), dtype=np.uint8),
            spec.label_key: (rng.permutation(12) % 10).tolist(),
        }
        content = pickle.dumps(batch, protocol=2)
        (folder / file).write_bytes(content)
        md5[file] = hashlib.md5(content).hexdigest()
        labels += batch[spec.label_key] if file in spec.train_files else []
    monkeypatch.setitem(
        datasets.CIFAR, name, dataclasses.replace(spec, md5=md5, content_sha256=None)
    )
    human = {"clean_label": np.array(labels)}
    for number, column in enumerate(TYPES[name], start=1):
        human[column] = np.array(labels)
        human[column][: 2 * number] = (human[column][: 2 * number] + 1) % 10
    place = root / "label_noisy" / "cifar_n" / FILES[name]
    place.parent.mkdir(parents=True, exist_ok=True)
    torch.save(human, place)
    return np.array(labels)


@pytest.fixture
def data(tmp_path, monkeypatch):
    return tmp_path / "data", write_cifar(tmp_path / "data", "cifar10", monkeypatch)


@pytest.mark.training
def test_a_run_says_which_labels_it_has_and_every_tool_knows_it(main, data, tmp_path, capsys):
    root, clean = data
    flags = ["--dataset_name", "cifar10n", "--noise_type", "rand2", "--data_path", root, *SMALL]
    assert main(*flags, "--method", "sln", "--output_dir", "runs/one") == 0
    out = capsys.readouterr().out
    assert "sln on cifar10n: 60 training images of 32 x 32 pixels, 12 test images" in out
    assert "noise: people's labels, random2, measured rate 0.1333" in out
    config = yaml.safe_load((tmp_path / "runs/one/config.yaml").read_text())
    assert (config["dataset_name"], config["noise_type"], config["p"], config["sigma"]) == (
        "cifar10n",
        "random2",
        None,
        0.5,
    )
    noise = noise_file.read(tmp_path / "runs/one/noise.npz")
    assert np.flatnonzero(noise.noisy_labels != clean).tolist() == list(range(8))
    assert rows(tmp_path / "runs/one")[-1]["loss_train_noisy"] is not None
    run = finished_runs.find("runs/one")
    assert finished_runs.title(run) == "cifar10n-sln-random2-human"
    for kind in ("pred_probs", "sample_dissect", "tsne", "curves"):
        assert plot.main(["--exp_id", "runs/one", "--plot_type", kind, "--device", "cpu"]) == 0
    assert results.main(["--runs", "runs", "--out", "out"]) == 0
    table = (tmp_path / "out/cifar10n-test-acc-table.csv").read_text()
    assert table.startswith("method,random2\nsln,")
    assert main(*flags, "--method", "sln", "--output_dir", "runs/one", "--resume") == 0
    other = ["--noise_type", "aggre", "--output_dir", "runs/one", "--resume"]
    assert main(*flags, "--method", "sln", *other) == 2
    assert "noise_type: random2 then, aggre now" in capsys.readouterr().err


@pytest.mark.training
def test_the_type_is_that_of_the_file_and_worse_if_none_is_given(main, data, tmp_path):
    root, clean = data
    for noise_type, changed in (([], 2), (["--noise_type", "aggre"], 4)):
        folder = f"run{changed}"
        flags = ["--dataset_name", "cifar10n", *noise_type, "--data_path", root, *SMALL]
        assert main(*flags, "--n_epochs", 1, "--method", "ce", "--output_dir", folder) == 0
        noise = noise_file.read(tmp_path / folder / "noise.npz")
        assert (noise.noisy_labels != clean).sum() == changed


@pytest.mark.training
def test_cifar100n_and_the_search_and_viz(main, data, tmp_path, monkeypatch, capsys):
    root, _ = data
    write_cifar(root, "cifar100", monkeypatch)
    given = ["--data_path", str(root)]
    assert main("--dataset_name", "cifar100n", *given, *SMALL, "--method", "sln") == 0
    assert "noise: people's labels, noisy, measured rate 0.1667" in capsys.readouterr().out
    search = ["--val_size", "0.2", "--backend", "local", "--output_dir", "hp"]
    words = ["--dataset_name", "cifar10n", *given, *map(str, SMALL), "--n_epochs", "1", *search]
    assert tune.main(words) == 0
    assert "sigma of sln on cifar10n: 48 training images" in capsys.readouterr().out
    assert results.main(["--runs", "hp", "--out", "out"]) == 0
    assert (tmp_path / "out/hp_cifar10n_sln_worse.csv").read_text().startswith("sigma,human,mean")
    assert viz.main(["cifar10n", "--noise_type", "worse_label", *given]) == 0
    assert (tmp_path / "viz/cifar10n_worse.png").exists()


def test_missing_labels_are_told_with_the_command(main, data, capsys):
    root, _ = data
    (root / "label_noisy/cifar_n/CIFAR-10_human.pt").unlink()
    assert main("--dataset_name", "cifar10n", "--data_path", root, "--method", "ce") == 2
    assert "make data-cifar_n" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("cifar10n --noise_mode sym", "--noise_mode, --p: the labels of cifar10n are people's"),
        ("cifar10n --p 0", "--p: the labels of cifar10n are people's"),
        ("cifar100n --noise_file x.npz", "--noise_file: the labels of cifar100n are people's"),
        ("cifar10n --custom_noise", "--custom_noise: the labels of cifar10n are people's"),
        ("cifar10n --noise_type noisy", "choose --noise_type worse or aggre or random1"),
        ("cifar100n --noise_type worse", "choose --noise_type noisy"),
        ("cifar10 --noise_type worse", "--noise_type worse is for cifar10n and cifar100n"),
    ],
)
def test_what_contradicts_it_is_refused(flags, message, capsys):
    with pytest.raises(SystemExit, match="2"):
        parse("train_cifar", ["--method", "ce", "--dataset_name", *flags.split()])
    assert message in capsys.readouterr().err


def test_a_files_noise_gives_way_to_a_noise_type(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("dataset_name: cifar10\nnoise_mode: sym\np: 0.4\nsigma: 0.3\n")
    flags = ["--config", str(path), "--dataset_name", "cifar10n", "--noise_type", "worse"]
    config = parse("train_cifar", flags)
    assert (config.noise_mode, config.p, config.noise_type) == (None, None, "worse")
    assert parse("train_cifar", ["--dataset_name", "cifar100n", "--method", "sln"]).sigma == 0.2


def test_the_presets_are_those_of_the_same_images():
    for human, plain in (("cifar10n", "cifar10"), ("cifar100n", "cifar100")):
        flags = ["--sigma", "0.5", "--mo", "--dataset_name"]
        one = parse("train_cifar", [*flags, human])
        other = parse("train_cifar", [*flags, plain, "--noise_mode", "sym"])
        same = {"dataset_name", "noise_mode", "noise_type", "p"}
        first, second = one.record(), other.record()
        assert {k: v for k, v in first.items() if k not in same} == {
            k: v for k, v in second.items() if k not in same
        }

"""CIFAR-10N and CIFAR-100N by name: --dataset cifar10n --noise_type worse, and what is refused."""

import dataclasses
import hashlib
import pickle
import shlex

import numpy as np
import pytest
import tiny
import torch
import yaml
from conftest import rows
from tiny import cifar

from lra_diffusion import compare, plot, train_CE, train_CIFAR
from lra_diffusion.run import config, labels
from lra_diffusion.run.labels import training_labels
from lra_diffusion.run.schema import LabelConfig
from shared.datasets import DatasetError, registry

SMALL = "--nepoch 2 --batch_size 16 --width 4 --diff_encoder resnet18 --device cpu --amp off"
LRA = [*shlex.split(SMALL), "--feature_dim", "8", "--warmup_epochs", "1"]


def human_file(root, clean, name="CIFAR-10_human.pt"):
    """A file of CIFAR-N's form: each column is wrong for other images."""
    columns = ("aggre_label", "worse_label", "random_label1", "random_label2", "random_label3")
    found = {"clean_label": clean}
    for number, column in enumerate(columns, start=2):
        found[column] = np.where(np.arange(len(clean)) % number == 0, (clean + 1) % 10, clean)
    path = root / "label_noisy" / "cifar_n" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(found, path)
    return found


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A CIFAR-10 of 100 training images, of which 80 are trained on, with human labels."""
    rng, spec, md5 = np.random.default_rng(0), registry.CIFAR["cifar10"], {}
    folder = tmp_path / "data" / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    clean = []
    for name in spec.files:
        pixels, classes = rng.integers(0, 256, (20, 3072), dtype=np.uint8), np.arange(20) % 10
        content = pickle.dumps({b"data": pixels, b"labels": classes.tolist()}, protocol=2)
        (folder / name).write_bytes(content)
        md5[name] = hashlib.md5(content).hexdigest()
        clean += classes.tolist() if name in spec.train_files else []
    fake = dataclasses.replace(spec, md5=md5, content_sha256=None)
    monkeypatch.setitem(registry.CIFAR, "cifar10", fake)
    monkeypatch.setattr(labels, "CIFAR_TRAIN_IMAGES", 80)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DATA_ROOT", str(tmp_path / "data"))
    human_file(tmp_path / "data", np.array(clean))
    tiny.simclr_weights(tmp_path, "cifar10")
    return tmp_path


@pytest.mark.training
def test_a_run_and_its_baseline_say_whose_labels_they_are_of(place, capsys):
    human = ["--dataset", "cifar10n", "--noise_type", "aggre"]
    assert train_CIFAR.main([*human, *LRA]) == 0
    out = capsys.readouterr().out
    assert "LRA-diffusion on cifar10n: 80 training, 20 validation, 20 test images" in out
    assert "noise: cifar10n-aggre, measured rate 0.5000" in out
    [run] = (place / "runs").iterdir()
    assert run.name.startswith("LRA-diffusion_SimCLR_cifar10n-aggre_")
    recorded = yaml.safe_load((run / "config.yaml").read_text())
    assert (recorded["dataset"], recorded["noise_type"]) == ("cifar10n", "aggre")
    assert (place / "model" / "LRA-diffusion_SimCLR_cifar10n-aggre.pt").exists()
    assert train_CE.main([*human, *shlex.split(SMALL), "--output_dir", "ce"]) == 0
    assert "CE on cifar10n" in capsys.readouterr().out
    assert compare.main([str(run), "ce"]) == 0
    assert capsys.readouterr().out.startswith("cifar10n-aggre, 50.0 % of the labels wrong\n")
    assert plot.main([str(run)]) == 0
    # The same as by the file's name, which needs more words.
    source = "data/label_noisy/cifar_n/CIFAR-10_human.pt:aggre_label"
    by_file = ["--dataset", "cifar10", "--noise_file", source, "--cut_labels"]
    assert train_CIFAR.main([*by_file, *LRA, "--output_dir", "by_file"]) == 0
    assert rows(place / "by_file") == rows(run)
    # All images train where none is to validate.
    everything = ["--no_validation", "--output_dir", "all"]
    assert train_CE.main([*human, *shlex.split(SMALL), *everything]) == 0
    assert "CE on cifar10n: 100 training, 20 test images" in capsys.readouterr().out
    assert train_CIFAR.main(["--config", str(run / "config.yaml"), "--output_dir", "again"]) == 0
    assert rows(place / "again") == rows(run)


@pytest.mark.parametrize("noise_type", ["aggre", "worse", "random1", "random2", "random3"])
def test_the_first_45000_labels_of_a_column_are_trained_on(noise_type, tmp_path, monkeypatch):
    monkeypatch.setenv("DATA_ROOT", str(tmp_path))
    columns = human_file(tmp_path, cifar().train_labels)
    column = {"aggre": "aggre_label", "worse": "worse_label"}.get(noise_type)
    column = column or f"random_label{noise_type[-1]}"
    asked = LabelConfig(dataset="cifar10n", noise_type=noise_type, width=64)
    noise = training_labels(asked, cifar())
    np.testing.assert_array_equal(noise.noisy_labels, columns[column][:45_000])
    np.testing.assert_array_equal(noise.clean_labels, cifar().train_labels[:45_000])


def test_a_missing_file_is_told_with_the_command_that_gets_it(tmp_path, monkeypatch):
    monkeypatch.setenv("DATA_ROOT", str(tmp_path))
    with pytest.raises(DatasetError, match="make data-cifar_n"):
        training_labels(LabelConfig(dataset="cifar10n", noise_type="worse", width=64), cifar())


def test_types_have_their_usual_spellings_and_the_presets_of_cifar():
    for parse in (lambda words: config.parse("train_CIFAR", words), config.parse_ce):
        for words, noise_type in (
            ("--dataset cifar10n", "worse"),
            ("--dataset cifar10n --noise_type worse_label", "worse"),
            ("--dataset cifar10n --noise_type rand2", "random2"),
            ("--dataset cifar100n", "noisy"),
        ):
            assert parse(shlex.split(words)).noise_type == noise_type
    human, usual = (
        dataclasses.asdict(config.parse("train_CIFAR", words))
        for words in (["--dataset", "cifar100n"], ["--noise_type", "cifar100-1-0.35"])
    )
    assert {name for name in human if human[name] != usual[name]} == {"dataset", "noise_type"}
    legacy = config.parse("train_CIFAR", ["--dataset", "cifar10n", "--legacy"])
    assert legacy.lr_horizon == 1000


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--dataset cifar10n --noise_file a.npz", "brings its labels: leave out --noise_file"),
        ("--dataset cifar10n --noise_dir a", "brings its labels: leave out --noise_dir"),
        ("--dataset cifar10n --cut_labels", "brings its labels: leave out --cut_labels"),
        ("--dataset cifar10n --noise_type cifar10-1-0.35", "choose --noise_type worse or aggre"),
        ("--dataset cifar100n --noise_type worse", "choose --noise_type noisy"),
        ("--noise_type worse", "--dataset cifar10n --noise_type worse"),
    ],
)
def test_other_noise_is_refused(line, message, capsys):
    for parse in (lambda words: config.parse("train_CIFAR", words), config.parse_ce):
        with pytest.raises(SystemExit, match="2"):
            parse(shlex.split(line))
        assert message in capsys.readouterr().err

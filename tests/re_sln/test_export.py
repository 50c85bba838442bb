"""`--export` and `--save_probs`: what a finished run thinks of its labels, for other tools."""

import csv
import shutil

import numpy as np
import pytest
import yaml
from conftest import TINY

from re_sln import train_cifar, train_real
from re_sln.run import label_quality
from re_sln.run.config import build_parser
from re_sln.run.flags import expand_export
from shared import datasets
from shared.formats.alignment import aligned
from shared.formats.external import read_any

pytestmark = pytest.mark.training
METHODS = ("ce", "sln_mo_lc")
TABLES = ("label_quality.csv", "corrected_labels.npz")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run of each method, with probabilities."""
    folder = tmp_path_factory.mktemp("finished")
    for method in METHODS:
        flags = [*TINY, "--method", method, "--save_probs", "--output_dir", str(folder / method)]
        assert train_cifar.main(flags) == 0
    return folder


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def table(run):
    with (run / "label_quality.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def column(run, name, kind=int):
    return np.array([kind(row[name]) for row in table(run)])


@pytest.mark.parametrize("method", METHODS)
def test_export_writes_the_same_bytes_and_nothing_else(method, finished, run_script, tmp_path):
    run = shutil.copytree(finished / method, tmp_path / "run")
    before = contents(run)
    for name in (*TABLES, "pred_probs.npz"):
        (run / name).unlink()
    done = run_script("train_cifar.py", "--export", "run")
    assert done.returncode == 0, done.stderr
    last = "run: wrote label_quality.csv and corrected_labels.npz again"
    assert done.stdout.splitlines()[-1] == last
    after = contents(run)
    assert after.keys() == before.keys()
    assert {name for name in after if after[name] != before[name]} <= {".holder"}
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


@pytest.mark.parametrize("method", METHODS)
def test_the_likeliest_class_is_the_predicted_one(method, finished):
    run = finished / method
    with np.load(run / "pred_probs.npz") as file:
        probs, tested, given = file["pred_probs"], file["test_pred_probs"], file["given_labels"]
        assert not file["out_of_sample"]
        assert file["index"].tolist() == column(run, "index").tolist()
    assert (probs.shape, tested.shape) == ((96, 10), (40, 10))
    for each in (probs, tested):
        assert each.sum(axis=1) == pytest.approx(np.ones(len(each)), abs=1e-5)
    assert probs.argmax(axis=1).tolist() == column(run, "predicted_label").tolist()
    own = probs[np.arange(96), given]
    assert own == pytest.approx(column(run, "self_confidence", float), abs=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_corrected_labels_are_a_noise_file_of_the_dataset(method, finished):
    run = finished / method
    noise = aligned(read_any(run / "corrected_labels.npz"), datasets.load("digits"))
    issue = np.array([row["is_label_issue"] == "True" for row in table(run)])
    expected = np.where(issue, column(run, "predicted_label"), column(run, "given_label"))
    assert noise.noisy_labels.tolist() == expected.tolist()
    assert noise.indices.tolist() == column(run, "index").tolist()
    assert noise.header.kind == "corrected"


def test_probabilities_come_when_they_are_asked_for(finished, main, tmp_path, capsys):
    """Of a run without them, which is moreover not finished."""
    run = shutil.copytree(finished / "ce", tmp_path / "run")
    probs = (run / "pred_probs.npz").read_bytes()
    (run / "pred_probs.npz").unlink()
    settings = yaml.safe_load((run / "config.yaml").read_text())
    plain = yaml.safe_dump(settings | {"save_probs": False, "n_epochs": 9})
    (run / "config.yaml").write_text(plain)
    assert main("--export", "run") == 0
    assert "again (the run is not finished: epoch 3 of 9)" in capsys.readouterr().out
    assert not (run / "pred_probs.npz").exists()
    assert main("--export", "run", "--save_probs") == 0
    assert (run / "pred_probs.npz").read_bytes() == probs
    assert (run / "config.yaml").read_text() == plain


def test_the_command_for_a_million_images_can_be_pasted(
    finished, main, tmp_path, monkeypatch, capsys
):
    run = shutil.copytree(finished / "ce", tmp_path / "exp_2026 12:00")
    for name in TABLES:
        (run / name).unlink()
    monkeypatch.setattr(label_quality, "MOST_UNASKED", 95)
    again = ("--config", run / "config.yaml", "--output_dir", run.name, "--resume")
    assert main(*again) == 0
    hint = "takes a pass over 96 images: `python train_cifar.py --export 'exp_2026 12:00'` writes"
    assert hint in capsys.readouterr().out
    assert not any((run / name).exists() for name in TABLES)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--export run --seed 1", "leave out all other flags but --save_probs"),
        ("--export run --sede 1", "leave out all other flags but --save_probs"),
        ("--export nowhere", "give the folder of a run"),
    ],
)
def test_export_refuses(flags, message, finished, main, tmp_path, capsys):
    shutil.copytree(finished / "ce", tmp_path / "run")
    with pytest.raises(SystemExit):
        main(*flags.split())
    assert message in capsys.readouterr().err


def test_export_refuses_runs_of_another_script_and_torn_ones(finished, main, tmp_path, capsys):
    run = shutil.copytree(finished / "ce", tmp_path / "run")
    with pytest.raises(SystemExit):
        train_real.main(["--export", str(run)])
    assert "a run of train_cifar.py: export it with that script" in capsys.readouterr().err
    for path in run.glob("*.ckpt"):
        path.write_bytes(path.read_bytes()[:1000])
    assert main("--export", "run") == 2
    assert "train it first" in capsys.readouterr().err


def test_export_takes_where_things_are_now(tmp_path):
    (tmp_path / "last.ckpt").touch()
    config = tmp_path / "config.yaml"
    config.write_text("script: train_cifar\nnoise_file: gone.npz:worse_label\n")
    run = str(tmp_path)
    expected = [f"--config={config}", f"--export={run}", f"--output_dir={run}", "--resume"]
    parser = build_parser("train_cifar")
    words = ["--export", run, "--data_path", "here"]
    own_labels = f"--noise_file={run}/noise.npz"
    assert expand_export(parser, words) == [*expected, "--data_path=here", own_labels]
    given = "--noise_file=here.npz"
    assert expand_export(parser, [*words, given, "--save_probs"]) == [
        *expected,
        "--data_path=here",
        given,
        "--save_probs",
    ]
    config.write_text(f"noise_file: {config}:worse_label\n")
    assert expand_export(parser, words[:2]) == expected


def test_a_moved_run_is_exported(tmp_path, finished, main, monkeypatch, capsys):
    """Its noise file has gone; what it trained on lies in it."""
    noise_file = tmp_path / "noise.npz"
    shutil.copy(finished / "ce" / "noise.npz", noise_file)
    flags = ["--dataset_name", "digits", "--noise_file", noise_file, "--limit_train", "96"]
    assert main(*flags, "--method", "ce", "--n_epochs", 1, "--output_dir", tmp_path / "run") == 0
    written = (tmp_path / "run" / TABLES[0]).read_bytes()
    noise_file.unlink()
    (tmp_path / "run" / TABLES[0]).unlink()
    (tmp_path / "run").rename(tmp_path / "moved")
    assert main("--export", tmp_path / "moved") == 0
    assert (tmp_path / "moved" / TABLES[0]).read_bytes() == written

"""`--export` and `--save_probs`: what a finished run thinks of its labels, for other tools."""

import csv
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
import yaml
from conftest import SCRIPT, TINY, environment

from instancegm import instanceGM, instanceGM_animal10N
from instancegm.run import report
from shared import datasets
from shared.formats.alignment import aligned
from shared.formats.external import read_any

pytestmark = pytest.mark.training
SHORT = [*TINY, "--num_epochs", "2", "--output_dir", "run"]
TABLES = ("label_quality.csv", "clean_prob.csv", "corrected_labels.npz")


def trained(folder, *flags):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("DATA_ROOT", raising=False)
        assert instanceGM.main([*SHORT, *flags]) == 0
    return folder / "run"


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """A run of InstanceGM, with probabilities and a picture."""
    return trained(tmp_path_factory.mktemp("both"), "--save_probs")


@pytest.fixture(scope="module")
def baseline(tmp_path_factory):
    """A run of cross-entropy without them."""
    return trained(tmp_path_factory.mktemp("ce"), "--mode", "ce", "--no-plots")


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def table(run):
    with (run / "label_quality.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def column(run, name, kind=int):
    return np.array([kind(row[name]) for row in table(run)])


def test_export_writes_the_same_bytes_and_nothing_else(both, tmp_path):
    run = shutil.copytree(both, tmp_path / "run")
    before = contents(run)
    for name in (*TABLES, "pred_probs.npz", "plots.png"):
        (run / name).unlink()
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--export", "run"],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    last = "run: wrote label_quality.csv and corrected_labels.npz again"
    assert done.stdout.splitlines()[-1] == last
    after = contents(run)
    assert after.keys() == before.keys()
    assert {name for name in after if after[name] != before[name]} <= {"plots.png", ".holder"}
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_of_two_networks_the_likeliest_class_is_the_one_that_their_summed_logits_name():
    logits = 9 * torch.randn(2, 500, 10, generator=torch.Generator().manual_seed(0))
    probs = report._ensemble_probs(logits)
    assert probs.argmax(dim=1).tolist() == logits.sum(dim=0).argmax(dim=1).tolist()
    assert probs.sum(dim=1).tolist() == pytest.approx([1.0] * 500, abs=1e-5)


def test_probabilities_of_two_networks_are_those_of_the_table(both):
    with np.load(both / "pred_probs.npz") as file:
        probs, tested, given = file["pred_probs"], file["test_pred_probs"], file["given_labels"]
        assert not file["out_of_sample"]
        assert file["index"].tolist() == column(both, "index").tolist()
    assert (probs.shape, tested.shape) == ((96, 10), (40, 10))
    for each in (probs, tested):
        assert each.sum(axis=1) == pytest.approx(np.ones(len(each)), abs=1e-5)
    assert probs.argmax(axis=1).tolist() == column(both, "predicted_label").tolist()
    own = probs[np.arange(96), given]
    assert own == pytest.approx(column(both, "self_confidence", float), abs=1e-5)


def test_of_cross_entropy_the_likeliest_class_is_the_predicted_and_the_corrected_one(
    baseline, main, tmp_path
):
    run = shutil.copytree(baseline, tmp_path / "run")
    assert not (run / "pred_probs.npz").exists()
    before = contents(run)
    assert main("--export run --save_probs") == 0
    assert {name: (run / name).read_bytes() for name in (*TABLES, "config.yaml")} == {
        name: before[name] for name in (*TABLES, "config.yaml")
    }
    with np.load(run / "pred_probs.npz") as file:
        probs = file["pred_probs"]
    predicted = column(run, "predicted_label")
    assert probs.argmax(axis=1).tolist() == predicted.tolist()
    assert read_any(run / "corrected_labels.npz").noisy_labels.tolist() == predicted.tolist()


def test_corrected_labels_are_a_noise_file_of_the_dataset(both):
    found = read_any(both / "corrected_labels.npz")
    noise = aligned(found, datasets.load("digits"))
    issue = np.array([row["is_label_issue"] == "True" for row in table(both)])
    expected = np.where(issue, column(both, "predicted_label"), column(both, "given_label"))
    assert noise.noisy_labels.tolist() == expected.tolist()
    assert (noise.header.kind, noise.indices.tolist()) == (
        "corrected",
        column(both, "index").tolist(),
    )


def test_an_unfinished_run_says_so(baseline, main, tmp_path, capsys):
    run = shutil.copytree(baseline, tmp_path / "run")
    settings = yaml.safe_load((run / "config.yaml").read_text())
    (run / "config.yaml").write_text(yaml.safe_dump(settings | {"num_epochs": 9}))
    assert main("--export run") == 0
    assert "again (the run is not finished: epoch 2 of 9)" in capsys.readouterr().out


def test_a_million_images_are_looked_at_only_when_asked(
    baseline, main, tmp_path, monkeypatch, capsys
):
    run = shutil.copytree(baseline, tmp_path / "run")
    before = contents(run)
    for name in TABLES:
        (run / name).unlink()
    monkeypatch.setattr(report, "MOST_UNASKED", 95)
    assert main("--config run/config.yaml --output_dir run --resume") == 0
    hint = "label_quality.csv takes a pass over 96 images: `python instanceGM.py --export run` "
    assert hint in capsys.readouterr().out
    assert not any((run / name).exists() for name in TABLES)
    assert main("--export run") == 0
    assert {name: (run / name).read_bytes() for name in TABLES} == {
        name: before[name] for name in TABLES
    }


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--export run --seed 1", "leave out all other flags but --save_probs"),
        ("--export run --sede 1", "leave out all other flags but --save_probs"),
        ("--export nowhere", "give the folder of a run"),
        ("--evaluate run --save_probs", "leave out --save_probs"),
    ],
)
def test_export_refuses(flags, message, baseline, main, tmp_path, capsys):
    shutil.copytree(baseline, tmp_path / "run")
    with pytest.raises(SystemExit):
        main(flags)
    assert message in capsys.readouterr().err


def test_export_refuses_runs_of_another_script_and_torn_ones(baseline, main, tmp_path, capsys):
    run = shutil.copytree(baseline, tmp_path / "run")
    with pytest.raises(SystemExit):
        instanceGM_animal10N.main(["--export", str(run)])
    assert "a run of instanceGM.py: export it with that script" in capsys.readouterr().err
    for path in run.glob("*.ckpt"):
        path.write_bytes(path.read_bytes()[:1000])
    assert main("--export run") == 2
    assert "train it first" in capsys.readouterr().err

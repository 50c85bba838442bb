"""`--export` and `--save_probs`: what a finished run thinks of its labels, for other tools."""

import shutil

import numpy as np
import pytest
import tiny
import yaml
from conftest import verdicts

from lra_diffusion import train_CE, train_CIFAR, train_WebVision
from lra_diffusion.run import verdict
from shared import datasets
from shared.formats.alignment import aligned
from shared.formats.external import read_any

pytestmark = pytest.mark.training
SCRIPTS = {"lra": train_CIFAR, "ce": train_CE}
TABLES = ("label_quality.csv", "corrected_labels.npz")
CE = ["--dataset", "digits", "--limit_train", "100", "--limit_test", "30", "--nepoch", "3"]
CE += ["--batch_size", "25", "--width", "4", "--device", "cpu"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run of each method, with probabilities."""
    folder = tmp_path_factory.mktemp("finished")
    noise = ["--noise_file", str(tiny.noisy_digits(folder))]
    flags = {"lra": tiny.with_features(folder), "ce": [*CE, *noise]}
    for method, script in SCRIPTS.items():
        output = ["--save_probs", "--output_dir", str(folder / method)]
        assert script.main([*flags[method], *output]) == 0
    return folder


@pytest.fixture
def run_of(finished, tmp_path, monkeypatch):
    """A copy of a finished run, in an empty folder where the test works."""
    monkeypatch.chdir(tmp_path)
    return lambda method: shutil.copytree(finished / method, tmp_path / "run")


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def column(run, name, kind=int):
    return np.array([kind(row[name]) for row in verdicts(run)])


@pytest.mark.parametrize("method", SCRIPTS)
def test_export_writes_the_same_bytes_and_nothing_else(method, run_of, run_script, tmp_path):
    run = run_of(method)
    before = contents(run)
    for name in (*TABLES, "pred_probs.npz"):
        (run / name).unlink()
    script = f"{SCRIPTS[method].__name__.split('.')[-1]}.py"
    done = run_script(script, "--export", "run")
    assert done.returncode == 0, done.stderr
    last = "run: wrote label_quality.csv and corrected_labels.npz again"
    assert done.stdout.splitlines()[-1] == last
    after = contents(run)
    assert after.keys() == before.keys()
    assert {name for name in after if after[name] != before[name]} <= {".holder"}
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


@pytest.mark.parametrize("method", SCRIPTS)
def test_the_likeliest_class_is_the_predicted_one(method, finished):
    run = finished / method
    index = column(run, "index")
    with np.load(run / "pred_probs.npz") as file:
        probs, tested, given = file["pred_probs"], file["test_pred_probs"], file["given_labels"]
        assert not file["out_of_sample"]
        assert file["index"].tolist() == index.tolist()
    assert (probs.shape, tested.shape[1]) == ((len(index), 10), 10)
    for each in (probs, tested):
        assert each.sum(axis=1) == pytest.approx(np.ones(len(each)), abs=1e-5)
    assert probs.argmax(axis=1).tolist() == column(run, "predicted_label").tolist()
    own = probs[np.arange(len(given)), given]
    assert own == pytest.approx(column(run, "self_confidence", float), abs=1e-5)


@pytest.mark.parametrize("method", SCRIPTS)
def test_corrected_labels_are_a_noise_file_of_the_dataset(method, finished):
    run = finished / method
    noise = aligned(read_any(run / "corrected_labels.npz"), datasets.load("digits"))
    assert noise.noisy_labels.tolist() == column(run, "predicted_label").tolist()
    assert noise.indices.tolist() == column(run, "index").tolist()
    assert noise.header.kind == "corrected"


def test_probabilities_come_when_they_are_asked_for(run_of, capsys):
    """Of a run without them, which is moreover not finished."""
    run = run_of("ce")
    probs = (run / "pred_probs.npz").read_bytes()
    (run / "pred_probs.npz").unlink()
    settings = yaml.safe_load((run / "config.yaml").read_text())
    plain = yaml.safe_dump(settings | {"save_probs": False, "nepoch": 9})
    (run / "config.yaml").write_text(plain)
    assert train_CE.main(["--export", "run"]) == 0
    assert "again (the run is not finished: epoch 3 of 9)" in capsys.readouterr().out
    assert not (run / "pred_probs.npz").exists()
    assert train_CE.main(["--export", "run", "--save_probs"]) == 0
    assert (run / "pred_probs.npz").read_bytes() == probs
    assert (run / "config.yaml").read_text() == plain


def test_a_million_images_are_looked_at_only_when_asked(run_of, monkeypatch, capsys):
    run = run_of("ce")
    for name in TABLES:
        (run / name).unlink()
    monkeypatch.setattr(verdict, "MOST_UNASKED", 99)
    config = ["--config", "run/config.yaml", "--output_dir", "run", "--resume"]
    assert train_CE.main(config) == 0
    hint = "takes a pass over 100 images: `python train_CE.py --export run` writes it"
    assert hint in capsys.readouterr().out
    assert not any((run / name).exists() for name in TABLES)
    assert train_CE.main(["--export", "run"]) == 0
    assert all((run / name).exists() for name in TABLES)


@pytest.mark.parametrize(
    ("script", "flags", "message"),
    [
        (train_CE, "--export run --seed 1", "leave out all other flags but --save_probs"),
        (train_CE, "--export run --sede 1", "leave out all other flags but --save_probs"),
        (train_CE, "--export nowhere", "give the folder of a run"),
        (train_CIFAR, "--export run", "a run of train_CE.py: export it with that script"),
        (train_WebVision, "--export run", "a run of train_CE.py: export it with that script"),
        (
            train_CIFAR,
            "--noise_type digits-1-0.35 --eval_only a.pt --save_probs",
            "--save_probs does nothing with --eval_only",
        ),
    ],
)
def test_export_refuses(script, flags, message, run_of, capsys):
    run_of("ce")
    with pytest.raises(SystemExit):
        script.main(flags.split())
    assert message in capsys.readouterr().err


def test_export_refuses_torn_checkpoints(run_of, capsys):
    run = run_of("ce")
    for path in run.glob("*.ckpt"):
        path.write_bytes(path.read_bytes()[:1000])
    assert train_CE.main(["--export", "run"]) == 2
    assert "train it first" in capsys.readouterr().err

"""train_CE.py from outside, at a tiny size: what it writes, what it survives, what it refuses; and
compare.py on such runs.
"""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
import yaml
from conftest import SCRIPTS, environment, rows
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lra_diffusion import compare, train_CE
from lra_diffusion.run import checkpoint, config
from lra_diffusion.run.labels import split
from shared import datasets
from shared.formats import noise_file

SMALL = [
    "--limit_train",
    "96",
    "--limit_test",
    "40",
    "--batch_size",
    "32",
    "--width",
    "8",
    "--device",
    "cpu",
]
TINY = ["--noise_type", "digits-1-0.35", "--nepoch", "3", *SMALL]


@pytest.fixture
def main(tmp_path, monkeypatch):
    """The main function of train_CE.py in a folder with noisy labels of the digits."""
    monkeypatch.chdir(tmp_path)
    write_noise(tmp_path / "noise_label" / "digits-1-0.35.npz", 0.35)
    return lambda *flags: train_CE.main([str(flag) for flag in flags])


def write_noise(path, rate):
    digits = datasets.load("digits")
    training, _ = split(digits)
    clean = digits.train_labels[training]
    noisy = np.where(np.random.default_rng(0).random(len(clean)) < rate, (clean + 1) % 10, clean)
    noise = noise_file.make(
        noisy, clean_labels=clean, indices=training, dataset="digits", num_classes=10, kind="pmd"
    )
    noise_file.write(path, noise)


@pytest.mark.training
def test_the_run_folder_and_what_is_said_at_the_end(main, tmp_path, capsys):
    assert main(*TINY) == 0
    [run] = (tmp_path / "runs").iterdir()
    assert run.name.startswith("CE_digits-1-0.35_")
    files = {path.name for path in run.iterdir() if not path.name.startswith(("events", "."))}
    expected = {"config.yaml", "metrics.jsonl", "last.ckpt", "best.ckpt", "noise.npz"}
    assert files == {*expected, "label_quality.csv", "corrected_labels.npz"}
    metrics = rows(run)
    assert [row["epoch"] for row in metrics] == [1, 2, 3]
    assert set(metrics[0]) == {
        "epoch",
        "lr",
        "loss",
        "accuracy_train",
        "accuracy_val",
        "accuracy",
        "selection",
    }
    assert [row["lr"] for row in metrics] == pytest.approx([0.1, 0.075, 0.025])
    best = max(metrics, key=lambda row: row["accuracy_val"])
    assert checkpoint.load(run / checkpoint.BEST)["rows"][-1]["epoch"] == best["epoch"]
    assert len(checkpoint.load(run / checkpoint.LAST)["rows"]) == 3
    accuracies = [row["accuracy"] for row in metrics]
    assert (
        f"last {accuracies[-1]:.2f} %, mean of the last 10 {np.mean(accuracies):.2f} %, best "
        f"{max(accuracies):.2f} %"
    ) in (out := capsys.readouterr().out)
    assert (
        f"at the best validation accuracy: {best['accuracy']:.2f} % (epoch {best['epoch']})" in out
    )
    config = yaml.safe_load((run / "config.yaml").read_text())
    noise = noise_file.read(run / "noise.npz")
    assert config["method"] == "CE"
    assert config["measured_noise_rate"] == pytest.approx(noise.header.measured_rate)
    assert config["identity"]["noisy_labels_sha256"] == noise_file.label_hash(noise.noisy_labels)
    events = EventAccumulator(str(run)).Reload()
    assert [event.value for event in events.Scalars("accuracy")] == pytest.approx(accuracies)


@pytest.mark.parametrize("noise", ["cifar10-1-0.35", "cifar100-2-0.70", "digits-1-0.35"])
def test_network_and_training_are_those_of_the_diffusion_encoder(noise):
    ours, theirs = (
        config.parse_ce(["--noise_type", noise]),
        config.parse("train_CIFAR", ["--noise_type", noise]),
    )
    for name in ("dataset", "nepoch", "batch_size", "diff_encoder", "width", "seed"):
        assert getattr(ours, name) == getattr(theirs, name)
    assert ours.lr == 0.1


@pytest.mark.training
def test_kill_9_and_resume_give_the_same_run(main, tmp_path):
    flags = [*TINY[:2], "--nepoch", "12", *SMALL, "--output_dir"]
    assert main(*flags, "whole") == 0
    process = subprocess.Popen(
        [sys.executable, str(SCRIPTS / "train_CE.py"), *flags, "killed"],
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    metrics = tmp_path / "killed" / "metrics.jsonl"
    while (not metrics.exists() or metrics.read_text().count("\n") < 3) and process.poll() is None:
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert 3 <= metrics.read_text().count("\n") < 12
    assert main(*flags, "killed", "--resume") == 0
    assert rows(tmp_path / "killed") == rows(tmp_path / "whole")
    one, other = (
        checkpoint.load(tmp_path / name / checkpoint.LAST) for name in ("whole", "killed")
    )
    assert all(torch.equal(one["net"][key], other["net"][key]) for key in one["net"])
    momenta = [state["optimizer"]["state"] for state in (one, other)]
    assert all(
        torch.equal(momenta[0][i]["momentum_buffer"], momenta[1][i]["momentum_buffer"])
        for i in momenta[0]
    )


@pytest.mark.training
def test_what_cannot_work_is_refused(main, tmp_path, capsys):
    assert main(*TINY, "--output_dir", "run") == 0
    assert main(*TINY, "--output_dir", "run") == 2
    assert "add --resume" in capsys.readouterr().err
    for flags, message in (
        (["--seed", 5], "seed: 123 then, 5 now"),
        (["--lr", 0.2], "lr: 0.1 then, 0.2 now"),
        (["--nepoch", 2], "nepoch: 3 then, 2 now"),
        (["--limit_train", 90], "train_sha256"),
    ):
        assert main(*TINY, *flags, "--output_dir", "run", "--resume") == 2
        assert message in capsys.readouterr().err
    assert main("--noise_type", "digits-9-0.99") == 2
    assert "make_pmd.py --dataset digits" in capsys.readouterr().err
    wrong = {
        "--noise_type mnist-1-0.35": "is not a dataset",
        "--nepoch 0": "at least 1",
        "--lr 0": "above 0",
        "--noise_type digits-1-0.35 --noise_file x.npz": "drop one",
        "--no_validation --cut_labels": "drop one",
    }
    for line, message in wrong.items():
        with pytest.raises(SystemExit, match="2"):
            main(*line.split())
        assert message in capsys.readouterr().err


@pytest.mark.training
def test_a_loss_that_is_not_finite_is_status_3(main, tmp_path, capsys):
    assert main(*TINY, "--lr", "1e30", "--output_dir", "run") == 3
    assert "the loss is not finite (epoch 1, step" in capsys.readouterr().err
    assert not (tmp_path / "run" / checkpoint.LAST).exists()


@pytest.mark.training
def test_without_validation_the_last_epoch_counts(main, tmp_path, capsys):
    digits = datasets.load("digits")
    noise = noise_file.make(
        digits.train_labels, clean_labels=digits.train_labels, dataset="digits", num_classes=10
    )
    noise_file.write(tmp_path / "all.npz", noise)
    flags = [
        "--dataset",
        "digits",
        "--noise_file",
        "all.npz",
        "--nepoch",
        "2",
        *SMALL,
        "--no_validation",
    ]
    assert main(*flags, "--output_dir", "run") == 0
    assert [row["selection"] for row in rows(tmp_path / "run")] == [None, None]
    assert len(checkpoint.load(tmp_path / "run" / checkpoint.BEST)["rows"]) == 2
    assert "best validation" not in capsys.readouterr().out


def fake_run(folder, method, accuracies, labels=(0, 1), **more):
    """A run folder as far as compare.py reads it."""
    folder.mkdir()
    config = {
        "method": method,
        "noise_type": "cifar10-1-0.35",
        "measured_noise_rate": 0.35031,
        "k": 10,
        "nepoch": 200,
    }
    noise_file.write(folder / "noise.npz", noise_file.make(labels))
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    lines = [
        {
            "epoch": number,
            "accuracy": value,
            "selection": value and 100 - value,
            "seconds": 2.5,
            **more,
        }
        for number, value in enumerate(accuracies, start=1)
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(folder)


def test_compare_prints_every_method_and_the_vote_and_draws_the_curves(tmp_path, capsys):
    runs = [
        fake_run(tmp_path / "ce", "CE", [70.0, 80.0, 76.0]),
        fake_run(
            tmp_path / "lra", "LRA-diffusion (SimCLR)", [None, 85.0, 87.5], knn_accuracy_test=82.25
        ),
    ]
    picture = tmp_path / "pictures" / "curves.png"
    assert compare.main([*runs, "--plot", str(picture)]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    lines = {line.split("  ")[0]: line.split()[-6:] for line in out.splitlines()[3:-1]}
    assert out.startswith("cifar10-1-0.35, 35.0 % of the labels wrong\n")
    assert lines["CE"] == ["76.00", "75.33", "1-3", "80.00", "70.00", "8"]
    assert lines["LRA-diffusion (SimCLR)"] == ["87.50", "86.25", "2-3", "87.50", "85.00", "8"]
    assert lines["vote of 10 neighbours"] == ["82.25", "-", "-", "-", "-", "-"]
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_compare_takes_what_is_no_number_for_not_tested_and_tells_which_epochs_count(
    tmp_path, capsys
):
    every_fifth = [10.0 * (n // 5) if n % 5 == 0 else None for n in range(1, 31)]
    runs = [
        fake_run(tmp_path / "one", "CE", [None, float("nan"), 70.0]),
        fake_run(tmp_path / "two", "LRA-diffusion", every_fifth),
        fake_run(tmp_path / "none", "LRA-diffusion (CLIP)", [None, float("inf")]),
    ]
    assert compare.main([*runs, "--plot", str(tmp_path / "a.png")]) == 0
    lines = {
        line.split("  ")[0]: line.split()[-6:] for line in capsys.readouterr().out.splitlines()
    }
    assert lines["CE"][:4] == ["70.00", "70.00", "3", "70.00"]
    # Six tests, not six epochs.
    assert lines["LRA-diffusion"][:4] == ["60.00", "35.00", "5-30", "60.00"]
    assert lines["LRA-diffusion (CLIP)"][:5] == ["-"] * 5


def test_compare_refuses_a_log_of_two_runs(tmp_path, capsys):
    run = fake_run(tmp_path / "both", "CE", [1.0, 2.0])
    log = tmp_path / "both" / "metrics.jsonl"
    log.write_text("".join(line * 2 for line in log.read_text().splitlines(keepends=True)))
    assert compare.main([run]) == 2
    assert "two runs wrote into one folder" in capsys.readouterr().err


def test_compare_warns_of_other_labels_tells_equal_methods_apart_and_says_what_is_missing(
    tmp_path, capsys
):
    runs = [
        fake_run(tmp_path / "one", "CE", [70.0]),
        fake_run(tmp_path / "two", "CE", [71.0], labels=(1, 1)),
    ]
    assert compare.main(runs) == 0
    out, err = capsys.readouterr()
    assert "different noisy labels (by their noise.npz)" in err
    assert "CE, one" in out
    assert "CE, two" in out
    (tmp_path / "nothing").mkdir()
    assert compare.main([runs[0], str(tmp_path / "nothing")]) == 0
    assert "nothing: no run folder is in it or below it" in capsys.readouterr().err
    empty = fake_run(tmp_path / "empty", "CE", [])
    assert compare.main([empty]) == 2
    assert "no epoch is finished" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        compare.main([runs[0], "--plot", "curves.pdf"])


def test_compare_warns_of_other_datasets_also_where_curves_have_no_labels(tmp_path, capsys):
    def curve(name, entry):
        place = tmp_path / f"{name}.csv"
        place.write_text(f"# method: {name}\n# {entry}\nepoch,accuracy\n1,50.0\n")
        return str(place)

    own = curve("CE", "dataset: cifar10n")
    theirs = [
        curve("LRA-diffusion (CLIP)", "dataset: cifar10_uniform_0.4"),
        curve("LRA-diffusion (SimCLR)", "dataset_name: cifar10"),
        curve("LRA-diffusion", "dataset: file"),
    ]
    assert compare.main([own, *theirs]) == 0
    assert capsys.readouterr().err == ""
    assert compare.main([own, curve("LRA-diffusion (lite0)", "dataset: digits")]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("different datasets\n")
    assert "trained on different datasets (cifar10, digits), so their accuracies" in err


def test_compare_takes_runs_of_other_projects_with_the_accuracy_that_they_report(tmp_path, capsys):
    """Trained on the same labels but for those that each keeps to validate."""
    fake_run(tmp_path / "ce", "CE", [70.0, 80.0])
    log = [{"epoch": n, "accuracy": 10.0 * n, "accuracy_test_ema": 1.0} for n in (1, 2)]
    (tmp_path / "sln").mkdir()
    config = {"dataset_name": "digits", "sigma": 1.0, "mo": True, "lc_n_epoch": -1, "n_epochs": 2}
    (tmp_path / "sln" / "config.yaml").write_text(yaml.safe_dump(config))
    (tmp_path / "sln" / "metrics.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in log))
    noise_file.write(tmp_path / "sln" / "noise.npz", noise_file.make([7, 1], indices=[5, 1]))
    assert compare.main([str(tmp_path), "--plot", str(tmp_path / "a.png")]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    lines = {line.split("  ")[0]: line.split()[-6:] for line in out.splitlines()[3:-1]}
    assert lines["CE"][:2] == ["80.00", "75.00"]
    assert lines["SLN+MO"] == ["20.00", "15.00", "1-2", "20.00", "-", "0"]

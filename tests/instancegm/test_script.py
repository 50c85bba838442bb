"""instanceGM.py from outside, at a tiny size: what it writes, what it survives, what it refuses."""

import csv
import json
import os
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
import yaml
from conftest import SCRIPT, TINY, environment, rows

from instancegm.run import checkpoint
from shared.datasets import load_digits
from shared.formats import noise_file

pytestmark = pytest.mark.training


def test_a_run_leaves_every_file_that_is_promised(run_script, tmp_path):
    done = run_script(*TINY, "--output_dir", "run")
    assert done.returncode == 0, done.stderr
    assert "preset (override with the flags): num_epochs 3, warm_up 1" in done.stdout
    assert "instancegm test accuracy: best" in done.stdout
    assert done.stdout.splitlines()[-1] == "plots: run/plots.png"
    assert "epochs:" not in done.stderr  # no progress bar where there is no terminal

    run = tmp_path / "run"
    names = {path.name for path in run.iterdir()}
    assert names == {
        "config.yaml",
        "noise.npz",
        "metrics.jsonl",
        "tensorboard",
        "last.ckpt",
        "best.ckpt",
        "clean_prob.csv",
        "label_quality.csv",
        "corrected_labels.npz",
        "plots.png",
        ".lock",
    }
    metrics = rows(run)
    assert [row["epoch"] for row in metrics] == [0, 1, 2, 3]
    assert [row["phase"] for row in metrics] == ["warm_up", "co_divide", "co_divide", "co_divide"]
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert (config["dataset"], config["r"], config["seed"], config["method"]) == (
        "digits",
        0.4,
        123,
        "instancegm",
    )
    assert config["noisy_labels_sha256"] == noise_file.label_hash(
        noise_file.read(run / "noise.npz").noisy_labels
    )
    with open(run / "clean_prob.csv", newline="") as file:
        table = list(csv.DictReader(file))
    assert list(table[0]) == [
        "index",
        "given_label",
        "clean_prob_1",
        "clean_prob_2",
        "predicted_label",
    ]
    with open(run / "label_quality.csv", newline="") as file:
        qualities = list(csv.DictReader(file))
    for row, quality in zip(table, qualities, strict=True):
        mean = (float(row["clean_prob_1"]) + float(row["clean_prob_2"])) / 2
        assert float(quality["label_quality"]) == pytest.approx(mean, abs=2e-6)
        assert (quality["is_label_issue"] == "True") == (float(quality["label_quality"]) <= 0.5)
        assert quality["index"] == row["index"]
        assert quality["predicted_name"] == row["predicted_label"]  # of digits
        assert 0 <= float(quality["self_confidence"]) <= 1
    clean = [int(quality["clean_label"]) for quality in qualities]
    assert clean == noise_file.read(run / "noise.npz").clean_labels.tolist()
    corrected = noise_file.read(run / "corrected_labels.npz")
    assert corrected.indices.tolist() == [int(row["index"]) for row in table]
    for row, label in zip(table, corrected.noisy_labels.tolist()):
        trusted = float(row["clean_prob_1"]) + float(row["clean_prob_2"]) > 1
        assert label == int(row["given_label"] if trusted else row["predicted_label"])

    accuracy = (tmp_path / "checkpoint" / "digits_0.4_instance_acc.txt").read_text().splitlines()
    assert accuracy == [f"Epoch:{row['epoch']}   Accuracy:{row['accuracy']:.2f}" for row in metrics]
    stats = (tmp_path / "checkpoint" / "digits_0.4_instance_stats.txt").read_text().splitlines()
    expected = [
        f"Numer of labeled samples:{row[f'n_labelled_{k}']}   AUC:{row[f'auc_{k}']:.3f}"
        for row in metrics[1:]
        for k in (1, 2)
    ]
    assert stats == expected
    published = torch.load(tmp_path / "saved" / "digits" / "checkpoint_0.4.tar", weights_only=True)
    assert set(published) == {
        "epoch",
        "loss_1",
        "loss_2",
        "net1_state_dict",
        "net2_state_dict",
        "vae1_state_dict",
        "vae2_state_dict",
        "optimizer1_state_dict",
        "optimizer2_state_dict",
    }
    assert published["epoch"] == 3


def test_kill_9_at_any_moment_and_resume_gives_the_same_run(tmp_path):
    command = [sys.executable, str(SCRIPT), *TINY, "--num_epochs", "5", "--resume", "--output_dir"]
    whole = tmp_path / "whole"
    start = time.monotonic()
    subprocess.run(
        [*command, str(whole)], cwd=tmp_path, env=environment(), check=True, capture_output=True
    )
    seconds = time.monotonic() - start
    killed, kills = tmp_path / "killed", 0
    moments = random.Random(3)
    while kills < 4:
        process = subprocess.Popen(
            [*command, str(killed)],
            cwd=tmp_path,
            env=environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            process.wait(timeout=moments.uniform(0.4, 0.95) * seconds)
            break  # it was faster than the knife
        except subprocess.TimeoutExpired:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            kills += 1
    subprocess.run(
        [*command, str(killed)], cwd=tmp_path, env=environment(), check=True, capture_output=True
    )
    assert kills >= 1
    assert rows(killed) == rows(whole)
    for name in (checkpoint.LAST, checkpoint.BEST):
        one, other = (checkpoint.load(run / name) for run in (whole, killed))
        assert one["epoch"] == other["epoch"]
        for a, b in zip(one["peers"], other["peers"]):
            for part in ("net", "vae"):
                assert all(torch.equal(a[part][key], b[part][key]) for key in a[part])
    assert (killed / "clean_prob.csv").read_bytes() == (whole / "clean_prob.csv").read_bytes()


def test_resuming_a_run_goes_on_where_it_stopped(main, tmp_path, capsys):
    assert main(*TINY, "--num_epochs 1 --output_dir short") == 0
    assert main(*TINY, "--num_epochs 3 --output_dir short --resume") == 0
    assert "resumed: epoch 1 of 3 is done" in capsys.readouterr().out
    assert main(*TINY, "--num_epochs 3 --output_dir long") == 0
    assert rows(tmp_path / "short") == rows(tmp_path / "long")
    # The best one is an earlier epoch, or the same.
    (tmp_path / "short" / "last.ckpt").write_bytes(b"torn by a full disk")
    assert main(*TINY, "--num_epochs 3 --output_dir short --resume") == 0
    assert rows(tmp_path / "short") == rows(tmp_path / "long")


def test_an_existing_run_is_neither_overwritten_nor_mixed_up(main, capsys):
    assert main(*TINY, "--num_epochs 0 --output_dir run") == 0
    assert main(*TINY, "--num_epochs 0 --output_dir run") == 2
    assert "add --resume" in capsys.readouterr().err
    assert main(*TINY, "--num_epochs 1 --output_dir run --resume --seed 5 --limit_train 90") == 2
    message = capsys.readouterr().err
    assert "seed: 123 then, 5 now" in message
    # It is done already: the results again.
    assert main(*TINY, "--num_epochs 0 --output_dir run --resume") == 0
    assert "data_sha256" in message


def test_default_run_folders_are_numbered(main, tmp_path):
    for _ in range(2):
        assert main(*TINY, "--num_epochs 0 --id x") == 0
    name = "digits_0.4_instance_instancegm_x_seed123"
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == [name, f"{name}-2"]


@pytest.mark.parametrize(
    "flags",
    [["--mode", "ce"], ["--no-vae"], ["--numerics", "paper"], ["--guess_eval"], ["--r", "0.9"]],
)
def test_the_variants_run(main, tmp_path, flags):
    assert main(*TINY, *flags, "--output_dir run --num_epochs 2") == 0
    last = rows(tmp_path / "run")[-1]
    assert ("loss_2" in last) == ("ce" not in flags)
    assert ("reconstruction_1" in last) == (not {"ce", "--no-vae"} & set(flags))


def test_the_learning_rate_falls_to_a_tenth_and_the_warm_up_ends_when_they_should(main, tmp_path):
    assert main(*TINY, "--no-vae --num_epochs 3 --warm_up 2 --lr_drop 1 --output_dir run") == 0
    assert [row["lr"] for row in rows(tmp_path / "run")] == [0.02, 0.002, 0.002, 0.002]
    assert [row["phase"] for row in rows(tmp_path / "run")] == [
        "warm_up",
        "warm_up",
        "co_divide",
        "co_divide",
    ]


def test_fewer_epochs_than_the_warm_up_still_leave_a_checkpoint(main, tmp_path):
    assert main(*TINY, "--num_epochs 0 --warm_up 5 --output_dir run") == 0
    assert (tmp_path / "saved" / "digits" / "checkpoint_0.4.tar").exists()


def test_evaluate_scores_a_run_and_a_published_checkpoint(main, tmp_path, capsys):
    assert main(*TINY, "--num_epochs 1 --output_dir run") == 0
    capsys.readouterr()
    assert main("--evaluate run") == 0
    last, best = capsys.readouterr().out.splitlines()
    assert last.startswith(
        f"run/last.ckpt: test accuracy {rows(tmp_path / 'run')[-1]['accuracy']:.2f} %"
    )
    assert best.startswith("run/best.ckpt")
    assert main("--evaluate saved/digits/checkpoint_0.4.tar --dataset digits --limit_test 40") == 0
    assert capsys.readouterr().out.split("%")[0].endswith(last.split("%")[0].split()[-1] + " ")
    # The checkpoint knows its dataset.
    assert main("--evaluate run/last.ckpt --limit_test 40") == 0
    assert capsys.readouterr().out.startswith("run/last.ckpt: test accuracy")
    assert main("--evaluate saved --dataset digits") == 2
    assert "neither last.ckpt nor best.ckpt" in capsys.readouterr().err


def test_a_loss_that_is_not_finite_stops_with_status_3_and_keeps_the_last_good_epoch(
    main, tmp_path, capsys, monkeypatch
):
    assert main(*TINY, "--num_epochs 1 --output_dir run") == 0
    good = (tmp_path / "run" / "last.ckpt").read_bytes()
    monkeypatch.setattr(
        "instancegm.method.step.soft_cross_entropy",
        lambda logits, targets: logits.sum() * float("nan"),
    )
    assert main(*TINY, "--num_epochs 2 --output_dir run --resume") == 3
    message = capsys.readouterr().err
    assert "epoch 2, training of network 1, step 1 of" in message
    assert "labelled_loss nan" in message
    assert (tmp_path / "run" / "last.ckpt").read_bytes() == good
    assert len(rows(tmp_path / "run")) == 2


def test_a_users_own_noisy_images_train_without_known_truth(main, tmp_path, capsys):
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 3
    images = (rng.integers(0, 90, (60, 32, 32, 3)) + 80 * labels[:, None, None, None]).astype(
        np.uint8
    )
    np.savez(
        tmp_path / "mine.npz",
        train_images=images,
        train_labels=labels,
        test_images=images[:9],
        test_labels=labels[:9],
    )
    flags = [
        "--dataset",
        "folder",
        "--data_path",
        "mine.npz",
        *TINY[4:],
        "--limit_train",
        "50",
        "--output_dir",
        "run",
    ]
    assert main(*flags) == 0
    assert "how many of the labels are wrong is not known" in capsys.readouterr().out
    assert noise_file.read(tmp_path / "run" / "noise.npz").clean_labels is None
    last = rows(tmp_path / "run")[-1]
    assert last["auc_1"] is None
    (stats,) = (tmp_path / "checkpoint").glob("folder_mine_*_0.0_none_stats.txt")
    assert "AUC:nan" in stats.read_text()
    assert noise_file.read(tmp_path / "run" / "corrected_labels.npz").clean_labels is None
    assert not list(tmp_path.glob("*.pt"))  # no noise was made


def test_a_noise_file_and_a_rate_that_contradict_each_other_are_refused(main, tmp_path, capsys):
    labels = load_digits().train_labels
    noise_file.write(
        tmp_path / "clean.npz", noise_file.make(labels, clean_labels=labels, dataset="digits")
    )
    assert main("--dataset digits --noise_file clean.npz --r 0.4") == 2
    assert "contradicts" in capsys.readouterr().err
    assert main(*TINY[:2], *TINY[4:], "--num_epochs 0 --noise_file clean.npz") == 0
    assert "measured 0.0000" in capsys.readouterr().out


def test_metrics_are_json_and_carry_the_clock(main, tmp_path):
    assert main(*TINY, "--num_epochs 0 --output_dir run") == 0
    row = json.loads((tmp_path / "run" / "metrics.jsonl").read_text())
    assert row["seconds"] > 0
    assert row["images_per_s"] > 0


def test_the_configuration_of_a_run_repeats_it(main, tmp_path):
    flags = ["--no-vae", "--weight_decay", 0.1, "--crop_padding", 2, "--num_epochs", 2]
    assert main(*TINY, *flags, "--output_dir run") == 0
    assert main("--config run/config.yaml --output_dir again") == 0
    assert rows(tmp_path / "again") == rows(tmp_path / "run")
    noise = ["--noise_file", "run/noise.npz", "--no-plots"]
    assert main("--config run/config.yaml", *noise, "--output_dir file") == 0
    assert main("--config file/config.yaml --output_dir again2") == 0
    assert rows(tmp_path / "file") == rows(tmp_path / "again2")
    assert not (tmp_path / "again2" / "plots.png").exists()


@pytest.mark.parametrize("flag", ["--weight_decay", "--crop_padding", "--latent_prior_weight"])
def test_every_setting_has_an_effect_and_another_value_is_another_run(main, tmp_path, flag, capsys):
    short = ["--limit_train", 24, "--num_epochs", 1]
    assert main(*TINY, *short, "--output_dir run") == 0
    assert main(*TINY, *short, flag, "1 --output_dir other") == 0
    one, other = rows(tmp_path / "run")[1], rows(tmp_path / "other")[1]
    assert one != other
    assert main(*TINY, *short, flag, "1 --output_dir run --resume") == 2
    assert f"{flag[2:]}: None then, 1" in capsys.readouterr().err

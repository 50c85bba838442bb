"""train_cifar.py and train_real.py at a tiny size: what they write, survive and refuse."""

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
from conftest import SCRIPTS, SMALL, TINY, environment, rows
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from re_sln import train_real
from re_sln.method.networks import wide_resnet_from
from re_sln.run import checkpoint
from re_sln.run.report import Events
from shared.formats import noise_file

pytestmark = pytest.mark.training
CORRECTED_EPOCHS = 12
CORRECTED = [
    *TINY,
    "--n_epochs",
    str(CORRECTED_EPOCHS),
    "--method",
    "sln_mo_lc",
    "--lc_n_epoch",
    "3",
]


def test_the_published_layout_and_ours(run_script, tmp_path):
    done = run_script(
        "train_cifar.py", *TINY, "--sigma", "0.5", "--mo", "--lc_n_epoch", "2", "--seed", "123"
    )
    assert done.returncode == 0, done.stderr
    assert "epochs:" not in done.stderr  # no progress bar where there is no terminal
    [run] = (tmp_path / "runs").iterdir()
    exp_id = run.name
    assert done.stdout.splitlines()[-1] == f"all models saved, exp_id={exp_id}"
    assert len(exp_id) == len("exp_2021-12-08 11:28:45.265396")
    assert {path.name for path in run.iterdir() if not path.name.startswith("events")} == {
        ".lock",
        "config.yaml",
        "metrics.jsonl",
        "last.ckpt",
        "best.ckpt",
        "noise.npz",
        "label_quality.csv",
        "corrected_labels.npz",
        "loss_train_all",
        "loss_train_noisy",
        "loss_train_clean",
    }
    text = (tmp_path / "configs" / exp_id / "config.yml").read_text()
    assert [line.split(":")[0] for line in text.splitlines()] == [
        "batch_size",
        "custom_noise",
        "dataset_name",
        "exp_id",
        "lc_n_epoch",
        "lr",
        "make_new_custom_noise",
        "mo",
        "n_epochs",
        "noise_mode",
        "p",
        "seed",
        "sigma",
    ]
    published = yaml.safe_load(text)
    assert (published["exp_id"], published["p"], published["mo"], published["custom_noise"]) == (
        exp_id,
        0.4,
        True,
        False,
    )

    metrics = rows(run)
    assert [row["epoch"] for row in metrics] == [1, 2, 3]
    assert all(row["accuracy"] == row["accuracy_test_ema"] for row in metrics)
    events = EventAccumulator(str(run)).Reload()
    assert [event.step for event in events.Scalars("accuracy/test")] == [1, 2, 3]
    for tag, column, scale in (
        ("accuracy/train", "accuracy_train", 100),
        ("accuracy/test", "accuracy", 100),
        ("loss/test", "loss_test_ema", 1),
    ):
        assert [event.value * scale for event in events.Scalars(tag)] == pytest.approx(
            [row[column] for row in metrics]
        )
    for name, column in (
        ("all", "loss_train"),
        ("noisy", "loss_train_noisy"),
        ("clean", "loss_train_clean"),
    ):
        sub_run = EventAccumulator(str(run / f"loss_train_{name}")).Reload()
        assert [event.value for event in sub_run.Scalars("loss/train")] == pytest.approx(
            [row[column] for row in metrics]
        )
    last = metrics[-1]
    line = (
        f"epoch=3/3, loss_epoch={last['loss_train']:.4f}, "
        f"acc_epoch={last['accuracy_train'] / 100:.4f}, "
        f"loss_test={last['loss_test_ema']:.4f}, accuracy_test={last['accuracy'] / 100:.4f}"
    )
    assert line in done.stdout

    models = tmp_path / "saved_models" / exp_id
    state = checkpoint.load(run / checkpoint.LAST)
    for name, entry in (("model.pth", "net"), ("model_ema.pth", "average")):
        loaded = wide_resnet_from(checkpoint.load(models / name)).state_dict()
        assert all(torch.equal(loaded[key], value) for key, value in state[entry].items())


def test_a_run_without_ema_model_reports_the_network_and_logs_both(main, tmp_path, capsys):
    assert main(*TINY, "--method", "ce", "--output_dir", "run") == 0
    row = rows(tmp_path / "run")[-1]
    assert row["accuracy"] == row["accuracy_test_base"]
    assert "accuracy_test_ema" in row
    assert "(what the paper reports)" in capsys.readouterr().out
    assert not (tmp_path / "run" / "model_ema.pth").exists()
    assert {"config.yml", "model.pth"} <= {path.name for path in (tmp_path / "run").iterdir()}
    assert not (tmp_path / "configs").exists()


def test_kill_9_at_any_moment_and_resume_gives_the_same_run_also_in_the_middle_of_label_correction(
    tmp_path,
):
    command = [
        sys.executable,
        str(SCRIPTS / "train_cifar.py"),
        *CORRECTED,
        "--resume",
        "--output_dir",
    ]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    subprocess.run(
        [*command, str(whole)], cwd=tmp_path, env=environment(), check=True, capture_output=True
    )
    delays = random.Random(3)
    for epochs_done in (1, 4, 7):  # label correction starts with epoch 3
        process = subprocess.Popen(
            [*command, str(killed)],
            cwd=tmp_path,
            env=environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        while lines_in(killed / "metrics.jsonl") < epochs_done and process.poll() is None:
            time.sleep(0.005)
        time.sleep(delays.uniform(0, 0.1))
        os.kill(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        assert epochs_done <= lines_in(killed / "metrics.jsonl") < CORRECTED_EPOCHS
    subprocess.run(
        [*command, str(killed)], cwd=tmp_path, env=environment(), check=True, capture_output=True
    )
    assert_same_run(killed, whole)


def lines_in(path):
    return path.read_text().count("\n") if path.exists() else 0


def test_resuming_between_two_corrections_keeps_the_corrected_targets(main, tmp_path, capsys):
    assert main(*CORRECTED, "--n_epochs", 4, "--output_dir", "short") == 0
    assert main(*CORRECTED, "--output_dir", "short", "--resume") == 0
    assert "resumed: epoch 4 of 12 is done" in capsys.readouterr().out
    assert main(*CORRECTED, "--output_dir", "long") == 0
    assert_same_run(tmp_path / "short", tmp_path / "long")
    assert checkpoint.load(tmp_path / "long" / checkpoint.LAST)["targets"].shape == (96, 10)
    for sub_run in ("", "loss_train_all"):
        tag = "loss/train" if sub_run else "accuracy/test"
        events = EventAccumulator(str(tmp_path / "short" / sub_run)).Reload().Scalars(tag)
        assert [event.step for event in events] == list(range(1, CORRECTED_EPOCHS + 1))
    (tmp_path / "short" / "last.ckpt").write_bytes(b"torn by a full disk")
    assert main(*CORRECTED, "--output_dir", "short", "--resume") == 0
    assert "warning: skipped short/last.ckpt" in capsys.readouterr().out
    assert_same_run(tmp_path / "short", tmp_path / "long")


def assert_same_run(one, other):
    assert rows(one) == rows(other)
    first, second = (checkpoint.load(run / checkpoint.LAST) for run in (one, other))
    for part in ("net", "average"):
        assert all(torch.equal(first[part][key], second[part][key]) for key in first[part])
    assert torch.equal(first["targets"], second["targets"])


def test_resume_without_a_folder_takes_the_newest_run_of_the_same_settings(main, tmp_path, capsys):
    assert main(*TINY, "--method", "ce", "--n_epochs", 1) == 0
    assert main(*TINY, "--method", "sln", "--n_epochs", 1) == 0
    ids = sorted(path.name for path in (tmp_path / "runs").iterdir())
    assert main(*TINY, "--method", "ce", "--resume") == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"all models saved, exp_id={ids[0]}"
    assert len(rows(tmp_path / "runs" / ids[0])) == 3
    assert main(*TINY, "--method", "ce", "--seed", 9, "--n_epochs", 1, "--resume") == 0
    assert "has no checkpoint; starting from the beginning" in capsys.readouterr().out
    assert len(list((tmp_path / "runs").iterdir())) == 3


def test_a_runs_own_config_repeats_it(main, tmp_path):
    assert main(*CORRECTED, "--n_epochs", 4, "--output_dir", "first") == 0
    assert main("--config", "first/config.yaml", "--output_dir", "second") == 0
    assert_same_run(tmp_path / "first", tmp_path / "second")


def test_another_run_is_neither_overwritten_nor_continued(main, capsys):
    assert main(*TINY, "--method", "ce", "--n_epochs", 2, "--output_dir", "run") == 0
    assert main(*TINY, "--method", "ce", "--output_dir", "run") == 2
    assert "add --resume" in capsys.readouterr().err
    for flags, message in (
        (["--seed", 5], "seed: 0 then, 5 now"),
        (["--limit_train", 90], "data_sha256"),
        (["--p", 0.2], "p: 0.4 then, 0.2 now"),
        (["--depth", 16], "depth: 10 then, 16 now"),
        (["--n_epochs", 1], "cannot shorten it"),
    ):
        assert main(*TINY, "--method", "ce", *flags, "--output_dir", "run", "--resume") == 2
        assert message in capsys.readouterr().err


def test_a_loss_that_is_not_finite_stops_with_status_3_and_keeps_the_last_good_epoch(
    main, tmp_path, capsys, monkeypatch
):
    assert main(*TINY, "--method", "ce", "--n_epochs", 1, "--output_dir", "run") == 0
    good = (tmp_path / "run" / "last.ckpt").read_bytes()
    monkeypatch.setattr(
        "re_sln.method.train.soft_cross_entropy",
        lambda logits, targets: logits.float().sum(1) * torch.nan,
    )
    assert main(*TINY, "--method", "ce", "--output_dir", "run", "--resume") == 3
    assert "epoch 2, step 1 of 3: loss nan" in capsys.readouterr().err
    assert (tmp_path / "run" / "last.ckpt").read_bytes() == good
    assert len(rows(tmp_path / "run")) == 1


def test_test_losses_that_are_not_finite_stop_the_run_before_anything_is_saved(
    main, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(
        "re_sln.method.train.F.cross_entropy", lambda logits, labels: logits.sum() * torch.nan
    )
    assert main(*TINY, "--method", "ce", "--output_dir", "run") == 3
    assert "epoch 1, test: loss_test_base" in capsys.readouterr().err
    assert not (tmp_path / "run" / "last.ckpt").exists()
    assert rows(tmp_path / "run") == []


def test_the_reported_loss_is_the_networks_own_where_both_accuracies_are_equal(tmp_path):
    row = {
        "epoch": 1,
        "accuracy": 10.0,
        "accuracy_train": 10.0,
        "loss_train": 2.0,
        "loss_train_noisy": None,
        "loss_train_clean": None,
        "accuracy_test_base": 10.0,
        "accuracy_test_ema": 10.0,
        "loss_test_base": 1.0,
        "loss_test_ema": 9.0,
    }
    for mo, expected in ((False, 1.0), (True, 9.0)):
        log = Events(tmp_path / str(mo), 1, mo)
        log.add(row)
        log.close()
        assert (
            EventAccumulator(str(tmp_path / str(mo))).Reload().Scalars("loss/test")[0].value
            == expected
        )


def test_missing_data_is_one_message_that_says_what_to_do(run_script, tmp_path):
    done = run_script(
        "train_cifar.py",
        "--dataset_name",
        "cifar10",
        "--noise_mode",
        "sym",
        "--sigma",
        "0",
        "--data_path",
        str(tmp_path),
    )
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert all(
        fix in done.stderr for fix in ("make data-cifar10", "cifar-10-python.tar.gz", "DATA_MIRROR")
    )


def test_a_users_own_noisy_images_train_without_known_truth(main, tmp_path, capsys):
    labels = np.arange(60) % 3
    pixels = (
        np.random.default_rng(0).integers(0, 90, (60, 32, 32, 3)) + 80 * labels[:, None, None, None]
    ).astype(np.uint8)
    np.savez(
        tmp_path / "mine.npz",
        train_images=pixels,
        train_labels=labels,
        test_images=pixels,
        test_labels=labels,
    )
    flags = [
        "--dataset_name",
        "folder",
        "--data_path",
        "mine.npz",
        "--n_epochs",
        2,
        "--depth",
        10,
        "--width",
        1,
    ]
    assert main(*flags, "--method", "sln", "--batch_size", 16, "--output_dir", "run") == 0
    assert "how many of the labels are wrong is not known" in capsys.readouterr().out
    assert noise_file.read(tmp_path / "run" / "noise.npz").clean_labels is None
    assert rows(tmp_path / "run")[-1]["loss_train_noisy"] is None


def test_compile_gives_the_same_names(main, tmp_path, monkeypatch):
    compile_module = torch.nn.Module.compile
    monkeypatch.setattr(
        torch.nn.Module, "compile", lambda module: compile_module(module, backend="eager")
    )  # no C++ here
    assert (
        main(*TINY, "--method", "sln_mo", "--n_epochs", 1, "--compile", "--output_dir", "run") == 0
    )
    wide_resnet_from(checkpoint.load(tmp_path / "run" / "model.pth"))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            "--dataset_name animal-10n --method ce --pretrained x.pth",
            "--pretrained does nothing for animal-10n",
        ),
        (
            "--dataset_name animal-10n --method ce --num_workers 3",
            "--num_workers does nothing for animal-10n",
        ),
        ("--dataset_name clothing1m --method ce --depth 28", "--depth does nothing for clothing1m"),
        ("--dataset_name animal-10n --method ce --p 0.4", "unrecognized arguments: --p 0.4"),
    ],
)
def test_flags_that_would_do_nothing_are_refused(flags, message, capsys):
    with pytest.raises(SystemExit, match="2"):
        train_real.main(flags.split())
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--noise_file", "nothing.pt"], "nothing.pt"),
        (["--noise_mode", "sym", "--device", "cuda:77"], "leave --device"),
        (["--noise_mode", "sym", "--output_dir", "a_file/run"], "a_file"),
    ],
)
def test_input_that_cannot_work_gets_one_message(main, tmp_path, capsys, flags, message):
    (tmp_path / "a_file").write_text("")
    assert main("--dataset_name", "digits", "--sigma", 0, *SMALL, *flags) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) == 1

"""train_CIFAR.py from outside, at a tiny size: what it writes, survives and refuses."""

import os
import random
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import tiny
import torch
import yaml
from conftest import SCRIPTS, environment, rows
from PIL import Image

from lra_diffusion import plot, train_CIFAR
from lra_diffusion.encoders.networks import SimCLRNet
from lra_diffusion.run import checkpoint, folder


@pytest.fixture
def main(tmp_path, monkeypatch):
    """The main function of train_CIFAR.py, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DATA_ROOT", str(tmp_path / "data"))
    return lambda *flags: train_CIFAR.main([str(flag) for flag in flags])


@pytest.mark.training
def test_a_run_with_a_simclr_encoder_leaves_what_the_readme_says(run_script, tmp_path, monkeypatch):
    monkeypatch.setenv("DATA_ROOT", str(tmp_path / "data"))
    tiny.simclr_weights(tmp_path)
    noise = tiny.noisy_digits(tmp_path)
    done = run_script(
        "train_CIFAR.py", "--dataset", "digits", "--noise_file", str(noise), *tiny.SMALL
    )
    assert done.returncode == 0, done.stderr
    assert "epochs:" not in done.stderr  # no progress bar where there is no terminal
    [run] = (tmp_path / "runs").iterdir()
    assert {path.name for path in run.iterdir() if not path.name.startswith(("events", "."))} == {
        "config.yaml",
        "metrics.jsonl",
        "last.ckpt",
        "best.ckpt",
        "noise.npz",
        "label_quality.csv",
        "corrected_labels.npz",
        "LRA-diffusion_SimCLR_digits_noise.pt",
    }
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert config["identity"]["fp_encoder"].startswith("SimCLR for digits sha256:")
    assert config["measured_noise_rate"] == pytest.approx(0.3, abs=0.1)
    metrics = rows(run)
    assert [row["epoch"] for row in metrics] == [1, 2, 3, 4]
    assert [row["accuracy"] is None for row in metrics] == [True, True, True, False]
    for pattern in (
        r"epoch: 4, validation accuracy: [\d.]+%, test accuracy: [\d.]+% \((raw|ema) weights\)",
        r"Model saved, update best accuracy at Epoch 4, val acc: [\d.]+, test acc: [\d.]+",
        r"time cost for CLR: [\d.]+",
        r"noise: .*, measured rate 0\.\d{4}",
        r"majority vote of the 10 nearest neighbours' labels: [\d.]+ % \(val\), [\d.]+ % \(test\)",
        r"test accuracy at the best validation accuracy \(what the paper reports\): ",
    ):
        assert re.search(pattern, done.stdout), pattern
    [model] = (tmp_path / "model").glob("LRA-diffusion_*")
    assert model.name == "LRA-diffusion_SimCLR_digits_noise.pt"
    predictor, encoder = checkpoint.load(model, kind=list)
    assert {
        "norm.weight",
        "lin1.lin.weight",
        "lin1.embed.weight",
        "unetnorm3.bias",
        "lin4.bias",
    } <= predictor.keys()
    assert {"conv1.weight", "layer4.1.bn2.running_var", "linear.bias"} <= encoder.keys()
    assert (
        len(list((tmp_path / "data" / "embeddings").glob("fp_embed_*_digits_*.safetensors"))) == 3
    )

    again = run_script(
        "train_CIFAR.py",
        "--dataset",
        "digits",
        "--noise_file",
        str(noise),
        *tiny.SMALL,
        "--eval_only",
        str(model),
    )
    assert again.returncode == 0, again.stderr
    assert f"test accuracy: {metrics[-1]['accuracy']:.2f}% (30 images)" in again.stdout


@pytest.mark.training
def test_kill_9_at_any_moment_and_resume_gives_the_same_run(tmp_path):
    command = [
        sys.executable,
        str(SCRIPTS / "train_CIFAR.py"),
        *tiny.with_features(tmp_path),
        "--nepoch",
        "12",
        "--resume",
        "--output_dir",
    ]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    subprocess.run(
        [*command, str(whole)], cwd=tmp_path, env=environment(), check=True, capture_output=True
    )
    delays = random.Random(3)
    for epochs_done in (1, 5, 8):
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
    subprocess.run(
        [*command, str(killed)], cwd=tmp_path, env=environment(), check=True, capture_output=True
    )
    assert rows(killed) == rows(whole)
    assert not list(killed.glob(".*.tmp"))
    for name in (checkpoint.LAST, checkpoint.BEST):
        first, second = (flat(checkpoint.load(folder / name)) for folder in (whole, killed))
        assert first.keys() == second.keys()
        assert all(torch.equal(value, second[key]) for key, value in first.items())
    [model] = whole.glob("LRA-diffusion_*.pt")
    assert model.read_bytes() == (killed / model.name).read_bytes()


def lines_in(path):
    return path.read_text().count("\n") if path.exists() else 0


def flat(value, name=""):
    """Every tensor of a nested state, by its path."""
    if isinstance(value, torch.Tensor):
        return {name: value}
    items = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    return {key: tensor for k, part in items for key, tensor in flat(part, f"{name}/{k}").items()}


@pytest.mark.training
def test_the_same_command_gives_the_same_figures_and_resume_finds_its_run(main, tmp_path, capsys):
    flags = tiny.with_features(tmp_path)
    assert main(*flags, "--output_dir", "a") == main(*flags, "--output_dir", "b") == 0
    assert rows(tmp_path / "a") == rows(tmp_path / "b")
    assert main(*flags) == main(*flags, "--resume") == 0
    [_] = (tmp_path / "runs").iterdir()
    assert "resumed: epoch 4 of 4 is done" in capsys.readouterr().out
    assert main(*flags, "--seed", "7", "--output_dir", "a") == 2
    assert "a holds a run already" in capsys.readouterr().err
    assert main(*flags, "--seed", "7", "--k", "3", "--output_dir", "a", "--resume") == 2
    message = capsys.readouterr().err
    assert "k: 10 then, 3 now" in message
    assert "seed: 123 then, 7 now" in message


@pytest.mark.training
def test_a_torn_checkpoint_is_skipped(main, tmp_path, capsys):
    flags = [*tiny.with_features(tmp_path), "--output_dir", "run", "--resume"]
    assert main(*flags) == 0
    before = rows(tmp_path / "run")
    (tmp_path / "run" / checkpoint.LAST).write_bytes(
        (tmp_path / "run" / checkpoint.LAST).read_bytes()[:1000]
    )
    assert main(*flags) == 0
    assert "warning: skipped" in capsys.readouterr().out
    assert rows(tmp_path / "run") == before


@pytest.mark.training
def test_legacy_runs_and_evaluates_when_the_published_code_does(main, tmp_path, capsys):
    flags = [*tiny.with_features(tmp_path), "--legacy", "--nepoch", "8", "--output_dir", "run"]
    assert main(*flags) == 0
    metrics = rows(tmp_path / "run")
    assert [row["epoch"] for row in metrics if row["accuracy"] is not None] == [6]
    assert all("accuracy_test_ema" not in row for row in metrics)
    assert metrics[-1]["lr"] == pytest.approx(5e-3, rel=1e-3)  # the horizon is a thousand epochs
    assert "raw weights" in capsys.readouterr().out


@pytest.mark.training
def test_a_legacy_run_too_short_to_be_tested_says_so(main, tmp_path, capsys):
    assert main(*tiny.with_features(tmp_path), "--legacy", "--nepoch", "2") == 0
    assert "no epoch was tested: with --legacy" in capsys.readouterr().out


@pytest.mark.training
def test_users_own_images(main, tmp_path):
    for part, count in (("train", 20), ("test", 4)):
        for label, name in enumerate(("black", "white")):
            for i in range(count):
                tiny.picture(tmp_path / "mine" / part / name / f"{i}.png", 40 * label + i)
    torch.save(SimCLRNet("resnet18", 4).state_dict(), tmp_path / "own.pt")
    assert (
        main(
            "--dataset",
            "folder",
            "--data_path",
            "mine",
            "--fp_weights",
            "own.pt",
            "--nepoch",
            "1",
            "--width",
            "4",
            "--k",
            "3",
            "--feature_dim",
            "8",
            "--batch_size",
            "12",
            "--cache_dir",
            "cache",
            "--output_dir",
            "run",
        )
        == 0
    )
    assert rows(tmp_path / "run")[-1]["accuracy"] is not None


@pytest.mark.training
def test_without_validation_the_last_epoch_counts(main, tmp_path, capsys):
    flags = tiny.with_features(tmp_path)
    data = tmp_path / "all.npz"
    from shared import datasets
    from shared.formats import noise_file

    labels = datasets.load("digits").train_labels
    noise_file.write(
        data, noise_file.make(labels, clean_labels=labels, dataset="digits", num_classes=10)
    )
    flags[flags.index("--noise_file") + 1] = str(data)
    assert main(*flags) == 2
    assert "add --cut_labels" in capsys.readouterr().err
    assert main(*flags, "--no_validation", "--output_dir", "run") == 0
    row = rows(tmp_path / "run")[-1]
    assert (row["weights"], row["selection"]) == ("raw", None)
    assert "after the last epoch (there is no validation set)" in capsys.readouterr().out


@pytest.mark.training
@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--k", "101"], "--k 101: there are 100 images to retrieve from"),
        (["--device", "cuda:7"], "this machine has"),
        (["--fp_embed_test", "short.npy"], "rows for 355 images"),
        (["--fp_embed_test", "wide.npy"], "features of 64 numbers"),
        (["--eval_only", "nothing.pt"], "nothing.pt: no such checkpoint"),
        (["--eval_only", "other.pt"], "not a model of LRA-diffusion"),
        (["--noise_file", "nothing.npz"], "noise file nothing.npz does not exist"),
    ],
)
def test_bad_input_is_one_message_and_nothing_is_written(main, tmp_path, capsys, flags, message):
    np.save(tmp_path / "short.npy", np.zeros((7, 64), np.float32))
    np.save(tmp_path / "wide.npy", np.zeros((355, 65), np.float32))
    torch.save([{"a": torch.zeros(1)}] * 2, tmp_path / "other.pt")
    assert main(*tiny.with_features(tmp_path), *flags) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert not (tmp_path / "runs").exists()


@pytest.mark.training
def test_an_encoder_without_weights_says_where_to_get_them(main, tmp_path, capsys):
    assert (
        main("--dataset", "digits", "--noise_file", tiny.noisy_digits(tmp_path), *tiny.SMALL) == 2
    )
    message = capsys.readouterr().err
    assert "python train_SimCLR.py --dataset digits" in message
    assert "model/SimCLR_128_digits.pt" in message


@pytest.mark.training
def test_a_model_of_other_features_or_classes_is_refused(main, tmp_path, capsys):
    flags = tiny.with_features(tmp_path)
    assert main(*flags, "--output_dir", "run") == 0
    [model] = (tmp_path / "run").glob("LRA-diffusion_*.pt")
    for name, count in (("train_features.npy", 1797 - 355), ("test_features.npy", 355)):
        np.save(tmp_path / name, np.zeros((count, 32), np.float32))
    assert main(*flags, "--eval_only", model) == 2
    message = (
        "was trained with features of 64 numbers, those here have 32: give the encoder it "
        "was trained with"
    )
    assert message in capsys.readouterr().err


@pytest.mark.training
def test_a_model_remembers_its_encoder_and_another_one_of_equal_width_is_refused(
    main, tmp_path, capsys
):
    first = tiny.simclr_weights(tmp_path)
    flags = ["--dataset", "digits", "--noise_file", str(tiny.noisy_digits(tmp_path)), *tiny.SMALL]
    assert main(*flags, "--nepoch", "1", "--output_dir", "run") == 0
    model = tmp_path / "run" / "LRA-diffusion_SimCLR_digits_noise.pt"
    assert len(torch.load(model, weights_only=True)) == 2  # the published parts and no more
    about = folder.read_about(model)
    assert about["encoder"].startswith("SimCLR for digits sha256:")
    assert main(*flags, "--eval_only", model) == 0
    assert "does not say which encoder" not in capsys.readouterr().out

    state = checkpoint.load(first)
    other = tmp_path / "other.pt"
    torch.save({name: value + 0.01 for name, value in state.items()}, other)
    assert main(*flags, "--fp_weights", other, "--eval_only", model) == 2
    assert f"{model} was trained with features of SimCLR for digits" in capsys.readouterr().err
    features = tiny.pixel_features(tmp_path)
    for name in ("train_features.npy", "test_features.npy"):
        np.save(tmp_path / name, np.load(tmp_path / name)[:, :32])
    assert main(*flags, *features, "--eval_only", model) == 2
    assert "these are of embeddings sha256:" in capsys.readouterr().err
    # The encoder of the run was exchanged since: its pictures would be of another one.
    torch.save(torch.load(other), first)
    assert plot.main(["run"]) == 2
    assert "was trained with features of" in capsys.readouterr().err

    # Published files say nothing, but some hold f_p.
    parts = checkpoint.load(model, kind=list)
    torch.save(parts, tmp_path / "two.pt")
    torch.save([*parts, state], tmp_path / "three.pt")
    assert main(*flags, "--eval_only", tmp_path / "two.pt") == 0
    assert "two.pt does not say which encoder it was trained with" in capsys.readouterr().out
    assert main(*flags, "--eval_only", tmp_path / "three.pt") == 2
    assert "holds its encoder's weights" in capsys.readouterr().err
    torch.save(state, first)
    assert main(*flags, "--eval_only", tmp_path / "three.pt") == 0
    assert "does not say which encoder" not in capsys.readouterr().out


@pytest.mark.training
def test_published_models_of_three_parts_and_of_several_gpus_load(main, tmp_path, capsys):
    flags = tiny.with_features(tmp_path)
    assert main(*flags, "--output_dir", "run") == 0
    [model] = (tmp_path / "run").glob("LRA-diffusion_*.pt")
    predictor, encoder = checkpoint.load(model, kind=list)
    torch.save(
        [
            predictor,
            {f"module.{name}": value for name, value in encoder.items()},
            {"f_p": torch.zeros(1)},
        ],
        tmp_path / "published.pt",
    )
    capsys.readouterr()
    assert main(*flags, "--eval_only", tmp_path / "published.pt") == 0
    assert (
        f"test accuracy: {rows(tmp_path / 'run')[-1]['accuracy']:.2f}%" in capsys.readouterr().out
    )


@pytest.mark.training
def test_a_broken_loss_exits_with_3_and_keeps_the_checkpoint(main, tmp_path, capsys):
    flags = [*tiny.with_features(tmp_path), "--output_dir", "run"]
    assert main(*flags, "--lr", "1e30") == 3
    assert "stopped: the loss is not finite (epoch " in capsys.readouterr().err


@pytest.mark.training
def test_a_model_of_another_run_in_the_published_place_stays(main, tmp_path, capsys):
    flags = tiny.with_features(tmp_path)
    assert main(*flags) == 0
    [published] = (tmp_path / "model").glob("*.pt")
    first = published.read_bytes()
    assert main(*flags, "--seed", "7") == 0
    assert published.read_bytes() == first
    shown = capsys.readouterr().out
    assert f"note: model/{published.name} is of another run and stays" in shown
    old, new = sorted((tmp_path / "runs").iterdir())
    assert (old / published.name).read_bytes() == first != (new / published.name).read_bytes()
    assert main(*flags, "--nepoch", "4", "--resume") == 0
    assert published.read_bytes() == first


def test_a_kill_between_the_two_copies_of_a_model_does_not_disown_the_published_one(tmp_path):
    own, published = tmp_path / "run" / "m.pt", tmp_path / "model" / "m.pt"
    assert folder.publish(own, published, b"first epoch")
    published.write_bytes(b"second epoch")  # and killed before its own copy was written
    assert folder.publish(own, published, b"second epoch")  # the repeated epoch
    assert folder.publish(own, published, b"third epoch")
    assert own.read_bytes() == published.read_bytes() == b"third epoch"
    published.write_bytes(b"of another run")
    assert not folder.publish(own, published, b"fourth epoch")
    assert (own.read_bytes(), published.read_bytes()) == (b"fourth epoch", b"of another run")


@pytest.mark.training
def test_pictures_are_of_the_run_that_is_asked_for_from_any_folder(
    main, tmp_path, monkeypatch, capsys
):
    flags = tiny.with_features(tmp_path)
    assert main(*flags, "--output_dir", "run", "--k", "60", "--limit_train", "80") == 0
    monkeypatch.chdir("/")
    assert plot.main([str(tmp_path / "run"), "--out", str(tmp_path / "pictures")]) == 0
    for name in ("retrieval.png", "trajectories.png"):
        assert Image.open(tmp_path / "pictures" / name).size > (400, 200)
    assert plot.main([str(tmp_path)]) == 2
    assert "no config.yaml of LRA-diffusion" in capsys.readouterr().err


@pytest.mark.training
@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--fp_queries", "augmented"], "--fp_queries does nothing with --fp_embed_train"),
        (["--fp_encoder", "CLIP"], "--fp_encoder does nothing with --fp_embed_train"),
        (["--CLIP_type", "ViT-B/16"], "--CLIP_type does nothing with --fp_embed_train"),
        (["--noise_dir", "labels"], "--noise_dir does nothing with --noise_file"),
        (["--eval_only", "x.pt", "--resume"], "--resume does nothing with --eval_only"),
        (["--diff_encoder", "resnet18_l"], "--width does nothing with --diff_encoder resnet18_l"),
        (
            ["--warmup_epochs", "1000", "--nepoch", "1001", "--legacy"],
            "leaves nothing of --lr_horizon",
        ),
    ],
)
def test_flags_without_effect_are_refused(main, tmp_path, capsys, flags, message):
    with pytest.raises(SystemExit):
        main(*tiny.with_features(tmp_path), *flags)
    assert message in capsys.readouterr().err

"""`python -m ieg.main` from outside, at a tiny size: what it writes and prints."""

import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import yaml
from conftest import (
    DATASET,
    METHODS,
    NETWORK,
    PROJECT,
    STEPS,
    TINY,
    environment,
    rows,
    run_main,
    variables,
)
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from ieg.run import checkpoint, config
from shared import datasets
from shared.formats import noise_file

KEPT = {"supervised": 5, "ieg": 4, "l2r": 4, "fsr": 3}
ALWAYS = {
    "iteration",
    "epoch",
    "learning_rate",
    "loss",
    "accuracy_train",
    "accuracy",
    "accuracy_top5",
    "loss_eval",
    "accuracy_ema",
    "accuracy_top5_ema",
    "seconds",
    "images_per_s",
}
JUDGED = {
    "loss_meta",
    "accuracy_meta",
    "zero_weights",
    "weight_clean",
    "weight_noisy",
    "weights_purity",
}
FIELDS = {
    "supervised": ALWAYS,
    "l2r": ALWAYS | JUDGED,
    "ieg": ALWAYS | JUDGED | {"loss_mixup", "loss_consistency"},
    "fsr": ALWAYS | JUDGED | {"loss_pseudo", "queue_purity"},
}
TRAIN_TAGS = {"acc/train", "loss/net", "epoch", "learningrate", "acc/num_eval"}
# Published for FSR alone.
WEIGHT_TAGS = {"weights/clean", "weights/noisy", "weights/ratio", "weights/purity"}
META_TAGS = {"loss/meta", "acc/meta", "weights/zeroratio"} | WEIGHT_TAGS
COPIED = {"acc/eval_on_train", "acc/eval_on_train_top5"}
SCALARS = {
    "supervised": TRAIN_TAGS | COPIED,
    "l2r": TRAIN_TAGS | META_TAGS | COPIED,
    "ieg": TRAIN_TAGS | META_TAGS | COPIED | {"loss/xemin", "loss/consistency"},
    "fsr": TRAIN_TAGS
    | META_TAGS
    | {f"weights/class{i}" for i in range(10)}
    | {
        "acc/eval_on_traintime",
        "acc/eval_on_traintime_top5",
        "loss/masked_clean",
        "loss/unmasked_noisy",
        "loss/clean",
        "loss/noisy",
        "loss_margin/clean",
        "loss_margin/noisy",
        "queue/purity",
        "queue/capacity",
        "loss/pseudo",
    },
}
HISTOGRAMS = {"weights/value", "weights/grad", "queue/indices", "queue/labels"}
EVAL_TAGS = {
    "acc/eval",
    "acc/top5_eval",
    "acc/error",
    "loss/eval",
    "acc/ema_eval",
    "acc/top5_ema_eval",
    "acc/ema_error",
}
SCRIPTS = (
    "run.sh",
    "run_fsr_cifar_longtail.sh",
    "run_fsr_cifar_longtail_noise.sh",
    "run_fsr_webvision.sh",
)


def events(folder):
    """Scalars as {tag: {step: value}} and the tags of histograms."""
    found = EventAccumulator(str(folder), size_guidance={"tensors": 0}).Reload()
    plugin = {
        tag: found.SummaryMetadata(tag).plugin_data.plugin_name for tag in found.Tags()["tensors"]
    }
    scalars = {
        tag: {
            e.step: float(np.frombuffer(e.tensor_proto.tensor_content, np.float32)[0])
            if e.tensor_proto.tensor_content
            else e.tensor_proto.float_val[0]
            for e in found.Tensors(tag)
        }
        for tag, name in plugin.items()
        if name == "scalars"
    }
    return scalars, {tag for tag, name in plugin.items() if name == "histograms"}


@pytest.mark.parametrize("method", METHODS)
def test_what_a_run_leaves_behind(trained, method):
    folder, done = trained[method]
    assert "steps:" not in done.stderr  # no progress bar where there is no terminal
    metrics = rows(folder)
    assert [row["iteration"] for row in metrics] == [1, 10, 20, STEPS]
    assert (
        set(json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])) == FIELDS[method]
    )
    kept = [row["iteration"] for row in metrics][-KEPT[method] :]
    assert sorted(checkpoint.iterations(folder)) == kept
    assert (
        f'model_checkpoint_path: "checkpoint.ckpt-{STEPS}"' in (folder / "checkpoint").read_text()
    )
    files = {path.name for path in folder.iterdir() if not path.name.startswith("checkpoint.ckpt-")}
    files -= {".lock"}
    assert files == {
        *("config.yaml", "metrics.jsonl", "checkpoint", "noise.npz", "train", "eval"),
        *("label_quality.csv", "corrected_labels.npz"),
        *(("queue_info.npz",) if method == "fsr" else ()),
    }
    saved = yaml.safe_load((folder / "config.yaml").read_text())
    assert (saved["method"], saved["max_iteration"], saved["seed"]) == (method, STEPS, 12345)
    assert {"tensorflow", "keras", "numpy", "python"} <= set(saved["versions"])

    labels = noise_file.read(folder / "noise.npz")
    assert saved["identity"]["train_labels_sha256"] == noise_file.label_hash(labels.noisy_labels)
    rate = np.mean(labels.noisy_labels != labels.clean_labels)
    assert f"noise: measured rate {rate:.4f}" in done.stdout
    assert len(labels.noisy_labels) == 200
    last, lines = metrics[-1], done.stdout.splitlines()
    assert f"iteration {STEPS} (epoch 2.3), loss {last['loss']:.4f}" in lines[-3]
    best = max(row["accuracy_ema"] for row in metrics)
    assert lines[-1].startswith(
        f"{method} accuracy of the averaged weights: last {last['accuracy_ema']:.2f} % (what the "
    )
    assert f"best {best:.2f} % (iteration " in lines[-1]


@pytest.mark.parametrize("method", METHODS)
def test_events_have_the_published_tags(trained, method):
    folder, _ = trained[method]
    scalars, histograms = events(folder / "train")
    assert set(scalars) == SCALARS[method]
    assert histograms == (HISTOGRAMS if method == "fsr" else set())
    every = method in ("l2r", "ieg")
    assert sorted(scalars["loss/net"]) == (
        list(range(1, STEPS + 1)) if every else [1, 10, 20, STEPS]
    )
    metrics = {row["iteration"]: row for row in rows(folder)}
    for iteration, row in metrics.items():
        assert scalars["learningrate"][iteration] == pytest.approx(row["learning_rate"])
        assert scalars["acc/train"][iteration] * 100 == pytest.approx(
            row["accuracy_train"], abs=1e-3
        )
        time = "time" if method == "fsr" else ""
        assert scalars[f"acc/eval_on_train{time}"][iteration] * 100 == pytest.approx(
            row["accuracy_ema"]
        )
    if every:
        assert np.mean([scalars["loss/net"][i] for i in range(2, 11)]) == pytest.approx(
            metrics[10]["loss"], rel=1e-5
        )

    scalars, _ = events(folder / "eval")
    assert set(scalars) == EVAL_TAGS
    for iteration, row in metrics.items():
        assert scalars["acc/eval"][iteration] * 100 == pytest.approx(row["accuracy"])
        assert scalars["acc/top5_ema_eval"][iteration] * 100 == pytest.approx(
            row["accuracy_top5_ema"]
        )
        assert scalars["acc/ema_error"][iteration] == pytest.approx(100 - row["accuracy_ema"])
        assert scalars["loss/eval"][iteration] == pytest.approx(row["loss_eval"])


def test_queue_info_is_what_the_published_code_keeps_and_more(trained):
    with np.load(trained["fsr"][0] / "queue_info.npz", allow_pickle=False) as queue:
        labels = noise_file.read(trained["fsr"][0] / "noise.npz").noisy_labels
        assert queue["ds_rates"].shape == queue["ds_labels"].shape == (200,)
        assert (queue["ds_labels"] == labels).all()  # two epochs have met every sample
        assert (queue["queue_labels"] == labels[queue["queue_ids"]]).all()
        assert np.bincount(queue["queue_labels"]).tolist() == [4] * 10


@pytest.mark.parametrize("method", METHODS)
def test_evaluation_prints_the_published_words_and_writes_nothing(trained, main, capsys, method):
    folder, _ = trained[method]
    before = {path: path.stat().st_mtime_ns for path in folder.parent.rglob("*")}
    # The published command gives neither the training flags nor the size of batches.
    flags = [
        f"--dataset={DATASET}",
        f"--network_name={NETWORK}",
        "--limit_test=50",
        "--mode=evaluation",
    ]
    assert main(*flags, f"--method={method}", f"--checkpoint_path={folder.parents[2]}") == 0
    last = rows(folder)[-1]
    assert capsys.readouterr().out.splitlines() == [
        f"Evaluation ({name}): lr 0.00000 global_step {STEPS} total 50 acc "
        f"{last[f'accuracy{suffix}'] / 100:.4f} "
        f"(top-5 {last[f'accuracy_top5{suffix}'] / 100:.4f})"
        for name, suffix in (("val", "_ema"), ("val_raw", ""))
    ]
    assert {path: path.stat().st_mtime_ns for path in folder.parent.rglob("*")} == before


def test_evaluation_has_no_warnings(trained):
    folder, _ = trained["fsr"]
    flags = [f"--dataset={DATASET}", f"--network_name={NETWORK}", "--method=fsr"]
    done = run_main(*flags, "--mode=evaluation", f"--output_dir={folder}", cwd=folder)
    assert done.returncode == 0
    assert "WARNING:tensorflow" not in done.stderr


def test_evaluation_on_other_classes_is_refused(trained, main, tmp_path, monkeypatch, capsys):
    def renamed(name, *_args, **_keywords):
        found = load(name)
        return replace(found, class_names=("nought", *found.class_names[1:]))

    load = datasets.load
    monkeypatch.setattr(datasets, "load", renamed)
    flags = [*TINY, "--mode=evaluation", "--method=supervised"]
    assert main(*flags, f"--output_dir={trained['supervised'][0]}") == 2
    error = capsys.readouterr().err
    assert "(class_names: 0 then, nought now). Give the flags and the data that it was" in error


def test_evaluation_without_a_checkpoint_or_of_another_network_says_so(trained, main, capsys):
    flags = [*TINY, "--mode=evaluation", "--method=supervised"]
    assert main(*flags, "--output_dir=nothing") == 2
    assert "nothing has no checkpoint to evaluate: train first" in capsys.readouterr().err
    assert main(*flags, "--network_name=wrn16-1", f"--output_dir={trained['supervised'][0]}") == 2
    assert "network_name: wrn10-1 then, wrn16-1 now" in capsys.readouterr().err


def test_the_same_command_gives_the_same_numbers_also_where_the_method_is_not_in_the_path(
    trained, main, tmp_path
):
    flags = [
        *TINY,
        f"--max_iteration={STEPS}",
        "--method=supervised",
        "--published_layout",
        "--checkpoint_path=here",
    ]
    assert main(*flags) == 0
    folder = tmp_path / "here" / DATASET / NETWORK
    assert rows(folder) == rows(trained["supervised"][0])
    assert variables(folder, STEPS) == variables(trained["supervised"][0], STEPS)
    first, second = (
        (run / "config.yaml").read_text() for run in (folder, trained["supervised"][0])
    )
    assert yaml.safe_load(first)["identity"] == yaml.safe_load(second)["identity"]


def test_labels_of_a_file_and_a_name_for_the_run(trained, main, tmp_path, capsys):
    made = noise_file.read(trained["supervised"][0] / "noise.npz")
    shutil.copy(trained["supervised"][0] / "noise.npz", tmp_path / "labels.npz")
    flags = [
        f"--network_name={NETWORK}",
        "--dataset=file",
        "--noise_file=labels.npz",
        "--method=supervised",
        "--batch_size=20",
        "--limit_test=20",
        "--max_iteration=1",
        "--probe_dataset_hold_ratio=0",
        "--nouse_ema",
    ]
    assert (
        main(*flags, "--checkpoint_path=runs", "--xm_exp_id=mine", "--exp_path_pattern=seed,method")
        == 0
    )
    assert "supervised accuracy: last " in capsys.readouterr().out
    folder = tmp_path / "runs" / "idmine+seed=12345+method=supervised"
    found = noise_file.read(folder / "noise.npz")
    by_index = dict(zip(made.indices.tolist(), made.noisy_labels.tolist()))
    assert {int(i): int(label) for i, label in zip(found.indices, found.noisy_labels)} == by_index
    assert set(rows(folder)[0]) == ALWAYS - {
        "accuracy_ema",
        "accuracy_top5_ema",
        "seconds",
        "images_per_s",
    }


@pytest.mark.training
def test_a_users_own_images(main, tmp_path, capsys):
    labels = np.arange(60) % 3
    pixels = np.random.default_rng(0).integers(0, 255, (60, 32, 32, 3), dtype=np.uint8)
    np.savez(
        tmp_path / "mine.npz",
        train_images=pixels,
        train_labels=labels,
        test_images=pixels,
        test_labels=labels,
    )
    flags = [
        "--dataset=folder",
        "--dataset_dir=mine.npz",
        f"--network_name={NETWORK}",
        "--max_iteration=2",
        "--output_dir=run",
    ]
    assert (
        main(*flags, "--method=fsr", "--batch_size=10", "--queue_capacity=6", "--queue_bs=3") == 0
    )
    assert (
        "60 training images of 32 x 32 pixels, 60 to evaluate on, 3 classes"
        in capsys.readouterr().out
    )
    assert rows(tmp_path / "run")[-1]["accuracy_top5"] == 100  # of three classes


@pytest.fixture
def recorded(tmp_path):
    """Runs a shell script with a `python` that only writes down its arguments; these."""
    (tmp_path / "bin").mkdir()
    shim = tmp_path / "bin" / "python"
    shim.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    shim.chmod(0o755)

    def record(name, *flags):
        path = f"{tmp_path / 'bin'}:/usr/bin:/bin"
        done = subprocess.run(
            ["bash", str(PROJECT / "ieg" / "scripts" / name), *flags],
            cwd=PROJECT,
            env={**environment(), "PATH": path},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.splitlines()[:2] == ["-m", "ieg.main"]
        return done.stdout.splitlines()[2:]

    return record


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_published_scripts_are_accepted_with_further_flags(recorded, name):
    flags = config.parse(recorded(name, "--seed=7", "--dataset_dir=a folder"))
    assert (flags.seed, str(flags.dataset_dir)) == (7, "a folder")
    assert flags.method == ("ieg" if name == "run.sh" else "fsr")
    if "longtail" in name:
        assert (flags.decay_epochs, flags.decay_rate, flags.lr_schedule) == (
            (160, 180),
            0.01,
            "custom_step",
        )
        assert (flags.queue_capacity, flags.queue_bs) == (
            (2000, 200) if "noise" in name else (3000, 800)
        )
        assert (
            flags.clip_meta_weight
            == flags.use_mixup
            == bool(flags.use_pseudo_loss)
            == ("noise" in name)
        )


@pytest.mark.training
@pytest.mark.parametrize("name", SCRIPTS[1:3])
def test_the_long_tail_scripts_train(recorded, main, tmp_path, name):
    flags = recorded(name, *TINY, "--max_epoch=1", "--meta_start_epoch=0", "--output_dir=run")
    assert main(*flags, "--limit_train=60") == 0
    [first, last] = rows(tmp_path / "run")
    assert (first["iteration"], last["iteration"], first["learning_rate"]) == (1, 3, 0.1)
    assert last["loss_pseudo"] == 0 if "noise" not in name else last["loss_pseudo"] > 0


def test_shell_scripts_run_the_program_itself(tmp_path):
    (tmp_path / "bin").mkdir()
    shim = tmp_path / "bin" / "python"
    shim.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    shim.chmod(0o755)
    env = {**environment(), "PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin"}
    done = subprocess.run(
        ["bash", "ieg/scripts/run.sh", "--help"],
        cwd=PROJECT,
        env=env,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert re.search(r"^usage: python -m ieg.main", done.stdout)


def test_missing_data_and_wrong_names_are_one_message(main, capsys):
    for flags, message in (
        (["--dataset=cifar10_uniform_0.4", "--dataset_dir=."], "make data-cifar10"),
        (["--dataset=digits_unifrom_0.4"], "after digits_ comes uniform"),
        ([*TINY, "--network_name=wrn12-1"], "wrn<depth>-<width> with depth 10, 16"),
        (
            [*TINY, "--network_name=wrn10-1", "--bottleneck_relu=restored"],
            "only resnet29 has a ReLU to restore",
        ),
        ([*TINY, "--limit_train=10"], "lower --batch_size"),
        ([*TINY, "--method=fsr", "--queue_bs=25"], "give --queue_bs=20, or more"),
        ([*TINY, "--method=fsr", "--queue_bs=50"], "raise --queue_capacity=40"),
        (
            [*TINY, "--method=l2r", "--probe_dataset_hold_ratio=0"],
            "give --probe_dataset_hold_ratio",
        ),
        ([*TINY, "--use_imagenet_as_eval"], "for webvisionmini"),
    ):
        assert main(*flags, "--output_dir=run") == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.startswith("error: ")


def test_the_settings_of_a_run_repeat_it(trained, main, tmp_path):
    folder, _ = trained["supervised"]
    assert main("--config", folder / "config.yaml", "--output_dir=again") == 0
    assert rows(tmp_path / "again") == rows(folder)

"""The search for sigma: a cluster and no Ray give the same figures; a killed search resumes."""

import csv
import json
import re
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml
from conftest import environment
from sklearn.model_selection import train_test_split

from re_sln import table, tune
from re_sln.method import train
from re_sln.run.config import parse, parse_search
from re_sln.run.experiment import prepare
from re_sln.run.labels import noisy_training_set
from re_sln.run.report import TIMING
from re_sln.search import ray_backend
from re_sln.search.sigma_trial import METRICS
from shared import datasets

pytestmark = pytest.mark.training
SCRIPT = Path(tune.__file__)
TINY = [
    "--dataset_name",
    "digits",
    "--noise_mode",
    "sym",
    "--p",
    "0.4",
    "--n_epochs",
    "3",
    "--limit_train",
    "200",
    "--limit_test",
    "40",
    "--depth",
    "10",
    "--width",
    "1",
    "--device",
    "cpu",
]
LOCAL = [*TINY, "--backend", "local"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A search that nobody interrupted."""
    folder = tmp_path_factory.mktemp("whole") / "hp_whole"
    assert tune.main([*LOCAL, "--output_dir", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A search killed by the system in the middle of a trial."""
    folder = tmp_path_factory.mktemp("killed") / "hp_killed"
    command = [sys.executable, str(SCRIPT), *LOCAL, "--output_dir", str(folder)]
    process = subprocess.Popen(command, env=environment(), stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not list(folder.glob("*/result.json")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert (
        not all(len(rows) == 3 for rows in figures(folder).values()) or len(figures(folder)) < 4
    ), "killed too late"
    return folder


def figures(folder: Path) -> dict[str, list[list[str]]]:
    """What progress.csv has for each sigma, less what the clock decides."""
    found = {}
    for path in folder.glob("*/progress.csv"):
        with open(path, newline="") as file:
            rows = [
                [row["training_iteration"], *(row[name] for name in METRICS)]
                for row in csv.DictReader(file)
            ]
        found[path.parent.name.split("_")[4]] = rows
    return found


def test_the_folders_and_files_are_those_of_the_original(whole: Path) -> None:
    trials = sorted(path for path in whole.iterdir() if path.is_dir())
    assert len(trials) == 4
    for i, (trial, sigma) in enumerate(zip(trials, (0.1, 0.2, 0.5, 1.0))):
        assert re.fullmatch(
            rf"hp_[0-9a-f]{{5}}_0000{i}_{i}_sigma={sigma}_\d{{4}}-\d\d-\d\d_\d\d-\d\d-\d\d",
            trial.name,
        )
        assert json.loads((trial / "params.json").read_text()) == {"sigma": sigma}
        lines = [json.loads(line) for line in (trial / "result.json").read_text().splitlines()]
        assert [line["training_iteration"] for line in lines] == [1, 2, 3]
        assert all(
            0 <= line[name] <= 1 for line in lines for name in ("accuracy_train", "accuracy_val")
        )
        header = (trial / "progress.csv").read_text().splitlines()[0].split(",")
        assert {*METRICS, "training_iteration", "time_this_iter_s", "date"} <= set(header)
        assert list(trial.glob("events.out.tfevents.*"))
    assert (whole / "hp.png").stat().st_size > 10_000
    config = yaml.safe_load((whole / "config.yml").read_text())
    assert config["sigma"] is None
    assert config["exp_id"] == "hp_whole"
    assert config["lc_n_epoch"] == -1


def test_the_default_place_is_hp_and_resume_finds_it(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    flags = [*LOCAL, "--n_epochs", "1"]
    assert tune.main(flags) == 0
    (folder,) = (tmp_path / "hp").iterdir()
    assert re.fullmatch(r"hp_\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d", folder.name)
    capsys.readouterr()
    assert tune.main([*flags, "--resume"]) == 0
    assert "0 of 4 trials to run" in capsys.readouterr().out
    assert [folder] == list((tmp_path / "hp").iterdir())
    assert tune.main([*flags, "--resume", "--seed", "1"]) == 0
    assert "no search of these settings" in capsys.readouterr().out


def test_a_killed_search_resumes_to_the_same_figures(
    killed: Path, whole: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "hp_killed"
    shutil.copytree(killed, folder)
    assert tune.main([*LOCAL, "--output_dir", str(folder), "--resume"]) == 0
    assert figures(folder) == figures(whole)
    assert not list(folder.glob("*/.*.tmp"))


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """The address of two machines of one CPU each."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_AUTH_MODE", "token")
        patch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
        from ray.cluster_utils import Cluster

        one_cpu = {
            "num_cpus": 1,
            "include_dashboard": False,
            "object_store_memory": ray_backend.OBJECT_STORE_BYTES,
        }
        machines = Cluster(initialize_head=True, head_node_args=one_cpu)
        try:
            machines.add_node(**one_cpu)
            yield machines.address
        finally:
            machines.shutdown()


def test_a_cluster_continues_the_killed_search_to_the_same_figures(
    cluster, killed, whole, tmp_path
) -> None:
    folder = tmp_path / "hp_killed"
    shutil.copytree(killed, folder)
    command = [
        sys.executable,
        str(SCRIPT),
        *TINY,
        "--ray_address",
        cluster,
        "--output_dir",
        "hp_killed",
        "--resume",
    ]
    done = subprocess.run(
        command, env=environment(), cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert "2 at once, each with 1 CPU; 1 thread" in done.stdout
    assert figures(folder) == figures(whole)
    assert done.stdout.count("sigma=1 epoch=") == 3  # a line an epoch, and no noise of Ray's
    assert len(done.stdout.splitlines()) <= 4 + 12 + 9


def test_the_table_is_filled_on_a_cluster_with_the_same_figures(cluster, tmp_path, capsys) -> None:
    flags = [
        "--dataset_name",
        "digits",
        "--noise_mode",
        "asym",
        "--n_epochs",
        "2",
        "--limit_train",
        "100",
        "--limit_test",
        "40",
        "--device",
        "cpu",
    ]
    here, there = tmp_path / "here", tmp_path / "there"
    assert table.main([*flags, "--backend", "local", "--output_dir", str(here)]) == 0
    shutil.copytree(here, there)
    shutil.rmtree(there / "digits_asym_sln_mo_lc_seed123")
    assert table.main([*flags, "--ray_address", cluster, "--output_dir", str(there)]) == 0
    assert "digits_asym_sln_mo_lc_seed123 finished" in capsys.readouterr().out
    assert (there / "table.csv").read_text() == (here / "table.csv").read_text()
    rows = [
        [
            {k: v for k, v in json.loads(line).items() if k not in TIMING}
            for line in text.splitlines()
        ]
        for folder in (here, there)
        for text in [(folder / "digits_asym_sln_mo_lc_seed123" / "metrics.jsonl").read_text()]
    ]
    assert rows[0] == rows[1]


def test_a_kill_between_checkpoint_and_files_loses_nothing(whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "hp_whole"
    shutil.copytree(whole, folder)
    for name in ("result.json", "progress.csv"):
        path = next(folder.glob(f"*sigma=0.5*/{name}"))
        path.write_text("\n".join(path.read_text().splitlines()[:-1]) + "\n")
    assert tune.main([*LOCAL, "--output_dir", str(folder), "--resume"]) == 0
    assert figures(folder) == figures(whole)


def test_the_best_sigma_has_the_highest_last_accuracy_and_its_command_runs(
    whole: Path, capsys
) -> None:
    assert tune.main([*LOCAL, "--output_dir", str(whole), "--resume"]) == 0
    said = capsys.readouterr().out
    last = {float(name[6:]): float(rows[-1][6]) for name, rows in figures(whole).items()}
    best = max(sorted(last), key=lambda sigma: last[sigma])
    assert f"best: sigma={best:g}, accuracy_val={last[best]:.4f}" in said
    assert "un-augmented" in said
    assert "the network itself" in said
    command = said.split("train with it: ")[1].split()
    found = parse("train_cifar", command[2:])
    assert (found.sigma, found.depth, found.limit_train, found.lc_n_epoch) == (best, 10, 200, -1)
    assert (found.output_dir, found.data_path, found.limit_test) == (None, None, 40)


def test_mo_and_lc_are_searched_too_and_augmentation_is_remembered(tmp_path: Path, capsys) -> None:
    folder = tmp_path / "hp_lc"
    flags = [
        *LOCAL,
        "--n_epochs",
        "2",
        "--mo",
        "--lc_n_epoch",
        "1",
        "--augment_val",
        "--output_dir",
        str(folder),
    ]
    assert tune.main(flags) == 0
    said = capsys.readouterr().out
    assert "the EMA model on augmented held-out images" in said
    found = parse("train_cifar", said.split("train with it: ")[1].split()[2:])
    assert (found.mo, found.lc_n_epoch, found.n_epochs) == (True, 1, 2)
    del flags[flags.index("--augment_val")]
    assert tune.main([*flags, "--resume"]) == 2
    assert "augment_val: True then, False now" in capsys.readouterr().err


def test_noisy_and_clean_losses_follow_the_samples_that_were_kept(monkeypatch) -> None:
    config = parse_search(LOCAL)
    run = prepare(config.training, config.held_out)
    labels, _ = noisy_training_set(config.training, datasets.load("digits"))
    rows = np.linspace(0, len(labels.noisy_labels) - 1, 200).astype(int)
    noisy, clean = labels.noisy_labels[rows], labels.clean_labels[rows]
    kept, held_out = train_test_split(
        np.arange(200), test_size=0.1, stratify=noisy, random_state=config.training.seed
    )
    kept, held_out = sorted(kept), sorted(held_out)
    assert run.data.train_set.noisy.argmax(dim=1).tolist() == noisy[kept].tolist()
    assert run.data.test_sets["val"].labels.tolist() == noisy[held_out].tolist()
    assert run.data.noise.indices.tolist() == rows[kept].tolist()

    losses_of_epoch, mean_of = [], train._mean_of
    monkeypatch.setattr(
        train,
        "_mean_of",
        lambda losses, group: losses_of_epoch.append(losses) or mean_of(losses, group),
    )
    row = next(train.epochs(run.learner, run.data.train_set, run.data.test_sets, run.settings))
    losses = losses_of_epoch[0].tolist()
    for name, wanted in (("noisy", True), ("clean", False)):
        group = [loss for loss, i in zip(losses, kept) if (noisy[i] != clean[i]) == wanted]
        assert 0 < len(group) < len(kept)
        assert row[f"loss_train_{name}"] == pytest.approx(sum(group) / len(group), rel=1e-5)


@pytest.mark.parametrize(
    ("flags", "fix"),
    [
        (
            ["--dataset_name", "cifar10", "--noise_mode", "sym", "--data_path", "nowhere"],
            "make data-cifar10",
        ),
        ([*TINY, "--val_size", "0.001"], "--val_size 0.001"),
        ([*TINY, "--noise_mode", "dependent"], "choose one of sym, asym"),
        ([*TINY, "--lc_n_epoch", "2"], "is not a valid combination"),
        ([*LOCAL, "--trials_at_once", "2"], "drop them"),
        ([*TINY, "--trials_at_once", "0"], "at least 1"),
        ([*TINY, "--device", "cuda:1"], "--device cuda"),
        ([*TINY, "--device", "gpu"], "choose auto, cpu"),
    ],
)
def test_bad_input_is_refused_before_ray_starts(flags, fix, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(ray_backend, "_connect", lambda address: pytest.fail("Ray was started"))
    try:
        status = tune.main(flags)
    except SystemExit as stop:  # argparse
        status = stop.code
    assert status == 2
    assert fix in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_an_address_without_a_cluster_is_an_error_at_once(tmp_path: Path, capsys) -> None:
    flags = [*TINY, "--ray_address", "127.0.0.1:1", "--output_dir", str(tmp_path / "hp_x")]
    assert tune.main(flags) == 2
    assert "no Ray at 127.0.0.1:1" in capsys.readouterr().err


def test_a_search_is_not_overwritten_nor_shortened(whole: Path, capsys) -> None:
    assert tune.main([*LOCAL, "--output_dir", str(whole)]) == 2
    assert "add --resume" in capsys.readouterr().err
    assert tune.main([*LOCAL, "--n_epochs", "2", "--output_dir", str(whole), "--resume"]) == 2
    assert "cannot shorten it" in capsys.readouterr().err


def test_a_longer_search_says_so_in_its_config(whole: Path, tmp_path: Path) -> None:
    """Else results.py would take a trial that a kill left behind for a finished one."""
    folder = tmp_path / "hp_whole"
    shutil.copytree(whole, folder)
    config = folder / "config.yaml"
    trials = yaml.safe_load(config.read_text())["trials"]
    assert tune.main([*LOCAL, "--n_epochs", "4", "--output_dir", str(folder), "--resume"]) == 0
    known = yaml.safe_load(config.read_text())
    assert (known["n_epochs"], known["trials"]) == (4, trials)
    assert yaml.safe_load((folder / "config.yml").read_text())["n_epochs"] == 4
    assert {len(rows) for rows in figures(folder).values()} == {4}


def test_a_loss_that_is_not_finite_stops_one_trial_and_is_named(tmp_path: Path, capsys) -> None:
    assert tune.main([*LOCAL, "--lr", "1e30", "--output_dir", str(tmp_path / "hp_nan")]) == 3
    assert "stopped: the loss is not finite (epoch 1, step" in capsys.readouterr().out

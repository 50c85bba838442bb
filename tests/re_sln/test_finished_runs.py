"""Finding runs by id, folder or curve, ours and the original's; reading figures and networks of
them.
"""

import json
import re
from pathlib import Path

import pytest
import torch
from old_runs import REAL, train_tiny, write_old_model, write_old_run

from re_sln import train_cifar
from re_sln.analysis import finished_runs as runs
from re_sln.method.networks import WideResNet
from re_sln.run import checkpoint
from re_sln.run.config import parse
from re_sln.run.errors import UsageError
from re_sln.run.report import summary
from shared.errors import UserError

OLD_ID = "exp_2021-12-08 11:28:45.265396"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run with all its files in one folder."""
    folder = tmp_path_factory.mktemp("trained") / "sln_mo"
    return train_tiny("--method", "sln_mo", "--output_dir", str(folder))


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def same(net, other):
    pairs = zip(net.state_dict().items(), other.state_dict().items())
    return all(
        name == other_name and torch.equal(value, other_value)
        for (name, value), (other_name, other_value) in pairs
    )


@pytest.mark.training
def test_a_run_folder_of_ours(trained):
    run = runs.find(str(trained.folder))
    assert (run.folder, run.models, run.assets) == (trained.folder,) * 3
    assert run.settings["method"] == "sln_mo"
    assert run.settings["limit_train"] == 96
    assert runs.read_rows(run) == trained.rows
    assert runs.title(run) == "digits-sln-mo-sym-made-0.4"
    assert same(runs.load_model(run), trained.learner.ema.net)


@pytest.mark.training
def test_a_run_by_its_id_in_the_working_directory(here, capsys):
    run = train_tiny("--method", "ce")
    for name in (run.exp_id, f"runs/{run.exp_id}", f"configs/{run.exp_id}"):
        found = runs.find(name)
        assert found.exp_id == run.exp_id
        assert found.assets == Path("assets") / run.exp_id
        assert runs.read_rows(found) == run.rows
        assert same(runs.load_model(found), run.learner.net)
    assert [found.exp_id for found in runs.find_all([Path("configs"), Path("runs")]).runs] == [
        run.exp_id
    ]
    assert len(runs.find_all([here]).runs) == 1
    assert runs.find_all([here, Path("configs"), Path("runs")]).left_out == []


@pytest.mark.training
def test_events_give_the_rows_that_metrics_jsonl_gives(trained, tmp_path):
    run = runs.find(str(trained.folder))
    (trained.folder / "metrics.jsonl").rename(tmp_path / "metrics.jsonl")
    try:
        (row,) = runs.read_rows(run)
    finally:
        (tmp_path / "metrics.jsonl").rename(trained.folder / "metrics.jsonl")
    assert row == pytest.approx({name: trained.rows[0][name] for name in row}, rel=1e-6)
    assert {
        "accuracy",
        "accuracy_train",
        "accuracy_test_ema",
        "loss_test_ema",
        "loss_train_noisy",
    } < set(row)


@pytest.mark.training
def test_an_unfinished_run_has_the_network_of_its_checkpoint(trained, tmp_path):
    for name in ("config.yaml", "config.yml", "metrics.jsonl", "last.ckpt"):
        (tmp_path / name).write_bytes((trained.folder / name).read_bytes())
    run = runs.find(str(tmp_path))
    assert same(runs.load_model(run), trained.learner.ema.net)
    checkpoint.save({"net": {}}, tmp_path / "last.ckpt")
    with pytest.raises(UsageError, match=r"last\.ckpt is no checkpoint"):
        runs.load_model(run)
    (tmp_path / "last.ckpt").unlink()
    with pytest.raises(
        UsageError, match=r"neither model_ema\.pth nor model\.pth in .*finish the run"
    ):
        runs.load_model(run)


def test_a_run_of_the_original(here):
    losses = {"all": [2.0, 1.5], "noisy": [3.0, 2.5], "clean": [1.0, 0.5]}
    config = {"n_epochs": 2, "sigma": 1.0, "mo": True}
    write_old_run(here, OLD_ID, config, [0.25, 0.5], [0.1, 0.2], [2.25, 2.0], losses)
    net = WideResNet(10, depth=10, width=1)
    write_old_model(here, OLD_ID, net.state_dict(), "model_ema.pth")
    run = runs.find(OLD_ID)
    assert runs.title(run) == "cifar10-sln-mo-sym-paper-0.4"
    last = runs.read_rows(run)[-1]
    assert last == pytest.approx(
        {
            "epoch": 2,
            "accuracy": 50,
            "accuracy_test_ema": 50,
            "accuracy_train": 20,
            "loss_test_ema": 2.0,
            "loss_train": 1.5,
            "loss_train_noisy": 2.5,
            "loss_train_clean": 0.5,
        }
    )
    assert same(runs.load_model(run), net)


def test_a_run_of_the_original_on_animal_10n(here):
    write_old_run(here, OLD_ID, {**REAL, "sigma": 0}, [0.25], [0.1], [2.25], {"all": [2.0]})
    run = runs.find(OLD_ID)
    assert runs.title(run) == "animal-10n-ce"
    assert runs.read_rows(run)[0]["loss_train_noisy"] is None


def test_a_curve_and_its_settings(tmp_path):
    path = tmp_path / "curve.csv"
    path.write_text(
        "# a remark\nepoch,phase,accuracy,loss_train\n1,warm_up,20.5,\n2,warm_up,30,1.5\n"
    )
    run = runs.find(str(path))
    assert run.settings == {}
    rows = runs.read_rows(run)
    assert [(row["epoch"], row["accuracy"], row["loss_train"]) for row in rows] == [
        (1, 20.5, None),
        (2, 30.0, 1.5),
    ]
    assert runs.find_all([tmp_path]).runs == []
    settings = (
        "# dataset_name: digits\n# sigma: 0.5\n# mo: false\n# lc_n_epoch: -1\n# "
        "n_epochs: 2\n# seed: 1\n"
    )
    path.write_text(settings + "epoch,accuracy\n1,20\n2,30\n")
    (run,) = runs.find_all([tmp_path]).runs
    assert run.settings["method"] == "sln"
    path.write_text("epoch,loss\n1,20\n")
    with pytest.raises(UserError, match="columns epoch and accuracy"):
        runs.find(str(path))


def test_what_is_missing_is_named(here):
    with pytest.raises(
        UsageError, match=r"no experiment 'exp_1': neither configs/exp_1/config\.yml nor"
    ):
        runs.find("exp_1")
    with pytest.raises(UserError, match=r"none\.csv cannot be used"):
        runs.find("none.csv")
    with pytest.raises(UsageError, match="no such folder"):
        runs.find_all([Path("none")])
    write_old_run(here, OLD_ID, {}, [])
    with pytest.raises(UsageError, match=r"no figures yet.*accuracy/test"):
        runs.read_rows(runs.find(OLD_ID))


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("sigma: [", "cannot be read"),
        ("- 1", "it holds list"),
        ("sigma: 0.5", "does not say dataset_name, mo"),
        (
            "{dataset_name: ../a, sigma: 0, mo: false, lc_n_epoch: -1, n_epochs: 1, seed: 1}",
            "no noise on",
        ),
        (
            "{dataset_name: digits, sigma: much, mo: false, lc_n_epoch: -1, n_epochs: 1, seed: 1}",
            "'much', not a usable number",
        ),
        (
            "{dataset_name: [digits], sigma: 0, mo: false, lc_n_epoch: -1, n_epochs: 1, seed: 1}",
            "no noise on",
        ),
        (
            "{dataset_name: digits, sigma: 0, mo: false, lc_n_epoch: 0, n_epochs: 1.5, seed: .nan}",
            "n_epochs is 1.5, seed is nan, not a usable number",
        ),
    ],
)
def test_a_config_of_something_else_is_refused_and_named(tmp_path, content, problem):
    (tmp_path / "config.yml").write_text(content)
    with pytest.raises(UsageError, match=problem):
        runs.find(str(tmp_path))
    found = runs.find_all([tmp_path])
    assert found.runs == []
    assert re.search(problem, found.left_out[0])


@pytest.mark.training
def test_a_torn_last_line_is_left_out_and_a_wrong_one_refused(trained, tmp_path):
    (tmp_path / "config.yaml").write_bytes((trained.folder / "config.yaml").read_bytes())
    line = json.dumps({"epoch": 1, "accuracy": 50.0}) + "\n"
    (tmp_path / "metrics.jsonl").write_text(line + line[:10])
    run = runs.find(str(tmp_path))
    assert len(runs.read_rows(run)) == 1
    (tmp_path / "metrics.jsonl").write_text("{}\n" + line)
    with pytest.raises(UserError, match="a line that is no row with 'epoch'"):
        runs.read_rows(run)


@pytest.mark.parametrize("kind", ["log", "curve"])
def test_a_log_of_two_runs_is_refused(tmp_path, kind):
    config = "{dataset_name: digits, sigma: 0, mo: false, lc_n_epoch: -1, n_epochs: 2, seed: 1}"
    (tmp_path / "config.yml").write_text(config)
    rows = [{"epoch": epoch, "accuracy": 50.0} for epoch in (1, 1, 2, 2)]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "curve.csv").write_text("epoch,accuracy\n1,50\n1,50\n2,50\n")
    with pytest.raises(UserError, match=r"epoch 1 follows epoch 1.* two runs"):
        runs.read_rows(runs.find(str(tmp_path if kind == "log" else tmp_path / "curve.csv")))


def test_epochs_without_an_evaluation_count_as_epochs_and_not_as_evaluations(tmp_path):
    config = "{dataset_name: digits, sigma: 0, mo: false, lc_n_epoch: -1, n_epochs: 30, seed: 1}"
    (tmp_path / "config.yml").write_text(config)
    known = {5: 90.0, 15: 20.0, 20: 30.0, 25: 40.0}
    rows = [{"epoch": epoch, "accuracy": known.get(epoch)} for epoch in range(1, 31)]
    rows[27]["accuracy"] = float("nan")
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = runs.read_rows(runs.find(str(tmp_path)))
    assert found[0]["accuracy"] is None
    assert summary(found) == {"last": 40, "last_10_mean": 40, "best": 90, "best_epoch": 5}
    assert summary(found[:20])["last_10_mean"] == 25
    (tmp_path / "metrics.jsonl").write_text(json.dumps(rows[0]) + "\n")
    with pytest.raises(UsageError, match="no figures yet"):
        runs.read_rows(runs.find(str(tmp_path)))


@pytest.mark.parametrize(
    ("settings", "title"),
    [
        ({"noise_mode": "asym", "custom_noise": True, "p": 0.45}, "cifar10-ce-asym-custom-0.45"),
        ({"noise_file": "runs/a/mine.npz", "p": None}, "cifar10-ce-mine-file"),
        ({"dataset_name": "folder", "noise_mode": None, "p": None}, "folder-ce"),
        ({"dataset_name": "clothing1m", "noise_mode": None, "p": None}, "clothing1m-ce"),
    ],
)
def test_titles(tmp_path, settings, title):
    known = {
        "dataset_name": "cifar10",
        "sigma": 0,
        "mo": False,
        "lc_n_epoch": -1,
        "n_epochs": 1,
        "seed": 1,
        **settings,
    }
    checked = runs.checked_settings(known, tmp_path)
    assert runs.title(runs.Run("", checked, tmp_path, tmp_path, tmp_path)) == title


@pytest.mark.training
def test_a_noise_file_tells_the_mode(tmp_path):
    labels = (
        train_tiny("--method", "ce", "--output_dir", str(tmp_path / "first")).folder / "noise.npz"
    )
    flags = [
        "--dataset_name",
        "digits",
        "--noise_file",
        str(labels),
        "--method",
        "ce",
        "--n_epochs",
        "1",
        "--depth",
        "10",
    ]
    folder = train_cifar.train(
        parse("train_cifar", [*flags, "--output_dir", str(tmp_path / "second")])
    ).folder
    assert runs.noise_mode(runs.find(str(folder))) == "sym"

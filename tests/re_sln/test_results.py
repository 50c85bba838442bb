"""results.py and its tables: what is averaged with what, published numbers, files, and what is
refused.
"""

import csv
import io
import json

import numpy as np
import pytest
import yaml
from old_runs import REAL, train_tiny, write_old_run, write_search
from PIL import Image

from re_sln import results
from re_sln.analysis import accuracy_tables as tables
from re_sln.analysis import curves
from re_sln.analysis import sample_figures as figures
from re_sln.analysis.accuracy_tables import Result
from shared.formats import noise_file

RECIPE = (2, None, None, 128, 0.001, 0.999, 28, 2)


@pytest.fixture(autouse=True)
def quick_pictures(monkeypatch, tmp_path):
    """Drawing takes most of the time; one test draws for real."""
    monkeypatch.chdir(tmp_path)
    for name in ("accuracy_by_epoch", "loss_by_epoch", "accuracy_by_sigma"):
        monkeypatch.setattr(curves, name, lambda *args: b"png")


def result(
    accuracy=50.0,
    *,
    noise="sym",
    method="sln",
    sigma=1.0,
    recipe=RECIPE,
    lc=(-1, "recursive"),
    base=None,
):
    rows = [{"epoch": epoch, "accuracy": accuracy, "accuracy_test_base": base} for epoch in (1, 2)]
    return Result("cifar10", noise, method, sigma, lc, recipe, rows)


def read_table(path):
    with open(path, newline="") as file:
        return list(csv.reader(file))


# ---- tables


def test_a_cell_is_the_mean_and_the_population_deviation_of_the_last_epoch():
    # the two runs of CE on CIFAR-10 sym in re-sln's table
    assert tables.cell_text([56.05, 52.25]) == "54.15 ± 1.90"
    assert tables.cell_text([74.05]) == "74.05"
    values = [1.0, 2.0, 6.0]
    mean = sum(values) / 3
    deviation = (sum((value - mean) ** 2 for value in values) / 3) ** 0.5
    assert tables.cell_text(values) == f"{mean:.2f} ± {deviation:.2f}"


def test_runs_of_other_settings_and_unfinished_ones_are_left_out():
    short = (1, *RECIPE[1:])
    runs = [result(50), result(60), result(10, recipe=short), result(20, recipe=(5, *RECIPE[1:]))]
    kept, remarks = tables.comparable(runs)
    assert [run.last for run in kept["cifar10"]] == [50, 60]
    assert remarks[0] == "cifar10: left out 1 unfinished run"
    assert remarks[1].startswith(
        "cifar10: left out 1 run of other settings than n_epochs 2, batch_size 128"
    )


def test_a_cell_has_the_published_sigma_else_the_most_used_one():
    runs = [result(50, sigma=0.2), result(51, sigma=0.2), result(80, sigma=1.0)]
    chosen, remarks = tables.cells("cifar10", runs)
    assert [run.last for run in chosen["sln", "sym"]] == [80]
    assert remarks == ["cifar10, sln on sym: the runs with sigma 1; there are others with 0.2"]
    chosen, _ = tables.cells("cifar10", [*runs[:2], result(70, sigma=0.4)])
    assert [run.last for run in chosen["sln", "sym"]] == [50, 51]
    late, early = (
        result(method="sln_mo_lc", lc=(250, "recursive")),
        result(method="sln_mo_lc", lc=(50, "recursive")),
    )
    chosen, remarks = tables.cells("cifar10", [early, early, late])
    assert chosen["sln_mo_lc", "sym"] == [late]
    assert "label correction from epoch 250; there are others from 50" in remarks[0]


def test_the_network_of_a_momentum_run_fills_an_empty_cell_of_sln_only():
    momentum = result(85, method="sln_mo", base=79.0)
    chosen, remarks = tables.cells("cifar10", [momentum])
    assert [run.last for run in chosen["sln", "sym"]] == [79.0]
    assert "the network itself in runs of sln-mo" in remarks[0]
    assert "79.00* (1)" in tables.printed(chosen)
    chosen, remarks = tables.cells("cifar10", [momentum, result(80)])
    assert [run.last for run in chosen["sln", "sym"]] == [80]
    assert remarks == []
    assert ("sln", "sym") not in tables.cells("cifar10", [result(85, method="sln_mo")])[
        0
    ]  # the original's log none


def test_rows_and_columns_are_in_the_papers_order():
    runs = [
        result(noise=noise, method=method, sigma=0.0 if method == "ce" else 0.5)
        for noise in ("mine", "openset", "sym 0.2", "asym")
        for method in ("sln", "ce")
    ]
    chosen, _ = tables.cells("cifar10", runs)
    table = tables.table(chosen, tables.last_text)
    assert table[0] == ["method", "sym 0.2", "asym", "openset", "mine"]
    assert [row[0] for row in table[1:]] == ["ce", "sln"]


def test_the_mean_curve_over_runs():
    one, two = (
        [{"epoch": epoch, "accuracy": value} for epoch, value in enumerate(values, 1)]
        for values in ((10.0, 20.0), (30.0, 20.0))
    )
    epochs, mean, std = curves.mean_and_std([one, two], "accuracy")
    assert (epochs.tolist(), mean.tolist(), std.tolist()) == ([1, 2], [20, 20], [10, 0])
    assert np.isnan(curves.column(one, "loss_train")).all()


# ---- the script


@pytest.mark.training
def test_old_and_new_runs_in_the_working_directory(tmp_path, capsys):
    for number, (config, accuracy) in enumerate(
        [
            ({"sigma": 1.0}, 0.8064),
            ({"sigma": 1.0, "custom_noise": True}, 0.8012),
            ({"sigma": 0.2}, 0.5522),
            ({}, 0.5605),
            ({"noise_mode": "asym", "sigma": 0.5}, 0.8223),
            ({"sigma": 1.0, "mo": True, "lc_n_epoch": 2}, 0.874),
            ({**REAL, "sigma": 0.5, "mo": True}, 0.791),
            ({**REAL, "sigma": 0.5, "mo": True}, 0.788),
        ]
    ):
        losses = {"all": [2.0, 1.5, 1.0]}
        write_old_run(
            tmp_path, f"exp_{number}", config, [0.1, 0.2, accuracy], [0.1] * 3, [2.0] * 3, losses
        )
    write_old_run(tmp_path, "exp_unfinished", {}, [])
    train_tiny("--method", "ce")
    assert results.main([]) == 0
    out = capsys.readouterr().out
    assert "80.38 ± 0.26 (2)" in out
    assert "note: left out: exp_unfinished has no figures yet" in out
    assert read_table(tmp_path / "results/c10-test-acc-table.csv") == [
        ["method", "sym", "asym"],
        ["ce", "56.05", ""],
        ["sln", "80.38 ± 0.26", "82.23"],
        ["sln-mo-lc", "87.40", ""],
    ]
    assert read_table(tmp_path / "results/animal10n-test-acc-table.csv")[1] == [
        "sln-mo",
        "78.95 ± 0.15",
    ]
    assert read_table(tmp_path / "results/ablation_cifar10_sln_symmetric.csv")[1:] == [
        ["0", "56.05", "1"],
        ["0.2", "55.22", "1"],
        ["1", "80.38 ± 0.26", "2"],
    ]
    pictures = {path.stem for path in (tmp_path / "results").glob("*.png")}
    assert {
        "c10-sln-mo-lc-test-acc-zoom",
        "c10-ce-train-loss",
        "animal10n-test-acc",
        "digits-ce-test-acc",
        "ablation-c10-sln-sym",
    } <= pictures


def write_run(folder, settings, rows):
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    labels = noise_file.make([0, 1], dataset="digits", kind="symmetric", nominal_rate=0.6)
    noise_file.write(folder / "noise.npz", labels)


def test_runs_of_other_projects_have_rows_of_their_own(tmp_path, capsys):
    """Each with the accuracy that it reports; what is not finished, or no run, is named."""
    log = [{"epoch": epoch, "accuracy": 10.0 * epoch} for epoch in (1, 2)]
    ours = {"dataset_name": "digits", "sigma": 0.5, "mo": False, "lc_n_epoch": -1, "seed": 1}
    write_run(tmp_path / "runs/sln", {**ours, "n_epochs": 2, "noise_file": "a.npz"}, log)
    fsr = {"method": "fsr", "network_name": "wrn10-1", "max_iteration": 20, "noise_file": "a.npz"}
    for seed, accuracy in (("1", 70.0), ("2", 80.0)):
        evaluations = [
            {"iteration": n, "epoch": n / 10, "accuracy": 1.0, "accuracy_ema": accuracy}
            for n in (1, 10, 20)
        ]
        write_run(tmp_path / "runs" / f"fsr{seed}", fsr, evaluations)
    write_run(tmp_path / "runs/halted", {"method": "CE", "nepoch": 9, "dataset": "digits"}, log)
    (tmp_path / "runs/other").mkdir()
    (tmp_path / "runs/other/config.yaml").write_text("of: another program")
    assert results.main([]) == 0
    assert read_table(tmp_path / "results/digits-test-acc-table.csv") == [
        ["method", "sym"],
        ["sln", "20.00"],
        ["FSR (ieg_fsr)", "75.00 ± 5.00"],
    ]
    out = capsys.readouterr().out
    assert "test accuracy (%) on digits, 2 epochs, mean" in out
    assert "note: left out: runs/halted is not finished" in out
    assert "note: left out: runs/other: config.yaml: its settings are not those of a" in out


def test_sets_of_own_pictures_and_ways_to_train_on_them_are_kept_apart(tmp_path, capsys):
    ours = {"dataset_name": "folder", "sigma": 0.5, "mo": False, "lc_n_epoch": -1, "n_epochs": 1}
    runs = [
        ("dogs", {}, 80.0),
        ("dogs", {"seed": 2}, 90.0),
        ("dogs", {"val_fraction": 0.3}, 10.0),
        ("cars", {}, 30.0),
        ("cars", {"labels": "/other.csv"}, 40.0),
        ("cars", {"labels": "/other.csv", "lc_images": "augmented"}, 50.0),
    ]
    for number, (name, more, accuracy) in enumerate(runs):
        settings = {**ours, "seed": 1, "data_location": f"/sets/{name}", **more}
        log = [{"epoch": 1, "accuracy": accuracy}]
        write_run(tmp_path / f"runs/{number}", settings, log)
    assert results.main([]) == 0
    found = {
        (path.name.split("_")[1], read_table(path)[1][1])
        for path in (tmp_path / "results").glob("folder_*-test-acc-table.csv")
    }
    assert found == {("dogs", "85.00 ± 5.00"), ("cars", "30.00"), ("cars", "45.00 ± 5.00")}
    assert "left out 1 run of other settings than" in capsys.readouterr().out


def test_searches(tmp_path, capsys):
    write_search(tmp_path, "hp_1", {}, {0.1: 0.3424, 1.0: 0.4812})
    write_search(tmp_path, "hp_2", {"custom_noise": True}, {0.1: 0.3222, 1.0: 0.4774})
    write_search(tmp_path, "hp_3", {"noise_mode": "asym", "p": 0.2}, {0.1: 0.5})
    write_search(tmp_path, "hp_4", {"n_epochs": 3}, {0.1: 0.9})
    (tmp_path / "hp/hp_3/other").mkdir()
    (tmp_path / "hp/hp_3/other/params.json").write_text("{}")
    assert results.main([]) == 0
    assert read_table(tmp_path / "results/hp_cifar10_sln_sym.csv") == [
        ["sigma", "paper", "custom", "mean"],
        ["0.1", "34.24", "32.22", "33.23"],
        ["1", "48.12", "47.74", "47.93"],
    ]
    assert (tmp_path / "results/hp_cifar10_sln_asym.csv").exists()
    out = capsys.readouterr().out
    assert out.count("left out the trial") == 2
    assert "2 of 3 epochs are done" in out


@pytest.mark.training
def test_folders_that_are_named(tmp_path, capsys):
    train_tiny("--method", "sln_mo", "--output_dir", "mine/one")
    assert results.main(["--runs", "mine", "--out", "mine/tables"]) == 0
    table = read_table(tmp_path / "mine/tables/digits-test-acc-table.csv")
    assert [row[0] for row in table] == ["method", "sln", "sln-mo"]
    assert "note: digits, sln on sym: the network itself" in capsys.readouterr().out
    assert (
        results.main(["--runs", "mine", "--out", "mine/tables"]) == 0
    )  # its own tables are no runs


def test_what_is_missing_is_said(tmp_path, capsys):
    assert results.main([]) == 2
    assert "which has none of the folders configs, runs, hp" in capsys.readouterr().err
    assert results.main(["--runs", "none"]) == 2
    assert "none: no such folder" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        results.main(["--experiment_id", "abc"])
    assert "TensorBoard.dev, which was shut down" in capsys.readouterr().err


def test_the_pictures_can_be_drawn(monkeypatch):
    monkeypatch.undo()
    rows = [
        {
            "epoch": epoch,
            "accuracy": 10.0 * epoch,
            "loss_train": 1.0,
            "loss_train_clean": 0.5,
            "loss_train_noisy": 2.0,
        }
        for epoch in range(1, 7)
    ]
    unknown = [{**row, "loss_train_clean": None, "loss_train_noisy": None} for row in rows]
    groups = {"sym": [rows, rows], "sym 0.2": [rows], "mine": [unknown]}
    pictures = [
        curves.accuracy_by_epoch("title", groups, zoom=True),
        curves.accuracy_by_epoch("title", groups, zoom=False),
        curves.loss_by_epoch("title", groups),
        curves.accuracy_by_sigma("title", {0.0: [50, 52], 1.0: [80]}),
    ]
    assert {Image.open(io.BytesIO(picture)).size for picture in pictures} == {(600, 400)}
    assert figures.DPI == 100

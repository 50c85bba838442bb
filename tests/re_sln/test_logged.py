"""Our curves beside those that re-sln logged."""

import csv
import json

import numpy as np
import pytest

from re_sln import logged


def curve_file(path, accuracies, sigma=0.0, seed=7, **settings):
    settings = {
        "dataset_name": "cifar10",
        "noise_mode": "sym",
        "p": 0.4,
        "sigma": sigma,
        "mo": sigma > 0,
        "lc_n_epoch": -1,
        "n_epochs": len(accuracies),
        "seed": seed,
        **settings,
    }
    columns = "epoch,accuracy,accuracy_test_base,accuracy_test_ema"
    remarks = [f"# {key}: {json.dumps(value)}" for key, value in settings.items()]
    rows = [f"{epoch},{a},{a},{a}" for epoch, a in enumerate(accuracies, 1)]
    path.write_text("\n".join([*remarks, columns, *rows]) + "\n")
    return path


def first_logged(sigma, model, epochs):
    lines = logged.LOGGED.read_text().splitlines()
    rows = csv.DictReader(line for line in lines if not line.startswith("#"))
    runs = {}
    for row in rows:
        if (row["noise_mode"], float(row["sigma"]), row["model"]) == ("sym", sigma, model):
            runs.setdefault(row["exp_id"], []).append(float(row["accuracy_test"]))
    return np.array(list(runs.values()))[:, :epochs]


def test_a_logged_run_is_inside_its_own_band(tmp_path):
    theirs = first_logged(0, "network", 5)
    assert len(theirs) == 2
    path = curve_file(tmp_path / "ce.csv", theirs[0].tolist())
    [pair] = logged.pairs_of(path)
    assert pair[:3] == ("CE", "sym", 7)
    np.testing.assert_allclose(pair.logged, theirs)
    line = logged.described(pair)
    assert line[-2:] == ["0 of 5", "0"]


def test_differences_are_in_units_of_the_spread(tmp_path):
    theirs = first_logged(1, "network", 4)
    ours = theirs.mean(axis=0) + np.array([3, 3, 0, 3])
    path = curve_file(tmp_path / "sln.csv", ours.tolist(), sigma=1.0)
    network, ema = logged.pairs_of(path)
    assert (network.model, ema.model) == ("SLN", "SLN+MO")
    spread = np.sqrt(np.mean((theirs[0] - theirs[1]) ** 2 / 2))
    expected = ["+2.25", "+3.00", f"{spread:.2f}", f"{2.25 / spread:+.2f}", f"{3 / spread:+.2f}"]
    assert logged.described(network)[4:] == [*expected, "3 of 4", "2"]


def test_one_logged_run_is_no_band(tmp_path):
    path = curve_file(tmp_path / "dependent.csv", [30.0, 40.0], noise_mode="dependent")
    [pair] = logged.pairs_of(path)
    assert len(pair.logged) == 1
    assert logged.described(pair)[6:] == ["-"] * 5


def test_only_epochs_before_label_correction_count(tmp_path):
    path = curve_file(tmp_path / "lc.csv", [30.0, 31.0, 90.0], sigma=1.0, lc_n_epoch=3)
    assert [pair.ours.tolist() for pair in logged.pairs_of(path)] == [[30.0, 31.0]] * 2


def test_a_model_that_was_not_tested_is_left_out(tmp_path):
    path = curve_file(tmp_path / "of_re-sln.csv", [30.0], sigma=1.0)
    path.write_text(path.read_text().replace("1,30.0,30.0,30.0", "1,30.0,,30.0"))
    assert [pair.model for pair in logged.pairs_of(path)] == ["SLN+MO"]


def test_the_script_writes_a_table_and_a_picture(tmp_path, capsys):
    path = curve_file(tmp_path / "ce.csv", [30.0, 35.0])
    assert logged.main([str(path), "--out", str(tmp_path / "out")]) == 0
    table = (tmp_path / "out/logged.csv").read_text().splitlines()
    assert table[0].startswith("model,noise,seed,epochs,mean difference")
    assert table[1].startswith("CE,sym,7,2,")
    assert (tmp_path / "out/logged.png").read_bytes()[1:4] == b"PNG"
    assert "table and figure" in capsys.readouterr().out


@pytest.mark.parametrize("wrong", [{"dataset_name": "digits"}, {"p": 0.2}, {"sigma": 0.3}])
def test_what_was_not_logged_is_refused(tmp_path, capsys, wrong):
    path = curve_file(tmp_path / "run.csv", [30.0], **wrong)
    assert logged.main([str(path), "--out", str(tmp_path / "out")]) == 2
    assert "re-sln logged" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()

"""The table of the paper: its trainings fill it, and a second call repeats nothing.

On Ray: test_tune.py.
"""

import csv
import json
from pathlib import Path

import pytest

from re_sln import table
from re_sln.analysis.accuracy_tables import Result
from re_sln.run.config import parse_table
from re_sln.run.record import read_config
from re_sln.run.report import TIMING, Recorder
from re_sln.search import paper_grid

pytestmark = pytest.mark.training
TINY = [
    "--dataset_name",
    "digits",
    "--noise_mode",
    "sym",
    "--n_epochs",
    "2",
    "--limit_train",
    "120",
    "--limit_test",
    "40",
    "--device",
    "cpu",
]
LOCAL = [*TINY, "--backend", "local"]


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("filled") / "table"
    assert table.main([*LOCAL, "--seeds", "123", "5", "--output_dir", str(folder)]) == 0
    return folder


def metrics(folder: Path) -> dict[str, list[dict]]:
    return {
        path.parent.name: [
            {k: v for k, v in json.loads(line).items() if k not in TIMING}
            for line in path.read_text().splitlines()
        ]
        for path in folder.glob("*/metrics.jsonl")
    }


def cells(folder: Path) -> dict[str, dict[str, str]]:
    with open(folder / "table.csv", newline="") as file:
        return {row["method"]: row for row in csv.DictReader(file)}


def test_sln_and_sln_mo_are_two_columns_of_one_training(filled: Path) -> None:
    rows = metrics(filled)
    assert set(rows) == {
        f"digits_sym_{method}_seed{seed}"
        for method in ("ce", "sln_mo", "sln_mo_lc")
        for seed in (123, 5)
    }
    found = cells(filled)
    for method, training, model in (
        ("ce", "ce", "base"),
        ("sln", "sln_mo", "base"),
        ("sln_mo", "sln_mo", "ema"),
        ("sln_mo_lc", "sln_mo_lc", "ema"),
    ):
        first, second = (
            rows[f"digits_sym_{training}_seed{seed}"][-1][f"accuracy_test_{model}"]
            for seed in (123, 5)
        )
        mean = (first + second) / 2
        assert found[method]["mean"] == f"{mean:.2f}"
        assert (
            found[method]["std"]
            == f"{((first - mean) ** 2 / 2 + (second - mean) ** 2 / 2) ** 0.5:.2f}"
        )
        assert found[method]["seeds"] == "123 5"


def test_the_trainings_are_those_of_the_paper(filled: Path) -> None:
    of = {name: read_config(filled / f"digits_sym_{name}_seed123") for name in paper_grid.TRAININGS}
    assert [of[name]["method"] for name in paper_grid.TRAININGS] == list(paper_grid.TRAININGS)
    assert [of[name]["lc_n_epoch"] for name in paper_grid.TRAININGS] == [-1, -1, 1]
    config = parse_table([])
    whole = paper_grid.trainings(config)
    assert len(whole) == 18
    assert len(paper_grid.as_lines(paper_grid.collect(whole), paper_grid.columns_of(config))) == 25
    lc = whole["cifar100_dependent_sln_mo_lc_seed123"]
    assert (lc.p, lc.sigma, lc.mo, lc.lc_n_epoch, lc.n_epochs, lc.batch_size) == (
        0.4,
        0.1,
        True,
        250,
        300,
        128,
    )
    shorter = paper_grid.trainings(parse_table(["--n_epochs", "60"]))
    assert shorter["cifar10_sym_sln_mo_lc_seed123"].lc_n_epoch == 50


def test_a_second_call_repeats_nothing(filled: Path, capsys) -> None:
    before = {path: path.stat().st_mtime_ns for path in filled.glob("*/*.ckpt")}
    assert table.main([*LOCAL, "--seeds", "123", "5", "--output_dir", str(filled)]) == 0
    assert "0 of them are left" in capsys.readouterr().out
    assert before == {path: path.stat().st_mtime_ns for path in filled.glob("*/*.ckpt")}


def test_an_interrupted_table_resumes_with_the_same_command(
    filled: Path, tmp_path: Path, monkeypatch, capsys
) -> None:
    folder, log, count = tmp_path / "table", Recorder.__call__, []

    def interrupted(self, row) -> None:
        count.append(row)
        if len(count) == 4:  # the second epoch of the second training
            raise KeyboardInterrupt
        log(self, row)

    with monkeypatch.context() as patch:
        patch.setattr(Recorder, "__call__", interrupted)
        assert table.main([*LOCAL, "--output_dir", str(folder)]) == 130
    assert len(metrics(folder)) == 2
    assert table.main([*LOCAL, "--output_dir", str(folder)]) == 0
    expected = metrics(filled)
    assert metrics(folder) == {name: expected[name] for name in metrics(folder)}
    assert len(metrics(folder)) == 3


def test_a_cell_that_was_not_run_says_so_beside_the_paper() -> None:
    def run(accuracy: float, seed: int) -> Result:
        rows = [{"epoch": 1, "accuracy": accuracy}]
        return Result("cifar10", "asym", "ce", 0.0, (-1, "recursive"), (1,), rows, seed)

    cells = {("ce", "asym"): [run(70.0, 1), run(74.0, 2)]}
    columns = [("cifar10", "sym"), ("cifar10", "asym")]
    text = paper_grid.text({"cifar10": cells}, columns, 3)
    assert "not run (53.16 ± 1.64)" in text
    assert "72.00 ± 2.00, 2 of 3 seeds (72.72 ± 1.35)" in text
    lines = paper_grid.as_lines({"cifar10": cells}, columns)
    assert lines[1] == ["cifar10", "sym", "ce", "", "", "", "53.16", "1.64"]
    assert lines[5] == ["cifar10", "asym", "ce", "72.00", "2.00", "1 2", "72.72", "1.35"]


@pytest.mark.parametrize(
    ("flags", "fix"),
    [
        ([*TINY, "--noise_mode", "dependent"], "leave out digits"),
        ([*TINY, "--n_epochs", "1"], "at least 2"),
        (["--data_path", "nowhere"], "make data-cifar10"),
        ([*TINY, "--batch_size", "0"], "--batch_size 0"),
    ],
)
def test_bad_input_is_refused_before_anything_is_trained(
    flags, fix, tmp_path, monkeypatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    try:
        status = table.main(flags)
    except SystemExit as stop:  # argparse
        status = stop.code
    assert status == 2
    assert fix in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_folder_of_other_settings_is_refused(filled: Path, capsys) -> None:
    assert table.main([*LOCAL, "--limit_train", "100", "--output_dir", str(filled)]) == 2
    assert "limit_train: 120 then, 100 now" in capsys.readouterr().err

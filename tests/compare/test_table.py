"""The table, and the check that all runs saw the same labels."""

import csv
import shutil

import fake_script
import numpy as np
import pytest

from compare import table
from compare.spread import Spread
from shared.errors import UserError
from shared.formats import noise_file
from shared.runs.reader import find_runs


@pytest.fixture
def labels(tmp_path):
    """A noise file of six samples."""
    path = tmp_path / "noise.npz"
    noise_file.write(path, noise_file.make([0, 1, 2, 0, 1, 2], clean_labels=[0, 0, 2, 2, 1, 2]))
    return path


def train(job):
    """The job's run, in this process."""
    (command,) = job.commands
    fake_script.main(command[2:])


def found(folder):
    return table.of_this_comparison(find_runs([folder])[0], folder)


def test_a_row_is_a_method_over_its_seeds(tmp_path, job, labels):
    for seed in (1, 2, 3):
        train(job("--noise_file", labels, seed=seed))
    runs, left_out = found(tmp_path)
    assert left_out == []
    (row,) = table.rows(runs, {"sln": "has something else"})
    assert row.title == "SLN+MO+LC"
    assert (row.seeds, row.samples, row.reported, row.seconds) == (3, 6, "last", 6.0)
    assert row.accuracies["last"] == Spread(55.0, 1.0)  # 53 + seed
    assert row.accuracies["last_10_mean"] == Spread(54.0, 1.0)
    text = table.text([row])
    assert "55.00 ± 1.00" in text
    assert "SLN+MO+LC: has something else" in text
    table.write_csv([row], tmp_path / "table.csv")
    (read,) = csv.DictReader((tmp_path / "table.csv").open())
    assert (read["last"], read["last_deviation"], read["samples"]) == ("55.00", "1.00", "6")
    assert read["differs"] == "has something else"


def test_other_settings_are_another_row(tmp_path, job):
    for seed, epochs in ((1, 3), (2, 3), (3, 4)):
        train(job("--epochs", epochs, seed=seed))
    found_rows = table.rows(found(tmp_path)[0], {})
    assert [(row.title, row.seeds) for row in found_rows] == [
        ("SLN+MO+LC (n_epochs 3)", 2),
        ("SLN+MO+LC (n_epochs 4)", 1),
    ]


def test_one_seed_has_no_deviation_and_no_test_set_no_accuracy(tmp_path, job):
    done = job()
    train(done)
    (row,) = table.rows(found(tmp_path)[0], {})
    assert row.accuracies["last"] == Spread(54.0, None)
    log = done.folder / "metrics.jsonl"
    log.write_text(log.read_text().replace('"accuracy": 5', '"accuracy": null, "x": 5'))
    (row,) = table.rows(found(tmp_path)[0], {})
    assert row.accuracies == dict.fromkeys(table.ACCURACIES)
    assert row.samples is None
    assert " -  " in table.text([row])
    table.write_csv([row], tmp_path / "table.csv")


def test_an_unfinished_run_is_left_out_with_the_reason(tmp_path, job):
    train(job("--epochs", 9, "--fail", 2, 1))
    runs, left_out = found(tmp_path)
    assert runs == []
    assert left_out[0].reason == "trained 1 of 9 epochs"


def test_a_copy_of_a_run_is_no_further_seed(tmp_path, job):
    done = job()
    train(done)
    for copy in ("sln-seed1.old", "old/sln-seed1"):
        shutil.copytree(done.folder, tmp_path / copy)
    runs, left_out = found(tmp_path)
    assert [run.folder for run in runs] == [done.folder]
    assert {reason for _, reason in left_out} == {
        "not a run of this comparison, by its place or name"
    }


def test_runs_on_the_same_labels_agree_even_on_a_part_of_them(tmp_path, job, labels):
    for seed in (1, 2):
        train(job("--noise_file", labels, seed=seed))
    part = noise_file.make([2, 1], indices=[2, 4])
    noise_file.write(tmp_path / "sln-seed2" / "noise.npz", part)
    runs, _ = found(tmp_path)
    assert "2 runs were compared" in table.check_labels(runs, labels)
    assert "all the same" in table.check_labels(runs, None)
    assert "are those of the noise file" in table.check_labels(runs[:1], labels)
    assert "no others to compare them with" in table.check_labels(runs[:1], None)
    assert "no run recorded its labels" in table.check_labels([], None)


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("other", [([0, 1, 2, 0, 1, 1], None), ([1], [9])])
def test_another_label_is_found(tmp_path, job, labels, known, other):
    for seed in (1, 2):
        train(job("--noise_file", labels, seed=seed))
    noisy, rows = other
    noise = noise_file.make(noisy, indices=rows and np.array(rows))
    noise_file.write(tmp_path / "sln-seed2" / "noise.npz", noise)
    runs, _ = found(tmp_path)
    if rows is not None and not known:  # nothing says that there is no such sample
        return
    whose = labels if known else tmp_path / "sln-seed1"
    with pytest.raises(
        UserError, match=rf"sln-seed2 was trained on another label of sample \d than {whose} \(1 "
    ):
        table.check_labels(runs, labels if known else None)

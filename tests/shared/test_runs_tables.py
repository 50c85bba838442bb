"""Curves kept as .csv, and label_quality.csv, read back."""

import numpy as np
import pytest

from shared.formats.label_quality import Verdict, write
from shared.formats.noise_file import make
from shared.runs.reader import RunError, find_runs, read_curve_file, read_label_quality

SETTINGS = """\
# dataset_name: digits
# sigma: 0.5
# mo: true
# lc_n_epoch: -1
# n_epochs: 3
# seed: 1
"""


def curve(tmp_path, text):
    path = tmp_path / "curve.csv"
    path.write_text(text, encoding="utf-8")
    return path


# ---- curves


def test_a_curve_whose_remarks_are_settings_is_of_that_method(tmp_path):
    text = f"{SETTINGS}epoch,phase,accuracy,seconds\n1,warm_up,,2\n2,warm_up,nan,2\n3,x,40,1.5\n"
    run = read_curve_file(curve(tmp_path, text))
    assert (run.project, run.method, run.title) == ("re_sln", "sln_mo", "SLN+MO")
    assert (run.averaged, run.which, run.seed) == (True, "last", 1)
    assert run.evaluations == [(3, 40.0)]
    assert (run.epochs, run.epochs_planned, run.seconds) == (3, 3, 5.5)
    assert run.rows[0] == {"epoch": 1, "phase": None, "accuracy": None, "seconds": 2}
    assert find_runs([run.folder])[0] == [run]


def test_a_curve_without_settings_is_named_after_its_file(tmp_path):
    path = curve(tmp_path, "# only a remark: of two\n\nepoch,accuracy\n0,10\n# more\n1,20\n")
    run = read_curve_file(path)
    assert (run.project, run.method, run.title) == ("", "", "curve")
    assert run.evaluations == [(0, 10.0), (1, 20.0)]
    assert (run.epochs, run.epochs_planned, run.is_finished) == (2, None, False)


def test_settings_that_refer_to_one_another_do_not_fill_the_memory(tmp_path):
    lines = ["# a0: &a0 [x, x]"]
    lines += [f"# a{i}: &a{i} [*a{i - 1}, *a{i - 1}]" for i in range(1, 40)]
    run = read_curve_file(curve(tmp_path, "\n".join([*lines, "epoch,accuracy", "1,2", ""])))
    assert run.config == {}


def test_a_curve_of_averaged_weights_has_their_accuracy(tmp_path):
    path = curve(tmp_path, "iteration,epoch,accuracy,accuracy_ema\n1,0.2,1,5\n7,1.4,2,4.0\n")
    run = read_curve_file(path)
    assert run.averaged
    assert [one.accuracy for one in run.evaluations] == [5, 4]
    assert run.epochs == 1.4


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no epoch and no accuracy"),
        ("a,b\n1,2\n", "no epoch and no accuracy"),
        ("epoch,loss\n1,2\n", "no accuracy"),
        ("epoch,accuracy\n", "a line has no epoch"),
        ("epoch,accuracy\n1,2\n,3\n", "a line has no epoch"),
        ("epoch,accuracy\n1,2\n1,3\n", "epoch 1 follows epoch 1"),
        ('epoch,accuracy\n1,"2' + "x" * 200_000, "field larger than"),
    ],
)
def test_what_is_no_curve_is_refused(tmp_path, text, message):
    with pytest.raises(RunError, match=message):
        read_curve_file(curve(tmp_path, text))


def test_a_missing_curve_is_named(tmp_path):
    with pytest.raises(RunError, match=r"none\.csv cannot be used"):
        read_curve_file(tmp_path / "none.csv")


# ---- label_quality.csv

NAMES = ("a, cat", 'a "dog"', "ねこ\u2028")
VERDICT = Verdict(
    predicted=np.array([2, 1, 0]),
    quality=np.array([0.25, 1.0, 1e-9]),
    self_confidence=np.array([0.1, 0.9, 0.5]),
    is_issue=np.array([True, False, True]),
)


@pytest.fixture
def table(tmp_path):
    noise = make([0, 1, 1], clean_labels=[2, 1, 1], indices=[7, 3, 5], num_classes=3)
    write(tmp_path / "q.csv", noise, NAMES, VERDICT, files=["x/7.png", "x/3.png", "y,5.png"])
    return tmp_path / "q.csv"


def test_what_was_written_is_read(table):
    found = read_label_quality(table)
    assert found.index.tolist() == [3, 5, 7]
    assert found.files == ["x/3.png", "y,5.png", "x/7.png"]
    assert found.given.tolist() == [1, 1, 0]
    assert found.given_names == [NAMES[1], NAMES[1], NAMES[0]]
    assert found.predicted.tolist() == [1, 0, 2]
    assert found.predicted_names == [NAMES[1], NAMES[0], NAMES[2]]
    assert found.quality.tolist() == [1.0, 0.0, 0.25]
    assert found.self_confidence.tolist() == [0.9, 0.5, 0.1]
    assert found.is_issue.tolist() == [False, True, True]
    assert found.clean.tolist() == [1, 1, 2]
    assert found.class_names == dict(enumerate(NAMES))
    assert (found.annotation_id, found.images, found.bbox) == (None, None, None)


def test_without_the_truth_there_are_no_clean_labels(tmp_path):
    write(tmp_path / "q.csv", make([0, 1, 1], num_classes=3), NAMES, VERDICT)
    found = read_label_quality(tmp_path / "q.csv")
    assert found.clean is None
    assert found.files == ["", "", ""]


def test_annotations_have_their_boxes(table):
    head, *rows = table.read_text(encoding="utf-8").split("\n")[:-1]
    rows[0] = rows[0].removesuffix("1") + "-1"  # in truth of a class that the model lacks
    more = [f"{row},{number},p.png,1.5 2 30 4" for number, row in enumerate(rows)]
    lines = [f"{head},annotation_id,image,bbox", *more, ""]
    table.write_text("\n".join(lines), encoding="utf-8")
    found = read_label_quality(table)
    assert found.annotation_id.tolist() == [0, 1, 2]
    assert found.clean.tolist() == [-1, 1, 2]
    assert found.images == ["p.png"] * 3
    assert found.bbox.tolist() == [[1.5, 2, 30, 4]] * 3
    table.write_text(table.read_text(encoding="utf-8").replace("30 4", "30"), encoding="utf-8")
    with pytest.raises(RunError, match="column bbox has a cell that is no box x y w h"):
        read_label_quality(table)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("label_quality", "quality", "has no column label_quality"),
        (",0.900000,", ",1.5,", r"self_confidence has a cell that is no number in \[0, 1\]"),
        (",0.900000,", ",nan,", r"self_confidence has a cell that is no number in \[0, 1\]"),
        ("False", "no", "is_label_issue has a cell that is no True or False"),
        ("3,x/3.png", "-3,x/3.png", "index has a cell that is no integer from 0 on"),
        ("3,x/3.png", "3", "row 2 has 9 cells, not 10: the file is cut off"),
    ],
)
def test_a_damaged_table_is_refused(table, old, new, message):
    text = table.read_text(encoding="utf-8")
    assert old in text
    table.write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(RunError, match=message):
        read_label_quality(table)


def test_an_empty_missing_or_huge_table_is_refused(tmp_path, table, monkeypatch):
    (tmp_path / "empty.csv").touch()
    with pytest.raises(RunError, match="is no table of labels"):
        read_label_quality(tmp_path / "empty.csv")
    with pytest.raises(RunError, match=r"none\.csv cannot be used"):
        read_label_quality(tmp_path / "none.csv")
    monkeypatch.setattr("shared.runs.label_table.MAX_BYTES", 10)
    with pytest.raises(RunError, match="too large for a table of labels"):
        read_label_quality(table)

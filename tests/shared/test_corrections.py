"""Corrected labels of some samples in the place of the old ones, and the command that does it."""

import json

import numpy as np
import pytest
from PIL import Image

from shared import datasets
from shared.formats import external, noise_file
from shared.formats.alignment import aligned
from shared.formats.corrections import replaced
from shared.formats.noise_file import CORRECTED_KIND, NoiseFileError


def test_the_others_keep_their_labels():
    base = noise_file.make(
        [3, 1, 2, 0],
        clean_labels=[3, 1, 1, 1],
        indices=[10, 40, 20, 30],
        dataset="digits",
        split="train",
        num_classes=10,
        seed=5,
    )
    found = replaced(base, noise_file.make([1, 1], indices=[30, 20]))
    assert found.noisy_labels.tolist() == [3, 1, 1, 1]
    np.testing.assert_array_equal(found.indices, base.indices)
    np.testing.assert_array_equal(found.clean_labels, base.clean_labels)
    header = found.header
    assert (header.dataset, header.num_classes, header.kind) == ("digits", 10, "corrected")
    assert header.measured_rate == 0
    assert header.seed is None  # nothing was drawn
    assert base.noisy_labels.tolist() == [3, 1, 2, 0]


def test_without_rows_the_labels_are_those_of_the_first_samples():
    base = noise_file.make([0, 1, 2, 3])
    assert replaced(base, noise_file.make([5, 5])).noisy_labels.tolist() == [5, 5, 2, 3]
    assert replaced(base, noise_file.make([5], indices=[3])).noisy_labels.tolist() == [0, 1, 2, 5]


@pytest.mark.parametrize("row", [4, 2**40])
def test_a_sample_that_is_not_there_is_refused(row):
    base = noise_file.make([0, 1, 2, 3])
    with pytest.raises(NoiseFileError, match=f"sample {row} is corrected.*--onto"):
        replaced(base, noise_file.make([5], indices=[row]))


def test_a_label_that_is_no_class_is_refused():
    base = noise_file.make([0, 1], num_classes=2)
    with pytest.raises(NoiseFileError):
        replaced(base, noise_file.make([5], indices=[1]))


def test_labels_of_another_dataset_are_refused():
    base = noise_file.make([0, 1, 1], dataset="digits", num_classes=2)
    for name, value in (("dataset", "cifar10"), ("num_classes", 3)):
        found = noise_file.make([1], indices=[0], **{name: value})
        with pytest.raises(NoiseFileError, match=f"{name} {value}, those to correct.*--onto"):
            replaced(base, found)


def test_names_need_the_dataset():
    found = noise_file.NoiseFile(np.array([1]), names=("a.png",))
    base = noise_file.make([0, 1])
    for one, other in ((base, found), (found, base)):
        with pytest.raises(NoiseFileError, match=r"go by file names.*--dataset"):
            replaced(one, other)


def test_the_dataset_is_that_of_both_files(run, tmp_path):
    for name in "abcd":
        (tmp_path / "set" / name).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(tmp_path / "set" / name / f"{name}.png")
    (tmp_path / "found.csv").write_text("filename,label\nb.png,0\na.png,0\nd.png,3\nc.png,2\n")
    (tmp_path / "right.csv").write_text("index,label\n1,1\n")  # of b.png
    words = ("noise", "convert", tmp_path / "right.csv", tmp_path / "new.npz")
    words += ("--onto", tmp_path / "found.csv")
    code, _, said = run(*words)
    assert code == 2
    assert "go by file names: give their dataset" in said
    assert not (tmp_path / "new.npz").exists()
    code, _, said = run(*words, "--dataset", "folder", "--data_path", tmp_path / "set")
    assert code == 0, said
    found = noise_file.read(tmp_path / "new.npz")
    labels = dict(zip(found.rows.tolist(), found.noisy_labels.tolist()))
    assert labels == {0: 0, 1: 1, 2: 2, 3: 3}


def test_the_command_corrects_a_noise_file(run, tmp_path):
    noise_file.write(tmp_path / "noise.npz", noise_file.make([0, 1, 1], num_classes=2))
    data = {"index": 1, "class_names": '["cat", "dog"]'}
    (tmp_path / "reviewed.json").write_text(json.dumps([{**data, "label": "cat", "id": 1}]))
    words = ("noise", "convert", tmp_path / "reviewed.json", tmp_path / "better.npz")
    code, _, said = run(*words, "--onto", tmp_path / "noise.npz")
    assert code == 0, said
    found = noise_file.read(tmp_path / "better.npz")
    assert found.noisy_labels.tolist() == [0, 0, 1]
    assert found.indices is None


def test_the_ticked_samples_of_the_report_are_read(run, tmp_path):
    """Its file column is empty for samples that are no files."""
    (tmp_path / "ticked.csv").write_text(
        "index,file,given_label,given_name,predicted_label,predicted_name,new_label,new_name\n"
        "5,,1,b,0,a,0,a\n"
    )
    out = tmp_path / "new.npz"
    code, _, said = run("noise", "convert", f"{tmp_path}/ticked.csv:new_label", out)
    assert code == 0, said
    found = noise_file.read(out)
    assert (found.indices.tolist(), found.noisy_labels.tolist()) == ([5], [0])


@pytest.fixture
def corrected(run, tmp_path):
    """Runs the command with --onto three labels: exit code, stdout, stderr."""
    noise_file.write(tmp_path / "noise.npz", noise_file.make([0, 1, 1], num_classes=2))

    def call(table, column=":new_label"):
        (tmp_path / "ticked.csv").write_text(table)
        words = ("noise", "convert", f"{tmp_path}/ticked.csv{column}", tmp_path / "new.npz")
        return run(*words, "--onto", tmp_path / "noise.npz")

    return call


def test_a_table_with_old_and_new_labels_asks_which_are_meant(corrected, tmp_path):
    code, _, said = corrected("index,file,given_label,new_label\n2,,1,0\n", column="")
    assert code == 2
    assert "choose ticked.csv:COLUMN among given_label, new_label" in said
    assert not (tmp_path / "new.npz").exists()


def test_files_go_by_the_index_that_the_report_writes_beside_them(corrected, tmp_path):
    code, _, said = corrected("index,file,given_label,new_label\n0,a.png,0,1\n")
    assert code == 0, said
    assert noise_file.read(tmp_path / "new.npz").noisy_labels.tolist() == [1, 1, 1]


def test_the_numbers_that_pandas_writes_beside_files_are_no_rows(corrected, tmp_path):
    code, _, said = corrected(",file,new_label\n2,a.png,0\n")
    assert code == 2
    assert "go by file names: give their dataset" in said


HEAD = "index,file,given_label,given_name,predicted_label,predicted_name,new_label,new_name\n"


def test_ticked_samples_without_a_right_label_are_left_out_with_a_note(corrected, tmp_path):
    rows = "0,,0,a,1,b,,\n1,,1,b,0,a,0,a\n2,,1,b,0,a,,\n"
    code, _, said = corrected(HEAD + rows)
    assert code == 0, said
    assert "note: 2 of 3 ticked samples have no right label and are left out" in said
    assert noise_file.read(tmp_path / "new.npz").noisy_labels.tolist() == [0, 0, 1]


def test_a_table_with_tabs_may_end_in_empty_cells(corrected, tmp_path):
    rows = "1,,1,b,0,a,0,a\n2,,1,b,0,a,,\n"
    code, _, said = corrected((HEAD + rows).replace(",", "\t"))
    assert code == 0, said
    assert noise_file.read(tmp_path / "new.npz").noisy_labels.tolist() == [0, 0, 1]


def test_of_files_without_a_right_label_the_names_are_left_out_too(tmp_path):
    rows = "0,a.png,0,a,1,b,,\n2,c.png,1,b,0,a,0,a\n"
    (tmp_path / "ticked.csv").write_text(HEAD + rows)
    found = external.read_any(tmp_path / "ticked.csv", "new_label")
    assert (found.names, found.indices.tolist()) == (("c.png",), [2])
    assert (found.noisy_labels.tolist(), found.header.kind) == ([0], "corrected")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("2,,1,b,0,a,,sevn", "line 3 has the right label 'sevn', which is none of the classes"),
        ("2,,1,b,0,a,x,x", "line 3 has 'x' where a label from 0 on belongs"),
        ("2,,1,b,0,a,-1,a", "line 3 has '-1' where a label from 0 on belongs"),
        (
            "2,,1,b,0,a,1,b\n0,,0,a,1,b,,\n2,,1,b,0,a,0,a",
            "lines 3 and 5 give sample 2 the right labels b and a",
        ),
        ("2,,1,b,0,a,1,b\n2,,1,b,0,a,,c", "lines 3 and 4 give sample 2 the right labels b and c"),
    ],
)
def test_a_wrong_right_label_is_refused_with_its_line(corrected, tmp_path, row, message):
    code, _, said = corrected(f"{HEAD}0,,0,a,1,b,,\n{row}\n")
    assert code == 2
    assert message in said
    assert not (tmp_path / "new.npz").exists()


def test_one_right_label_that_is_there_twice_counts_once(corrected, tmp_path):
    rows = "1,,1,b,0,a,0,a\n2,,1,b,0,a,,\n1,,1,b,0,a,0,a\n"
    code, _, said = corrected(HEAD + rows)
    assert code == 0, said
    assert "note: 1 of 3 ticked samples" in said
    assert noise_file.read(tmp_path / "new.npz").noisy_labels.tolist() == [0, 0, 1]


def test_ticks_alone_correct_nothing(corrected, tmp_path):
    code, _, said = corrected(f"{HEAD}0,,0,a,1,b,,\n")
    assert code == 2
    assert "no sample has a right label (new_label)" in said


def test_corrections_need_not_look_like_the_labels_they_correct(tmp_path):
    """All of them were wrong, so that they agree with none, as labels of another set would."""
    data = datasets.load("digits")
    wrong = (data.train_labels[:200] + 1) % 10
    indices = np.arange(200)
    fixed = noise_file.make(wrong, indices=indices, kind=CORRECTED_KIND)
    assert aligned(fixed, data).noisy_labels.tolist() == wrong.tolist()
    one_class = noise_file.make([3] * 20, indices=np.arange(20), kind=CORRECTED_KIND)
    assert aligned(one_class, data).noisy_labels.tolist() == [3] * 20
    with pytest.raises(NoiseFileError, match="probably labels of another dataset"):
        aligned(noise_file.make([3] * 20, indices=np.arange(20)), data)

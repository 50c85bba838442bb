"""The table of label qualities: its columns, its order, names that need quoting."""

import csv

import numpy as np

from shared import datasets
from shared.formats import label_quality
from shared.formats.alignment import aligned, best_known, subset, unchanged
from shared.formats.label_quality import COLUMNS, PredProbs, Verdict, save, write
from shared.formats.noise_file import make, read

NAMES = ("a, cat", 'a "dog"', "ねこ")
VERDICT = Verdict(
    predicted=np.array([2, 1, 0]),
    quality=np.array([0.25, 1.0, 1e-9]),
    self_confidence=np.array([0.1, 0.9, 0.5]),
    is_issue=np.array([True, False, True]),
)


def table(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_rows_come_in_the_order_of_the_dataset_with_all_that_is_known(tmp_path):
    noise = make([0, 1, 1], clean_labels=[2, 1, 1], indices=[7, 3, 5], num_classes=3)
    write(tmp_path / "q.csv", noise, NAMES, VERDICT, files=["x/7.png", "x/3.png", "y,5.png"])
    first, second, third = table(tmp_path / "q.csv")
    assert tuple(first) == (*COLUMNS, "clean_label")
    assert [row["index"] for row in (first, second, third)] == ["3", "5", "7"]
    assert [row["file"] for row in (first, second, third)] == ["x/3.png", "y,5.png", "x/7.png"]
    assert first == {
        **{"index": "3", "file": "x/3.png", "given_label": "1", "given_name": 'a "dog"'},
        **{"predicted_label": "1", "predicted_name": 'a "dog"', "label_quality": "1.000000"},
        **{"self_confidence": "0.900000", "is_label_issue": "False", "clean_label": "1"},
    }
    assert (third["given_name"], third["predicted_name"]) == ("a, cat", "ねこ")
    assert (second["label_quality"], second["is_label_issue"]) == ("0.000000", "True")


def test_without_files_and_truth_the_cells_and_the_column_are_empty(tmp_path):
    write(tmp_path / "q.csv", make([0, 1, 1], num_classes=3), NAMES, VERDICT)
    rows = table(tmp_path / "q.csv")
    assert [row["index"] for row in rows] == ["0", "1", "2"]
    assert {row["file"] for row in rows} == {""}
    assert "clean_label" not in rows[0]


def test_corrected_labels_are_a_noise_file_of_the_same_samples(tmp_path):
    noise = make([0, 1, 1], clean_labels=[2, 1, 1], indices=[7, 3, 5], num_classes=3)
    save(tmp_path, noise, NAMES, VERDICT)
    corrected = read(tmp_path / "corrected_labels.npz")
    assert corrected.noisy_labels.tolist() == [2, 1, 0]  # an issue takes the predicted label
    assert corrected.indices.tolist() == [7, 3, 5]
    assert (corrected.header.kind, corrected.header.measured_rate) == ("corrected", 1 / 3)
    assert not (tmp_path / "pred_probs.npz").exists()


def test_probabilities_come_in_the_order_of_the_table(tmp_path):
    noise = make([0, 1, 1], indices=[7, 3, 5], num_classes=3)
    probs = PredProbs(np.eye(3), test=np.full((2, 3), 1 / 3))
    save(tmp_path, noise, NAMES, VERDICT, probs=probs)
    with np.load(tmp_path / "pred_probs.npz") as found:
        assert found["index"].tolist() == [3, 5, 7]
        assert found["given_labels"].tolist() == [1, 1, 0]
        assert found["pred_probs"].tolist() == [[0, 1, 0], [0, 0, 1], [1, 0, 0]]
        assert found["test_pred_probs"].shape == (2, 3)
        assert not found["out_of_sample"]
        assert tuple(found["class_names"]) == NAMES


def test_corrected_labels_of_own_pictures_leave_the_truth_unknown(tmp_path):
    arrays = {"train_images": np.zeros((3, 32, 32, 3), np.uint8), "train_labels": [0, 1, 1]}
    np.savez(tmp_path / "own.npz", **arrays)
    data = datasets.load("folder", tmp_path / "own.npz")
    says = Verdict(np.array([0, 1, 0]), *[np.zeros(3)] * 2, is_issue=np.array([False, False, True]))
    corrected = label_quality.corrected(unchanged(data), says)
    as_they_are, better = (aligned(noise, data) for noise in (unchanged(data), corrected))
    assert better.noisy_labels.tolist() == [0, 1, 0]
    assert (better.clean_labels, better.header.measured_rate) == (None, None)
    assert as_they_are.header.measured_rate == 0
    assert best_known(subset(better, np.array([2])), data).tolist() == [0, 1, 0]
    assert best_known(as_they_are, data).tolist() == [0, 1, 1]
    known = make(corrected.noisy_labels, clean_labels=data.train_labels, kind="corrected")
    assert aligned(known, data).header.measured_rate == 1 / 3  # noise that was made on the folder

"""Tasks for Label Studio, reviewed by a stand-in, come back as a noise file."""

import json
import xml.etree.ElementTree as xml

import numpy as np
import pytest
import report_runs as made

from compare.report.__main__ import main as report
from shared.__main__ import main as shared
from shared.formats import noise_file


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Tasks of three methods."""
    folder = tmp_path_factory.mktemp("tasks")
    labels = made.noise(200)
    runs = made.three_methods(folder / "runs", labels)
    words = (runs, "--out", folder / "tasks.json", "--format", "label-studio", "--first", 30)
    assert report([*map(str, words)]) == 0
    return folder


def reviewed(tasks):
    """What Label Studio exports after somebody chose the true class of each."""
    for number, task in enumerate(tasks, start=1):
        truth = made.DIGITS[task["data"]["index"] % 10]
        result = {**task["predictions"][0]["result"][0], "value": {"choices": [truth]}}
        yield {**task, "id": number, "annotations": [{"id": number, "result": [result]}]}


def test_a_task_has_its_picture_and_a_prediction_of_each_method(written):
    tasks = json.loads((written / "tasks.json").read_text())
    assert 30 <= len(tasks) <= 120
    for task in tasks:
        assert task["data"]["image"].startswith("data:image/webp;base64,")
        methods = [prediction["model_version"] for prediction in task["predictions"]]
        assert methods == ["Cross-entropy", "InstanceGM", "SLN+MO+LC"]
        assert all(0 <= prediction["score"] <= 1 for prediction in task["predictions"])
    scores = [task["predictions"][1]["score"] for task in tasks]
    assert min(scores) < 0.2


def test_the_interface_has_the_names_that_the_tasks_use(written):
    view = xml.parse(written / "tasks.xml").getroot()
    control, picture = view.find("Choices"), view.find("Image")
    assert [choice.get("value") for choice in control] == list(made.DIGITS)
    [result] = json.loads((written / "tasks.json").read_text())[0]["predictions"][0]["result"]
    assert (result["from_name"], result["to_name"]) == (control.get("name"), picture.get("name"))
    assert picture.get("value") == "$image"


def test_the_review_comes_back_as_a_noise_file(called, written, tmp_path):
    tasks = json.loads((written / "tasks.json").read_text())
    export, out = tmp_path / "export.json", tmp_path / "better.npz"
    export.write_text(json.dumps(list(reviewed(tasks))))
    base = next((written / "runs").glob("*/noise.npz"))
    done = called(shared, "noise", "convert", export, out, "--onto", base)
    assert done.returncode == 0, done.stderr
    before, after = noise_file.read(base), noise_file.read(out)
    rows = [task["data"]["index"] for task in tasks]
    expected = before.noisy_labels.copy()
    expected[rows] = np.array(rows) % 10
    np.testing.assert_array_equal(after.noisy_labels, expected)
    assert after.header.measured_rate < before.header.measured_rate
    assert after.header.dataset == "digits"
    again = called(shared, "noise", "info", out, "--dataset", "digits")
    assert again.returncode != 0  # made-up labels are not those of the real digits


@pytest.mark.parametrize("case", ["no pictures", "no verdict", "names", "$"])
def test_what_cannot_be_reviewed_is_refused(called, tmp_path, case):
    labels = made.noise(20, dataset="cifar10" if case == "no pictures" else "digits")
    says = None if case == "no verdict" else made.verdict(labels)
    names = {"names": ["same"] * 10, "$": ["a $file", *made.DIGITS[1:]]}.get(case, made.DIGITS)
    runs = made.write(tmp_path / "run", labels, says=says, names=names)
    words = ("--out", tmp_path / "tasks.json", "--format", "label-studio", "--data_path", tmp_path)
    done = called(report, runs, *words)
    assert done.returncode == 2
    expected = {
        "no pictures": "needs the pictures",
        "no verdict": "no run has a verdict",
        "$": "the class 'a $file' cannot be chosen",
    }
    assert expected.get(case, "two classes have one name") in done.stderr
    assert not (tmp_path / "tasks.json").exists()

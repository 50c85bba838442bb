"""Label Studio's exports of reviewed labels, as its manual shows them, and what is refused."""

import csv
import io
import json

import pytest

from shared.formats import external
from shared.formats.noise_file import CORRECTED_KIND, NoiseFileError

NAMES = ["cat", "dog", "りんご", 'a "b", c']
LISTED = json.dumps(NAMES, ensure_ascii=False)


def data(index, **more):
    return {
        "image": "data:image/webp;base64,AAAA",
        "index": index,
        "file": f"cat/{index}.png",
        "given_label": 0,
        "given_name": "cat",
        "class_names": LISTED,
        **more,
    }


def annotation(*choices, **more):
    result = {
        "id": "abc",
        "from_name": "label",
        "to_name": "image",
        "type": "choices",
        "value": {"choices": list(choices)},
    }
    return {"id": 1, "was_cancelled": False, "ground_truth": False, "result": [result]} | more


def task(index, *annotations, **more):
    return {
        "id": 100 + index,
        "data": data(index, **more),
        "annotations": list(annotations),
        "predictions": [{"model_version": "SLN", "score": 0.1, "result": []}],
    }


def flat(index, label, **more):
    """A task of JSON-MIN or CSV."""
    rest = {"id": 9, "annotator": 1, "annotation_id": 3, "lead_time": 2.5}
    return data(index, **more) | {"label": label} | rest


def written(tmp_path, value):
    path = tmp_path / "export.json"
    path.write_text(json.dumps(value))
    return path


def as_csv(tmp_path, rows, delimiter=","):
    text = io.StringIO(newline="")
    table = csv.DictWriter(text, rows[0], delimiter=delimiter)
    table.writeheader()
    table.writerows(rows)
    path = tmp_path / "export.csv"
    path.write_text(text.getvalue(), encoding="utf-8")
    return path


def labels_by_row(path):
    noise = external.read_any(path)
    return dict(zip(noise.indices.tolist(), noise.noisy_labels.tolist()))


REVIEWED = {7: "dog", 2: "りんご", 40: 'a "b", c'}
EXPECTED = {2: 2, 7: 1, 40: 3}


def test_json(tmp_path):
    tasks = [task(index, annotation(name)) for index, name in REVIEWED.items()]
    assert labels_by_row(written(tmp_path, tasks)) == EXPECTED


def test_json_min(tmp_path):
    rows = [flat(index, name) for index, name in REVIEWED.items()]
    assert labels_by_row(written(tmp_path, rows)) == EXPECTED
    rows[0]["label"] = {"choices": ["dog"]}
    assert labels_by_row(written(tmp_path, rows)) == EXPECTED


@pytest.mark.parametrize("delimiter", [",", "\t"])
def test_csv_and_tsv(tmp_path, delimiter):
    rows = [flat(index, name) for index, name in REVIEWED.items()]
    rows.append(flat(50, ""))  # nobody has looked at it
    assert labels_by_row(as_csv(tmp_path, rows, delimiter)) == EXPECTED


def test_a_picture_in_a_cell_may_be_large(tmp_path):
    picture = "data:image/webp;base64," + "A" * 200_000
    usual = csv.field_size_limit()
    assert labels_by_row(as_csv(tmp_path, [flat(7, "dog", image=picture)])) == {7: 1}
    assert csv.field_size_limit() == usual


def test_reviewed_labels_are_known_to_be_corrected(tmp_path):
    assert external.read_any(written(tmp_path, [flat(7, "dog")])).header.kind == CORRECTED_KIND


def test_what_nobody_answered_is_left_out(tmp_path):
    tasks = [
        task(1, annotation("dog")),
        task(2),
        task(3, annotation("dog", was_cancelled=True)),
        task(4, annotation("dog", result=[])),
    ]
    assert labels_by_row(written(tmp_path, tasks)) == {1: 1}


def test_other_controls_of_the_interface_are_not_the_label(tmp_path):
    both = annotation("dog")
    other = {"from_name": "comment", "type": "textarea", "value": {"text": ["blurred"]}}
    both["result"].insert(0, other)
    assert labels_by_row(written(tmp_path, [task(1, both)])) == {1: 1}


def test_annotators_have_to_agree_unless_one_knows(tmp_path):
    agreed = task(1, annotation("dog"), annotation("dog"))
    assert labels_by_row(written(tmp_path, [agreed])) == {1: 1}
    known = task(1, annotation("dog"), annotation("cat", ground_truth=True))
    assert labels_by_row(written(tmp_path, [known])) == {1: 0}
    with pytest.raises(NoiseFileError, match="annotators of task 101 say cat and dog: agree"):
        external.read_any(written(tmp_path, [task(1, annotation("dog"), annotation("cat"))]))


@pytest.mark.parametrize(
    ("tasks", "expected"),
    [
        ([task(1)], "no task of this export is annotated"),
        ([task(1, annotation("cow"))], "label 'cow', which is none of the classes cat, dog"),
        ([task(1, annotation("cat", "dog"))], "every picture takes one class"),
        ([flat("x", "cat")], "no row of a dataset"),
        ([flat(-1, "cat")], "no row of a dataset"),
        ([flat(2**70, "cat")], "no row of a dataset"),
        ([flat(1, "cat", class_names="cat, dog")], "no list of different names"),
        ([flat(1, "cat", class_names='["cat", "cat"]')], "no list of different names"),
        ([flat(1, "cat", class_names=5)], "no list of different names"),
        ([task(1, annotation("cat")), 5], "a int is among the tasks"),
        ([{"data": data(1), "id": 3}], "task 3 has no annotations or no data: export"),
        ([task(1), task(2, annotation("cat")) | {"id": 3, "data": None}], "task 3 has no ann"),
        ([task(1) | {"annotations": [{"result": 5}]}], "no task of this export is annotated"),
        ([flat(1, "[" * 5_000)], "is none of the classes"),
    ],
)
def test_what_is_no_review_is_refused_with_the_reason(tmp_path, tasks, expected):
    path = written(tmp_path, tasks)
    with pytest.raises(NoiseFileError, match=expected) as error:
        external.read_any(path)
    assert str(path) in str(error.value)


def test_a_list_of_objects_of_another_program_is_no_export(tmp_path):
    with pytest.raises(NoiseFileError, match="not a label"):
        external.read_any(written(tmp_path, [{"index": 1, "label": "cat"}]))

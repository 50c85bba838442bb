"""COCO-format annotations and manifests, read and written: only the categories change."""

import copy
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.coco import file as coco_file
from shared.coco import manifest as coco_manifest
from shared.coco.classes import CocoError
from shared.coco.manifest import Manifest, read_manifest
from shared.errors import UserError
from shared.files import must_write


def tiny(count=4):
    """A file with odd but allowed contents."""
    return {
        "licenses": [{"name": "für alle", "lone": "\ud800"}],
        "images": [{"id": 1, "file_name": "a.png", "height": 10, "width": 20, "score": 1.0}],
        "annotations": [
            {
                "bbox": [0.1, 2, 3.0, 1e-07],
                "iscrowd": nth % 2,
                "category_id": 5 + 2 * (nth % 2),
                "id": 100 - nth,
                "mine": None,
            }
            for nth in range(count)
        ],
        "info": {"year": 2020},
        "categories": [{"id": 5, "name": "date"}, {"supercategory": "fruit", "id": 7}],
    }


@pytest.fixture
def write(tmp_path):
    def call(content, name="a.json"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
        return path

    return call


def test_reading(write):
    read = coco_file.read(write(tiny()))
    assert read.category_ids.tolist() == [5, 7, 5, 7]
    assert read.annotation_ids.tolist() == [100, 99, 98, 97]
    assert read.categories == {5: "date", 7: None}
    assert [read.name_of(category) for category in read.categories] == ["date", "category 7"]
    with_mark = coco_file.read(write(b"\xef\xbb\xbf" + json.dumps(tiny()).encode()))
    assert with_mark.content == read.content
    assert with_mark.sha256 != read.sha256


def test_only_categories_change(write):
    path = write(tiny())
    read = coco_file.read(path)
    assert coco_file.encode(read, read.category_ids) == path.read_bytes()
    expected = tiny()
    expected["annotations"][1]["category_id"] = 5
    assert coco_file.encode(read, np.array([5, 5, 5, 7])) == json.dumps(expected).encode(), (
        "key order included"
    )
    assert read.content == tiny(), "what was read stays"
    with pytest.raises(CocoError, match="1 category ids for 4 annotations"):
        coco_file.encode(read, np.array([5]))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(
    more=st.dictionaries(st.text(), JSON, max_size=3),
    field=JSON,
    ids=st.lists(st.sampled_from([5, 7]), min_size=4, max_size=4),
)
@settings(max_examples=60)
def test_whatever_else_is_in_a_file_stays(more, field, ids):
    content = {**more, **tiny()}
    content["annotations"][0]["more"] = field
    data = json.dumps(content).encode()
    read = coco_file.checked(coco_file.parse_json(data), data)
    expected = copy.deepcopy(content)
    for entry, category in zip(expected["annotations"], ids):
        entry["category_id"] = category
    assert coco_file.encode(read, np.array(ids)) == json.dumps(expected).encode()


def broken(**changes):
    return {**tiny(), **changes}


def without(key):
    return {name: value for name, value in tiny().items() if name != key}


def annotation(**changes):
    return broken(annotations=[{**tiny()["annotations"][0], **changes}])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "no JSON"),
        (b"\xff\xfe", "no JSON"),
        (b"\x89PNG\r\n", "no JSON"),
        (b"[" * 100_000, "no JSON"),
        (b'{"images": [', "no JSON"),
        ([1, 2], "a JSON list, not COCO annotations.*images, annotations and categories"),
        ({}, "'images' is missing"),
        (without("annotations"), "'annotations' is missing"),
        (without("categories"), "'categories' is missing"),
        (broken(images={}), "'images' is a dict, not a list"),
        (broken(annotations=[]), "no annotations: give the file of labelled images"),
        (broken(annotations=[3]), r"annotations\[0\] is a int, not an object"),
        (broken(categories=["fig"]), r"categories\[0\] is a str"),
        (broken(categories=[{"name": "fig"}]), r"categories\[0\] has no 'id'"),
        (broken(categories=[{"id": True}]), r"categories\[0\] has id True"),
        (broken(categories=[{"id": 5, "name": 3}]), r"categories\[0\] has the name 3"),
        (broken(categories=[{"id": 5}, {"id": 5}]), r"categories\[1\] repeats id 5"),
        (
            annotation(category_id=6),
            r"annotations\[0\] \(id 100\) has category_id 6, which 'categories' lacks",
        ),
        (annotation(category_id=5.0), r"annotations\[0\] has category_id 5.0: give an integer"),
        (annotation(category_id=-1), "category_id -1"),
        (annotation(category_id=10**30), "category_id 1000"),
        (annotation(id="a"), "has id 'a'"),
        (broken(annotations=[{"id": 1}]), "has no 'category_id'"),
        (broken(annotations=tiny()["annotations"] * 2), "annotation id 97 occurs more than once"),
    ],
)
def test_bad_files_are_refused_by_name(write, content, words):
    path = write(content)
    with pytest.raises(CocoError, match=words) as caught:
        coco_file.read(path)
    assert str(path) in str(caught.value)


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(CocoError, match="do not exist"):
        coco_file.read(tmp_path / "none.json")
    with pytest.raises(CocoError, match="cannot read"):
        coco_file.read(tmp_path)


def test_telling_annotations_from_labels(write, tmp_path):
    assert coco_file.is_coco(write(tiny()))
    assert coco_file.is_coco(write(b'\xef\xbb\xbf \n{"images": []}'))
    assert coco_file.is_coco(write(b'{"annotations": [{"id": 1'))  # cut off
    assert not coco_file.is_coco(write({"noisy_labels": [1, 2]}))
    assert not coco_file.is_coco(write({"noisy_labels": [1, 2], "categories": ["cat"]}))
    assert not coco_file.is_coco(write({"noisy_labels": [1, 2], "source": "images"}))
    assert not coco_file.is_coco(write([1]))
    assert not coco_file.is_coco(write(b""))
    assert not coco_file.is_coco(tmp_path / "none.json")
    assert not coco_file.is_coco(tmp_path)


def test_the_input_is_recognised_under_every_name(write, tmp_path, monkeypatch):
    path = write(tiny())
    (tmp_path / "folder").mkdir()
    (tmp_path / "link.json").symlink_to(path)
    (tmp_path / "hard.json").hardlink_to(path)
    monkeypatch.chdir(tmp_path / "folder")
    for name in (
        path,
        "../a.json",
        tmp_path / "link.json",
        tmp_path / "hard.json",
        tmp_path / "folder" / ".." / "a.json",
    ):
        with pytest.raises(CocoError, match="is the input file"):
            coco_file.check_not_input(type(path)(name), path, "--out")
    coco_file.check_not_input(tmp_path / "b.json", path, "--out")
    coco_file.check_not_input(write(tiny(), "same_content.json"), path, "--out")


def test_what_has_to_be_written(tmp_path):
    path = tmp_path / "a.json"
    assert must_write(path, b"12", force=False)
    path.write_bytes(b"12")
    assert not must_write(path, b"12", force=False)
    assert must_write(path, b"13", force=True)
    for other in (b"13", b"123"):
        with pytest.raises(UserError, match=r"exists with other content.*--force"):
            must_write(path, other, force=False)
    with pytest.raises(UserError, match="is not a file"):
        must_write(tmp_path, b"", force=True)


# ---- manifest


MANIFEST = Manifest(
    dataset="coco_format",
    kind="symmetric",
    mode="exact",
    seed=3,
    requested_rate=0.5,
    annotations=4,
    selected=1,
    flippable=4,
    changed=1,
    realised_rate=0.25,
    realised_rate_flippable=0.25,
    category_ids=[5, 7],
    category_names=["date", "Nuß"],
    transitions=[[2, 0], [1, 1]],
    input_sha256="a" * 64,
    output_sha256="b" * 64,
    changed_annotation_ids=[99],
    clean_category_ids=[7],
)


def test_a_manifest_comes_back_as_it_was(write):
    path = write(coco_manifest.encode(MANIFEST))
    assert read_manifest(path) == MANIFEST
    assert coco_manifest.encode(read_manifest(path)) == path.read_bytes()
    assert json.loads(path.read_bytes())["format"] == "coco-noise-manifest"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"format": "other"}, "not a manifest"),
        ({"version": 2}, "version 2 is not 1: update"),
        ({"more": 1}, r"wrong fields \['more'\]"),
        ({"seed": "3"}, "field seed"),
        ({"changed": True}, "field changed"),
        ({"category_ids": 5}, "field category_ids"),
        ({"changed": 2}, "changed_annotation_ids has 1 entries, expected 2"),
        ({"category_names": ["date"]}, "category_names has 1 entries, expected 2"),
        ({"transitions": [[2, 0], [1]]}, "transitions are not 2 x 2"),
        ({"transitions": [[2, 0], [1, 0.5]]}, "not all integers"),
        ({"transitions": [[2, 0], [1, 10**30]]}, "not all integers from 0 on"),
        ({"category_names": ["date", 0.5]}, "not all text"),
        ({"requested_rate": 10**400}, r"not in \[0, 1\]"),
        ({"annotations": 5}, "count 4 of 5"),
    ],
)
def test_damaged_manifests_are_refused(write, changes, words):
    path = write(json.loads(coco_manifest.encode(MANIFEST)) | changes)
    with pytest.raises(CocoError, match=words) as caught:
        read_manifest(path)
    assert str(path) in str(caught.value)


def test_manifests_that_are_none(write, tmp_path):
    for content in (b"", b"[1]", b"{", tiny()):
        with pytest.raises(CocoError, match=r"manifest"):
            read_manifest(write(content))
    with pytest.raises(CocoError, match="cannot read"):
        read_manifest(tmp_path / "none.json")


def test_transition_counts_take_any_ids():
    counts = coco_manifest.transition_counts(
        np.array([9, 9, 2, 4]), np.array([2, 9, 2, 9]), [9, 2, 4]
    )
    assert counts.tolist() == [[1, 1, 0], [0, 1, 0], [1, 0, 0]]

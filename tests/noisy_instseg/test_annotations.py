"""Annotations as evaluation reads them: run lengths against pycocotools, classes by name."""

import copy

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from noisy_instseg.run.annotations import by_name, decode_runs, repaired, wrong_runs
from shared.errors import UserError


@pytest.mark.parametrize("seed", range(30))
def test_run_lengths_are_decoded_as_pycocotools_does(seed):
    rng = np.random.default_rng(seed)
    height, width = rng.integers(1, 90, 2)
    mask = rng.random((height, width)) < rng.choice([0, 0.01, 0.5, 1])
    if seed % 3 == 0:  # long runs
        mask = np.repeat(np.repeat(mask, 9, axis=0), 7, axis=1)
    text = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))["counts"].decode()
    flat = np.concatenate([[False], mask.ravel(order="F")])
    edges = np.flatnonzero(np.diff(flat, append=not flat[-1]))
    runs = np.diff(np.concatenate([[0], edges]))
    expected = runs.tolist()
    assert decode_runs(text).tolist() == expected
    assert wrong_runs({"counts": text}, *mask.shape) == ""
    assert wrong_runs({"counts": expected}, *mask.shape) == ""
    assert "the image has" in wrong_runs({"counts": text}, mask.shape[0] + 1, mask.shape[1])


@pytest.mark.parametrize(
    "counts", ["P", "hello world", "\x00", "é", "0" + "P" * 20 + "0", [-1, 17]]
)
def test_garbage_is_no_run_length(counts):
    assert wrong_runs({"counts": counts}, 4, 4)


@pytest.mark.parametrize("counts", [None, "", [], 7, {"a": 1}])
def test_a_mask_needs_run_lengths(counts):
    assert wrong_runs({"counts": counts}, 4, 4) == "run lengths without counts"


def test_an_annotation_0_and_a_missing_iscrowd_are_repaired_in_memory():
    content = {"annotations": [{"id": 0, "iscrowd": 1}, {"id": 7}], "images": []}
    before = copy.deepcopy(content)
    found, notes = repaired(content)
    assert found["annotations"] == [{"id": 8, "iscrowd": 1}, {"id": 7, "iscrowd": 0}]
    assert len(notes) == 2
    assert content == before
    assert repaired(found) == (found, [])


def test_categories_are_found_by_name_in_the_order_of_the_names():
    categories = [{"id": 5, "name": "a"}, {"id": 2, "name": "b"}, {"id": 3}, {"id": 9, "name": "c"}]
    assert by_name(categories, ["c", "a", "b"]) == [9, 5, 2]
    with pytest.raises(UserError, match="no category d"):
        by_name(categories, ["a", "d"])

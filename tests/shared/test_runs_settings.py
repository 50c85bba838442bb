"""Which settings tell runs of one method apart, and which entries of a config do not."""

import json

import pytest
import yaml

from shared.runs.reader import find_runs
from shared.runs.settings import told_apart

SLN = {"dataset_name": "digits", "sigma": 0.5, "mo": True, "lc_n_epoch": 2, "n_epochs": 4}


def words(folder, *changes):
    """What is said of SLN runs with these changes of their settings."""
    for number, change in enumerate(changes):
        place = folder / str(number)
        place.mkdir()
        (place / "config.yaml").write_text(yaml.safe_dump(SLN | change))
        (place / "metrics.jsonl").write_text(json.dumps({"epoch": 1, "accuracy": 1.0}) + "\n")
    runs, unread = find_runs([folder])
    assert unread == []
    return told_apart(runs)


@pytest.mark.parametrize(
    "own",
    [
        {"seed": 2, "exp_id": "two", "output_dir": "runs/two"},
        {"noise_file": "b/noise.npz", "data_path": "elsewhere", "fp_weights": "/c/simclr-seed2"},
        {"device": "cuda:0", "device_used": "cuda:0", "bf16": True, "threads": 8},
        {"versions": {"torch": "2.13"}, "identity": {"seed": 2}, "measured_noise_rate": 0.3},
        {"noisy_labels_sha256": "b", "another": "/place/of/its/own"},
    ],
)
def test_seeds_places_and_machines_do_not_tell_runs_apart(tmp_path, own):
    other = {name: {} if isinstance(value, dict) else "other" for name, value in own.items()}
    other |= {"another": "/other"} if "another" in own else {}
    assert words(tmp_path, own, other) == ["", ""]


def test_runs_are_named_by_the_settings_that_differ(tmp_path):
    changes = [{"n_epochs": 20, "seed": 1}, {"n_epochs": 55}, {"n_epochs": 20, "seed": 2}]
    assert words(tmp_path, *changes) == ["n_epochs 20", "n_epochs 55", "n_epochs 20"]


def test_of_many_settings_those_are_named_that_tell_all_apart(tmp_path):
    many = {"a": 1, "b": 1, "c": 1, "d": 1, "n_epochs": 9}
    found = words(tmp_path, {"a": 0, "b": 0, "c": 0, "d": 0}, many, many | {"d": 2})
    assert found == ["a 0, d 0 and 3 more", "a 1, d 1 and 3 more", "a 1, d 2 and 3 more"]


def test_nested_settings_have_their_whole_names(tmp_path):
    one, two = ({"model": {"head": {"loss": loss}, "depth": 50}} for loss in ("CE", "NL"))
    assert words(tmp_path, one, two) == ["model.head.loss CE", "model.head.loss NL"]


def test_a_setting_that_only_some_recorded_tells_nobody_apart(tmp_path):
    """Such as a flag that is new since the first of them."""
    assert words(tmp_path, {}, {"new": False}) == ["", ""]


def test_a_name_may_be_a_number(tmp_path):
    one, two = ({"model": {1: loss}} for loss in ("CE", "NL"))
    assert words(tmp_path, one, two) == ["model.1 CE", "model.1 NL"]


def test_without_runs_there_is_nothing_to_say():
    assert told_apart([]) == []

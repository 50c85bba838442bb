"""Run folders of every project, read: the reported accuracy, epochs, labels, and what is no run."""

import json
import math
import os

import numpy as np
import pytest
import yaml

from shared.formats import noise_file
from shared.runs.labels import same_labels
from shared.runs.reader import (
    Evaluation,
    RunError,
    Summary,
    find_runs,
    read_run,
    runs_to_compare,
)
from shared.runs.run import summarised

INSTANCEGM = {"method": "dividemix", "no_vae": True, "num_epochs": 2, "seed": 5}
SLN = {"dataset_name": "digits", "sigma": 1.0, "mo": True, "lc_n_epoch": -1, "n_epochs": 3}
LRA = {"method": "LRA-diffusion (SimCLR)", "nepoch": 3, "seed": None}
IEG = {"method": "fsr", "network_name": "wrn10-1", "max_iteration": 20, "use_ema": True}
ENCODER = {"nepoch": 1, "temperature": 0.1, "arch": "resnet18"}
DETECTOR = """\
model = dict(roi_head=dict(bbox_head=dict(loss_cls=dict(type='{loss}'))))
train_cfg = dict(max_epochs=4)
load_from = {before!r}
made_by = open('never', 'w')
"""


def write_run(folder, settings, rows, labels=None, indices=None):
    folder.mkdir(parents=True)
    if settings is not None:
        (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    if labels is not None:
        noise_file.write(folder / "noise.npz", noise_file.make(labels, indices=indices))
    return folder


def epochs(*accuracies, first=1, **more):
    return [
        {"epoch": epoch, "accuracy": accuracy, "seconds": 1.5, **more}
        for epoch, accuracy in enumerate(accuracies, start=first)
    ]


def write_detector(folder, aps, loss="CrossEntropyLoss", before=None, first=1):
    rows = [{"epoch": epoch, "segm_mAP": ap} for epoch, ap in enumerate(aps, start=first)]
    write_run(folder, None, rows)
    (folder / "config.py").write_text(DETECTOR.format(loss=loss, before=before))
    return folder


# ---- each project's own way


def test_instancegm_counts_its_epochs_from_zero(tmp_path):
    rows = epochs(10.0, 30.0, first=0)
    run = read_run(write_run(tmp_path / "a", INSTANCEGM, rows, [1, 0]))
    assert (run.project, run.method, run.title) == ("instancegm", "dividemix", "DivideMix")
    assert run.rows == rows
    assert run.evaluations == [(0, 10.0), (1, 30.0)]
    assert (run.epochs, run.epochs_planned, run.is_finished) == (2, 3, False)
    assert (run.averaged, run.which, run.seconds, run.seed) == (False, "", 3.0, 5)
    assert run.noise_sha256 == noise_file.label_hash([1, 0])
    assert run.noise_path == tmp_path / "a" / "noise.npz"
    assert run.label_quality_path is None


@pytest.mark.parametrize(
    ("change", "method", "title", "averaged"),
    [
        ({}, "sln_mo", "SLN+MO", True),
        ({"lc_n_epoch": 2}, "sln_mo_lc", "SLN+MO+LC", True),
        ({"mo": False}, "sln", "SLN", False),
        ({"mo": False, "sigma": 0}, "ce", "Cross-entropy", False),
    ],
)
def test_sln_is_named_by_its_parts(tmp_path, change, method, title, averaged):
    run = read_run(write_run(tmp_path / "a", {**SLN, **change}, epochs(1.0, 2.0, 3.0)))
    assert (run.method, run.title, run.averaged, run.which) == (method, title, averaged, "last")
    assert run.is_finished


@pytest.mark.parametrize("weights", ["ema", "raw"])
def test_lra_reports_the_weights_that_validation_chose(tmp_path, weights):
    rows = epochs(None, None, 50.0, accuracy_test_ema=1.0)
    rows[-1]["weights"] = weights
    run = read_run(write_run(tmp_path / "a", LRA, rows))
    assert (run.method, run.title) == ("lra", "LRA-diffusion")
    assert run.evaluations == [Evaluation(3, 50.0)]
    assert (run.epochs, run.averaged, run.seed) == (3, weights == "ema", None)
    baseline = read_run(write_run(tmp_path / "b", {"method": "CE", "nepoch": 3}, rows))
    assert (baseline.project, baseline.method) == ("lra_diffusion", "ce")


@pytest.mark.parametrize("use_ema", [True, False])
def test_ieg_reports_averaged_weights_and_has_evaluations_that_are_no_epochs(tmp_path, use_ema):
    rows = [
        {"iteration": n, "epoch": n / 8, "accuracy": 10.0 + n, "accuracy_ema": 90.0 - n}
        for n in (1, 10, 20)
    ]
    run = read_run(write_run(tmp_path / "a", {**IEG, "use_ema": use_ema}, rows))
    assert (run.project, run.title, run.averaged) == ("ieg_fsr", "FSR", use_ema)
    assert [one.accuracy for one in run.evaluations] == ([89, 80, 70] if use_ema else [11, 20, 30])
    assert (run.epochs, run.epochs_planned, run.is_finished) == (2.5, pytest.approx(2.5), True)
    early = read_run(write_run(tmp_path / "b", IEG, rows[:2]))
    assert (early.epochs_planned, early.is_finished) == (pytest.approx(2.5), False)
    by_epochs = {**IEG, "max_iteration": 200_000, "max_epoch": 3}
    assert read_run(write_run(tmp_path / "c", by_epochs, rows)).epochs_planned == 3


def test_instance_segmentation_begins_with_its_first_stage(tmp_path):
    write_detector(tmp_path / "tiny_nl_1", [0.1, 0.2])
    second = write_detector(
        tmp_path / "tiny_nl_2", [0.4, 0.3], "NewCombinationLoss", "gone/epoch_2.pth", first=3
    )
    (second / "run.json").write_text('{"seed": 7}')
    run = read_run(second)
    assert (run.project, run.method) == ("noisy_instseg", "nl")
    assert (run.title, run.metric) == ("CE, then NewCombinationLoss", "mask AP")
    assert run.evaluations == [(1, 10.0), (2, 20.0), (3, 40.0), (4, 30.0)]
    assert (run.epochs, run.epochs_planned, run.is_finished, run.seed) == (4, 4, True, 7)
    assert run.config["train_cfg"] == {"max_epochs": 4}
    assert run.config["made_by"] is None
    assert not (tmp_path / "never").exists(), "the config was executed"
    assert read_run(tmp_path / "tiny_nl_1").method == "ce"
    (tmp_path / "tiny_nl_1").rename(tmp_path / "moved")
    assert [one.epoch for one in read_run(second).evaluations] == [3, 4]


def test_the_old_runs_that_are_kept_here_are_read(request):
    tests = request.config.rootpath / "tests"
    runs, unread = find_runs(sorted(tests.glob("*/data")))
    methods = {run.method for run in runs}
    assert {"dividemix", "sln_mo_lc", "supervised", "l2r", "ieg", "fsr"} <= methods
    assert any("a search for sigma" in one.reason for one in unread)


# ---- figures


def test_the_summary_against_its_definition():
    draws = np.random.default_rng(1)
    for count in (1, 3, 10, 25):
        values = draws.integers(0, 5, count).astype(float).tolist()  # ties: the first one counts
        best = max(values)
        expected = Summary(best, values.index(best) + 1, values[-1], np.mean(values[-10:]))
        found = summarised([Evaluation(k, value) for k, value in enumerate(values, start=1)])
        assert found == pytest.approx(expected)


@pytest.mark.parametrize("nothing", [None, math.nan, math.inf, "word", True, 10**400])
def test_what_is_no_number_is_no_evaluation(tmp_path, nothing):
    run = read_run(write_run(tmp_path / "a", SLN, epochs(nothing, 20.0, nothing)))
    assert run.evaluations == [(2, 20.0)]
    assert run.epochs == 3
    untested = read_run(write_run(tmp_path / "b", SLN, epochs(nothing, nothing)))
    assert untested.evaluations == []
    assert untested.summary() is None


def test_a_run_that_is_being_written_or_was_killed_has_its_whole_lines(tmp_path):
    folder = write_run(tmp_path / "a", SLN, epochs(10.0))
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 2, "accur')
    assert read_run(folder).epochs == 1


# ---- labels


def test_the_labels_have_one_hash_in_whatever_order_a_run_has_them(tmp_path):
    one = write_run(tmp_path / "a", SLN, epochs(1.0), [3, 1, 2])
    other = write_run(tmp_path / "b", LRA, epochs(1.0), [2, 3, 1], indices=[2, 0, 1])
    assert read_run(one).noise_sha256 == read_run(other).noise_sha256


def test_runs_that_keep_other_samples_to_validate_have_the_same_labels(tmp_path):
    whole = read_run(write_run(tmp_path / "a", SLN, epochs(1.0), [3, 1, 2, 0]))
    part = read_run(write_run(tmp_path / "b", LRA, epochs(1.0), [0, 1], indices=[3, 1]))
    other = read_run(write_run(tmp_path / "c", IEG | {"seed": 1}, ROW, [0, 9], indices=[3, 1]))
    unknown = read_run(write_run(tmp_path / "d", SLN, epochs(1.0)))
    assert whole.noise_sha256 != part.noise_sha256
    assert same_labels([whole, unknown, part])
    assert not same_labels([whole, part, other])


ROW = [{"iteration": 1, "epoch": 0.5, "accuracy": 1.0}]


# ---- what is no run

BROKEN = {
    "no config": ("config.yaml", None, "no config.yaml, so nobody knows"),
    "another program": ("config.yaml", "a: 1", "not those of a training script of this repository"),
    "another method": ("config.yaml", "{method: x, network_name: y}", "not those of a training"),
    "an encoder": ("config.yaml", yaml.safe_dump(ENCODER), "an encoder trained by train_SimCLR"),
    "a list": ("config.yaml", "- 1", "does not hold settings by name"),
    "numbers": ("config.yaml", "1: 2", "does not hold settings by name"),
    "no yaml": ("config.yaml", "a: [", "is no YAML"),
    "code": ("config.yaml", "!!python/object/apply:os.getcwd []", "is no YAML"),
    "deep": ("config.yaml", "[" * 5000, "is no YAML"),
    "a bad date": ("config.yaml", "a: 2001-99-99", "is no YAML"),
    "bytes": ("config.yaml", b"\xff\xfe\xff", "is no text in UTF-8"),
    "huge settings": ("config.yaml", " " * (2**20 + 1), "larger than 1 MiB"),
    "no log": ("metrics.jsonl", None, "no epoch is finished yet"),
    "an empty log": ("metrics.jsonl", "", "no epoch is finished yet"),
    "two runs": ("metrics.jsonl", '{"epoch": 1}\n{"epoch": 1}\n', "two runs wrote into one"),
    "no rows": ("metrics.jsonl", "nonsense\n", "holds a line that is no row"),
    "a deep row": ("metrics.jsonl", "[" * 200_000 + "\n", "recursion"),
    "epochs in words": ("metrics.jsonl", '{"epoch": "one"}\n', "'one' is not a number"),
    "a damaged noise file": ("noise.npz", b"PK nonsense", "noise.npz"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_is_no_run_is_refused_and_left_out_with_the_reason(tmp_path, case):
    name, content, message = BROKEN[case]
    folder = write_run(tmp_path / "runs" / "broken", SLN, epochs(1.0), [0, 1])
    if content is None:
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(RunError, match=message):
        read_run(folder)
    good = write_run(tmp_path / "runs" / "good", SLN, epochs(1.0))
    runs, unread = find_runs([tmp_path])
    assert [run.folder for run in runs] == [good]
    assert [one.folder for one in unread] == [folder]
    assert message in unread[0].reason
    assert not unread[0].reason.startswith(str(folder))


def test_a_huge_log_a_pipe_and_a_folder_are_no_log(tmp_path):
    logs = [tmp_path / name / "metrics.jsonl" for name in ("huge", "pipe", "folder", "loop")]
    for log in logs:
        write_run(log.parent, SLN, []).joinpath("metrics.jsonl").unlink()
    logs[0].touch()
    os.truncate(logs[0], 2**28)  # sparse
    os.mkfifo(logs[1])
    logs[2].mkdir()
    logs[3].symlink_to("metrics.jsonl")
    runs, unread = find_runs([tmp_path])
    assert runs == []
    reasons = {one.folder.name: one.reason for one in unread}
    assert reasons.keys() == {"huge", "pipe", "folder", "loop"}
    assert "larger than 128 MiB" in reasons["huge"]
    assert "is not a file" in reasons["pipe"]


def test_what_may_not_be_read_is_left_out_with_the_reason(tmp_path, monkeypatch):
    write_run(tmp_path / "a", SLN, epochs(1.0))
    write_run(tmp_path / "b", SLN, epochs(2.0))

    def forbidden(path, *_):
        if path.parent.name == "a":
            raise PermissionError(13, "Permission denied", str(path))
        return yaml.safe_dump(SLN).encode()

    monkeypatch.setattr("shared.runs.files.read_limited", forbidden)
    runs, unread = find_runs([tmp_path])
    assert [run.folder.name for run in runs] == ["b"]
    assert "not accessible to user" in unread[0].reason


# ---- finding


def test_runs_are_found_once_each_in_order_below_the_places(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("runs/b", "runs/a/deep/er", "other/c"):
        write_run(tmp_path / name, SLN, epochs(1.0))
    write_run(tmp_path / "runs/b/wandb/files", {"wandb": 1}, [])  # of a program that we use
    places = [tmp_path / "other", tmp_path / "runs", tmp_path, tmp_path / "runs" / "b"]
    runs, unread = find_runs(places)
    assert [run.folder.name for run in runs] == ["c", "er", "b"]
    assert unread == []


def test_nothing_is_dropped_without_a_word(tmp_path):
    write_run(tmp_path / ".hidden", SLN, epochs(1.0))
    write_run(tmp_path / "run", SLN, epochs(1.0))
    (tmp_path / "link").symlink_to(tmp_path / "run")
    (tmp_path / "up").symlink_to(tmp_path)
    write_run(tmp_path / "simclr", ENCODER, [{"epoch": 1}])
    write_run(tmp_path / "hp", {**SLN, "sigma": None}, []).joinpath("metrics.jsonl").unlink()
    (tmp_path / "hp" / "trial").mkdir()
    (tmp_path / "hp" / "trial" / "params.json").write_text("{}")
    (tmp_path / "empty").mkdir()
    runs, unread = find_runs([tmp_path, tmp_path / "empty", tmp_path / "none"])
    assert [run.folder.name for run in runs] == ["run"]
    assert {one.folder.name: one.reason.split(":")[0] for one in unread} == {
        ".hidden": "a hidden folder, which is not entered",
        "link": "a link, which is not followed",
        "up": "a link, which is not followed",
        "simclr": "config.yaml",
        "hp": "a search for sigma, not a run",
        "empty": "no run folder is in it or below it",
        "none": "no such folder",
    }
    for name in (".hidden", "link"):  # what is named is read
        assert len(find_runs([tmp_path / name])[0]) == 1


def test_runs_to_compare_are_those_with_an_accuracy(tmp_path):
    write_run(tmp_path / "tested", SLN, epochs(1.0))
    untested = write_run(tmp_path / "untested", SLN, epochs(None))
    runs, left_out = runs_to_compare([tmp_path])
    assert [run.folder.name for run in runs] == ["tested"]
    assert left_out[0].startswith(f"{untested} has no test accuracy")
    with pytest.raises(RunError, match="has no test accuracy"):
        runs_to_compare([untested])

"""The files of a run folder: written once each, readable after a kill, and what is said of them at
the end.
"""

import math
from pathlib import Path

import pytest
import yaml
from conftest import rows as metrics
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lra_diffusion.report import Report, read_config, read_rows, summary, write_config


def epoch(number, **figures):
    return {
        "epoch": number,
        "loss": 1 / number,
        "accuracy": None,
        "phase": "warm",
        "seconds": 0.5,
        **figures,
    }


def test_every_number_is_an_event_and_a_resumed_run_logs_nothing_twice(tmp_path):
    log = Report(tmp_path, [])
    for number in (1, 2, 3):
        log.log(epoch(number, accuracy=10.0 * number if number != 2 else None))
    log.close()
    again = Report(
        tmp_path, read_rows(tmp_path)[:2]
    )  # the checkpoint was one epoch behind the metrics
    again.log(epoch(3, accuracy=31.0))
    again.close()
    assert [row["epoch"] for row in metrics(tmp_path)] == [1, 2, 3]
    assert metrics(tmp_path)[1] == {"epoch": 2, "loss": 0.5, "accuracy": None, "phase": "warm"}
    events = EventAccumulator(str(tmp_path)).Reload()
    assert set(events.Tags()["scalars"]) == {"loss", "accuracy", "seconds"}
    assert [(event.step, event.value) for event in events.Scalars("accuracy")] == [
        (1, 10.0),
        (3, 31.0),
    ]


def test_a_line_torn_by_a_kill_is_left_out(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"epoch": 1}\n{"epoch": 2, "los')
    assert read_rows(tmp_path) == [{"epoch": 1}]
    (tmp_path / "metrics.jsonl").write_text('{"epoch": 1}\n[2]\n')
    with pytest.raises(ValueError, match="no epoch"):
        read_rows(tmp_path)


def test_config_holds_what_was_asked_and_with_which_versions(tmp_path):
    assert read_config(tmp_path) is None
    write_config(tmp_path, {"seed": 1, "output_dir": Path("run"), "identity": {"seed": 1}})
    config = read_config(tmp_path)
    assert (config["output_dir"], config["identity"]) == ("run", {"seed": 1})
    assert set(config["versions"]) == {"python", "torch", "numpy"}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"another": "program's"}))
    assert read_config(tmp_path) is None
    (tmp_path / "config.yaml").write_text("a: [")
    assert read_config(tmp_path) is None


def test_summary_counts_evaluated_epochs_only():
    rows = [
        epoch(number, accuracy=float(number) if number % 5 == 0 else None)
        for number in range(1, 63)
    ]
    rows[9]["accuracy"] = 70.0  # epoch 10
    last_ten = [15.0, 20.0, 25.0, 30.0, 35.0, 40.0, 45.0, 50.0, 55.0, 60.0]
    assert summary(rows) == {
        "last": 60.0,
        "last_10_mean": sum(last_ten) / 10,
        "best": 70.0,
        "best_epoch": 10,
    }
    assert summary(rows, "loss")["last"] == 1 / 62
    assert summary([epoch(1, accuracy=5.0), epoch(2, accuracy=5.0)])["best_epoch"] == 1
    assert all(math.isnan(value) for value in summary([epoch(1)]).values())

"""The files of a run folder: written once each, readable after a kill, and what is said of them at
the end.
"""

import math

import pytest
import torch
from conftest import rows as metrics
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lra_diffusion.run.errors import CheckpointError
from lra_diffusion.run.folder import RunFolder
from lra_diffusion.run.record import read_config
from lra_diffusion.run.report import summary
from lra_diffusion.run.schema import RunConfig
from shared.run_folder import read_rows


def epoch(number, **figures):
    return {
        "epoch": number,
        "loss": 1 / number,
        "accuracy": None,
        "phase": "warm",
        "seconds": 0.5,
        **figures,
    }


class Nothing:
    """A learner that learns nothing."""

    def __init__(self):
        self.net = torch.nn.Linear(1, 1)
        self.optimizer = torch.optim.SGD(self.net.parameters(), 0.1, fused=True)

    def state_dict(self):
        return {"optimizer": self.optimizer.state_dict()}

    def load_networks(self, state):
        pass


def opened(path, resume=False, **identity):
    config = RunConfig(output_dir=path, resume=resume)
    run = RunFolder(config, "name", {"seed": 1, "nepoch": 3, **identity}, path)
    run.open(Nothing(), config, {"output_dir": path, "identity": run.identity})
    return run


def test_every_number_is_an_event_and_a_resumed_run_logs_nothing_twice(tmp_path):
    run = opened(tmp_path)
    rows = [epoch(n, accuracy=10.0 * n if n != 2 else None, selection=None) for n in (1, 2, 3)]
    for row in run.progress(rows, 3):
        run.log(row)
        if row["epoch"] < 3:  # killed before the last checkpoint
            run.save(is_best=row["epoch"] == 1)
    (tmp_path / ".last.ckpt.12345678.tmp").write_text("left by a kill")
    again = opened(tmp_path, resume=True)
    assert again.next_epoch == 3
    for row in again.progress([epoch(3, accuracy=31.0, selection=None)], 3):
        assert again.log(row)
    assert not list(tmp_path.glob(".*.tmp"))
    assert [row["epoch"] for row in metrics(tmp_path)] == [1, 2, 3]
    assert metrics(tmp_path)[2]["accuracy"] == 31.0
    events = EventAccumulator(str(tmp_path)).Reload()
    assert set(events.Tags()["scalars"]) == {"loss", "accuracy", "seconds"}
    assert [(event.step, event.value) for event in events.Scalars("accuracy")] == [
        (1, 10.0),
        (3, 31.0),
    ]
    config = read_config(tmp_path)
    assert (config["output_dir"], config["identity"]) == (str(tmp_path), {"seed": 1, "nepoch": 3})
    assert set(config["versions"]) == {"python", "torch", "numpy"}
    with pytest.raises(CheckpointError, match="k: 3 then, 4 now"):
        opened(tmp_path / "other", k=3).save(is_best=False) or opened(
            tmp_path / "other", resume=True, k=4
        )


def test_a_line_torn_by_a_kill_is_left_out(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"epoch": 1}\n{"epoch": 2, "los')
    assert read_rows(tmp_path) == [{"epoch": 1}]
    (tmp_path / "metrics.jsonl").write_text('{"epoch": 1}\n[2]\n')
    with pytest.raises(ValueError, match="holds a line that is no row"):
        read_rows(tmp_path)
    (tmp_path / "metrics.jsonl").write_text('{"epoch": 1}\n{"epoch": 1}\n{"epoch": 2}\n')
    with pytest.raises(ValueError, match="two runs wrote into one folder"):
        read_rows(tmp_path)


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
    assert summary([epoch(1, accuracy=5.0), epoch(2, accuracy=5.0)])["best_epoch"] == 1
    assert all(math.isnan(value) for value in summary([epoch(1)]).values())

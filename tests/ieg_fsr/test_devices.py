"""Two devices, made of the CPU, are equal to one; test_machines.py has several machines."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import METHODS, environment, rows, variables

from ieg.run import devices
from ieg.run.errors import UsageError

pytestmark = pytest.mark.training


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What two_devices.py found, and the folder with its runs."""
    folder = tmp_path_factory.mktemp("devices")
    script = Path(__file__).with_name("two_devices.py")
    done = subprocess.run(
        [sys.executable, str(script), str(folder)],
        env=environment(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return {
        **json.loads((folder / "found.json").read_text()),
        "folder": folder,
        "printed": done.stdout,
    }


def test_every_method_runs_on_two_devices_and_goes_on_with_the_same_bits(found):
    assert set(found["statuses"].values()) == {0}
    assert "10 images a step x 2 devices, 10 steps an epoch" in found["printed"]
    for method in METHODS:
        assert [row["iteration"] for row in rows(found["folder"] / method)] == [1, 2, 4]
    assert rows(found["folder"] / "parts") == rows(found["folder"] / "fsr")
    assert variables(found["folder"] / "parts", 4) == variables(found["folder"] / "fsr", 4)


@pytest.mark.parametrize("method", METHODS)
def test_two_devices_with_the_same_half_are_one_device_with_it(found, method):
    one, two = found["same"][method]
    for name in ("weights", "moving", "accumulators", "averages"):
        assert one[name] == two[name], name  # bits: a gradient is two exact halves of itself
    assert one["metrics"] == two["metrics"]
    for name, rows_of_one in one["samples"].items():
        assert two["samples"][name] == [*rows_of_one, *rows_of_one], name
    assert one.get("rates") == two.get("rates")
    moved = np.concatenate(one["accumulators"])
    assert np.count_nonzero(moved) > 0.9 * len(moved)


def test_without_batch_normalisation_two_halves_are_one_batch(found):
    one, two = found["joint"]
    for name in ("weights", "accumulators", "averages"):
        assert np.concatenate(two[name]) == pytest.approx(
            np.concatenate(one[name]), rel=1e-5, abs=1e-6
        )
    assert two["metrics"]["loss/net"] == pytest.approx(one["metrics"]["loss/net"], rel=1e-6)
    assert two["samples"]["ids"] == one["samples"]["ids"]


# The published code takes note of the last replica's samples only.
def test_the_queue_takes_note_of_the_samples_of_both_devices(found):
    queue = found["queue"]
    assert all(rate != 0 for rate in queue["rates"][:8])
    assert all(rate == 0 for rate in queue["rates"][8:])
    assert queue["rates"][:8] == pytest.approx(
        [-0.1 * margin for margin in queue["samples"]["margin"]]
    )
    assert queue["seen"] == [*found["queue_labels"][:8], *[-1] * 16]
    assert queue["samples"]["ids"] == list(range(8))


def test_replicas_of_the_cpu_are_refused_beside_gpus(monkeypatch):
    monkeypatch.setattr(
        "tensorflow.config.list_physical_devices", lambda kind: ["GPU:0"] if kind == "GPU" else []
    )
    monkeypatch.setattr("tensorflow.config.experimental.set_memory_growth", lambda gpu, on: None)
    with pytest.raises(UsageError, match="leave it out here"):
        devices.strategy(cpu_replicas=2, deterministic=False, tf32=False)

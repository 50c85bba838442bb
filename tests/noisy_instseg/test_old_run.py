"""A run that an earlier version began, in data/old_run, resumes to what that version came to.

It was trained on four pictures with a network of two channels and killed after epoch 5 of stage 1.
Its dumped configs name modules that have moved since.
"""

import gzip
import json
import shutil
from pathlib import Path

import pytest
from conftest import main, rows

from shared.datasets import shapes

OLD_RUN = Path(__file__).parent / "data" / "old_run"
NAMES = {"nl_1": "mask_rcnn_tiny_shapes_nl_1", "nl_2": "mask_rcnn_tiny_shapes_nl_2"}


@pytest.mark.training
def test_an_old_run_is_resumed_by_its_own_configs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shapes.write("shapes", train=4, val=2, size=64, seed=1)
    configs = [shutil.copy(OLD_RUN / f"{row}.config", f"{name}.py") for row, name in NAMES.items()]
    first = Path("runs", NAMES["nl_1"])
    first.mkdir(parents=True)
    (first / "epoch_5.pth").write_bytes(gzip.decompress((OLD_RUN / "epoch_5.pth.gz").read_bytes()))
    lines = (OLD_RUN / "nl_1.jsonl").read_text().splitlines(keepends=True)
    (first / "metrics.jsonl").write_text("".join(lines[:5]))
    assert main("train_stages", *configs, "--work-dir", "runs") == 0
    for row, name in NAMES.items():
        then = [json.loads(line) for line in (OLD_RUN / f"{row}.jsonl").read_text().splitlines()]
        now = rows(Path("runs", name))
        assert [one["epoch"] for one in now] == [one["epoch"] for one in then]
        found = {field: value for field, value in now[-1].items() if value is not None}
        expected = {field: then[-1][field] for field in found}
        assert found == pytest.approx(expected, rel=1e-3, abs=1e-3)  # CPUs differ in last digits

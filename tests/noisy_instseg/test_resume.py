"""A run can stop anywhere and resume, to the bit; two stages by one command are two commands."""

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import TOOLS, environment, main, rows, weights


def copy(stages: Path, name: str, folder: Path) -> Path:
    return Path(shutil.copytree(stages / name, folder / name))


def test_train_stages_leaves_two_run_folders(stages):
    first, second = stages / "tiny_nl_1", stages / "tiny_nl_2"
    assert [row["epoch"] for row in rows(first)] == [1, 2]
    assert [row["epoch"] for row in rows(second)] == [3, 4]
    assert (second / "last_checkpoint").read_text().endswith("epoch_4.pth")
    assert (second / "tiny_nl_2.py").is_file()
    for folder in (first, second):
        (events,) = folder.glob("*/vis_data/events.out.tfevents.*")
        assert events.stat().st_size > 100
    row = rows(second)[-1]
    assert {
        "lr",
        "loss",
        "loss_cls",
        "loss_mask",
        "loss_rpn_cls",
        "bbox_mAP",
        "segm_mAP",
        "segm_mAP_50",
    } <= row.keys()
    assert "NEG" not in rows(first)[-1]
    # 4 images a step, 64 regions each at most: the four sets are all of them
    assert 4 * 16 <= row["NEG"] + row["PSN"] + row["OS"] + row["PON"] <= 4 * 64
    assert row["lr"] == pytest.approx(
        rows(second)[0]["lr"] / 10
    )  # the decay of the published schedule is in stage 2


def test_two_commands_do_what_train_stages_does(stages, stage_configs, train, tmp_path):
    assert train(stage_configs[0]) == 0  # in the default run folder
    first = tmp_path / "work_dirs" / "tiny_nl_1"
    config = stages / "tiny_nl_2" / "tiny_nl_2.py"  # the config that a run left repeats it
    second = ["--work-dir", tmp_path / "work_dirs" / "tiny_nl_2"]
    assert train(config, *second, "--resume-from", first / "latest.pth") == 0
    for name, epoch in (("tiny_nl_1", 2), ("tiny_nl_2", 4)):
        ours = tmp_path / "work_dirs" / name
        assert rows(ours) == rows(stages / name)
        assert weights(ours / f"epoch_{epoch}.pth") == weights(stages / name / f"epoch_{epoch}.pth")


def test_killed_and_called_again_is_the_same_run(stages, stage_configs, tmp_path, capsys):
    command = [
        sys.executable,
        str(TOOLS / "train_stages.py"),
        *map(str, stage_configs),
        "--work-dir",
        "runs",
    ]
    with open(tmp_path / "log", "w") as log:
        process = subprocess.Popen(command, cwd=tmp_path, env=environment(), stdout=log, stderr=log)
    checkpoint = tmp_path / "runs" / "tiny_nl_2" / "epoch_3.pth"
    deadline = time.monotonic() + 240
    while not checkpoint.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)  # while epoch 3 is evaluated, or a little later
    assert process.wait() == -signal.SIGKILL, (tmp_path / "log").read_text()[-3000:]
    again = [*stage_configs, "--work-dir", tmp_path / "runs"]
    assert main("train_stages", *again) == 0
    for name, epoch in (("tiny_nl_1", 2), ("tiny_nl_2", 4)):
        assert rows(tmp_path / "runs" / name) == rows(stages / name)
        assert weights(tmp_path / "runs" / name / f"epoch_{epoch}.pth") == weights(
            stages / name / f"epoch_{epoch}.pth"
        )
    capsys.readouterr()
    assert main("train_stages", *again) == 0
    assert "both stages are done" in capsys.readouterr().out


def test_a_torn_checkpoint_is_skipped(stages, stage_configs, train, tmp_path, capsys):
    copy(stages, "tiny_nl_1", tmp_path)
    folder = copy(stages, "tiny_nl_2", tmp_path)
    torn = folder / "epoch_4.pth"
    whole = weights(torn)
    torn.write_bytes(torn.read_bytes()[: torn.stat().st_size // 2])
    (folder / ".epoch_4.pth.0123.tmp").write_bytes(b"half")
    assert train(stage_configs[1], "--work-dir", folder, "--resume") == 0
    assert "epoch_4.pth is skipped" in capsys.readouterr().err
    assert weights(torn) == whole
    assert rows(folder) == rows(stages / "tiny_nl_2")
    assert [path.name for path in folder.glob(".*")] == [".lock"]


def test_an_evaluation_that_was_interrupted_is_made_up_for(
    stages, stage_configs, train, tmp_path, capsys
):
    folder = copy(stages, "tiny_nl_2", tmp_path)
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    (folder / "metrics.jsonl").write_text(
        lines[0] + "\n" + lines[1][:40]
    )  # killed while the row was written
    assert train(stage_configs[1], "--work-dir", folder, "--resume") == 0
    assert rows(folder) == rows(stages / "tiny_nl_2")
    assert json.loads((folder / "metrics.jsonl").read_text().splitlines()[0]) == json.loads(
        lines[0]
    )
    capsys.readouterr()
    assert (
        train(
            stage_configs[1],
            "--work-dir",
            folder,
            "--resume",
            "--resume-from",
            stages / "tiny_nl_1/latest.pth",
        )
        == 0
    )
    assert "the run is done" in capsys.readouterr().out

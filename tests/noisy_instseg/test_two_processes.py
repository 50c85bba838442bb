"""dist_train.sh with two processes on the CPU: one network in both, one that dies, resuming."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import ROOT, rows, run_script, weights

pytestmark = pytest.mark.training
HOOKS = """_base_ = {base!r}
custom_imports = dict(imports=["rank_hooks"])
custom_hooks = [dict(type="TellWeights"), dict(type="Die")]
"""
HALF = ("--cfg-options", "train_dataloader.batch_size=2")  # of the images of a step
WHOLE = ("--cfg-options", "train_dataloader.batch_size=4")


@pytest.fixture(scope="module", autouse=True)
def rank_hooks():
    """The processes find the hooks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parent))
        yield


@pytest.fixture(scope="module")
def config(tmp_path_factory, stage_configs):
    """Stage 1 with two epochs of two steps each."""
    path = tmp_path_factory.mktemp("config") / "two.py"
    path.write_text(HOOKS.format(base=str(stage_configs[0])))
    return path


def train(config, folder, processes="2", *flags) -> subprocess.CompletedProcess[str]:
    return run_script(
        "dist_train.sh", config, processes, "--work-dir", folder, *flags, folder=folder.parent
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory, config):
    """A run of two processes without interruption; not to be written to."""
    folder = tmp_path_factory.mktemp("whole") / "a run"
    done = train(config, folder, "2", *HALF)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "2 process(es) x 2 image(s) = 4 a step" in done.stdout
    return folder


@pytest.fixture(scope="module")
def killed(tmp_path_factory, config):
    """A run whose second process died in the second epoch; how it ended, and in what time."""
    folder = tmp_path_factory.mktemp("killed") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DIES", "1")
        done = train(config, folder, "2", *HALF)
    return folder, done, time.time() - (folder / "died").stat().st_mtime


def test_one_of_several_processes_skips_the_end_of_the_interpreter():
    """Where a thread of gloo may abort it."""
    code = (
        "import atexit, os; from noisy_instseg.run.errors import leave; "
        "atexit.register(os.abort); print('last words'); leave(3)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "WORLD_SIZE": "2", "RANK": "1"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (3, "last words\n")


def test_both_processes_have_one_network(whole):
    for epoch in (1, 2):
        told = [(whole / f"weights-{epoch}-of-{rank}.txt").read_text() for rank in (0, 1)]
        assert told[0] == told[1]
    assert [row["epoch"] for row in rows(whole)] == [1, 2]


def test_a_death_ends_the_others_with_a_message(killed):
    folder, done, seconds = killed
    assert done.returncode != 0
    assert seconds < 60
    assert "SIGKILL" in done.stderr
    assert done.stderr.splitlines()[-1] == (
        "error: a process of the run died, as is said above, and ended the others with it: "
        "the same command with --resume continues after the last whole epoch"
    )
    assert [path.name for path in folder.glob("*.pth")] == ["epoch_1.pth"]


def test_two_processes_resume_to_the_bit(killed, whole, config, tmp_path):
    folder = Path(shutil.copytree(killed[0], tmp_path / "run"))
    done = train(config, folder, "2", *HALF, "--resume")
    assert done.returncode == 0, done.stderr[-3000:]
    assert "note:" not in done.stderr
    assert rows(folder) == rows(whole)
    assert weights(folder / "epoch_2.pth") == weights(whole / "epoch_2.pth")


def test_one_process_resumes_and_says_what_changes(killed, whole, config, tmp_path):
    folder = Path(shutil.copytree(killed[0], tmp_path / "run"))
    done = train(config, folder, "1", *WHOLE, "--resume")
    assert done.returncode == 0, done.stderr[-3000:]
    assert "epoch_1.pth was trained by 2 process(es), and now there are 1" in done.stderr
    assert rows(folder)[0] == rows(whole)[0]
    assert [row["epoch"] for row in rows(folder)] == [1, 2]
    assert (folder / "epoch_2.pth").is_file()


def test_two_processes_gather_their_parts_in_a_folder_of_the_users(whole, config, tmp_path):
    """It stays as it was, and the AP is that of the evaluation during training."""
    folder = tmp_path / "parts"
    folder.mkdir()
    (folder / "part_0.pkl").write_bytes(b"the user's")
    flags = ["--eval", "segm", "--out", "all.pkl", "--tmpdir", folder, "--work-dir", tmp_path]
    checkpoint = whole / "epoch_2.pth"
    done = run_script("dist_test.sh", config, checkpoint, "2", *flags, folder=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads((tmp_path / "epoch_2.metrics.json").read_text())
    assert found["segm_mAP"] == rows(whole)[-1]["segm_mAP"]
    assert [path.read_bytes() for path in folder.iterdir()] == [b"the user's"]
    assert not (tmp_path / ".dist_test").exists()

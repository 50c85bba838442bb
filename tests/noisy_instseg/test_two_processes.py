"""dist_train.sh with two processes on the CPU: one network in both, one that dies, resuming."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from conftest import ROOT, rows, run_script, weights

pytestmark = pytest.mark.training
HOOKS = """_base_ = {base!r}
custom_imports = dict(imports=["rank_hooks"])
custom_hooks = [dict(type="TellWeights"), dict(type="Die")]
"""
# Every region is taken, as many of each picture; batch normalisation is frozen; after a step the
# optimizer's state is the gradient.
EVERY_REGION = """_base_ = {base!r}
train_cfg = dict(max_epochs=1)
optim_wrapper = dict(optimizer=dict(_delete_=True, type="SGD", lr=1.0, momentum=0.9))
model = dict(
    backbone=dict(norm_eval=True),
    train_cfg=dict(
        rpn=dict(assigner=dict(pos_iou_thr=0.5, neg_iou_thr=0.5), sampler=dict(num=10**5)),
        rpn_proposal=dict(nms_pre=10**5, max_per_img=10**5, nms=dict(iou_threshold=1.0)),
        rcnn=dict(
            assigner=dict(pos_iou_thr=0.99, neg_iou_thr=0.99, min_pos_iou=0.99),
            sampler=dict(num=10**5),
        ),
    ),
)
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


def test_a_step_of_two_halves_is_a_step_of_the_whole_batch(stage_configs, data, tmp_path):
    """With the paper's loss. mmdetection divides the losses of a process by its own numbers of
    regions, so this is so where they are equal: here every picture has one object, whose box alone
    is positive. Elsewhere a region counts the more, the fewer its process has.
    """
    config, annotations = tmp_path / "one_step.py", tmp_path / "one_object.json"
    config.write_text(EVERY_REGION.format(base=str(stage_configs[1])))
    content = json.loads((data / "annotations/instances_train.json").read_text())
    first = {each["image_id"]: each for each in reversed(content["annotations"])}
    annotations.write_text(json.dumps({**content, "annotations": [*first.values()]}))
    flags = ("--noise_file", annotations, "--limit_train", "4", "--no-validate")
    found = []
    for processes, batch in (("1", WHOLE), ("2", HALF)):
        folder = tmp_path / processes
        done = train(config, folder, processes, *batch, *flags)
        assert done.returncode == 0, done.stderr[-3000:]
        state = torch.load(folder / "epoch_1.pth", weights_only=True)
        gradients = [each["momentum_buffer"] for each in state["optimizer"]["state"].values()]
        [row] = rows(folder)
        losses = {name: value for name, value in row.items() if "loss" in name}
        found.append((losses, gradients, state["state_dict"]))
    one, two = found
    assert one[0].keys() > {"loss_cls", "loss_bbox", "loss_mask", "loss_rpn_cls"}
    assert two[0] == pytest.approx(one[0], rel=1e-5)
    for ours, theirs in zip(two[1], one[1], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(two[2], one[2], rtol=1e-5, atol=1e-6)


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

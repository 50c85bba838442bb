"""test.py: the same numbers as the evaluation during training, and every use of the predictions."""

import json
from functools import partial

import pytest
import torch
from conftest import main, rows, run_script

from shared.formats.safe_pickle import UnsafePickleError, loads


@pytest.fixture
def evaluate(tmp_path, monkeypatch):
    """The main function of test.py, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return partial(main, "test")


def test_the_published_command_repeats_the_evaluation_of_training(stages, stage_configs, tmp_path):
    checkpoint = stages / "tiny_nl_2" / "latest.pth"
    done = run_script(
        "dist_test.sh",
        stage_configs[1],
        checkpoint,
        "1",
        "--eval",
        "bbox",
        "segm",
        "--work-dir",
        "here",
        folder=tmp_path,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads((tmp_path / "here" / "epoch_4.metrics.json").read_text())
    assert not list(
        (tmp_path / "here").glob("*.py")
    )  # were it the run folder, the run's own config would still be there
    trained = rows(stages / "tiny_nl_2")[-1]
    assert {name: found[name] for name in found if "mAP" in name} == {
        name: trained[name] for name in trained if "mAP" in name
    }
    assert f"mask AP (COCO, IoU 0.50:0.95): {100 * trained['segm_mAP']:.1f} %" in done.stdout


def test_everything_else_that_can_be_done_with_predictions(
    stages, stage_configs, evaluate, tmp_path
):
    checkpoint = stages / "tiny_nl_2" / "epoch_4.pth"
    flags = [
        "--out",
        "all.pkl",
        "--show-dir",
        "pictures",
        "--format-only",
        "--fuse-conv-bn",
        "--work-dir",
        "here",
        "--limit_test",
        "3",
        "--show-score-thr",
        "0",
    ]
    assert evaluate(stage_configs[1], checkpoint, *flags) == 0
    assert len(list((tmp_path / "pictures").glob("*.png"))) == 3
    assert {path.name for path in (tmp_path / "here").glob("*.json")} == {
        "epoch_4.bbox.json",
        "epoch_4.segm.json",
    }
    assert (tmp_path / "all.pkl").stat().st_size > 0
    with pytest.raises(
        UnsafePickleError
    ):  # it holds torch's tensors, which only torch can rebuild: nothing here reads it
        loads((tmp_path / "all.pkl").read_bytes())


def test_a_place_that_cannot_be_written_is_told_before_the_work(
    stages, stage_configs, evaluate, capsys
):
    assert (
        evaluate(
            stage_configs[1], stages / "tiny_nl_2" / "epoch_4.pth", "--out", "/proc/nowhere/a.pkl"
        )
        == 2
    )
    errors = capsys.readouterr().err
    assert errors.startswith("error: --out /proc/nowhere/a.pkl")
    assert errors.count("\n") == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda state: state["state_dict"].pop("neck.lateral_convs.0.conv.weight"),
            "neck.lateral_convs.0.conv.weight: missing",
        ),
        (
            lambda state: state["state_dict"].update(
                {"roi_head.bbox_head.fc_cls.bias": torch.zeros(81)}
            ),
            "(81,) there, (9,) here",
        ),
        (
            lambda state: state["state_dict"]["roi_head.bbox_head.fc_cls.bias"].fill_(torch.nan),
            "roi_head.bbox_head.fc_cls.bias",
        ),
    ],
)
def test_weights_of_another_network_are_refused(
    change, message, stages, stage_configs, evaluate, tmp_path, capsys
):
    state = torch.load(stages / "tiny_nl_2" / "epoch_4.pth", weights_only=True)
    change(state)
    torch.save(state, tmp_path / "other.pth")
    assert evaluate(stage_configs[1], "other.pth", "--eval", "segm") == 2
    assert message in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["other.pth"]

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


# ---- annotations that say the same in another way


@pytest.fixture
def any_set_config(stage_configs, tmp_path):
    """The second stage's, with the classes of the file, as those in configs/coco_format have."""
    path = tmp_path / "any_set.py"
    path.write_text(f"_base_ = {str(stage_configs[1])!r}\nclasses_from_annotations = True\n")
    return path


def otherwise(data, path, renamed=False):
    """The validation file with its categories in reverse under other ids, an annotation 0, no
    iscrowd, and a byte order mark.
    """
    content = json.loads((data / "annotations/instances_val.json").read_text())
    content["categories"].reverse()
    ids = {one["id"]: 100 - one["id"] for one in content["categories"]}
    for one in content["categories"]:
        one["id"] = ids[one["id"]]
        one["name"] += "ish" if renamed else ""
    for one in content["annotations"]:
        one["category_id"] = ids[one["category_id"]]
        one["id"] -= 1
        del one["iscrowd"]
    assert content["annotations"][0]["id"] == 0
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(content).encode())
    return f"val_dataloader.dataset.ann_file={path}"


def test_classes_are_matched_by_name_and_annotation_0_counts(
    stages, data, any_set_config, evaluate, tmp_path, capsys
):
    option = otherwise(data, tmp_path / "val.json")
    checkpoint = stages / "tiny_nl_2/epoch_4.pth"
    flags = ["--eval", "bbox", "segm", "--work-dir", "here", "--cfg-options", option]
    assert evaluate(any_set_config, checkpoint, *flags) == 0
    said = capsys.readouterr().err
    assert "matched by name: circle, square" in said
    assert "annotation 0 counts as number" in said
    found = json.loads((tmp_path / "here/epoch_4.metrics.json").read_text())
    trained = rows(stages / "tiny_nl_2")[-1]
    assert {name: found[name] for name in found if "mAP" in name} == {
        name: trained[name] for name in trained if "mAP" in name
    }


@pytest.mark.training
def test_a_perfect_prediction_of_annotation_0_is_a_match(tmp_path):
    """Through mmdetection's metric, with categories in another order than the classes."""
    from noisy_instseg import plugins  # noqa: F401, I001
    from noisy_instseg.run import coco_reader  # noqa: F401
    from mmdet.evaluation.metrics import CocoMetric

    objects = [
        {"id": number, "image_id": 1, "category_id": 1 + number, "bbox": box, "area": 100}
        for number, box in enumerate([[0, 0, 10, 10], [20, 20, 10, 10]])
    ]
    content = {
        "images": [{"id": 1, "height": 40, "width": 40, "file_name": "a.png"}],
        "annotations": objects,
        "categories": [{"id": 1, "name": "b"}, {"id": 2, "name": "a"}],
    }
    (tmp_path / "a.json").write_text(json.dumps(content))
    metric = CocoMetric(ann_file=str(tmp_path / "a.json"), metric="bbox")
    metric.dataset_meta = {"classes": ("a", "b")}
    found = {
        "bboxes": torch.tensor([[0, 0, 10, 10], [20, 20, 30, 30]]).float(),
        "scores": torch.tensor([0.9, 0.8]),
        "labels": torch.tensor([1, 0]),
    }
    sample = {"img_id": 1, "ori_shape": (40, 40), "pred_instances": found}
    metric.process({}, [sample])
    assert metric.evaluate(1)["coco/bbox_mAP"] == 1.0


def test_other_classes_are_refused(stages, data, any_set_config, evaluate, tmp_path, capsys):
    option = otherwise(data, tmp_path / "val.json", renamed=True)
    checkpoint = stages / "tiny_nl_2/epoch_4.pth"
    flags = ["--work-dir", "here", "--cfg-options", option]
    assert evaluate(any_set_config, checkpoint, "--eval", "segm", *flags) == 2
    assert "was trained on the 8 classes circle, square" in capsys.readouterr().err
    assert not (tmp_path / "here").exists()


def test_pictures_and_the_ranking_match_by_name(
    stages, data, any_set_config, stage_configs, tmp_path, capsys, monkeypatch
):
    """The same names at the same boxes and the same losses, whatever the order of categories."""
    from noisy_instseg.analysis import prediction_page

    option = otherwise(data, tmp_path / "val.json")
    checkpoint = stages / "tiny_nl_2/epoch_4.pth"
    pages = []

    def note(dataset, indices, titles, columns):
        names = dataset.metainfo["classes"]
        pages.append(
            [
                [(names[label], box.tolist()) for label, box in zip(one.labels, one.boxes)]
                for column in columns
                for one in column
            ]
        )
        return b""

    monkeypatch.setattr(prediction_page, "paint_page", note)
    for config, more in ((stage_configs[1], []), (any_set_config, ["--cfg-options", option])):
        flags = ["--score_thr", "0.02", "--out", tmp_path / "page.png", *more]
        assert main("pictures", config, checkpoint, *flags) == 0
    assert pages[0] == pages[1]
    assert len(pages[0]) == 8
    assert all(pages[0])
    content = json.loads((data / "annotations/instances_train.json").read_text())
    content["categories"].reverse()
    (tmp_path / "train.json").write_text(json.dumps(content))
    tables = []
    for more in ([], ["--noise_file", tmp_path / "train.json"]):
        config = any_set_config if more else stage_configs[1]
        assert main("find_noisy", config, checkpoint, "--out", tmp_path / "a.csv", *more) == 0
        tables.append((tmp_path / "a.csv").read_text())
    assert tables[0] == tables[1]
    assert "matched by name" in capsys.readouterr().err

"""find_noisy.py: the losses against a slow reference, the ranking and its quality against literal
definitions, bad input.
"""

import csv
import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import tool

from noisy_instseg.analysis import noise_ranking
from noisy_instseg.analysis.noise_ranking import Annotations
from noisy_instseg.run.config import Settings
from shared.cli import coco as coco_noise_cli
from shared.coco import file as coco_file
from shared.coco import manifest as coco_manifest
from shared.errors import UserError

NAMES = ("square", "circle", "triangle")


def annotations(labels: list[int], clean: list[int] | None = None) -> Annotations:
    """One annotation per label, each in an image of its own."""
    count = len(labels)
    return Annotations(
        index=np.arange(count),
        ids=np.arange(100, 100 + count),
        image_ids=np.arange(count),
        boxes=np.tile(np.array([[0, 0, 9, 9]], np.float32), (count, 1)),
        labels=np.array(labels),
        clean_labels=None if clean is None else np.array(clean),
        category_ids=[1, 2, 3],
        file_names={i: f"{i}.png" for i in range(count)},
        skipped={},
    )


def noisy_copy(data: Path, folder: Path, rate: str = "0.5") -> Path:
    """The training annotations of `data` with noise, and a manifest beside them."""
    out = folder / "noisy.json"
    flags = [
        "--ann",
        str(data / "annotations/instances_train.json"),
        "--out",
        str(out),
        "--rate",
        rate,
    ]
    assert coco_noise_cli.script_main("symmetric", "coco_format", flags) == 0
    return out


# ---- ranking


def test_losses_are_minus_log_of_the_softmax_and_the_largest_is_first():
    logits = np.random.default_rng(0).normal(0, 3, (20, 3))
    labels = np.random.default_rng(1).integers(0, 3, 20).tolist()
    ranking = noise_ranking.rank(annotations(labels), logits, NAMES)
    expected = [
        -math.log(math.exp(row[label]) / sum(math.exp(value) for value in row))
        for row, label in zip(logits.tolist(), labels)
    ]
    assert ranking.losses.tolist() == pytest.approx(expected)
    assert ranking.order.tolist() == sorted(range(20), key=lambda row: -expected[row])
    np.testing.assert_allclose(ranking.probs.sum(axis=1), 1)
    likeliest = [max(range(3), key=row.__getitem__) for row in logits.tolist()]
    assert ranking.predicted.tolist() == likeliest
    assert ranking.is_issue.tolist() == [a != b for a, b in zip(likeliest, labels)]


def test_of_equal_losses_the_earlier_annotation_is_first():
    ranking = noise_ranking.rank(annotations([0, 1, 2, 0]), np.zeros((4, 3)), NAMES)
    assert ranking.order.tolist() == [0, 1, 2, 3]


def test_huge_logits_stay_finite():
    logits = np.array([[1e4, -1e4, 0.0], [1e4, -1e4, 0.0]])
    ranking = noise_ranking.rank(annotations([0, 1]), logits, NAMES)
    assert ranking.losses.tolist() == [0.0, 2e4]


@pytest.mark.training  # the import takes as long
def test_detection_is_the_share_of_pairs_in_the_right_order():
    rng = np.random.default_rng(3)
    logits = rng.integers(-1, 2, (40, 3)).astype(float)  # few values, so that there are ties
    labels = rng.integers(0, 3, 40)
    changed = np.isin(np.arange(40), rng.permutation(40)[:13])
    clean = np.where(changed, (labels + 1) % 3, labels)
    ranking = noise_ranking.rank(annotations(labels.tolist(), clean.tolist()), logits, NAMES)
    quality = noise_ranking.detection(ranking)
    pairs = [
        (wrong > right) + 0.5 * (wrong == right)
        for wrong in ranking.losses[changed]
        for right in ranking.losses[~changed]
    ]
    assert quality["auc"] == pytest.approx(sum(pairs) / len(pairs))
    first = sorted(range(40), key=lambda row: -ranking.losses[row])[:13]
    assert quality["precision"] == sum(changed[row] for row in first) / 13


@pytest.mark.parametrize(
    ("clean", "said"), [([0, 1], "none"), ([1, 0], "all"), (None, "annotations ranked")]
)
def test_without_both_kinds_there_is_no_auc(clean, said):
    ranking = noise_ranking.rank(annotations([0, 1], clean), np.eye(2, 3), NAMES)
    assert noise_ranking.detection(ranking) is None
    assert said in noise_ranking.report(ranking)


@pytest.mark.training  # the import takes as long
def test_the_report_counts_suspects_by_class():
    logits = np.array([[5.0, 0, 0], [0, 5.0, 0], [0, 0, 5.0], [0, 5.0, 0]])
    ranking = noise_ranking.rank(annotations([0, 0, 0, 1], [0, 2, 0, 1]), logits, NAMES)
    report = noise_ranking.report(ranking)
    lines = {line.split()[0]: line.split()[1:] for line in report.splitlines() if line}
    assert lines["square"] == ["3", "2", "1", "1", "circle"]
    assert lines["circle"] == ["1", "0", "0", "0", "-"]
    assert noise_ranking.corrections(ranking) == "2 of 4 labels replaced; 1 were wrong, 2 are"
    ranking = noise_ranking.rank(annotations([0]), np.eye(1, 2), ("\x1b[31msquare", "circle"))
    assert "\n\\x1b[31msquare  " in noise_ranking.report(ranking)  # spelled out, not obeyed


# ---- reading


def test_what_training_does_not_learn_from_is_left_out_and_said(tmp_path):
    image = {"id": 1, "file_name": "a.png", "width": 50, "height": 40}
    base = {"image_id": 1, "category_id": 7, "bbox": [10, 10, 5, 6], "area": 30}
    changes = (
        {},
        {"iscrowd": 1},
        {"category_id": 8},
        {"bbox": [10, 10, 0.5, 6]},
        {"bbox": [60, 10, 5, 6]},
        {"image_id": 2},
        {"ignore": True},
        {"bbox": [48, 0, 9, 9]},
    )
    entries = [base | change for change in changes]
    content = {
        "images": [image, {**image, "id": 2}],
        "annotations": [{**entry, "id": i} for i, entry in enumerate(entries)],
        "categories": [{"id": 7, "name": "x"}, {"id": 8, "name": "y"}],
    }
    path = tmp_path / "a.json"
    path.write_text(json.dumps(content))
    truth = {7: 8}  # an annotation whose true category is no class
    found = noise_ranking.read_annotations(coco_file.read(path), {7: 0}, [1], truth)
    assert found.ids.tolist() == found.index.tolist() == [0, 7]
    assert found.clean_labels.tolist() == [0, noise_ranking.NO_CLASS]
    assert found.boxes.tolist() == [[10, 10, 15, 16], [48, 0, 57, 9]]
    assert sorted(found.skipped.values()) == [1, 1, 2, 2]


def test_the_manifest_beside_the_file_is_found_and_checked(data, tmp_path):
    noisy = noisy_copy(data, tmp_path)
    manifest = coco_manifest.default_path(noisy)
    clean = data / "annotations/instances_train.json"
    before = {entry["id"]: entry for entry in json.loads(clean.read_text())["annotations"]}
    expected = {
        entry["id"]: before[entry["id"]]["category_id"]
        for entry in json.loads(noisy.read_text())["annotations"]
        if entry != before[entry["id"]]
    }
    assert noise_ranking.true_categories(coco_file.read(noisy), noisy, None) == expected
    assert noise_ranking.true_categories(coco_file.read(clean), clean, None) is None
    with pytest.raises(UserError, match="manifest of another file"):
        noise_ranking.true_categories(coco_file.read(clean), clean, manifest)


# ---- with a network


def flags_for(stages: Path, stage_configs: tuple[Path, Path]) -> list[str]:
    return [str(stage_configs[1]), str(stages / "tiny_nl_2/epoch_4.pth"), "--device", "cpu"]


def test_logits_are_those_of_the_box_head_on_each_image_alone(stages, stage_configs, data):
    """Batches of images of other sizes than the network sees, against one image at a time and
    mmdetection's own pieces.
    """
    from mmdet.structures.bbox import bbox2roi

    from noisy_instseg.analysis import trained_model

    cfg = trained_model.load_config(stage_configs[1], Settings(), "train")
    steps = [step for step in cfg.val_dataloader.dataset.pipeline if step.type == "Resize"]
    steps[0].scale = (96, 96)  # half as large again as the images
    model, _ = trained_model.load_model(cfg, stages / "tiny_nl_2/epoch_4.pth", torch.device("cpu"))
    dataset = trained_model.load_dataset(cfg, "train")
    image_ids = [dataset.get_data_info(i)["img_id"] for i in range(len(dataset))]
    found = noise_ranking.read_annotations(
        coco_file.read(data / "annotations/instances_train.json"), dataset.cat2label, image_ids
    )
    logits = noise_ranking.class_logits(model, cfg, dataset, found)
    assert logits.shape == (len(found), 8)
    for i in range(len(dataset)):
        item = dataset[i]
        batch = model.data_preprocessor(
            {"inputs": [item["inputs"]], "data_samples": [item["data_samples"]]}, False
        )
        rows = found.image_ids == image_ids[i]
        with torch.no_grad():
            features = model.neck(model.backbone(batch["inputs"]))
            rois = bbox2roi([torch.from_numpy(found.boxes[rows] * 1.5)])
            pooled = model.roi_head.bbox_roi_extractor(features[:4], rois)
            expected, _ = model.roi_head.bbox_head(pooled)
        np.testing.assert_allclose(logits[rows], expected[:, :-1].numpy(), rtol=1e-4, atol=1e-4)


def test_the_table_of_the_first_images_lies_beside_the_checkpoint(
    stages, stage_configs, tmp_path, capsys
):
    checkpoint = Path(shutil.copy(stages / "tiny_nl_2/epoch_4.pth", tmp_path))
    flags = [str(stage_configs[1]), str(checkpoint), "--device", "cpu", "--limit_train", "2"]
    assert tool("find_noisy").main(flags) == 0
    with (tmp_path / "label_quality.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["image_id"] for row in rows} == {"1", "2"}
    assert "clean_label" not in rows[0]
    assert "of images that are left out" in capsys.readouterr().out


def test_images_may_have_names_for_ids(stages, stage_configs, data, tmp_path):
    content = json.loads((data / "annotations/instances_train.json").read_text())
    names = {
        image["id"]: f"{'zyxwvuts'[nth]}-{image['id']}"
        for nth, image in enumerate(content["images"])
    }
    content["images"] = [{**image, "id": names[image["id"]]} for image in content["images"]]
    content["annotations"] = [
        {**entry, "image_id": names[entry["image_id"]]} for entry in content["annotations"]
    ]
    named = tmp_path / "named.json"
    named.write_text(json.dumps(content))
    found = []
    for more in ([], ["--noise_file", str(named)]):
        out = tmp_path / f"ranking_{len(more)}.csv"
        assert (
            tool("find_noisy").main([*flags_for(stages, stage_configs), "--out", str(out), *more])
            == 0
        )
        with out.open(newline="") as file:
            found.append(list(csv.DictReader(file)))
    assert found[1] == [{**row, "image_id": names[int(row["image_id"])]} for row in found[0]]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--noise_file", "none.json"], "no such file"),
        (["--manifest", "none.json"], "cannot read manifest"),
        (["--out", "a.txt"], "must end in .csv"),
        (["--plot", "a.jpg"], "must end in .png"),
        (["--corrected", "a.csv"], "must end in .json"),
        (["--save_probs", "a.json"], "must end in .npz"),
        (
            ["--out", "new/a.csv", "--plot", "/proc/a.png"],
            "--plot /proc/a.png: nothing can be written there",
        ),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(
    stages, stage_configs, tmp_path, monkeypatch, capsys, flags, said
):
    monkeypatch.chdir(tmp_path)
    assert tool("find_noisy").main([*flags_for(stages, stage_configs), *flags]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert said in error
    assert list(tmp_path.iterdir()) == []


@pytest.mark.training  # the import takes as long
def test_a_checkpoint_of_another_network_is_refused(stage_configs, tmp_path, capsys):
    torch.save({"state_dict": {"backbone.conv1.weight": torch.zeros(1)}}, tmp_path / "other.pth")
    assert (
        tool("find_noisy").main(
            [str(stage_configs[1]), str(tmp_path / "other.pth"), "--out", str(tmp_path / "a.csv")]
        )
        == 2
    )
    assert "does not fit the network" in capsys.readouterr().err
    assert not (tmp_path / "a.csv").exists()

"""The data checks: each thing that can be wrong is made wrong, and named with its fix."""

import pytest
from conftest import draw, edit, load_at, message, set_all, set_first, train_file, write

from noisy_instseg.run import data_checks
from noisy_instseg.run.datasets import parts_of
from shared.coco.classes import TABLES
from shared.errors import UserError

CITYSCAPES = "cityscapes/mask_rcnn_r50_fpn_1x_cityscapes_ce.py"
COCO = "coco/mask_rcnn_r50_fpn_1x_coco_ce.py"
VOC = "voc/mask_rcnn_r50_fpn_1x_voc_ce.py"
SHAPES = "shapes/mask_rcnn_tiny_shapes_ce.py"
ANY_SET = "coco_format/mask_rcnn_r50_fpn_coco_format_ce.py"


def test_good_folders_pass(cityscapes, any_set):
    data_checks.check(cityscapes[0])
    data_checks.adopt_classes(any_set[0])
    data_checks.check(any_set[0])


@pytest.mark.parametrize(
    ("config", "missing", "expected"),
    [
        (CITYSCAPES, "annotations", "convert_datasets/cityscapes.py {root} --nproc 8"),
        (CITYSCAPES, "images", "leftImg8bit_trainvaltest.zip"),
        (VOC, "annotations", "convert_datasets/voc.py {root} --out-dir {root}/annotations"),
        (VOC, "images", "VOCtrainval_11-May-2012.tar"),
        (COCO, "annotations", "annotations_trainval2017.zip"),
        (COCO, "images", "train2017.zip"),
        (SHAPES, "annotations", "python -m shared data shapes"),
        (ANY_SET, "annotations", "train_dataloader.dataset.dataset.ann_file=FILE"),
    ],
)
def test_what_is_not_there_comes_with_the_way_to_get_it(tmp_path, config, missing, expected):
    cfg = load_at(config, tmp_path)
    part = next(parts_of(cfg, ("train",)))
    if missing == "images":
        write(part.annotations, {})
    text = message(cfg)
    assert expected.format(root=tmp_path) in text
    assert str(part.images if missing == "images" else part.annotations) in text


def test_a_noisy_file_that_is_not_there_is_not_converted_again(cityscapes):
    cfg, root = cityscapes
    next(parts_of(cfg, ("train",))).settings["ann_file"] = str(root / "noisy.json")
    text = message(cfg)
    assert "noisy.json do not exist" in text
    assert "convert_datasets" not in text


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (set_first("annotations", category_id=29), "category_id 29, which 'categories' lacks"),
        (set_first("annotations", category_id=True), "category_id True"),
        (set_first("annotations", image_id=77), "belongs to image 77"),
        (set_first("annotations", segmentation=[]), "annotations[0] has no segmentation"),
        (set_first("annotations", bbox=None), "annotations[0] has no bbox"),
        (
            set_first("annotations", bbox=[1, 1, 8]),
            "annotations[0] has the box [1, 1, 8]: give 4 finite numbers",
        ),
        (set_first("annotations", bbox=[1, 1, 8, float("nan")]), "the box [1, 1, 8, nan]"),
        (set_first("annotations", bbox=[1, 1, 8, float("inf")]), "the box [1, 1, 8, inf]"),
        (set_first("annotations", bbox=[1, 1, 8, None]), "the box [1, 1, 8, None]"),
        (set_first("annotations", bbox=[1, 1, 8, "8"]), "the box [1, 1, 8, '8']"),
        (set_first("annotations", bbox=[1, 1, 8, 10**400]), "give 4 finite numbers"),
        (
            set_first("annotations", segmentation=[[1, 1, 9, 1]]),
            "the polygon [1, 1, 9, 1]: give 3 points at least",
        ),
        (
            set_first("annotations", segmentation=[[1, 1, 9, 1, 9, 9, 1]]),
            "the polygon [1, 1, 9, 1, 9, 9, 1]",
        ),
        (set_first("annotations", segmentation=[1, 1, 9, 1, 9, 9]), "the polygon 1: "),
        (
            set_first("annotations", segmentation=[[1, 1, 9, 1, 9, None]]),
            "the polygon [1, 1, 9, 1, 9, None]",
        ),
        (
            set_first("annotations", segmentation=[[1, 1, 9, 1, 9, float("nan")]]),
            "the polygon [1, 1, 9, 1, 9, nan]",
        ),
        (
            set_first("annotations", segmentation={"size": 40, "counts": [1600]}),
            "not 40 x 40 (height x width)",
        ),
        (
            set_first("annotations", segmentation={"size": [40, 30], "counts": [1600]}),
            "not 40 x 40 (height x width)",
        ),
        (set_first("images", id=1), "two images one id"),
        (set_first("images", id=[]), "images[0] has no id"),
        (set_first("annotations", id=2), "annotation id 2 occurs more than once"),
        (set_first("images", file_name="bonn/9.png"), "1 of the 2 images"),
        (set_first("images", width=None), "images[0] has no width"),
        (set_first("categories", name="human"), "has no category person"),
        (lambda content: content.update(annotations=[]), "no annotations"),
        (
            lambda content: content.update(images=[], annotations=content["annotations"][:1]),
            "belongs to image",
        ),
        (lambda content: content.pop("categories"), "'categories' is missing"),
    ],
)
def test_wrong_content_of_the_training_file_is_named(cityscapes, change, expected):
    cfg, root = cityscapes
    edit(train_file(root), change)
    assert expected in message(cfg, "train")


@pytest.mark.parametrize(
    "values",
    [
        {"iscrowd": 1},
        {"ignore": 1},
        {"area": 0},
        {"bbox": [1, 1, 0, 8]},
        {"bbox": [0.1, 0.1, 0.2, 0.2]},  # in parts of the image, as other formats give them
        {"bbox": [40, 1, 8, 8]},
        {"bbox": [1, -8, 8, 8]},
    ],
)
def test_a_training_file_without_an_object_to_learn_from_is_refused(cityscapes, values):
    cfg, root = cityscapes
    edit(train_file(root), set_all("annotations", **values))
    assert (
        "instancesonly_filtered_gtFine_train.json has no object to learn from: each of its 8"
        in message(cfg)
    )
    edit(
        train_file(root),
        set_first("annotations", bbox=[-1, -1, 8, 8], area=64, iscrowd=0, ignore=0),
    )
    data_checks.check(cfg)  # one object is enough


def test_only_training_needs_objects(cityscapes):
    cfg, root = cityscapes
    edit(
        root / "annotations/instancesonly_filtered_gtFine_val.json",
        set_all("annotations", iscrowd=1),
    )
    data_checks.check(cfg)


def test_images_that_are_all_too_small_are_refused_with_the_setting(any_set):
    cfg, root = any_set
    data_checks.adopt_classes(cfg)
    edit(train_file(root), set_all("images", width=31))
    for number in range(2):
        draw(root / f"images/train/{number}.png", (31, 40))
    text = message(cfg, "train")
    assert "all 2 images" in text
    setting = "train_dataloader.dataset.dataset.filter_cfg.min_size"
    assert text.endswith(f"--cfg-options {setting}=31")
    cfg.merge_from_dict({setting: 31})
    data_checks.check(cfg)


def test_the_only_objects_may_not_be_in_images_that_are_too_small(any_set):
    cfg, root = any_set
    data_checks.adopt_classes(cfg)
    edit(train_file(root), set_all("annotations", image_id=1))
    edit(train_file(root), lambda content: content["images"][1].update(width=31))
    draw(root / "images/train/1.png", (31, 40))
    assert "has no object to learn from" in message(cfg, "train")
    del next(parts_of(cfg, ("train",))).settings["filter_cfg"]  # nothing is filtered
    data_checks.check(cfg)


def test_a_run_length_mask_is_a_mask(cityscapes):
    cfg, root = cityscapes
    edit(
        train_file(root),
        set_all("annotations", segmentation={"size": [40, 40], "counts": [9, 4, 1587]}),
    )
    data_checks.check(cfg)


def test_images_may_have_names_for_ids(cityscapes):
    cfg, root = cityscapes

    def rename(content):
        for entry in content["images"]:
            entry["id"] = f"image {entry['id']}"
        for entry in content["annotations"]:
            entry["image_id"] = f"image {entry['image_id']}"

    edit(train_file(root), rename)
    data_checks.check(cfg)


def test_annotations_that_mmdet_would_drop_are_counted(cityscapes):
    cfg, root = cityscapes

    def add_caravans(content):
        content["categories"].append({"id": 29, "name": "caravan"})
        content["annotations"] += [
            {**content["annotations"][0], "id": 100 + i, "category_id": 29} for i in range(3)
        ]

    edit(train_file(root), add_caravans)
    text = message(cfg, "train")
    assert text.startswith("3 annotations of")
    assert "caravan" in text


def test_a_category_without_annotations_may_be_unknown(cityscapes):
    cfg, root = cityscapes
    edit(
        train_file(root),
        lambda content: content["categories"].append({"id": 29, "name": "caravan"}),
    )
    data_checks.check(cfg)


def test_a_torn_file_is_named(cityscapes):
    cfg, root = cityscapes
    path = train_file(root)
    path.write_bytes(path.read_bytes()[:-40])
    assert "this is no JSON" in message(cfg)
    assert str(path) in message(cfg)


@pytest.mark.parametrize(
    "place",
    [
        f"model.roi_head.{place}.num_classes"
        for place in ("bbox_head", "mask_head", "bbox_head.loss_cls")
    ],
)
def test_numbers_of_classes_have_to_agree(cityscapes, place):
    cfg, _ = cityscapes
    cfg.merge_from_dict({place: 9})  # with background: the usual mistake
    text = message(cfg)
    assert f"{place} is 9" in text
    assert f"{place}=8" in text


def test_unused_parts_are_not_looked_at(cityscapes):
    cfg, root = cityscapes
    (root / "annotations/instancesonly_filtered_gtFine_val.json").unlink()
    data_checks.check(cfg, ("train",))
    assert "val annotations" in message(cfg, "train", "val")
    cfg.val_dataloader = None
    data_checks.check(cfg, ("train", "val"))


def test_other_sets_are_looked_through_their_wrappers(cityscapes):
    cfg, _ = cityscapes
    inner = cfg.train_dataloader.dataset.dataset
    wrong = {**inner.to_dict(), "ann_file": "none.json"}
    cfg.train_dataloader.dataset = dict(type="ConcatDataset", datasets=[inner, wrong])
    assert "none.json do not exist" in message(cfg, "train")


def test_classes_are_those_of_the_training_file(any_set):
    cfg, _ = any_set
    data_checks.adopt_classes(cfg)
    for part in parts_of(cfg, ("train", "val", "test")):
        assert part.classes == ("fig", "date", "nut")
    head = cfg.model.roi_head.bbox_head
    assert (head.num_classes, cfg.model.roi_head.mask_head.num_classes) == (3, 3)
    assert head.loss_cls.get("num_classes") in (None, 3)


def test_without_training_the_classes_are_those_of_the_validation_file(any_set):
    cfg, root = any_set
    train_file(root).unlink()
    data_checks.adopt_classes(cfg, ["val"])
    data_checks.check(cfg, ["val"])
    assert cfg.model.roi_head.bbox_head.num_classes == 3


def test_a_validation_file_of_other_classes_is_refused(any_set):
    cfg, root = any_set
    edit(root / "annotations/instances_val.json", set_first("categories", name="grape"))
    data_checks.adopt_classes(cfg)
    assert "has no category fig" in message(cfg)


def test_classes_without_a_name_cannot_be_adopted(any_set):
    cfg, root = any_set
    edit(train_file(root), lambda content: content["categories"][1].pop("name"))
    with pytest.raises(UserError, match="category 2 has no name"):
        data_checks.adopt_classes(cfg)


def test_known_sets_keep_their_classes(cityscapes):
    cfg, _ = cityscapes
    before = cfg.to_dict()
    data_checks.adopt_classes(cfg)
    assert cfg.to_dict() == before


def test_a_config_without_classes_has_those_of_its_type(cityscapes):
    cfg, _ = cityscapes
    part = next(parts_of(cfg, ("train",)))
    del part.settings["metainfo"]
    assert part.classes == tuple(TABLES["cityscapes"].values())
    part.settings["type"] = "CocoDataset"
    assert len(part.classes) == 80

"""The configs: what they resolve to, how the rows of a family differ, and the schedule over all
epochs of both stages.
"""

import functools
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.runner import Runner

from noisy_instseg.run import data_checks
from noisy_instseg.run.datasets import parts_of
from shared.datasets import shapes

CONFIGS = Path(data_checks.__file__).parents[1] / "configs"
FAMILIES = {  # folder -> (stem of the files, classes, epochs of stage 1, epochs)
    "cityscapes": ("mask_rcnn_r50_fpn_1x_cityscapes", 8, 4, 8),
    "coco": ("mask_rcnn_r50_fpn_1x_coco", 80, 6, 12),
    "voc": ("mask_rcnn_r50_fpn_1x_voc", 20, 4, 8),
    "shapes": ("mask_rcnn_tiny_shapes", 8, 6, 12),
    "coco_format": (
        "mask_rcnn_r50_fpn_coco_format",
        80,
        4,
        8,
    ),  # 80 until the file with the classes is read
}
ANNOTATIONS = "annotations/instancesonly_filtered_gtFine_{}.json"
ROWS = ("ce", "sce", "gce", "nl_1", "nl_2")
LOSSES = {
    "ce": {"type": "CrossEntropyLoss", "use_sigmoid": False, "loss_weight": 1.0},
    "sce": {"type": "SymmetricCrossEntropyLoss", "loss_weight1": 1.0, "loss_weight2": 0.1},
    "gce": {"type": "GeneralizedCrossEntropyLoss", "q": 0.3},
    "nl_1": {"type": "CrossEntropyLoss", "use_sigmoid": False, "loss_weight": 1.0},
    "nl_2": {
        "type": "NewCombinationLoss",
        "loss_weight1": 1.0,
        "loss_weight2": 1.0,
        "log_partition": True,
    },
}


def path_of(family: str, row: str) -> Path:
    return CONFIGS / family / f"{FAMILIES[family][0]}_{row}.py"


@functools.cache
def read(family: str, row: str) -> Config:
    """Not to be changed: every test has the same one."""
    return Config.fromfile(path_of(family, row), import_custom_modules=False)


def flat(value: Any, place: str = "") -> dict[str, Any]:
    """The settings of a config by their dotted places."""
    if isinstance(value, dict):
        return {
            key: one
            for name, inner in value.items()
            for key, one in flat(inner, f"{place}{name}.").items()
        }
    return {place.removesuffix("."): value}


def difference(first: Config, second: Config) -> set[str]:
    one, two = flat(first.to_dict()), flat(second.to_dict())
    return {key for key in one.keys() | two.keys() if one.get(key) != two.get(key)}


def test_there_is_one_file_for_each_row_and_no_other():
    expected = {path_of(family, row) for family in FAMILIES for row in ROWS}
    assert {path for path in CONFIGS.rglob("*.py") if path.parent.name != "_base_"} == expected


@pytest.mark.parametrize("family", FAMILIES)
def test_stages_differ_in_loss_and_epochs_alone(family):
    changed = difference(read(family, "nl_1"), read(family, "nl_2"))
    assert "train_cfg.max_epochs" in changed
    assert all(
        key.startswith("model.roi_head.bbox_head.loss_cls.")
        for key in changed - {"train_cfg.max_epochs"}
    )
    _, _, switch, epochs = FAMILIES[family]
    assert read(family, "nl_1").train_cfg.max_epochs == switch
    assert read(family, "nl_2").train_cfg.max_epochs == epochs


@pytest.mark.parametrize("family", FAMILIES)
def test_baselines_differ_from_the_stages_in_loss_or_epochs_alone(family):
    assert difference(read(family, "nl_1"), read(family, "ce")) == {"train_cfg.max_epochs"}
    for row in ("sce", "gce", "ce"):
        changed = difference(read(family, "nl_2"), read(family, row))
        assert all(key.startswith("model.roi_head.bbox_head.loss_cls.") for key in changed)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("row", ROWS)
def test_losses_are_those_of_the_row_with_nothing_inherited(family, row):
    loss = read(family, row).model.roi_head.bbox_head.loss_cls.to_dict()
    counted = row not in ("ce", "nl_1") and family != "coco_format"
    assert loss == LOSSES[row] | ({"num_classes": FAMILIES[family][1]} if counted else {})


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("row", ROWS)
def test_numbers_of_classes_agree(family, row):
    cfg = read(family, row)
    for part in parts_of(cfg, ("train", "val", "test")):
        assert len(part.classes) == FAMILIES[family][1]
        data_checks.check_heads(cfg, part)
    assert bool(cfg.get("classes_from_annotations")) == (family == "coco_format")


@pytest.mark.parametrize(("row", "epochs"), [("nl_1", 4), ("nl_2", 8)])
def test_cityscapes_is_as_published(row, epochs):
    """The resolved settings of the two published configs, by their places in mmdet 3."""
    cfg = read("cityscapes", row)
    facts = {
        "model.backbone.type": "ResNet",
        "model.backbone.depth": 50,
        "model.backbone.frozen_stages": 1,
        "model.backbone.norm_eval": True,
        "model.backbone.style": "pytorch",
        "model.backbone.init_cfg.checkpoint": "torchvision://resnet50",
        "load_from": None,
        "resume": False,
        "model.rpn_head.loss_bbox.type": "L1Loss",
        "model.rpn_head.loss_cls.use_sigmoid": True,
        "model.roi_head.bbox_head.type": "Shared2FCBBoxHead",
        "model.roi_head.bbox_head.in_channels": 256,
        "model.roi_head.bbox_head.fc_out_channels": 1024,
        "model.roi_head.bbox_head.roi_feat_size": 7,
        "model.roi_head.bbox_head.num_classes": 8,
        "model.roi_head.bbox_head.reg_class_agnostic": False,
        "model.roi_head.bbox_head.loss_bbox.type": "SmoothL1Loss",
        "model.roi_head.bbox_head.loss_bbox.beta": 1.0,
        "model.roi_head.mask_head.num_classes": 8,
        "model.roi_head.mask_head.num_convs": 4,
        "model.roi_head.mask_head.loss_mask.use_mask": True,
        "model.train_cfg.rcnn.sampler.num": 512,
        "model.train_cfg.rcnn.sampler.pos_fraction": 0.25,
        "model.train_cfg.rcnn.sampler.add_gt_as_proposals": True,
        "model.train_cfg.rcnn.assigner.pos_iou_thr": 0.5,
        "model.train_cfg.rcnn.pos_weight": -1,
        "model.train_cfg.rpn_proposal.nms_pre": 2000,
        "model.train_cfg.rpn_proposal.max_per_img": 1000,
        "model.test_cfg.rpn.nms_pre": 1000,
        "model.test_cfg.rpn.nms.iou_threshold": 0.7,
        "model.test_cfg.rcnn.score_thr": 0.05,
        "model.test_cfg.rcnn.nms.iou_threshold": 0.5,
        "model.test_cfg.rcnn.max_per_img": 100,
        "model.test_cfg.rcnn.mask_thr_binary": 0.5,
        "model.data_preprocessor.mean": [123.675, 116.28, 103.53],
        "model.data_preprocessor.std": [58.395, 57.12, 57.375],
        "model.data_preprocessor.bgr_to_rgb": True,
        "model.data_preprocessor.pad_size_divisor": 32,
        "optim_wrapper.optimizer.type": "SGD",
        "optim_wrapper.optimizer.lr": 0.01,
        "optim_wrapper.optimizer.momentum": 0.9,
        "optim_wrapper.optimizer.weight_decay": 0.0001,
        "optim_wrapper.clip_grad": None,
        "train_cfg.max_epochs": epochs,
        "train_cfg.val_interval": 1,
        "default_hooks.logger.interval": 100,
        "default_hooks.checkpoint.interval": 1,
        "train_dataloader.batch_size": 1,
        "train_dataloader.num_workers": 2,
        "train_dataloader.dataset.type": "RepeatDataset",
        "train_dataloader.dataset.times": 8,
        "train_dataloader.dataset.dataset.type": "CityscapesDataset",
        "train_dataloader.dataset.dataset.data_root": "data/cityscapes/",
        "train_dataloader.dataset.dataset.ann_file": ANNOTATIONS.format("train"),
        "train_dataloader.dataset.dataset.data_prefix.img": "leftImg8bit/train/",
        "val_dataloader.dataset.ann_file": ANNOTATIONS.format("val"),
        "test_dataloader.dataset.ann_file": ANNOTATIONS.format("val"),
        "auto_scale_lr.base_batch_size": 8,
    }
    found = flat(cfg.to_dict())
    assert {key: found.get(key) for key in facts} == facts
    assert [step.type for step in cfg.train_dataloader.dataset.dataset.pipeline] == [
        "LoadImageFromFile",
        "LoadAnnotations",
        "RandomResize",
        "RandomFlip",
        "PackDetInputs",
    ]
    resize, flip = cfg.train_dataloader.dataset.dataset.pipeline[2:4]
    assert (resize.scale, resize.keep_ratio, flip.prob) == ([(2048, 800), (2048, 1024)], True, 0.5)
    assert [one.scale for one in cfg.val_dataloader.dataset.pipeline if one.type == "Resize"] == [
        (2048, 1024)
    ]
    for evaluator in (cfg.val_evaluator, cfg.test_evaluator):
        assert [(one.type, one.metric) for one in evaluator] == [("CocoMetric", ["bbox", "segm"])]
    assert [one.to_dict() for one in cfg.param_scheduler] == [
        {"type": "LinearLR", "start_factor": 0.001, "by_epoch": False, "begin": 0, "end": 500},
        {
            "type": "MultiStepLR",
            "by_epoch": True,
            "begin": 0,
            "end": 8,
            "milestones": [7],
            "gamma": 0.1,
        },
    ]


def test_coco_is_the_1x_schedule():
    found = flat(read("coco", "nl_2").to_dict())
    facts = {
        "optim_wrapper.optimizer.lr": 0.02,
        "train_dataloader.batch_size": 2,
        "auto_scale_lr.base_batch_size": 16,
        "train_dataloader.dataset.ann_file": "annotations/instances_train2017.json",
        "val_dataloader.dataset.ann_file": "annotations/instances_val2017.json",
        "model.backbone.init_cfg.checkpoint": "torchvision://resnet50",
        "load_from": None,
    }
    assert {key: found[key] for key in facts} == facts
    warm_up, decay = found["param_scheduler"]
    assert (warm_up["start_factor"], warm_up["end"]) == (0.001, 500)
    assert (decay["milestones"], decay["gamma"], decay["end"]) == ([8, 11], 0.1, 12)
    assert found["train_dataloader.dataset.pipeline"][2]["scale"] == (1333, 800)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_schedule_names_its_end(family):
    """mmengine would fill in the first stage's last epoch, and the checkpoint would hand that to
    the second stage.
    """
    cfg, epochs = read(family, "nl_1"), FAMILIES[family][3]
    assert cfg.param_scheduler[1].end == epochs
    assert cfg.train_cfg.max_epochs < max(cfg.param_scheduler[1].milestones) < epochs


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("row", ROWS)
def test_every_model_can_be_built(models, family, row):
    with torch.device("meta"):  # shapes without memory or initial values
        model = models.build(read(family, row).model)
    head = model.roi_head.bbox_head
    classes = FAMILIES[family][1]
    assert head.loss_cls.__class__.__name__ == LOSSES[row]["type"]
    assert head.fc_cls.out_features == classes + 1
    assert head.fc_reg.out_features == 4 * classes
    assert model.roi_head.mask_head.conv_logits.out_channels == classes
    assert not head.loss_cls.state_dict()  # or a checkpoint of one stage would not fit the other


@pytest.mark.parametrize("family", ["shapes", "coco_format"])
def test_training_sees_the_classes_of_the_file(models, tmp_path, family):
    """Through the config's own pipeline; models is there for its import."""
    from mmdet.registry import DATASETS

    shapes.write(tmp_path, train=4, val=2, size=64)
    cfg = Config.fromfile(path_of(family, "nl_2"), import_custom_modules=False)
    for part in parts_of(cfg, ("train", "val")):
        part.settings["data_root"] = str(tmp_path)
        part.settings["data_prefix"] = {"img": f"{part.name}/"}
    data_checks.adopt_classes(cfg)
    data_checks.check(cfg, ("train", "val"))
    train, val = (DATASETS.build(cfg[f"{name}_dataloader"].dataset) for name in ("train", "val"))
    assert (len(train), len(val)) == (4 * cfg.train_dataloader.dataset.times, 2)
    content = json.loads((tmp_path / "annotations/instances_train.json").read_text())
    names = {one["id"]: one["name"] for one in content["categories"]}
    sample = train[0]["data_samples"]
    image = next(
        one["id"] for one in content["images"] if one["file_name"] == Path(sample.img_path).name
    )
    expected = [
        names[one["category_id"]] for one in content["annotations"] if one["image_id"] == image
    ]
    assert [train.metainfo["classes"][label] for label in sample.gt_instances.labels] == expected
    assert cfg.model.roi_head.bbox_head.num_classes == len(names)


class Toy(BaseModel):
    """A linear classifier of RoIs under the loss of a config."""

    def __init__(self, loss: torch.nn.Module, classes: int) -> None:
        super().__init__()
        self.linear, self.loss = torch.nn.Linear(3, classes + 1), loss

    def forward(self, inputs: torch.Tensor, mode: str = "tensor") -> dict[str, torch.Tensor]:
        labels = torch.arange(len(inputs)) % self.linear.out_features
        value = self.loss(
            self.linear(inputs), labels, torch.ones(len(inputs)), avg_factor=len(inputs)
        )
        return {"loss": value["loss_cls"] if isinstance(value, dict) else value}


class Record(Hook):
    """(epoch from 1, iteration of the run, learning rate, name of the loss) of each step."""

    priority = "VERY_HIGH"  # before the scheduler moves on

    def __init__(self) -> None:
        self.steps: list[tuple[int, int, float, str]] = []

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        rate = runner.optim_wrapper.get_lr()["lr"][0]
        self.steps.append((runner.epoch + 1, runner.iter, rate, type(runner.model.loss).__name__))


def train(
    cfg: Config, models: Any, work_dir: Path, iterations: int, resume: Path | None
) -> list[tuple]:
    """The config's epochs, optimizer, scheduler and loss on a toy; the steps as recorded."""
    record = Record()
    runner = Runner(
        Toy(
            models.build(cfg.model.roi_head.bbox_head.loss_cls),
            cfg.model.roi_head.bbox_head.num_classes,
        ),
        str(work_dir),
        train_dataloader=torch.utils.data.DataLoader(
            [{"inputs": torch.ones(3)}] * 2 * iterations, batch_size=2
        ),
        train_cfg=cfg.train_cfg.to_dict(),
        optim_wrapper=cfg.optim_wrapper.to_dict(),
        param_scheduler=[one.to_dict() for one in cfg.param_scheduler],
        custom_hooks=[record],
        default_hooks=dict(logger=dict(type="LoggerHook", interval=iterations)),
        resume=resume is not None,
        load_from=resume and str(resume),
        default_scope="mmdet",
        log_level="ERROR",
        experiment_name=work_dir.name + str(work_dir.parent),
    )
    runner.train()
    return record.steps


@pytest.mark.training
@pytest.mark.parametrize(("family", "iterations"), [("cityscapes", 130), ("coco", 90)])
def test_learning_rate_and_loss_over_both_stages(models, tmp_path, family, iterations):
    """Two calls, the second resumed from the first's checkpoint, give one schedule; warm-up ends
    within the first stage.
    """
    _, _, switch, epochs = FAMILIES[family]
    first, second = read(family, "nl_1"), read(family, "nl_2")
    steps = train(first, models, tmp_path / "nl_1", iterations, None)
    steps += train(
        second, models, tmp_path / "nl_2", iterations, tmp_path / "nl_1" / f"epoch_{switch}.pth"
    )
    assert [(epoch, step) for epoch, step, _, _ in steps] == [
        (i // iterations + 1, i) for i in range(epochs * iterations)
    ]
    names = [
        {name for epoch, _, _, name in steps if epoch == wanted} for wanted in range(1, epochs + 1)
    ]
    assert names == [{"CrossEntropyLoss"}] * switch + [{"NewCombinationLoss"}] * (epochs - switch)
    base, milestones = (
        first.optim_wrapper.optimizer.lr,
        {"cityscapes": [7], "coco": [8, 11]}[family],
    )
    for epoch, step, rate, _ in steps:
        warm_up = min(
            1.0, 0.001 + 0.999 * step / 499
        )  # 500 steps, of which the last is at the full rate
        assert rate == pytest.approx(
            base * warm_up * 0.1 ** sum(epoch > one for one in milestones), rel=1e-6
        )

# Mask R-CNN R-50-FPN on Cityscapes as published, with cross entropy. The ResNet starts from
# ImageNet, not from COCO.
_base_ = [
    "mmdet::_base_/models/mask-rcnn_r50_fpn.py",
    "mmdet::_base_/datasets/cityscapes_instance.py",
    "./schedule_8_epochs.py",
    "./runtime.py",
]
classes = ("person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle")
model = dict(
    roi_head=dict(
        bbox_head=dict(
            num_classes=8, loss_bbox=dict(type="SmoothL1Loss", beta=1.0, loss_weight=1.0)
        ),
        mask_head=dict(num_classes=8),
    )
)
train_dataloader = dict(dataset=dict(dataset=dict(metainfo=dict(classes=classes))))
val_dataloader = dict(dataset=dict(metainfo=dict(classes=classes)))
# The published test set is the unlabelled one; the validation images are tested, as mmdet 3 does.
test_dataloader = val_dataloader
# A list, because mmdet's is one: it has CityScapesMetric as well, which needs the package
# cityscapesscripts.
val_evaluator = [
    dict(
        type="CocoMetric",
        ann_file="data/cityscapes/annotations/instancesonly_filtered_gtFine_val.json",
        metric=["bbox", "segm"],
    )
]
test_evaluator = val_evaluator
default_hooks = dict(logger=dict(interval=100))

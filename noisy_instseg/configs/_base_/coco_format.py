# Mask R-CNN R-50-FPN on any set in COCO's format, with cross entropy. The classes are those of the
# training file. 8 epochs of 8 passes, learning rate 0.0025 for batches of 2 on one device; the
# first stage ends after epoch 4.
_base_ = [
    "mmdet::_base_/models/mask-rcnn_r50_fpn.py",
    "mmdet::_base_/datasets/coco_instance.py",
    "./schedule_8_epochs.py",
    "./runtime.py",
]
classes_from_annotations = True
data_root = "data/coco_format/"
train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type="RepeatDataset",
        times=8,
        dataset=dict(
            type="CocoDataset",
            data_root=data_root,
            ann_file="annotations/instances_train.json",
            data_prefix=dict(img="images/"),
            filter_cfg=dict(filter_empty_gt=True, min_size=32),
            pipeline={{_base_.train_pipeline}},
        ),
    )
)
val_dataloader = dict(
    dataset=dict(
        data_root=data_root,
        ann_file="annotations/instances_val.json",
        data_prefix=dict(img="images/"),
    )
)
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + "annotations/instances_val.json")
test_evaluator = val_evaluator
# A small set makes short epochs: 100 iterations of warm-up instead of 500.
param_scheduler = [
    dict(type="LinearLR", start_factor=0.001, by_epoch=False, begin=0, end=100),
    dict(type="MultiStepLR", by_epoch=True, begin=0, end=8, milestones=[7], gamma=0.1),
]
optim_wrapper = dict(optimizer=dict(lr=0.0025))
auto_scale_lr = dict(base_batch_size=2)

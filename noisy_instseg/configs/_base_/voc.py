# Mask R-CNN R-50-FPN on VOC 2012 segmentation (train: 1,464 images, val: 1,449) in COCO's format,
# with cross entropy. The paper's settings for VOC are not known. These are our choice: the schedule
# and the box loss of Cityscapes, a set of about the same size, and the image size of COCO.
_base_ = [
    "mmdet::_base_/models/mask-rcnn_r50_fpn.py",
    "mmdet::_base_/datasets/coco_instance.py",
    "./schedule_8_epochs.py",
    "./runtime.py",
]
data_root = "data/voc/"

classes = (
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
)

model = dict(
    roi_head=dict(
        bbox_head=dict(
            num_classes=20, loss_bbox=dict(type="SmoothL1Loss", beta=1.0, loss_weight=1.0)
        ),
        mask_head=dict(num_classes=20),
    )
)
train_dataloader = dict(
    batch_size=1,
    dataset=dict(
        _delete_=True,
        type="RepeatDataset",
        times=8,
        dataset=dict(
            type="CocoDataset",
            data_root=data_root,
            ann_file="annotations/instances_train2012.json",
            data_prefix=dict(img="VOCdevkit/VOC2012/JPEGImages/"),
            metainfo=dict(classes=classes),
            filter_cfg=dict(filter_empty_gt=True, min_size=32),
            pipeline={{_base_.train_pipeline}},
        ),
    ),
)
val_dataloader = dict(
    dataset=dict(
        data_root=data_root,
        ann_file="annotations/instances_val2012.json",
        data_prefix=dict(img="VOCdevkit/VOC2012/JPEGImages/"),
        metainfo=dict(classes=classes),
    )
)
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + "annotations/instances_val2012.json")
test_evaluator = val_evaluator

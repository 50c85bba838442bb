# Stage 2 on COCO: from epoch 7 to 12, resumed from the last checkpoint of
# mask_rcnn_r50_fpn_1x_coco_nl_1.
_base_ = "../_base_/coco.py"
model = dict(
    roi_head=dict(
        bbox_head=dict(
            loss_cls=dict(
                _delete_=True,
                type="NewCombinationLoss",
                num_classes=80,
                loss_weight1=1.0,
                loss_weight2=1.0,
                log_partition=True,
            )
        )
    )
)

# Stage 2 on any set in COCO's format: from epoch 5 to 8, resumed from the last checkpoint of
# mask_rcnn_r50_fpn_coco_format_nl_1.
_base_ = "../_base_/coco_format.py"
model = dict(
    roi_head=dict(
        bbox_head=dict(
            loss_cls=dict(
                _delete_=True,
                type="NewCombinationLoss",
                loss_weight1=1.0,
                loss_weight2=1.0,
                log_partition=True,
            )
        )
    )
)

# Stage 2 on VOC: from epoch 5 to 8, resumed from the last checkpoint of
# mask_rcnn_r50_fpn_1x_voc_nl_1.
_base_ = "../_base_/voc.py"
model = dict(
    roi_head=dict(
        bbox_head=dict(
            loss_cls=dict(
                _delete_=True,
                type="NewCombinationLoss",
                num_classes=20,
                loss_weight1=1.0,
                loss_weight2=1.0,
                log_partition=True,
            )
        )
    )
)

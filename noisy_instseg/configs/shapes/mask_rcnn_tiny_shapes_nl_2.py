# Stage 2 on shapes: from epoch 7 to 12, resumed from the last checkpoint of
# mask_rcnn_tiny_shapes_nl_1.
_base_ = "../_base_/shapes.py"
model = dict(
    roi_head=dict(
        bbox_head=dict(
            loss_cls=dict(
                _delete_=True,
                type="NewCombinationLoss",
                num_classes=8,
                loss_weight1=1.0,
                loss_weight2=1.0,
                log_partition=True,
            )
        )
    )
)

# Stage 2 on Cityscapes: from epoch 5 to 8, resumed from the last checkpoint of
# mask_rcnn_r50_fpn_1x_cityscapes_nl_1.
# DEVIATION(noisy_instseg): The second stage's config can be built; the published one inherits
# loss_weight from the first, which its loss does not take.
_base_ = "../_base_/cityscapes.py"
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
